"""ASAS-SN variable stars: V and g catalogues, and their light curves one by one or from archives.

The catalogues hold Gaia EDR3 ids as text (`EDR3 123`); EDR3 and DR3 share one list of sources. The
catalogues' own `source_id` is a number of ASAS-SN.
"""

import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mmclip.errors import UsageError
from mmclip.readers import files
from mmclip.surveys import Outline, Piece, Request, Selection, Step, Survey
from mmclip.surveys import catalogue as _catalogue
from mmclip.surveys.asassn import skypatrol
from mmclip.surveys.client import checks
from mmclip.surveys.client.each import each
from mmclip.surveys.client.http import BadAnswer, Client
from mmclip.surveys.client.settings import Settings

NAMES = {  # ours: the spellings of the V and g catalogues, in lower case
    "gaia": ("edr3_source_id",), "name": ("asassn_name", "id"), "key": ("id", "source_id"),
    "ra": ("raj2000",), "dec": ("dej2000",), "class": ("variable_type", "ml_classification"),
    "class_probability": ("class_probability", "ml_probability"), "period": ("period",),
    "amplitude": ("amplitude",), "mean_mag": ("mean_vmag", "mean_gmag"),
    "epoch": ("epoch_hjd", "epochhjd"),
    "j_m": ("j_mag", "jmag"), "h_m": ("h_mag", "hmag"), "ks_m": ("k_mag", "kmag"),
    "w1mpro": ("w1_mag", "w1mag"), "w2mpro": ("w2_mag", "w2mag"), "w3mpro": ("w3_mag", "w3mag"),
    "w4mpro": ("w4_mag", "w4mag"), "phot_g_mean_mag": ("phot_g_mean_mag",), "bp_rp": ("bp_rp",),
    "parallax": ("parallax",), "parallax_error": ("parallax_error",), "pmra": ("pmra",),
    "pmdec": ("pmdec",), "ruwe": ("ruwe",), "lksl_statistic": ("lksl_statistic",),
    "rfr_score": ("rfr_score",),
}  # fmt: skip
TEXT = ("gaia", "name", "key", "class")
UNITS = {
    "ra": "deg", "dec": "deg", "period": "d", "amplitude": "mag", "mean_mag": "mag", "epoch": "d",
    "parallax": "mas", "parallax_error": "mas", "pmra": "mas yr-1", "pmdec": "mas yr-1",
    **dict.fromkeys(("j_m", "h_m", "ks_m", "w1mpro", "w2mpro", "w3mpro", "w4mpro",
                     "phot_g_mean_mag", "bp_rp"), "mag"),
}  # fmt: skip
BANDS = {"lightcurve-v": "v", "lightcurve-g": "g"}
SCALARS = ("period", "amplitude", "lksl_statistic", "rfr_score")  # that the view holds too
FILTERS = {"lightcurve-v": "V", "lightcurve-g": "g"}
PATROL = "skypatrol"  # the release that is not a catalogue: `--survey asassn:skypatrol`
BLOCK = 500  # light curves a step
MOST = 64 << 20  # bytes of one light curve in an archive
BAD = skypatrol.BAD


def patrolled(request: Request) -> bool:
    """Whether light curves of any star are asked of Sky Patrol, not those of the catalogues.

    Raises:
        UsageError: If the release is another one.
    """
    if request.release not in ("", PATROL):
        raise UsageError(
            f"'{request.release}' is no release of ASAS-SN", f"--survey asassn or asassn:{PATROL}"
        )
    return request.release == PATROL


def bands(request: Request, settings: Settings) -> tuple[str, ...]:
    """Bands whose catalogues are given and whose light curves are wanted.

    Raises:
        UsageError: If no catalogue is given: their addresses are not confirmed.
    """
    given = {"v": settings.asassn_catalogue_v, "g": settings.asassn_catalogue_g}
    wanted = [b for p, b in BANDS.items() if not request.products or p in request.products]
    known = tuple(b for b in (wanted or ["v", "g"]) if given[b])
    if not known:
        raise UsageError(
            "asassn needs its catalogue (its address is not confirmed)",
            "set asassn_catalogue_v or asassn_catalogue_g (path or URL) under [fetch] of --config",
        )
    return known


