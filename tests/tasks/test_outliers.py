"""Detectors of strange stars: against scikit-learn, and on stars that were made strange."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import DBSCAN

from mmclip.artifacts.workspace import Workspace
from mmclip.datasets import objects as portrait
from mmclip.datasets.build import Dataset, open_dataset
from mmclip.errors import USAGE
from mmclip.modalities import Column, Modality
from mmclip.tasks import outliers
from mmclip.tasks.outliers import detectors, summary
from mmclip.vectors.store import Store, unit
from tests.cli.test_cli import ask
from tests.tasks.test_search import unit_vectors


@pytest.fixture(scope="module")
def opened(trained):
    space = Workspace(trained)
    store = Store(space.get("vectors", "metadata-xp"))
    return store, open_dataset(space.parent(store.artifact, "data"))


@given(st.integers(0, 30), st.sampled_from([3, 5, 8]), st.floats(0.05, 1.2))
@settings(max_examples=40, deadline=None)
def test_noise_is_that_of_dbscan(seed, least, epsilon):
    vectors = unit_vectors(150, 4, seed)
    found = detectors.outside_clusters(vectors, least, epsilon)
    distance = np.sqrt(np.maximum(2 - 2 * vectors @ vectors.T, 0))
    if np.abs(distance - epsilon).min() < 1e-5:
        return  # rounding decides
    expected = DBSCAN(eps=epsilon, min_samples=least).fit(vectors.astype(float)).labels_ == -1
    np.testing.assert_array_equal(found.noise, expected)


def test_what_lies_off_the_main_cluster_of_its_class_is_found_and_nothing_else():
    rng = np.random.default_rng(0)
    places = np.concatenate([rng.normal(0, 1, (300, 2)), [[30, 30], [-40, 5]], [[0, 0]]])
    members = np.ones(303, bool)
    members[-1] = False
    found = detectors.outside_main_cluster(places.astype("f4"), members)
    assert found.noise[300:302].all()
    assert not found.noise[302]
    assert found.noise[:300].mean() <= 0.03
    assert found.epsilon > 0


def test_an_isolation_forest_ranks_a_far_star_first():
    rng = np.random.default_rng(1)
    vectors = np.concatenate([rng.normal(0, 0.1, (400, 6)), np.full((1, 6), 3.0)]).astype("f4")
    score = detectors.forest(vectors.__getitem__, np.arange(300), np.arange(401))
    assert score.argmax() == 400
    assert score[400] > 0.6 > np.median(score)  # 0.5 is ordinary, 1 isolated at once


def swapped(data, fraction=0.06):
    """The data with the classes of some stars exchanged; which they are."""
    names = np.array(data.objects["class"].to_pylist(), object)
    wrong = np.random.default_rng(7).random(len(names)) < fraction
    names[wrong] = np.where(names[wrong] == "ROT", "DSCT", "ROT")
    place = data.objects.column_names.index("class")
    objects = data.objects.set_column(place, "class", pa.array(names.tolist()))
    return Dataset(data.artifact, objects, data.views), wrong


def test_stars_given_the_wrong_class_are_found_by_their_neighbours(opened):
    store, data = opened
    made, wrong = swapped(data)
    found, count = detectors.misclassified(store, made)
    assert len(found) == count
    truth = {int(s) for s in data.source_id[wrong]}
    first = [r["source_id"] for r in found[: len(truth)]]
    precision = np.mean([s in truth for s in first])
    assert precision > 0.6  # by chance 0.06
    row = found[0]
    assert row["neighbours say"] != row["class"]
    assert row["own"] <= 1 - row["vote"] + 1e-9


def test_verdicts_part_the_wrongly_classified_from_the_odd_of_their_class(opened):
    store, data = opened
    made, wrong = swapped(data)
    rows, about = summary.examine(store, made, "DSCT", percentile=95)
    said = {r["source_id"]: r["verdict"] for r in rows}
    wrongly = [int(s) for s in data.source_id[wrong] if int(s) in said]
    assert np.mean([said[s] == summary.MISLABELLED for s in wrongly]) > 0.8
    rightly = [v for s, v in said.items() if s not in set(wrongly)]
    assert rightly.count(summary.MISLABELLED) < 0.1 * len(rightly)
    assert about.epsilon_vectors > 0


def test_thresholds_are_the_percentile_of_the_training_stars(opened):
    store, data = opened
    rows = outliers.outliers(store, data, "DSCT", percentile=90.0)
    for view in store.modalities:
        train = [r[f"distance {view}"] for r in rows if r["split"] == "train"]
        edge = np.percentile(train, 90.0)
        above = [r for r in rows if r[f"distance {view}"] > edge]
        assert all(r["views"] >= 1 for r in above)
        assert len([r for r in above if r["split"] == "train"]) == pytest.approx(
            0.1 * len(train), abs=1.5
        )
    vectors = store.vectors("xp").astype(float)
    members = detectors.classes_of(store, data, "class") == "DSCT"
    centre = unit(vectors[members & (store.split == "train")].mean(axis=0)[None])[0]
    row = rows[0]
    place = store.rows([row["source_id"]])[0]
    assert row["distance xp"] == pytest.approx(1 - vectors[place] @ centre, abs=1e-6)


def test_a_gallery_shows_each_star_and_its_diagrams(trained, capsys, tmp_path):
    page = tmp_path / "g.html"
    code, out, err = ask(
        capsys, "outliers", "--class", "each", "--top", 3, "--gallery", page, "--json",
        "-w", trained,
    )  # fmt: skip
    assert code == 0, err
    html = page.read_text()
    assert html.count("data:image/png") == 3
    assert len(out.splitlines()) == 3
    assert "https://" not in html


def test_misclassified_stars_of_a_class_by_the_command(trained, capsys):
    code, out, _ = ask(
        capsys, "outliers", "--misclassified", "--class", "ROT", "--json", "-w", trained
    )
    assert code == 0
    assert all('"class": "ROT"' in line for line in out.splitlines())


CURVE = Modality(
    "curve", "made light curve",
    (Column("time", "d", "", 0), Column("magnitude", "mag", "", 0)),
    lambda: ["a"], "mag", lambda columns: None, "mlp", "light curve",
)  # fmt: skip


def test_a_light_curve_is_drawn_in_magnitudes_and_folds_on_its_period(monkeypatch):
    time = np.arange(0.0, 90.0, 0.7)
    period = 3.21
    magnitude = 12 + 0.5 * np.cos(2 * np.pi * time / period)
    table = pa.table({"source_id": [5], "time": [time.tolist()], "magnitude": [magnitude.tolist()]})
    monkeypatch.setattr(portrait, "read_view", lambda raw, view: table)
    raw = type("Raw", (), {"manifest": type("M", (), {"provenance": {"curve": "observed"}})})
    members = {"modality": lambda self, name: CURVE, "objects": pa.table({"source_id": [5]})}
    data = type("Data", (), members)()
    (curve,) = portrait.portraits(data, raw, [5, 6], "curve")
    assert curve.inverted
    assert curve.ylabel == "magnitude [mag]"
    folded = portrait.folded(curve, period)
    # In phase the curve is the cosine again, brightest (smallest) at phase 0.
    expected = 12 - 0.5 * np.cos(2 * np.pi * folded.x)
    assert np.abs(folded.y - expected).max() < 0.5 * 2 * np.pi * 0.7 / 2 / period
    assert folded.x.max() < 2


def test_absolute_magnitudes_follow_the_distance_modulus():
    objects = pa.table(
        {"source_id": [1, 2], "phot_g_mean_mag": [10.0, 10.0], "bp_rp": [0.5, 1.0],
         "parallax": [10.0, -1.0]}
    )  # fmt: skip
    found = portrait.colour_magnitude(Dataset(None, objects, {}), None)
    assert found.y[0] == pytest.approx(5.0)  # 100 pc: modulus 5
    assert np.isnan(found.y[1])


def test_surprise_finds_the_star_whose_spectrum_is_another_ones(trained, capsys, tmp_path):
    import shutil

    from mmclip import artifacts
    from mmclip.clip.run import open_run
    from mmclip.datasets.build import open_dataset
    from mmclip.tasks import generate
    from mmclip.tasks.outliers import outliers
    from mmclip.vectors.store import Store

    shutil.copytree(trained, tmp_path / "w")
    store = Store(artifacts.read(next((tmp_path / "w" / "vectors").glob("metadata-xp"))))
    data = open_dataset(artifacts.read(next((tmp_path / "w" / "data").glob("[!.]*"))))
    model = open_run(artifacts.read(next((tmp_path / "w" / "runs").glob("metadata-xp"))))
    teff = np.array(data.objects["teff"].to_pylist())
    hot, cold = int(teff.argmax()), int(teff.argmin())
    values = data.views["xp"].values
    values[[hot, cold]] = values[[cold, hot]]
    order = {int(s): i for i, s in enumerate(store.source_id)}
    found = generate.surprise(store, data, model, "metadata", "xp")
    rows = outliers(store, data, also={"surprise": found})
    assert all("surprise" in r for r in rows)
    ranks = np.argsort(np.argsort(-np.nan_to_num(found)))
    swapped = [order[int(data.source_id[i])] for i in (hot, cold)]
    assert max(ranks[swapped]) < 0.05 * len(ranks)


def test_stars_of_a_file_get_the_distances_they_would_have_in_the_store(
    trained, capsys, tmp_path, opened
):
    """The file holds test stars of the store as they were, and the same turned red to blue."""
    store, data = opened
    test = store.source_id[store.of("test")]
    raw = pq.read_table(trained / "raw" / "made" / "xp.parquet")
    raw = raw.filter(pc.is_in(raw["source_id"], pa.array(test)))
    flux = [v[::-1] for v in raw["flux"].to_pylist()]
    place = raw.schema.get_field_index("flux")
    turned = raw.set_column(place, raw.schema.field(place), pa.array(flux, raw["flux"].type))
    files = []
    for name, table in (("same", raw), ("turned", turned)):
        files.append(tmp_path / f"{name}.parquet")
        pq.write_table(table, files[-1])
    old = outliers.measure(store, data)
    wanted = dict(zip(store.source_id, old.measures["distance xp"], strict=True))
    found = []
    for file in files:
        code, out, err = ask(capsys, "outliers", "--file", file, "-o", tmp_path / "new.parquet",
                             "--vectors", "metadata-xp", "-w", trained)  # fmt: skip
        assert code == 0, err
        found.append(pq.read_table(tmp_path / "new.parquet"))
    assert set(found[0]["source_id"].to_pylist()) == set(test.tolist())
    for row in found[0].to_pylist():
        assert row["distance xp"] == pytest.approx(wanted[row["source_id"]], abs=2e-5)
        assert row["distance metadata"] is None or np.isnan(row["distance metadata"])
    same, turned = (np.median(table["excess"].to_numpy()) for table in found)
    assert turned > 3 * same
    same, turned = (np.median(table["residual xp"].to_numpy()) for table in found)
    assert turned > 3 * same
    assert "residual xp 1.0" in err + out  # the AUC: all turned spectra before all test stars
    code, _, err = ask(capsys, "outliers", "--file", files[0], "--class", "ROT", "-w", trained)
    assert code == USAGE
    assert "--class" in err
