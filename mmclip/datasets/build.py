"""raw/ -> data/: prepare every view, reject by reason, split, normalise by the training split."""

import json
import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mmclip import __version__, arrays, artifacts, config, papers, plugins
from mmclip.artifacts import Artifact, paths, write_atomic
from mmclip.config import AtLeast0, Json, Seed, Whole
from mmclip.datasets import error_correlations, join, memmap, split, tables
from mmclip.datasets.join import Block
from mmclip.datasets.labels import join_labels
from mmclip.datasets.prepare import Part, prepare_all, settle, statistics_of
from mmclip.errors import MmclipError, NotFound, UsageError, nearest
from mmclip.ids import lookup, rows_of
from mmclip.modalities import Modality, Statistics, normalise, registry
from mmclip.modalities.settings import plain
from mmclip.surveys import id_list

ARRAYS = ("values", "errors")  # columns of a prepared view
GIVEN_SPLIT = "split_given"  # a column `split` that another rule set aside
OBJECTS = 32 * tables.GROUP  # written at a time


@dataclass(frozen=True)
class PreprocessConfig:
    """Settings of `mmclip preprocess`."""

    modalities: tuple[str, ...] = ()  # empty: every view the raw data hold
    normalisation: str = "z"  # z | mad | none, per entry over the training split
    seed: Seed = 42  # of the split
    split: str = ""  # see `mmclip.papers.split`; empty: as given, else the preset's, else cells
    holdout: str = ""  # a file of ids that are for test alone
    clip: AtLeast0 = 10.0  # normalised values are limited to +-clip; 0 keeps them
    set: tuple[str, ...] = ()  # settings of modalities, as NAME.KEY=VALUE
    preset: str = ""  # a published work's settings, under those given
    workers: Whole = 0  # processes; 0: as many as there are processors and work for them


@dataclass(frozen=True)
class View:
    """One modality of a data set, in normalised units.

    Attributes:
        values: [objects, length] float32; NaN where not observed.
        errors: The same shape, 1-sigma; None if the modality has none.
        statistics: What undoes the normalisation.
        provenance: `observed` or `modelled`.
        size: Shape of one object; its product is `length`.
        mapped: Values and errors are read from disk when they are asked for.
    """

    values: NDArray[np.float32]
    errors: NDArray[np.float32] | None
    statistics: Statistics
    provenance: str
    size: tuple[int, ...]
    mapped: bool = False

    @property
    def present(self) -> NDArray[np.bool_]:
        """[objects] True where at least one entry was observed."""
        seen = np.empty(len(self.values), np.bool_)
        for part in memmap.blocks(*self.values.shape):
            seen[part] = np.isfinite(self.values[part]).any(axis=1)
        return seen


@dataclass(frozen=True)
class Dataset:
    """A data artefact; row i of everything is the same star."""

    artifact: Artifact
    objects: pa.Table
    views: dict[str, View] = field(default_factory=dict)

    @property
    def source_id(self) -> NDArray[np.int64]:
        """[objects] int64."""
        return arrays.column(self.objects, "source_id")

    @property
    def split(self) -> NDArray[Any]:
        """[objects] of `train`, `validation`, `test`."""
        return arrays.words(self.objects, "split")

    def modality(self, name: str) -> Modality:
        """The modality of a view, under the settings it was prepared with."""
        return registry.of_view(name, self.views[name].statistics)

    def of(self, split: str) -> NDArray[np.bool_]:
        """[objects] True for those of a split: a byte each, where `split` takes forty."""
        return arrays.equals(self.objects, "split", split)