def catalogue(client: Client, band: str) -> dict[str, NDArray]:
    """One catalogue with our names, as text where it is text."""
    place = getattr(client.settings, f"asassn_catalogue_{band}")
    raw = _catalogue.text_columns(_catalogue.local(client, "asassn", place, _catalogue.whole))
    held: dict[str, NDArray] = {}
    for ours, theirs in NAMES.items():
        found = next((raw[t] for t in theirs if t in raw), None)
        if found is not None:
            held[ours] = found if ours in TEXT else _catalogue.numbers(found)
    key = client.settings.asassn_key.lower()
    held["key"] = raw[key] if key in raw else held.get("key", held["name"])
    if "gaia" not in held or "ra" not in held:
        raise UsageError(
            f"{place} is not a catalogue of ASAS-SN variables", "edr3_source_id, raj2000"
        )
    held["source_id"] = _catalogue.gaia_ids(held.pop("gaia"))
    held["band"] = np.array([band] * len(held["ra"]), dtype=object)
    return held


def select(request: Request, client: Client) -> Selection:
    """Stars of one or both catalogues; of several rows of a star in a catalogue the last."""
    if patrolled(request):
        return skypatrol.select(request, client)
    parts = [catalogue(client, b) for b in bands(request, client.settings)]
    both = _catalogue.numbers  # columns that a catalogue lacks are unknown
    names = dict.fromkeys(n for p in parts for n in p)
    columns = {}
    for name in names:
        blank = "" if name in (*TEXT, "band") else np.nan
        filled = [p.get(name, np.array([blank] * len(p["ra"]))) for p in parts]
        text = name in (*TEXT, "band")
        columns[name] = np.concatenate(
            [f if text or name == "source_id" else both(f) for f in filled]
        )
    # The first catalogue's row describes the star; every band's row names its light curve.
    order = {b: n for n, b in enumerate(("v", "g"))}
    columns["row"] = np.arange(len(columns["ra"]))
    table = _catalogue.table_of(columns, UNITS)
    from dataclasses import replace

    keys: dict[int, dict[str, tuple[str, str]]] = {}
    found = _catalogue.select(replace(request, find="all"), client, table, "last", "", "row")
    rows = found.table.to_pylist()
    rule = request.choose or "last"
    for r in rows if rule != "first" else rows[::-1]:
        if r["band"]:
            keys.setdefault(r["source_id"], {})[r["band"]] = (r["key"], r["name"])
    first: dict[int, dict] = {}
    for r in sorted(
        rows, key=lambda r: (order.get(r["band"], 9), -r["row"] if r["row"] is not None else 0)
    ):
        first.setdefault(r["source_id"], r)
    kept = [first[i] for i in sorted(first)]
    made = pa.Table.from_pylist(kept, schema=found.table.schema).drop_columns(
        ["row", "key", "band"]
    )
    made = made.set_column(
        made.column_names.index("chosen"), "chosen", pa.array([True] * len(kept))
    )
    for band in ("v", "g"):
        for place, what in enumerate(("key", "name")):
            values = [keys.get(r["source_id"], {}).get(band, (None, None))[place] for r in kept]
            made = made.append_column(f"{band}_{what}", pa.array(values, pa.string()))
    notes = found.notes | {"id_release": "EDR3 (= DR3)", "choose": rule, "find": request.find}
    return Selection(made, found.queries, found.missing, found.absent, notes)


def steps(request: Request, client: Client, selected: pa.Table) -> list[Step]:
    """The catalogue's columns, then blocks of light curves, V and g of a star in one row."""
    if patrolled(request):
        wanted_ = {f for p, f in FILTERS.items() if not request.products or p in request.products}
        return skypatrol.steps(request, client, selected, wanted_, photometry)
    private = ("v_key", "v_name", "g_key", "g_name")
    table = _catalogue.objects(selected, private)
    work = [Step("objects", lambda: Piece({"objects": table}))]
    if request.products and not any(p in BANDS for p in request.products):
        return work
    wanted = bands(request, client.settings)
    archives: dict[str, Callable[[str], bytes]] = {}
    scalars = [n for n in SCALARS if n in selected.column_names]
    rows = selected.select(["source_id", *private, *scalars]).to_pylist()
    for n in range(0, len(rows), BLOCK):
        block = _block(client, rows[n : n + BLOCK], wanted, archives)
        work.append(Step(f"photometry-{n // BLOCK:05d}", block))
    return work


