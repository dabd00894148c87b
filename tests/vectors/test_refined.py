"""Neighbours in the order of their true angles, whatever float32 or codes say of them."""

import numpy as np
import pytest

from mmclip import artifacts
from mmclip.datasets import memmap
from mmclip.errors import MmclipError
from mmclip.tasks.cluster import silhouette
from mmclip.tasks.search import Queries, nearest
from mmclip.vectors import exact
from mmclip.vectors.exact import Exact, ExactRows, refined


def at_angles(angles, dim=64, seed=0):
    """Unit vectors at these angles (radians) from the first axis, in random directions."""
    rng = np.random.default_rng(seed)
    around = rng.normal(size=(len(angles), dim))
    around[:, 0] = 0
    around /= np.linalg.norm(around, axis=1, keepdims=True)
    vectors = np.sin(angles)[:, None] * around
    vectors[:, 0] = np.cos(angles)
    return vectors.astype(np.float32)


def test_near_identical_vectors_keep_their_order():
    # At 3e-4 rad 1 - cos is 4.5e-8, less than float32 tells from 0.
    angles = np.random.default_rng(1).permutation(np.linspace(1e-5, 3e-4, 400))
    vectors, query = at_angles(angles), at_angles(np.zeros(1))
    truth = np.argsort(angles)[:10]
    coarse = Exact(vectors).search(query, 10)[1][0]
    assert not np.array_equal(coarse, truth)
    scores, rows = ExactRows(vectors, np.ones(400, bool)).search(query, 10)
    np.testing.assert_array_equal(rows[0], truth)
    np.testing.assert_allclose(np.arccos(scores[0]), np.sort(angles)[:10], rtol=0.02)


