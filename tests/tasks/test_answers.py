"""k-NN and outliers of vectors on the disk are those of vectors in memory, and by an index too."""

import itertools
import json
import tracemalloc

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse.csgraph import connected_components
from sklearn.linear_model import RidgeCV

from mmclip import arrays, artifacts, sky
from mmclip.cli import run
from mmclip.datasets import memmap
from mmclip.datasets.build import Dataset, open_dataset
from mmclip.errors import USAGE, UsageError
from mmclip.ids import reorder
from mmclip.tasks import neighbours, outliers, ridge
from mmclip.tasks.outliers import detectors, summary
from mmclip.vectors import exact, sharded_build
from mmclip.vectors.exact import ExactRows
from mmclip.vectors.store import MEAN, Store, write
from tests.conftest import fetch_made, made_stars
from tests.tasks.test_search import unit_vectors

NAMES = ("ROT", "DSCT", "")


@given(
    st.integers(5, 120), st.integers(1, 9), st.integers(1, 40), st.integers(0, 2**32 - 1),
    st.sampled_from([1, 200, 2**20]),
)  # fmt: skip
@settings(max_examples=50, deadline=None)
def test_neighbours_by_blocks_are_the_best_of_those_allowed(count, queries, k, seed, block):
    chance = np.random.default_rng(seed)
    vectors = unit_vectors(count, 5, seed)[chance.integers(0, count, count)]  # some of them equal
    allowed = chance.random(count) < 0.6
    asked = unit_vectors(queries, 5, seed + 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exact, "BLOCK", block)
        scores, rows = ExactRows(vectors, allowed).search(asked, k)
    best = -np.sort(-(asked @ vectors[allowed].T), axis=1)[:, :k]
    seen = min(k, int(allowed.sum()))
    np.testing.assert_allclose(scores[:, :seen], best, atol=1e-6)
    assert (rows[:, seen:] == -1).all()
    assert allowed[rows[:, :seen]].all()
    assert all(len(set(r[:seen])) == seen for r in rows.tolist())
    own = np.einsum("qkd,qd->qk", vectors[rows[:, :seen]], asked)
    np.testing.assert_allclose(own, scores[:, :seen], atol=1e-6)


class Sees:
    """An index over all rows of vectors that sees but every n-th; for 0 none."""

    def __init__(self, vectors, every):
        seen = np.zeros(len(vectors), bool)
        if every:
            seen[::every] = True
        self.search, self.rows = ExactRows(vectors, seen).search, (np.arange(len(vectors)),)


@given(
    st.integers(0, 2**32 - 1), st.integers(2, 60), st.floats(0.2, 1.0), st.integers(1, 12),
    st.sampled_from([0, 1, 3]),
)  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_an_index_that_finds_too_few_is_completed_exactly(seed, count, share, k, every):
    vectors = unit_vectors(count, 4, seed)
    allowed = np.random.default_rng(seed).random(count) < share
    scores, found = ExactRows(vectors, allowed, Sees(vectors, every)).search(vectors[:9], k)
    assert allowed[found[found >= 0]].all()
    np.testing.assert_array_equal((found >= 0).sum(axis=1), min(k, int(allowed.sum())))
    own = np.einsum("qkd,qd->qk", vectors[found], vectors[:9])
    np.testing.assert_allclose(scores[found >= 0], own[found >= 0], atol=1e-6)
    if every < 2:
        truth = ExactRows(vectors, allowed).search(vectors[:9], k)[0]
        np.testing.assert_allclose(scores, truth, atol=1e-6)


