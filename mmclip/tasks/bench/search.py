"""Nearest neighbours through mmclip against plain FAISS on the same index, in turns."""

import resource
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmclip.tasks.bench import Bench, BenchConfig
from mmclip.vectors import index as indexes
from mmclip.vectors.store import unit

DIMENSION, QUERIES, NEIGHBOURS, GROUPS = 512, 200, 10, 2000


def made(rows: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Unit vectors in clumps, as embeddings are, and queries that are not among them."""
    generator = np.random.default_rng(seed)
    centres = generator.standard_normal((GROUPS, DIMENSION), np.float32)
    vectors = np.empty((rows + QUERIES, DIMENSION), np.float32)
    for start in range(0, len(vectors), 50_000):  # never twice the whole in memory
        part = slice(start, min(start + 50_000, len(vectors)))
        count = part.stop - part.start
        mine = centres[generator.integers(0, GROUPS, count)]
        vectors[part] = unit(mine + generator.standard_normal((count, DIMENSION), np.float32))
    return vectors[:rows], vectors[rows:]


def factories(rows: int) -> dict[str, str]:
    """The kinds of index, sized for so many vectors: 4 sqrt(n) cells, a power of two."""
    cells = 1 << max(2, round(np.log2(4 * np.sqrt(rows))))
    return {
        "exact": "Flat",
        "IVF": f"IVF{cells},Flat;nprobe={max(1, cells // 64)}",
        "HNSW": "HNSW32,Flat;efSearch=128",
        "refined PQ": f"IVF{cells},PQ64,RFlat;nprobe={max(1, cells // 64)},k_factor_rf=16",
    }


def _fastest(work: list[Any], repeats: int) -> tuple[list[float], list[Any]]:
    """Wall seconds of each piece of work, the best of several, run in turns."""
    best, answers = [float("inf")] * len(work), [None] * len(work)
    for turn in range(repeats):
        order = range(len(work)) if turn % 2 == 0 else reversed(range(len(work)))
        for i in order:
            start = time.perf_counter()
            answers[i] = work[i]()
            best[i] = min(best[i], time.perf_counter() - start)
    return best, answers


def run(settings: BenchConfig) -> list[dict[str, Any]]:
    """One row an index: milliseconds a query, ours and FAISS's own; recall@10; bytes; build time.

    `ours` is `mmclip.vectors.index.Faiss.search`, which is what every command calls; `reference`
    is `faiss.Index.search` on the very same index and queries. Time is wall time of all threads
    that FAISS takes (OMP_NUM_THREADS), since that is what a user waits for.
    """
    library, threads = indexes.backend()
    vectors, queries = made(settings.rows, settings.seed)
    truth: NDArray[np.int64] | None = None
    lines = []
    for name, factory in factories(settings.rows).items():
        begun = time.perf_counter()
        index: Any = indexes.build(vectors, factory)
        built = time.perf_counter() - begun
        plain, wrapped = index.index, index
        seconds, (theirs, ours) = _fastest(
            [
                lambda p=plain: p.search(queries, NEIGHBOURS),
                lambda w=wrapped: w.search(queries, NEIGHBOURS),
            ],
            settings.repeats,
        )
        found = ours[1]
        truth = found if truth is None else truth
        hits = [len(set(a) & set(b)) for a, b in zip(found.tolist(), truth.tolist(), strict=True)]
        lines.append(
            {
                "name": name, "factory": factory, "unit": "ms a query",
                "ours": 1e3 * seconds[1] / QUERIES, "reference": 1e3 * seconds[0] / QUERIES,
                "overhead %": 100 * (seconds[1] / seconds[0] - 1),
                "queries a second": QUERIES / seconds[1],
                "recall@10": float(np.mean(hits)) / NEIGHBOURS,
                "same answer": bool(np.array_equal(ours[1], theirs[1])),
                "MB": size(factory, len(vectors)) / 1e6,
                "build s": built,
                "peak MB so far": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
                "against": f"{library}, same index", "threads": threads, "rows": settings.rows,
            }
        )  # fmt: skip
        del index, plain, wrapped
    return lines


def size(factory: str, rows: int) -> float:
    """Bytes of an index, counted: to serialise a large one would double the memory.

    float32 vectors 4 d; IVF adds an 8-byte id, its centroids 4 d each; PQ64 64 bytes a vector and
    its codebook 256 x 4 d; HNSW32 2 x 32 links of 4 bytes on the lowest level and the vectors.
    """
    flat = 4.0 * DIMENSION * rows
    if factory == "Flat":
        return flat
    if factory.startswith("HNSW"):
        return flat + rows * (64 * 4 * 1.032 + 12)  # upper levels add 1/32
    cells = int(factory[3 : factory.index(",")])
    ids = 8.0 * rows + 4.0 * DIMENSION * cells
    if "PQ" in factory:
        return flat + ids + 64.0 * rows + 256 * 4 * DIMENSION
    return flat + ids


BENCH = Bench("search", "search through mmclip against plain FAISS", run)
