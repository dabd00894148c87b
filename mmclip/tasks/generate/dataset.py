"""A view generated for a whole data set, as an artefact: shards, bounded memory, resumable."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mmclip import artifacts
from mmclip.artifacts import Artifact
from mmclip.artifacts import shards as sharding
from mmclip.artifacts.shards import Cut
from mmclip.config import Json
from mmclip.errors import UsageError
from mmclip.tasks.generate import files as spectra
from mmclip.tasks.generate import inputs, stream, surroundings
from mmclip.tasks.generate.decoder import Trained, Vectors, observed
from mmclip.vectors.store import Store

SHARD = 8192  # stars a file


def lacking(store: Store, trained: Trained, missing_only: bool) -> NDArray[np.int64]:
    """Rows that have an input view and, with `missing_only`, lack the view to generate.

    Raises:
        UsageError: If there is none.
    """
    able = observed(inputs(store, trained.start))
    if missing_only:
        able &= ~observed(store.vectors(trained.to))
    rows = np.flatnonzero(able)
    if len(rows) == 0:
        raise UsageError(
            f"no star has {' or '.join(trained.start)}"
            + (f" and lacks {trained.to}" if missing_only else ""),
            "leave --missing-only out" if missing_only else "--from another view",
        )
    return rows


@dataclass(frozen=True)
class Completion:
    """What `generate --all` makes.

    Attributes:
        store, trained: Vectors and decoder.
        rows: Of the store.
        count, seed: Draws a star, and what fixes them.
        size: Stars a file.
        reads: What the decoder reads; None: vectors of the store.
    """

    store: Store
    trained: Trained
    rows: NDArray[np.int64]
    count: int
    seed: int
    size: int
    reads: Vectors | None = None

    @property
    def settings(self) -> Json:
        """Of the artefact."""
        to = {"start": list(self.trained.start), "to": self.trained.to}
        return to | {"draws": self.count, "seed": self.seed}

    @property
    def parents(self) -> list[artifacts.Reference]:
        """Vectors, and the decoder unless it is the run's own."""
        source = self.trained.artifact
        return [self.store.artifact.reference] + ([source.reference] if source else [])

    @property
    def identity(self) -> Json:
        """What determines the content."""
        rows = artifacts.sha256_bytes(np.ascontiguousarray(self.rows).tobytes())
        return self.settings | {"rows": rows, "size": self.size}

    @property
    def names(self) -> list[str]:
        """The files."""
        return [f"part-{i:05d}.parquet" for i in range(-(-len(self.rows) // self.size))]


def complete(
    todo: Completion, final: Path, force: bool, tell: Callable[[int, int], None]
) -> Artifact:
    """Generate the view of every star into `final`; a killed command goes on.

    A finished file lies in `.partial-HASH/` beside `final`, named by what determines its content,
    and is not made again.

    Args:
        todo: What is made.
        final: The artefact's directory-to-be.
        force: Replace an artefact that is there.
        tell: Is told stars done and stars in all after each file.
    """
    artifacts.check_free(final, force)
    partial = artifacts.unfinished(final, todo.identity | {"parents": todo.parents})
    with artifacts.locked(partial, "generation"):
        _generate(todo, slice(None), partial, tell)
        return _seal(todo, [partial / name for name in todo.names], final, force, partial)


def cut(todo: Completion, final: Path, shards: int) -> Cut:
    """The shards of a completion."""
    return Cut(final, shards, "mmclip generate --all", todo.parents, todo.identity)


def complete_shard(
    todo: Completion,
    final: Path,
    shard: int,
    shards: int,
    force: bool,
    tell: Callable[[int, int], None],
) -> None:
    """Generate the files of one shard, unless they are there already; a killed command goes on."""
    whole = cut(todo, final, shards)
    if not force and sharding.done(whole, shard):
        return
    own = sharding.block(shard, shards, len(todo.names))
    here, config = whole.place(shard), whole.config(shard)
    partial = artifacts.unfinished(here, config | {"parents": todo.parents})
    with artifacts.locked(partial, "shard"):
        _generate(todo, own, partial, tell)
        files = [partial / name for name in todo.names[own]]
        with artifacts.building(here, replace=force, work=partial) as folder:
            for file in files:
                artifacts.link(file, folder / file.name)
            artifacts.seal(
                folder,
                "generated",
                config=config,
                parents=todo.parents,
                rows={"objects": sum(pq.read_metadata(f).num_rows for f in files)},
                surveys=todo.store.artifact.manifest.surveys,
                provenance={todo.trained.to: "generated"},
                seed=todo.seed,
            )


def merge(todo: Completion, final: Path, shards: int, force: bool) -> Artifact:
    """Join the shards into the artefact that one process would have written; they then go.

    Raises:
        NotFound, UsageError, IntegrityError: See `mmclip.artifacts.shards.gather`.
    """
    found = sharding.gather(cut(todo, final, shards))
    files = [
        part.path / name
        for i, part in enumerate(found, 1)
        for name in todo.names[sharding.block(i, shards, len(todo.names))]
    ]
    artifact = _seal(todo, files, final, force, sharding.folder(final))
    sharding.forget(final)
    return artifact


def _generate(todo: Completion, own: slice, folder: Path, tell: Callable[[int, int], None]) -> None:
    around = None
    done, of = 0, sum(len(todo.rows[_stars(todo, i)]) for i in range(len(todo.names))[own])
    for i in range(len(todo.names))[own]:
        part, file = todo.rows[_stars(todo, i)], folder / todo.names[i]
        if not file.is_file():
            if around is None:
                around = surroundings(todo.store, inputs(todo.store, todo.trained.start))
            made = stream(
                todo.store, todo.trained, part, count=todo.count, seed=todo.seed, around=around,
                reads=todo.reads,
            )  # fmt: skip
            spectra.write_parquet(made, file)
        done += len(part)
        tell(done, of)


def _stars(todo: Completion, file: int) -> slice:
    return slice(file * todo.size, (file + 1) * todo.size)


def _seal(todo: Completion, files: list[Path], final: Path, force: bool, work: Path) -> Artifact:
    flags = (pq.read_table(f, columns=["outside"])["outside"] for f in files)
    outside = sum(int(np.sum(f)) for f in flags)
    with artifacts.building(final, replace=force, work=work) as folder:
        for file in files:
            artifacts.link(file, folder / file.name)
        artifact = artifacts.seal(
            folder,
            "generated",
            config=todo.settings,
            parents=todo.parents,
            rows={"objects": len(todo.rows), "outside": outside},
            surveys=todo.store.artifact.manifest.surveys,
            provenance={todo.trained.to: "generated"},
            seed=todo.seed,
            notes={
                "calibrated_on_stars": todo.trained.calibration.stars,
                "trained_on": todo.trained.provenance,
            },
        )
    return Artifact(final, artifact.manifest)
