"""Columns of a user's tables: gaps, names that mmclip uses too, and labels that disagree."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmclip import artifacts
from mmclip.cuts import where
from mmclip.datasets.build import open_dataset
from mmclip.datasets.labels import read_labels
from mmclip.readers import tables
from tests.cli.test_cli import ask
from tests.conftest import fetch_made, made_stars


@pytest.mark.parametrize("mark", ["--", "...", "-", "", "NaN", "null"])
@pytest.mark.parametrize("form", ["csv", "tsv", "txt"])
def test_a_mark_of_a_gap_does_not_make_a_column_of_letters(tmp_path, mark, form):
    if form == "txt" and mark in ("", "null"):
        pytest.skip("no word between blanks")
    between = {"csv": ",", "tsv": "\t", "txt": " "}[form]
    rows = [
        ("source_id", "teff", "class"),
        ("11", "5000", "M"),
        ("12", mark, "K"),
        ("13", "900", "K"),
    ]
    path = tmp_path / f"t.{form}"
    path.write_text("\n".join(between.join(r) for r in rows) + "\n")
    for table in (tables.read(path), read_labels(path)):
        assert where(table, "teff > 1000").tolist() == [True, False, False]
        assert where(table, "teff < 1000").tolist() == [False, False, True]


@pytest.mark.parametrize("mark", ["--", "...", "-"])
def test_a_mark_of_a_gap_is_no_class(tmp_path, mark):
    for form in ("csv", "parquet"):
        path = tmp_path / f"t.{form}"
        table = pa.table({"source_id": [1, 2], "class": ["M", mark]})
        if form == "csv":
            path.write_text(f"source_id,class\n1,M\n2,{mark}\n")
        else:
            pq.write_table(table, path)
        assert read_labels(path)["class"].to_pylist() == ["M", None]


@pytest.fixture
def fetched(tmp_path):
    fetch_made(tmp_path, made_stars(60))
    return tmp_path


def labelled(folder, **columns):
    raw = pq.read_table(folder / "raw" / "made" / "objects.parquet")
    table = {"source_id": raw["source_id"]} | {n: v[: raw.num_rows] for n, v in columns.items()}
    path = folder / "labels.parquet"
    pq.write_table(pa.table(table), path)
    return path


def test_a_users_has_and_split_are_kept_or_told(fetched, capsys):
    flags = [i % 3 == 0 for i in range(60)]
    given = ["train", "validation", "test"] * 20
    path = labelled(fetched, has_planet=flags, split=given)
    w = ("-w", fetched)
    assert ask(capsys, "preprocess", "--labels", path, "--name", "a", *w)[0] == 0
    data = open_dataset(artifacts.read(fetched / "data" / "a"))
    assert data.objects["has_planet"].to_pylist() == flags
    assert data.split.tolist() == given
    code, out, err = ask(
        capsys, "preprocess", "--labels", path, "--split", "cells", "--name", "b", *w
    )
    assert code == 0, err
    assert "split_given" in out + err
    data = open_dataset(artifacts.read(fetched / "data" / "b"))
    assert data.objects["split_given"].to_pylist() == given
    assert data.objects["has_xp"].to_pylist() == [True] * 60


def test_a_column_that_mmclip_writes_itself_is_refused(fetched, capsys):
    path = labelled(fetched, has_xp=[False] * 60)
    code, _, err = ask(capsys, "preprocess", "--labels", path, "-w", fetched)
    assert code == 2
    assert "has_xp" in err


def test_labels_of_two_artefacts_that_disagree_are_told(fetched, capsys):
    other = made_stars(60)
    kinds = ["EA"] * 30 + other.tables["objects"]["class"].to_pylist()[30:]
    table = other.tables["objects"]
    place = table.column_names.index("class")
    other.tables["objects"] = table.set_column(place, "class", pa.array(kinds))
    fetch_made(fetched, other, "second")
    code, out, err = ask(
        capsys, "preprocess", "--raw", "made", "--raw", "second", "--name", "both", "-w", fetched
    )
    assert code == 0, err
    assert "class_second" in out + err
    made = artifacts.read(fetched / "data" / "both")
    assert "class_second" in made.manifest.notes["kept"]
    assert "EA" in open_dataset(made).objects["class_second"].to_pylist()


def test_an_option_with_two_values_is_refused(fetched, capsys, tmp_path):
    one, two = (labelled(fetched, x=[i] * 60).rename(tmp_path / f"{i}.parquet") for i in (1, 2))
    code, _, err = ask(capsys, "preprocess", "--labels", one, "--labels", two, "-w", fetched)
    assert code == 2
    assert "--labels is given twice" in err
    assert ask(capsys, "cluster", "-k", 2, "-k", 3, "-w", fetched)[0] == 2
