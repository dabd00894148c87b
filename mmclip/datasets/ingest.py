"""What a survey gave, written as a raw artefact.

A survey of the network is worked off step by step in `raw/.partial-HASH/`: the shards of a step,
then a line in its ledger that says so. A killed fetch goes on where it stopped.
"""

import contextlib
import dataclasses
import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mmclip import arrays, artifacts
from mmclip.artifacts import Artifact, SurveyEntry, paths, write_atomic
from mmclip.config import Json
from mmclip.datasets import tables
from mmclip.datasets.hats import write as write_hats
from mmclip.errors import IntegrityError, MmclipError, PartialResult, UsageError, hidden
from mmclip.surveys import Fetched, Piece, Request, Selection, Survey
from mmclip.surveys.client.http import Client

PIECE = 1024  # rows of a view that are read at once where only some are wanted
LASTING = ("not in gaia_source", "invalid_payload", "http_404", "ambiguous_id")


def collect(
    survey: Survey,
    request: Request,
    final: Path,
    replace: bool,
    client: Client | None = None,
    retry: bool = False,
    hats: bool = False,
) -> Artifact:
    """Fetch from one survey into `final`: a table a view, `ledger.parquet`, `queries.adql`.

    Args:
        survey: Which.
        request: What of it.
        final: The artefact; one that answers the same request is returned as it is.
        replace: Whether another one there may be replaced.
        client: The way to the network.
        retry: Ask again for what the artefact at `final` lacks.
        hats: Also lay the tables out as HATS catalogues.

    Raises:
        UsageError: If nothing at all was received.
    """
    asked = {"survey": survey.name} | describe(request) | ({"hats": True} if hats else {})
    before = artifacts.read(final) if (final / paths.MANIFEST).is_file() else None
    if before is not None and before.manifest.config == asked and not replace and not retry:
        artifacts.sweep(final.parent)
        return before
    if retry and (before is None or before.manifest.config != asked):
        raise UsageError(
            f"{final} was not fetched by this command, so it has nothing to retry",
            "give the same selection and --name as before, with --retry-missing",
        )
    if before is not None and not replace and not retry:
        raise MmclipError(f"{final} exists already", "choose another --name, or add --force")
    if survey.fetch is not None:
        return _at_once(survey, survey.fetch(request), request, asked, final, replace)
    client = client or Client()
    return _in_steps(survey, request, asked, final, client, before if retry else None, hats)


def describe(request: Request) -> Json:
    """A request for the manifest; long lists of ids by their number and sum."""
    body: Json = json.loads(json.dumps(dataclasses.asdict(request)))
    for name in ("ids", "dr2_ids", "dr3_ids", "dr4_ids", "known"):
        if len(body[name]) > 100:
            text = ",".join(map(str, sorted(body[name]))).encode()
            body[name] = {"count": len(body[name]), "sha256": hashlib.sha256(text).hexdigest()}
    return {k: v for k, v in body.items() if v not in (None, [], "", False) or k == "seed"}


def _named(survey: Survey, request: Request) -> list[SurveyEntry]:
    """The survey for the manifest, with the citations of what was asked of it."""
    more = [c for p in request.products for c in survey.products.get(p, ())]
    named: SurveyEntry = {
        "name": survey.name,
        "release": request.release or survey.release,
        "title": survey.title,
        "citations": list(dict.fromkeys([*survey.citations, *more])),
    }
    if survey.labels_from:
        named["labels_from"] = survey.labels_from
    if survey.ids != "DR3" or (request.follows and request.dr4_ids):
        named["ids"] = survey.ids if survey.ids != "DR3" else "DR4"
    return [named]


def _at_once(
    survey: Survey,
    fetched: Fetched,
    request: Request,
    asked: Json,
    final: Path,
    replace: bool,
) -> Artifact:
    with artifacts.building(final, replace=replace) as folder:
        if fetched.tables["objects"].num_rows == 0:
            raise nothing(survey)
        for name, table in fetched.tables.items():
            tables.write(folder / paths.table(name), table)
        tables.write(folder / paths.LEDGER, _ledger(fetched))
        write_atomic(folder / paths.QUERIES, "\n\n".join(fetched.queries).encode())
        artifact = artifacts.seal(
            folder,
            "raw",
            config=asked,
            parents=[],
            rows={n: t.num_rows for n, t in fetched.tables.items()}
            | {"missing": len(fetched.missing)},
            surveys=_named(survey, request),
            provenance=fetched.provenance,
            seed=request.seed,
            notes=fetched.notes,
        )
    return Artifact(final, artifact.manifest)


