"""data + run -> vectors."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from mmclip import artifacts
from mmclip import shards as sharding
from mmclip.artifacts import Artifact
from mmclip.clip.run import Run, device, read_tensors, tensors, write_tensors
from mmclip.clip.train import embed_all
from mmclip.datasets import mapped
from mmclip.datasets.build import Dataset
from mmclip.errors import UsageError
from mmclip.modalities import normalise, restore
from mmclip.shards import Cut
from mmclip.vectors import store


@torch.no_grad()
def vectors_of(
    data: Dataset,
    run: Run,
    where: str = "auto",
    rows: slice = slice(None),
    folder: Path | None = None,
) -> dict[str, NDArray[np.float32]]:
    """Unit vectors [rows, D] of each view of the run; NaN for a star without the view.

    The views are normalised by the run's own statistics, not by those of the data set.

    Args:
        data, run, where, rows: What is embedded, by what, on which device, and which stars of it.
        folder: Where vectors too large for memory lie meanwhile; None: in memory all the same.
    """
    place = device(where)
    model = run.model.to(place)
    start, stop, _ = rows.indices(len(data.objects))
    vectors = {}
    for name in sorted(run.shape.sizes):
        view = data.views[name]
        ours = run.statistics[name]
        if ours.settings != view.statistics.settings or view.size != run.shape.sizes[name]:
            raise UsageError(
                f"{name} of {data.artifact.path} was prepared under other settings than the run's",
                "prepare it alike: mmclip preprocess --like DATA, the run's own data set",
            )
        vectors[name] = np.empty((0, run.shape.dimension), np.float32)
        for part in mapped.blocks(stop - start, view.values.shape[1]):
            values = view.values[start + part.start : start + part.stop]
            if not np.array_equal(ours.centre, view.statistics.centre):
                values = normalise(restore(values, view.statistics), ours)
            present = np.asarray(np.isfinite(values).any(axis=1))
            found = embed_all(model, name, *tensors(values, place)).cpu().numpy()
            if part.start == 0:
                shape, apart = (stop - start, found.shape[1]), False if folder is None else None
                vectors[name] = mapped.empty(folder or Path(), name, shape, apart)
            vectors[name][part] = np.where(present[:, None], found, np.float32(np.nan))
    return vectors


def embed(
    data: Dataset, run: Run, folder: Path, factory: str = "Flat", where: str = "auto"
) -> Artifact:
    """Write the vectors of every star of a data set and an index a view into `folder`."""
    return write(data, run, folder, factory, vectors_of(data, run, where, folder=folder))


def add(
    data: Dataset, run: Run, before: store.Store, folder: Path, where: str = "auto"
) -> Artifact:
    """Write the vectors that stand and those of the stars that were added to the data set.

    Only the new stars are embedded; the rows of the others are carried over as they are, and the
    indexes are added to.

    Args:
        data: The stars of `before` in its order, and new ones after them.
        run: What made `before`.
        before: Vectors that stand.
        folder, where: As in `embed`.

    Raises:
        UsageError: If the data set is not that of `before` with stars added to it.
    """
    stood = len(before.source_id)
    if not np.array_equal(data.source_id[:stood], before.source_id):
        raise UsageError(
            f"{data.artifact.path} does not begin with the {stood} stars of {before.artifact.path}",
            "mmclip preprocess --add-to DATA, the data set of those vectors",
        )
    if len(data.source_id) == stood:
        raise UsageError(
            f"all {stood} stars of {data.artifact.path} have vectors in {before.artifact.path}",
            "--data: a data set that stars were added to",
        )
    vectors = {}
    for name, new in vectors_of(data, run, where, slice(stood, None), folder).items():
        shape = (len(data.source_id), new.shape[1])
        vectors[name] = mapped.empty(folder, f"{name}.all", shape)
        vectors[name][:stood], vectors[name][stood:] = before.vectors(name), new
    factory = before.artifact.manifest.config["factory"]
    return write(data, run, folder, factory, vectors, before.artifact)


def write(
    data: Dataset,
    run: Run,
    folder: Path,
    factory: str,
    vectors: dict[str, NDArray[np.float32]],
    before: Artifact | None = None,
) -> Artifact:
    """Write vectors that are at hand ([objects, D] a view, NaN where unobserved).

    Args:
        before: The vectors of the first stars, whose indexes are added to; None: new indexes.
    """
    about = store.write(folder, data.source_id, data.split, vectors, factory, before)
    mapped.sweep(folder)
    earlier = [before.reference] if before else []
    notes = {"added": len(data.source_id) - before.manifest.rows["objects"]} if before else {}
    rows = {"objects": len(data.source_id)}
    rows |= {n: int(np.isfinite(v[:, 0]).sum()) for n, v in vectors.items()}
    return artifacts.seal(
        folder,
        "vectors",
        config={"factory": factory},
        parents=[run.artifact.reference, data.artifact.reference, *earlier],
        rows=rows,
        surveys=data.artifact.manifest.surveys,
        provenance={n: data.views[n].provenance for n in vectors},
        seed=None,
        notes={"indexes": about, **notes},
    )


def cut(data: Dataset, run: Run, final: Path, shards: int) -> Cut:
    """The shards of the vectors `final`; what determines them are the run and the data."""
    parents = [run.artifact.reference, data.artifact.reference]
    return Cut(final, shards, "mmclip embed", parents, {})


def embed_shard(
    data: Dataset,
    run: Run,
    final: Path,
    shard: int,
    shards: int,
    where: str = "auto",
    force: bool = False,
) -> None:
    """Write the vectors of one block of rows, without an index, unless they are there already.

    The manifest names the same parents as the whole, `final`; `merge` joins the shards.
    """
    whole = cut(data, run, final, shards)
    if not force and sharding.done(whole, shard):
        return
    rows = sharding.block(shard, shards, len(data.source_id))
    vectors = vectors_of(data, run, where, rows)
    with artifacts.building(whole.place(shard), replace=force) as folder:
        write_tensors(
            folder / "vectors.safetensors", {n: torch.from_numpy(v) for n, v in vectors.items()}
        )
        artifacts.seal(
            folder,
            "vectors",
            config=whole.config(shard),
            parents=whole.parents,
            rows={"objects": len(next(iter(vectors.values())))},
            surveys=data.artifact.manifest.surveys,
            provenance={n: data.views[n].provenance for n in vectors},
            seed=None,
        )


def merge(
    data: Dataset, run: Run, final: Path, shards: int, folder: Path, factory: str
) -> Artifact:
    """Join the shards into the artefact that one process would have written.

    Args:
        data, run: What the shards were made from.
        final: The artefact they become; see `mmclip.shards.gather`, also for the errors.
        shards: How many.
        folder, factory: As in `embed`.
    """
    found = sharding.gather(cut(data, run, final, shards))
    pieces = [read_tensors(part.path / "vectors.safetensors") for part in found]
    vectors = {n: torch.cat([p[n] for p in pieces]).numpy() for n in sorted(run.shape.sizes)}
    return write(data, run, folder, factory, vectors)