@dataclass(frozen=True)
class Plan:
    """What a build will do: see `plan`."""

    settings: PreprocessConfig
    raws: tuple[Artifact, ...]
    objects: pa.Table
    parts: NDArray[np.int8]  # [objects] the split of each, as its place in `split.SPLITS`
    views: tuple[tuple[Modality, tuple[Block, ...]], ...]
    own: tuple[str, ...] = ()  # columns that came from the user's table
    rule: str = ""  # of the split, for people; empty: by cells
    kept: Mapping[str, str] = field(default_factory=dict)  # columns under another name: why

    @property
    def resolved(self) -> Json:
        """The configuration with every setting of every modality."""
        return config.to_dict(self.settings) | {
            "modalities": [m.address for m, _ in self.views],
            "settings": {m.name: plain(m) for m, _ in self.views},
        }

    @property
    def mark(self) -> str:
        """Names the work of this plan, so that it goes on when it was interrupted."""
        identity = [
            __version__,
            self.resolved["settings"],
            [r.manifest.fingerprint for r in self.raws],
        ]
        return artifacts.mark(identity)

    def rows(self) -> list[Json]:
        """One row a view: what will be read and about how much is written."""
        return [
            {
                "view": m.name,
                "rows": sum(int(b.keep.sum()) for b in blocks),
                "repeated or no object": sum(int((~b.keep).sum()) for b in blocks),
                "blocks": len(blocks),
                "size": "x".join(map(str, m.size)),
                "MB at most": 8e-6 * sum(int(b.keep.sum()) for b in blocks) * math.prod(m.size),
            }
            for m, blocks in self.views
        ]


def plan(
    raws: Sequence[Artifact],
    settings: PreprocessConfig,
    given: Mapping[str, Mapping[str, Any]] | None = None,
    own: pa.Table | None = None,
) -> Plan:
    """Look at the raw data without preparing them.

    Args:
        raws: What was fetched; of a star that two of them hold the first counts.
        settings: See `PreprocessConfig`.
        given: Settings of modalities, by name; `settings.set` goes before them.
        own: A table of the user's with `source_id`, joined to the objects.

    Raises:
        NotFound: If a modality is unknown or the raw data lack it.
        UsageError: If a setting cannot be, or there are no objects.
    """
    if settings.normalisation not in ("z", "mad", "none"):
        raise UsageError(
            f"normalisation '{settings.normalisation}' is not known", "choose z, mad or none"
        )
    table = join.objects(raws)
    kept = join.disputed(raws, table)
    ids = arrays.column(table, "source_id").astype(np.int64)
    chosen = join.choose(raws, settings.modalities)
    if own is not None:
        _not_ours(own, [m.name for m in chosen])
        table = join_labels(table, own)
    asked = typed(settings.set, given or {}, [m.name for m in chosen])
    views = []
    for modality in chosen:
        blocks = join.blocks(raws, modality, ids)
        views.append((settle(modality, blocks, asked[modality.name]), tuple(blocks)))
    parts = _parts(table, settings)
    mine = () if own is None else tuple(n for n in own.column_names if n != "source_id")
    rule = "" if parts.rule.rule == "cells" and not parts.held else parts.title
    names = table.column_names
    aside = "split" in names and parts.rule.rule != "column" and GIVEN_SPLIT not in names
    if aside and table["split"].null_count < table.num_rows:
        kept[GIVEN_SPLIT] = f"the column split, which --split {settings.split} sets aside"
    return Plan(settings, tuple(raws), table, parts.codes, tuple(views), mine, rule, kept)


def _not_ours(own: pa.Table, views: Sequence[str]) -> None:
    """Refuse a user's column that mmclip would write over."""
    taken = [n for n in own.column_names if n in [f"has_{v}" for v in views]]
    if taken:
        raise UsageError(
            f"the labels have a column {taken[0]}, which mmclip writes itself: whether a star has "
            f"{taken[0].removeprefix('has_')}",
            f"give it another name, for example my_{taken[0]}",
        )


def _parts(objects: pa.Table, settings: PreprocessConfig) -> split.Parts:
    """The split as asked, else as a column `split` gives it, else the preset's, else by cells."""
    rule = papers.split("cells")
    if settings.split:
        rule = papers.split(settings.split, settings.seed)
    elif "split" in objects.column_names and objects["split"].null_count < objects.num_rows:
        rule = papers.split("column split")
    elif settings.preset:
        rule = replace(papers.read(settings.preset).split or rule, seed=settings.seed)
    ids = id_list.read(Path(settings.holdout)) if settings.holdout else None
    held = None if ids is None else np.array(ids.dr3, np.int64)
    return split.divide(objects, rule, settings.seed, held)


