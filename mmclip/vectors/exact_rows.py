"""Neighbours among some rows of vectors that are held or mapped: a block at a time, none copied."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmclip.vectors.index import Exact, have_faiss
from mmclip.vectors.sharded import Parts, merge

BLOCK = 16 * 2**20  # bytes of vectors that are compared with the queries at a time
FARTHEST = 64  # times k: beyond so many candidates of an index the search is exact
Find = Callable[[NDArray[np.float32], NDArray[np.float32], int], tuple[NDArray, NDArray]]


def cosines(
    queries: NDArray[np.float32], block: NDArray[np.float32], k: int
) -> tuple[NDArray, NDArray]:
    """Scores and rows [queries, k] of the vectors of a block with the largest inner products."""
    if not have_faiss():
        return Exact(block).search(queries, k)
    import faiss

    return faiss.knn(queries, block, k, metric=faiss.METRIC_INNER_PRODUCT)


@dataclass(frozen=True)
class Among:
    """The rows of a matrix that may be neighbours; see `mmclip.vectors.index.Index`.

    Blocks and their order depend on the matrix's shape alone, so vectors mapped from the disk have
    the neighbours of the same vectors in memory, ties included: of equal scores the lower row goes
    first, and within a block FAISS decides which of them are kept.

    Attributes:
        vectors: [objects, dim].
        allowed: [objects] True for those that may be found; finite ones alone.
        index: An index in parts over `vectors` that is asked instead; None: exact. Its candidates
            are scored by their vectors. A query for which it finds fewer than k is asked exactly.
        find: How a block is searched; a higher score is nearer.
    """

    vectors: NDArray[np.float32]
    allowed: NDArray[np.bool_]
    index: Parts | None = None
    find: Find = cosines

    def search(self, queries: NDArray[np.float32], k: int) -> tuple[NDArray, NDArray]:
        """Scores and rows of `vectors` [queries, k], best first; row -1 where there are fewer."""
        queries = np.ascontiguousarray(queries, np.float32)
        if self.index is None:
            return self._exactly(queries, k)
        count = int(self.allowed.sum())
        entries = sum(len(rows) for rows in self.index.rows)
        take = int(np.ceil(1.1 * k * entries / max(count, 1))) + 4
        if take > FARTHEST * k:
            return self._exactly(queries, k)
        scores, rows = self._candidates(self.index, queries, min(take, entries), k)
        lacking = rows[:, min(k, count) - 1] < 0
        if lacking.any():
            scores[lacking], rows[lacking] = self._exactly(queries[lacking], k)
        return scores, rows

    def _exactly(self, queries: NDArray[np.float32], k: int) -> tuple[NDArray, NDArray]:
        scores, rows = np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), int)
        step = max(BLOCK // (4 * self.vectors.shape[1]), 1)
        for start in range(0, len(self.vectors), step):
            mine = start + np.flatnonzero(self.allowed[start : start + step])
            if len(mine) == 0:
                continue
            value, near = self.find(queries, self.vectors[mine], min(k, len(mine)))
            value, near = np.concatenate([scores, value], 1), np.concatenate([rows, mine[near]], 1)
            scores, rows = merge(value, near, k)
        return merge(scores, rows, k)

    def _candidates(
        self, index: Parts, queries: NDArray[np.float32], take: int, k: int
    ) -> tuple[NDArray, NDArray]:
        """The best k of those that the index names, by the products of the vectors themselves."""
        scores, rows = np.empty((len(queries), k), np.float32), np.empty((len(queries), k), int)
        step = max(BLOCK // (8 * take * self.vectors.shape[1]), 1)
        for start in range(0, len(queries), step):
            some = slice(start, start + step)
            found = index.search(queries[some], take)[1]
            value = np.einsum("qkd,qd->qk", self.vectors[found], queries[some])
            value[(found < 0) | ~self.allowed[found]] = -np.inf
            found[np.isneginf(value)] = -1
            scores[some], rows[some] = merge(value, found, k)
        return scores, rows