def nothing(survey: Survey) -> UsageError:
    """The refusal of a selection that holds no star."""
    return UsageError(
        f"{survey.name} returned no objects for this selection", "mmclip fetch --help"
    )


def _in_steps(
    survey: Survey,
    request: Request,
    asked: Json,
    final: Path,
    client: Client,
    before: Artifact | None,
    hats: bool,
) -> Artifact:
    again = before.manifest.fingerprint if before else ""
    identity = [final.name, asked, again, client.configuration()]
    work = artifacts.unfinished(final, identity)
    with artifacts.locked(work, "fetch"):
        client.jobs = work / "jobs"
        if before is not None:
            _begin_again(work, before, survey)
        selection = _selection(survey, request, client, work)
        if selection.table.num_rows == 0:
            shutil.rmtree(work, ignore_errors=True)
            raise nothing(survey)
        _work(survey, request, client, work, selection, again)
        return _finish(survey, request, asked, final, client, work, selection, hats)


def _selection(survey: Survey, request: Request, client: Client, work: Path) -> Selection:
    """The stars of this fetch: selected once, then read from disk."""
    assert survey.select is not None
    kept, about = work / paths.SELECTION, work / paths.SELECTION_NOTES
    if not about.is_file():
        found = survey.select(request, client)
        if found.table.num_rows == 0:
            return found
        tables.write(kept, found.table)
        body = {
            f.name: getattr(found, f.name) for f in dataclasses.fields(found) if f.name != "table"
        }
        _remember(work, client)
        write_atomic(about, json.dumps(artifacts.summed(body)).encode())
    body = _noted(about)
    with contextlib.suppress(FileNotFoundError):
        for key, value in json.loads((work / paths.LEARNED).read_bytes()).items():
            client.learned.setdefault(key, value)
    client.say(f"{survey.name}: {tables.read(kept).num_rows} objects selected")
    return Selection(
        tables.read(kept),
        tuple(body["queries"]),
        tuple((i, r) for i, r in body["missing"]),
        tuple((i, r) for i, r in body["absent"]),
        body["notes"],
    )


def _work(
    survey: Survey, request: Request, client: Client, work: Path, selection: Selection, again: str
) -> None:
    """Every step that is not in the ledger yet: its shards first, then its entry."""
    assert survey.steps is not None
    ledger = work / "ledger"
    ledger.mkdir(exist_ok=True)
    wanted = _wanted(work) if again else None
    chosen = selection.table
    if wanted is not None:
        ids = sorted({i for lost in wanted.values() for i in lost})
        chosen = chosen.filter(pc.is_in(chosen["source_id"], pa.array(ids, pa.int64())))
        client.fresh = True
    steps = survey.steps(request, client, chosen)
    prefix = f"again-{again[:8]}-" if again else ""
    for n, step in enumerate(steps):
        entry = ledger / f"{prefix}{step.name}.json"
        if entry.is_file():
            continue
        piece = step.get()
        if wanted is not None:
            piece = _only(piece, wanted)
        _remember(work, client)
        _commit(work, f"{prefix}{step.name}", piece, entry)
        rows = ", ".join(f"{t.num_rows} {v}" for v, t in piece.tables.items())
        lost = f", {len(piece.missing)} missing" if piece.missing else ""
        client.say(f"  {n + 1}/{len(steps)} {step.name}: {rows or 'no rows'}{lost}")


def _remember(work: Path, client: Client) -> None:
    """Keep the jobs and counts of what was asked: the manifest of a resumed fetch has them too."""
    write_atomic(work / paths.LEARNED, json.dumps(client.learned).encode())