def typed(
    texts: Sequence[str], given: Mapping[str, Mapping[str, Any]], names: Sequence[str]
) -> dict[str, Json]:
    """Settings of each modality: those given, with `NAME.KEY=VALUE` texts over them.

    What is said of `spectra` holds for `spectra@miles` too.

    Raises:
        UsageError: If a text is not of that form.
        NotFound: If it names a modality that is not prepared.
    """
    made = {n: {**given.get(plugins.base(n), {}), **given.get(n, {})} for n in names}
    for text in texts:
        name, dot, rest = text.partition(".")
        key, equals, value = rest.partition("=")
        if not (dot and equals and key):
            raise UsageError(
                f"--set '{text}' is not NAME.KEY=VALUE", "--set spectra.resampling=linear"
            )
        view, at, place = name.strip().partition("@")
        name = f"{view.replace('-', '_')}{at}{place}"
        meant = [n for n in made if name in (n, plugins.base(n))]
        if not meant:
            raise NotFound(
                f"--set {text}: {name} is not prepared here; {nearest(name, list(made))}",
                f"--modalities {','.join([*made, name])}",
            )
        for one in meant:
            made[one][key.strip()] = value.strip()
    return made


def build(
    todo: Plan,
    folder: Path,
    partial: Path,
    tell: Callable[[str], None] = lambda text: None,
    prepare: Callable[..., list[Part]] = prepare_all,
) -> Artifact:
    """Write a data artefact into `folder`; a build that was interrupted goes on.

    Args:
        todo: See `plan`.
        folder: Where to.
        partial: Where prepared blocks wait, normalised when all of a view are there.
        tell: Is told of progress.
        prepare: What gives the prepared parts of a view; `prepare_all`, unless they lie in shards.

    Raises:
        UsageError: If nothing is left.
    """
    raws = todo.raws
    find = lookup(arrays.column(todo.objects, "source_id"))
    rejected: list[pa.Table] = []
    written: dict[str, NDArray[np.bool_]] = {}
    for modality, blocks in todo.views:
        prepared = prepare(modality, blocks, partial, todo.settings.workers, tell)
        written[modality.name], training = placed(todo, prepared, find)
        _write(modality, prepared, training, todo, folder)
        error_correlations.write(folder, modality.name, prepared)
        rejected += [rejects_of(modality.name, p) for p in prepared]
    table, rejects = with_views(todo, written), pa.concat_tables(rejected)
    rows = counts(table, rejects, list(written))
    if not any(rows[name] for name in written):
        reasons = sorted(n.removeprefix("rejected ") for n in rows if n.startswith("rejected "))
        raise UsageError(
            f"no object of {raws[0].path} survives preprocessing ({'; '.join(reasons)})",
            f"mmclip info {raws[0].path}",
        )
    write_objects(folder, table)
    tables.write(folder / paths.REJECTS, rejects)
    return artifacts.seal(
        folder,
        "data",
        config=todo.resolved,
        parents=[r.reference for r in raws],
        rows=rows,
        surveys=join.surveys(raws),
        provenance={m.name: join.provenance(raws, m) for m, _ in todo.views},
        seed=todo.settings.seed,
        notes=({"labels": list(todo.own)} if todo.own else {})
        | ({"split": todo.rule} if todo.rule else {})
        | ({"kept": dict(todo.kept)} if todo.kept else {}),
    )


def make(
    todo: Plan,
    final: Path,
    force: bool,
    tell: Callable[[str], None],
    prepare: Callable[..., list[Part]] = prepare_all,
) -> Artifact:
    """Build into `final`, going on where the same build was interrupted before; see `build`.

    Raises:
        MmclipError: If `final` is there and may not be replaced, or the same build is running.
    """
    artifacts.check_free(final, force)
    partial = final.parent / paths.partial(todo.mark)
    with (
        artifacts.locked(partial, "preprocessing"),
        artifacts.building(final, replace=force, work=partial) as folder,
    ):
        artifact = build(todo, folder, partial, tell, prepare)
        _still(todo.raws, partial)
    return Artifact(final, artifact.manifest)


