"""Making an index in parts and adding to it, a part at a time; see `mmclip.vectors.sharded`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmclip import artifacts
from mmclip.artifacts import Artifact, paths
from mmclip.config import Count, Json, check
from mmclip.errors import MissingExtra, UsageError
from mmclip.vectors import index as indexes
from mmclip.vectors import sharded
from mmclip.vectors.exact import have_faiss
from mmclip.vectors.sharded import Sharded
from mmclip.vectors.store import Store

ROWS = 4_000_000  # of a part: 512 MB of 32 dimensions, 8 GB of 512
SAMPLE = 1_000_000  # vectors that cells and codes are trained on


@dataclass(frozen=True)
class Plan:
    """How an index in parts is made; `vectors` below is what it is made of."""

    factory: str = "Flat"
    rows: Count = ROWS  # of a part
    sample: Count = SAMPLE  # vectors it is trained on

    def __post_init__(self) -> None:
        check("index", self)


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
    if not have_faiss():
        raise MissingExtra("an index in parts needs FAISS", "pip install 'mmclip[cpu]'")
    run = sharded.run_of(store)
    if old is not None and old.manifest.notes["run"] != run:
        raise UsageError(
            f"{store.artifact.path} was embedded by another run than the vectors in {old.path}",
            "mmclip index --add --index NEW_NAME",
        )
    before = old.manifest.fingerprint if old else ""
    partial = artifacts.unfinished(place, [store.artifact.manifest.fingerprint, before, vars(plan)])
    parents = list(old.manifest.parents) if old else []
    if store.artifact.reference not in parents:
        parents.append(store.artifact.reference)
    with artifacts.locked(partial, "index"):
        about = {name: _add_view(store, name, plan, partial, old) for name in store.modalities}
        if old is not None and not any(a["added"] for a in about.values()):
            return old
        with artifacts.building(place, replace=old is not None, work=partial) as folder:
            for source in [old.path, partial] if old else [partial]:
                _link_parts(source, folder)
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
    return Artifact(place, artifact.manifest)


def plan_of(artifact: Artifact) -> Plan:
    """How an index in parts was made."""
    return Plan(**artifact.manifest.config)


def _add_view(store: Store, name: str, plan: Plan, partial: Path, old: Artifact | None) -> Json:
    """Write the parts of a view that are not there yet; says what the index then is."""
    (partial / name).mkdir(exist_ok=True)
    vectors = store.vectors(name)
    new = np.isfinite(vectors[:, 0])
    held = [sharded.ids_of(old, file) for file in sharded.files(old, name)] if old else []
    for ids in held:
        new &= ~np.isin(store.source_id, ids)
    rows = np.flatnonzero(new)
    trained = partial / paths.trained(name)
    if old and paths.trained(name) in old.manifest.files:
        trained = artifacts.checked(old, paths.trained(name))
    elif len(rows) and not trained.exists():
        picked = indexes.some(rows, plan.sample)
        _write(_empty(np.ascontiguousarray(vectors[picked]), plan.factory), trained)
    for number, start in enumerate(range(0, len(rows), plan.rows), len(held)):
        file = partial / paths.index_part(name, number)
        if not file.exists():
            mine = rows[start : start + plan.rows]
            index = sharded.opened(trained)
            index.add(np.ascontiguousarray(vectors[mine]))
            artifacts.write_atomic(
                file.with_suffix(paths.IDS), store.source_id[mine].astype("<i8").tobytes()
            )
            _write(index, file)  # last: a part that is there has its ids
    made = sorted(partial.glob(paths.index_part(name, "*")))
    every = [old.path / f for f in sharded.files(old, name)] if old else []
    held += [np.memmap(p.with_suffix(paths.IDS), "<i8", "r") for p in made]
    return {
        "modality": name,
        "factory": plan.factory,
        "metric": "inner product of unit vectors (cosine)",
        "vectors": sum(len(ids) for ids in held),
        "added": len(rows),
        "parts": len(held),
        **_quality(store, name, plan, [*every, *made], held, old),
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
    every: list[Path],
    ids: list[NDArray[np.int64]],
    old: Artifact | None,
) -> Json:
    """Recall@10 of these parts, or of the index as it was if the store lacks some of its stars."""
    if plan.factory.partition(";")[0].strip() == "Flat":
        return {"recall@10": 1.0, "asked": 0, "recall of vectors": sum(len(i) for i in ids)}
    try:
        rows = tuple(sharded.rows_of(store, known, every[0]) for known in ids)
    except UsageError:
        assert old is not None  # a new index has the stars of its store
        before = old.manifest.notes["indexes"][name]
        return {k: before[k] for k in ("recall@10", "asked", "recall of vectors")}
    if not rows:
        return {"recall@10": None, "asked": 0, "recall of vectors": 0}
    return sharded.recall(
        Sharded(tuple(sharded.opened(p, True) for p in every), rows), store.vectors(name)
    )


def _write(index: Any, path: Path) -> None:
    """Write a FAISS index whole or not at all, without a copy of it in memory."""
    import faiss

    with artifacts.writing(path) as file:
        faiss.write_index(index, faiss.PyCallbackIOWriter(file.write))  # type: ignore[attr-defined]


def _link_parts(source: Path, folder: Path) -> None:
    """The files of each view under another directory too, without a copy where that is possible."""
    for file in source.glob("*/*"):
        if file.suffix in (paths.FAISS, paths.IDS) and not file.name.startswith("."):
            artifacts.link(file, folder / file.relative_to(source))
