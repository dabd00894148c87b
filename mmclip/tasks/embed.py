"""data + run -> vectors."""

import math
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from mmclip import artifacts
from mmclip.artifacts import Artifact, paths
from mmclip.artifacts import shards as sharding
from mmclip.artifacts.shards import Cut
from mmclip.clip.model import embed_all
from mmclip.clip.run import Run
from mmclip.datasets import memmap
from mmclip.datasets.build import Dataset
from mmclip.encoders.tensors import device, read_blocks, tensors, write_arrays
from mmclip.errors import UsageError
from mmclip.modalities import normalise, restore
from mmclip.modalities.settings import complete
from mmclip.surveys import other_release
from mmclip.vectors import store


def room(run: Run, stars: int, folder: Path | None) -> dict[str, NDArray[np.float32]]:
    """Where the vectors [stars, D] of each view go: in memory, or mapped where all do not fit.

    Args:
        run, stars: What will be embedded by what.
        folder: Of what is too large for memory, until `mapped.sweep`; None: in memory all the same.
    """
    shape = (stars, run.shape.dimension)
    apart = folder is not None and 4 * math.prod(shape) * len(run.shape.sizes) > memmap.held()
    return {n: memmap.empty(folder or Path(), n, shape, apart) for n in sorted(run.shape.sizes)}


@torch.no_grad()
def fill(
    vectors: dict[str, NDArray[np.float32]], data: Dataset, run: Run, where: str, start: int = 0
) -> None:
    """Put unit vectors of each view of the run into `vectors`; NaN for a star without the view.

    The views are normalised by the run's own statistics, not by those of the data set.

    Args:
        vectors: [rows, D] each, of the stars from `start` on; see `room`.
        data, run, where, start: What is embedded, by what, on which device, and from which star on.
    """
    if other := other_release(run.artifact.manifest.surveys, data.artifact.manifest.surveys):
        raise UsageError(
            f"{run.artifact.path} holds for {other[0]}; {data.artifact.path} is of {other[1]}",
            "mmclip adapt --from RUN --data DATA fits it to the other release",
        )
    place = device(where)
    model = run.model.to(place)
    for name, to in vectors.items():
        view = data.views[name]
        ours = run.statistics[name]
        alike = ours.settings == view.statistics.settings
        if not alike:  # as they stand; one may name a default that the other leaves out
            kind = data.modality(name)
            alike = complete(kind, ours.settings) == complete(kind, view.statistics.settings)
        if not alike or view.size != run.shape.sizes[name]:
            raise UsageError(
                f"{name} of {data.artifact.path} was prepared under other settings than the run's",
                "prepare it alike: mmclip preprocess --like DATA, the run's own data set",
            )
        for part in memmap.blocks(len(to), view.values.shape[1]):
            values = view.values[start + part.start : start + part.stop]
            if not np.array_equal(ours.centre, view.statistics.centre):
                values = normalise(restore(values, view.statistics), ours)
            present = np.asarray(np.isfinite(values).any(axis=1))
            found = embed_all(model, name, *tensors(values, place)).cpu().numpy()
            to[part] = np.where(present[:, None], found, np.float32(np.nan))


def vectors_of(
    data: Dataset, run: Run, where: str = "auto", folder: Path | None = None
) -> dict[str, NDArray[np.float32]]:
    """Unit vectors [stars, D] of each view of the run; see `room` and `fill`."""
    vectors = room(run, len(data.objects), folder)
    fill(vectors, data, run, where)
    return vectors


def embed(
    data: Dataset, run: Run, folder: Path, factory: str = "Flat", where: str = "auto"
) -> Artifact:
    """Write the vectors of every star of a data set and an index a view into `folder`."""
    return write(data, run, folder, factory, vectors_of(data, run, where, folder))


