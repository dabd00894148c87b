"""The split as a paper or the user gives it, through `preprocess`, `import` and `evaluate`."""

import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmclip import arrays, papers
from mmclip.artifacts.workspace import Workspace
from mmclip.datasets import import_files, split
from mmclip.datasets.build import read_objects
from mmclip.errors import NotFound, UsageError
from mmclip.papers.split import Split, parse
from tests.cli.test_cli import ask
from tests.conftest import fetch_made, made_stars

STARS = 200


@pytest.fixture(scope="module")
def space(tmp_path_factory):
    root = tmp_path_factory.mktemp("split")
    fetch_made(root, made_stars(STARS, 2), "stars")  # no two within 5 arcsec
    return root


def prepared(capsys, root, name, *arguments):
    """The objects of a data set made with these arguments, and what was said."""
    code, _, err = ask(capsys, "preprocess", "-w", root, "--name", name, "--force", *arguments)
    assert code == 0, err
    artifact = Workspace(root).get("data", name)
    return read_objects(artifact), artifact, err


def some_ids(root, count=40):
    objects = pq.read_table(Workspace(root).get("raw", "stars").path / "objects.parquet")
    return objects["source_id"].to_pylist()[:count]


@pytest.mark.parametrize("text", ["cells", "random 80/10/10", "random 90/0/10", "labelled a,b",
                                  "column split"])  # fmt: skip
def test_a_rule_is_read_as_it_is_written(text):
    assert parse(text).text == text


@pytest.mark.parametrize(
    ("text", "says"),
    [("cels", "did you mean 'cells'"), ("random 80/10", "80/0/10 does not divide"),
     ("random a/b", "no shares"), ("labelled", "names no column"), ("random 0/50/50", "whole")],
)  # fmt: skip
def test_a_rule_that_is_none_is_refused(text, says):
    with pytest.raises(UsageError, match=says):
        parse(text)


def test_a_random_split_has_exact_shares_and_does_not_depend_on_the_order_of_objects():
    ids = np.random.default_rng(0).permutation(197_976).astype(np.int64) + 7
    found = split.shuffled(ids, 42, (0.8, 0.0, 0.2))
    # Vrakkis: 158,380 for training and 39,596 for test, of 197,976.
    assert np.bincount(found, minlength=3).tolist() == [158_380, 0, 39_596]
    turned = np.random.default_rng(1).permutation(len(ids))
    np.testing.assert_array_equal(split.shuffled(ids[turned], 42, (0.8, 0.0, 0.2)), found[turned])
    other = split.shuffled(ids, 43, (0.8, 0.0, 0.2))
    # Independent draws agree on 0.8^2 + 0.2^2 of the objects.
    assert (other == found).mean() == pytest.approx(0.68, abs=0.01)


def test_labelled_objects_are_for_validation_and_the_others_for_training():
    table = pa.table({"source_id": [1, 2, 3, 4], "APOGEE_ID": ["2M1", None, " ", "2M2"]})
    found = split.divide(table, papers.split("schwarz2024"), 42)
    assert found.codes.tolist() == [1, 0, 0, 1]
    numbers = pa.table({"source_id": [1, 2], "teff": [math.nan, 5000.0]})
    assert split.divide(numbers, parse("labelled teff"), 42).codes.tolist() == [0, 1]
    with pytest.raises(NotFound, match="needs a column apogee_id"):
        split.divide(numbers, papers.split("schwarz2024"), 42)


def test_a_given_split_is_taken_and_what_it_leaves_open_is_counted():
    ids = np.arange(5, dtype=np.int64) + 2**40
    table = pa.table({"source_id": ids, "part": ["Train", "val", "test", None, ""]})
    found = split.divide(table, parse("column part"), 42)
    assert found.codes[:3].tolist() == [0, 1, 2]
    assert found.unknown == 2
    np.testing.assert_array_equal(found.codes[3:], split.codes(split.places(ids[3:]), 42))
    bad = pa.table({"source_id": [1], "part": ["second"]})
    with pytest.raises(UsageError, match="says 'second'"):
        split.divide(bad, parse("column part"), 42)


