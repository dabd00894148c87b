"""ASAS-SN variable stars: V and g catalogues, and their light curves one by one or from archives.

The catalogues hold Gaia EDR3 ids as text (`EDR3 123`); EDR3 and DR3 share one list of sources. The
catalogues' own `source_id` is a number of ASAS-SN.
"""

import tarfile
import weakref
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mmclip.errors import UsageError
from mmclip.readers import files
from mmclip.surveys import Acknowledgement, Outline, Piece, Request, Selection, Step, Survey
from mmclip.surveys import catalogue as _catalogue
from mmclip.surveys.asassn import skypatrol
from mmclip.surveys.asassn.curves import Curve, curve, photometry
from mmclip.surveys.asassn.settings import SERVICE, Settings
from mmclip.surveys.client import checks
from mmclip.surveys.client.answers import Absent
from mmclip.surveys.client.each import each
from mmclip.surveys.client.http import BadAnswer, Client, Unreachable
from mmclip.surveys.probe import Answer, Finding, find

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
METADATA = {  # the view `metadata`: Gaia's, 2MASS's and AllWISE's names where they have one
    "mean_vmag": ("mean_vmag",), "phot_g_mean_mag": ("phot_g_mean_mag",),
    "phot_bp_mean_mag": ("phot_bp_mean_mag",), "phot_rp_mean_mag": ("phot_rp_mean_mag",),
    **{f"e_phot_{b}_mean_mag": (f"e_phot_{b}_mean_mag",) for b in ("g", "bp", "rp")},
    "bp_rp": ("bp_rp",), "j_m": ("j_mag", "jmag"), "j_msigcom": ("e_j_mag", "e_jmag"),
    "h_m": ("h_mag", "hmag"), "h_msigcom": ("e_h_mag", "e_hmag"), "ks_m": ("k_mag", "kmag"),
    "ks_msigcom": ("e_k_mag", "e_kmag"),
    **{f"w{n}mpro": (f"w{n}_mag", f"w{n}mag") for n in (1, 2, 3, 4)},
    **{f"w{n}mpro_error": (f"e_w{n}_mag", f"e_w{n}mag") for n in (1, 2, 3, 4)},
    **{n: (n,) for n in ("j_k", "w1_w2", "w3_w4", "parallax", "parallax_error", "pm", "pmra",
                         "parallax_over_error", "pmra_error", "pmdec", "pmdec_error", "ruwe",
                         "l", "b")},
}  # fmt: skip
META = "metadata_"  # before those names in the selection
TEXT = ("gaia", "name", "key", "other", "class")
UNITS = {
    "ra": "deg", "dec": "deg", "period": "d", "amplitude": "mag", "mean_mag": "mag", "epoch": "d",
    "parallax": "mas", "parallax_error": "mas", "pmra": "mas yr-1", "pmdec": "mas yr-1",
    "pmra_error": "mas yr-1", "pmdec_error": "mas yr-1", "pm": "mas yr-1", "l": "deg", "b": "deg",
    "mean_vmag": "mag", "phot_bp_mean_mag": "mag", "phot_rp_mean_mag": "mag",
    **dict.fromkeys(("j_m", "h_m", "ks_m", "w1mpro", "w2mpro", "w3mpro", "w4mpro",
                     "phot_g_mean_mag", "bp_rp"), "mag"),
}  # fmt: skip
BANDS = {"lightcurve-v": "v", "lightcurve-g": "g"}
SCALARS = ("period", "amplitude", "lksl_statistic", "rfr_score")  # that the view holds too
FILTERS = {"lightcurve-v": "V", "lightcurve-g": "g"}
PATROL = "skypatrol"  # the release that is not a catalogue: `--survey asassn:skypatrol`
KEYS = ("id", "source_id")  # columns of which one names a star's light curve
HINT = (
    "download it from the survey's page of variable stars and set catalogue_v or catalogue_g "
    "(path or URL) under [asassn] of --config"
)
BLOCK = 500  # light curves a step
MOST = 64 << 20  # bytes of one light curve in an archive
Columns = dict[str, NDArray[Any]]
Row = dict[str, Any]  # of a selection
Reader = Callable[[str], bytes]  # of one member of an archive


def patrolled(request: Request, settings: Settings) -> bool:
    """Whether light curves are asked of Sky Patrol: by name, or for want of a catalogue.

    Raises:
        UsageError: If the release is another one.
    """
    if request.release not in ("", PATROL):
        raise UsageError(
            f"'{request.release}' is no release of ASAS-SN", f"--survey asassn or asassn:{PATROL}"
        )
    return request.release == PATROL or not (settings.catalogue_v or settings.catalogue_g)


def bands(request: Request, settings: Settings) -> tuple[str, ...]:
    """Bands whose catalogues are given and whose light curves are wanted.

    Raises:
        UsageError: If the catalogue of that band is not given: its address is not confirmed.
    """
    wanted = [b for p, b in BANDS.items() if not request.products or p in request.products]
    known = tuple(b for b in (wanted or ["v", "g"]) if settings.catalogue(b))
    if not known:
        raise UsageError(
            f"light curves in {' and '.join(wanted)} need that band's catalogue",
            HINT,
        )
    return known


