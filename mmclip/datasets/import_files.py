"""Files of the user's -> a raw artefact like fetch's: objects, a table a view, a ledger."""

import dataclasses
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mmclip import arrays, artifacts, config, ids, plugins, readers
from mmclip.artifacts import Artifact, SurveyEntry, hub, owner, paths
from mmclip.config import Json, Positive
from mmclip.datasets import tables
from mmclip.datasets.ingest import read_view
from mmclip.errors import IntegrityError, MmclipError, NotFound, UsageError
from mmclip.modalities import Modality, registry
from mmclip.readers import Options, Reader, Source, errors, interpretation, lightcurves
from mmclip.readers.interpretation import Role
from mmclip.readers.tables import read as read_table
from mmclip.readers.views import notes
from mmclip.surveys.gaia import neighbours

OTHER = "the id is of Gaia"  # begins the reason of `mmclip.ids.gaia_id`

ENDINGS = (
    ".parquet", ".hdf5", ".h5", ".fits", ".fit", ".fits.gz", ".fit.gz", ".csv", ".csv.gz", ".ecsv",
    ".ecsv.gz", ".tsv", ".xml", ".xml.gz", ".vot", ".votable", ".dat", ".txt", ".arrow", ".feather",
    ".npz", ".json", ".jpeg", ".jpg", ".png",
)  # fmt: skip
# Files that stand beside tables and are none.
OTHERS = (
    "manifest.json", "partition_info.csv", "dataset_infos.json", "source.json", "statistics.json",
)  # fmt: skip
HATS = ("skymap*.fits", "point_map.fits", "data_thumbnail.parquet", "partition_*.csv")
REPEATS = ("best", "first", "merge", "refuse")
SNR = ("snrg", "snr_g", "snr", "sn_median_all", "rvs_spec_sig_to_noise", "sn_r")
OURS = ("id_survey",)  # labels that mmclip itself gives
SPLIT_NAMES = {
    "train": "train", "validation": "validation", "valid": "validation", "val": "validation",
    "dev": "validation", "test": "test",
}  # fmt: skip


@dataclass(frozen=True)
class ImportConfig:
    """How files are imported; see docs/commands/import.md.

    Attributes:
        views: What the files hold, by the names of modalities; see `registry.imported`.
        columns: Target -> column of the file; `spectra.flux` is meant for one view alone.
        id_column: Which column names the objects; empty to look for a known one.
        survey: Names the objects' own ids; empty for the reader's, or the artefact's name.
        air: Wavelengths are in air and are converted.
        provenance: `observed` or `modelled`.
        repeats: Of several rows of one object in a view: best, first, merge or refuse.
        reader: The format of the files, by the name of a reader; empty: each file is looked at.
        error: Of values without one: `1%` of the value, or a number in its unit; empty: unknown.
        error_scale: Factor on the errors of the files, for those known to be underestimated.
    """

    views: tuple[str, ...] = ()
    columns: dict[str, str] = field(default_factory=dict)
    id_column: str = ""
    survey: str = ""
    air: bool = False
    provenance: str = "observed"
    repeats: str = "best"
    reader: str = ""
    error: str = ""
    error_scale: Positive = 1.0

    def __post_init__(self) -> None:
        config.check("import", self)


@dataclass
class ReadAs:
    """How the files of one view were understood, with the number of files of each case."""

    readers: Counter[str] = field(default_factory=Counter)
    roles: Counter[Role] = field(default_factory=Counter)
    unused: Counter[tuple[str, str]] = field(default_factory=Counter)

    def add(self, table: pa.Table) -> None:
        """Count the file of a view table."""
        found = interpretation.of(table)
        self.readers.update([(table.schema.metadata or {}).get(b"reader", b"").decode()])
        self.roles.update(found.roles)
        self.unused.update(found.unused)

    def note(self) -> Json:
        """For the manifest."""
        return {
            "readers": dict(self.readers),
            "columns": [dataclasses.asdict(r) | {"files": n} for r, n in self.roles.items()],
            "not used": [
                {"column": c, "why": why, "files": n} for (c, why), n in self.unused.items()
            ],
        }


@dataclass
class Taken:
    """What was read, growing file by file."""

    views: dict[str, list[pa.Table]] = field(default_factory=dict)  # source_id and the view
    objects: list[pa.Table] = field(default_factory=list)
    ledger: list[pa.Table] = field(default_factory=list)
    sources: list[Json] = field(default_factory=list)
    surveys: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    times: Counter[str] = field(default_factory=Counter)
    errors: list[MmclipError] = field(default_factory=list)
    read: dict[str, "ReadAs"] = field(default_factory=dict)  # by the name of a view
    modalities: dict[str, Modality] = field(default_factory=dict)  # by the name of a view


