"""Light curves: ASAS-SN, ASAS, Catalina, Kepler and TESS, Sky Patrol, and any table."""

import json
import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mmclip import arrays, ids
from mmclip.arrays import Row, find, floats, is_list, need, rows, whole
from mmclip.errors import IntegrityError, UsageError, nearest
from mmclip.modalities.photometry import MODALITY as PHOTOMETRY
from mmclip.readers import Reader, files, mmu, tables, times, units, views
from mmclip.readers.files import Source
from mmclip.readers.views import AS_IS, Options

TIME = (
    "time",
    "hjd",
    "bjd",
    "bjd_tdb",
    "jd",
    "mjd",
    "hmjd",
    "obsmjd",
    "t",
    "lightcurve.time",
    "hjd_utc",
    "jd_utc",
    "bjd_utc",
    "time_bjd",
    "btjd",
    "bkjd",
    "g_transit_time",
    "obs_time",
    "obstime",
    "obs_date",
    "date_obs",
    "date-obs",
    "datetime",
    "date",
    "timestamp",
    "epoch",
    "midpointmjdtai",
    "lightcurve.mjd",
    "lightcurve.hmjd",
    "mjd_obs",
    "ut date",
    "times",
)
MAGNITUDE = (
    "magnitude",
    "mag",
    "magnitudes",
    "m",
    "mag_autocorr",
    "vmag",
    "gmag",
    "magpsf",
    "mag_psf",
    "psfmag",
    "lightcurve.mag",
    "mags",
    "g_transit_mag",
)
MAGNITUDE_ERROR = (
    "magnitude_error", "mag_err", "mag_error", "magerr", "mag err", "m_err", "magerr_auto", "e_mag",
    "e_magnitude", "error", "err", "uncertainty", "sigma", "sigmapsf", "merr", "mag_unc", "emag",
    "psfmagerr", "sig_mag", "unc", "mag_sigma", "dmag", "sigma_mag", "lightcurve.magerr", "errors",
    "magnitude_err",
)  # fmt: skip
FLUX = ("flux", "pdcsap_flux", "flux(mjy)", "flux (mjy)", "sap_flux", "lightcurve.flux")
FLUX_ERROR = ("flux_error", "flux_err", "pdcsap_flux_err", "flux error", "sap_flux_err",
              "lightcurve.flux_err", "error", "err", "fluxerr", "e_flux", "flux_unc", "uncertainty",
              "flux_uncertainty", "sigma", "eflux", "dflux", "flux_sigma", "unc",
              "kspsap_flux_err", "det_flux_err")  # fmt: skip
FLUX_NAME = re.compile(r"(\w+_)?FLUX(_\w+)?|TIME|(SAP_)?QUALITY", re.IGNORECASE)
BAND = ("band", "filter", "flt", "passband", "fid", "bands", "lightcurve.band",
        "filtercode", "filterid", "filter_id", "filtername", "filt", "filters")  # fmt: skip
QUALITY = ("quality", "sap_quality", "lightcurve.quality")
CATFLAGS = ("catflags", "lightcurve.catflags")  # of ZTF, where bit 15 is a bad point
UNUSABLE = 32768
CAMERA = ("camera", "cam")
LIMIT_FLAGS = (
    "upper_limit", "upperlimit", "is_limit", "limit_flag", "limitflag", "uplim", "ulim", "ul",
    "is_upper_limit", "isupperlimit", "mag_limit_flag", "fainterthan", "fainter_than",
    "nondetection",
    "is_upperlimit", "non_detection", "lim_flag", "lightcurve.upper_limit",
)  # fmt: skip
SYSTEM = re.compile(r"\b([hb]jd)(?![a-z])", re.IGNORECASE)  # in the name of a column of times
FAINTEST, WORST = 40.0, 90.0  # mag; 99.99 stands for an upper limit or for nothing

Curve = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], Row]