def member(band: str, name: str) -> str:
    """The file of a star in the archive of a band: the two archives spell it differently."""
    if band == "v":
        return f"vardb_files/{checks.safe_key(name.replace(' ', ''))}.dat"
    return f"g_band_lcs/{checks.safe_key(name.replace(' ', '_'))}.dat"


def archive(path: Path) -> Callable[[str], bytes]:
    """A function that reads one member of a zip or a tar, indexed once.

    Raises:
        IntegrityError: If it is no such archive.
        KeyError, BadAnswer: (of that function) if there is no such member, or it is damaged.
    """
    with files.reading(path.name, "archive"):
        if zipfile.is_zipfile(path):
            held = zipfile.ZipFile(path)
            checks.check_members(held.infolist())
            return _guarded(held.read)
        packed = tarfile.open(path)  # noqa: SIM115
        index = {m.name.removeprefix("./"): m for m in packed if m.isfile()}

    def read(name: str) -> bytes:
        if index[name].size > MOST:
            raise BadAnswer(f"{name} states {index[name].size} bytes")
        file = packed.extractfile(index[name])
        assert file is not None
        return file.read()

    return _guarded(read)


def _guarded(read: Callable[[str], bytes]) -> Callable[[str], bytes]:
    def guarded(name: str) -> bytes:
        try:
            return read(name)
        except (KeyError, BadAnswer):
            raise
        except Exception as error:  # zipfile, tarfile and zlib each have their own
            raise BadAnswer(f"a damaged member ({type(error).__name__})") from error

    return guarded


def curve(body: bytes, band: str) -> dict[str, NDArray]:
    """A light curve of any of the recorded layouts: `.dat` (spaces or tabs), or CSV.

    Times stay float64 (an HJD has more digits than float32). Upper limits (`>14.6`) and values of
    99.99 are marked, their magnitude is NaN.

    Raises:
        BadAnswer: If there is no time or no magnitude.
    """
    import csv
    import re

    lines = [x for x in body.decode("utf-8-sig", "replace").splitlines() if x.strip()]
    start = next((i for i, x in enumerate(lines) if re.search(r"\b(hjd|jd)\b", x, re.I)), None)
    if start is None:
        raise BadAnswer("a light curve without a column hjd or jd")
    head = lines[start].lstrip("# ").strip()
    split: Callable[[str], list[str]] = str.split
    if "," in head:

        def split(line: str) -> list[str]:
            return next(csv.reader([line]))

    names = [n.strip().lower() for n in split(head)]
    rows = [r for r in map(split, lines[start + 1 :]) if len(r) == len(names)]
    columns = {n: [r[i].strip() for r in rows] for i, n in enumerate(names)}
    pick = lambda *known: next((columns[k] for k in known if k in columns), None)  # noqa: E731
    time, mag = pick("hjd", "jd"), pick("mag", "magnitude")
    if time is None or mag is None:
        raise BadAnswer("a light curve without times or magnitudes")
    limit = np.array([m.startswith(">") for m in mag], bool)
    number = _catalogue.numbers
    error = number(np.array(pick("mag_err", "mag error") or ["nan"] * len(mag), dtype=object))
    value = number(np.array([m.lstrip("><") for m in mag], dtype=object))
    bad = limit | ~(value < BAD) | ~(error < BAD)
    filters = pick("filter", "phot_filter") or [""] * len(mag)
    order = np.argsort(number(np.array(time, dtype=object)), kind="stable")
    return {
        "time": number(np.array(time, dtype=object))[order],
        "magnitude": np.where(bad, np.nan, value)[order].astype(np.float32),
        "error": np.where(bad, np.nan, error)[order].astype(np.float32),
        "band": np.array([f or band.replace("v", "V") for f in filters], dtype=object)[order],
        "camera": np.array(pick("camera") or [""] * len(mag), dtype=object)[order],
        "is_upper_limit": limit[order],
        "system": np.array(["HJD" if "hjd" in columns else "JD"] * len(mag), dtype=object),
    }


