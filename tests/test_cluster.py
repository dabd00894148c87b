"""Groups: found where they were made, and told apart by what makes them."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmclip.datasets.build import Dataset
from mmclip.errors import UsageError
from mmclip.tasks.cluster import METHODS, ClusterConfig, apart, cluster
from tests.test_cli import ask


def three_groups():
    """Groups of 200, 120 and 60 far from each other, and which is which."""
    rng = np.random.default_rng(0)
    centres = np.array([[0, 0, 0], [6, 0, 0], [0, 6, 3]])
    kind = np.repeat([0, 1, 2], [200, 120, 60])
    return (centres[kind] + 0.3 * rng.normal(size=(380, 3))).astype("f4"), kind


@pytest.mark.parametrize("method", METHODS)
def test_every_method_finds_three_separate_groups_the_largest_first(method):
    points, kind = three_groups()
    order = np.random.default_rng(1).permutation(len(points))
    config = ClusterConfig(method, epsilon=1.0 if method == "dbscan" else None)
    made = cluster(points[order], np.ones(len(points), bool), config)
    assert made.about["groups"] == 3
    grouped = made.labels >= 0
    assert grouped.mean() > 0.9
    np.testing.assert_array_equal(made.labels[grouped], kind[order][grouped])


def test_the_silhouette_scan_chooses_the_number_of_groups_that_there_are():
    points, _ = three_groups()
    made = cluster(points, np.ones(len(points), bool), ClusterConfig())
    best = max(made.scan, key=lambda row: row["silhouette"])
    assert best["k"] == made.about["k"] == 3
    assert [row["k"] for row in made.scan] == list(range(2, 11))


def test_only_stars_that_are_asked_and_observed_get_a_group():
    points, _ = three_groups()
    points[5] = np.nan
    asked = np.arange(len(points)) % 2 == 1
    made = cluster(points, asked, ClusterConfig(k=2))
    assert (made.labels[~asked] == -2).all()
    assert made.labels[5] == -2
    with pytest.raises(UsageError, match="too few"):
        cluster(points, np.arange(len(points)) < 4, ClusterConfig())


def test_the_column_that_makes_the_groups_is_named_first():
    rng = np.random.default_rng(2)
    labels = np.repeat([0, 1], 100)
    objects = pa.table(
        {"source_id": np.arange(200), "noise": rng.normal(size=200),
         "logg": np.where(labels == 0, 4.4, 2.5) + 0.2 * rng.normal(size=200),
         "kind": np.where(rng.random(200) < 0.5, "a", "b").tolist()}
    )  # fmt: skip
    rows = apart(Dataset(None, objects, {}), labels)
    first = next(r for r in rows if r["group"] == 0)
    assert first["column"] == "logg"
    assert first["AUC"] == pytest.approx(1.0, abs=0.01)
    assert first["inside"] == pytest.approx(4.4, abs=0.1)  # 4 standard errors
    assert abs(next(r for r in rows if r["column"] == "noise")["AUC"] - 0.5) < 0.15


def test_sub_groups_of_a_class_are_told_apart_by_temperature(trained, capsys, tmp_path):
    code, out, err = ask(
        capsys, "cluster", "--class", "DSCT", "-k", 2, "--modality", "xp", "--plot",
        tmp_path / "c.png", "--members", tmp_path / "m.parquet", "--json", "-w", trained,
    )  # fmt: skip
    assert code == 0, err
    rows = [json.loads(line) for line in out.splitlines()]
    teff = next(r for r in rows if r["column"] == "teff" and r["group"] == 0)
    assert abs(teff["AUC"] - 0.5) > 0.4  # Planck spectra differ by nothing else
    members = pq.read_table(tmp_path / "m.parquet")
    assert set(members["group"].to_pylist()) == {0, 1}
    assert (tmp_path / "c.png").stat().st_size > 5000


def test_an_unknown_method_names_the_known_ones():
    with pytest.raises(UsageError, match="meanshift"):
        ClusterConfig("meanshift")
