"""Gaia DR3: catalogue columns over TAP, XP and RVS spectra by DataLink or from the bulk files.

First the source_ids are selected, with the flags that say which spectra exist; then every chunk of
ids is asked for by itself, so that any answer may fail and be asked for again.
"""

import os
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mmclip import cuts
from mmclip.errors import UsageError, nearest
from mmclip.surveys import Outline, Piece, Request, Selection, Step, Survey
from mmclip.surveys.client import tap as _tap
from mmclip.surveys.client.http import Client
from mmclip.surveys.client.settings import Settings
from mmclip.surveys.gaia import bulk, columns, datalink

TAP = "https://gea.esac.esa.int/tap-server/tap"
DATA = "https://gea.esac.esa.int/data-server"
RELEASE = "Gaia DR3"
SOURCES = 1_811_709_771  # rows of gaia_source; random_index runs from 0 to one less
WITH = {"xp": 219_197_643, "sampled": 34_468_373, "rvs": 999_645}  # of them with the product
SKY = 41_252.96  # square degrees
DEFAULT = ("labels", "astrometry", "2mass")
CATALOGUE = ("labels", "astrometry", "2mass", "wise")
SPECTRA = ("xp", "rvs")  # fetched of a plain sample when no product is named
DR2_NEAR = 100.0  # mas from the nearest, within which candidates compete by magnitude


def settled(settings: Settings) -> Settings:
    """The settings with the addresses of the services filled in."""
    tap = settings.gaia_tap or os.environ.get("MMCLIP_GAIA_TAP", TAP)
    data = settings.gaia_data or os.environ.get("MMCLIP_GAIA_DATA", DATA)
    return replace(settings, gaia_tap=tap.rstrip("/"), gaia_data=data.rstrip("/"))


def products(request: Request) -> tuple[str, ...]:
    """What is fetched; a name that is none of ours is another survey's.

    Raises:
        UsageError: If none is left.
    """
    ours = tuple(p for p in request.products if p in SURVEY.products)
    if request.products and not ours:
        known = sorted(SURVEY.products)
        raise UsageError(
            f"gaia-dr3 has none of --products {','.join(request.products)}; "
            f"{nearest(request.products[0], known)}",
            f"known: {', '.join(known)}",
        )
    return ours or (DEFAULT + SPECTRA if _sampled(request) else DEFAULT)


def _sampled(request: Request) -> bool:
    """True if nothing but a sample is asked for: of stars that have the spectra."""
    named = request.ids or request.dr2_ids or request.adql
    return not (named or request.cone or request.healpix or request.where)


def condition(request: Request, settings: Settings) -> tuple[str, str]:
    """The ADQL condition of a selection on `g`, and a TOP clause (or nothing)."""
    spectra = [datalink.PRODUCTS[p] for p in products(request) if p in datalink.PRODUCTS]
    parts, top = [], ""
    if request.cone:
        ra, dec, radius = request.cone
        circle = f"CIRCLE('ICRS', {ra!r}, {dec!r}, {radius!r})"
        parts.append(f"1 = CONTAINS(POINT('ICRS', g.ra, g.dec), {circle})")
    if request.healpix:
        order, pixels = request.healpix
        width = 2**35 * 4 ** (12 - order)
        spans = [f"g.source_id BETWEEN {p * width} AND {(p + 1) * width - 1}" for p in pixels]
        parts.append(spans[0] if len(spans) == 1 else f"({' OR '.join(spans)})")
    if request.where:
        parts.append(cuts.adql(request.where, columns.CUTTABLE, settings.gaia_true))
    if request.sample is not None or not parts:
        start, size = _window(request, [p for p in products(request) if p in WITH])
        parts.append(f"g.random_index BETWEEN {start} AND {start + size - 1}")
        parts += [f"g.{s.flag} = '{settings.gaia_true}'" for s in spectra]
        if spectra or len(parts) > 1:
            top = f"TOP {request.sample or 1000} "
    return " AND ".join(parts), top