def added(data: Dataset, before: store.Store) -> slice:
    """The rows of the stars that were added to the data set since `before` was made from it.

    Raises:
        UsageError: If the data set is not that of `before` with stars added to it.
    """
    ids, stood = data.source_id, len(before.source_id)
    if not np.array_equal(ids[:stood], before.source_id):
        raise UsageError(
            f"{data.artifact.path} does not begin with the {stood} stars of {before.artifact.path}",
            "mmclip preprocess --add-to DATA, the data set of those vectors",
        )
    if len(ids) == stood:
        raise UsageError(
            f"all {stood} stars of {data.artifact.path} have vectors in {before.artifact.path}",
            "--data: a data set that stars were added to",
        )
    return slice(stood, len(ids))


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
        UsageError: See `added`.
    """
    new = added(data, before)
    vectors = _carried(run, before, new.stop, folder)
    fill({n: v[new] for n, v in vectors.items()}, data, run, where, new.start)
    factory = before.artifact.manifest.config["factory"]
    return write(data, run, folder, factory, vectors, before.artifact)


def _carried(
    run: Run, before: store.Store, stars: int, folder: Path
) -> dict[str, NDArray[np.float32]]:
    """Room for the vectors of so many stars, of which those that stand are there already."""
    vectors = room(run, stars, folder)
    for name, to in vectors.items():
        to[: len(before.source_id)] = before.vectors(name)
    return vectors


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
    about = store.write(folder, data.source_id, data.objects["split"], vectors, factory, before)
    memmap.sweep(folder)
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


def cut(
    data: Dataset, run: Run, final: Path, shards: int, before: store.Store | None = None
) -> Cut:
    """The shards of the vectors `final`; what determines them are the run and the data.

    Args:
        before: Vectors that stand: the shards are of the stars that were added to them.
    """
    parents = [run.artifact.reference, data.artifact.reference]
    if before is None:
        return Cut(final, shards, "mmclip embed", parents, {})
    name = before.artifact.path.name
    parents += [before.artifact.reference]
    return Cut(final, shards, f"mmclip embed --add-to {name}", parents, {})


def embed_shard(
    data: Dataset,
    run: Run,
    final: Path,
    shard: int,
    shards: int,
    where: str = "auto",
    force: bool = False,
    before: store.Store | None = None,
) -> None:
    """Write the vectors of one block of rows, without an index, unless they are there already.

    The manifest names the same parents as the whole, `final`; `merge` joins the shards.

    Args:
        before: As in `cut`.
    """
    whole = cut(data, run, final, shards, before)
    if not force and sharding.done(whole, shard):
        return
    first, stop, _ = (added(data, before) if before else slice(None)).indices(len(data.objects))
    rows = sharding.block(shard, shards, stop - first)
    with artifacts.building(whole.place(shard), replace=force) as folder:
        vectors = room(run, rows.stop - rows.start, folder)
        fill(vectors, data, run, where, first + rows.start)
        write_arrays(folder / paths.VECTORS_OF_SHARD, vectors)
        memmap.sweep(folder)
        artifacts.seal(
            folder,
            "vectors",
            config=whole.config(shard),
            parents=whole.parents,
            rows={"objects": rows.stop - rows.start},
            surveys=data.artifact.manifest.surveys,
            provenance={n: data.views[n].provenance for n in vectors},
            seed=None,
        )


def merge(
    data: Dataset,
    run: Run,
    final: Path,
    shards: int,
    folder: Path,
    factory: str,
    before: store.Store | None = None,
) -> Artifact:
    """Join the shards into the artefact that one process would have written.

    Args:
        data, run: What the shards were made from.
        final: The artefact they become; see `mmclip.artifacts.shards.gather`, also for the errors.
        shards: How many.
        folder, factory: As in `embed`.
        before: As in `cut`; its factory is kept.
    """
    found = sharding.gather(cut(data, run, final, shards, before))
    start = added(data, before).start if before else 0
    stars = len(data.objects)
    vectors = _carried(run, before, stars, folder) if before else room(run, stars, folder)
    for name, to in vectors.items():
        at = start
        for shard in found:
            for block in read_blocks(shard.path / paths.VECTORS_OF_SHARD, name):
                to[at : at + len(block)] = block
                at += len(block)
    if before is None:
        return write(data, run, folder, factory, vectors)
    factory = before.artifact.manifest.config["factory"]
    return write(data, run, folder, factory, vectors, before.artifact)
