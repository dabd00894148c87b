"""A view generated for a whole data set, as an artefact: shards, bounded memory, resumable."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mmclip import artifacts
from mmclip.artifacts import Artifact
from mmclip.clip import checkpoint
from mmclip.clip.decode import Trained
from mmclip.errors import UsageError
from mmclip.tasks import spectra
from mmclip.tasks.generate import inputs, stream
from mmclip.vectors.store import Store

SHARD = 8192  # stars a file


def lacking(store: Store, trained: Trained, missing_only: bool) -> NDArray[np.int64]:
    """Rows that have an input view and, with `missing_only`, lack the view to generate.

    Raises:
        UsageError: If there is none.
    """
    able = np.isfinite(inputs(store, trained.start)[:, 0])
    if missing_only:
        able &= ~np.isfinite(store.vectors(trained.to)[:, 0])
    rows = np.flatnonzero(able)
    if len(rows) == 0:
        raise UsageError(
            f"no star has {' or '.join(trained.start)}"
            + (f" and lacks {trained.to}" if missing_only else ""),
            "leave --missing-only out" if missing_only else "--from another view",
        )
    return rows


def complete(
    store: Store,
    trained: Trained,
    rows: NDArray[np.int64],
    final: Path,
    count: int,
    seed: int,
    force: bool,
    tell: Callable[[int, int], None],
    size: int = SHARD,
) -> Artifact:
    """Generate the view of every star of `rows` into `final`; a killed command goes on.

    A finished shard lies in `.partial-HASH/` beside `final`, named by what determines its content,
    and is not made again.

    Args:
        store, trained: Vectors and decoder.
        rows: Of the store.
        final: The artefact's directory-to-be.
        count, seed: Draws a star, and what fixes them.
        force: Replace an artefact that is there.
        tell: Is told stars done and stars in all after each shard.
        size: Stars a shard.
    """
    artifacts.vacant(final, force)
    source = trained.artifact.reference if trained.artifact else None
    settings = {"start": list(trained.start), "to": trained.to, "draws": count, "seed": seed}
    identity = settings | {
        "vectors": store.artifact.manifest.fingerprint,
        "decoder": source,
        "rows": artifacts.sha256_bytes(np.ascontiguousarray(rows).tobytes()),
        "size": size,
    }
    partial = checkpoint.place(final, identity)
    names = [f"part-{i:05d}.parquet" for i in range(-(-len(rows) // size))]
    with artifacts.locked(partial, "generation"):
        outside = 0
        for i, name in enumerate(names):
            part = rows[i * size : (i + 1) * size]
            if not (partial / name).is_file():
                spectra.write_parquet(
                    stream(store, trained, part, None, count, seed), partial / name
                )
            outside += int(np.sum(pq.read_table(partial / name, columns=["outside"])["outside"]))
            tell(i * size + len(part), len(rows))
        with artifacts.building(final, replace=force, work=partial) as folder:
            for name in names:
                shutil.copyfile(partial / name, folder / name)
            artifact = artifacts.seal(
                folder,
                "generated",
                config=settings,
                parents=[store.artifact.reference] + ([source] if source else []),
                rows={"objects": len(rows), "outside": outside},
                surveys=store.artifact.manifest.surveys,
                provenance={trained.to: "generated"},
                seed=seed,
                notes={
                    "calibrated_on_stars": trained.calibration.stars,
                    "trained_on": trained.provenance,
                },
            )
    return Artifact(final, artifact.manifest)