def parse_columns(text: str | None) -> dict[str, str]:
    """`flux=FLUX,wavelength=WAVE` as a mapping.

    Raises:
        UsageError: If a part is not TARGET=NAME, or a target is given twice.
    """
    found: dict[str, str] = {}
    for part in (text or "").split(","):
        if not part.strip():
            continue
        target, sign, source = (p.strip() for p in part.partition("="))
        if not (sign and target and source) or target in found:
            raise UsageError(
                f"--columns '{part.strip()}' is not TARGET=NAME, given once",
                '--columns "flux=FLUX,wavelength=WAVE"',
            )
        found[target] = source
    return found


def options(settings: ImportConfig, view: str) -> Options:
    """What the readers of one view are told: the targets of that view, or of none."""
    own = _targets(view)
    others = {c for v in settings.views if v != view for c in _targets(v)}
    chosen: dict[str, str] = {}
    for target, source in settings.columns.items():
        head, dot, tail = target.rpartition(".")
        if dot and head in (view, registry.modality(view).name):
            chosen[tail] = source
        elif head not in (*settings.views, *registry.importable()) and (
            target in own or target not in others
        ):
            chosen.setdefault(target, source)
    return Options(
        chosen, settings.id_column or None, settings.air, settings.error, settings.error_scale
    )


def _targets(view: str) -> set[str]:
    """Lists that `--columns` may name for a view; `xp` also gives `xp_coefficients`."""
    names = [view, *(n for n in registry.importable() if n.startswith(f"{view}_"))]
    return {c.name for n in names for c in registry.modality(n).stored if c.is_list}


def expand(paths: Sequence[Path]) -> list[Path]:
    """Files as they are named; of a directory every file of a known ending, sorted.

    Directories of HATS catalogues and of the Multimodal Universe are such directories; their
    `_metadata` files and hidden ones are passed over, and so are links that lead out, and what a
    HATS catalogue has beside its rows: margins, indexes, maps of the sky, a thumbnail.

    Raises:
        NotFound: If a path is not there or a directory holds nothing that is known.
    """
    found: list[Path] = []
    for path in paths:
        if not path.is_dir():
            if not path.is_file():
                raise NotFound(f"there is no file {path}", "mmclip import FILE... --as VIEW")
            found.append(path)
            continue
        beside = _beside(path)
        inside = [
            p
            for p in sorted(path.rglob("*"))
            if p.name.lower().endswith(ENDINGS)
            and not any(part.startswith((".", "_")) for part in p.relative_to(path).parts)
            and p.is_file()
            and p.resolve().is_relative_to(path.resolve())
            and p.name not in OTHERS
            and not any(p.is_relative_to(b) for b in beside)
        ]
        if not inside:
            raise NotFound(f"{path} holds no file that mmclip reads", f"known: {' '.join(ENDINGS)}")
        found += inside
    return list(dict.fromkeys(found))


def here(paths: Sequence[Path]) -> list[Path]:
    """The paths; those on a hub (`hf://datasets/owner/name/folder`) are downloaded to the cache."""
    cache = owner.cache_root() / "hub"
    return [
        hub.files("hf://" + "/".join(p.parts[1:]), cache) if p.parts[:1] == ("hf:",) else p
        for p in paths
    ]


def _beside(root: Path) -> list[Path]:
    """What repeats rows of the HATS catalogues under a directory, or holds none.

    Source:
        HATS, IVOA note 1.0: the margin of a collection holds rows of its catalogue again.
    """
    found = []
    for name in ("hats.properties", "properties"):
        for file in root.rglob(name):
            try:
                text = file.read_text()
            except (OSError, UnicodeDecodeError):
                continue
            kind = re.search(r"^dataproduct_type\s*=\s*(\w+)", text, re.M)
            if kind and kind[1] not in ("object", "source", "nested") and file.parent != root:
                found.append(file.parent)
            found += [p for n in HATS for p in file.parent.rglob(n)]
    return found


def splits(files: Sequence[Path]) -> dict[Path, str]:
    """What the names of files say of the split, as `datasets` writes them: `train-00000-of-00002`.

    Nothing, unless there are files of training and of another part.
    """
    found = {path: SPLIT_NAMES.get(re.split(r"[-_.]", path.name.lower())[0], "") for path in files}
    return found if "train" in found.values() and len({*found.values()} - {""}) > 1 else {}


def check(settings: ImportConfig) -> ImportConfig:
    """The settings, views by their own names.

    Raises:
        UsageError: On a view, provenance or rule that is not known.
    """
    if settings.provenance not in ("observed", "modelled"):
        raise UsageError(
            f"--provenance '{settings.provenance}' is not known", "observed or modelled"
        )
    if settings.repeats not in REPEATS:
        raise UsageError(f"--repeats '{settings.repeats}' is not known", " or ".join(REPEATS))
    errors.parse(settings.error)
    chosen = [registry.imported(v) for v in settings.views]
    if not chosen:
        raise UsageError("say what the files hold", f"--as {'|'.join(registry.importable())}")
    if settings.repeats == "merge" and [m.kind for m in chosen] != ["light curve"]:
        raise UsageError("--repeats merge joins light curves only", "--as photometry")
    names = tuple(dict.fromkeys(m.origin or m.name for m in chosen))
    return dataclasses.replace(settings, views=names)