def _commit(work: Path, name: str, piece: Piece, entry: Path) -> None:
    files = {}
    for view, table in sorted(piece.tables.items()):
        if table.num_rows:
            folder = work / "shards" / view
            folder.mkdir(parents=True, exist_ok=True)
            tables.write(folder / paths.table(name), table)
            files[f"{view}/{name}.parquet"] = artifacts.sha256(folder / paths.table(name))
    body = {
        "files": files,
        "missing": piece.missing,
        "absent": piece.absent,
        "queries": piece.queries,
    }
    write_atomic(entry, json.dumps(artifacts.summed(body)).encode())


def _noted(file: Path) -> Json:
    """What was noted of a fetch under way.

    Raises:
        IntegrityError: If the note is damaged.
    """
    try:
        body = json.loads(file.read_bytes())
    except (ValueError, RecursionError):
        body = None
    if not artifacts.sum_fits(body):
        raise IntegrityError(
            f"{file} is damaged", f"remove {file}; the same command then asks for it again"
        )
    return dict(body)


def _begin_again(work: Path, before: Artifact, survey: Survey) -> None:
    """Take over the shards and the selection of an artefact that lacks something."""
    if (work / paths.RETRY).is_file():
        return
    artifacts.verify(before)
    ledger = tables.read(before.path / paths.LEDGER)
    wanted: dict[str, list[int]] = {}
    for row in ledger.filter(pc.equal(ledger["status"], "missing")).to_pylist():
        if not str(row["reason"]).startswith(LASTING):
            wanted.setdefault(row["view"], []).append(row["source_id"])
    if not wanted:
        raise UsageError(f"{before.path} lacks nothing that could be asked for again", "")
    (work / "ledger").mkdir(exist_ok=True)
    for name in (paths.SELECTION, paths.SELECTION_NOTES):
        artifacts.link(before.path / name, work / name)
    for name in before.manifest.files:
        if name.startswith("steps/"):
            artifacts.link(before.path / name, work / "ledger" / Path(name).name)
        elif "/" in name and not name.startswith("hats/"):
            artifacts.link(before.path / name, work / "shards" / name)
    for entry in (work / "ledger").glob("*.json"):
        body = _noted(entry)
        kept = [m for m in body["missing"] if str(m[2]).startswith(LASTING)]
        write_atomic(entry, json.dumps(artifacts.summed(body | {"missing": kept})).encode())
    write_atomic(work / paths.RETRY, json.dumps(artifacts.summed({"wanted": wanted})).encode())


def _wanted(work: Path) -> dict[str, set[int]]:
    body = _noted(work / paths.RETRY)
    return {v: set(ids) for v, ids in body.get("wanted", body).items()}


def _only(piece: Piece, wanted: dict[str, set[int]]) -> Piece:
    """The part of a piece that was still lacking."""
    kept = {}
    for view, table in piece.tables.items():
        ids = pa.array(sorted(wanted.get(view, ())), pa.int64())
        kept[view] = table.filter(pc.is_in(table["source_id"], ids))
    missing = tuple(m for m in piece.missing if m[0] in wanted.get(m[1], ()))
    return Piece(kept, missing, (), piece.queries)


def _finish(
    survey: Survey,
    request: Request,
    asked: Json,
    final: Path,
    client: Client,
    work: Path,
    selection: Selection,
    hats: bool,
) -> Artifact:
    """Check every shard against its ledger entry and seal them all as an artefact."""
    entries = sorted((work / "ledger").glob("*.json"))
    steps = [_noted(e) for e in entries]
    with artifacts.building(final, replace=True, work=work) as folder:
        rows: dict[str, int] = {}
        for step in steps:
            for name, sha256 in step["files"].items():
                shard = work / "shards" / name
                if not shard.is_file() or artifacts.sha256(shard) != sha256:
                    raise IntegrityError(
                        f"{shard} is not what was received", f"remove {work} and fetch again"
                    )
                artifacts.link(shard, folder / name)
                view = name.split("/")[0]
                rows[view] = rows.get(view, 0) + tables.rows(shard)
        if not rows.get("objects"):
            raise nothing(survey)
        for entry in entries:
            artifacts.link(entry, folder / "steps" / entry.name)
        for name in (paths.SELECTION, paths.SELECTION_NOTES):
            artifacts.link(work / name, folder / name)
        counts, balance = _write_ledger(folder, selection, steps)
        if hats:
            _hats(folder, survey.name, list(rows))
        asked_of = [*selection.queries, *(q for s in steps for q in s["queries"])]
        text = "\n\n".join(dict.fromkeys(asked_of))
        write_atomic(folder / paths.QUERIES, hidden(text).encode())
        artifact = artifacts.seal(
            folder,
            "raw",
            config=asked,
            parents=[],
            rows=rows | counts,
            surveys=_named(survey, request),
            provenance={v: "observed" for v in rows if _is_view(v)},
            seed=request.seed,
            notes=selection.notes | {"service": client.learned, "balance": balance},
        )
    return Artifact(final, artifact.manifest)