@given(st.integers(0, 2**32 - 1), st.integers(1, 40))
@settings(max_examples=40, deadline=None)
def test_ids_within_two_arcsec_are_found_across_stripes_poles_and_the_meridian(seed, count):
    chance = np.random.default_rng(seed)
    arcsec = 1 / 3600
    centre = np.array([[0.0, 89.9999], [359.9999, -3.0], [180.0, -89.9999]])[
        chance.integers(0, 3, count)
    ]
    ra = (
        centre[:, 0] + chance.normal(0, 3 * arcsec, count) / np.cos(np.radians(centre[:, 1]))
    ) % 360
    dec = np.clip(centre[:, 1] + chance.normal(0, 2 * arcsec, count), -90, 90)
    dec[chance.random(count) < 0.1] = np.nan
    objects = pa.table({"source_id": np.arange(count), "ra": ra, "dec": dec})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sky, "STRIPE", 4)
        star = neighbours.same_star(Dataset(None, objects, {}))
    a, d = np.radians(ra), np.radians(dec)
    place = np.stack([np.cos(d) * np.cos(a), np.cos(d) * np.sin(a), np.sin(d)], axis=1)
    chord = np.linalg.norm(place[:, None] - place[None], axis=2)
    edge = 2 * np.sin(np.radians(2 * arcsec) / 2)
    if (np.abs(chord - edge) < 1e-12).any():
        return  # rounding decides
    label = connected_components(np.nan_to_num(chord, nan=9.0) <= edge)[1]
    np.testing.assert_array_equal(star[:, None] == star, label[:, None] == label)


@pytest.mark.parametrize(("count", "length", "scale"), [(400, 6, 1), (30, 50, 1), (3000, 110, 30)])
def test_ridge_by_blocks_is_that_of_scikit_learn(count, length, scale, monkeypatch):
    chance = np.random.default_rng(count)
    values = (scale * chance.normal(size=(count, length))).astype(np.float32)
    values[:, 1] = values[:, 0] + 0.01 * values[:, 1]  # nearly the same
    values[chance.random(values.shape) < 0.02] = np.nan
    truth = 5000 + np.nan_to_num(values) @ chance.normal(size=length) + chance.normal(size=count)
    rows = chance.random(count) < 0.8
    monkeypatch.setattr(memmap.tables, "GROUP", 64)
    monkeypatch.setattr(memmap, "BLOCK", 1)
    ours = ridge.fit(values, truth, rows)
    known = np.nan_to_num(values).astype(float)
    theirs = RidgeCV(ridge.PENALTIES).fit(known[rows], truth[rows])
    assert ours.penalty == theirs.alpha_
    np.testing.assert_allclose(ours.predict(values, ~rows), theirs.predict(known[~rows]), rtol=1e-6)


def test_ridge_on_images_is_that_of_scikit_learn_and_holds_no_square_of_the_pixels():
    chance = np.random.default_rng(1)
    values = chance.normal(size=(260, 3 * 96 * 96)).astype(np.float32)
    values[:, :7] = np.nan
    truth = np.nan_to_num(values) @ chance.normal(size=values.shape[1]) + 3.0
    rows = np.arange(260) < 200
    tracemalloc.start()
    ours = ridge.fit(values, truth, rows)
    found = ours.predict(values, ~rows)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 1 << 29  # 27,648 squared would be 6 GB
    theirs = RidgeCV(ridge.PENALTIES).fit(np.nan_to_num(values[rows]).astype(float), truth[rows])
    assert ours.penalty == theirs.alpha_
    assert ours.axes == 199  # all that 200 centred objects span
    expected = theirs.predict(np.nan_to_num(values[~rows]).astype(float))
    np.testing.assert_allclose(found, expected, atol=1e-3 * truth.std())


@given(st.lists(st.integers(-9, 9), unique=True, max_size=12), st.lists(st.integers(-12, 12)))
def test_rows_behind_ids_are_those_of_a_dictionary(known, ids):
    if not known:
        return
    found = reorder(np.array(known, np.int64), np.array(ids, np.int64))
    place = {s: i for i, s in enumerate(known)}
    expected = [place.get(i, -1) for i in ids]
    assert (list(range(len(known))) if found is None else found.tolist()) == expected


