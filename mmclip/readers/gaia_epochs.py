"""Gaia's epoch photometry as the view `photometry`: points of G, BP and RP of a star in one row.

As DataLink gives it (one row a point, one row a transit, or arrays by star) and as the bulk files
have it. Points that the photometry or the variability analysis rejected are left out. Times are
barycentric Julian dates in TCB, which the archive counts from 2455197.5 (2010.0).

Source:
    Gaia DR3 documentation, section 20.7.1, EPOCH_PHOTOMETRY; Eyer et al. 2023 (A&A 674, A13).
"""

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mmclip.arrays import is_list, whole
from mmclip.errors import IntegrityError
from mmclip.readers import Options, Reader, files, lightcurves, mmu, survey_points, views
from mmclip.readers.files import Loaded

BANDS = {"g": "G", "bp": "BP", "rp": "RP"}
TIME = {"g": ("g_transit_time", "g_obs_time"), "bp": ("bp_obs_time",), "rp": ("rp_obs_time",)}
PARTS = ("g_transit", "g")  # of the names in G: the mean over a transit
ORIGIN = 2_455_197.5  # Julian date of the archive's zero of time
ERROR = 2.5 / np.log(10)  # mag: error of a magnitude, of a small relative error of the flux
Reals = NDArray[np.float64]


def view(table: pa.Table, origin: float, scale: str) -> pa.Table:
    """One row a star, valid points in order of time; empty lists where there is none.

    Args:
        table: As DataLink gives it: one row a star with arrays by band, or one row a point with a
            column `band`.
        origin: Julian date that the archive's times are counted from.
        scale: Time scale of the archive: TCB.

    Raises:
        IntegrityError: If it is neither.
    """
    columns = set(table.column_names)
    if {"band", "time"} <= columns:
        stars = _long(table)
    elif any(t in columns for names in TIME.values() for t in names):
        stars = _wide(table)
    else:
        raise IntegrityError(f"epoch photometry with columns {', '.join(table.column_names)[:200]}")
    have = sorted(stars)
    kinds = {"time": pa.float64(), "magnitude": pa.float32(), "error": pa.float32()}
    about = {
        "time": {"unit": "d", "meaning": f"barycentric Julian date in {scale}"},
        "magnitude": {"unit": "mag"}, "error": {"unit": "mag"},
    }  # fmt: skip
    fields, arrays = [pa.field("source_id", pa.int64())], [pa.array(have, pa.int64())]
    for name, kind in kinds.items():
        shift = origin if name == "time" else 0.0
        fields.append(pa.field(name, pa.list_(kind), metadata=about[name]))
        arrays.append(pa.array([(stars[i][name] + shift).tolist() for i in have], pa.list_(kind)))
    fields.append(pa.field("band", pa.list_(pa.string())))
    arrays.append(pa.array([stars[i]["band"].tolist() for i in have], pa.list_(pa.string())))
    fields.append(pa.field("time_system", pa.string()))
    arrays.append(pa.array([scale] * len(have), pa.string()))
    return pa.table(arrays, schema=pa.schema(fields))


def _wide(table: pa.Table) -> dict[int, dict[str, NDArray[Any]]]:
    rows = table.to_pylist()
    return {r["source_id"]: _sorted([_points(r, b) for b in BANDS]) for r in rows}


def _points(row: dict[str, Any], band: str) -> dict[str, NDArray[Any]]:
    """The valid points of a band of one star."""

    def first(*names: str) -> Any:
        return next((row[n] for n in names if row.get(n) is not None), None)

    part = PARTS if band == "g" else (band,)
    time = _reals(first(*TIME[band]))
    nothing = np.full(len(time), np.nan)
    flux, error, mag = (
        _reals(first(*(f"{p}_{what}" for p in part)), nothing)
        for what in ("flux", "flux_error", "mag")
    )
    reject = first(f"variability_flag_{band}_reject")
    bad = np.zeros(len(time), bool) if reject is None else np.array(reject, bool)
    return _valid(time, mag, flux, error, bad, BANDS[band])


