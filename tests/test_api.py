"""The Python API: what the commands do, lazily, with their options and their answers."""

import inspect
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from astropy.table import QTable

import mmclip
from mmclip import api, cli
from mmclip.cli import COMMANDS, run
from mmclip.errors import NotFound, UsageError

DOCS = Path(__file__).parents[1] / "docs"
COMMAND = {"import_files": "import", "train_decoder": "train-decoder"}
ASKED_NOTHING = (
    "demo",
    "crossmatch",
    "cache",
    "bench",
    "slurm",
    "config",
    "doctor",
)  # of a terminal or site


def methods():
    return {n: m for n, m in vars(api.Workspace).items() if inspect.isfunction(m) and n[0] != "_"}


@pytest.fixture(scope="module")
def space(trained):
    return mmclip.open_workspace(trained)


@pytest.fixture(scope="module")
def ids(trained):
    table = pq.read_table(trained / "vectors" / "metadata-xp" / "vectors.parquet")
    return table["source_id"].to_pylist()[:2]


@pytest.fixture(scope="module")
def found(space, ids):
    return space.search(ids, k=3, start="metadata", to="xp")


def test_import_is_light_and_gives_the_methods_by_name():
    code = (
        "import sys, mmclip; assert 'numpy' not in sys.modules;"
        "assert 'search' in dir(mmclip); mmclip.open_workspace('x');"
        "heavy = {'torch', 'umap', 'faiss', 'matplotlib', 'sklearn', 'pandas', 'astropy'};"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with pytest.raises(AttributeError, match="serch"):
        _ = mmclip.serch


def test_every_command_is_a_method_or_of_a_terminal_alone():
    named = {COMMAND.get(n, n) for n in methods()}
    assert named == set(COMMANDS) - set(ASKED_NOTHING)
    assert set(mmclip.METHODS) == set(methods())


@pytest.mark.parametrize("name", methods())
def test_what_a_method_names_is_an_option_of_its_command(name):
    module = getattr(api, "import_" if name == "import_files" else name)
    options = set(inspect.signature(module.command).parameters)
    named = set(inspect.signature(getattr(api.Workspace, name)).parameters)
    assert named - {"self", "options"} <= options
    assert f"mmclip {COMMAND.get(name, name)}" in inspect.getdoc(getattr(api.Workspace, name))


def test_the_map_of_the_api_lists_every_method():
    page = (DOCS / "api.md").read_text()
    listed = re.findall(r"^\| \[`(\w+)`\]\(#mmclip\.api\.Workspace\.(\w+)\)", page, re.MULTILINE)
    assert all(a == b for a, b in listed)
    assert sorted(a for a, _ in listed) == sorted(methods())
    for name in ASKED_NOTHING:
        assert f"`mmclip {name}`" in page


def test_search_gives_the_rows_that_the_command_prints(found, trained, ids, capsys):
    capsys.readouterr()
    asked = ",".join(map(str, ids))
    words = ["search", "--query-id", asked, "-k", "3", "--from", "metadata", "--to", "xp"]
    assert run([*words, "--json", "-w", str(trained)]) == 0
    printed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(found) == len(printed) == 6
    assert [str(row["source_id"]) for row in found] == [row["source_id"] for row in printed]
    assert found.column("cosine") == pytest.approx([row["cosine"] for row in printed])


def test_nothing_is_printed_and_what_would_be_said_is_a_note(space, capsys):
    capsys.readouterr()
    found = space.search(k=2)
    shown = capsys.readouterr()
    assert shown.out == shown.err == ""
    assert any("a star of the test split" in note for note in found.notes)
    assert str(found.column("query_id")[0]) in found.notes[-1]


def test_an_answer_is_a_table_of_astropy_pandas_html_and_a_picture(found, tmp_path):
    table, frame = found.to_table(), found.to_pandas()
    assert isinstance(table, QTable)
    assert table["source_id"].dtype == np.int64
    assert table.meta["sources"][0].startswith("vectors ")
    assert list(frame["rank"]) == [1, 2, 3, 1, 2, 3]
    assert "6 rows" in repr(found)
    assert "<table" in found._repr_html_()
    picture = found.plot(tmp_path / "answers.png")
    assert (tmp_path / "answers.png").stat().st_size > 5_000
    assert picture._repr_png_()[:4] == b"\x89PNG"


def test_words_by_commas_may_be_a_list(space):
    made = space.knn(["teff"], modality="xp", bootstrap=0)
    same = space.knn("teff", modality="xp", bootstrap=0)
    assert made.rows == same.rows
    assert made.unit("scatter") == same.unit("scatter")
    assert made.plot()._repr_png_()[:4] == b"\x89PNG"


def test_an_answer_carries_what_the_data_set_knows_of_the_star(space, found, trained):
    known = pq.read_table(trained / "data" / "made" / "objects.parquet").to_pandas()
    teff = dict(zip(known["source_id"], known["teff"], strict=True))
    for row in found:
        assert row["teff"] == teff[row["source_id"]]
        assert row["class"] == ("ROT" if row["teff"] < 5000 else "DSCT")
    assert "asked: vectors metadata-xp of data made" in found.notes
    bare = space.search(found[0]["query_id"], k=2, show="none")
    assert "teff" not in bare.table.column_names
    assert "dec" in space.search(found[0]["query_id"], k=2, show=["dec"])[0]
    with pytest.raises(NotFound, match="no column 'tef'"):
        space.search(found[0]["query_id"], k=2, show="tef")


def test_options_may_be_spelled_as_on_the_command_line(space, ids, found):
    again = space.search(ids, k=3, from_="metadata", to="xp")
    assert again.rows == found.rows
    assert len(space.outliers(class_="ROT", top=2)) > 0


def test_outliers_and_info_answer_too(space, trained):
    assert len(space.outliers(top=3)) >= 3
    assert {row["kind"] for row in space.info()} >= {"raw", "data", "run", "vectors"}
    assert "vectors" in repr(space)
    assert all(row["state"] == "ok" for row in space.verify([trained / "raw" / "made"]))
    assert space.cite.__doc__


def test_a_mistake_names_the_option_that_is_meant(space):
    with pytest.raises(UsageError, match=r"'contrst' is no option of search.*contrast"):
        space.search(contrst="xp")
    with pytest.raises(NotFound):
        space.search(12345)


def test_an_answer_without_a_picture_says_so(space):
    with pytest.raises(UsageError, match="no picture"):
        space.info().plot()


def test_a_workspace_that_is_empty_names_the_command_that_fills_it(tmp_path):
    with pytest.raises(NotFound) as refused:
        mmclip.open_workspace(tmp_path).search(1)
    assert "mmclip" in refused.value.hint
    assert cli.output.hears() is False