def curve(time: Row, value: Row, error: Row, band: Row, quality: Row, magnitudes: bool) -> Curve:
    """One light curve in order of time, without points that are no measurement.

    Dropped: a time or value that is not finite (upper limits stand as `>14.6`), a magnitude or
    error of 99.99 and the like, a set quality flag (`B`, or not 0). An error that is not
    positive becomes NaN.

    Raises:
        IntegrityError: If the lists differ in length.
    """
    t, v = np.asarray(time, np.float64), np.asarray(value, np.float64)
    e = np.full(len(t), np.nan) if error is None else np.asarray(error, np.float64)
    lengths = {len(a) for a in (t, v, e, band, quality) if a is not None}
    if len(lengths) > 1:
        raise IntegrityError(f"time, value and error differ in length ({sorted(lengths)})")
    good = np.isfinite(t) & np.isfinite(v) & ~views.fills(t)
    if not magnitudes:
        good &= ~views.fills(v)
    if magnitudes:
        with np.errstate(invalid="ignore"):
            good &= (np.abs(v) < FAINTEST) & ~(e > WORST)
    else:
        good &= ~((t == 0) & (v == 0))  # the padding of the Multimodal Universe
    if quality is not None:
        good &= np.array([q in (0, "G", "g", None) for q in quality], bool)
    order = np.flatnonzero(good)[np.argsort(t[good], kind="stable")]
    with np.errstate(invalid="ignore"):
        e = np.where(e > 0, e, np.nan)
    return t[order], v[order], e[order], None if band is None else np.asarray(band)[order]


def read(source: Source, options: Options = AS_IS) -> pa.Table:
    """Light curves of a file as a view table `photometry`, one row an object.

    Times stay as the file has them, in days, save that Kepler's and TESS's are made whole
    Julian dates. Magnitudes are taken where a file has both, unless `flux` is mapped.

    Raises:
        UsageError: If no time or no magnitude and flux is found.
        IntegrityError: If the file is damaged.
    """
    data = files.body(source)
    name = files.stem(data)
    found = files.kind(data, name)
    if found == "json":
        return from_table(_supernova(data, name), options, name)
    if found == "fits":
        with files.fits_units(data) as hdus, files.reading(name, "FITS"):
            return from_table(_fits(hdus, name), options, name)
    return from_table(mmu.read(data), options, name)


