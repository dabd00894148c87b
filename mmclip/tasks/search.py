"""The stars most like the given ones: within a view, across views, or alike in one and not in
another."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmclip.errors import NotFound, UsageError
from mmclip.tasks.neighbours import observed
from mmclip.vectors import index as indexes
from mmclip.vectors.exact import Exact
from mmclip.vectors.store import Store

Row = dict[str, Any]


@dataclass(frozen=True)
class Queries:
    """Who is asked for.

    Attributes:
        names: source_id, or a text for an object that is not in the store.
        vectors: [queries, dim] unit vectors of the view asked from.
        rows: [queries] row of the store, -1 for an object that is not in it.
        contrast: [queries, dim] vectors of the view to differ in, or None.
    """

    names: list[int | str]
    vectors: NDArray[np.float32]
    rows: NDArray[np.int64]
    contrast: NDArray[np.float32] | None = None


def stored(store: Store, ids: list[int], start: str, contrast: str | None = None) -> Queries:
    """Stars of the store as queries.

    Raises:
        NotFound: If an id is not there or was not observed in `start` (or in `contrast`).
    """
    rows = store.rows(ids)
    found = {}
    for view in (start, contrast):
        if view is None:
            continue
        found[view] = store.vectors(view)[rows]
        missing = ~np.isfinite(found[view][:, 0])
        if missing.any():
            others = [m for m in store.modalities if m != view]
            raise NotFound(
                f"source_id {ids[int(np.argmax(missing))]} was not observed in {view}",
                f"--from one of: {', '.join([*others, 'mean'])}",
            )
    return Queries(list(ids), found[start], rows, found[contrast] if contrast else None)


def example(store: Store, start: str) -> int:
    """The first star of the test split that was observed in a view; else of any, or the first."""
    seen = observed(store.vectors(start))
    for rows in (np.flatnonzero(seen & store.of("test")), np.flatnonzero(seen)):
        if len(rows):
            return int(store.source_id[rows[0]])
    return int(store.source_id[0])


def search(
    store: Store,
    ids: list[int],
    start: str,
    to: str,
    k: int | None = 10,
    radius: float | None = None,
    contrast: str | None = None,
    only: NDArray[np.bool_] | None = None,
) -> list[Row]:
    """The k nearest stars of each stored query by cosine; the query itself is left out.

    Args:
        store: Vectors with an index.
        ids: source_ids of the queries.
        start: View of the query; `mean` is the average of the views a star has.
        to: View of the answers.
        k: Answers a query; None for all within the radius.
        radius: Largest cosine distance, or None.
        contrast: See `answers`.
        only: [stars] True for the stars that may be answers; None for all.

    Raises:
        NotFound: If an id is not there or was not observed in `start`.
    """
    return answers(
        store, stored(store, ids, start, contrast), start, to, k, radius, contrast, only
    )  # fmt: skip


def answers(
    store: Store,
    queries: Queries,
    start: str,
    to: str,
    k: int | None = 10,
    radius: float | None = None,
    contrast: str | None = None,
    only: NDArray[np.bool_] | None = None,
    index: indexes.Index | None = None,
) -> list[Row]:
    """One row a query and answer, best first: `query_id`, `rank`, `source_id`, `cosine`, views.

    With `contrast` the k nearest are reordered: first the one that is least similar to the query
    in that other view; those that were not observed in it are left out. An `index` over rows of
    the store (`mmclip.vectors.sharded`, `mmclip.tasks.torch_search`) stands in for the store's own;
    with a condition or without a number of answers the search is exact all the same.

    Source:
        Contrast search: Rizhko & Bloom 2025, arXiv:2411.08842, similarity search.
    """
    if k is None and radius is None:
        raise UsageError("a search needs a number of answers or a radius", "-k 10")
    found = _nearest(store, queries, to, k, radius, only, index)
    provenance = store.artifact.manifest.provenance.get(to, "observed")
    if contrast is None:
        return listed(found, queries, store.source_id, start, to, provenance)
    assert queries.contrast is not None
    other = store.vectors(contrast)
    value = np.einsum("ad,ad->a", other[found.row], queries.contrast[found.query])
    order = np.lexsort((value, found.query))  # stable: ties stay in order of their cosine
    order = order[np.isfinite(value[order])]
    found = Near(found.query[order], found.row[order], found.cosine[order])
    made = listed(found, queries, store.source_id, start, to, provenance)
    for row, unlike in zip(made, value[order].tolist(), strict=True):
        row[f"cosine {contrast}"] = unlike
    return made


@dataclass(frozen=True)
class Near:
    """Neighbours of several queries, one after another, best first.

    Attributes:
        query: [answers] number of the query, ascending.
        row: [answers] of the store.
        cosine: [answers] float32.
    """

    query: NDArray[np.int64]
    row: NDArray[np.int64]
    cosine: NDArray[np.float32]


def listed(
    found: Near, queries: Queries, source_id: NDArray[np.int64], start: str, to: str, how: str
) -> list[Row]:
    """One row a query and neighbour: see `answers`.

    Args:
        found: See `nearest`.
        queries: Who was asked for.
        source_id: [stars] of the store.
        start, to, how: Views asked from and answered in, and the provenance of the latter.
    """
    first = np.searchsorted(found.query, found.query)  # of the same query
    rank = np.arange(1, len(first) + 1) - first
    columns = (found.query, rank, source_id[found.row], found.cosine)
    names = queries.names
    return [
        {"query_id": names[query], "rank": rank, "source_id": star, "cosine": cosine,
         "from": start, "to": to, "provenance": how}
        for query, rank, star, cosine in zip(*(c.tolist() for c in columns), strict=True)
    ]  # fmt: skip


def _nearest(
    store: Store,
    queries: Queries,
    to: str,
    k: int | None,
    radius: float | None,
    only: NDArray[np.bool_] | None,
    index: indexes.Index | None,
) -> Near:
    """See `nearest`; the index over the stars that may be answers is opened or made."""
    if queries.vectors.shape[1] != store.dimension:
        raise UsageError(
            f"the query has {queries.vectors.shape[1]} dimensions, the store {store.dimension}",
            "embed it with the run that made the vectors",
        )
    if only is None and k is not None:
        given = (index, np.arange(len(store.source_id))) if index else None
        index, behind = given or store.index(to)
    else:
        vectors = store.vectors(to)
        allowed = np.isfinite(vectors[:, 0])
        if only is not None:
            allowed &= only
        behind = np.flatnonzero(allowed)
        index = Exact(np.ascontiguousarray(vectors[behind]))
    if len(behind) == 0:
        raise NotFound(f"no star observed in {to} satisfies the conditions", "a wider --where")
    return nearest(index, behind, queries, k, radius)


def nearest(
    index: indexes.Index,
    behind: NDArray[np.int64],
    queries: Queries,
    k: int | None,
    radius: float | None,
) -> Near:
    """Neighbours of each query, the query itself left out.

    Args:
        index: Asked for neighbours.
        behind: [entries] row of the store behind each entry of the index; at least one.
        queries: Who is asked for.
        k: Answers a query; None for all within the radius.
        radius: Largest cosine distance, or None.
    """
    itself = int((queries.rows >= 0).any())  # one more, where a query may find itself
    take = len(behind) if k is None else min(k + itself, len(behind))
    scores, found = index.search(queries.vectors, take)
    rows = behind[found]  # -1 is the last one: left out below
    keep = (found >= 0) & (rows != queries.rows[:, None])
    if radius is not None:
        keep &= 1 - scores <= radius
    if k is not None:
        keep &= np.cumsum(keep, axis=1) <= k
    return Near(np.nonzero(keep)[0], rows[keep], scores[keep])


def recall(store: Store, split: str = "test") -> list[Row]:
    """Cross-modal retrieval on a split, every ordered pair of views.

    Returns:
        One row a direction: recall@1/5/10 and median rank of the true partner among all
        candidates of the split, with the chance level k / candidates. Ties count as worse.

    Source:
        The rank definition: docs/commands/search.md.
    """
    answers = []
    for start in store.modalities:
        for to in store.modalities:
            if start == to:
                continue
            a, b = store.vectors(start), store.vectors(to)
            both = np.isfinite(a[:, 0]) & np.isfinite(b[:, 0]) & store.of(split)
            rank = ranks(a[both], b[both])
            if len(rank) == 0:
                continue
            row: Row = {"direction": f"{start} -> {to}", "candidates": len(rank)}
            for k in (1, 5, 10):
                row[f"recall@{k}"] = float((rank <= k).mean())
                row[f"chance@{k}"] = min(1.0, k / len(rank))
            row["median rank"] = float(np.median(rank))
            answers.append(row)
    return answers


def ranks(queries: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """Rank (1 is best) of candidate i for query i among all candidates, by inner product."""
    found = np.empty(len(queries), np.int64)
    for start in range(0, len(queries), 1024):
        scores = queries[start : start + 1024] @ candidates.T
        own = scores[np.arange(len(scores)), start + np.arange(len(scores))]
        found[start : start + 1024] = (scores >= own[:, None]).sum(axis=1)
    return found
