"""Exact search over vectors that stay on disk: a block at a time, the best so far kept."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmclip.artifacts import Artifact, paths, write_atomic
from mmclip.datasets import memmap

SCORES = 2**21  # at a time: 8 MB, and 24 MB while the best are found
BACKEND = "numpy, exact, mapped from disk"


@dataclass(frozen=True)
class Flat:
    """Inner products with every vector [objects, dim]; a row of NaN is none and never found."""

    vectors: NDArray[np.float32]

    def search(self, queries: NDArray[np.float32], k: int) -> tuple[NDArray, NDArray]:
        """See `mmclip.vectors.index.Index`."""
        scores = np.full((len(queries), k), -np.inf, np.float32)
        rows = np.full((len(queries), k), -1, np.int64)
        parts = list(memmap.blocks(*self.vectors.shape))
        step = max(1, SCORES // max((p.stop - p.start for p in parts), default=1))
        for start in range(0, len(queries), step):
            some = slice(start, start + step)
            for part in parts:
                found = queries[some] @ self.vectors[part].T
                scores[some], rows[some] = _merged(scores[some], rows[some], found, part.start)
        return scores, rows


def _merged(
    scores: NDArray[np.float32], rows: NDArray[np.int64], found: NDArray[np.float32], first: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The best k of [queries, k] scores and of those of one more block that begins at `first`."""
    k = scores.shape[1]
    found[np.isnan(found)] = -np.inf
    best = _best(found, k)
    scores = np.concatenate([scores, np.take_along_axis(found, best, 1)], axis=1)
    rows = np.concatenate([rows, best + first], axis=1)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    scores = np.take_along_axis(scores, order, 1)
    return scores, np.where(scores > -np.inf, np.take_along_axis(rows, order, 1), -1)


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
    write_atomic(folder / paths.index_notes(name), json.dumps(about, indent=2).encode())
    return about


def stored(artifact: Artifact, name: str) -> bool:
    """Whether there is no index of the view besides its vectors."""
    return paths.index(name) not in artifact.manifest.files
