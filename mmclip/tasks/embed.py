"""data + run -> vectors."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from mmclip import artifacts
from mmclip.artifacts import Artifact
from mmclip.clip.run import Run, device, read_tensors, tensors, write_tensors
from mmclip.clip.train import embed_all
from mmclip.datasets import mapped
from mmclip.datasets.build import Dataset
from mmclip.errors import NotFound, UsageError
from mmclip.modalities import normalise, restore
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


def write(
    data: Dataset, run: Run, folder: Path, factory: str, vectors: dict[str, NDArray[np.float32]]
) -> Artifact:
    """Write vectors that are at hand ([objects, D] a view, NaN where unobserved)."""
    about = store.write(folder, data.source_id, data.split, vectors, factory)
    mapped.sweep(folder)
    rows = {"objects": len(data.source_id)}
    rows |= {n: int(np.isfinite(v[:, 0]).sum()) for n, v in vectors.items()}
    return artifacts.seal(
        folder,
        "vectors",
        config={"factory": factory},
        parents=[run.artifact.reference, data.artifact.reference],
        rows=rows,
        surveys=data.artifact.manifest.surveys,
        provenance={n: data.views[n].provenance for n in vectors},
        seed=None,
        notes={"indexes": about},
    )


def block(shard: int, shards: int, objects: int) -> slice:
    """Rows of shard 1..shards: contiguous, disjoint, and together all of them."""
    return slice((shard - 1) * objects // shards, shard * objects // shards)


def embed_shard(
    data: Dataset, run: Run, folder: Path, shard: int, shards: int, where: str = "auto"
) -> Artifact:
    """Write the vectors of one block of rows, without an index, into `folder`.

    Its manifest names the same parents as the whole; `merge` joins the shards.
    """
    rows = block(shard, shards, len(data.source_id))
    vectors = vectors_of(data, run, where, rows)
    write_tensors(
        folder / "vectors.safetensors", {n: torch.from_numpy(v) for n, v in vectors.items()}
    )
    return artifacts.seal(
        folder,
        "vectors",
        config={"shard": shard, "shards": shards},
        parents=[run.artifact.reference, data.artifact.reference],
        rows={"objects": len(next(iter(vectors.values())))},
        surveys=data.artifact.manifest.surveys,
        provenance={n: data.views[n].provenance for n in vectors},
        seed=None,
    )


def merge(data: Dataset, run: Run, parts: list[Path], folder: Path, factory: str) -> Artifact:
    """Join the shards into the artefact that one process would have written.

    Args:
        data, run: What the shards were made from.
        parts: Their directories, first shard first.
        folder, factory: As in `embed`.

    Raises:
        NotFound: If a shard is missing, naming the command that makes it.
        UsageError: If a shard was made from another run or data set.
    """
    parents = [run.artifact.reference, data.artifact.reference]
    pieces: list[dict[str, torch.Tensor]] = []
    for number, part in enumerate(parts, 1):
        if not (part / artifacts.MANIFEST).is_file():
            raise NotFound(
                f"shard {number} of {len(parts)} is not there yet ({part})",
                f"mmclip embed --shard {number}/{len(parts)}",
            )
        artifact = artifacts.read(part)
        if artifact.manifest.parents != parents:
            raise UsageError(
                f"{part} was made from another run or data set",
                f"mmclip embed --shard {number}/{len(parts)} --force",
            )
        pieces.append(read_tensors(artifacts.checked(artifact, "vectors.safetensors")))
    vectors = {n: torch.cat([p[n] for p in pieces]).numpy() for n in sorted(run.shape.sizes)}
    return write(data, run, folder, factory, vectors)
