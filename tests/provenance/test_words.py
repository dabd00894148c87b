"""`mmclip info ARTEFACT` in words: what is there, and commands that work here."""

import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmclip.artifacts.workspace import Workspace
from mmclip.cli import run
from mmclip.datasets.build import read_objects
from mmclip.datasets.objects import raw_views, with_magnitude
from mmclip.provenance import words
from tests.conftest import fetch_made, made_stars


@pytest.fixture(scope="module")
def space(tmp_path_factory):
    """Sixty made stars, half of them of two classes."""
    root = tmp_path_factory.mktemp("words")
    fetch_made(root, made_stars(60))
    ids = pq.read_table(root / "raw" / "made" / "objects.parquet")["source_id"].to_pylist()
    table = pa.table({"source_id": ids[:30], "class": ["RRAB"] * 20 + ["EW"] * 10})
    pq.write_table(table, root / "classes.parquet")
    labels = ["--labels", str(root / "classes.parquet")]
    assert run(["preprocess", *labels, "--name", "d", "-w", str(root)]) == 0
    return Workspace(root)


def test_a_data_set_says_its_stars_labels_and_classes(space):
    said = dict(words.described(space, space.get("data", "d")))
    assert said["is"].startswith("data 'd' of metadata (observed)")
    assert said["from"] == "raw made"
    assert said["objects"] == "60"
    assert sum(int(n) for n in re.findall(r"\d+", said["split"])) == 60
    assert "teff [K] (60)" in said["labels"]
    assert "class: RRAB 20, EW 10" in said["classes"]


def test_what_can_be_asked_is_a_command_of_mmclip(space, capsys):
    for kind in ("raw", "data"):
        for what, line in words.described(space, space.get(kind)):
            if what != "ask":
                continue
            for typed in line.split(", mmclip "):
                name = typed.removeprefix("mmclip ").split()[0]
                assert run([name, "--help"]) == 0
                for option in re.findall(r"--[a-z-]+", typed):
                    assert option in capsys.readouterr().out or run([name, "--help"]) == 0


def test_a_magnitude_of_the_raw_table_stands_beside_an_answer(space):
    data = space.get("data", "d")
    objects = read_objects(data)
    assert "phot_g_mean_mag" not in objects.column_names
    found = with_magnitude(objects, raw_views(space, data))
    raw = pq.read_table(space.get("raw").path / "metadata.parquet")
    known = dict(zip(raw["source_id"].to_pylist(), raw["phot_g_mean_mag"].to_pylist()))
    assert found["phot_g_mean_mag"].to_pylist() == [
        known[i] for i in found["source_id"].to_pylist()
    ]
    assert with_magnitude(objects, None) is objects
