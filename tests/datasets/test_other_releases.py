"""Ids of Gaia DR2 and DR4 in files: refused, or followed to DR3 with every doubt told."""

import pyarrow as pa
import pyarrow.csv
import pytest

from mmclip import artifacts
from mmclip.cli import run
from mmclip.datasets import ingest
from mmclip.errors import PARTIAL, USAGE

THREE = 5937083312263887616


def brought(root, release, capsys, *more):
    """A file of five stars, imported; (exit code, artefact or None, what was said)."""
    names = [f"Gaia {release} {THREE + 1000 + i}" for i in range(5)]
    table = pa.table({"designation": names, "teff": [5000.0 + i for i in range(5)]})
    pa.csv.write_csv(table, root / "stars.csv")
    words = ["import", root / "stars.csv", "--as", "metadata", "--columns", "teff=teff",
             "--id-column", "designation", "--name", "a", "-w", root, *more]  # fmt: skip
    code = run([str(w) for w in words])
    said = capsys.readouterr()
    made = artifacts.read(root / "raw" / "a") if (root / "raw" / "a").is_dir() else None
    return code, made, said.out + said.err


def neighbours(root, release):
    """Star 0 has one neighbour, 1 two of which one is nearer, 2 two alike, 3 that of 0, 4 none."""
    old = [0, 1, 1, 2, 2, 3]
    table = pa.table(
        {f"{release.lower()}_source_id": [THREE + 1000 + i for i in old],
         "dr3_source_id": [THREE + i for i in (0, 10, 11, 20, 21, 0)],
         "angular_distance": [1.0, 5.0, 300.0, 7.0, 7.0, 1.0],
         "magnitude_difference": [0.0, 0.1, 2.0, None, None, 0.0]}
    )  # fmt: skip
    pa.csv.write_csv(table, root / "near.csv")
    return root / "near.csv"


@pytest.mark.parametrize("release", ["DR2", "DR4"])
def test_ids_of_another_release_are_refused_and_the_way_named(tmp_path, capsys, release):
    code, made, said = brought(tmp_path, release, capsys)
    assert (code, made) == (USAGE, None)
    assert f"the id is of Gaia {release}, not of DR3: 5" in said


@pytest.mark.parametrize("release", ["DR2", "DR4"])
def test_ids_of_another_release_follow_a_table_of_neighbours(tmp_path, capsys, release):
    code, made, said = brought(tmp_path, release, capsys, "--ids", neighbours(tmp_path, release))
    assert code == PARTIAL
    view = ingest.read_view(made, "metadata")
    assert view["source_id"].to_pylist() == [THREE, THREE + 10]
    assert view["teff"].to_pylist() == [5000.0, 5001.0]
    rejected = made.manifest.notes["rejected"]
    assert rejected == {
        "ambiguous_id: 2 DR3 neighbours": 1,
        f"ambiguous_id: another {release} id has the same DR3 neighbour": 1,
        f"the id is of Gaia {release}, not of DR3": 1,
    }
    assert "1 ids have several DR3 neighbours: the nearest was taken" in said
    ledger = ingest.read_view(made, "ledger").to_pylist()
    lost = {row["object_name"]: row["reason"] for row in ledger if row["reason"]}
    assert lost[f"Gaia {release} {THREE + 1004}"] == f"the id is of Gaia {release}, not of DR3"


def test_a_table_of_neighbours_must_say_how_near_they_are(tmp_path, capsys):
    table = pa.table({"dr4_source_id": [THREE], "dr3_source_id": [THREE]})
    pa.csv.write_csv(table, tmp_path / "near.csv")
    code, made, said = brought(tmp_path, "DR4", capsys, "--ids", tmp_path / "near.csv")
    assert (code, made) == (USAGE, None)
    assert "without angular_distance, magnitude_difference" in said