def placed(
    todo: Plan, parts: Sequence[Part], find: Callable[[NDArray[np.int64]], NDArray[np.int64]]
) -> tuple[NDArray[np.bool_], list[NDArray[np.bool_]]]:
    """[objects] which of them the parts of a view hold; of each part which rows are training."""
    there, training = np.zeros(len(todo.parts), bool), []
    for part in parts:
        rows = find(part.source_id)
        there[rows[part.good]] = True
        training.append((todo.parts[rows] == split.SPLITS.index("train")) & part.good)
    return there, training


def with_views(todo: Plan, written: Mapping[str, NDArray[np.bool_]]) -> pa.Table:
    """The objects with their `split` (as a dictionary) and `has_VIEW`, as `placed` says."""
    objects = todo.objects
    flags = [f"has_{name}" for name in written]
    table = objects.drop_columns([n for n in objects.column_names if n in ("split", *flags)])
    words = pa.DictionaryArray.from_arrays(pa.array(todo.parts), pa.array(split.SPLITS))
    if GIVEN_SPLIT in todo.kept:
        table = table.append_column(GIVEN_SPLIT, objects["split"])
    table = table.append_column("split", words)
    for name, there in written.items():
        table = table.append_column(f"has_{name}", pa.array(there))
    return table


def write_objects(folder: Path, table: pa.Table) -> None:
    """Write `objects.parquet`, dictionaries as plain texts, some thousand rows at a time."""
    place = table.column_names.index("split")
    pieces = (table.slice(start, OBJECTS) for start in range(0, max(table.num_rows, 1), OBJECTS))
    plain = (p.set_column(place, "split", p["split"].cast(pa.string())) for p in pieces)
    tables.write_pieces(folder / paths.OBJECTS, plain)


def counts(objects: pa.Table, rejects: pa.Table, views: Sequence[str]) -> dict[str, int]:
    """The `rows` of a manifest: all, those with each view, of each split, rejected by reason."""
    rows = {"objects": objects.num_rows}
    rows |= {n: pc.sum(objects[f"has_{n}"]).as_py() or 0 for n in views}
    rows |= {s: pc.sum(pc.equal(objects["split"], s)).as_py() or 0 for s in split.SPLITS}
    counted = rejects.group_by(["modality", "reason"]).aggregate([([], "count_all")]).to_pylist()
    return rows | {f"rejected {r['modality']}: {r['reason']}": r["count_all"] for r in counted}


def _still(raws: Sequence[Artifact], partial: Path) -> None:
    """Refuse blocks that were prepared while their raw data were replaced, and keep none of them.

    Raises:
        MmclipError: If any of the raw data were.
    """
    try:
        for artifact in raws:
            artifacts.check_unreplaced(artifact)
    except MmclipError:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def rejects_of(name: str, part: Part) -> pa.Table:
    """source_id, modality and reason of the rows of a part that were rejected."""
    bad = np.flatnonzero(~part.good)
    reasons = part.reason.take(pa.array(bad)).to_pylist() if len(bad) else []
    return pa.table(
        {
            "source_id": pa.array(part.source_id[bad] if len(bad) else bad, pa.int64()),
            "modality": pa.array([name] * len(bad), pa.string()),
            "reason": pa.array(reasons, pa.string()),
        }
    )


def _write(
    modality: Modality, parts: list[Part], training: list[NDArray[Any]], todo: Plan, folder: Path
) -> None:
    """Normalise the parts of a view into one table."""
    settings = todo.settings
    if not any(rows.any() for rows in training):
        training = [p.good for p in parts]
    method = modality.normalisation or settings.normalisation
    # A view without a row has no statistics.
    by = statistics_of(modality, parts, training, method if parts else "none")
    errors = any(p.errors is not None for p in parts)
    names = ["source_id", "values", *(["errors"] if errors else [])]
    with tables.Writer(folder / paths.table(modality.name), math.prod(modality.size), names) as to:
        fill(to, parts, by, limits(modality, by, settings.clip))
    body = {
        "method": by.method,
        "split": "train",
        "rows": int(sum(rows.sum() for rows in training)),
        "unit": modality.unit,
        "size": list(modality.size),
        "labels": modality.labels(),
        "centre": by.centre.tolist(),
        "scale": by.scale.tolist(),
        "settings": plain(modality),
    } | ({"origin": modality.origin} if modality.origin else {})
    write_atomic(folder / paths.statistics(modality.name), json.dumps(body).encode())