def _block(client: Client, rows: list[dict], wanted: tuple[str, ...], archives: dict):  # type: ignore[no-untyped-def]
    def one(what: tuple[int, str]) -> dict[str, NDArray]:
        row, band = rows[what[0]], what[1]
        place = getattr(client.settings, f"asassn_archive_{band}")
        if place:
            if band not in archives:
                archives[band] = archive(_catalogue.local(client, "asassn", place))
            return curve(archives[band](member(band, row[f"{band}_name"])), band)
        key = checks.safe_key(str(row[f"{band}_key"]))
        url = client.settings.asassn_curve.format(id=key, band=band)
        check = _checked(band)
        return curve(client.download("asassn", url, check=check).read_bytes(), band)

    def guarded(what: tuple[int, str]) -> Any:
        try:
            return one(what)
        except (KeyError, BadAnswer) as error:
            return f"invalid_payload: {error}" if isinstance(error, BadAnswer) else "not_in_archive"

    def get() -> Piece:
        keys = [(n, b) for n, r in enumerate(rows) for b in wanted if r[f"{b}_key"]]
        found, lost = each(client, keys, guarded)
        lost |= {k: v for k, v in found.items() if isinstance(v, str)}
        curves = [
            (r["source_id"], [found[n, b] for b in wanted if isinstance(found.get((n, b)), dict)])
            for n, r in enumerate(rows)
        ]
        have = [(i, c) for i, c in curves if c]
        missing = tuple(
            (rows[n]["source_id"], "photometry", f"{b}: {w}") for (n, b), w in lost.items()
        )
        asked = f"{len(keys)} light curves of {len(rows)} stars"
        if not have:
            return Piece({}, missing, queries=(asked,))
        table, of = photometry(have), {r["source_id"]: r for r in rows}
        for name in (n for n in SCALARS if n in rows[0]):
            values = pa.array([of[i][name] for i, _ in have], pa.float64())
            table = table.append_column(name, values)
        return Piece({"photometry": table}, missing, queries=(asked,))

    return get


def _checked(band: str) -> Callable[[Path], None]:
    def check(path: Path) -> None:
        body = path.read_bytes()
        if b"," in body.split(b"\n")[0]:
            checks.csv(path)
        curve(body, band)

    return check


def photometry(stars: list[tuple[int, list[dict[str, NDArray]]]]) -> pa.Table:
    """The view `photometry`: one row a star, epochs of all bands in order of time."""
    kinds = {
        "time": (pa.float64(), {"unit": "d", "meaning": "HJD, or JD where time_system says so"}),
        "magnitude": (pa.float32(), {"unit": "mag"}),
        "error": (pa.float32(), {"unit": "mag"}),
        "band": (pa.string(), None),
        "camera": (pa.string(), None),
        "is_upper_limit": (pa.bool_(), None),
    }
    fields = [pa.field("source_id", pa.int64())]
    arrays: list[pa.Array] = [pa.array([i for i, _ in stars], pa.int64())]
    orders = [np.argsort(np.concatenate([c["time"] for c in cs]), kind="stable") for _, cs in stars]
    for name, (kind, metadata) in kinds.items():
        lists = [
            np.concatenate([c[name] for c in cs])[o]
            for (_, cs), o in zip(stars, orders, strict=True)
        ]
        fields.append(pa.field(name, pa.list_(kind), metadata=metadata))
        arrays.append(pa.array([v.tolist() for v in lists], pa.list_(kind)))
    systems = ["+".join(sorted({s for c in cs for s in c["system"]})) for _, cs in stars]
    fields.append(pa.field("time_system", pa.string()))
    arrays.append(pa.array(systems))
    return pa.table(arrays, schema=pa.schema(fields))


def outline(request: Request, settings: Settings) -> Outline:
    """The catalogues, and about 20 kB a light curve."""
    if patrolled(request):
        return skypatrol.outline(request, settings)
    known = bands(request, settings)
    rows = len(request.ids) or request.sample
    queries = [f"catalogue {getattr(settings, f'asassn_catalogue_{b}')}" for b in known]
    for band in known:
        place = getattr(settings, f"asassn_archive_{band}")
        queries.append(f"light curves of {place}" if place else f"GET {settings.asassn_curve}")
    return Outline(tuple(queries), rows, None if rows is None else rows * 20_000 * len(known))


SURVEY = Survey(
    name="asassn",
    title="ASAS-SN variable stars: V and g light curves with classes",
    release="V 2021, g 2022",
    citations=("2014ApJ...788...48S", "2017PASP..129j4502K"),
    select=select,
    steps=steps,
    outline=outline,
    products={
        "lightcurve-v": ("2018MNRAS.477.3145J",),
        "lightcurve-g": ("2023MNRAS.519.5271C",),
        "labels": (),
    },
)
