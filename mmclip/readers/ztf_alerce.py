"""Light curves of ZTF alerts as the ALeRCE broker gives them (detections of its client or site).

MJD (UTC); filters `zg`, `zr`, `zi`. A variable star's detections are corrected by ALeRCE from
difference to apparent magnitudes: those that could not be are left out, and so are dubious
corrections. An object of which none is corrected (a transient) keeps the magnitude of the
difference image where that is positive.

Source:
    Forster et al. 2021 (AJ 161, 242), section on the light curve correction.
"""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mmclip.arrays import find, floats, whole
from mmclip.readers import Options, Reader, files, lightcurves, mmu, survey_points
from mmclip.readers.files import Loaded

FILTERS = {1: "zg", 2: "zr", 3: "zi"}
NONE = 90.0  # mag; 100 stands for an error that is not known


def recognises(data: Loaded) -> bool:
    """Whether the columns are those of ALeRCE's detections."""
    return survey_points.named(data, ["magpsf_corr", "isdiffpos", "fid"])


def read(data: Loaded, options: Options) -> pa.Table:
    """Light curves of a table of detections, one row a detection."""
    table = mmu.read(data)
    name = files.stem(data)
    dubious = survey_points.truth(table, "dubious")
    positive = survey_points.truth(table, "isdiffpos")
    own = find(table, ["oid", "objectId"])
    star = [] if own is None else whole(table, own).to_pylist()
    apparent = _any_of(star, survey_points.truth(table, "corrected"))
    value = np.where(apparent, _numbers(table, "magpsf_corr"), _numbers(table, "magpsf"))
    error = np.where(apparent, _error(table), _numbers(table, "sigmapsf"))
    corrected = survey_points.truth(table, "corrected")
    filters = [FILTERS.get(int(v), str(int(v))) if np.isfinite(v) else ""
               for v in _numbers(table, "fid")]  # fmt: skip
    gone = [n for n in table.column_names if n.lower().startswith(("magpsf", "sigmapsf"))]
    table = survey_points.with_columns(
        table,
        {"magnitude": value, "error": error, "band": filters, "time_system": "UTC"},
        [*gone, "fid", "magap", "sigmagap", "band", "error", "magnitude", "time_system"],
    )
    bad = {
        "not corrected to apparent magnitudes": apparent & ~corrected,
        "dubious": apparent & dubious,
        "fainter than the reference": ~apparent & ~positive,
    }
    table = survey_points.kept(table, bad, "ALeRCE")
    return lightcurves.from_table(table, options, name, "alerce")


def _any_of(star: list[object], flags: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """[rows] whether any row of the same object has the flag."""
    if not star:
        return np.full(len(flags), bool(flags.any()))
    has = {s for s, f in zip(star, flags, strict=True) if f}
    return np.array([s in has for s in star], bool)


def _numbers(table: pa.Table, name: str) -> NDArray[np.float64]:
    column = find(table, [name])
    return np.full(table.num_rows, np.nan) if column is None else floats(table, column)


def _error(table: pa.Table) -> NDArray[np.float64]:
    """Error of the apparent magnitude: of a point source, or where that is unknown of any."""
    point, extended = _numbers(table, "sigmapsf_corr"), _numbers(table, "sigmapsf_corr_ext")
    with np.errstate(invalid="ignore"):
        best = np.where(point < NONE, point, extended)
        return np.where(best < NONE, best, np.nan)


READER = Reader(
    "ztf-alerce", lambda data, units: recognises(data),
    lambda data, modality, options: read(data, options), ("photometry",),
    {"ztf": ("2019PASP..131a8002B",), "alerce": ("2021AJ....161..242F",)},
)  # fmt: skip
