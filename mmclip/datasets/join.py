"""Several raw artefacts as one: their objects by source_id, and where the rows of a view lie."""

import itertools
import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mmclip import arrays, artifacts, plugins
from mmclip.artifacts import Artifact, SurveyEntry, paths
from mmclip.datasets import memmap, tables
from mmclip.datasets.ingest import read_view
from mmclip.errors import MmclipError, NotFound, UsageError, nearest
from mmclip.ids import best_rows, lookup, repeated, rows_of
from mmclip.modalities import Modality, meant, registry


@dataclass(frozen=True)
class Block:
    """One row group of a raw file.

    Attributes:
        file: The file, already checked against its manifest.
        group: Number of the row group.
        keep: [rows] False for a star that an earlier block has, or that is no object.
    """

    file: Path
    group: int
    keep: NDArray[np.bool_]

    @property
    def source_id(self) -> NDArray[np.int64]:
        """[rows] read from the file."""
        read = tables.batches(self.file, self.group, ["source_id"], max(len(self.keep), 1))
        ids = [arrays.column(t, "source_id").astype(np.int64) for t in read]
        return np.concatenate([np.zeros(0, np.int64), *ids])


def holding(raws: Sequence[Artifact], modality: Modality) -> list[Artifact]:
    """The raw artefacts that hold the view a modality reads; of `spectra@miles`, `miles` alone."""
    held = [r for r in raws if modality.source in r.manifest.provenance]
    _, at, place = modality.name.partition("@")
    return [r for r in held if r.path.name == place] if at else held


def surveys(found: Sequence[Artifact]) -> list[SurveyEntry]:
    """The surveys of several artefacts, each release once."""
    each = {json.dumps(s, sort_keys=True): s for a in found for s in a.manifest.surveys}
    return list(each.values())


def sources(wanted: tuple[str, ...]) -> tuple[str, ...]:
    """The raw views that the modalities asked for are read from."""
    return tuple(registry.modality(n).source for n in wanted)


def choose(raws: Sequence[Artifact], wanted: tuple[str, ...]) -> list[Modality]:
    """The modalities asked for, or one for each view that the raw data hold.

    Raises:
        NotFound: If a modality is unknown, or no raw artefact holds its view.
        UsageError: If two of them have one name.
    """
    held = sorted({name for raw in raws for name in raw.manifest.provenance})
    origins = {v: o for raw in raws for v, o in plugins.origins(raw.manifest.notes).items()}
    names = [meant(n, held) for n in wanted] or held
    chosen = [registry.modality(_origin(n, origins)) for n in names]
    repeated = [m for i, m in enumerate(chosen) if m.name in {c.name for c in chosen[:i]}]
    if repeated and wanted:
        raise UsageError(
            f"two of the modalities are called {repeated[0].name}",
            "prepare them in two data sets",
        )
    for modality in chosen:
        if not holding(raws, modality) and "@" in modality.name:
            having = [r.path.name for r in raws if modality.source in r.manifest.provenance]
            place = modality.name.partition("@")[2]
            raise NotFound(
                f"no raw artefact '{place}' holds {modality.source}; {nearest(place, having)}",
                f"--modalities {modality.source}@RAW, with --raw for each RAW",
            )
        if not holding(raws, modality):
            first = raws[0].path
            extra = " --modelled-rvs" if modality.name == "rvs" and "demo" in first.name else ""
            places = ", ".join(str(r.path) for r in raws)
            raise NotFound(
                f"{places} holds no {modality.source} ({nearest(modality.source, held)})",
                f"mmclip fetch --survey {first.name}{extra}",
            )
    return chosen


def _origin(name: str, origins: Mapping[str, str]) -> str:
    """A modality's dotted name where an import noted one, `@RAW` kept."""
    base, at, place = name.partition("@")
    return f"{origins.get(base, base)}{at}{place}"


def provenance(raws: Sequence[Artifact], modality: Modality) -> str:
    """`modelled` if any of the raw views of a modality is."""
    kinds = {r.manifest.provenance[modality.source] for r in holding(raws, modality)}
    return "observed" if kinds == {"observed"} else "modelled"


def objects(raws: Sequence[Artifact]) -> pa.Table:
    """One row an object, with the columns of all raw artefacts.

    Of a column that several have, each object's value is that of the first artefact that knows it.
    Where two know different values for an object, the later column is also kept whole, as
    `NAME_SURVEY` (`phot_g_mean_mag_asassn`); `ra` and `dec` are not. Where the types do not fit
    together the later column is kept under that name alone.

    Raises:
        UsageError: If there are no objects.
        MmclipError: If a raw artefact has an id twice.
    """
    same_ids(raws)
    each = [memmap.table(r, files(r, "objects")) or read_view(r, "objects") for r in raws]
    for raw, table in zip(raws, each, strict=True):
        ids = arrays.column(table, "source_id")
        if repeated(ids):
            raise MmclipError(f"{raw.path} has source_ids more than once", "fetch it again")
    if not any(table.num_rows for table in each):
        raise UsageError(
            f"{raws[0].path} holds no objects", "fetch some: mmclip fetch --survey demo"
        )
    if len(each) == 1:
        return each[0]
    ids = np.concatenate([arrays.column(t, "source_id").astype(np.int64) for t in each])
    everyone = ids[np.sort(best_rows(ids))]
    columns: dict[str, pa.Array] = {"source_id": pa.array(everyone)}
    for label, table in zip(labels(raws), each, strict=True):
        rows = rows_of(arrays.column(table, "source_id"), everyone)
        for name in [n for n in table.column_names if n != "source_id"]:
            values = arrays.taken(_null_for_nan(arrays.whole(table, name)), rows)
            columns[name], other = _filled(columns.get(name), values)
            if other and name not in ("ra", "dec"):
                columns[_free(f"{name}_{label}", columns)] = values
    return pa.table(columns)


