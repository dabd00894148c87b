"""Nearest neighbours by cosine: FAISS when it is installed, exact NumPy when it is not."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmclip import artifacts
from mmclip.artifacts import Artifact, paths, read_limit, write_atomic
from mmclip.config import Json
from mmclip.datasets import memmap
from mmclip.errors import IntegrityError, MissingExtra, UsageError
from mmclip.vectors.exact import Exact, Found, Index, have_faiss

SEED = 42
HELD_OUT = 200  # vectors on which recall is measured before they join the index
SPARE = 1 << 28  # bytes beyond 8 times its own size that reading an index may take
PROBES, NEAR = 16, 10  # vectors that an index must find themselves, among so many at most
WANTED = 0.95  # recall@10 up to which an approximate index is made to look further


@dataclass(frozen=True)
class Faiss:
    """A FAISS index; `order` gives the vector behind each of its entries if they differ."""

    index: Any
    order: NDArray[np.int64] | None = None

    def search(self, queries: NDArray[np.float32], k: int) -> Found:
        """See `mmclip.vectors.exact.Found`."""
        scores, rows = self.index.search(np.ascontiguousarray(queries, np.float32), k)
        if self.order is not None:
            rows = np.where(rows >= 0, self.order[rows], -1)
        return scores, rows


def backend() -> tuple[str, int]:
    """Name and version of what searches, and how many threads it takes."""
    if not have_faiss():
        return f"numpy {np.__version__}", 1
    import faiss

    return f"faiss {faiss.__version__}", int(faiss.omp_get_max_threads())


def build(vectors: NDArray[np.float32], factory: str = "Flat", sample: int | None = None) -> Index:
    """An index over unit vectors by inner product (cosine).

    Args:
        vectors: [objects, dim], finite.
        factory: A FAISS factory string, and after a semicolon how far it looks:
            `IVF1024,Flat;nprobe=16`, `HNSW32,Flat;efSearch=64`, `IVF256,PQ64,RFlat;k_factor_rf=8`.
            `Flat` is exact.
        sample: Vectors that cells and codes are trained on, drawn at random; all if None.

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
    index = trained(some(vectors, sample), factory)
    index.add(vectors)
    return Faiss(index)


def some(vectors: NDArray[Any], count: int | None) -> NDArray[Any]:
    """At most `count` of the vectors (or other rows), drawn at random but alike each time."""
    if count is None or count >= len(vectors):
        return vectors
    picked = np.random.default_rng(SEED).choice(len(vectors), count, replace=False)
    return vectors[np.sort(picked)]


def trained(vectors: NDArray[np.float32], factory: str) -> Any:
    """A FAISS index that knows its cells and codes from these vectors, and holds none yet.

    Raises:
        UsageError: If FAISS does not know the factory string, or has too few vectors for it.
    """
    import faiss

    name, _, reach = factory.partition(";")
    tuner: Any = faiss.ParameterSpace()
    try:
        index = faiss.index_factory(vectors.shape[1], name.strip(), faiss.METRIC_INNER_PRODUCT)
        inverted: Any = faiss.try_extract_index_ivf(index)
        coded: Any = None if inverted is None else faiss.downcast_index(inverted)
        if hasattr(coded, "do_polysemous_training"):
            # Half a minute of annealing, for a search by Hamming distance that is never made.
            coded.do_polysemous_training = False
        index.train(vectors)
        if reach.strip():
            tuner.set_index_parameters(index, reach.strip())
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise UsageError(
            f"FAISS cannot build '{factory}' on {len(vectors)} vectors: {reason}", "use Flat"
        ) from error
    return index


