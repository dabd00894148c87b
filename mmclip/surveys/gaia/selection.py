"""Which stars of Gaia a request means: by cuts, by a query of the user's, or by ids."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mmclip.config import Json
from mmclip.errors import UsageError
from mmclip.surveys import Request, Selection
from mmclip.surveys.client import tap
from mmclip.surveys.client.each import blocks
from mmclip.surveys.client.http import Client
from mmclip.surveys.gaia import discovery, neighbours, query
from mmclip.surveys.gaia import settings as _settings
from mmclip.surveys.gaia.release import Release

HIGHEST = 3 << 61  # above every source_id
SMALLEST = 1 << 49  # of a range of source_ids that is asked for by itself: HEALPix level 5


def select(release: Release, request: Request, client: Client) -> Selection:
    """The source_ids, rising, with the flags of the spectra that were asked for."""
    release = discovery.settle(client, release)
    settings = _settings.of(client, release.settings)
    if request.adql is not None:
        return _by_adql(release, request, client)
    if query.named(request):
        return _by_ids(release, request, client)
    asked = query.selecting(release, request, settings)
    if query.condition(release, request, settings)[1]:
        tables = [tap.run(client, settings.tap, asked)]
    else:
        tables = list(_ranges(client, settings.tap, asked))
    return Selection(_flagged(release, request, tables), (asked,), notes=_unique(tables))


def _ranges(
    client: Client, service: str, query: str, low: int = 0, high: int = 2**63 - 1
) -> Iterator[pa.Table]:
    """A query's whole answer: one that is cut short is asked again in two ranges of source_id."""
    span = f" AND g.source_id BETWEEN {low} AND {high}\nORDER BY"
    asked = query if (low, high) == (0, 2**63 - 1) else query.replace("\nORDER BY", span)
    try:
        yield tap.run(client, service, asked)
    except tap.TooHard as cut:
        client.count("tap_ranges_split")
        middle = (low + min(high, HIGHEST)) // 2
        if isinstance(cut, tap.CutShort):
            middle = int(np.median(tap.source_ids(cut.table)))
        elif high - low < SMALLEST:
            raise
        if not low <= middle < high:
            raise
        yield from _ranges(client, service, query, low, middle)
        yield from _ranges(client, service, query, middle + 1, high)


def _by_adql(release: Release, request: Request, client: Client) -> Selection:
    """The user's own query, sent as it is; its ids are then looked up like a list."""
    text = (request.adql or "").strip().rstrip(";")
    if not text.lower().startswith("select") or ";" in text:
        raise UsageError("--adql must be one SELECT that returns source_id", "mmclip fetch --help")
    ids = np.unique(
        tap.source_ids(tap.run(client, _settings.of(client, release.settings).tap, text))
    )
    found = _by_ids(release, replace(request, adql=None, ids=tuple(ids.tolist())), client)
    notes = dict(found.notes)
    if " top " in f" {text.lower()} " and "order by" not in text.lower():
        notes["warning"] = "TOP without ORDER BY: another run may select other stars"
        client.say(notes["warning"])
    return replace(found, queries=(text, *found.queries), notes=notes)


def _by_ids(release: Release, request: Request, client: Client) -> Selection:
    asked = np.array(request.ids, np.int64)
    lost: list[tuple[int, str]] = []
    notes: Json = {}
    queries: list[str] = []
    mapping: pa.Table | None = None
    others = neighbours.others(release, request)
    for (table, old, new), ids in others.items():
        found = neighbours.convert(client, release, (table, old, new), ids)
        lost += found.lost
        queries.append(neighbours.text(table, old, new))
        notes |= {f"{old.lower()}_rule": neighbours.RULE.format(table=table.rpartition(".")[2])}
        notes |= {f"{old.lower()}_{k}": v for k, v in found.counts.items()}
        mapping = found.table if mapping is None else mapping
        asked = np.concatenate([asked, found.table["source_id"].to_numpy()])
    asked = np.unique(asked)
    text, service = query.uploaded(release, request), _settings.of(client, release.settings).tap
    tables = [
        tap.run(client, service, text, ("source_id", chunk))
        for chunk in blocks(asked, client.settings.tap_chunk)
    ]
    table_ = _flagged(release, request, tables)
    here = set(table_["source_id"].to_pylist())
    lost += [(i, "not in gaia_source") for i in asked.tolist() if i not in here]
    notes = _unique(tables) | {"asked": len(asked)} | notes
    if mapping is not None:
        notes["asked"] = len(request.ids) + sum(map(len, others.values()))
        table_ = table_.join(mapping, "source_id").sort_by("source_id")
    absent = tuple(lost) if request.follows else ()
    missing = () if request.follows else tuple(lost)
    return Selection(table_, (*queries, text), missing, absent, notes)


def _flagged(release: Release, request: Request, tables: list[pa.Table]) -> pa.Table:
    parts = [t for t in tables if t.num_rows]
    wanted = [release.products[p].flag for p in query.spectra(release, request)]
    flags = [f for f in dict.fromkeys(wanted) if f]
    if not parts:
        empty = {"source_id": pa.array([], pa.int64())}
        return pa.table(empty | {f: pa.array([], pa.bool_()) for f in flags})
    ids = np.concatenate([tap.source_ids(t) for t in parts])
    _, first = np.unique(ids, return_index=True)
    made = {"source_id": pa.array(ids[first])}
    for flag in flags:
        told = np.concatenate([truth(t[flag]) for t in parts])
        made[flag] = pa.array(told[first])
    return pa.table(made)


def _unique(tables: list[pa.Table]) -> dict[str, int]:
    rows = sum(t.num_rows for t in tables)
    ids = np.concatenate([tap.source_ids(t) for t in tables if t.num_rows] or [np.array([], int)])
    return {"selected_rows": rows, "repeated_rows_dropped": rows - len(np.unique(ids))}


def truth(column: pa.ChunkedArray) -> NDArray[np.bool_]:
    """A flag as the service writes it (boolean, 0/1, 't', 'True') as booleans."""
    if pa.types.is_boolean(column.type) or pa.types.is_integer(column.type):
        return np.array([bool(v) for v in column.to_pylist()], bool)
    return np.array([str(v).lower() in ("t", "true", "1") for v in column.to_pylist()], bool)