def _window(request: Request, spectra: list[str]) -> tuple[int, int]:
    """First random_index and how many: wide enough for `sample` stars that have the spectra."""
    wanted = request.sample or 1000
    share = min((WITH[p] / SOURCES for p in spectra), default=1.0)
    if request.cone or request.healpix or request.where:
        return 0, SOURCES  # the cut decides; TOP takes the first by random_index
    spare = 1.0 if not spectra else 1.5
    size = min(int(wanted / share * spare) + (10_000 if spectra else 0), SOURCES)
    start = np.random.default_rng(request.seed).integers(max(SOURCES - size, 1))
    return int(start), size


def selecting(request: Request, settings: Settings) -> str:
    """The query that selects."""
    where, top = condition(request, settings)
    flags = ", ".join(f"g.{datalink.PRODUCTS[p].flag}" for p in _spectra(request))
    order = "g.random_index" if top else "g.source_id"
    return (
        f"SELECT {top}g.source_id{', ' + flags if flags else ''}\n"
        f"FROM gaiadr3.gaia_source AS g\nWHERE {where}\nORDER BY {order}"
    )


def uploaded(request: Request) -> str:
    """The query that looks uploaded ids up, with the flags of the spectra."""
    flags = ", ".join(f"g.{datalink.PRODUCTS[p].flag}" for p in _spectra(request))
    return (
        f"SELECT g.source_id{', ' + flags if flags else ''}\nFROM tap_upload.ids AS u\n"
        "JOIN gaiadr3.gaia_source AS g ON g.source_id = u.source_id\nORDER BY g.source_id"
    )


def catalogue(request: Request, where: str | None) -> str:
    """The query for the columns of one chunk: of uploaded ids, or of a condition."""
    chosen = products(request)
    names = [*columns.CORE]
    names += columns.LABELS if "labels" in chosen else ()
    names += columns.ASTROMETRY if "astrometry" in chosen else ()
    listed = [f"g.{n}" for n in dict.fromkeys([*names, *columns.PHOTOMETRY])]
    joins: list[str] = []
    if "labels" in chosen:
        listed += [f"ap.{n}" for n in columns.PARAMETERS]
        joins += columns.JOINS["parameters"]
    for name, held in (("2mass", columns.TMASS), ("wise", columns.WISE)):
        if name in chosen:
            listed += [f"{source} AS {n}" for n, source in held.items()]
            joins += columns.JOINS[name]
    source = ["FROM gaiadr3.gaia_source AS g"]
    if where is None:
        source = [
            "FROM tap_upload.ids AS u",
            "JOIN gaiadr3.gaia_source AS g ON g.source_id = u.source_id",
        ]
    end = ([f"WHERE {where}"] if where else []) + ["ORDER BY g.source_id"]
    return "\n".join([f"SELECT g.source_id, {', '.join(listed)}", *source, *joins, *end])


def _spectra(request: Request) -> list[str]:
    return [p for p in products(request) if p in datalink.PRODUCTS]


def select(request: Request, client: Client) -> Selection:
    """The source_ids, rising, with the flags of the spectra that were asked for."""
    client.settings = settled(client.settings)
    if request.adql is not None:
        return _by_adql(request, client)
    if request.ids or request.dr2_ids:
        return _by_ids(request, client)
    query = selecting(request, client.settings)
    tables = list(_ranges(client, query)) if not condition(request, client.settings)[1] else [
        _tap.run(client, client.settings.gaia_tap, query)
    ]  # fmt: skip
    return Selection(_flagged(request, tables), (query,), notes=_unique(tables))


def _ranges(client: Client, query: str, low: int = 0, high: int = 2**63 - 1) -> Iterator[pa.Table]:
    """A query's whole answer: one that is cut short is asked again in two ranges of source_id."""
    span = f" AND g.source_id BETWEEN {low} AND {high}\nORDER BY"
    asked = query if (low, high) == (0, 2**63 - 1) else query.replace("\nORDER BY", span)
    try:
        yield _tap.run(client, client.settings.gaia_tap, asked)
    except _tap.CutShort as cut:
        client.count("tap_ranges_split")
        middle = int(np.median(_tap.source_ids(cut.table)))
        if not low <= middle < high:
            raise
        yield from _ranges(client, query, low, middle)
        yield from _ranges(client, query, middle + 1, high)