def from_table(table: pa.Table, options: Options, fallback: str, survey: str = "") -> pa.Table:
    """Light curves of a table with lists, or with one row an epoch."""
    table = _titled(table)
    target = next((t for t in options.columns if times.TOLD.fullmatch(t)), "time")
    time = _column(table, options, target, TIME)
    magnitude = _column(table, options, "magnitude", MAGNITUDE)
    flux = _column(table, options, "flux", FLUX)
    by_magnitude = magnitude is not None and "flux" not in options.columns
    value = magnitude if by_magnitude else flux
    if time is None or value is None:
        here = table.column_names
        raise UsageError(
            f"{fallback} has no {'time' if time is None else 'magnitude or flux'} column "
            f"({nearest('time' if time is None else 'magnitude', here)})",
            'name it: --columns "time=NAME,magnitude=NAME,error=NAME"',
        )
    table, note = times.in_days(table, time, target, _zero(options))
    table = _system(_ztf(views.told(table, note)), time)
    error = _column(table, options, "error", MAGNITUDE_ERROR if by_magnitude else FLUX_ERROR)
    quality = _column(table, options, "quality", QUALITY)
    flag = _limit_flag(table, value)
    literal = options.columns.get("band", "")
    literal = literal if literal and find(table, [literal]) is None else ""
    band = None if literal else _column(table, options, "band", BAND)
    camera = None if literal or band else find(table, CAMERA)
    roles = {"time": time, "magnitude" if by_magnitude else "flux": value, "error": error,
             "quality": quality, "band": band or camera, "upper limit": flag}  # fmt: skip
    used = [n for n in roles.values() if n is not None]
    if not is_list(table.schema.field(time).type):
        gaia, own = ids.columns(table, options.id_column)
        for name in (time, value, error):
            if name is not None and pa.types.is_string(table.schema.field(name).type):
                numbers = pa.array(floats(table, name))  # upper limits stand as text
                table = table.set_column(table.column_names.index(name), name, numbers)
        table = views.gather(table, gaia or own, used)
        for title, fact in sky_patrol(table).items():
            if table.num_rows == 1 and title not in table.column_names:
                metadata = table.schema.metadata
                table = table.append_column(title, pa.array([fact]))
                table = table.replace_schema_metadata(metadata)
    scales = _scales(table, value, error, by_magnitude)
    nothing: list[Row] = [None] * table.num_rows
    parts = [rows(table, n) if n else nothing for n in (time, value, error)]
    for i, scale in enumerate(scales, 1):
        if scale != 1.0:
            parts[i] = [None if r is None else np.asarray(r, np.float64) * scale for r in parts[i]]
    qualities = rows(table, quality) if quality else nothing
    if flag:
        qualities, count = _flagged(qualities, rows(table, flag), parts[1])
        note = f"{flag}: {count} points are upper limits, left out"
        table = views.told(table, note if count else "")
    bands = _bands(table, band, camera, [0 if t is None else len(t) for t in parts[0]])
    curves: list[Curve | None] = []
    reasons = []
    for t, v, e, b, q in zip(*parts, bands, qualities, strict=True):
        made, reason = None, "no light curve"
        if t is not None and v is not None:
            try:
                made = curve(t, v, e, b, q, by_magnitude)
                reason = "" if len(made[0]) else "no good point"
            except IntegrityError as fault:
                reason = fault.message
        curves.append(made if not reason else None)
        reasons.append(reason)
    columns: dict[str, list[Row]] = {
        "time": [None if c is None else c[0] for c in curves],
        "magnitude" if by_magnitude else "flux": [None if c is None else c[1] for c in curves],
        "error": [None if c is None else c[2] for c in curves],
        "band": [_named(c, literal) for c in curves],
    }
    return views.from_table(
        PHOTOMETRY, table, columns, reasons, options, fallback, used=roles, survey=survey
    )


def _column(table: pa.Table, options: Options, name: str, known: tuple[str, ...]) -> str | None:
    if name in options.columns:
        return need(table, options.columns[name], f"--columns {name}=")
    filled = [n for n in table.column_names if table[n].null_count < len(table)]
    return find(table.select(filled), known) or find(table, known)


def _scales(
    table: pa.Table, value: str, error: str | None, magnitudes: bool
) -> tuple[float, float]:
    """Factors on values and errors: magnitudes to mag, errors to the unit of the values.

    Raises:
        UsageError: If magnitudes have a unit of fluxes, or fluxes are logarithms.
    """
    unit = units.of(table.schema.field(value))
    said = units.of(table.schema.field(error)) if error else ""
    if not magnitudes:
        if units.LOGARITHM.fullmatch(unit):
            raise UsageError(
                f"'{value}' holds logarithms of fluxes ({unit})", "write fluxes, or magnitudes"
            )
        return 1.0, units.factor(said, unit) or 1.0
    known = units.known(unit) if unit.lower() not in units.NONE else None
    scale = units.factor(unit, "mag")
    if known is not None and scale is None and known.physical_type != "dimensionless":
        raise UsageError(
            f"the unit '{unit}' of the magnitudes '{value}' is none of magnitudes",
            f'--columns "flux={value}" if they are fluxes',
        )
    return scale or 1.0, units.factor(said, "mag") or 1.0


def _zero(options: Options) -> float | None:
    """The zero of time that the user states: `time_zero=2454833`, as JD.

    Raises:
        UsageError: If it is no number.
    """
    text = options.columns.get("time_zero")
    if text is None:
        return None
    try:
        return float(text)
    except ValueError:
        raise UsageError(
            f"time_zero={text} is no Julian date", '--columns "time=NAME,time_zero=2454833"'
        ) from None


