"""From an answer back to the survey, and what is said when an ancestor is gone."""

import json
import shutil

import pytest

from mmclip import artifacts, plots
from mmclip.artifacts.workspace import Workspace
from mmclip.cli import run
from mmclip.provenance import lineage


@pytest.fixture
def space(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "w")
    return Workspace(tmp_path / "w")


def test_the_lineage_of_vectors_ends_at_the_survey(space):
    steps = lineage.lineage(space, space.get("vectors"))
    assert [s.kind for s in steps] == ["vectors", "run", "data", "raw"]
    assert all(s.found is not None for s in steps)
    assert lineage.table(steps)[-1]["surveys"] == "made (1)"
    for step in steps[1:]:
        assert step.fingerprint in {
            p["fingerprint"] for s in steps for p in s.found.manifest.parents
        }


def test_an_ancestor_that_was_renamed_is_found_by_its_fingerprint(space):
    raw = space.get("raw").path
    raw.rename(raw.with_name("elsewhere"))
    steps = lineage.lineage(space, space.get("vectors"))
    assert steps[-1].found is not None
    assert steps[-1].found.path.name == "elsewhere"


def test_an_ancestor_that_is_gone_is_named_as_gone(space):
    shutil.rmtree(space.get("raw").path)
    steps = lineage.lineage(space, space.get("vectors"))
    assert [s.found is None for s in steps] == [False, False, False, True]
    assert lineage.table(steps)[-1]["stands"] == "gone or changed"


def test_the_command_prints_and_draws_it(space, capsys, tmp_path):
    w = ["--workspace", str(space.root)]
    picture = tmp_path / "lineage.png"
    asked = ["info", str(space.get("vectors").path), "--lineage"]
    assert run([*asked, "--plot", str(picture), *w]) == 0
    shown = capsys.readouterr()
    for artifact in (space.get(k) for k in ("raw", "data", "run", "vectors")):
        assert artifact.manifest.fingerprint[:12] in shown.out
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert run([*asked, "--json", *w]) == 0
    rows = [json.loads(x) for x in capsys.readouterr().out.splitlines()]
    assert len(rows) == 4
    assert run(["info", "--lineage", "--workspace", str(tmp_path / "none")]) == 2
    assert "empty" in capsys.readouterr().err


def test_the_drawing_has_an_arrow_from_each_parent(space):
    boxes, arrows = lineage.drawing(lineage.lineage(space, space.get("vectors")))
    assert [column for _, _, column in boxes] == [0, 1, 2, 3]
    assert set(arrows) == {(0, 1), (0, 2), (1, 2), (2, 3)}
    assert plots.lineage_figure(boxes, arrows)


def test_every_kind_has_a_folder_and_a_maker(space):
    assert all(space.place(kind, "x").parent.parent == space.root for kind in artifacts.KINDS)