@given(st.lists(st.sampled_from(["b", "a", "", None, "cc"]), max_size=20))
def test_codes_spell_the_words_they_were_made_of(words):
    table = pa.table({"class": pa.chunked_array([words[:7], words[7:]], pa.string())})
    names, codes = arrays.encode(table, "class")
    assert names == sorted(set(words) - {"", None})
    assert arrays.decode(names, codes).tolist() == [w or "" for w in words]
    np.testing.assert_array_equal(arrays.equals(table, "class", "a"), [w == "a" for w in words])


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """Stars in no order, some without a view, some seen twice, of few clear classes; embedded."""
    made, chance = made_stars(400), np.random.default_rng(5)
    objects = made.tables["objects"]
    dec = np.zeros(400)
    ra = objects["ra"].to_numpy().copy()
    ra[1::20] = ra[::20] + 0.5 / 3600  # twenty stars under two ids
    kinds = np.where(chance.random(400) < 0.2, "", objects["class"].to_numpy(zero_copy_only=False))
    kinds = np.where(chance.random(400) < 0.06, "ROT", kinds)
    for name, values in (("ra", ra), ("dec", dec), ("class", kinds)):
        objects = objects.set_column(
            objects.column_names.index(name), objects.field(name), pa.array(values.tolist())
        )
    made.tables["objects"] = objects.take(chance.permutation(400))
    made.tables["xp"] = made.tables["xp"].take(chance.permutation(400)[:340])
    root = tmp_path_factory.mktemp("answers")
    fetch_made(root, made)
    w = ["--workspace", str(root)]
    small = ("--set", "width=32", "--set", "dimension=16", "--set", "generator_epochs=0")
    assert run(["preprocess", *w]) == 0
    assert run(["train", "--epochs", "2", "--batch", "64", "--name", "sky", *small, *w]) == 0
    assert run(["embed", "--run", "sky", *w]) == 0
    _doubled(root)
    return root


def _doubled(root):
    """The vectors once more, in another order, and those of many stars equal: `twins`."""
    store = Store(artifacts.read(root / "vectors" / "sky"))
    order = np.random.default_rng(8).permutation(len(store.source_id))
    vectors = {n: store.vectors(n)[order].copy() for n in store.modalities}
    for matrix in vectors.values():
        matrix[100:130], matrix[200:230] = matrix[:30], matrix[:30]
    about = store.artifact.manifest
    with artifacts.building(root / "vectors" / "twins") as folder:
        made = write(
            folder, store.source_id[order], store.splits["split"].take(order), vectors, "Flat"
        )
        artifacts.seal(
            folder, "vectors", config=about.config, parents=about.parents, rows=about.rows,
            surveys=about.surveys, provenance=about.provenance, seed=1, notes={"indexes": made},
        )  # fmt: skip


def opened(root, name="sky"):
    store = Store(artifacts.read(root / "vectors" / name))
    return store, open_dataset(artifacts.read(root / "data" / "made"))