def _limit_flag(table: pa.Table, value: str) -> str | None:
    """The column that says which values are limits, if it holds truths, 0 and 1, or `<` and `>`."""
    found = find(table, (*LIMIT_FLAGS, f"l_{value}"))
    kind = None if found is None else table.schema.field(found).type
    inner = kind.value_type if kind is not None and is_list(kind) else kind
    if inner is None or pa.types.is_floating(inner) or pa.types.is_null(inner):
        return None
    return found


def _flagged(qualities: list[Row], flags: list[Row], values: list[Row]) -> tuple[list[Row], int]:
    """Qualities in which limits are bad, and the number of values that are limits."""
    made: list[Row] = []
    count = 0
    for quality, flag, value in zip(qualities, flags, values, strict=True):
        if flag is None or value is None or len(flag) != len(value):
            made.append(quality)
            continue
        words = ("", "0", "f", "false", "n", "no", "none", "0.0", "nan")
        limit = np.array([str("" if f is None else f).strip().lower() not in words for f in flag])
        count += int((limit & np.isfinite(np.asarray(value, np.float64))).sum())
        before = np.zeros(len(flag), object) if quality is None else np.asarray(quality, object)
        made.append(np.where(limit, 1, before))
    return made, count


def _ztf(table: pa.Table) -> pa.Table:
    """ZTF's `catflags` as a quality, 0 for what is usable; its filter numbers as g, r, i."""
    flags = find(table, CATFLAGS)
    if flags and find(table, QUALITY) is None:
        table = table.append_column("quality", _mapped(table, flags, lambda v: v & UNUSABLE))
    number = find(table, ("filterid", "fid"))
    kind = None if number is None else table.schema.field(number).type
    if number and flags and kind is not None and pa.types.is_integer(kind):
        names = {1: "zg", 2: "zr", 3: "zi"}
        found = [names.get(v, str(v)) for v in whole(table, number).to_pylist()]
        table = table.set_column(table.column_names.index(number), number, pa.array(found))
    return table


def _system(table: pa.Table, time: str) -> pa.Table:
    """`time_system` as the name of the time column states it: HJD, BJD; a stated one stays."""
    found = SYSTEM.search(time)
    if found is None or "time_system" in table.column_names:
        return table
    return table.append_column("time_system", pa.array([found[1].upper()] * len(table)))


def _mapped(table: pa.Table, name: str, rule: Callable[[Any], Any]) -> pa.Array:
    array = whole(table, name)
    if not is_list(array.type):
        return pa.array([None if v is None else rule(int(v)) for v in array.to_pylist()])
    return pa.array([None if v is None else [rule(int(x or 0)) for x in v]
                     for v in array.to_pylist()])  # fmt: skip


def _titled(table: pa.Table) -> pa.Table:
    """Names for tables without any: time, magnitude, error; or Stripe 82's 17 columns.

    The light curves of Sesar et al. (2010) are ra, dec and five times (time, mag, error), in
    the bands u g r i z.
    """
    names = table.column_names
    if not all(n == f"col{i + 1}" for i, n in enumerate(names)):
        return table
    if len(names) in (2, 3):
        return table.rename_columns(["time", "magnitude", "error"][: len(names)])
    if len(names) != 17:
        return table
    parts = []
    for i, band in enumerate("ugriz"):
        part = table.select([0, 1, *range(2 + 3 * i, 5 + 3 * i)])
        part = part.rename_columns(["ra", "dec", "time", "magnitude", "error"])
        parts.append(part.append_column("band", pa.array([band] * len(part))))
    return pa.concat_tables(parts)


def _asassn(camera: str) -> str:
    """The band of a camera of ASAS-SN, which the case of its letters tells; "" if unknown."""
    if re.fullmatch("b[a-h]", camera):
        return "V"
    return "g" if re.fullmatch("[bc][A-H]|b[i-t]", camera) else ""