def bring(
    paths: Sequence[Path],
    settings: ImportConfig,
    final: Path,
    *,
    crosswalk: Path | None = None,
    into: Artifact | None = None,
    replace: bool = False,
    strict: bool = False,
) -> tuple[Artifact, bool]:
    """Import files into the raw artefact `final`; a bad file or object is counted and skipped.

    Args:
        paths: Files and directories.
        settings: How they are read.
        final: Where the artefact goes.
        crosswalk: A table with `source_id` and the objects' own ids, which gives them Gaia ids.
        into: An import to which these views are added; it is written anew, whole.
        replace: Whether an artefact there may be replaced.
        strict: Whether a note or a row left out is an error.

    Returns:
        The artefact, and whether it was written (False: the same was imported before).

    Raises:
        IntegrityError: With `strict`, if there is anything to note.
        MmclipError: If nothing can be read; the reason of the first file.
    """
    settings = check(settings)
    paths = here(paths)
    chosen = expand(paths)
    step = _step(chosen, paths, settings, crosswalk)
    before = [] if into is None else list(into.manifest.config.get("steps", []))
    base = final if into is None else into.path
    if (base / artifacts.MANIFEST).is_file():
        there = artifacts.read(base)
        steps = there.manifest.config.get("steps", [])
        if step in steps and (into is not None or steps == [step]) and not replace:
            if strict and (said := _notes(there)):
                raise _strict(said)
            return there, False
    known = _crosswalk(crosswalk)
    taken = Taken()
    views = [registry.modality(v) for v in settings.views]
    asked = [
        (m, readers.readers(m, settings.reader), options(settings, v))
        for m, v in zip(views, settings.views, strict=True)
    ]
    parts = splits(chosen)
    with artifacts.building(final, replace=replace or into is not None) as folder:
        for path in chosen:
            shown, part = _shown(path, paths), parts.get(path, "")
            source = _opened(path) if len(asked) > 1 else path
            for one in asked:
                _take(taken, path, source, shown, *one, settings, known, final.name, part)
        if not taken.objects and taken.errors:
            raise taken.errors[0]
        if not taken.views and (into is None or not taken.objects):
            raise _nothing(taken, settings)
        artifact = _write(folder, taken, settings, [*before, step], into)
        if strict and (said := _notes(artifact)):
            raise _strict(said)
    return Artifact(final, artifact.manifest), True


def _strict(said: list[str]) -> IntegrityError:
    more = f" (and {len(said) - 5} more)" if len(said) > 5 else ""
    return IntegrityError(
        f"--strict: {'; '.join(said[:5])}{more}",
        "mmclip import --explain FILE shows how it is read; without --strict these are notes",
    )


def _opened(path: Path) -> Source:
    """The file's bytes, to be read as several views; the path where they cannot be had."""
    try:
        return readers.files.body(path)
    except MmclipError as error:
        if isinstance(error.__cause__, OSError) and error.__cause__.errno in artifacts.DISK:
            raise artifacts.unwritable(path, error.__cause__) from error
        return path  # the reader of each view says why


def _nothing(taken: Taken, settings: ImportConfig) -> MmclipError:
    """Why no row of any file can be used: the reasons with their counts."""
    ledger = pa.concat_tables(taken.ledger)
    reasons = Counter(r for r in ledger["reason"].to_pylist() if r)
    said = "; ".join(f"{reason}: {count}" for reason, count in reasons.most_common(5))
    kinds = ", ".join(settings.views)
    return UsageError(
        f"none of the {ledger.num_rows} rows can be used as {kinds} ({said})",
        '--columns "TARGET=NAME" says which column is what, --as what the files hold',
    )


def _step(
    chosen: list[Path], paths: Sequence[Path], settings: ImportConfig, crosswalk: Path | None
) -> Json:
    """What determines one import: the settings and the sums of the files."""
    plain = dataclasses.asdict(settings)
    for name in ("reader", "error", "error_scale"):
        if getattr(settings, name) == getattr(ImportConfig, name):
            del plain[name]  # imports of earlier releases have none
    sums = [[_shown(p, paths), artifacts.sha256(p)] for p in chosen]
    every = artifacts.sha256_bytes(repr(sums).encode())
    there = crosswalk is not None and crosswalk.is_file()
    given = artifacts.sha256(crosswalk) if crosswalk is not None and there else None
    return plain | {"views": list(settings.views), "files": len(sums), "sha256": every,
                    "ids": given}  # fmt: skip


