"""k-NN: against scikit-learn, against mathematics, and honest about itself."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, balanced_accuracy_score, r2_score, roc_auc_score
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor

from mmclip import metrics
from mmclip.artifacts.workspace import Workspace
from mmclip.datasets.build import Dataset, open_dataset
from mmclip.errors import UsageError
from mmclip.tasks import knn
from mmclip.tasks.neighbours import Options, neighbours, same_star, weigh
from mmclip.vectors.exact import ExactRows
from mmclip.vectors.store import Store
from tests.cli.test_cli import ask
from tests.tasks.test_search import unit_vectors


@pytest.fixture(scope="module")
def opened(trained):
    space = Workspace(trained)
    store = Store(space.get("vectors"))
    return store, open_dataset(space.parent(store.artifact, "data"))


@pytest.mark.parametrize("metric", ["euclidean", "cosine", "manhattan"])
@pytest.mark.parametrize("weights", ["uniform", "distance"])
@pytest.mark.parametrize("k", [13, 16, 64])
def test_predictions_are_those_of_scikit_learn(opened, metric, weights, k):
    store, data = opened
    got = knn.regress(
        store, data, "teff", "xp", fit_on="metadata", options=Options(k, weights, metric)
    )
    teff = dict(zip(data.source_id.tolist(), data.objects["teff"].to_pylist(), strict=True))
    y = np.array([teff[int(s)] for s in store.source_id])
    train, test = store.split == "train", store.split == "test"
    model = KNeighborsRegressor(k, weights=weights, metric=metric, algorithm="brute")
    model.fit(store.vectors("metadata")[train].astype(float), y[train])
    expected = model.predict(store.vectors("xp")[test].astype(float))
    np.testing.assert_array_equal(got.source_id, store.source_id[test])
    # float32 inner products reorder neighbours at the very edge of the k nearest.
    assert np.median(np.abs(got.predicted - expected) / expected) < 1e-4
    assert np.abs(got.predicted - expected).max() < 200


def test_a_column_of_names_is_classified_as_scikit_learn_does(opened):
    store, data = opened
    got = knn.regress(store, data, "class", "xp", options=Options(13))
    kind = dict(zip(data.source_id.tolist(), data.objects["class"].to_pylist(), strict=True))
    y = np.array([kind[int(s)] for s in store.source_id])
    train, test = store.split == "train", store.split == "test"
    model = KNeighborsClassifier(13).fit(store.vectors("xp")[train], y[train])
    expected = model.predict(store.vectors("xp")[test])
    assert (got.predicted == expected).mean() > 0.99


def test_leave_one_out_never_uses_the_star_itself(opened):
    """Labels that are pure noise cannot be predicted, unless a star sees its own."""
    store, data = opened
    noise = np.random.default_rng(3).normal(size=len(data.source_id))
    objects = data.objects.append_column("noise", pa.array(noise))
    made = Dataset(data.artifact, objects, data.views)
    got = knn.regress(store, made, "noise", "xp", options=Options(1, split="leave-one-out"))
    assert len(got.truth) == len(store.source_id)
    assert abs(np.corrcoef(got.truth, got.predicted)[0, 1]) < 0.2


def test_the_same_star_under_another_id_is_no_neighbour():
    vectors = unit_vectors(60, 8)
    reference = np.concatenate([vectors, vectors[:1]])  # row 60 is row 0 once more
    groups = np.append(np.arange(60), 0)
    for options in (Options(5), Options(5, metric="manhattan"), Options(5, scale="standard")):
        among = ExactRows(reference, np.ones(61, bool))
        ((_, _, found),) = neighbours(among, reference, np.arange(61), options, groups)
        assert found.shape == (61, 5)
        assert not (groups[found] == groups[:, None]).any()


def test_ids_within_two_arcsec_are_one_star(opened):
    _, data = opened
    arcsec = 1 / 3600
    sky = pa.table(
        {
            "source_id": [1, 2, 3, 4],
            "ra": [10.0, 10.0 + 1.5 * arcsec / np.cos(np.radians(60)), 10.0, 359.99999],
            "dec": [60.0, 60.0, 60.0 + 2.5 * arcsec, -10.0],
        }
    )
    groups = same_star(Dataset(data.artifact, sky, {}))
    assert groups[0] == groups[1]
    assert len(set(groups.tolist())) == 3


@given(st.lists(st.floats(0, 4), min_size=2, max_size=8))
@settings(max_examples=50, deadline=None)
def test_weights_sum_to_one_and_exact_matches_take_all(distances):
    row = np.array([distances])
    for kind in ("uniform", "distance"):
        assert weigh(row, kind).sum() == pytest.approx(1)
    exact = row <= 1e-6
    if exact.any():
        assert weigh(row, "distance")[~exact].sum() == 0


def test_scores_are_those_of_the_definitions():
    rng = np.random.default_rng(0)
    truth, residual = rng.normal(size=100_000), rng.normal(0.3, 0.5, 100_000)
    residual[:200] = 50  # clipped away
    got = metrics.scores(truth, truth + residual)
    assert got["R2"] == pytest.approx(r2_score(truth, truth + residual))
    assert got["bias"] == pytest.approx(residual.mean())
    # A Gaussian cut at 3 sigma has a standard deviation of 0.98658 sigma.
    assert got["scatter"] == pytest.approx(0.98658 * 0.5, rel=0.01)
    assert got["NMAD"] == pytest.approx(0.5, rel=0.01)


def test_the_bootstrap_interval_of_a_mean_is_that_of_the_central_limit():
    rng = np.random.default_rng(1)
    truth = np.zeros(400)
    predicted = rng.normal(0, 2.0, 400)
    low_high = metrics.bootstrap(metrics.scores, truth + rng.normal(size=400), predicted, 400)
    width = low_high["bias_high"] - low_high["bias_low"]
    assert width == pytest.approx(2 * 1.96 * np.sqrt(5) / 20, rel=0.2)


@given(st.integers(20, 400), st.floats(0.5, 0.95))
@settings(max_examples=25, deadline=None)
def test_conformal_intervals_cover_as_often_as_promised(count, coverage):
    """Distribution-free: the coverage over many draws is at least the promise, 1/(n+1) above."""
    rng = np.random.default_rng(count)
    draws = rng.exponential(size=(2000, count + 1))
    place = int(np.ceil((count + 1) * coverage))
    held = [
        draws[i, -1] <= metrics.conformal_quantile(draws[i, :-1], coverage) for i in range(2000)
    ]
    expected = place / (count + 1) if place <= count else 1.0
    assert np.mean(held) == pytest.approx(expected, abs=4 * 0.5 / np.sqrt(2000))


def test_conformal_intervals_of_stars_cover_and_are_infinite_without_stars_to_learn_from(opened):
    store, data = opened
    got = knn.regress(
        store, data, "teff", "xp", options=Options(split="leave-one-out", coverage=0.8)
    )
    assert got.covered.mean() == pytest.approx(0.8, abs=0.06)
    assert metrics.conformal_quantile(np.ones(3), 0.9) == np.inf


def test_classification_measures_are_those_of_scikit_learn():
    rng = np.random.default_rng(5)
    truth = rng.choice(["EA", "EW", "RRAB"], 300, p=[0.7, 0.2, 0.1])
    guess = np.where(rng.random(300) < 0.6, truth, rng.choice(["EA", "EW", "RRAB"], 300))
    counts = metrics.confusion(truth, guess, ["EA", "EW", "RRAB"])
    got = metrics.accuracies(counts)
    assert got["micro"] == pytest.approx(accuracy_score(truth, guess))
    assert got["macro"] == pytest.approx(balanced_accuracy_score(truth, guess))
    strange = truth == "EA"
    score = rng.normal(size=300) + strange
    assert metrics.auc(strange, score) == pytest.approx(roc_auc_score(strange, score))


def test_a_forecast_that_is_right_as_often_as_it_says_has_no_calibration_error():
    rng = np.random.default_rng(2)
    said = rng.uniform(0.2, 1.0, 200_000)
    right = rng.random(200_000) < said
    assert metrics.calibration(said, right).ece < 0.01
    assert metrics.calibration(np.ones(1000), rng.random(1000) < 0.5).ece > 0.4


def test_five_seeds_cannot_be_more_significant_than_one_in_sixteen():
    got = metrics.paired([0.9, 0.91, 0.92, 0.9, 0.95], [0.8, 0.82, 0.81, 0.8, 0.81])
    assert got["p"] == 2 / 32
    assert metrics.paired([1.0, 2.0], [2.0, 1.0])["p"] == 1.0


def test_the_command_logs_everything_a_number_depends_on(trained, capsys, tmp_path):
    code, out, err = ask(
        capsys, "knn", "--target", "teff,class", "--modality", "xp", "--weights", "distance",
        "--metric", "cosine", "-k", 16, "--bootstrap", 20, "--objects", tmp_path / "o.parquet",
        "--plot", tmp_path / "p.png", "--json", "-w", trained,
    )  # fmt: skip
    assert code == 0, err
    rows = [json.loads(line) for line in out.splitlines()]
    own = next(r for r in rows if r["target"] == "teff" and r["method"].startswith("k-NN"))
    assert own["R2_low"] <= own["R2"] <= own["R2_high"]
    assert (own["k"], own["weights"], own["metric"], own["scale"]) == (
        16,
        "distance",
        "cosine",
        "none",
    )
    kind = next(r for r in rows if r["target"] == "class")
    assert kind["micro"] > 0.9  # hot and cool Planck spectra
    stars = pq.read_table(tmp_path / "o.parquet")
    assert stars.num_rows == own["stars"] + kind["stars"]
    assert {p.name for p in tmp_path.glob("*.png")} == {"p-teff-xp.png", "p-class-xp.png"}


def test_an_unknown_option_names_the_known_ones():
    with pytest.raises(UsageError, match="cubic"):
        Options(weights="cubic")
    with pytest.raises(UsageError, match="own reference"):
        Options(split="train")
