"""A build in shards: each prepares its own blocks, the merge normalises them all.

Means and spreads come from the training stars of every shard, so a shard holds prepared rows that
are not yet normalised, `VIEW-00000.values.npy` and so on, as `mmclip.datasets.prepare` writes them;
the merge reads them in the order in which one process would have written them.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mmclip import __version__, artifacts
from mmclip.artifacts import Artifact, paths, shards
from mmclip.artifacts.shards import Cut
from mmclip.datasets.append import Addition, add
from mmclip.datasets.build import Plan, make
from mmclip.datasets.join import Block, provenance
from mmclip.datasets.prepare import Part, prepare_all, read_part
from mmclip.modalities import Modality

COMMAND = "mmclip preprocess"


def cut(todo: Plan, final: Path, count: int, stands: Artifact | None = None) -> Cut:
    """The shards of a build; what determines their rows are the raw data and these settings.

    Args:
        todo, final, count: As in `prepare`.
        stands: What the stars are added to, if to anything.
    """
    settings = {"settings": todo.resolved["settings"], "mmclip": __version__}
    command = f"{COMMAND} --add-to {stands.path.name}" if stands else COMMAND
    parents = [a.reference for a in ((stands,) if stands else ()) + todo.raws]
    return Cut(final, count, command, parents, settings)


def prepare(
    todo: Plan,
    final: Path,
    shard: int,
    count: int,
    force: bool,
    tell: Callable[[str], None],
    stands: Artifact | None = None,
) -> None:
    """Prepare the blocks of one shard; interrupted, it goes on.

    Args:
        todo: Of the whole build, or of the stars that are added.
        final: The artefact that the shards become.
        shard, count: Which one (from 1), and of how many.
        force: Make it again although it is there.
        tell: Is told of progress.
        stands: As in `cut`.

    Raises:
        MmclipError: If another process makes it.
        UsageError: If one is there that was made otherwise.
    """
    whole = cut(todo, final, count, stands)
    here = whole.place(shard)
    if not force and shards.done(whole, shard):
        tell(f"{here} is there already (--force makes it again)")
        return
    mark = artifacts.mark([todo.mark, stands.manifest.fingerprint]) if stands else todo.mark
    partial = here.parent / paths.partial(f"{mark}-{here.name}")
    rows: dict[str, int] = {}
    with artifacts.locked(partial, "shard"):
        for modality, blocks in todo.views:
            own = blocks[shards.block(shard, count, len(blocks))]
            made = prepare_all(modality, own, partial, todo.settings.workers, tell)
            rows[modality.name] = sum(len(p.good) for p in made)
        with artifacts.building(here, replace=force, work=partial) as folder:
            for file in sorted(partial.glob("[!.]*-*.*")):
                artifacts.link(file, folder / file.name)
            artifacts.seal(
                folder,
                "data",
                config=whole.config(shard),
                parents=whole.parents,
                rows=rows,
                surveys=[],
                provenance={m.name: provenance(todo.raws, m) for m, _ in todo.views},
                seed=None,
            )


def merge(
    todo: Plan, final: Path, count: int, force: bool, tell: Callable[[str], None]
) -> Artifact:
    """Build the artefact that one process would have written from the shards, which then go.

    Raises:
        NotFound, UsageError, IntegrityError: See `mmclip.artifacts.shards.gather`.
    """
    found = shards.gather(cut(todo, final, count))
    artifact = make(todo, final, force, tell, _held(found))
    shards.forget(final)
    return artifact


def merge_addition(
    addition: Addition, final: Path, count: int, force: bool, tell: Callable[[str], None]
) -> Artifact:
    """As `merge`, for stars that are added to a data set."""
    found = shards.gather(cut(addition.todo, final, count, addition.stands))
    artifact = add(addition, final, force, tell, _held(found))
    shards.forget(final)
    return artifact


def _held(found: Sequence[Artifact]) -> Callable[..., list[Part]]:
    """What stands for `prepare_all` where the shards have prepared all."""

    def held(
        modality: Modality, blocks: Sequence[Block], folder: Path, workers: int, tell: Any
    ) -> list[Part]:
        return [
            read_part(shard.path, modality.name, k)
            for i, shard in enumerate(found, 1)
            for k in range(len(blocks[shards.block(i, len(found), len(blocks))]))
        ]

    return held