def _shown(path: Path, paths: Sequence[Path]) -> str:
    """A file's name as it is recorded: relative to the directory that was named."""
    for root in paths:
        if root.is_dir() and path.is_relative_to(root):
            return path.relative_to(root).as_posix()
    return path.name


@dataclass(frozen=True)
class Crosswalk:
    """Gaia DR3 ids of objects that are named otherwise.

    Attributes:
        ids: Name -> source_id; ids of other releases as `Gaia DR4 123`.
        lost: Name -> why it has none.
        several: Names whose nearest of several neighbours was taken.
    """

    ids: dict[str, int] = field(default_factory=dict)
    lost: dict[str, str] = field(default_factory=dict)
    several: frozenset[str] = frozenset()


def _neighbours(table: pa.Table, old: str, path: Path) -> Crosswalk:
    """Ids of another release by the archive's table of neighbours, every doubt told.

    Raises:
        UsageError: If the table does not say how near the neighbours are.
    """
    needed = (f"{old.lower()}_source_id", "dr3_source_id", "angular_distance",
              "magnitude_difference")  # fmt: skip
    columns = {name: arrays.find(table, [name]) for name in needed}
    lacking = [name for name, found in columns.items() if found is None]
    if lacking:
        raise UsageError(
            f"--ids {path} is a table of neighbours without {', '.join(lacking)}",
            f"SELECT {', '.join(needed)} from the archive's table of neighbours",
        )
    for name in needed[:2]:
        ids.not_float(table, str(columns[name]))
    near = pa.table({n: arrays.whole(table, str(found)) for n, found in columns.items()})
    near = near.filter(pc.is_valid(near[needed[0]])).filter(pc.is_valid(near[needed[1]]))
    asked = np.unique(arrays.column(near, needed[0]).astype(np.int64))
    made = neighbours.choose(asked, near, old, "DR3")
    names = [f"Gaia {old} {i}" for i in made.table[needed[0]].to_pylist()]
    counts = made.table[f"{old.lower()}_n_candidates"].to_pylist()
    return Crosswalk(
        dict(zip(names, made.table["source_id"].to_pylist(), strict=True)),
        {f"Gaia {old} {i}": reason for i, reason in made.lost},
        frozenset(n for n, count in zip(names, counts, strict=True) if count > 1),
    )


def _crosswalk(path: Path | None) -> Crosswalk:
    """Own id -> Gaia source_id, from a table of the user's or the archive's of neighbours.

    Raises:
        UsageError: If the table lacks one of them or its ids were read as floats.
    """
    if path is None:
        return Crosswalk()
    table = read_table(path)
    for old in ("DR4", "DR2"):
        if arrays.find(table, [f"{old.lower()}_source_id"]):
            return _neighbours(table, old, path)
    gaia = arrays.find(table, ids.GAIA)
    own = arrays.find(table, ids.OWN)
    if gaia is None or own is None:
        raise UsageError(
            f"--ids {path} needs a column source_id and one with the objects' own ids",
            f"it has: {', '.join(table.column_names[:20])}",
        )
    ids.not_float(table, gaia)
    ids.not_float(table, own)
    found = {}
    for name, value in zip(ids.texts(table, own), table[gaia].to_pylist(), strict=True):
        number, _ = ids.gaia_id(value) if value is not None else (None, "")
        if name is not None and number is not None:
            found[name] = number
    return Crosswalk(found)


