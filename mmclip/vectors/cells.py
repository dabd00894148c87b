"""Exact search that passes over cells of vectors in which no neighbour can be.

Vectors are put into cells about centres. By the triangle inequality a vector of a cell is no closer
to a query than the centre is, less the cell's radius; where that is farther than the worst of the
neighbours found so far, the cell's products are not made. What is left out could not have changed
the answer. In how many cells that is depends on the vectors: on a surface of few dimensions nearly
all, in noise none, and then all products are made, as they would be without cells.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmclip import compiled

SIZE = 512  # vectors of a cell, about
SAMPLE, ROUNDS = 30, 4  # vectors a cell that centres are learnt from, and rounds of k-means
ASKED = 8192  # queries at a time
TILE = 512  # queries of a product with a cell: it stays in a core's cache
NEAREST = 3  # cells that each query looks into before any is left out
ROUNDING = 4e-6  # of products and bounds in float32, relative


@dataclass(frozen=True)
class Cells:
    """Vectors sorted by cell.

    Attributes:
        vectors: [rows, dim] float32, finite.
        numbers: [rows] of each vector.
        edges: [cells + 1] first row of each cell.
        centres: [cells, dim] float32.
        radius: [cells] largest distance of a vector from its centre.
        longest: [cells] largest squared length of a vector.
    """

    vectors: NDArray[np.float32]
    numbers: NDArray[np.int64]
    edges: NDArray[np.int64]
    centres: NDArray[np.float32]
    radius: NDArray[np.float32]
    longest: NDArray[np.float32]


def made(numbers: NDArray[np.int64], vectors: NDArray[np.float32]) -> Cells:
    """Finite vectors [rows, dim], at least one, in cells of about `SIZE`; the same each time."""
    count = -(-len(vectors) // SIZE)
    drawn = np.random.default_rng(0).permutation(len(vectors))[: count * SAMPLE]
    sample = np.ascontiguousarray(vectors[drawn])
    centres = sample[:count].copy()
    for _ in range(ROUNDS):
        of = _cell(sample, centres)
        order = np.argsort(of, kind="stable")
        held, first = np.unique(of[order], return_index=True)
        total = np.add.reduceat(sample[order], first)
        centres[held] = total / np.diff(first, append=len(sample))[:, None]
    of = _cell(vectors, centres)
    order = np.argsort(of, kind="stable")
    held, first = np.unique(of[order], return_index=True)
    vectors, centres = vectors[order], centres[held]
    away = vectors - centres[np.searchsorted(held, of[order])]
    return Cells(
        vectors, numbers[order], np.append(first, len(vectors)), centres,
        np.sqrt(np.maximum.reduceat(np.einsum("ij,ij->i", away, away), first)),
        np.maximum.reduceat(np.einsum("ij,ij->i", vectors, vectors), first),
    )  # fmt: skip


def _cell(vectors: NDArray[np.float32], centres: NDArray[np.float32]) -> NDArray[np.int64]:
    """The centre that each vector is closest to."""
    half = np.einsum("ij,ij->i", centres, centres) / 2
    starts = range(0, len(vectors), ASKED)
    return np.concatenate([(vectors[i : i + ASKED] @ centres.T - half).argmax(1) for i in starts])


def update(
    queries: NDArray[np.float32],
    numbers: NDArray[np.int64],
    vectors: NDArray[np.float32],
    scores: NDArray[np.float32],
    rows: NDArray[np.int64],
) -> bool:
    """Put into the best so far those of a block that are better.

    Args:
        queries: [queries, dim].
        numbers, vectors: Of the block: [rows], [rows, dim]; a row of NaN is none.
        scores, rows: [queries, k] inner products and numbers of the best so far, best first, of
            equal ones the lower number; -inf and -1 where there is none. They are written to.

    Returns:
        False, and nothing is done, if numba is absent.
    """
    from threadpoolctl import threadpool_limits

    keep = compiled.keep_best()
    if keep is None:
        return False
    seen = np.isfinite(vectors[:, 0])
    if not seen.any():
        return True

    def ask(start: int) -> None:
        some = slice(start, start + ASKED)
        _ask(keep, cells, queries[some], scores[some], rows[some])

    with threadpool_limits(1, "blas"), ThreadPoolExecutor(compiled.threads()) as pool:
        cells = made(numbers[seen], vectors[seen])
        list(pool.map(ask, range(0, len(queries), ASKED)))
    return True


def _ask(
    keep: Callable[..., None],
    cells: Cells,
    queries: NDArray[np.float32],
    scores: NDArray[np.float32],
    rows: NDArray[np.int64],
) -> None:
    """See `update`."""

    def look(cell: int, asking: NDArray[np.int64]) -> None:
        here = slice(cells.edges[cell], cells.edges[cell + 1])
        for start in range(0, len(asking), TILE):
            some = asking[start : start + TILE]
            product = queries[some] @ cells.vectors[here].T
            keep(product, some, cells.numbers[here], scores, rows)

    bound, near = _bounds(cells, queries)
    for cell in range(len(bound)):
        look(cell, np.flatnonzero((near == cell).any(axis=0)))
    for cell in range(len(bound)):
        look(cell, np.flatnonzero(bound[cell] >= scores[:, -1]))


def _bounds(
    cells: Cells, queries: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """[cells, queries] that no product is larger than; the nearest cells, where that is NaN."""
    length = np.einsum("ij,ij->i", queries, queries)
    squared = cells.centres @ queries.T
    squared *= -2
    squared += np.einsum("ij,ij->i", cells.centres, cells.centres)[:, None]
    squared += length
    count = min(NEAREST, len(squared))
    near = np.argpartition(squared, count - 1, axis=0)[:count]
    least = np.sqrt(np.maximum(squared, 0, out=squared), out=squared)
    least -= cells.radius[:, None]
    np.maximum(least, 0, out=least)
    bound = np.square(least, out=least)
    bound *= -0.5
    bound += (1 + ROUNDING) / 2 * (length + cells.longest[:, None])
    np.put_along_axis(bound, near, np.nan, 0)
    return bound, near