def _reals(values: Any, otherwise: Reals | None = None) -> Reals:
    if values is None:
        return np.zeros(0) if otherwise is None else otherwise
    return np.array([np.nan if v is None else v for v in values], np.float64)


def _valid(
    time: Reals, mag: Reals, flux: Reals, error: Reals, bad: NDArray[np.bool_], band: str
) -> dict[str, NDArray[Any]]:
    with np.errstate(divide="ignore", invalid="ignore"):
        sigma = ERROR * error / flux
    good = np.isfinite(time) & np.isfinite(mag) & ~bad
    return {
        "time": time[good], "magnitude": mag[good], "error": sigma[good],
        "band": np.full(int(good.sum()), band, object),
    }  # fmt: skip


def _sorted(parts: list[dict[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
    order = np.argsort(np.concatenate([p["time"] for p in parts]), kind="stable")
    return {n: np.concatenate([p[n] for p in parts])[order] for n in parts[0]}


def _long(table: pa.Table) -> dict[int, dict[str, NDArray[Any]]]:
    """One row a point: time, mag, flux, flux_error, band, and flags of rejected points."""
    ids = table["source_id"].to_numpy()
    number = {
        n: np.asarray(whole(table, n).cast(pa.float64()), np.float64)
        if n in table.column_names
        else np.full(len(ids), np.nan)
        for n in ("time", "mag", "flux", "flux_error")
    }
    bad = np.zeros(len(ids), bool)
    for name in ("rejected_by_photometry", "rejected_by_variability"):
        if name in table.column_names:
            bad |= np.array([str(v).lower() in ("true", "1", "t") for v in table[name].to_pylist()])
    names = np.array([str(b).strip().upper() for b in table["band"].to_pylist()], object)
    found = {}
    for source_id in np.unique(ids).tolist():
        parts = []
        for band in BANDS.values():
            at = (ids == source_id) & (names == band)
            time, mag, flux, error = (number[n][at] for n in ("time", "mag", "flux", "flux_error"))
            parts.append(_valid(time, mag, flux, error, bad[at], band))
        found[source_id] = _sorted(parts)
    return found


def recognises(data: Loaded) -> bool:
    """Whether the columns are those of Gaia's epoch photometry."""
    named = survey_points.named
    return named(data, ["source_id", "rejected_by_variability", "band", "time"]) or named(
        data, ["source_id", "g_transit_time", "g_transit_mag"]
    )


def read(data: Loaded, options: Options) -> pa.Table:
    """Light curves of a table of the archive.

    Raises:
        IntegrityError: If it has neither the columns of points nor those of transits.
    """
    table = mmu.read(data)
    times = [n for n in table.column_names if n in sum(TIME.values(), ())]
    if times and not is_list(table.schema.field(times[0]).type):
        rejected = survey_points.truth(table, "rejected_by_photometry")
        table = survey_points.kept(table, {"rejected by the photometry": rejected}, "Gaia")
        flags = [n for n in table.column_names if n.startswith("variability_flag")]
        for flag in flags:  # text, in some formats
            place = table.column_names.index(flag)
            table = table.set_column(place, flag, pa.array(survey_points.truth(table, flag)))
        lists = [n for n in table.column_names if n.startswith(("g_", "bp_", "rp_"))] + flags
        table = views.gather(table, "source_id", lists)
    return lightcurves.from_table(view(table, ORIGIN, "TCB"), options, files.stem(data), "gaia-dr3")


READER = Reader(
    "gaia-epochs", lambda data, units: recognises(data),
    lambda data, modality, options: read(data, options), ("photometry",),
    {"gaia-dr3": ("2016A&A...595A...1G", "2023A&A...674A..13E")},
)  # fmt: skip
