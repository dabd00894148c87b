"""Groups: found where they were made, and told apart by what makes them."""

import json
import tracemalloc

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmclip import plots
from mmclip.datasets.build import Dataset
from mmclip.datasets.objects import Portrait
from mmclip.errors import UsageError
from mmclip.tasks import cluster as grouping
from mmclip.tasks.cluster import METHODS, ClusterConfig, apart, cluster, mean_curves
from mmclip.tasks.dbscan import dbscan
from tests.cli.test_cli import ask


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


@pytest.mark.parametrize("method", ["kmeans", "dbscan"])
def test_groups_found_in_a_sample_take_in_the_others(method, monkeypatch):
    monkeypatch.setattr("mmclip.tasks.cluster.BLOCK", 50)
    points, kind = three_groups()
    if method == "dbscan":  # a star far from all
        points, kind = np.concatenate([points, np.full((1, 3), 40, "f4")]), np.append(kind, -1)
    config = ClusterConfig(method, k=3, epsilon=1.0, sample=120)
    made = cluster(points, np.ones(len(points), bool), config)
    assert (made.about["stars"], made.about["fitted on"]) == (len(points), 120)
    np.testing.assert_array_equal(made.labels, kind)
    again = cluster(points, np.ones(len(points), bool), config)
    np.testing.assert_array_equal(again.labels, made.labels)


@pytest.mark.parametrize("scale", [(1, 1), (1, 0), (1, 1, 0.1), (1, 1e-9)])
@pytest.mark.parametrize("seed", range(2))
def test_dbscan_is_that_of_scikit_learn(seed, scale, monkeypatch):
    from sklearn.cluster import DBSCAN

    rng = np.random.default_rng(seed)  # equal points too; on a plane, on a line, in space
    points = rng.normal(size=(300, len(scale))).round(1 if seed % 2 else 9) * scale
    for room, epsilon in ((8 * 300 * 40, 0.15), (8 * 300 * 70, 0.3), (1 << 25, 0.05)):
        monkeypatch.setattr("mmclip.tasks.dbscan.ROOM", room)
        labels, core = dbscan(points, epsilon, 4)
        theirs = DBSCAN(eps=epsilon, min_samples=4).fit(points)
        np.testing.assert_array_equal(labels, theirs.labels_)
        np.testing.assert_array_equal(core, theirs.core_sample_indices_)


def test_a_dense_group_does_not_take_memory_as_its_square(monkeypatch):
    # 1500 stars in reach of each other are 2 million pairs of 8 bytes.
    monkeypatch.setattr("mmclip.tasks.dbscan.ROOM", 1 << 18)
    points = np.zeros((1500, 2))
    dbscan(points[:10], 1.0, 5)
    tracemalloc.start()
    labels, core = dbscan(points, 1.0, 5)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (labels == 0).all()
    assert len(core) == 1500
    assert most < 9e6


def test_a_small_group_far_away_is_in_every_draw_of_k_means():
    # 30 of 60,000: a plain draw of 600 has none of them in three cases of four.
    rng = np.random.default_rng(0)
    points = rng.normal(size=(60_000, 2)).astype("f4")
    points[:30] += 200
    for seed in range(5):
        config = ClusterConfig(k=2, seed=seed, sample=600)
        made = cluster(points, np.ones(len(points), bool), config)
        np.testing.assert_array_equal(made.labels == 1, np.arange(60_000) < 30)


def test_a_sample_of_all_is_no_sample():
    points, _ = three_groups()
    every = np.ones(len(points), bool)
    whole, sampled = (cluster(points, every, ClusterConfig(k=3, sample=n)) for n in (0, 380))
    assert whole.about == sampled.about
    np.testing.assert_array_equal(whole.labels, sampled.labels)


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


def eclipsing(source_id, depth, period, rng):
    """A light curve with one eclipse of a tenth of the period, at an epoch of its own."""
    time = np.sort(rng.uniform(0, 500, 300))
    phase = (time / period + rng.random()) % 1
    y = 15 + rng.normal(0, 1) + np.where(phase < 0.1, depth, 0.0) + rng.normal(0, 0.01, 300)
    return Portrait(source_id, "photometry", "light curve", time, y, None, "time [d]",
                    "magnitude [mag]", inverted=True)  # fmt: skip


def folded_means(monkeypatch, curves, labels, known):
    monkeypatch.setattr(grouping, "periods", lambda data, raw: known)
    monkeypatch.setattr(
        grouping, "portraits", lambda data, raw, ids, view: [curves[i] for i in ids]
    )
    objects = pa.table({"source_id": np.arange(len(labels))})
    return mean_curves(Dataset(None, objects, {}), None, labels, "photometry")


def test_mean_light_curves_have_the_depth_of_their_groups_eclipses(monkeypatch):
    rng = np.random.default_rng(4)
    known = {i: 1.0 + 3 * rng.random() for i in range(40)}
    curves = {i: eclipsing(i, 0.2 if i < 25 else 0.6, p, rng) for i, p in known.items()}
    labels = np.repeat([0, 1, 2], [25, 15, 1])
    made, faint, unit = folded_means(monkeypatch, curves, labels, known)
    assert faint  # bright most of the time
    assert unit == "magnitude [mag]"
    for curve, depth, members in zip(made, (0.2, 0.6), (range(25), range(25, 40)), strict=False):
        assert curve.stars == len(members)
        assert curve.period == pytest.approx(np.median([known[i] for i in members]))
        assert curve.middle[0] == pytest.approx(-depth, abs=0.02)  # brightness is upwards
        assert curve.middle[10:30] == pytest.approx(0, abs=0.01)  # outside the eclipse
        assert np.all(curve.low <= curve.middle)
        assert np.all(curve.middle <= curve.high)
    assert made[2].stars == 0  # the star without a period is left out
    figure = plots.mean_curves_figure(made, faint, unit, ["a", "b", "c"])
    assert figure.axes[0].yaxis_inverted()
    assert max(figure.axes[0].lines[0].get_ydata()) == pytest.approx(0.2, abs=0.02)  # fainter


def test_without_any_period_there_is_no_mean_light_curve(monkeypatch):
    with pytest.raises(UsageError, match="period"):
        folded_means(monkeypatch, {}, np.array([0, 0]), {})


def test_a_column_written_twice_is_told_once():
    rng = np.random.default_rng(5)
    x = rng.normal(size=60)
    objects = pa.table({"source_id": np.arange(60), "period": x, "period_d": x,
                        "n_obs": rng.integers(40, 90, 60).astype(np.int16)})  # fmt: skip
    names = [r["column"] for r in apart(Dataset(None, objects, {}), np.repeat([0, 1], 30))]
    assert sorted(names) == ["n_obs", "n_obs", "period", "period"]
