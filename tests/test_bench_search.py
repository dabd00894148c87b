"""The search benchmark: both sides answer alike, and its sizes are FAISS's own."""

import pytest

from mmclip.tasks.bench import BenchConfig, search
from mmclip.vectors import index as indexes

faiss = pytest.importorskip("faiss")


def test_both_sides_give_the_same_neighbours_and_exact_search_all_of_them(monkeypatch):
    monkeypatch.setattr(search, "GROUPS", 20)
    monkeypatch.setattr(search, "DIMENSION", 64)
    rows = search.run(BenchConfig(rows=3000, repeats=1))
    assert [r["name"] for r in rows] == ["exact", "IVF", "HNSW", "refined PQ"]
    assert all(r["same answer"] for r in rows)
    assert rows[0]["recall@10"] == 1.0
    assert all(0 < r["recall@10"] <= 1 for r in rows)


@pytest.mark.parametrize("factory", ["Flat", "IVF16,Flat", "HNSW32,Flat", "IVF16,PQ64,RFlat"])
def test_the_counted_bytes_are_those_that_faiss_writes(factory, monkeypatch):
    monkeypatch.setattr(search, "DIMENSION", 64)
    vectors, _ = search.made(4000, 0)
    written = faiss.serialize_index(indexes.build(vectors, factory).index).nbytes
    assert search.size(factory, len(vectors)) == pytest.approx(written, rel=0.02)