def _by_adql(request: Request, client: Client) -> Selection:
    """The user's own query, sent as it is; its ids are then looked up like a list."""
    text = (request.adql or "").strip().rstrip(";")
    if not text.lower().startswith("select") or ";" in text:
        raise UsageError("--adql must be one SELECT that returns source_id", "mmclip fetch --help")
    ids = np.unique(_tap.source_ids(_tap.run(client, client.settings.gaia_tap, text)))
    found = _by_ids(replace(request, adql=None, ids=tuple(ids.tolist())), client)
    notes = dict(found.notes)
    if " top " in f" {text.lower()} " and "order by" not in text.lower():
        notes["warning"] = "TOP without ORDER BY: another run may select other stars"
        client.say(notes["warning"])
    return replace(found, queries=(text, *found.queries), notes=notes)


def _by_ids(request: Request, client: Client) -> Selection:
    asked = np.array(request.ids, np.int64)
    lost: list[tuple[int, str]] = []
    mapping = None
    queries: list[str] = []
    if request.dr2_ids:
        mapping, lost = from_dr2(client, request.dr2_ids)
        queries.append(NEIGHBOURS)
        asked = np.concatenate([asked, mapping["source_id"].to_numpy()])
    asked = np.unique(asked)
    query = uploaded(request)
    tables = [
        _tap.run(client, client.settings.gaia_tap, query, ("source_id", chunk))
        for chunk in _cut(asked, client.settings.tap_chunk)
    ]
    table = _flagged(request, tables)
    here = set(table["source_id"].to_pylist())
    lost += [(i, "not in gaia_source") for i in asked.tolist() if i not in here]
    notes: dict = _unique(tables) | {"asked": len(asked) + len(request.dr2_ids)}
    if mapping is not None:
        table = table.join(mapping, "source_id").sort_by("source_id")
        notes["dr2_rule"] = DR2_RULE
        notes["dr2_mapped"] = mapping.num_rows
    absent = tuple(lost) if request.follows else ()
    missing = () if request.follows else tuple(lost)
    return Selection(table, (*queries, query), missing, absent, notes)


def _flagged(request: Request, tables: list[pa.Table]) -> pa.Table:
    parts = [t for t in tables if t.num_rows]
    flags = [datalink.PRODUCTS[p].flag for p in _spectra(request)]
    if not parts:
        empty = {"source_id": pa.array([], pa.int64())}
        return pa.table(empty | {f: pa.array([], pa.bool_()) for f in flags})
    ids = np.concatenate([_tap.source_ids(t) for t in parts])
    _, first = np.unique(ids, return_index=True)
    made = {"source_id": pa.array(ids[first])}
    for flag in flags:
        told = np.concatenate([truth(t[flag]) for t in parts])
        made[flag] = pa.array(told[first])
    return pa.table(made)


def _unique(tables: list[pa.Table]) -> dict:
    rows = sum(t.num_rows for t in tables)
    ids = np.concatenate([_tap.source_ids(t) for t in tables if t.num_rows] or [np.array([], int)])
    return {"selected_rows": rows, "repeated_rows_dropped": rows - len(np.unique(ids))}


def truth(column: pa.ChunkedArray) -> NDArray[np.bool_]:
    """A flag as the service writes it (boolean, 0/1, 't', 'True') as booleans."""
    if pa.types.is_boolean(column.type) or pa.types.is_integer(column.type):
        return np.array([bool(v) for v in column.to_pylist()], bool)
    return np.array([str(v).lower() in ("t", "true", "1") for v in column.to_pylist()], bool)


def _cut(ids: NDArray[np.int64], size: int) -> list[NDArray[np.int64]]:
    return [ids[i : i + size] for i in range(0, len(ids), size)]


