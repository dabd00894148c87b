"""Light curves of the AAVSO's International Database, as its download page gives them.

Julian dates (UTC, of the Earth); `HJD` is filled for a few points only. Left out: `<15.2` (fainter
than), magnitudes marked uncertain (`12.3:`), points whose validation flag is T or D (discrepant),
and differential magnitudes, which have a zero of their own. An error that no observer gave is taken
from headquarters' (`HQuncertainty`).

Source:
    https://www.aavso.org/format-data-file
"""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mmclip import arrays
from mmclip.arrays import find, floats, whole
from mmclip.readers import Options, Reader, files, lightcurves, mmu, survey_points
from mmclip.readers.files import Loaded

SURVEY = "aavso"


def recognises(data: Loaded) -> bool:
    """Whether the columns are those of the AAVSO's download page."""
    return survey_points.named(data, ["jd", "magnitude", "observer code", "validation flag"])


def read(data: Loaded, options: Options) -> pa.Table:
    """Light curves of a table with one row an observation."""
    table = mmu.read(data)
    values, limits = _values(table, "Magnitude"), _values(table, "Magnitude_limit")
    text = [str(limit or v) for v, limit in zip(values, limits, strict=True)]
    flag = np.array([str(v).strip() for v in _values(table, "Validation Flag")], object)
    method = np.array(
        [str(v).strip().upper() for v in _values(table, "Measurement Method")], object
    )
    bad = {
        "fainter than a limit": np.array(["<" in t or ">" in t for t in text], bool),
        "of uncertain magnitude": np.array([t.rstrip().endswith(":") for t in text], bool),
        "discrepant": np.isin(flag, ["T", "D"]),
        "differential": np.isin(method, ["DIF", "DIFF", "DIFFERENTIAL"]),
    }
    own, ours = (_floats(table, n) for n in ("Uncertainty", "HQuncertainty"))
    with np.errstate(invalid="ignore"):
        error = np.where(own > 0, own, ours)
    magnitude = np.array([arrays.number(t) for t in text])
    table = survey_points.with_columns(
        table,
        {"magnitude": magnitude, "error": error, "time_system": "JD"},
        ["Magnitude", "Magnitude_limit", "Uncertainty", "HQuncertainty", "HJD"],
    )
    table = survey_points.kept(table, bad, "AAVSO")
    return lightcurves.from_table(table, options, files.stem(data), SURVEY)


def _values(table: pa.Table, name: str) -> list[object]:
    column = find(table, [name])
    return [""] * table.num_rows if column is None else list(whole(table, column).to_pylist())


def _floats(table: pa.Table, name: str) -> NDArray[np.float64]:
    column = find(table, [name])
    return np.full(table.num_rows, np.nan) if column is None else floats(table, column)


READER = Reader(
    "aavso", lambda data, units: recognises(data),
    lambda data, modality, options: read(data, options), ("photometry",),
)  # fmt: skip