def _bands(table: pa.Table, band: str | None, camera: str | None, lengths: list[int]) -> list[Row]:
    """Filter of each point; of ASAS-SN by the camera."""
    name = band or camera
    if name is None:
        return [None] * table.num_rows
    if not is_list(table.schema.field(name).type):
        one = whole(table, name).to_pylist() if band else [None] * table.num_rows
        return [
            None if v is None else np.full(n, str(v)) for v, n in zip(one, lengths, strict=True)
        ]
    found = [None if v is None else np.asarray(v).astype(str) for v in rows(table, name)]
    if camera:
        inside = [None if v is None else np.char.str_len(v) == 2 for v in found]
        if not all(v is None or v.all() for v in inside):
            return [None] * table.num_rows
        found = [None if v is None else np.array([_asassn(str(c)) for c in v]) for v in found]
    return list(found)


def _named(made: Curve | None, literal: str) -> Row:
    if made is None:
        return None
    return np.full(len(made[0]), literal) if literal else made[3]


def _fits(units: list[Any], name: str) -> pa.Table:
    """The light curves of a FITS file: Kepler's and TESS's, or one table a band."""
    found = [u for u in units if getattr(u, "columns", None) is not None]
    if not found:
        raise IntegrityError(f"{name} holds no table", "--as spectra or --as image?")
    header, primary = found[0].header, units[0].header
    about = json.dumps(tables.header(units[0]) | tables.header(found[0]))
    first = tables.fits_table(found[0]).replace_schema_metadata({"header": about})
    if "BJDREFI" in header:
        return _kepler(first, header, primary)
    same = [u for u in found if [n.lower() for n in u.columns.names] ==
            [n.lower() for n in found[0].columns.names]]  # fmt: skip
    if len(same) == 1:
        return first
    parts = []
    for number, unit in enumerate(same):
        part = tables.fits_table(unit).rename_columns([n.lower() for n in unit.columns.names])
        band = pa.array([unit.name or str(number + 1)] * len(part))
        parts.append(part.append_column("band", band))
    return pa.concat_tables(parts).replace_schema_metadata({"header": about})


def _kepler(table: pa.Table, header: Any, primary: Any) -> pa.Table:
    """Kepler and TESS: BKJD or BTJD to JD, the target's id and position from the header.

    Of the MIT Quick-Look Pipeline the relative flux in the aperture (SAP_FLUX) is read, with the
    error of the detrended one, for there is no other; detrending takes slow variations of the star
    away. `--columns flux=KSPSAP_FLUX` (DET_FLUX from sector 56 on) reads the detrended flux.

    Source:
        Huang et al. 2020 (RNAAS 4, 204 and 206): QLP.
    """
    name = need(table, "TIME", "the light curve")
    time = floats(table, name) + float(header["BJDREFI"]) + float(header.get("BJDREFF", 0.0))
    table = table.set_column(table.column_names.index(name), "TIME", pa.array(time))
    keep = [n for n in table.column_names
            if FLUX_NAME.fullmatch(n) and not is_list(table.schema.field(n).type)]  # fmt: skip
    table = table.select(keep)
    number = primary.get("TICID")
    target = str(primary.get("OBJECT", "")).strip() or (f"TIC {number}" if number else "")
    facts = {"object_name": target or None, "ra": primary.get("RA_OBJ", header.get("RA_OBJ")),
             "dec": primary.get("DEC_OBJ", header.get("DEC_OBJ")),
             "time_system": str(header.get("TIMESYS") or "").strip() or None}  # fmt: skip
    for key, value in facts.items():
        if isinstance(value, str | int | float):
            table = table.append_column(key, pa.array([value] * len(table)))
    return table


