"""The stars most like the given ones, within a view or across views."""

from typing import Any

import numpy as np

from mmclip.errors import NotFound
from mmclip.vectors.store import Store

Row = dict[str, Any]


def search(store: Store, ids: list[int], start: str, to: str, k: int) -> list[Row]:
    """The k nearest stars of each query by cosine; the query itself is left out.

    Args:
        store: Vectors with an index.
        ids: source_ids of the queries.
        start: View of the query.
        to: View of the answers.
        k: Answers a query.

    Raises:
        NotFound: If an id is not there or was not observed in `start`.
    """
    rows = store.rows(ids)
    queries = store.vectors(start)[rows]
    for source_id, vector in zip(ids, queries, strict=True):
        if not np.isfinite(vector[0]):
            raise NotFound(
                f"source_id {source_id} was not observed in {start}",
                f"--from one of: {', '.join(m for m in store.modalities if m != start)}",
            )
    index, behind = store.index(to)
    scores, found = index.search(queries, min(k + 1, len(behind)))
    answers = []
    for query, row, score, near in zip(ids, rows, scores, found, strict=True):
        pairs = [(behind[n], s) for n, s in zip(near, score, strict=True) if n >= 0]
        others = [(r, s) for r, s in pairs if r != row][:k]
        answers += [
            {
                "query_id": query,
                "rank": rank,
                "source_id": int(store.source_id[r]),
                "cosine": float(s),
                "from": start,
                "to": to,
                "provenance": store.artifact.manifest.provenance[to],
            }
            for rank, (r, s) in enumerate(others, 1)
        ]
    return answers


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
            both = np.isfinite(a[:, 0]) & np.isfinite(b[:, 0]) & (store.split == split)
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