def test_preprocess_takes_the_split_of_labels_of_a_flag_and_of_a_list(space, capsys, tmp_path):
    ids = some_ids(space, STARS)
    words = ["test" if i % 4 == 0 else "train" for i in range(len(ids))]
    pq.write_table(
        pa.table({"source_id": ids, "split": words, "odd": words}), tmp_path / "l.parquet"
    )
    labels = ("--labels", tmp_path / "l.parquet")
    objects, artifact, err = prepared(capsys, space, "given", *labels)
    assert dict(zip(objects["source_id"].to_pylist(), objects["split"].to_pylist())) == dict(
        zip(ids, words)
    )
    assert artifact.manifest.notes["split"] == "as given in the column split"
    assert "split as given in the column split" in err
    other, artifact, _ = prepared(capsys, space, "asked", *labels, "--split-column", "odd")
    assert other["split"].to_pylist() == objects["split"].to_pylist()
    assert artifact.manifest.config["split"] == "column odd"
    by_cells, artifact, _ = prepared(capsys, space, "cells", *labels, "--split", "cells")
    assert "split" not in artifact.manifest.notes
    plain, _, _ = prepared(capsys, space, "plain")
    assert by_cells["split"].to_pylist() == plain["split"].to_pylist()
    (tmp_path / "ids.txt").write_text("\n".join(map(str, ids[:30])))
    held, artifact, _ = prepared(capsys, space, "held", "--holdout", tmp_path / "ids.txt")
    of_test = {i for i, s in zip(held["source_id"].to_pylist(), held["split"].to_pylist())
               if s == "test"}  # fmt: skip
    assert of_test == set(ids[:30])
    assert "30 held out" in artifact.manifest.notes["split"]


def test_the_split_of_a_preset_is_the_papers_and_evaluate_takes_it_for_the_same(space, capsys):
    _, artifact, _ = prepared(capsys, space, "random", "--split", "mmu-provabgs", "--seed", "42")
    assert artifact.manifest.rows["train"] == 0.8 * STARS
    rule = papers.benchmarks()["mmu-provabgs"].conditions.split
    assert artifact.manifest.notes["split"] == rule.title == "80/20 at random, seed 42"
    # Additions and `--like` keep the rule.
    _, like, _ = prepared(capsys, space, "like", "--like", "random")
    assert like.manifest.notes["split"] == rule.title
    code, _, err = ask(capsys, "preprocess", "-w", space, "--split", "schwarz2024", "--name", "no")
    assert code == 2
    assert "needs a column apogee_id" in err
    assert "--split cells" in err


def test_every_paper_with_figures_states_its_split():
    for published in papers.figures().values():
        if not published.command:
            assert isinstance(published.conditions.split, Split), published.preset


def test_files_named_by_split_are_imported_with_it(tmp_path, capsys):
    folder = tmp_path / "released"
    folder.mkdir()
    for i, part in enumerate(("train", "validation", "test")):
        rows = pa.table({"source_id": np.arange(3) + 10 * i + 4295806721, "flag": [1.0, 2.0, 3.0]})
        pq.write_table(rows, folder / f"{part}-00000-of-00001.parquet")
    (folder / "README.md").write_text("x")
    assert import_files.splits([folder / "test.parquet", folder / "test2.parquet"]) == {}
    code, _, err = ask(capsys, "import", folder, "--as", "metadata", "--name", "r", "-w", tmp_path)
    assert code == 0, err
    objects = pq.read_table(tmp_path / "raw" / "r" / "objects.parquet")
    assert dict(zip(objects["source_id"].to_pylist(), objects["split"].to_pylist())) == {
        **dict.fromkeys((4295806721, 4295806722, 4295806723), "train"),
        **dict.fromkeys((4295806731, 4295806732, 4295806733), "validation"),
        **dict.fromkeys((4295806741, 4295806742, 4295806743), "test"),
    }  # fmt: skip
    found, artifact, _ = prepared(
        capsys, tmp_path, "d", "--modalities", "metadata", "--columns", "flag"
    )
    assert artifact.manifest.rows["validation"] == 3
    assert arrays.column(found, "source_id").tolist() == objects["source_id"].to_pylist()
