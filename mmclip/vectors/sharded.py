"""An index in parts: trained once on a sample, added to part by part, searched from the disk.

A part holds the vectors of some stars in one FAISS file and their source_ids beside it. A search
asks every part, whose codes and inverted lists stay in their files (mapped), and merges the best of
each by score; equal scores stand in order of the store's rows, so the answer does not depend on how
stars were divided. That holds for exact search and for inverted lists, since all parts share cells
and codes (of quantised vectors FAISS adds entries up in an order that depends on their place: of
equal codes one may seem the better by a last bit). Refining and HNSW look at more candidates the
more parts there are.
"""

from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmclip import artifacts
from mmclip.artifacts import Artifact, paths
from mmclip.config import Json
from mmclip.errors import IntegrityError, UsageError
from mmclip.vectors import index as indexes
from mmclip.vectors.exact import Found, merge
from mmclip.vectors.store import Store

SUMMED = 256 * 2**20  # bytes up to which the SHA-256 of a part is checked when it is opened
COMPARED = 20_000  # vectors at a time where recall is measured


@dataclass(frozen=True)
class Sharded:
    """FAISS indexes that answer as one; see `mmclip.vectors.exact.Index`.

    Attributes:
        parts: FAISS indexes.
        rows: The row of the store behind each entry of each part.
    """

    parts: tuple[Any, ...]
    rows: tuple[NDArray[np.int64], ...]

    def search(self, queries: NDArray[np.float32], k: int) -> Found:
        """Scores and rows of the store [queries, k], best first; -1 where there are fewer."""
        scores: list[NDArray[Any]] = [np.empty((len(queries), 0), np.float32)]
        found: list[NDArray[Any]] = [np.empty((len(queries), 0), np.int64)]
        queries = np.ascontiguousarray(queries, np.float32)
        cells = _cells(self.parts, queries)
        for part, rows in zip(self.parts, self.rows, strict=True):
            value, entry = _with_ties(part, queries, k, cells)
            scores.append(np.where(entry >= 0, value, np.float32(-np.inf)))
            found.append(np.where(entry >= 0, rows[entry], -1))
        return merge(np.concatenate(scores, axis=1), np.concatenate(found, axis=1), k)


def _cells(parts: tuple[Any, ...], queries: NDArray[np.float32]) -> tuple[NDArray[Any], ...] | None:
    """Scores and numbers of the cells that each query visits: found once, the same in all parts.

    None where the parts are not inverted lists that FAISS can be asked so.
    """
    first = parts[0] if parts else None
    if len(parts) < 2 or not hasattr(first, "search_preassigned"):
        return None
    assert first is not None
    scores, cells = first.quantizer.search(queries, min(first.nprobe, first.nlist))
    return scores, cells


def _with_ties(
    part: Any, queries: NDArray[np.float32], k: int, cells: tuple[NDArray[Any], ...] | None
) -> Found:
    """The k best entries of a part, and every further one that scores as the k-th does.

    FAISS leaves open which of equals it names; those cut off at the end would be chance.
    """
    take = k + 1
    while True:
        take = min(take, part.ntotal)
        if cells is None:
            scores, entries = part.search(queries, take)
        else:
            scores, entries = part.search_preassigned(queries, take, cells[1], cells[0])
        if take <= k or take == part.ntotal:
            return scores, entries
        if not ((scores[:, k - 1] == scores[:, -1]) & (entries[:, -1] >= 0)).any():
            return scores, entries
        take *= 2


def run_of(store: Store) -> str:
    """Fingerprint of the run that embedded the vectors of a store."""
    found = [p["fingerprint"] for p in store.artifact.manifest.parents if p["kind"] == "run"]
    return found[0] if found else ""


def files(artifact: Artifact, name: str) -> list[str]:
    """Names of a view's parts in the artefact, oldest first."""
    return sorted(f for f in artifact.manifest.files if fnmatch(f, paths.index_part(name, "*")))


def ids_of(artifact: Artifact, file: str) -> NDArray[np.int64]:
    """[entries] source_id behind each entry of a part; mapped."""
    path = artifacts.checked(artifact, file.removesuffix(paths.FAISS) + paths.IDS)
    return np.memmap(path, "<i8", "r")