def _hats(folder: Path, survey: str, views: list[str]) -> None:
    names = ["source_id", "ra", "dec"]
    objects = sorted((folder / "objects").glob("*.parquet"))
    positions = pa.concat_tables([tables.read(s, names) for s in objects])
    for view in views:
        shards = sorted((folder / view).glob("*.parquet"))
        write_hats(shards, folder / "hats" / view, f"{survey}_{view}", positions)


def _is_view(name: str) -> bool:
    """Whether a table is a view: `objects` is none, nor is one of many rows a star."""
    return name != "objects" and not name.endswith("_epochs")


LEDGER = pa.schema(
    [
        ("source_id", pa.int64()),
        ("view", pa.string()),
        ("status", pa.string()),
        ("reason", pa.string()),
    ]
)


def _write_ledger(
    folder: Path, selection: Selection, steps: list[artifacts.Json]
) -> tuple[dict[str, int], dict[str, dict[str, int]]]:
    """Every object and view: received, missing (with a reason) or absent (it does not exist).

    The balance of each view is in the file's metadata too, under `balance`.
    """
    parts = []
    for step in steps:
        for name in step["files"]:
            received = tables.read(folder / name, ["source_id"])["source_id"]
            parts.append(_lines(received, name.split("/")[0], "received"))
    lost = [(i, "objects", r) for i, r in selection.missing]
    lost += [(i, v, r) for s in steps for i, v, r in s["missing"]]
    gone = [(i, "objects", r) for i, r in selection.absent]
    gone += [(i, v, r) for s in steps for i, v, r in s["absent"]]
    for status, rows in (("missing", lost), ("absent", gone)):
        ids, views, reasons = zip(*rows, strict=True) if rows else ((), (), ())
        columns = [
            pa.array(ids, pa.int64()), pa.array(views, pa.string()),
            pa.array([status] * len(ids), pa.string()), pa.array(reasons, pa.string()),
        ]  # fmt: skip
        parts.append(pa.table(columns, schema=LEDGER))
    ledger = pa.concat_tables(parts)
    balance = reconcile(ledger)
    kept = {b"balance": json.dumps(balance).encode()}
    tables.write(folder / paths.LEDGER, ledger.replace_schema_metadata(kept))
    reasons_of = {f"missing {v}: {r[:60]}": 0 for _, v, r in lost}
    for _, v, r in lost:
        reasons_of[f"missing {v}: {r[:60]}"] += 1
    return {"missing": len(lost), "absent": len(gone)} | reasons_of, balance


BALANCE = ("received", "absent", "missing", "ambiguous")


def reconcile(ledger: pa.Table) -> dict[str, dict[str, int]]:
    """For each view how many stars were requested, and what became of each.

    A star counts once a view: received if anything of it came, else ambiguous (its id could not be
    told from another's), missing, or absent, in this order. So requested is the sum of the four.
    """
    found: dict[str, dict[str, int]] = {}
    unclear = pc.fill_null(pc.starts_with(ledger["reason"], "ambiguous"), False)
    status = pc.if_else(unclear, "ambiguous", ledger["status"])
    ids = ledger["source_id"]
    for view in sorted(pc.unique(ledger["view"]).to_pylist()):
        here = pc.equal(ledger["view"], view)
        taken = np.zeros(0, np.int64)
        counts = {}
        for name in ("received", "ambiguous", "missing", "absent"):
            at = pc.and_(here, pc.equal(status, name))
            stars = np.unique(ids.filter(at).to_numpy())
            counts[name] = len(np.setdiff1d(stars, taken, assume_unique=True))
            taken = np.union1d(taken, stars)
        found[view] = {"requested": len(taken)} | {n: counts[n] for n in BALANCE}
    return found