def catalogue(client: Client, band: str) -> Columns:
    """One catalogue with our names, as text where it is text."""
    settings = client.of(Settings)
    place = settings.catalogue(band)
    raw = _catalogue.text_columns(_catalogue.local(client, SERVICE, place, _catalogue.whole))
    held: Columns = {}
    for ours, theirs in {**NAMES, **{META + n: t for n, t in METADATA.items()}}.items():
        found = next((raw[t] for t in theirs if t in raw), None)
        if found is not None:
            held[ours] = found if ours in TEXT else _catalogue.numbers(found)
    keys = [k for k in dict.fromkeys((settings.key.lower(), *KEYS)) if k in raw]
    held["key"] = raw[keys[0]] if keys else held["name"]
    held["other"] = raw[keys[1]] if len(keys) > 1 else np.full(len(held["key"]), "", object)
    if "gaia" not in held or "ra" not in held:
        raise UsageError(
            f"{place} is not a catalogue of ASAS-SN variables", "edr3_source_id, raj2000"
        )
    held["source_id"] = _catalogue.gaia_ids(held.pop("gaia"))
    held["band"] = np.array([band] * len(held["ra"]), dtype=object)
    return held


def select(request: Request, client: Client) -> Selection:
    """Stars of one or both catalogues; of several rows of a star in a catalogue the last."""
    if patrolled(request, client.of(Settings)):
        try:
            return skypatrol.select(request, client)
        except Unreachable as error:
            if request.release == PATROL:
                raise
            raise Unreachable(error.message, f"repeat later; or {HINT}") from error
    parts = [catalogue(client, b) for b in bands(request, client.of(Settings))]
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
    keys: dict[int, dict[str, tuple[str, str, str]]] = {}
    found = _catalogue.select(replace(request, find="all"), client, table, "last", "", "row")
    rows = found.table.to_pylist()
    rule = request.choose or "last"
    for r in rows if rule != "first" else rows[::-1]:
        if r["band"]:
            keys.setdefault(r["source_id"], {})[r["band"]] = (r["key"], r["name"], r["other"])
    first: dict[int, Row] = {}
    for r in sorted(
        rows, key=lambda r: (order.get(r["band"], 9), -r["row"] if r["row"] is not None else 0)
    ):
        first.setdefault(r["source_id"], r)
    kept = [first[i] for i in sorted(first)]
    made = pa.Table.from_pylist(kept, schema=found.table.schema).drop_columns(
        ["row", "key", "other", "band"]
    )
    made = made.set_column(
        made.column_names.index("chosen"), "chosen", pa.array([True] * len(kept))
    )
    for band in ("v", "g"):
        for place, what in enumerate(("key", "name", "other")):
            values = [keys.get(r["source_id"], {}).get(band, (None,) * 3)[place] for r in kept]
            made = made.append_column(f"{band}_{what}", pa.array(values, pa.string()))
    notes = found.notes | {"id_release": "EDR3 (= DR3)", "choose": rule, "find": request.find}
    return Selection(made, found.queries, found.missing, found.absent, notes)


def steps(request: Request, client: Client, selected: pa.Table) -> list[Step]:
    """The catalogue's columns, then blocks of light curves, V and g of a star in one row."""
    if patrolled(request, client.of(Settings)):
        wanted_ = {f for p, f in FILTERS.items() if not request.products or p in request.products}
        return skypatrol.steps(request, client, selected, wanted_)
    private = tuple(f"{b}_{what}" for b in ("v", "g") for what in ("key", "name", "other"))
    tables = _objects(selected, private)
    work = [Step("objects", lambda: Piece(tables))]
    if request.products and not any(p in BANDS for p in request.products):
        return work
    wanted = bands(request, client.of(Settings))
    archives: dict[str, Reader] = {}
    scalars = [n for n in SCALARS if n in selected.column_names]
    rows = selected.select(["source_id", *private, *scalars]).to_pylist()
    for n in range(0, len(rows), BLOCK):
        block = _block(client, rows[n : n + BLOCK], wanted, archives)
        work.append(Step(f"photometry-{n // BLOCK:05d}", block))
    return work


def _objects(selected: pa.Table, private: tuple[str, ...]) -> dict[str, pa.Table]:
    """`objects`, and `metadata` with the columns that a catalogue of the V band has."""
    own = [n for n in selected.column_names if n.startswith(META)]
    table = _catalogue.objects(selected, (*private, *own))
    if not own:
        return {"objects": table}
    names = [n.removeprefix(META) for n in own]
    fields = [pa.field("source_id", pa.int64())]
    fields += [
        pa.field(n, pa.float64(), metadata={"unit": UNITS[n]} if n in UNITS else None)
        for n in names
    ]
    held = selected.filter(selected["chosen"]).select(["source_id", *own])
    known = pa.table(held.columns, schema=pa.schema(fields))
    kept = np.zeros(known.num_rows, bool)
    for name in names:
        kept |= np.asarray(known[name].is_valid())
    return {"objects": table, "metadata": known.filter(pa.array(kept))}