def limits(modality: Modality, by: Statistics, clip: float) -> NDArray[np.float32]:
    """How far from 0 each entry may lie; what `prepare` has scaled by itself keeps its range."""
    scaled = modality.anchors() >= 0 if modality.anchors else np.array(by.method != "none")
    return np.where(scaled & (clip > 0), np.float32(clip), np.float32(np.inf))


def fill(
    to: tables.Writer, parts: Sequence[Part], by: Statistics, bound: NDArray[np.float32]
) -> None:
    """Write the good rows of the parts, normalised and within bounds."""
    for part in parts:
        for rows, values, spread in part.pieces():
            ready = np.clip(normalise(values, by), -bound, bound)
            to.write(rows, ready, spread if spread is None else spread / by.scale)


@artifacts.opener
def read_statistics(artifact: Artifact, name: str) -> Statistics:
    """The normalisation and settings of one view, as stored with the data."""
    return Statistics.from_dict(_about(artifact, name))


def _about(artifact: Artifact, name: str) -> Json:
    body = artifacts.json_of(artifact, paths.statistics(name))
    body.setdefault("size", [len(body["centre"])])  # the first makes knew flat views only
    return body


def read_objects(artifact: Artifact) -> pa.Table:
    """`objects.parquet` of a data artefact, checked: in memory, or mapped if it is too large."""
    file = artifacts.checked(artifact, paths.OBJECTS)
    return memmap.table(artifact, [file]) or tables.read(file)


@artifacts.opener
def open_dataset(artifact: Artifact, modalities: tuple[str, ...] = ()) -> Dataset:
    """Read a data artefact; every file is checked against the manifest first.

    Args:
        artifact: Of kind `data`.
        modalities: Which views to read; empty for all. If they are larger than
            `mmclip.datasets.memmap.held()` they stay on disk, mapped.

    Raises:
        NotFound: If it lacks one of them.
        MmclipError: If they are to be mapped and the disk is full.
    """
    held = list(artifact.manifest.provenance)
    for name in modalities:
        if name not in held:
            asked = registry.modality(name)
            if asked.name in held:
                raise NotFound(
                    f"{artifact.path} holds {name} under its short name", f"name it {asked.name}"
                )
            raise NotFound(
                f"{artifact.path} holds no {name} (it holds: {', '.join(held)})",
                f"mmclip preprocess --modalities {','.join([*held, name])}",
            )
    objects = read_objects(artifact)
    about = {n: _about(artifact, n) for n in modalities or held}
    files = {n: artifacts.checked(artifact, paths.table(n)) for n in about}
    columns = {n: [c for c in tables.names(f) if c in ARRAYS] for n, f in files.items()}
    width = sum(math.prod(a["size"]) * len(columns[n]) for n, a in about.items())
    apart = 4 * objects.num_rows * width > memmap.held() and memmap.possible(artifact)
    ids = arrays.column(objects, "source_id")
    views = {}
    for name, facts in about.items():
        if apart:
            stored = memmap.columns(artifact, files[name], columns[name], ids)
        else:
            stored = _read(files[name], columns[name], objects)
        views[name] = View(
            stored["values"],
            stored.get("errors"),
            Statistics.from_dict(facts),
            artifact.manifest.provenance[name],
            tuple(int(n) for n in facts["size"]),
            apart,
        )
    return Dataset(artifacts.check_unreplaced(artifact), objects, views)


def _read(file: Path, columns: list[str], objects: pa.Table) -> dict[str, NDArray[np.float32]]:
    table = tables.read(file)
    known = arrays.column(objects, "source_id")
    rows = rows_of(known, arrays.column(table, "source_id"))
    return {n: _spread(arrays.column(table, n), rows, objects.num_rows) for n in columns}


def _spread(values: NDArray[Any], rows: NDArray[Any], count: int) -> NDArray[np.float32]:
    full = np.full((count, values.shape[1]), np.nan, np.float32)
    full[rows] = values
    return full
