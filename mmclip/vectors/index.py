"""Nearest neighbours by cosine: FAISS when it is installed, exact NumPy when it is not."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mmclip import artifacts
from mmclip.artifacts import Artifact, write_atomic
from mmclip.errors import IntegrityError, MissingExtra, UsageError

CHUNK = 1024  # queries at a time in NumPy: 1024 x 1,000,000 scores are 4 GB


class Index(Protocol):
    """What every backend answers."""

    def search(self, queries: NDArray[np.float32], k: int) -> tuple[NDArray, NDArray]:
        """Scores and rows [queries, k], best first; row -1 where there are fewer than k."""


@dataclass(frozen=True)
class Exact:
    """Inner products with every vector, in NumPy."""

    vectors: NDArray[np.float32]

    def search(self, queries: NDArray[np.float32], k: int) -> tuple[NDArray, NDArray]:
        """See `Index`."""
        scores = np.full((len(queries), k), -np.inf, np.float32)
        rows = np.full((len(queries), k), -1, np.int64)
        take = min(k, len(self.vectors))
        for start in range(0, len(queries), CHUNK):
            product = queries[start : start + CHUNK] @ self.vectors.T
            best = np.argpartition(-product, take - 1, axis=1)[:, :take]
            value = np.take_along_axis(product, best, 1)
            order = np.argsort(-value, axis=1, kind="stable")
            scores[start : start + CHUNK, :take] = np.take_along_axis(value, order, 1)
            rows[start : start + CHUNK, :take] = np.take_along_axis(best, order, 1)
        return scores, rows


@dataclass(frozen=True)
class Faiss:
    """A FAISS index over the same rows."""

    index: Any

    def search(self, queries: NDArray[np.float32], k: int) -> tuple[NDArray, NDArray]:
        """See `Index`."""
        scores, rows = self.index.search(np.ascontiguousarray(queries, np.float32), k)
        return scores, rows


def have_faiss() -> bool:
    """True if the module `faiss` can be imported."""
    from importlib.util import find_spec

    return find_spec("faiss") is not None


def build(vectors: NDArray[np.float32], factory: str = "Flat") -> Index:
    """An index over unit vectors by inner product (cosine).

    Args:
        vectors: [objects, dim], finite.
        factory: A FAISS factory string; `Flat` is exact.

    Raises:
        MissingExtra: If the factory needs FAISS and it is not installed.
        UsageError: If FAISS does not know the factory string.
    """
    if not have_faiss():
        if factory != "Flat":
            raise MissingExtra(
                f"the index '{factory}' needs FAISS", "pip install 'mmclip[cpu]', or use Flat"
            )
        return Exact(vectors)
    import faiss

    try:
        index = faiss.index_factory(vectors.shape[1], factory, faiss.METRIC_INNER_PRODUCT)
        index.train(vectors)
        index.add(vectors)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise UsageError(
            f"FAISS cannot build '{factory}' on {len(vectors)} vectors: {reason}", "use Flat"
        ) from error
    return Faiss(index)


def recall(index: Index, vectors: NDArray[np.float32], k: int = 10, seed: int = 42) -> float:
    """Part of the true k nearest of (at most 200) stored vectors that the index finds."""
    chosen = np.random.default_rng(seed).permutation(len(vectors))[:200]
    k = min(k, len(vectors))
    truth = Exact(vectors).search(vectors[chosen], k)[0]
    _, found = index.search(vectors[chosen], k)
    scores = np.einsum("qkd,qd->qk", vectors[np.maximum(found, 0)], vectors[chosen])
    # Ties are as good as the row that exact search happened to name first.
    return float(((scores >= truth[:, -1:] - 1e-6) & (found >= 0)).mean())


def write(folder: Path, name: str, vectors: NDArray[np.float32], factory: str) -> dict[str, Any]:
    """Write `index/<name>.json` and, with FAISS, `index/<name>.faiss`; returns the description."""
    index = build(vectors, factory)
    (folder / "index").mkdir(exist_ok=True)
    about: dict[str, Any] = {
        "modality": name,
        "factory": factory,
        "metric": "inner product of unit vectors (cosine)",
        "vectors": len(vectors),
        "recall@10": recall(index, vectors),
    }
    if isinstance(index, Faiss):
        import faiss

        about["backend"] = f"faiss {faiss.__version__}"
        body = faiss.serialize_index(index.index).tobytes()
        write_atomic(folder / "index" / f"{name}.faiss", body)
    else:
        about["backend"] = "numpy, exact"
    write_atomic(folder / "index" / f"{name}.json", json.dumps(about, indent=2).encode())
    return about


def read(artifact: Artifact, name: str, vectors: NDArray[np.float32]) -> Index:
    """The stored index of a modality, or an exact one over `vectors` where FAISS is not there.

    Raises:
        IntegrityError: If the file is damaged or does not belong to these vectors.
    """
    file = f"index/{name}.faiss"
    if file not in artifact.manifest.files or not have_faiss():
        return Exact(vectors)
    import faiss

    body = artifacts.checked(artifact, file).read_bytes()
    try:
        index = faiss.deserialize_index(np.frombuffer(body, np.uint8))
    except RuntimeError as error:
        raise IntegrityError(f"{artifact.path / file} is not a FAISS index") from error
    if index.ntotal != len(vectors) or index.d != vectors.shape[1]:
        raise IntegrityError(
            f"{artifact.path / file} holds {index.ntotal} vectors instead of {len(vectors)}",
            "mmclip embed --force",
        )
    return Faiss(index)
