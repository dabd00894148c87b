"""An index in parts: trained once on a sample, added to part by part, searched from the disk.

A part holds the vectors of some stars in one FAISS file and their source_ids beside it. A search
asks every part, whose codes and inverted lists stay in their files (mapped), and merges the best of
each by score; equal scores stand in order of the store's rows, so the answer does not depend on how
stars were divided. That holds for exact search and for inverted lists, since all parts share cells
and codes (of quantised vectors FAISS adds entries up in an order that depends on their place: of
equal codes one may seem the better by a last bit). Refining and HNSW look at more candidates the
more parts there are.
"""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmclip import artifacts
from mmclip.artifacts import Artifact
from mmclip.errors import IntegrityError, MissingExtra, UsageError
from mmclip.vectors import index as indexes
from mmclip.vectors.store import Store

ROWS = 4_000_000  # of a part: 512 MB of 32 dimensions, 8 GB of 512
SAMPLE = 1_000_000  # vectors that cells and codes are trained on
SUMMED = 256 * 2**20  # bytes up to which the SHA-256 of a part is checked when it is opened


@dataclass(frozen=True)
class Parts:
    """FAISS indexes that answer as one; see `mmclip.vectors.index.Index`.

    Attributes:
        parts: FAISS indexes.
        rows: The row of the store behind each entry of each part.
    """

    parts: tuple[Any, ...]
    rows: tuple[NDArray[np.int64], ...]

    def search(self, queries: NDArray[np.float32], k: int) -> tuple[NDArray, NDArray]:
        """Scores and rows of the store [queries, k], best first; -1 where there are fewer."""
        scores: list[NDArray] = [np.empty((len(queries), 0), np.float32)]
        found: list[NDArray] = [np.empty((len(queries), 0), np.int64)]
        queries = np.ascontiguousarray(queries, np.float32)
        for part, rows in zip(self.parts, self.rows, strict=True):
            value, entry = _with_ties(part, queries, k)
            scores.append(np.where(entry >= 0, value, np.float32(-np.inf)))
            found.append(np.where(entry >= 0, rows[entry], -1))
        return merge(np.concatenate(scores, axis=1), np.concatenate(found, axis=1), k)


