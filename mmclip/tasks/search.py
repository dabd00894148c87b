"""The stars most like the given ones: in a view, across views, or alike in one and not another."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mmclip import cuts
from mmclip.arrays import column, need, taken
from mmclip.artifacts.workspace import Workspace
from mmclip.datasets.build import Dataset
from mmclip.errors import NotFound, UsageError
from mmclip.ids import rows_of
from mmclip.results import Result, Row, Value, from_rows, from_table
from mmclip.tasks.neighbours import observed
from mmclip.vectors import sharded
from mmclip.vectors.exact import CLOSE, Exact, Found, Index, refined
from mmclip.vectors.store import Store

COLUMNS = {
    "query_id": ("", "the star asked for, or the name of a new object"),
    "rank": ("", "1 is the most similar"),
    "source_id": ("", "Gaia DR3 source_id of the answer"),
    "cosine": ("", "cosine similarity of query and answer"),
    "cosine *": ("", "cosine similarity in the view of --contrast"),
    "from": ("", "view of the query"),
    "to": ("", "view of the answer"),
    "provenance": ("", "observed or modelled: the view of the answer"),
}
RECALL = {
    "direction": ("", "view of the query -> view of the answer"),
    "candidates": ("", "stars of the split that are searched"),
    "recall@*": ("", "fraction of queries whose true partner is among the first k"),
    "chance@*": ("", "the same for random vectors: k / candidates"),
    "median rank": ("", "of the true partner; 1 is best"),
}


# Beside an answer where none is named, as far as the data set has them.
SHOWN = (
    "object_name", "ra", "dec", "phot_g_mean_mag", "class", "teff", "logg", "fe_h", "alpha_m",
    "snr",
)  # fmt: skip


@dataclass(frozen=True)
class Backend:
    """What answers instead of the store's own index.

    Attributes:
        index: Over rows of the store; None: the store's own.
        quality: What was measured of the index when it was made.
    """

    index: Index | None = None
    quality: Mapping[str, Any] = field(default_factory=dict)

    def warning(self) -> str:
        """One sentence with the recall of an approximate index; empty for an exact one."""
        recall = self.quality.get("recall@10") or 1.0
        if recall >= 1:
            return ""
        held_out = "held out" in self.quality
        asked = self.quality.get("held out", self.quality.get("asked", "some"))
        return (
            f"note: approximate index {self.quality['factory']}: recall@10 = {recall:.3f} on "
            f"{asked} " + ("held-out vectors" if held_out else "of its vectors")
        )


def backend(space: Workspace, store: Store, to: str, name: str | None = None) -> Backend:
    """The sharded index of that name, or the store's own index.

    Args:
        space: Where the index is looked for.
        store: Vectors.
        to: View of the answers.
        name: Of a sharded index, or None.
    """
    if name:
        artifact = space.get("index", name)
        return Backend(sharded.read(artifact, store, to), artifact.manifest.notes["indexes"][to])
    return Backend(None, store.artifact.manifest.notes.get("indexes", {}).get(to, {}))


def beside(found: Result, objects: pa.Table, names: Sequence[str] | None = None) -> Result:
    """The answers with columns of the data set: where each star is, what is known of it.

    Args:
        found: With `source_id`.
        objects: The table of objects; a star that is not in it gets nulls.
        names: Which columns; None for those of `SHOWN` that are there.

    Raises:
        NotFound: If there is no such column.
    """
    for name in names or ():
        need(objects, name, "--show")
    shown = [n for n in (SHOWN if names is None else names) if n in objects.column_names]
    rows = rows_of(column(objects, "source_id"), column(found.table, "source_id"))
    table = found.table
    for name in shown:
        if name not in table.column_names:
            table = table.append_column(objects.schema.field(name), taken(objects[name], rows))
    return replace(found, table=table)


def default_view(store: Store) -> str:
    """The view of the query where none is named: xp, else the first."""
    return "xp" if "xp" in store.modalities else store.modalities[0]


def allowed(store: Store, data: Dataset, text: str) -> NDArray[np.bool_]:
    """[stars of the store] True for the stars that satisfy a condition of `--where`."""
    return np.isin(store.source_id, data.source_id[cuts.where(data.objects, text)])


@dataclass(frozen=True)
class Queries:
    """The objects to search for.

    Attributes:
        names: source_id, or a text for an object that is not in the store.
        vectors: [queries, dim] unit vectors of the view asked from.
        rows: [queries] row of the store, -1 for an object that is not in it.
        contrast: [queries, dim] vectors of the view to differ in, or None.
    """

    names: Sequence[int | str]
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
) -> Result:
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
    using: Backend | None = None,
) -> Result:
    """One row a query and answer, best first: `query_id`, `rank`, `source_id`, `cosine`, views.

    With `contrast` the k nearest are reordered: first the one that is least similar to the query
    in that other view; those that were not observed in it are left out. The index of `using`
    stands in for the store's own; with a condition or without a number of answers the search is
    exact all the same.

    Source:
        Contrast search: Rizhko & Bloom 2025, arXiv:2411.08842, similarity search.
    """
    if k is None and radius is None:
        raise UsageError("a search needs a number of answers or a radius", "-k 10")
    using = using or Backend()
    found = _nearest(store, queries, to, k, radius, only, using.index)
    unlike: NDArray[np.float32] | None = None
    if contrast is not None:
        assert queries.contrast is not None
        value = np.einsum(
            "ad,ad->a", store.vectors(contrast)[found.row], queries.contrast[found.query]
        )
        order = np.lexsort((value, found.query))  # stable: ties stay in order of their cosine
        order = order[np.isfinite(value[order])]
        found = Near(found.query[order], found.row[order], found.cosine[order])
        unlike = value[order]
    provenance = store.artifact.manifest.provenance.get(to, "observed")
    table = listed(found, queries, store.source_id, start, to, provenance)
    if unlike is not None:
        table = table.append_column(f"cosine {contrast}", pa.array(unlike.astype(np.float64)))
    kind = f"unlike in {contrast} among the nearest" if contrast else "nearest"
    how: dict[str, Value] = {"from": start, "to": to, "k": k, "radius": radius,
                             "contrast": contrast}  # fmt: skip
    return from_table(
        table, f"{kind} by cosine, {start} -> {to}", COLUMNS, store.artifact, how,
        [using.warning() if only is None and k is not None else ""],
    )  # fmt: skip


@dataclass(frozen=True)
class Near:
    """Neighbours of several queries, one after another, best first.

    Attributes:
        query: [answers] number of the query, ascending.
        row: [answers] of the store.
        cosine: [answers] in float64, by the vectors themselves; 1 for equal ones.
    """

    query: NDArray[np.int64]
    row: NDArray[np.int64]
    cosine: NDArray[np.floating]


def listed(
    found: Near, queries: Queries, source_id: NDArray[np.int64], start: str, to: str,
    provenance: str,
) -> pa.Table:  # fmt: skip
    """One row a query and neighbour: see `answers`.

    Args:
        found: See `nearest`.
        queries: Who was searched for.
        source_id: [stars] of the store.
        start, to, provenance: Views of query and answer, and the provenance of the latter.
    """
    count = len(found.query)
    rank = np.arange(1, count + 1) - np.searchsorted(found.query, found.query)
    whole = all(isinstance(name, int) for name in queries.names)
    names = pa.array(queries.names if whole else [str(name) for name in queries.names])
    return pa.table({
        "query_id": names.take(pa.array(found.query)),
        "rank": rank,
        "source_id": source_id[found.row],
        "cosine": found.cosine.astype(np.float64),
        "from": pa.repeat(start, count),
        "to": pa.repeat(to, count),
        "provenance": pa.repeat(provenance, count),
    })  # fmt: skip


def _nearest(
    store: Store,
    queries: Queries,
    to: str,
    k: int | None,
    radius: float | None,
    only: NDArray[np.bool_] | None,
    index: Index | None,
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
        index = Exact(vectors, behind)
    if len(behind) == 0:
        raise NotFound(f"no star observed in {to} satisfies the conditions", "a wider --where")
    return nearest(index, behind, queries, k, radius, store.vectors(to))


def nearest(
    index: Index,
    behind: NDArray[np.int64],
    queries: Queries,
    k: int | None,
    radius: float | None,
    vectors: NDArray[np.float32],
) -> Near:
    """Neighbours of each query, the query itself left out.

    What the index names is scored by its vectors: codes of a quantised index only choose.

    Args:
        index: Asked for neighbours.
        behind: [entries] row of the store behind each entry of the index; at least one.
        queries: Who is searched for.
        k: Answers a query; None for all within the radius.
        radius: Largest cosine distance, or None.
        vectors: [stars, dim] of the store.
    """

    def coarse(asked: NDArray[np.float32], take: int) -> Found:
        scores, found = index.search(asked, take)
        if k is None and radius is not None:  # of all stars, only those that may be inside
            found = np.where(1 - scores <= radius + CLOSE, found, -1)
        return scores, np.where(found >= 0, behind[found], -1)

    itself = int((queries.rows >= 0).any())  # one more, where a query may find itself
    take = len(behind) if k is None else min(k + itself, len(behind))
    scores, rows = refined(coarse, vectors, queries.vectors, take, len(behind))
    keep = (rows >= 0) & (rows != queries.rows[:, None])
    if radius is not None:
        keep &= 1 - scores <= radius
    if k is not None:
        keep &= np.cumsum(keep, axis=1) <= k
    return Near(np.nonzero(keep)[0], rows[keep], scores[keep])


def recall(store: Store, split: str = "test") -> Result:
    """Cross-modal retrieval on a split, every ordered pair of views.

    Returns:
        One row a direction: recall@1/5/10 and median rank of the true partner among all
        candidates of the split, with the chance level k / candidates. Ties count as worse.

    Source:
        The rank definition: docs/commands/search.md.
    """
    answers: list[Row] = []
    for start in store.modalities:
        for to in store.modalities:
            if start == to:
                continue
            a, b = store.vectors(start), store.vectors(to)
            both = np.isfinite(a[:, 0]) & np.isfinite(b[:, 0]) & store.of(split)
            rank = ranks(a[both], b[both])
            if len(rank) == 0:
                continue
            row: dict[str, Value] = {"direction": f"{start} -> {to}", "candidates": len(rank)}
            for k in (1, 5, 10):
                row[f"recall@{k}"] = float((rank <= k).mean())
                row[f"chance@{k}"] = min(1.0, k / len(rank))
            row["median rank"] = float(np.median(rank))
            answers.append(row)
    title = f"retrieval of the same star in the other view, {split} stars"
    return from_rows(answers, title, RECALL, store.artifact)


def ranks(queries: NDArray[np.float32], candidates: NDArray[np.float32]) -> NDArray[np.int64]:
    """Rank (1 is best) of candidate i for query i among all candidates, by inner product."""
    found = np.empty(len(queries), np.int64)
    for start in range(0, len(queries), 1024):
        scores = queries[start : start + 1024] @ candidates.T
        own = scores[np.arange(len(scores)), start + np.arange(len(scores))]
        found[start : start + 1024] = (scores >= own[:, None]).sum(axis=1)
    return found
