"""The search benchmark: both sides answer alike, its vectors have structure."""

import numpy as np
import pytest

from mmclip.tasks.bench import BenchConfig, search
from mmclip.vectors import index as indexes

faiss = pytest.importorskip("faiss")


def test_both_sides_give_the_same_neighbours_and_exact_search_all_of_them(monkeypatch):
    monkeypatch.setattr(search, "apart", lambda name, asked: search.measure(**asked))
    rows = search.run(BenchConfig(rows=3000, repeats=2, dimension=64))
    assert [r["name"] for r in rows] == ["exact", "IVF", "HNSW", "refined PQ"]
    assert all(r["same answer"] for r in rows)
    assert rows[0]["recall@10"] == 1.0
    assert all(0.5 < r["recall@10"] <= 1 for r in rows)


def test_made_vectors_are_a_mixture_on_the_sphere_and_no_noise():
    vectors, queries = search.made(5000, 128, 1)
    assert vectors.shape == (5000, 128)
    assert queries.shape == (search.QUERIES, 128)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    best = (queries @ vectors.T).max(axis=1)
    assert best.max() < 1 - 1e-6  # no query is among them
    # The cosine of unrelated directions has deviation 1 / sqrt(128): the largest of 5,000 is 0.35.
    assert np.median(best) > 0.6


def test_the_overhead_is_the_median_of_ratios_turn_by_turn():
    # A disturbance that slows both calls of a turn does not move it.
    seconds = np.array([[1.0, 1.02], [5.0, 5.1], [2.0, 2.04], [1.0, 3.0]])
    middle, _, high = search.overhead(seconds, 0, 1)
    assert middle == pytest.approx(2.0)
    assert high > 2


def test_work_in_turns_changes_its_order():
    done = []
    seconds, answers = search.turns([lambda: done.append("a"), lambda: done.append("b")], 2)
    assert done == ["a", "b", "a", "b", "b", "a"]
    assert seconds.shape == (2, 2)
    assert len(answers) == 2


def test_an_index_trained_on_a_sample_holds_all_vectors():
    vectors, _ = search.made(4000, 64, 0)
    index = indexes.build(vectors, "IVF16,Flat;nprobe=16", 1000)
    assert index.index.ntotal == 4000
    found = index.search(vectors[:50], 1)[1][:, 0]
    np.testing.assert_array_equal(found, np.arange(50))