def test_radius_0_finds_every_twin():
    rng = np.random.default_rng(2)
    vectors = rng.normal(size=(50, 33)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors = np.concatenate([vectors, vectors])
    who = Queries(list(range(100)), vectors, np.arange(100))
    for k in (None, 5):
        found = nearest(Exact(vectors), np.arange(100), who, k, 0.0, vectors)
        np.testing.assert_array_equal(found.query, np.arange(100))
        np.testing.assert_array_equal(found.row, (np.arange(100) + 50) % 100)
        assert (found.cosine == 1).all()


class Codes:
    """A quantised index: it names fitting candidates and scores them wrongly."""

    def __init__(self, vectors):
        self.vectors = vectors

    def search(self, queries, k):
        scores, rows = Exact(np.round(self.vectors * 3) / 3).search(queries, k)
        return scores + np.float32(0.4), rows


def test_the_cosine_is_that_of_the_vectors_and_not_of_codes():
    rng = np.random.default_rng(3)
    vectors = rng.normal(size=(300, 16)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    who = Queries(list(range(20)), vectors[:20], np.arange(20))
    found = nearest(Codes(vectors), np.arange(300), who, 5, None, vectors)
    true = np.einsum("ij,ij->i", vectors[found.row].astype(float), vectors[found.query])
    np.testing.assert_allclose(found.cosine, true, atol=1e-6)
    for query in range(20):
        assert (np.diff(found.cosine[found.query == query]) <= 0).all()
    inside = nearest(Codes(vectors), np.arange(300), who, 5, 0.3, vectors)
    assert (1 - inside.cosine <= 0.3).all()


def test_a_search_for_more_than_there_are_is_padded():
    vectors = at_angles(np.array([0.1, 0.2]))
    scores, rows = refined(Exact(vectors).search, vectors, vectors, 5, 2)
    assert rows.tolist() == [[0, 1, -1, -1, -1], [1, 0, -1, -1, -1]]
    assert np.isneginf(scores[:, 2:]).all()


@pytest.mark.parametrize("seed", range(5))
def test_a_small_group_is_in_every_draw_of_the_silhouette(seed):
    from sklearn.metrics import silhouette_score

    rng = np.random.default_rng(9)
    points = np.concatenate([rng.normal(size=(3000, 3)), 40 + rng.normal(size=(3, 3))])
    labels = np.repeat([0, 1], [3000, 3])
    whole = silhouette_score(points, labels)
    assert abs(silhouette(points, labels, seed, most=200) - whole) < 0.01
    assert np.isnan(silhouette(points, np.zeros(len(points), int), seed))


def test_a_file_of_an_artefact_is_not_written_over(tmp_path):
    folder = tmp_path / "a"
    folder.mkdir()
    (folder / "x.csv").write_text("1")
    artifacts.seal(folder, "raw", config={}, parents=[], rows={}, surveys=[], provenance={},
                   seed=None)  # fmt: skip
    for name in ("x.csv", "manifest.json"):
        with (
            pytest.raises(MmclipError, match="never changed"),
            artifacts.whole(folder / name) as part,
        ):
            part.write_text("2")
    with artifacts.whole(folder.parent / "x.csv") as part:
        part.write_text("2")
    assert artifacts.verify(artifacts.read(folder))


def by_numpy(vectors, queries, k):
    """Scores and rows of the k largest products in double precision; NaN is never found."""
    product = np.nan_to_num(queries.astype(float) @ vectors.T.astype(float), nan=-2.0)
    order = np.argsort(-product, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(product, order, 1), order


@pytest.mark.parametrize("compiled", [True, False])
def test_many_queries_at_once_find_what_products_in_double_precision_say(compiled, monkeypatch):
    monkeypatch.setattr(exact, "PAIRS", 0 if compiled else 2**60)
    monkeypatch.setattr(exact.cells, "SIZE", 16)
    monkeypatch.setattr(memmap, "BLOCK", 4 * 8 * 64)  # more blocks than one
    monkeypatch.setattr(memmap.tables, "GROUP", 64)
    vectors = np.random.default_rng(5).normal(size=(200, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    queries = vectors[:40].copy()
    vectors[[3, 70, 199]] = np.nan
    scores, rows = Exact(vectors).search(queries, 6)
    product, order = by_numpy(vectors, queries, 6)
    assert np.array_equal(rows, order)
    np.testing.assert_allclose(scores, product, atol=1e-6)
    among = np.flatnonzero(np.arange(200) % 7 < 2)
    alone, here = Exact(vectors[among]).search(queries, 6), Exact(vectors, among).search(queries, 6)
    for one, other in zip(alone, here, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    few = Exact(vectors, among).search(queries[:3], 6)
    assert np.array_equal(few[1], here[1][:3])
    scores, rows = Exact(vectors[:5]).search(queries, 6)
    assert ((rows < 0) == np.isneginf(scores)).all()
    assert ((rows >= 0).sum(axis=1) == 4).all()


@pytest.mark.parametrize("length", [1.0, 30.0])
@pytest.mark.parametrize("family", ["a curve", "noise", "few and equal", "far queries"])
def test_cells_that_are_left_out_hold_no_neighbour(family, length, monkeypatch):
    rng = np.random.default_rng(7)
    asked = slice(0, 60)
    if family == "a curve":
        angle = rng.uniform(0, 2 * np.pi, 900)[:, None] * np.arange(1, 7)
        vectors = np.hstack([np.cos(angle), np.sin(angle)])
    elif family == "few and equal":
        vectors = rng.integers(0, 3, (900, 12)) + 1.0
        vectors[100:] = vectors[rng.integers(0, 9, 800)]
    else:
        vectors = rng.normal(size=(900, 12))
    vectors *= length / np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors = vectors.astype(np.float32)
    queries = (
        -vectors[asked].mean(0) - vectors[asked] if family == "far queries" else vectors[asked]
    )
    made, keep = [], exact.cells.compiled.keep_best()
    monkeypatch.setattr(
        exact.cells.compiled, "keep_best",
        lambda: lambda product, *given: (made.append(product.size), keep(product, *given)),
    )  # fmt: skip
    monkeypatch.setattr(exact.cells, "SIZE", 20)
    monkeypatch.setattr(exact, "PAIRS", 0)
    scores, rows = Exact(vectors).search(queries, 9)
    product, _ = by_numpy(vectors, queries, 9)
    np.testing.assert_allclose(scores, product, rtol=1e-5, atol=2e-6 * length**2)
    of = np.einsum("qd,qkd->qk", queries.astype(float), vectors[rows].astype(float))
    np.testing.assert_allclose(of, product, rtol=1e-5, atol=2e-6 * length**2)
    assert all(len(set(row)) == 9 for row in rows.tolist())
    same = scores[:, 1:] == scores[:, :-1]
    assert (np.diff(rows, axis=1)[same] > 0).all()  # of equal ones the lower row goes first
    assert (sum(made) < 0.5 * 60 * 900) == (family in ("a curve", "few and equal"))
