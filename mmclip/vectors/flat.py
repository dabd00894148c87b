"""Exact search over vectors that stay on disk: a block at a time, the best so far kept."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmclip.artifacts import Artifact, write_atomic
from mmclip.datasets import mapped

QUERIES = 256  # at a time: with a block of vectors 64 MB of scores
BACKEND = "numpy, exact, mapped from disk"


@dataclass(frozen=True)
class Flat:
    """Inner products with every vector [objects, dim], read once for each 256 queries.

    A row of NaN is no vector and never found. Of equal scores the earlier row comes first.
    """

    vectors: NDArray[np.float32]

    def search(self, queries: NDArray[np.float32], k: int) -> tuple[NDArray, NDArray]:
        """See `mmclip.vectors.index.Index`."""
        each = [self._search(queries[i : i + QUERIES], k) for i in range(0, len(queries), QUERIES)]
        scores = [s for s, _ in each] or [np.empty((0, k), np.float32)]
        rows = [r for _, r in each] or [np.empty((0, k), np.int64)]
        return np.concatenate(scores), np.concatenate(rows)

    def _search(self, queries: NDArray[np.float32], k: int) -> tuple[NDArray, NDArray]:
        scores = np.full((len(queries), k), -np.inf, np.float32)
        rows = np.full((len(queries), k), -1, np.int64)
        for part in mapped.blocks(len(self.vectors)):
            found = queries @ self.vectors[part].T
            found[np.isnan(found)] = -np.inf
            best = _best(found, k)
            scores = np.concatenate([scores, np.take_along_axis(found, best, 1)], axis=1)
            rows = np.concatenate([rows, best + part.start], axis=1)
            order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
            scores = np.take_along_axis(scores, order, 1)
            rows = np.where(scores > -np.inf, np.take_along_axis(rows, order, 1), -1)
        return scores, rows


def _best(scores: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """Columns of the k highest of each row, all of them if they are fewer; ascending columns."""
    if k >= scores.shape[1]:
        return np.broadcast_to(np.arange(scores.shape[1]), scores.shape)
    return np.sort(np.argpartition(-scores, k - 1, axis=1)[:, :k], axis=1)


def write(folder: Path, name: str, count: int) -> dict[str, Any]:
    """Write `index/<name>.json`, which says that the vectors themselves are searched."""
    (folder / "index").mkdir(exist_ok=True)
    about = {
        "modality": name, "factory": "Flat", "metric": "inner product of unit vectors (cosine)",
        "vectors": count, "recall@10": 1.0, "held out": 0, "backend": BACKEND,
    }  # fmt: skip
    write_atomic(folder / "index" / f"{name}.json", json.dumps(about, indent=2).encode())
    return about


def stored(artifact: Artifact, name: str) -> bool:
    """Whether there is no index of the view besides its vectors."""
    return f"index/{name}.faiss" not in artifact.manifest.files