def answered(capsys, words, root):
    capsys.readouterr()
    assert run([*words, "--json", "--workspace", str(root)]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


QUESTIONS = {
    "k-NN": ["knn", "--target", "teff", "--bootstrap", "5"],
    "leave one out": ["knn", "--target", "teff", "--split", "leave-one-out", "--bootstrap", "0",
                      "--weights", "distance"],
    "of classes": ["knn", "--target", "class", "--bootstrap", "5", "--modality", "mean"],
    "scaled": ["knn", "--target", "teff", "--scale", "standard", "--bootstrap", "0"],
    "manhattan": ["knn", "--target", "teff", "--metric", "manhattan", "--where", "teff > 4000",
                  "--fit-on", "metadata", "--modality", "xp", "--bootstrap", "0"],
    "outliers": ["outliers"],
    "of a class": ["outliers", "--class", "DSCT", "--top", "7"],
    "of each class": ["outliers", "--class", "each"],
    "misclassified": ["outliers", "--misclassified"],
}  # fmt: skip


@pytest.mark.parametrize("vectors", ["sky", "twins"])
@pytest.mark.parametrize("question", QUESTIONS)
def test_answers_from_the_disk_are_those_from_memory(
    workspace, monkeypatch, capsys, question, vectors
):
    monkeypatch.setattr(exact, "BLOCK", 16 * 4 * 150)  # three blocks
    monkeypatch.setattr(neighbours, "QUERIES", 64)
    words = [*QUESTIONS[question], "--vectors", vectors]
    rows = {}
    for held in ("1024", "0"):
        monkeypatch.setenv("MMCLIP_HELD_MB", held)
        assert Store(artifacts.read(workspace / "vectors" / vectors)).mapped == (held == "0")
        rows[held] = answered(capsys, words, workspace)
    assert len(rows["0"]) == len(rows["1024"]) > 0
    for disk, memory in zip(rows["0"], rows["1024"], strict=True):
        assert list(disk) == list(memory)
        for name, value in memory.items():
            same = pytest.approx(value, rel=1e-6, abs=1e-6) if isinstance(value, float) else value
            assert disk[name] == same, name


def test_what_is_said_of_some_stars_is_what_is_said_of_them_among_all(workspace):
    store, data = opened(workspace)
    rows, about = summary.examine(store, data, "ROT")
    some, _ = summary.examine(store, data, "ROT", top=9)
    assert repr(some.rows) == repr(rows[:9].rows)  # NaN is unknown, and not equal to itself
    assert about.stars == len(rows)
    listed, count = detectors.misclassified(store, data)
    first, again = detectors.misclassified(store, data, top=3)
    assert first.rows == listed[:3].rows
    assert again == count == len(listed)
    vectors = store.vectors(MEAN)
    odd = np.arange(0, len(vectors), 3)
    part, whole = (detectors.outside_clusters(vectors, rows=r) for r in (odd, None))
    assert part.epsilon == whole.epsilon
    near = part.epsilon / 3
    part, whole = (detectors.outside_clusters(vectors, 5, near, r) for r in (odd, None))
    np.testing.assert_array_equal(part.noise[odd], whole.noise[odd])
    assert whole.noise[odd].any()


def test_epsilon_of_a_drawn_part_is_near_that_of_all(monkeypatch):
    vectors = unit_vectors(4000, 4, 3)
    all_of_them = detectors.outside_clusters(vectors).epsilon
    monkeypatch.setattr(detectors, "DRAWN", 1000)
    drawn = detectors.outside_clusters(vectors, rows=np.arange(5)).epsilon
    assert drawn != all_of_them
    # The quantile 0.97 of 1000: its place is uncertain by sqrt(0.97 x 0.03 / 1000) = 0.0054.
    distance = 2 - 2 * np.sort(vectors.astype(float) @ vectors.T.astype(float), axis=1)[:, -5]
    below = (np.sqrt(np.maximum(distance, 0)) < drawn).mean()
    assert below == pytest.approx(0.97, abs=4 * 0.0054)


def test_an_index_over_all_cells_answers_as_exact_search_does_and_says_its_name(
    workspace, capsys, monkeypatch
):
    pytest.importorskip("faiss")
    w = ["--workspace", str(workspace)]
    lists = ["--factory", "IVF4,Flat;nprobe=4", "--part-rows", "150"]
    assert run(["index", "--add", "--vectors", "sky", *lists, *w]) == 0
    for words in (QUESTIONS["k-NN"], QUESTIONS["outliers"], QUESTIONS["misclassified"]):
        words = [*words, "--vectors", "sky"]
        exact = answered(capsys, words, workspace)
        capsys.readouterr()
        assert run([*words, "--index", "sky", "--json", *w]) == 0
        out, err = capsys.readouterr()
        assert "IVF4,Flat;nprobe=4" in err
        assert "recall@10 = 1" in err
        asked = [json.loads(line) for line in out.splitlines()]
        for ours, theirs in zip(asked, exact, strict=True):
            if "R2" in ours and "k-NN" in ours["method"]:
                assert ours.pop("index") == "sky (IVF4,Flat;nprobe=4)"
                assert ours.pop("index recall@10") == 1
            for name, value in theirs.items():
                same = pytest.approx(value, rel=1e-4) if isinstance(value, float) else value
                assert ours[name] == same, name


def test_an_index_that_lacks_stars_or_knows_no_such_metric_is_refused(workspace, tmp_path, capsys):
    pytest.importorskip("faiss")
    store, data = opened(workspace)
    place = tmp_path / "indexes" / "few"
    half = Store(store.artifact)
    half.__dict__["columns"] = {n: v.copy() for n, v in store.columns.items()}
    half.columns["xp"][::2] = np.nan
    made = sharded_build.add(half, sharded_build.Plan("Flat"), place)
    with pytest.raises(UsageError, match=r"lacks \d+ of the stars that were observed in xp") as no:
        outliers.outliers(store, data, search=neighbours.Search(made))
    assert "mmclip index --add --index few" in no.value.hint
    lists = ["index", "--add", "--vectors", "sky", "--index", "flat"]
    assert run([*lists, "--workspace", str(workspace)]) == 0
    words = [*QUESTIONS["scaled"], "--vectors", "sky", "--index", "flat"]
    assert run([*words, "--workspace", str(workspace)]) == USAGE
    assert "without a scale" in capsys.readouterr().err


def test_a_long_search_says_so_before_it_begins(monkeypatch):
    vectors = unit_vectors(50, 4, 0)
    allowed = np.ones(50, bool)
    told = []
    monkeypatch.setattr(neighbours, "QUERIES", 5)
    list(neighbours.asked(ExactRows(vectors, allowed), vectors, np.arange(50), 3, told.append))
    assert told == []
    monkeypatch.setattr(neighbours, "LONG", 1e-9)
    search = neighbours.asked(ExactRows(vectors, allowed), vectors, np.arange(50), 3, told.append)
    next(search)
    assert "50 stars against 50" in told[0]
    assert "mmclip index --add" in told[0]
    assert len(told) == 1
    assert list(itertools.islice(search, 9))
    assert told[-1] == "50 of 50 stars asked"


def test_a_row_a_star_is_written_in_every_format(workspace, tmp_path, capsys):
    words = ["knn", "--target", "teff,class", "--modality", "xp", "--bootstrap", "0"]
    for suffix in (".json", ".csv", ".parquet"):
        file = tmp_path / f"stars{suffix}"
        assert run([*words, "--objects", str(file), "--workspace", str(workspace)]) == 0
    lines = [json.loads(line) for line in (tmp_path / "stars.json").read_text().splitlines()]
    table = pa.parquet.read_table(tmp_path / "stars.parquet")
    assert [int(r["source_id"]) for r in lines] == table["source_id"].to_pylist()
    assert len((tmp_path / "stars.csv").read_text().splitlines()) == len(lines) + 1
    numbers = [r for r in lines if r["target"] == "teff"]
    names = [r for r in lines if r["target"] == "class"]
    known = {"ra", "dec", "phot_g_mean_mag", "class", "teff"}  # what stands beside a star
    told = {"source_id", "target", "view", "truth", "predicted", "half_width", "lower", "upper"}
    assert set(numbers[0]) == told | known
    for row in numbers:
        assert row["lower"] <= row["predicted"] <= row["upper"]
        assert row["upper"] - row["lower"] == pytest.approx(2 * row["half_width"], rel=1e-5)
    assert {"true class", "predicted class", "vote", "set size"} < set(names[0])
    assert len(numbers) + len(names) == len(lines)