def _take(
    taken: Taken,
    path: Path,
    source: Source,
    shown: str,
    modality: Modality,
    among: Sequence[Reader],
    told: Options,
    settings: ImportConfig,
    known: Crosswalk,
    name: str,
    part: str = "",
) -> None:
    """Read one view of one file; what cannot be used goes into the ledger.

    `part` is the split that the file's name says, for a table without a column of it.
    """
    try:
        table = readers.read(source, modality, told, among)
    except MmclipError as error:
        fault = error.__cause__
        if isinstance(fault, OSError) and fault.errno in artifacts.DISK:
            raise artifacts.unwritable(path, fault) from error  # the disk's fault, not the file's
        named = error.message if path.name in error.message else f"{path}: {error.message}"
        taken.errors.append(type(error)(named, error.hint))
        reason = [error.message]
        taken.ledger.append(_ledger([None], [None], ["missing"], reason, modality.name, shown))
        return
    metadata = table.schema.metadata or {}
    survey = settings.survey or metadata.get(b"survey", b"").decode() or name
    view = metadata[b"view"].decode()
    modality = modality if view == modality.name else registry.modality(view)
    taken.modalities[view] = modality
    source_id, names, reasons = _ids(table, survey, known)
    good = np.array([not r for r in reasons], bool)
    several = sum(n in known.several for n, g in zip(names, good, strict=True) if g)
    if several:
        taken.faults[f"{several} ids have several DR3 neighbours: the nearest was taken"] += 1
    status = ["received" if g else "missing" for g in good]
    taken.ledger.append(
        _ledger(source_id, names, status, [r or None for r in reasons], view, shown)
    )
    taken.sources.append(
        {"file": shown, "sha256": artifacts.sha256(path), "bytes": path.stat().st_size,
         "view": view, "survey": survey, "rows": table.num_rows, "kept": int(good.sum())}
    )  # fmt: skip
    taken.surveys[survey] += int(good.sum())
    taken.read.setdefault(view, ReadAs()).add(table)
    taken.faults.update(notes(table))
    if not good.any():
        return
    place = table.column_names.index("source_id")
    table = table.set_column(place, "source_id", pa.array(source_id, pa.int64()))
    place = table.column_names.index("object_name")
    table = table.set_column(place, "object_name", pa.array(names, pa.string()))
    table = table.filter(pa.array(good)).drop_columns(["reason"])
    if modality.kind == "light curve":
        taken.times.update(lightcurves.guess_time(table))
    mine = [f.name for f in table.schema if (f.metadata or {}).get(b"role") == b"view"]
    score = _score(table, modality)
    views = table.select(["source_id", *mine]).append_column("_score", pa.array(score))
    taken.views.setdefault(view, []).append(views)
    both = {c.name for c in modality.stored if not c.is_list}
    if modality.kind == "table":
        both |= {n for n in mine if not arrays.is_list(table.schema.field(n).type)}
    about = [n for n in table.column_names if (n not in mine or n in both) and n not in OURS]
    objects = table.select(about).append_column("id_survey", pa.array([survey] * table.num_rows))
    if part and "split" not in objects.column_names:
        objects = objects.append_column("split", pa.array([part] * table.num_rows))
    taken.objects.append(objects.replace_schema_metadata(None))


def _ids(
    table: pa.Table, survey: str, known: Crosswalk
) -> tuple[list[int | None], list[str | None], list[str]]:
    """Gaia ids where there are any, else local ones; names; reasons."""
    source_id = table["source_id"].to_pylist()
    names = table["object_name"].to_pylist()
    reasons = [r or "" for r in table["reason"].to_pylist()]
    # An export of mmclip's says row by row whose names its objects bear.
    whose = table["id_survey"].to_pylist() if "id_survey" in table.column_names else []
    for i, name in enumerate(names):
        if name in known.lost:
            reasons[i] = known.lost[name]
        elif name in known.ids and reasons[i].startswith(OTHER):
            source_id[i], reasons[i] = known.ids[name], ""
        elif source_id[i] is None and name is not None and not reasons[i].startswith(OTHER):
            own = (whose[i] if whose else None) or survey
            source_id[i] = known.ids.get(name) or ids.local_id(str(own), name)
    return source_id, names, reasons


def _score(table: pa.Table, modality: Modality) -> NDArray[np.float64]:
    """What makes one row of an object better than another: points, else signal to noise."""
    if modality.kind == "light curve":
        return np.array([len(t) if t is not None else 0 for t in arrays.rows(table, "time")], float)
    found = arrays.find(table, SNR)
    return np.nan_to_num(arrays.floats(table, found)) if found else np.zeros(table.num_rows)


def _ledger(
    source_id: Sequence[int | None],
    names: Sequence[str | None],
    status: Sequence[str],
    reasons: Sequence[str | None],
    view: str,
    shown: str,
) -> pa.Table:
    return pa.table(
        {
            "source_id": pa.array(source_id, pa.int64()),
            "status": pa.array(status, pa.string()),
            "reason": pa.array(reasons, pa.string()),
            "view": pa.array([view] * len(source_id), pa.string()),
            "object_name": pa.array(names, pa.string()),
            "file": pa.array([shown] * len(source_id), pa.string()),
        }
    )


def one_row(table: pa.Table, rule: str, view: str) -> tuple[pa.Table, list[int]]:
    """One row for each source_id.

    Args:
        table: Rows of a view with `source_id` and `_score`.
        rule: `best` (highest score, then the first), `first`, `merge` or `refuse`.
        view: Its name, for messages.

    Returns:
        The table in order of source_id without `_score`, and the ids of rows left out.

    Raises:
        UsageError: If there are repeats and the rule is `refuse`.
    """
    source_id = arrays.column(table, "source_id").astype(np.int64)
    score = arrays.column(table, "_score")
    best = ids.best_rows(source_id, -score) if rule == "best" else ids.best_rows(source_id)
    left = np.sort(np.delete(source_id, best)).tolist()
    if left and rule == "refuse":
        raise UsageError(
            f"{view}: {len(left)} rows repeat an object (first: {left[0]})",
            "--repeats best|first, or --id-column with an id that differs",
        )
    kept = table.take(pa.array(best)).drop_columns(["_score"])
    if not left or rule != "merge":
        return kept, left
    table = table.drop_columns(["_score"])
    parts = []
    order = np.argsort(source_id, kind="stable")
    starts = np.unique(source_id[order], return_index=True)[1]
    for own in np.split(order, starts[1:]):
        rows = [table.slice(int(i), 1) for i in own]
        parts.append(rows[0] if len(rows) == 1 else lightcurves.merge(rows))
    return pa.concat_tables(parts), []


