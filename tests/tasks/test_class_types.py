"""Classes are classes whatever their type: numbers, true and false, and categories as texts are."""

import dataclasses

import numpy as np
import pyarrow as pa
import pytest

from mmclip import arrays
from mmclip.artifacts.workspace import Workspace
from mmclip.cuts import where
from mmclip.datasets.build import open_dataset
from mmclip.errors import UsageError
from mmclip.tasks import knn
from mmclip.tasks.cluster import apart
from mmclip.tasks.map import colour_column, column_values
from mmclip.tasks.neighbours import Options
from mmclip.tasks.outliers import class_members, outliers
from mmclip.tasks.outliers.detectors import classes_of
from mmclip.vectors.store import Store

NUMBERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16",
           "float32", "float64")  # fmt: skip


@pytest.fixture(scope="module")
def opened(trained):
    space = Workspace(trained)
    store = Store(space.get("vectors"))
    return store, open_dataset(space.parent(store.artifact, "data"))


def typed(data, kind):
    """The data set with its two classes as texts, and as another type, in the column `kind`."""
    first = np.array([c == "ROT" for c in data.objects["class"].to_pylist()])
    if kind == "bool":
        texts, values = np.where(first, "True", "False"), pa.array(first)
    elif kind == "dictionary":
        texts = np.where(first, "0", "1")
        values = pa.array(texts).dictionary_encode()
    else:
        texts = np.where(first, "0", "1")
        values = pa.array((~first).astype(kind))
    return [
        dataclasses.replace(data, objects=data.objects.append_column("kind", v))
        for v in (pa.array(texts), values)
    ]


@pytest.mark.parametrize("kind", [*NUMBERS, "bool", "dictionary"])
def test_every_task_gives_what_the_same_classes_as_text_give(opened, kind):
    store, (text, other) = opened[0], typed(opened[1], kind)
    zero = "False" if kind == "bool" else "0"
    names = [classes_of(store, d, "kind") for d in (text, other)]
    assert set(names[0]) == {"False", "True"} if kind == "bool" else {"0", "1"}
    np.testing.assert_array_equal(*names)
    np.testing.assert_array_equal(*(class_members(store, d, zero, "kind") for d in (text, other)))
    rows = [outliers(store, d, zero, "kind", top=5).table for d in (text, other)]
    assert rows[0].equals(rows[1])
    said = [knn.regress(store, d, "kind", "xp", options=Options(5, numbered=True))
            for d in (text, other)]  # fmt: skip
    assert said[0].classes == said[1].classes
    np.testing.assert_array_equal(said[0].vote, said[1].vote)
    np.testing.assert_array_equal(said[0].truth, said[1].truth)
    kept = [where(d.objects, f"kind = '{zero}'") for d in (text, other)]
    np.testing.assert_array_equal(*kept)
    assert 0 < kept[0].sum() < len(kept[0])


@pytest.mark.parametrize("kind", [*NUMBERS, "bool", "dictionary"])
def test_a_map_is_coloured_and_groups_are_told_apart_by_them(opened, kind):
    store, (text, other) = opened[0], typed(opened[1], kind)
    assert colour_column(other, "kind") == "kind"
    np.testing.assert_array_equal(*(column_values(d, store, "kind", True) for d in (text, other)))
    labels = np.array([v in ("0", "False") for v in text.objects["kind"].to_pylist()]).astype(int)
    for data in (text, other):
        told = next(r for r in apart(data, labels, 99) if r["column"].startswith("kind"))
        assert abs(told["AUC"] - 0.5) == 0.5  # it is what the groups were made from


def test_what_cluster_counts_as_known_are_stars_of_the_groups(opened):
    _, (text, _) = opened[0], typed(opened[1], "bool")
    labels = np.full(text.objects.num_rows, -1)
    labels[:30] = np.arange(30) % 2
    told = [r for r in apart(text, labels, 99) if r["column"].startswith(("kind", "class"))]
    assert told
    assert {r["known"] for r in told} == {30}


def test_numbers_of_any_width_are_targets(opened):
    store, data = opened
    teff = np.round(data.objects["teff"].to_numpy())
    for kind in ("int16", "int32", "uint16", "float16", "float32"):
        made = dataclasses.replace(
            data, objects=data.objects.append_column("rounded", pa.array(teff.astype(kind)))
        )
        np.testing.assert_array_equal(
            knn.target_values(made, "rounded"), teff.astype(kind).astype(float)
        )
        assert len(knn.regress(store, made, "rounded", "xp").truth) > 5


def test_unknown_and_zero_are_told_apart():
    table = pa.table({"n": pa.array([0, None, 2]), "f": pa.array([0.0, np.nan, 2.0]),
                      "b": pa.array([False, None, True]), "t": ["0", "", "2"],
                      "z": pa.nulls(3)})  # fmt: skip
    for name, names in (("n", ["0", "2"]), ("f", ["0", "2"]), ("t", ["0", "2"]),
                        ("b", ["False", "True"])):  # fmt: skip
        assert arrays.encode(table, name)[0] == names
        assert arrays.encode(table, name)[1].tolist() == [0, -1, 1]
    assert arrays.encode(table, "z")[1].tolist() == [-1] * 3
    with pytest.raises(UsageError, match="names no classes"):
        arrays.encode(pa.table({"l": [[1.0]]}), "l")