def disputed(raws: Sequence[Artifact], together: pa.Table) -> dict[str, str]:
    """Columns that `objects` keeps beside the first's because they say something else: of whom."""
    held = {n for r in raws for f in files(r, "objects") for n in tables.names(f)}
    found = {}
    for name in (n for n in together.column_names if n not in held):
        about = next(((lab, r) for lab, r in zip(labels(raws), raws, strict=True)
                      if f"_{lab}" in name), None)  # fmt: skip
        if about is not None:
            base = name.partition(f"_{about[0]}")[0]
            found[name] = f"{base} of {about[1].path.name}, where another's differs and is {base}"
    return found


def same_ids(raws: Sequence[Artifact]) -> None:
    """Refuse raw artefacts whose source_ids are of different releases of Gaia.

    Raises:
        UsageError: Naming one of each.
    """
    of = {s.get("ids", "DR3"): r.path for r in raws for s in r.manifest.surveys}
    if len(of) > 1:
        parts = ", ".join(f"{path} of {release}" for release, path in sorted(of.items()))
        raise UsageError(
            f"source_ids of different releases of Gaia do not join: {parts}",
            "fetch them in one command, the survey of the later release first",
        )


def labels(raws: Sequence[Artifact]) -> list[str]:
    """What tells each artefact's columns apart: its survey, or its name if two share that."""
    names = [raw.manifest.surveys[0]["name"] if raw.manifest.surveys else "" for raw in raws]
    chosen = [
        n if n and names.count(n) == 1 else r.path.name for n, r in zip(names, raws, strict=True)
    ]
    return [re.sub(r"\W", "_", name) for name in chosen]


def _free(name: str, taken: Collection[str]) -> str:
    tried = itertools.chain([name], (f"{name}_{n}" for n in itertools.count(2)))
    return next(n for n in tried if n not in taken)


def _null_for_nan(array: pa.Array) -> pa.Array:
    if not pa.types.is_floating(array.type):
        return array
    return pc.if_else(pc.is_nan(array), pa.scalar(None, array.type), array)


def _filled(have: pa.Array | None, more: pa.Array) -> tuple[pa.Array, bool]:
    """A column with its gaps filled, and whether the other has something else to say."""
    if have is None:
        return more, False
    try:
        alike = more if more.type == have.type else more.cast(have.type)
    except pa.ArrowException:
        return have, True
    differ = pc.any(pc.not_equal(have, alike)).as_py()  # null where either is unknown
    return pc.coalesce(have, alike), bool(differ)


def blocks(raws: Sequence[Artifact], modality: Modality, ids: NDArray[np.int64]) -> list[Block]:
    """The row groups of a view; of a star that is there twice the first is kept.

    Raw artefacts that hold more of the columns of a table of numbers come first.

    Raises:
        MmclipError: If one raw artefact has a star twice.
    """
    found: list[Block] = []
    find = lookup(ids)
    before = np.zeros(len(ids), bool)  # objects that an earlier raw artefact has
    for raw in sorted(holding(raws, modality), key=lambda r: -columns_held(r, modality)):
        own, others, count = np.zeros(len(ids), bool), [], 0
        for file in files(raw, modality.source):
            source_id = arrays.column(tables.read(file, ["source_id"]), "source_id")
            ends = np.cumsum(tables.groups(file))[:-1]
            for group, part in enumerate(np.split(source_id.astype(np.int64), ends)):
                rows = find(part)
                known = rows >= 0
                found.append(Block(file, group, known & ~before[rows]))
                own[rows[known]] = True
                others.append(part[~known])
                count += len(part)
        if int(own.sum()) + len(np.unique(np.concatenate([*others, ids[:0]]))) < count:
            raise MmclipError(
                f"{modality.source} of {raw.path} has source_ids more than once", "fetch it again"
            )
        before |= own
    return found


def columns_held(raw: Artifact, modality: Modality) -> int:
    """How many of a modality's columns a raw artefact has; 0 where some of them are lists.

    A catalogue that has all 34 columns of a star serves it better than one that has half of them.
    """
    if any(c.length != 1 for c in modality.columns):
        return 0
    there: set[str] = set()
    for file in files(raw, modality.source)[:1]:
        there |= set(tables.schema(file).names)
    return len({c.name for c in modality.columns} & there)


def files(raw: Artifact, view: str) -> list[Path]:
    """The Parquet files of a view, each checked against the manifest: one, or shards."""
    inside = sorted(n for n in raw.manifest.files if n.startswith(f"{view}/"))
    names = [n for n in inside if n.endswith(".parquet")] or [paths.table(view)]
    return [artifacts.checked(raw, n) for n in names]