def combine(parts: Sequence[pa.Table]) -> pa.Table:
    """Tables below one another; columns of the same name and other types are made to agree."""
    kinds: dict[str, set[pa.DataType]] = {}
    for part in parts:
        for f in part.schema:
            if not pa.types.is_null(f.type):
                kinds.setdefault(f.name, set()).add(f.type)
    ready = []
    for part in parts:
        for i, f in enumerate(part.schema):
            wanted = _agreed(kinds.get(f.name, {f.type}))
            if f.type != wanted:
                part = part.set_column(i, f.with_type(wanted), part[f.name].cast(wanted))
        ready.append(part)
    return pa.concat_tables(ready, promote_options="default")


def _agreed(kinds: set[pa.DataType]) -> pa.DataType:
    if len(kinds) == 1:
        return next(iter(kinds))
    if any(arrays.is_list(k) for k in kinds):
        return max(kinds, key=str) if all(map(arrays.is_list, kinds)) else pa.string()
    if all(pa.types.is_integer(k) for k in kinds):
        return pa.int64()
    small = all(pa.types.is_floating(k) or k.bit_width < 64 for k in kinds if _number(k))
    return pa.float64() if all(map(_number, kinds)) and small else pa.string()


def _number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def unite(parts: Sequence[pa.Table]) -> pa.Table:
    """One row an object: of each label the first that is known (neither null nor NaN)."""
    table = combine(parts)
    for i, f in enumerate(table.schema):
        if pa.types.is_floating(f.type):
            nan = pc.is_nan(table[f.name])
            known = pc.if_else(pc.fill_null(nan, False), pa.scalar(None, f.type), table[f.name])
            table = table.set_column(i, f, known)
    names = [n for n in table.column_names if n != "source_id"]
    grouped = table.group_by("source_id", use_threads=False).aggregate(
        [(n, "first") for n in names]
    )
    grouped = grouped.rename_columns(
        [
            "source_id" if n == "source_id" else n.removesuffix("_first")
            for n in grouped.column_names
        ]
    )
    schema = {f.name: f for f in table.schema}
    grouped = grouped.select(table.column_names)
    return grouped.cast(pa.schema([schema[n] for n in table.column_names])).sort_by("source_id")


def _write(
    folder: Path,
    taken: Taken,
    settings: ImportConfig,
    steps: list[Json],
    into: Artifact | None,
) -> Artifact:
    provenance, sources, surveys = _earlier(taken, settings, into)
    earlier = {} if into is None else into.manifest.rows
    rows = {k: n for k, n in earlier.items() if k.startswith("repeated ")}
    about: Json = {}
    for view, parts in sorted(taken.views.items()):
        table, left = one_row(combine(parts), settings.repeats, view)
        if left:
            reason = f"another row of the object is kept ({settings.repeats})"
            count = len(left)
            taken.ledger.append(
                _ledger(left, [None] * count, ["repeated"] * count, [reason] * count, view, "")
            )
            rows[f"repeated {view}"] = rows.get(f"repeated {view}", 0) + count
        rows[view] = table.num_rows
        about[view] = {
            n: interpretation.values(table[n]) for n in table.column_names if n != "source_id"
        }
        fixed = view in taken.modalities and taken.modalities[view].fixed
        tables.write(folder / paths.table(view), _tidy(table, fixed))
    objects = unite(taken.objects)
    source_id = arrays.column(objects, "source_id").astype(np.int64)
    ledger = pa.concat_tables(taken.ledger)
    missing = pc.equal(ledger["status"], "missing")
    tables.write(folder / paths.OBJECTS, objects)
    tables.write(folder / paths.LEDGER, ledger)
    tables.write(folder / paths.SOURCES, pa.Table.from_pylist(sources))
    local = ids.is_local(source_id)
    origins = plugins.origins(into.manifest.notes) if into else {}
    origins |= {n: m.origin for n, m in taken.modalities.items() if m.origin}
    reasons = Counter(ledger.filter(missing)["reason"].to_pylist())
    return artifacts.seal(
        folder,
        "raw",
        config={"survey": "import", "steps": steps},
        parents=[],
        rows={"objects": len(source_id), **rows, "missing": int(pc.sum(missing).as_py() or 0)},
        surveys=surveys,
        provenance=provenance,
        seed=None,
        notes={
            "ids": {
                "gaia_dr3": int((~local).sum()),
                "local": int(local.sum()),
                "rule": "local: 3 x 2^61 + first 61 bits of SHA-256(survey NUL object_name); "
                "such an id is no Gaia id",
            },
            "rejected": dict(reasons.most_common(50)),
            "times": dict(taken.times),
            "faults": dict(taken.faults),
            "read": {
                **(into.manifest.notes.get("read", {}) if into else {}),
                **{v: r.note() | {"values": about.get(v, {})} for v, r in taken.read.items()},
            },
            **({"modalities": origins} if origins else {}),
        },
    )


