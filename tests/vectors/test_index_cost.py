"""The plan's bytes are FAISS's own, its shape is that of the theory."""

import json

import numpy as np
import pytest

from mmclip.cli import run
from mmclip.vectors import index_cost


@pytest.mark.parametrize("factory", ["Flat", "HNSW32,Flat", "IVF64,Flat", "IVF64,PQ8",
                                     "IVF64,PQ8,RFlat"])  # fmt: skip
@pytest.mark.parametrize("dimension", [32, 128])
def test_the_bytes_are_those_of_a_real_index(factory, dimension):
    faiss = pytest.importorskip("faiss")
    vectors = np.random.default_rng(0).normal(size=(10_000, dimension)).astype(np.float32)
    index = faiss.index_factory(dimension, factory, faiss.METRIC_INNER_PRODUCT)
    inverted = faiss.try_extract_index_ivf(index)
    coded = None if inverted is None else faiss.downcast_index(inverted)
    if hasattr(coded, "do_polysemous_training"):
        coded.do_polysemous_training = False
    index.train(vectors[:1000])  # the bytes do not depend on how good the codes are
    index.add(vectors)
    real = faiss.serialize_index(index).nbytes
    assert index_cost.bytes_of(factory, len(vectors), dimension) == pytest.approx(real, rel=0.01)


def test_219_million_vectors_of_32_are_28_gb():
    # 219e6 x 32 x 4 bytes.
    assert index_cost.bytes_of("Flat", 219_000_000, 32) == 28_032_000_000


@pytest.mark.parametrize("count", [10**3, 10**6, 219_000_000, 10**12])
def test_lists_are_a_power_of_two_near_four_roots(count):
    k = index_cost.lists(count)
    assert k & (k - 1) == 0
    assert k == 2**20 or 0.7 <= k / (4 * np.sqrt(count)) <= 1.45


def test_the_command_plans_for_numbers_and_for_the_vectors_at_hand(trained, capsys):
    w = ["--workspace", str(trained)]
    assert run(["index", "--plan", "--rows", "1000000", "--dimension", "64", "--json", *w]) == 0
    rows = [json.loads(x) for x in capsys.readouterr().out.splitlines()]
    assert rows[0]["factory"] == "Flat"
    assert rows[0]["GB"] == pytest.approx(0.256)
    assert all(r["one query, ms at least"] < rows[0]["one query, ms at least"] for r in rows[1:])
    assert run(["index", "--plan", *w]) == 0
    assert "400 vectors of 128" in capsys.readouterr().out
    assert run(["index", "--json", *w]) == 0
    assert capsys.readouterr().out.count("Flat") == 2
    assert run(["index", "--rows", "5", *w]) == 2


@pytest.mark.parametrize("dimension", [1, 7, 30, 32, 50, 127, 512])
def test_codes_divide_the_dimension_as_faiss_asks(dimension):
    assert dimension % index_cost.code(dimension) == 0
    assert index_cost.code(dimension) >= min(8, dimension)


@pytest.mark.parametrize("count", [1, 3, 50])
def test_there_are_no_more_lists_than_vectors(count):
    assert 1 <= index_cost.lists(count) <= count
    for line in index_cost.plan(count, 30, index_cost.Rates(1e9, 1e9)):
        assert line["a query reads, MB"] >= 0
