"""Nearest neighbours through mmclip against plain FAISS on the same index, in turns.

Each kind of index is measured in a process of its own, so that peak memory is that index's. Times
are CPU seconds of all threads of that process: other work on the machine slows both sides, and the
ratio of two calls that follow each other is taken turn by turn.
"""

import time
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mmclip.tasks import search
from mmclip.tasks.bench import Bench, BenchConfig, Line, apart, peak
from mmclip.vectors import index as indexes
from mmclip.vectors import index_cost
from mmclip.vectors.exact import Exact
from mmclip.vectors.store import unit

Rows = NDArray[np.int64]
QUERIES, NEIGHBOURS = 200, 10
GROUPS, SHARED, OWN, NOISE = 2000, 64, 16, 0.05
SLOW = 40  # queries that exact search is timed on: each reads every vector
SAMPLE = 40  # training vectors an inverted list; FAISS warns below 39
PROBES, REACH, REFINE = 32, 64, 8  # nprobe, efSearch, k_factor_rf: not tuned


def made(rows: int, dimension: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """A mixture on the sphere: [rows, dimension] vectors, and queries that are not among them.

    Each of 2,000 groups has a centre in a space of 64 dimensions that all share (so groups overlap)
    and spreads along 16 directions of its own with falling strength, under a little noise; groups
    differ in size as 1 / sqrt(rank). Pure noise would have no neighbours to find, and round clumps
    none that are hard to.
    """
    generator = np.random.default_rng(seed)
    base = generator.standard_normal((min(SHARED, dimension), dimension), np.float32)
    centres = generator.standard_normal((GROUPS, len(base)), np.float32) @ base
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    spread = generator.standard_normal((GROUPS, OWN, dimension), np.float32) / np.sqrt(dimension)
    spread *= (0.5 / np.sqrt(np.arange(1, OWN + 1)))[None, :, None].astype(np.float32)
    share = 1 / np.sqrt(np.arange(1, GROUPS + 1))
    group = np.sort(generator.choice(GROUPS, rows + QUERIES, p=share / share.sum()))
    place = generator.permutation(len(group))
    vectors = np.empty((rows + QUERIES, dimension), np.float32)
    noise = np.float32(NOISE / np.sqrt(dimension))
    for g, start, stop in zip(*_blocks(group), strict=True):
        along = generator.standard_normal((stop - start, OWN), np.float32) @ spread[g]
        rest = noise * generator.standard_normal((stop - start, dimension), np.float32)
        vectors[place[start:stop]] = unit(centres[g] + along + rest)
    return vectors[:rows], vectors[rows:]


def _blocks(group: Rows) -> tuple[Rows, Rows, Rows]:
    """Group, first and last row + 1 of each run of equal values."""
    value, start = np.unique(group, return_index=True)
    return value, np.asarray(start), np.append(start[1:], len(group))


def factories(rows: int, dimension: int) -> dict[str, str]:
    """The kinds of index, sized for so many vectors; see `mmclip.vectors.index_cost.lists`."""
    cells = index_cost.lists(rows)
    near, code = f"nprobe={min(PROBES, cells)}", index_cost.code(dimension, 8)
    return {
        "exact": "Flat",
        "IVF": f"IVF{cells},Flat;{near}",
        "HNSW": f"HNSW16,Flat;efSearch={REACH}",
        "refined PQ": f"IVF{cells},PQ{code}np,RFlat;{near},k_factor_rf={REFINE}",
    }


def turns(work: list[Any], repeats: int) -> tuple[NDArray[np.float64], list[Any]]:
    """CPU seconds [repeats, work] of pieces of work done in turns, and their last answers.

    Every other turn goes backwards, so that none of them always comes after the same one; a turn
    beforehand is not counted.
    """
    answers = [piece() for piece in work]
    seconds = np.empty((repeats, len(work)))
    for turn in range(repeats):
        for i in range(len(work))[:: 1 if turn % 2 == 0 else -1]:
            start = time.process_time()
            answers[i] = work[i]()
            seconds[turn, i] = time.process_time() - start
    return seconds, answers


def overhead(seconds: NDArray[np.float64], plain: int, ours: int) -> tuple[float, float, float]:
    """Median over turns of ours / plain - 1 in per cent, and its lower and upper quartile."""
    ratio = 100 * (seconds[:, ours] / seconds[:, plain] - 1)
    low, middle, high = np.percentile(ratio, (25, 50, 75))
    return float(middle), float(low), float(high)


def run(settings: BenchConfig) -> list[Line]:
    """One row an index: CPU ms a query of plain FAISS, of our index, and of our table of answers.

    `plain` is `faiss.Index.search`; `index` is `mmclip.vectors.index.Faiss.search` on the very same
    index; `table` is all that `mmclip search` does with opened vectors: the same search, the query
    itself left out, a row a neighbour. Recall is against exact search in the same process.
    """
    asked = {
        "rows": settings.rows, "dimension": settings.dimension, "seed": settings.seed,
        "repeats": settings.repeats,
    }  # fmt: skip
    return [
        apart("search", asked | {"name": name})
        for name in factories(settings.rows, settings.dimension)
    ]


def measure(rows: int, dimension: int, seed: int, repeats: int, name: str) -> Line:
    """One line of `run`, of the index `name`, in this process."""
    vectors, queries = made(rows, dimension, seed)
    truth = Exact(vectors).search(queries, NEIGHBOURS)[1]
    factory = factories(rows, dimension)[name]
    before, begun, used = peak(), time.perf_counter(), time.process_time()
    index: Any = indexes.build(vectors, factory, SAMPLE * index_cost.lists(rows))
    built, worked = time.perf_counter() - begun, time.process_time() - used
    ids, everywhere = np.arange(rows, dtype=np.int64), np.arange(rows)
    if factory == "Flat":
        queries, truth = queries[:SLOW], truth[:SLOW]
    count = len(queries)
    who = search.Queries(list(range(count)), queries, np.full(count, -1))

    def table() -> pa.Table:
        near = search.nearest(index, everywhere, who, NEIGHBOURS, None, vectors)
        return search.listed(near, who, ids, "made", "made", "modelled")

    wall = time.perf_counter()
    seconds, (theirs, ours, listed) = turns(
        [
            lambda: index.index.search(queries, NEIGHBOURS),
            lambda: index.search(queries, NEIGHBOURS),
            table,
        ],
        repeats,
    )
    wall = time.perf_counter() - wall
    cpu = np.median(seconds, axis=0) / count
    found = listed["source_id"].to_numpy().reshape(count, -1)
    hits = [len(set(a) & set(b)) for a, b in zip(ours[1].tolist(), truth.tolist(), strict=True)]
    # Codes are scored again by their vectors in the table: there it may only find more.
    refined = sum(len(set(a) & set(b)) for a, b in zip(found.tolist(), truth.tolist(), strict=True))
    listed_alike = refined >= sum(hits) if "PQ" in factory else np.array_equal(ours[1], found)
    library, threads = indexes.backend()
    line: Line = {"name": name, "factory": factory, "plain, ms a query": 1e3 * float(cpu[0])}
    for what, column in (("index", 1), ("table", 2)):
        middle, low, high = overhead(seconds, 0, column)
        line |= {f"{what}, overhead %": middle, f"{what}, quartiles": f"{low:.2f} to {high:.2f}"}
    return line | {
        "queries a CPU second": 1 / float(cpu[1]),
        "recall@10": float(np.mean(hits)) / NEIGHBOURS,
        "same answer": bool(np.array_equal(ours[1], theirs[1]) and listed_alike),
        "MB": index_cost.bytes_of(factory.partition(";")[0], rows, dimension) / 1e6,
        "GiB before": before, "peak GiB": peak(),
        "build CPU s": worked, "build s": built,
        "wall / CPU": wall / (seconds.sum() * (1 + 1 / repeats)),
        "of": f"{rows} x {dimension}, {repeats} turns, {threads} threads, {library}",
    }  # fmt: skip


BENCH = Bench("search", "search through mmclip against plain FAISS", run)