def _earlier(
    taken: Taken, settings: ImportConfig, into: Artifact | None
) -> tuple[dict[str, str], list[Json], list[SurveyEntry]]:
    """What the artefact had before is put in front of what was read now.

    Raises:
        UsageError: If a view would hold observed and modelled rows.
    """
    provenance = dict.fromkeys(taken.views, settings.provenance)
    surveys: list[SurveyEntry] = [
        {"name": name, "release": "", "title": f"{count} rows imported from files",
         "citations": list(readers.citations(name))}
        for name, count in sorted(taken.surveys.items())
    ]  # fmt: skip
    if into is None:
        return provenance, taken.sources, surveys
    for view, given in into.manifest.provenance.items():
        if provenance.setdefault(view, given) != given:
            raise UsageError(
                f"{view} of {into.path} is {given}; {settings.provenance} rows are not mixed in",
                "import them under another --name",
            )
        table = read_view(into, view)
        # Rows that are there already count as better than new ones.
        table = table.append_column("_score", pa.array(np.full(table.num_rows, np.inf)))
        taken.views.setdefault(view, []).insert(0, table)
    taken.objects.insert(0, read_view(into, "objects"))
    taken.ledger.insert(0, read_view(into, "ledger"))
    known = {s["name"] for s in surveys}
    earlier = [s for s in into.manifest.surveys if s["name"] not in known]
    taken.times.update(into.manifest.notes.get("times", {}))
    taken.faults.update(into.manifest.notes.get("faults", {}))
    return provenance, read_view(into, "sources").to_pylist() + taken.sources, earlier + surveys


def _tidy(table: pa.Table, fixed: bool) -> pa.Table:
    """Columns that no row has are left out; if `fixed`, lists of one length become fixed-width."""
    for name in table.column_names:
        column = arrays.whole(table, name)
        if len(column) and column.null_count == len(column) and name != "source_id":
            table = table.drop_columns([name])
        elif fixed:
            place = table.column_names.index(name)
            made = arrays.fix(column)
            table = table.set_column(place, table.schema.field(place).with_type(made.type), made)
    return table


def lines(artifact: Artifact) -> list[str]:
    """What a person should be told of an import beyond the counts."""
    local = artifact.manifest.notes["ids"]["local"]
    said = [_read_line(v, r) for v, r in sorted(artifact.manifest.notes.get("read", {}).items())]
    if local:
        said.append(f"{local} objects have no Gaia id; they got local ids (object_name)")
    return said + _notes(artifact)


def _notes(artifact: Artifact) -> list[str]:
    """What `--strict` refuses: notes of the readers, and rows left out."""
    notes, said = artifact.manifest.notes, []
    if len(notes.get("times", {})) > 1:
        kinds = ", ".join(f"{n} {k}" for k, n in sorted(notes["times"].items()))
        said.append(f"note: the light curves mix time systems ({kinds})")
    said += [f"note: {fault} ({n} files)" for fault, n in sorted(notes.get("faults", {}).items())]
    for view, read in sorted(notes.get("read", {}).items()):
        said += [f"note: {view}: {line}" for line in _mixed_units(read)]
    for reason, count in list(notes.get("rejected", {}).items())[:8]:
        said.append(f"left out: {reason}: {count}")
    if any(r.startswith(OTHER) for r in notes.get("rejected", {})):
        said.append(
            "note: --ids TABLE takes the archive's table of neighbours (dr4_source_id or "
            "dr2_source_id, dr3_source_id, angular_distance, magnitude_difference)"
        )
    return said


def _mixed_units(read: Json) -> list[str]:
    """Columns of a view whose unit differs from file to file, where nothing converts them."""
    found: dict[str, set[str]] = {}
    for c in read["columns"]:
        name = c["column"] if c["target"] == "label" else c["target"]
        if c["unit"] and not c["conversion"]:
            found.setdefault(name, set()).add(c["unit"])
    kept = {n: us for n, us in found.items() if n not in ("wavelength", "time", "ra", "dec")}
    return [
        f"{name} is in several units ({', '.join(sorted(us))}), kept as they are"
        for name, us in sorted(kept.items())
        if len(us) > 1
    ]


SHOWN = 8  # columns of a view in the line of an import