def held_out(count: int, seed: int = 42) -> NDArray[np.int64]:
    """Rows on which the recall of an index over `count` vectors is measured; at most a tenth."""
    take = min(HELD_OUT, count // 10)
    return np.sort(np.random.default_rng(seed).permutation(count)[:take])


def recall(
    index: Index, vectors: NDArray[np.float32], queries: NDArray[np.float32], k: int = 10
) -> float:
    """Part of the true k nearest vectors of each query that the index finds; ties count.

    Args:
        index: Over `vectors`.
        vectors: [objects, dim].
        queries: [queries, dim], none of them among `vectors`.
        k: Neighbours; all of `vectors` if they are fewer.
    """
    k = min(k, len(vectors))
    truth = Exact(vectors).search(queries, k)[0]
    _, found = index.search(queries, k)
    scores = np.einsum("qkd,qd->qk", vectors[np.maximum(found, 0)], queries)
    # Ties are as good as the row that exact search happened to name first.
    return float(((scores >= truth[:, -1:] - 1e-6) & (found >= 0)).mean())


def measured(vectors: NDArray[np.float32], factory: str) -> tuple[Any, Json]:
    """An index over `vectors` and its recall@10 on vectors that it had not yet seen.

    The held-out vectors are left out of training, asked for, and only then added. Without
    parameters after a semicolon an approximate index is made to look twice as far again and
    again until it finds 0.95 of the true neighbours (or has done so ten times).
    """
    asked = held_out(len(vectors))
    if len(asked) == 0 or not have_faiss():
        exact = factory == "Flat"
        return build(vectors, factory), {"recall@10": 1.0 if exact else None, "held out": 0}
    others = np.setdiff1d(np.arange(len(vectors)), asked)
    kept, queries = vectors[others], vectors[asked]
    index = trained(kept, factory)
    index.add(kept)
    reach = factory.partition(";")[2].strip()
    found = recall(Faiss(index), kept, queries)
    if not reach and found < WANTED:
        reach, found = _farther(index, factory, kept, queries, found)
    index.add(queries)
    about = {"recall@10": found, "held out": len(asked), "parameters": reach}
    return Faiss(index, np.concatenate([others, asked])), about


def _farther(
    index: Any, factory: str, vectors: NDArray[Any], queries: NDArray[Any], found: float
) -> tuple[str, float]:
    """Double what an index looks at until its recall is good; the last parameters and recall."""
    import faiss

    tuner: Any = faiss.ParameterSpace()
    known = {"IVF": "nprobe", "HNSW": "efSearch", "R": "k_factor_rf"}
    parts = [p for p in factory.replace("Refine", "R").split(",") if p]
    names = [n for start, n in known.items() if any(p.startswith(start) for p in parts)]
    start = {"nprobe": 1, "efSearch": 16, "k_factor_rf": 1}
    reach = ""
    for doubling in range(1, 11 if names else 0):
        now = {n: min(start[n] << doubling, 64 if n == "k_factor_rf" else 1 << 30) for n in names}
        reach = ",".join(f"{n}={v}" for n, v in now.items())
        tuner.set_index_parameters(index, reach)
        found = recall(Faiss(index), vectors, queries)
        if found >= WANTED:
            break
    return reach, found


def write(folder: Path, name: str, vectors: NDArray[np.float32], factory: str) -> Json:
    """Write `index/<name>.json` and, with FAISS, `index/<name>.faiss`; returns the description."""
    index, quality = measured(vectors, factory)
    last = index.order[len(vectors) - quality["held out"] :].tolist() if quality["held out"] else []
    (folder / "index").mkdir(exist_ok=True)
    about: Json = {
        "modality": name,
        "factory": factory,
        "metric": "inner product of unit vectors (cosine)",
        "vectors": len(vectors),
        **quality,
    }
    if isinstance(index, Faiss):
        import faiss

        about |= {"backend": f"faiss {faiss.__version__}", "of": fingerprint(vectors)}
        body: Any = faiss.serialize_index(index.index).data
        write_atomic(folder / paths.index(name), body)
    else:
        about["backend"] = "numpy, exact"
    text = json.dumps(about | {"added last": last}, indent=2)
    write_atomic(folder / paths.index_notes(name), text.encode())
    return {k: v for k, v in about.items() if k != "of"}


@artifacts.opener
def read(artifact: Artifact, name: str, vectors: NDArray[np.float32]) -> Index:
    """The stored index of a modality, or an exact one over `vectors` where it is `Flat` too.

    Raises:
        IntegrityError: If the file is damaged or does not belong to these vectors, in number, by
            the sum that it was made with, or because vectors are not found by themselves.
    """
    if paths.index(name) not in artifact.manifest.files or not have_faiss():
        return Exact(vectors)
    import faiss

    found = _read(artifact, name, vectors)
    return Exact(vectors) if isinstance(found.index, faiss.IndexFlat) else found


def _read(artifact: Artifact, name: str, vectors: NDArray[np.float32]) -> Faiss:
    """See `read`."""
    import faiss

    file = paths.index(name)
    body = artifacts.checked(artifact, file).read_bytes()
    try:
        with read_limit.memory(8 * len(body) + SPARE):
            index = faiss.deserialize_index(np.frombuffer(body, np.uint8))
    except (RuntimeError, MemoryError) as error:
        raise IntegrityError(f"{artifact.path / file} is not a FAISS index") from error
    if index.ntotal != len(vectors) or index.d != vectors.shape[1]:
        raise IntegrityError(
            f"{artifact.path / file} holds {index.ntotal} vectors instead of {len(vectors)}",
            "mmclip embed --force",
        )
    about = _described(artifact, name)
    artifacts.check_unreplaced(artifact)
    last, order = np.array(about["added last"], np.int64), None
    if len(last):
        # What was added to an index that stood came after its held-out vectors, in order.
        first = np.setdiff1d(np.arange(about["measured over"]), last)
        added = np.arange(about["measured over"], len(vectors))
        order = np.concatenate([first, last, added])
    found = Faiss(index, order)
    where = artifact.path / file
    if about.get("of", "") not in ("", fingerprint(vectors)):
        raise IntegrityError(f"{where} is an index over other vectors", "mmclip embed --force")
    check_belongs(found, vectors, where, about["recall@10"])
    return found


def fingerprint(vectors: NDArray[np.float32]) -> str:
    """SHA-256 of vectors [objects, dim], by which an index names those that it is over."""
    total = hashlib.sha256()
    for part in memmap.blocks(*vectors.shape):
        total.update(np.ascontiguousarray(vectors[part], "<f4").data)
    return total.hexdigest()


def check_belongs(
    index: Index,
    vectors: NDArray[np.float32],
    where: Path,
    recall: float | None,
    rows: NDArray[np.int64] | None = None,
) -> None:
    """Refuse an index over other vectors: it does not find them where they themselves are asked.

    Args:
        index: Over `rows` of `vectors`.
        vectors: [objects, dim] unit vectors.
        where: The index's file, for the error.
        recall: Recall@10 that was measured; half as many must be found, half where it is unknown.
        rows: Of `vectors`; None: all.

    Raises:
        IntegrityError: If too few are found.
    """
    rows = np.arange(len(vectors)) if rows is None else rows
    queries = np.ascontiguousarray(vectors[some(rows, PROBES)])
    k = int(np.clip(len(rows) // 20, 1, NEAR))
    found = index.search(queries, k)[1]
    value = np.einsum("qkd,qd->qk", vectors[np.maximum(found, 0)], queries)
    hit = ((value > 1 - 1e-4) & (found >= 0)).any(axis=1)
    if hit.mean() < 0.5 * min(recall or 1.0, 1.0):
        raise IntegrityError(
            f"{where} is an index over other vectors: of {len(queries)} that it should hold, "
            f"{int(hit.sum())} are found by themselves",
            "mmclip embed --force",
        )


def _described(artifact: Artifact, name: str) -> Json:
    about = artifacts.json_of(artifact, paths.index_notes(name))
    return {"added last": [], "measured over": about["vectors"], **about}


def extend(before: Artifact, folder: Path, name: str, vectors: NDArray[np.float32]) -> Json:
    """Write the index of an earlier artefact with vectors added to it, not built anew.

    Cells and codes stay those learned from the first vectors, and the recall is the one that was
    measured over them (`measured over` says how many they were).

    Args:
        before: Of kind `vectors`.
        folder, name: As in `write`.
        vectors: [objects, dim]; first those that `before` holds, in their order.

    Raises:
        MissingExtra: If the index is one of FAISS and that is not installed.
    """
    about = _described(before, name)
    stood = int(about["vectors"])
    file = paths.index(name)
    (folder / "index").mkdir(exist_ok=True)
    if file in before.manifest.files:
        if not have_faiss():
            raise MissingExtra(
                f"the index of {before.path} needs FAISS", "pip install 'mmclip[cpu]'"
            )
        import faiss

        index = _read(before, name, vectors[:stood])
        index.index.add(np.ascontiguousarray(vectors[stood:]))
        body: Any = faiss.serialize_index(index.index).data
        write_atomic(folder / file, body)
    about |= {"vectors": len(vectors), "of": fingerprint(vectors)}
    write_atomic(folder / paths.index_notes(name), json.dumps(about, indent=2).encode())
    return {k: v for k, v in about.items() if k not in ("added last", "of")}