NEIGHBOURS = (
    "SELECT u.dr2_source_id, n.dr3_source_id, n.angular_distance, n.magnitude_difference\n"
    "FROM tap_upload.ids AS u\n"
    "JOIN gaiadr3.dr2_neighbourhood AS n ON n.dr2_source_id = u.dr2_source_id"
)
DR2_RULE = (
    "nearest in dr2_neighbourhood; if others lie within 100 mas of it, the one of smallest "
    "magnitude difference; without one, ambiguous"
)


def from_dr2(client: Client, dr2_ids: tuple[int, ...]) -> tuple[pa.Table, list[tuple[int, str]]]:
    """DR3 ids of DR2 ids, by `DR2_RULE`.

    Returns:
        A table source_id, dr2_source_id, dr2_match_distance_mas, dr2_match_dmag,
        dr2_n_candidates, one row a DR3 id; and a reason for each DR2 id without one.
    """
    client.settings = settled(client.settings)
    asked = np.unique(np.array(dr2_ids, np.int64))
    given = [
        _tap.run(client, client.settings.gaia_tap, NEIGHBOURS, ("dr2_source_id", chunk))
        for chunk in _cut(asked, client.settings.tap_chunk)
    ]
    return choose_dr2(asked, pa.concat_tables([g for g in given if g.num_rows] or given[:1]))


def choose_dr2(asked: NDArray[np.int64], near: pa.Table) -> tuple[pa.Table, list[tuple[int, str]]]:
    """Apply `DR2_RULE` to rows of dr2_neighbourhood."""
    rows: dict[int, list[dict]] = {}
    for row in near.to_pylist():
        rows.setdefault(row["dr2_source_id"], []).append(row)
    lost, kept = [], {}
    for two in asked.tolist():
        found = sorted(rows.get(two, []), key=lambda r: r["angular_distance"])
        if not found:
            lost.append((two, "dr2 id without a DR3 neighbour"))
            continue
        nearest_ = found[0]["angular_distance"]
        rivals = [r for r in found if r["angular_distance"] - nearest_ < DR2_NEAR]
        sizes = [r["magnitude_difference"] for r in rivals]
        if len(rivals) > 1 and (None in sizes or len({abs(s) for s in sizes}) < len(sizes)):
            lost.append((two, f"ambiguous_id: {len(rivals)} DR3 neighbours"))
            continue
        best = rivals[0] if len(rivals) == 1 else min(
            rivals, key=lambda r: abs(r["magnitude_difference"])
        )  # fmt: skip
        if best["dr3_source_id"] in kept:
            lost.append((two, "ambiguous_id: another DR2 id has the same DR3 neighbour"))
            continue
        kept[best["dr3_source_id"]] = (two, best, len(found))
    order = sorted(kept)
    return pa.table(
        {
            "source_id": pa.array(order, pa.int64()),
            "dr2_source_id": pa.array([kept[i][0] for i in order], pa.int64()),
            "dr2_match_distance_mas": [float(kept[i][1]["angular_distance"]) for i in order],
            "dr2_match_dmag": pa.array(
                [kept[i][1]["magnitude_difference"] for i in order], pa.float64()
            ),
            "dr2_n_candidates": pa.array([kept[i][2] for i in order], pa.int64()),
        }
    ), lost


def steps(request: Request, client: Client, selected: pa.Table) -> list[Step]:
    """Catalogue chunks, then chunks of each kind of spectrum."""
    client.settings = settled(client.settings)
    ids = selected["source_id"].to_numpy()
    size = min(client.settings.tap_chunk, 5 * client.settings.chunk)
    work = [
        Step(f"objects-{n:05d}", _catalogue_step(request, client, selected, chunk))
        for n, chunk in enumerate(_cut(ids, size))
    ]
    for name in _spectra(request):
        product = datalink.PRODUCTS[name]
        has = truth(selected[product.flag])
        if request.bulk:
            work += bulk.steps(client, product, ids, has)
            continue
        chunk_size = min(client.settings.chunk, datalink.MOST)
        for n, chunk in enumerate(_cut(ids[has], chunk_size)):
            work.append(Step(f"{product.view}-{n:05d}", _spectra_step(client, product, chunk)))
        work.append(Step(f"{product.view}-unpublished", _unpublished(product, ids[~has])))
    return work