def merge(
    scores: NDArray[np.float32], rows: NDArray[np.int64], k: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The k best of candidates [queries, any number], by score, then by row; padded with -1."""
    order = np.lexsort((rows, -scores), axis=-1)[:, :k]
    best, which = np.take_along_axis(scores, order, 1), np.take_along_axis(rows, order, 1)
    lacking = ((0, 0), (0, k - order.shape[1]))
    return (
        np.pad(best, lacking, constant_values=-np.inf),
        np.pad(which, lacking, constant_values=-1),
    )


def _with_ties(part: Any, queries: NDArray[np.float32], k: int) -> tuple[NDArray, NDArray]:
    """The k best entries of a part, and every further one that scores as the k-th does.

    FAISS leaves open which of equals it names; those cut off at the end would be chance.
    """
    take = k + 1
    while True:
        take = min(take, part.ntotal)
        scores, entries = part.search(queries, take)
        if take <= k or take == part.ntotal:
            return scores, entries
        if not ((scores[:, k - 1] == scores[:, -1]) & (entries[:, -1] >= 0)).any():
            return scores, entries
        take *= 2


@dataclass(frozen=True)
class Plan:
    """How an index in parts is made; `vectors` below is what it is made of."""

    factory: str = "Flat"
    rows: int = ROWS  # of a part
    sample: int = SAMPLE  # vectors it is trained on


def add(store: Store, plan: Plan, place: Path, old: Artifact | None = None) -> Artifact:
    """The index in parts at `place` with every vector of the store that it did not hold yet.

    What stands is linked, not rebuilt. Work in progress lies in a folder `.partial-...` beside
    `place`, a part at a time: killed, the same call goes on with the next part.

    Args:
        store: Vectors; those of stars that the index knows are left as they are.
        plan: How; for an index that stands, its own (see `plan_of`).
        place: Where the artefact is to be.
        old: The index that stands there; None for a new one.

    Raises:
        MissingExtra: Without FAISS.
        UsageError: If the store's vectors are of another run than the index.
    """
    if not indexes.have_faiss():
        raise MissingExtra("an index in parts needs FAISS", "pip install 'mmclip[cpu]'")
    run = run_of(store)
    if old is not None and old.manifest.notes["run"] != run:
        raise UsageError(
            f"{store.artifact.path} was embedded by another run than the vectors in {old.path}",
            "mmclip index --add --index NEW_NAME",
        )
    basis = f"{store.artifact.manifest.fingerprint} {old and old.manifest.fingerprint} {plan}"
    partial = place.parent / f".partial-{artifacts.sha256_bytes(basis.encode())[:16]}"
    parents = list(old.manifest.parents) if old else []
    if store.artifact.reference not in parents:
        parents.append(store.artifact.reference)
    with artifacts.locked(partial, "index"):
        about = {name: _add_view(store, name, plan, partial, old) for name in store.modalities}
        if old is not None and not any(a["added"] for a in about.values()):
            shutil.rmtree(partial)
            return old
        with artifacts.building(place, replace=old is not None) as folder:
            for source in [old.path, partial] if old else [partial]:
                _link(source, folder)
            artifact = artifacts.seal(
                folder,
                "index",
                config=vars(plan),
                parents=parents,
                rows={n: a["vectors"] for n, a in about.items()},
                surveys=store.artifact.manifest.surveys,
                provenance=store.artifact.manifest.provenance,
                seed=indexes.SEED,
                notes={"run": run, "indexes": about},
            )
    shutil.rmtree(partial)
    return Artifact(place, artifact.manifest)


def plan_of(artifact: Artifact) -> Plan:
    """How an index in parts was made."""
    return Plan(**artifact.manifest.config)


def run_of(store: Store) -> str:
    """Fingerprint of the run that embedded the vectors of a store."""
    found = [p["fingerprint"] for p in store.artifact.manifest.parents if p["kind"] == "run"]
    return found[0] if found else ""


def _add_view(
    store: Store, name: str, plan: Plan, partial: Path, old: Artifact | None
) -> dict[str, Any]:
    """Write the parts of a view that are not there yet; says what the index then is."""
    (partial / name).mkdir(exist_ok=True)
    vectors = store.vectors(name)
    new = np.isfinite(vectors[:, 0])
    held = [_ids(old, file) for file in files(old, name)] if old else []
    for ids in held:
        new &= ~np.isin(store.source_id, ids)
    rows = np.flatnonzero(new)
    trained = partial / name / "trained.faiss"
    if old and f"{name}/trained.faiss" in old.manifest.files:
        trained = artifacts.checked(old, f"{name}/trained.faiss")
    elif len(rows) and not trained.exists():
        picked = indexes.some(rows, plan.sample)
        _write(_empty(np.ascontiguousarray(vectors[picked]), plan.factory), trained)
    for number, start in enumerate(range(0, len(rows), plan.rows), len(held)):
        file = partial / name / f"part-{number:05d}.faiss"
        if not file.exists():
            mine = rows[start : start + plan.rows]
            index = _read(trained)
            index.add(np.ascontiguousarray(vectors[mine]))
            artifacts.write_atomic(
                file.with_suffix(".ids"), store.source_id[mine].astype("<i8").tobytes()
            )
            _write(index, file)  # last: a part that is there has its ids
    made = sorted((partial / name).glob("part-*.faiss"))
    paths = [old.path / f for f in files(old, name)] if old else []
    held += [np.memmap(p.with_suffix(".ids"), "<i8", "r") for p in made]
    return {
        "modality": name,
        "factory": plan.factory,
        "metric": "inner product of unit vectors (cosine)",
        "vectors": sum(len(ids) for ids in held),
        "added": len(rows),
        "parts": len(held),
        **_quality(store, name, plan, [*paths, *made], held, old),
    }


def _empty(sample: NDArray[np.float32], factory: str) -> Any:
    """An index that is trained on a sample and holds nothing.

    Where the factory says not how far an approximate one looks, that is found out on the sample.
    """
    if factory.partition(";")[0].strip() == "Flat" or ";" in factory:
        return indexes.trained(sample, factory)
    index = indexes.measured(sample, factory)[0].index
    index.reset()
    return index


def _quality(
    store: Store,
    name: str,
    plan: Plan,
    paths: list[Path],
    ids: list[NDArray[np.int64]],
    old: Artifact | None,
) -> dict[str, Any]:
    """Recall@10 of these parts, or of the index as it was if the store lacks some of its stars."""
    if plan.factory.partition(";")[0].strip() == "Flat":
        return {"recall@10": 1.0, "asked": 0, "recall of vectors": sum(len(i) for i in ids)}
    try:
        rows = tuple(_rows(store, known, paths[0]) for known in ids)
    except UsageError:
        assert old is not None  # a new index has the stars of its store
        before = old.manifest.notes["indexes"][name]
        return {k: before[k] for k in ("recall@10", "asked", "recall of vectors")}
    if not rows:
        return {"recall@10": None, "asked": 0, "recall of vectors": 0}
    return recall(Parts(tuple(_read(p, _mapped()) for p in paths), rows), store.vectors(name))


def files(artifact: Artifact, name: str) -> list[str]:
    """Names of a view's parts in the artefact, oldest first."""
    return sorted(
        f for f in artifact.manifest.files if f.startswith(f"{name}/part-") and f.endswith(".faiss")
    )


def _ids(artifact: Artifact, file: str) -> NDArray[np.int64]:
    """[entries] source_id behind each entry of a part; mapped."""
    path = artifacts.checked(artifact, file.removesuffix(".faiss") + ".ids")
    return np.memmap(path, "<i8", "r")


def _write(index: Any, path: Path) -> None:
    """Write a FAISS index whole or not at all, without a copy of it in memory."""
    import faiss

    temporary = path.with_name(f".tmp-{path.name}")
    faiss.write_index(index, str(temporary))
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(temporary, path)


def _mapped() -> int:
    import faiss

    return int(faiss.IO_FLAG_MMAP_IFC)


def _read(path: Path, flags: int = 0) -> Any:
    import faiss

    try:
        return faiss.read_index(str(path), flags)
    except RuntimeError as error:
        raise IntegrityError(
            f"{path} is not a FAISS index", "mmclip index --add --force"
        ) from error


def _link(source: Path, folder: Path) -> None:
    """The files of each view under another directory too, without a copy where that is possible."""
    for file in source.glob("*/*"):
        if file.suffix in (".faiss", ".ids") and not file.name.startswith("."):
            target = folder / file.relative_to(source)
            target.parent.mkdir(exist_ok=True)
            try:
                os.link(file, target)
            except OSError:
                shutil.copyfile(file, target)


def read(artifact: Artifact, store: Store, name: str) -> Parts:
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
        ids = _ids(artifact, file)
        part = _read(_present(artifact, file), _mapped())
        if part.ntotal != len(ids) or part.d != store.dimension:
            raise IntegrityError(
                f"{artifact.path / file} holds {part.ntotal} vectors of {part.d} instead of "
                f"{len(ids)} of {store.dimension}",
                "remove it and: mmclip index --add",
            )
        parts.append(part)
        rows.append(_rows(store, ids, artifact.path))
    return Parts(tuple(parts), tuple(rows))


def _present(artifact: Artifact, file: str) -> Path:
    """A part's path after what can be checked of it in short time."""
    size = artifact.manifest.files[file]["bytes"]
    path = artifact.path / file
    if size <= SUMMED or not path.is_file() or path.stat().st_size != size:
        return artifacts.checked(artifact, file)
    return path


def _rows(store: Store, ids: NDArray[np.int64], where: Path) -> NDArray[np.int64]:
    """Row of the store of each id."""
    order = np.argsort(store.source_id, kind="stable")
    place = np.searchsorted(store.source_id, ids, sorter=order)
    rows = order[np.minimum(place, len(order) - 1)]
    unknown = store.source_id[rows] != ids
    if unknown.any():
        raise UsageError(
            f"{where} holds {int(unknown.sum())} stars that {store.artifact.path} does not, "
            f"source_id {int(ids[np.argmax(unknown)])} for one",
            "mmclip search --vectors the vectors with all of them",
        )
    return rows


def recall(index: Parts, vectors: NDArray[np.float32], k: int = 10) -> dict[str, Any]:
    """Recall@k on some of the vectors, each left out of its own neighbours; ties count.

    Exact neighbours come from a pass over all vectors, 100,000 at a time.

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
    for start in range(0, len(entries), 100_000):
        part = entries[start : start + 100_000]
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