def opened(path: Path, mapped: bool = False) -> Any:
    """A FAISS index from a file; mapped: its codes and inverted lists stay there.

    Raises:
        IntegrityError: If it is not one.
    """
    import faiss

    try:
        return faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC if mapped else 0)
    except RuntimeError as error:
        raise IntegrityError(f"{path} is not a FAISS index", "remove it, and repeat") from error


def read(artifact: Artifact, store: Store, name: str) -> Sharded:
    """The index of a view, its codes and lists mapped from the disk.

    A part of more than 256 MB is checked by its size alone: to sum 28 GB before each question would
    cost more than the answer (`mmclip verify` sums them).

    Raises:
        UsageError: If the index is of another run, lacks the view, or holds stars that the store
            does not.
        IntegrityError: If a file is damaged.
    """
    if artifact.manifest.notes["run"] != run_of(store):
        raise UsageError(
            f"{artifact.path} is an index over vectors of another run than {store.artifact.path}",
            "mmclip search --vectors the vectors it was made of",
        )
    found = files(artifact, name)
    if not found:
        raise UsageError(f"{artifact.path} has no index of '{name}'", "mmclip index --add")
    parts, rows = [], []
    for file in found:
        ids = ids_of(artifact, file)
        part = opened(_present(artifact, file), True)
        if part.ntotal != len(ids) or part.d != store.dimension:
            raise IntegrityError(
                f"{artifact.path / file} holds {part.ntotal} vectors of {part.d} instead of "
                f"{len(ids)} of {store.dimension}",
                "remove it and: mmclip index --add",
            )
        mine = rows_of(store, ids, artifact.path)
        one, vectors = indexes.Faiss(part, mine), store.vectors(name)
        indexes.check_belongs(one, vectors, artifact.path / file, None, mine)
        parts.append(part)
        rows.append(mine)
    return Sharded(tuple(parts), tuple(rows))


def _present(artifact: Artifact, file: str) -> Path:
    """A part's path after what can be checked of it in short time."""
    size = artifact.manifest.files[file]["bytes"]
    path = artifact.path / file
    if size <= SUMMED or not path.is_file() or path.stat().st_size != size:
        return artifacts.checked(artifact, file)
    return path


def rows_of(store: Store, ids: NDArray[np.int64], where: Path) -> NDArray[np.int64]:
    """Row of the store of each id."""
    rows = store.find(ids)
    unknown = rows < 0
    if unknown.any():
        raise UsageError(
            f"{where} holds {int(unknown.sum())} stars that {store.artifact.path} does not, "
            f"source_id {int(ids[np.argmax(unknown)])} for one",
            "mmclip search --vectors the vectors with all of them",
        )
    return rows


def recall(index: Sharded, vectors: NDArray[np.float32], k: int = 10) -> Json:
    """Recall@k on some of the vectors, each left out of its own neighbours; ties count.

    Exact neighbours come from a pass over all vectors, some at a time.

    Args:
        index: Over rows of `vectors`.
        vectors: [stars, dim] of the store.
        k: Neighbours.
    """
    entries = np.sort(np.concatenate(index.rows))
    asked = entries[indexes.held_out(len(entries))]
    about = {"recall@10": None, "asked": len(asked), "recall of vectors": len(entries)}
    if len(asked) == 0:
        return about
    k = min(k, len(entries) - 1)
    queries = np.ascontiguousarray(vectors[asked])
    best = np.empty((len(asked), 0), np.float32)
    for start in range(0, len(entries), COMPARED):
        part = entries[start : start + COMPARED]
        scores = queries @ np.asarray(vectors[part]).T
        scores[asked[:, None] == part] = -np.inf
        best = -np.sort(-np.concatenate([best, scores], axis=1), axis=1)[:, :k]
    found = index.search(queries, k + 1)[1]
    itself = found == asked[:, None]
    itself[~itself.any(axis=1), -1] = True  # where it did not find itself the last answer goes
    found = found[~itself].reshape(len(asked), k)
    scores = np.einsum("qkd,qd->qk", vectors[np.maximum(found, 0)], queries)
    hit = (scores >= best[:, -1:] - 1e-6) & (found >= 0)
    return about | {"recall@10": float(hit.mean())}