def _unpublished(product: datalink.Product, ids: NDArray[np.int64]):  # type: ignore[no-untyped-def]
    absent = tuple((i, product.view, "not_published") for i in ids.tolist())
    return lambda: Piece({}, absent=absent)


def _catalogue_step(request: Request, client: Client, selected: pa.Table, ids: NDArray[np.int64]):  # type: ignore[no-untyped-def]
    listed = bool(request.ids or request.dr2_ids or request.adql)
    where, top = ("", "") if listed else condition(request, client.settings)

    def ask(chunk: NDArray[np.int64]) -> tuple[pa.Table, str]:
        if listed or top:
            query = catalogue(request, None)
            uploaded_ids = ("source_id", chunk)
            return _tap.run(client, client.settings.gaia_tap, query, uploaded_ids), query
        span = f"g.source_id BETWEEN {chunk[0]} AND {chunk[-1]}"
        query = catalogue(request, f"({where}) AND {span}")
        return _tap.run(client, client.settings.gaia_tap, query), query

    def patiently(chunk: NDArray[np.int64]) -> list[tuple[pa.Table, str]]:
        try:
            return [ask(chunk)]
        except _tap.CutShort:
            if len(chunk) < 2:
                raise
        middle = len(chunk) // 2
        return patiently(chunk[:middle]) + patiently(chunk[middle:])

    def get() -> Piece:
        answers = patiently(ids)
        table = pa.concat_tables([t for t, _ in answers], promote_options="permissive")
        return _split(client, table, ids, answers[0][1], selected)

    return get


def _split(
    client: Client, answer: pa.Table, ids: NDArray[np.int64], query: str, selected: pa.Table
) -> Piece:
    """One row a star: `objects` and `metadata`; a star the 2MASS join repeats is counted."""
    table, repeated = best_photometry(answer)
    client.count("catalogue_rows_repeated", repeated)
    table = table.filter(pc.is_in(table["source_id"], pa.array(ids)))
    metadata = [*columns.PHOTOMETRY, *columns.TMASS, "tmass_ambiguous", *columns.WISE]
    held = [n for n in metadata if n in table.column_names]
    objects = table.drop_columns([n for n in held if n != "phot_g_mean_mag"])
    extra = [n for n in selected.column_names if n.startswith(("has_", "dr2_"))]
    if extra:
        objects = objects.join(
            selected.select(["source_id", *extra]), "source_id", join_type="inner"
        )
        objects = objects.sort_by("source_id")
    here = set(table["source_id"].to_pylist())
    missing = tuple((i, "objects", "not_returned") for i in ids.tolist() if i not in here)
    tables = {"objects": stamped(objects), "metadata": stamped(table.select(["source_id", *held]))}
    return Piece(tables, missing, queries=(query,))


QUALITY = {letter: rank for rank, letter in enumerate("ABCDEFUX")}


def best_photometry(answer: pa.Table) -> tuple[pa.Table, int]:
    """One row a source: of several 2MASS rows the one of best `ph_qual`; and how many were more.

    One cleaned 2MASS source can stand for several of the original catalogue; the row kept is
    marked `tmass_ambiguous`.
    """
    ids = _tap.source_ids(answer)
    quality = np.zeros(len(ids), int)
    if "tmass_ph_qual" in answer.column_names:
        quality = np.array(
            [
                sum(QUALITY.get(c, 9) for c in q or "XXXX")
                for q in answer["tmass_ph_qual"].to_pylist()
            ],
            int,
        )
    order = np.lexsort((np.arange(len(ids)), quality, ids))
    first = np.ones(len(ids), bool)
    first[1:] = ids[order][1:] != ids[order][:-1]
    table = answer.take(pa.array(order[first]))
    if "tmass_ph_qual" in answer.column_names:
        kept, counts = np.unique(ids, return_counts=True)
        assert len(kept) == table.num_rows
        table = table.append_column("tmass_ambiguous", pa.array(counts > 1))
    return table, len(ids) - table.num_rows