def _read_line(view: str, read: Json) -> str:
    """One line on how a view was read: reader, columns, conversions, what is not used."""
    parts = []
    labels = {c["column"] for c in read["columns"] if c["target"] == "label"}
    for c in read["columns"]:
        if c["target"] == "label":
            continue
        unit = f" [{c['unit']}]" if c["unit"] and not c["conversion"] else ""
        done = f" ({c['conversion']})" if c["conversion"] else ""
        same = c["target"] == c["column"] and not done
        parts.append(
            f"{c['target']}{unit}" if same else f"{c['target']} = {c['column']}{unit}{done}"
        )
    parts = [*parts[:SHOWN], *([f"{len(parts) - SHOWN} more"] if len(parts) > SHOWN else [])]
    parts += [f"{len(labels)} labels"] if labels else []
    unused = sorted({c["column"] for c in read["not used"]} - labels)
    parts += [f"not used: {', '.join(unused[:5])}{' ...' * (len(unused) > 5)}"] if unused else []
    return f"{view} read by {', '.join(read['readers'])}" + (
        f": {'; '.join(parts)}" if parts else ""
    )


def explain(paths: Sequence[Path], settings: ImportConfig) -> tuple[list[Json], list[str]]:
    """How files would be read: a row a column, and lines on what cannot be; nothing is written.

    Args:
        paths: Files and directories.
        settings: How they are read; without views each that a file may hold is tried.

    Returns:
        Rows with file, view, target, column, unit, conversion, rows, nulls, sentinels, range; then
        lines on the reader, notes, reasons of rows left out, and views that a file does not hold.
    """
    asked = bool(settings.views)  # the user named the views: each is answered for
    tried = settings.views or tuple(registry.importable())
    settings = check(dataclasses.replace(settings, views=tried))
    rows: list[Json] = []
    said: list[str] = []
    paths = here(paths)
    for path in expand(paths):
        refused: list[str] = []
        held, source, shown = False, _opened(path), _shown(path, paths)
        for view in settings.views:
            modality = registry.modality(view)
            try:
                among = readers.readers(modality, settings.reader)
                table = readers.read(source, modality, options(settings, view), among)
            except MmclipError as error:
                refused.append(f"{shown} is not read as {view}: {error.message}")
                continue
            useful = table["reason"].null_count > 0
            if useful or asked:
                held |= useful
                rows += _explained(table, shown)
                said += _remarks(table, shown)
        said += refused if asked or not held else []
    return rows, said


def _remarks(table: pa.Table, shown: str) -> list[str]:
    metadata = {k.decode(): v.decode() for k, v in (table.schema.metadata or {}).items()}
    view, survey = metadata["view"], metadata.get("survey") or "the name of the import"
    good = table["reason"].null_count
    said = [f"{shown} as {view}: reader {metadata['reader']}, survey {survey}, "
            f"{good} of {table.num_rows} rows can be used"]  # fmt: skip
    said += [f"note: {note}" for note in notes(table)]
    reasons = Counter(r for r in table["reason"].to_pylist() if r)
    return said + [f"left out: {reason}: {count}" for reason, count in reasons.most_common(8)]


def _explained(table: pa.Table, shown: str) -> list[Json]:
    """A row for each column of a file: what it is, or why it is not used."""
    found, view = interpretation.of(table), (table.schema.metadata or {})[b"view"].decode()
    marks = {note.partition(": ")[0]: note.partition(": ")[2] for note in notes(table)
             if note.endswith("read as unknown")}  # fmt: skip
    by_target = {r.target: r for r in found.roles if r.target != "label"}
    own = [f.name for f in table.schema if (f.metadata or {}).get(b"role") == b"view"]
    full = [n for n in own if table[n].null_count < len(table) or n in by_target]
    rows: list[Json] = []
    for target in dict.fromkeys([*by_target, *full]):
        role = by_target.get(target, Role(target, "(layout of the survey)"))
        rows.append(_row(shown, view, role, table, target, marks))
    for role in found.roles:
        if role.target == "label":
            rows.append(_row(shown, view, role, table, role.column, marks))
    for column, why in found.unused:
        rows.append({"file": shown, "view": view, "target": "not used", "column": column,
                     "conversion": why})  # fmt: skip
    return rows


def _row(
    shown: str, view: str, role: Role, table: pa.Table, name: str, marks: dict[str, str]
) -> Json:
    about = interpretation.values(table[name]) if name in table.column_names else {}
    low, high = about.get("low"), about.get("high")
    span = "" if low is None or high is None else f"{_short(low)} to {_short(high)}"
    return {
        "file": shown, "view": view, "target": role.target, "column": role.column,
        "unit": role.unit, "conversion": role.conversion, "rows": about.get("rows"),
        "nulls": about.get("nulls"), "sentinels": marks.get(name, ""), "range": span,
    }  # fmt: skip


def _short(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.6g}"
