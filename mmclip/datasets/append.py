"""data/ + new raw/ -> data/: stars fetched later, prepared as those that stand and put after them.

What stands is not touched: its rows, its statistics and its settings are carried over as they are,
and the new stars are normalised by these statistics, so that a run trained on the one reads both.
"""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mmclip import arrays, artifacts
from mmclip.artifacts import Artifact, paths
from mmclip.datasets import error_correlations, join, split, tables
from mmclip.datasets.build import (
    Plan,
    counts,
    fill,
    limits,
    placed,
    plan,
    read_statistics,
    rejects_of,
    with_views,
    write_objects,
)
from mmclip.datasets.prepare import Part, prepare_all
from mmclip.datasets.settings import resolve
from mmclip.errors import NotFound, UsageError
from mmclip.ids import lookup
from mmclip.modalities import Modality, registry

SPLIT_OF_ADDED = "split of the added"  # a note: the rule, where it is not that of what stands


@dataclass(frozen=True)
class Addition:
    """What is added to a data artefact.

    Attributes:
        stands: The artefact that is added to.
        todo: The new stars alone.
        known: Stars of the new raw data that stand already, and are left out.
    """

    stands: Artifact
    todo: Plan
    known: int


def plan_addition(
    stands: Artifact, raws: Sequence[Artifact], own: pa.Table | None = None, workers: int = 0,
    rule: str = "",
) -> Addition:  # fmt: skip
    """Look at new raw data under the settings of what stands, without preparing them.

    Args:
        stands: Of kind `data`.
        raws: What was fetched later; they may hold only some of the views, and known stars too.
        own: The user's labels of the new stars, with `source_id`.
        workers: Processes; 0: as fits.
        rule: Of the split of the new stars; empty: that of what stands.

    Raises:
        NotFound: If the raw data hold no view of the data set.
        UsageError: If no star of them is new.
    """
    every = {n: _modality(stands, n) for n in stands.manifest.provenance}
    views = [m.address for m in every.values() if join.holding(raws, m)]
    if not views:
        raise NotFound(
            f"{', '.join(str(r.path) for r in raws)} holds none of the views of {stands.path} "
            f"({', '.join(stands.manifest.provenance)})",
            "--raw NAME, with one of them",
        )
    asked = {"modalities": ",".join(views), "workers": workers} | ({"split": rule} if rule else {})
    settings, given = resolve(None, asked, stands)
    whole = plan(raws, settings, given, own)
    file = artifacts.checked(stands, paths.OBJECTS)
    needed: list[str] = [n for n in ("source_id", "split", "ra", "dec") if n in tables.names(file)]
    there = tables.read(file, needed)
    old = arrays.column(there, "source_id")
    new = ~np.isin(arrays.column(whole.objects, "source_id"), old)
    if not new.any():
        raise UsageError(
            f"all {len(new)} stars of {', '.join(str(r.path) for r in raws)} are in "
            f"{stands.path} already",
            "nothing is to be added; --raw NAME names other raw data",
        )
    blocks = tuple(
        (m, tuple(replace(b, keep=b.keep & ~np.isin(b.source_id, old)) for b in each))
        for m, each in whole.views
    )
    todo = replace(
        whole,
        objects=whole.objects.filter(pa.array(new)),
        parts=split.follow(whole.parts[new], whole.objects.filter(pa.array(new)), there),
        views=tuple((m, tuple(b for b in each if b.keep.any())) for m, each in blocks),
    )
    return Addition(stands, todo, int((~new).sum()))


def _modality(stands: Artifact, name: str) -> Modality:
    return registry.of_view(name, read_statistics(stands, name))


def sources(stands: Artifact) -> tuple[str, ...]:
    """The raw views that the views of a data set are read from."""
    return tuple(_modality(stands, n).source for n in stands.manifest.provenance)


def add(
    addition: Addition,
    final: Path,
    force: bool,
    tell: Callable[[str], None] = lambda text: None,
    prepare: Callable[..., list[Part]] = prepare_all,
) -> Artifact:
    """Write the data artefact of the stars that stand and the new ones after them.

    An addition that was interrupted goes on.

    Args:
        addition: See `plan_addition`.
        final: Where to.
        force: Replace an artefact that is there.
        tell: Is told of progress.
        prepare: Gives the prepared parts of a view; see `prepare_all`.

    Raises:
        MmclipError: If `final` is there and may not be replaced, or the same is running.
        UsageError: If labels of both do not fit together.
    """
    artifacts.check_free(final, force)
    partial = artifacts.unfinished(
        final, [addition.todo.mark, addition.stands.manifest.fingerprint]
    )
    with (
        artifacts.locked(partial, "addition"),
        artifacts.building(final, replace=force, work=partial) as folder,
    ):
        artifact = _build(addition, folder, partial, tell, prepare)
    return Artifact(final, artifact.manifest)