def stamped(table: pa.Table) -> pa.Table:
    """The table with units in its field metadata, every real as float64, nulls kept."""
    fields, arrays = [], []
    for field in table.schema:
        about = {k.decode(): v.decode() for k, v in (field.metadata or {}).items()}
        if field.name in columns.UNITS:
            about["unit"] = columns.UNITS[field.name]
        array = table[field.name]
        if pa.types.is_null(field.type):
            array = array.cast(pa.float64())
        if pa.types.is_floating(array.type):
            array = array.cast(pa.float64())
        if pa.types.is_integer(array.type):
            array = array.cast(pa.int64())
        fields.append(pa.field(field.name, array.type, metadata=about or None))
        arrays.append(array)
    return pa.table(arrays, schema=pa.schema(fields))


def _spectra_step(client: Client, product: datalink.Product, ids: NDArray[np.int64]):  # type: ignore[no-untyped-def]
    def get() -> Piece:
        table, lost = datalink.gather(client, product, ids.tolist(), RELEASE)
        if table.num_rows:
            table, bad = datalink.finish(table, product)
            lost |= bad
        missing = tuple((i, product.view, reason) for i, reason in sorted(lost.items()))
        asked = f"DataLink {product.kind}: {len(ids)} ids from {ids[0]} to {ids[-1]}"
        return Piece({product.view: table} if table.num_rows else {}, missing, queries=(asked,))

    return get


def outline(request: Request, settings: Settings) -> Outline:
    """What would be asked; rows from the number of ids, or from the mean density of the sky."""
    settings = settled(settings)
    number: int | None = None
    exact = False
    if request.adql is not None:
        queries = [request.adql, catalogue(request, None)]
    elif request.ids or request.dr2_ids:
        number, exact = len(request.ids) + len(request.dr2_ids), not request.dr2_ids
        queries = [NEIGHBOURS] if request.dr2_ids else []
        queries += [uploaded(request), catalogue(request, None)]
    else:
        queries = [
            selecting(request, settings),
            catalogue(request, condition(request, settings)[0]),
        ]
        number, exact = _expected(request)
    for name in _spectra(request):
        fields = datalink.form([1], datalink.PRODUCTS[name], RELEASE, "", "")
        chunk = min(settings.chunk, datalink.MOST)
        queries.append(
            f"POST {settings.gaia_data}/data  RETRIEVAL_TYPE={fields['RETRIEVAL_TYPE']}"
            f"  DATA_STRUCTURE={settings.data_structure}  {chunk} ids at a time"
        )
    star = 8 * catalogue(request, None).split("\nFROM")[0].count(",")
    star += sum(datalink.PRODUCTS[p].bytes for p in _spectra(request))
    return Outline(tuple(queries), number, None if number is None else number * star, exact)


def _expected(request: Request) -> tuple[int | None, bool]:
    if request.sample is not None or not (request.cone or request.healpix or request.where):
        return request.sample or 1000, not (request.cone or request.healpix or request.where)
    share = 1.0
    if request.cone:
        share *= (1 - np.cos(np.radians(request.cone[2]))) / 2
    if request.healpix:
        share *= len(request.healpix[1]) / (12 * 4 ** request.healpix[0])
    return int(SOURCES * share), False


GAIA = ("2016A&A...595A...1G", "2023A&A...674A...1G")
SURVEY = Survey(
    name="gaia-dr3",
    title="Gaia DR3: astrometry, labels, G, 2MASS and AllWISE photometry, XP and RVS spectra",
    release="DR3",
    citations=GAIA,
    select=select,
    steps=steps,
    outline=outline,
    products={
        "astrometry": ("2021A&A...649A...2L",),
        "labels": ("2023A&A...674A..26C",),
        "2mass": ("2006AJ....131.1163S",),
        "wise": ("2010AJ....140.1868W", "2013wise.rept....1C"),
        "xp": ("2023A&A...674A...2D", "2021A&A...652A..86C"),
        "sampled": ("2023A&A...674A...3M",),
        "rvs": ("2023A&A...674A...5K",),
    },
)