def _lines(ids: pa.ChunkedArray, view: str, status: str) -> pa.Table:
    count = len(ids)
    columns = [
        ids.cast(pa.int64()),
        pa.array([view] * count),
        pa.array([status] * count),
        pa.nulls(count, pa.string()),
    ]
    return pa.table(columns, schema=LEDGER)


def _ledger(fetched: Fetched) -> pa.Table:
    received = _lines(fetched.tables["objects"]["source_id"], "objects", "received")
    lost = [i for i, _ in fetched.missing]
    columns = [
        pa.array(lost, pa.int64()),
        pa.array(["objects"] * len(lost), pa.string()),
        pa.array(["missing"] * len(lost), pa.string()),
        pa.array([r for _, r in fetched.missing], pa.string()),
    ]
    return pa.concat_tables([received, pa.table(columns, schema=LEDGER)])


@artifacts.opener
def read_view(artifact: Artifact, view: str, only: NDArray[np.int64] | None = None) -> pa.Table:
    """One table of a raw artefact, checked: `<view>.parquet`, or the shards of `<view>/`.

    Args:
        artifact: Of the kind raw.
        view: One of its tables.
        only: The source_ids of the rows to keep, read a piece at a time; None: all rows at once.
    """
    shards = sorted(n for n in artifact.manifest.files if n.startswith(f"{view}/"))
    files = [n for n in shards if n.endswith(".parquet")] or [paths.table(view)]
    held = [artifacts.checked(artifact, n) for n in files]
    parts = [tables.read(f) if only is None else _rows_of(f, only) for f in held]
    artifacts.check_unreplaced(artifact)
    if any(p.schema != parts[0].schema for p in parts):
        parts = _alike(parts)
    return pa.concat_tables(parts)


def _rows_of(file: Path, only: NDArray[np.int64]) -> pa.Table:
    """Rows of some stars; memory grows with them, not with the file."""
    found = [tables.schema(file).empty_table()]
    for part in tables.batches(file, None, tables.names(file), PIECE):
        mine = np.isin(arrays.column(part, "source_id").astype(np.int64), only)
        if mine.any():
            found.append(part.filter(pa.array(mine)))
    return pa.concat_tables(found)


def _alike(parts: list[pa.Table]) -> list[pa.Table]:
    """Shards with one schema: a column that a shard lacks, or has only nulls in, takes the type of
    the others."""
    fields: dict[str, tuple[pa.Field, bool]] = {}
    for part in parts:
        for field in part.schema:
            known = part[field.name].null_count < part.num_rows
            if field.name not in fields or (known and not fields[field.name][1]):
                fields[field.name] = (field, known)
    schema = pa.schema([f for f, _ in fields.values()])
    return [_like(part, schema) for part in parts]


def _like(part: pa.Table, schema: pa.Schema) -> pa.Table:
    columns = []
    for field in schema:
        if field.name not in part.column_names:
            columns.append(pa.nulls(part.num_rows, field.type))
            continue
        column = part[field.name]
        if column.type != field.type and column.null_count == part.num_rows:
            column = pa.nulls(part.num_rows, field.type)
        elif column.type != field.type:
            column = column.cast(field.type)
        columns.append(column)
    return pa.table(columns, schema=schema)


def complain(artifact: Artifact) -> None:
    """Say what is missing, if anything is.

    Raises:
        PartialResult: With the number of missing objects and where they are listed.
    """
    missing = artifact.manifest.rows["missing"]
    if missing:
        raise PartialResult(
            f"{missing} of the objects asked for were not received",
            f"they are listed with reasons in {artifact.path / 'ledger.parquet'}",
        )