def _build(
    addition: Addition,
    folder: Path,
    partial: Path,
    tell: Callable[[str], None],
    prepare: Callable[..., list[Part]],
) -> Artifact:
    stands, todo, rule = addition.stands, addition.todo, addition.todo.settings.split
    views, blocks = dict.fromkeys(stands.manifest.provenance), {m.name: b for m, b in todo.views}
    added, find = dict[str, NDArray[np.bool_]](), lookup(arrays.column(todo.objects, "source_id"))
    rejected = [tables.read(artifacts.checked(stands, paths.REJECTS))]
    for name in views:
        modality = next((m for m, _ in todo.views if m.name == name), None)
        parts: list[Part] = []
        if modality is not None:
            parts = prepare(modality, blocks[name], partial, todo.settings.workers, tell)
        _view(stands, name, modality, parts, folder)
        added[name], _ = placed(todo, parts, find)
        error_correlations.write(folder, name, parts, stands)
        rejected += [rejects_of(name, p) for p in parts]
    rejects = pa.concat_tables(rejected)
    old = tables.read(artifacts.checked(stands, paths.OBJECTS))
    table = together(old, with_views(todo, added))
    write_objects(folder, table)
    tables.write(folder / paths.REJECTS, rejects)
    made = dict(stands.manifest.provenance)
    for modality, _ in todo.views:
        if join.provenance(todo.raws, modality) == "modelled":
            made[modality.name] = "modelled"
    return artifacts.seal(
        folder,
        "data",
        config=stands.manifest.config,
        parents=[stands.reference, *(r.reference for r in todo.raws)],
        rows=counts(table, rejects, list(views)),
        surveys=join.surveys([stands, *todo.raws]),
        provenance=made,
        seed=stands.manifest.seed,
        notes={"added": todo.objects.num_rows, "already there": addition.known}
        | ({"labels": list(todo.own)} if todo.own else {})
        | ({SPLIT_OF_ADDED: rule} if rule != stands.manifest.config.get("split", "") else {}),
    )


def _view(
    stands: Artifact, name: str, modality: Modality | None, parts: list[Part], folder: Path
) -> None:
    """The rows of a view that stand, then the new ones."""
    old = artifacts.checked(stands, paths.table(name))
    shutil.copyfile(
        artifacts.checked(stands, paths.statistics(name)), folder / paths.statistics(name)
    )
    by = read_statistics(stands, name)
    held = tables.names(old)
    errors = "errors" in held or any(p.errors is not None for p in parts)
    names = ["source_id", "values", *(["errors"] if errors else [])]
    with tables.Writer(folder / paths.table(name), len(by.centre), names) as to:
        for group in range(len(tables.groups(old))):
            for table in tables.batches(old, group, held, tables.GROUP):
                spread = arrays.column(table, "errors") if "errors" in held else None
                to.write(arrays.column(table, "source_id"), arrays.column(table, "values"), spread)
        if modality is not None:
            bound = limits(modality, by, float(stands.manifest.config.get("clip", 0.0)))
            fill(to, parts, by, bound)


def together(old: pa.Table, new: pa.Table) -> pa.Table:
    """Rows of both, those of `old` first and unchanged; null where one lacks a column.

    Raises:
        UsageError: If the values of a new column do not fit the type that stands.
    """
    for name in set(old.column_names) & set(new.column_names):
        kind = old.schema.field(name).type
        if pa.types.is_null(kind):
            continue
        try:
            column = new[name].cast(kind)
        except pa.ArrowException as error:
            raise UsageError(
                f"column '{name}' of the new stars is {new.schema.field(name).type} and does not "
                f"fit that of the stars that stand, {kind}",
                "rename it in --labels, or in the new raw data",
            ) from error
        new = new.set_column(new.column_names.index(name), name, column)
    return pa.concat_tables([old, new], promote_options="default").combine_chunks()