def member(band: str, name: str) -> str:
    """The file of a star in the archive of a band: the two archives spell it differently."""
    if band == "v":
        return f"vardb_files/{checks.safe_key(name.replace(' ', ''))}.dat"
    return f"g_band_lcs/{checks.safe_key(name.replace(' ', '_'))}.dat"


def archive(path: Path) -> Reader:
    """A function that reads one member of a zip or a tar, indexed once.

    Raises:
        IntegrityError: If it is no such archive.
        KeyError, BadAnswer: (of that function) if there is no such member, or it is damaged.
    """
    with files.reading(path.name, "archive"):
        if zipfile.is_zipfile(path):
            held = zipfile.ZipFile(path)
            checks.members(held.infolist())
            return _guarded(held.read)
        packed = tarfile.open(path)  # noqa: SIM115
        index = {m.name.removeprefix("./"): m for m in packed if m.isfile()}

    def read(name: str) -> bytes:
        if index[name].size > MOST:
            raise BadAnswer(f"{name} states {index[name].size} bytes")
        file = packed.extractfile(index[name])
        assert file is not None
        return file.read()

    weakref.finalize(read, packed.close)  # with the last that reads from it
    return _guarded(read)


def _guarded(read: Reader) -> Reader:
    def guarded(name: str) -> bytes:
        try:
            return read(name)
        except (KeyError, BadAnswer):
            raise
        except Exception as error:  # zipfile, tarfile and zlib each have their own
            raise BadAnswer(f"a damaged member ({type(error).__name__})") from error

    return guarded


def _block(
    client: Client, rows: list[Row], wanted: tuple[str, ...], archives: dict[str, Reader]
) -> Callable[[], Piece]:
    settings = client.of(Settings)

    def one(what: tuple[int, str]) -> Curve:
        row, band = rows[what[0]], what[1]
        place = settings.archive(band)
        if place:
            if band not in archives:
                archives[band] = archive(_catalogue.local(client, SERVICE, place))
            return curve(archives[band](member(band, row[f"{band}_name"])), band)
        names = [row[f"{band}_key"], row[f"{band}_other"]]
        if client.learned.get("asassn_curve_by") == "other":
            names.reverse()
        return _by_name(client, [n for n in names if n], band, names[0] == row[f"{band}_key"])

    def guarded(what: tuple[int, str]) -> Any:
        try:
            return one(what)
        except (KeyError, BadAnswer) as error:
            return f"invalid_payload: {error}" if isinstance(error, BadAnswer) else "not_in_archive"

    def get() -> Piece:
        keys = [(n, b) for n, r in enumerate(rows) for b in wanted if r[f"{b}_key"]]
        outcome = each(client, keys, guarded)
        found, lost = outcome.found, outcome.missing | outcome.absent
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


def _by_name(client: Client, names: list[str], band: str, as_set: bool) -> Curve:
    """A light curve by one of the numbers that the catalogue gives a star; what worked is kept."""
    for n, name in enumerate(names):
        url = client.of(Settings).curve.format(id=checks.safe_key(str(name)), band=band)
        try:
            path = client.download(SERVICE, url, check=_checked(band))
        except Absent:
            if n + 1 == len(names):
                raise
            continue
        client.learned["asassn_curve_by"] = "key" if as_set == (n == 0) else "other"
        return curve(path.read_bytes(), band)
    raise BadAnswer("the catalogue gives it no number")


def _checked(band: str) -> Callable[[Path], None]:
    def check(path: Path) -> None:
        body = path.read_bytes()
        if b"," in body.split(b"\n")[0]:
            checks.csv(path)
        curve(body, band)

    return check


def outline(request: Request, client: Client) -> Outline:
    """The catalogues, and about 20 kB a light curve."""
    settings = client.of(Settings)
    if patrolled(request, settings):
        return skypatrol.outline(request, settings)
    known = bands(request, settings)
    rows = len(request.ids) or request.sample
    queries = [f"catalogue {settings.catalogue(b)}" for b in known]
    for band in known:
        place = settings.archive(band)
        queries.append(f"light curves of {place}" if place else f"GET {settings.curve}")
    return Outline(tuple(queries), rows, None if rows is None else rows * 20_000 * len(known))


def probe(client: Client) -> list[Finding]:
    """Whether Sky Patrol names its servers of light curves."""
    root = client.of(Settings).skypatrol

    def servers() -> Answer:
        return Answer(True, f"{len(skypatrol.servers(client))} servers of light curves")

    return [find("asassn", f"Sky Patrol answers at {root}", servers)]


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
    settings=Settings,
    probe=probe,
    references=Path(__file__).with_name("references.bib"),
    acknowledgements=(
        Acknowledgement(
            "This work uses light curves of the All-Sky Automated Survey for Supernovae (ASAS-SN).",
            "https://asas-sn.osu.edu",
        ),
    ),
)