def _supernova(data: bytes, name: str) -> pa.Table:
    """The photometry of an Open Supernova Catalog file: detections with a time and a magnitude."""
    with files.reading(name, "JSON"):
        content = json.loads(data)
        if not isinstance(content, dict) or not content:
            raise IntegrityError(f"{name} is no catalogue entry", "see docs/formats.md")
        title, entry = next(iter(content.items()))
        found = entry.get("photometry", []) if isinstance(entry, dict) else []
        points = [
            (arrays.number(_text(p.get("time"))), arrays.number(_text(p.get("magnitude"))),
             arrays.number(_text(p.get("e_magnitude"))), str(p.get("band", "")))
            for p in found if isinstance(p, dict) and not p.get("upperlimit")
        ]  # fmt: skip
        points = [p for p in points if math.isfinite(p[0]) and math.isfinite(p[1])]
        if not points:
            raise IntegrityError(f"{name} has no photometry with times and magnitudes")
        time, magnitude, error, band = zip(*points, strict=True)
        return pa.table(
            {"time": [time], "magnitude": [magnitude], "error": [error], "band": [band],
             "object_name": [str(title)]}
        )  # fmt: skip


def _text(value: object) -> str | None:
    value = value[0] if isinstance(value, list) and value else value
    return None if value is None or isinstance(value, dict | list) else str(value)


def sky_patrol(table: pa.Table) -> dict[str, str]:
    """Facts in the comment of a Sky Patrol file; its `gaia_id` is one of Gaia DR2."""
    notes = (table.schema.metadata or {}).get(b"notes", b"").decode(errors="replace")
    try:
        found = json.loads("{" + notes.splitlines()[0] + "}")
    except (ValueError, IndexError):
        return {}
    renamed = {"gaia_dr2_source_id" if k == "gaia_id" else k: str(v) for k, v in found.items()}
    return {k: v for k, v in renamed.items() if k in ("gaia_dr2_source_id", "name", "asas_sn_id")}


def guess_time(table: pa.Table) -> list[str]:
    """For each light curve what its times look like: `JD`, `MJD`, or `offset` from some epoch."""
    found = []
    for time in rows(table, "time"):
        middle = float(np.median(time)) if time is not None and len(time) else math.nan
        found.append(
            "JD" if middle > 2_300_000 else "MJD" if 30_000 < middle < 100_000 else "offset"
        )
    return found


def merge(parts: list[pa.Table]) -> pa.Table:
    """Light curves of one star from several rows, as one row in order of time.

    Args:
        parts: View tables of one row each, all in magnitudes or all in fluxes.

    Raises:
        UsageError: If magnitudes and fluxes would be mixed.
    """
    first = parts[0]
    either = [n for n in ("magnitude", "flux") if n in first.column_names]
    value = next(n for n in either if whole(first, n)[0].is_valid)
    if any(not whole(p, value)[0].is_valid for p in parts):
        raise UsageError("light curves in magnitudes and in fluxes are not merged", "--columns")
    names = ["time", value, "error"]
    joined = [np.concatenate([np.asarray(rows(p, n)[0]) for p in parts]) for n in names]
    order = np.argsort(joined[0], kind="stable")
    bands = [rows(p, "band")[0] if "band" in p.column_names else None for p in parts]
    made: dict[str, Row] = {n: v[order] for n, v in zip(names, joined, strict=True)}
    if any(b is not None for b in bands):
        lengths = [len(rows(p, "time")[0]) for p in parts]  # type: ignore[arg-type]
        filled = [np.full(n, "") if b is None else b for b, n in zip(bands, lengths, strict=True)]
        made["band"] = np.concatenate(filled)[order]
    table = first
    for name, values in made.items():
        place = table.column_names.index(name)
        kind = table.schema.field(place).type
        array = arrays.list_array([values], kind.value_type).cast(kind)
        table = table.set_column(place, table.schema.field(place), array)
    return table


READER = Reader(
    "lightcurves", None, lambda source, modality, options: read(source, options), ("photometry",)
)
