"""Cuts on a table as an astronomer writes them: `snr > 50 and teff < 8000`."""

import re

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mmclip.datasets import tables
from mmclip.errors import NotFound, UsageError, nearest

TERM = re.compile(r"\s*([A-Za-z_]\w*)\s*(<=|>=|==|!=|=|<|>)\s*(?:'([^']*)'|\"([^\"]*)\"|(\S+))\s*")
EXAMPLE = 'for example --where "snr > 50 and teff < 8000"'


def where(table: pa.Table, text: str) -> NDArray[np.bool_]:
    """Rows of a table that satisfy every condition; an unknown value (NaN, null) satisfies none.

    Args:
        table: With the columns that are named.
        text: `column operator value`, joined by `and`; the operators are < <= > >= = != and text
            values may be quoted. Nothing is evaluated as code.

    Raises:
        UsageError: If the text is not of that form.
        NotFound: If a column is not there.
    """
    kept = np.ones(table.num_rows, bool)
    for part in re.split(r"\s+and\s+", text.strip(), flags=re.IGNORECASE):
        match = TERM.fullmatch(part)
        if match is None:
            raise UsageError(f"--where '{part}' is not COLUMN OPERATOR VALUE", EXAMPLE)
        name, operator, single, double, bare = match.groups()
        if name not in table.column_names:
            raise NotFound(
                f"--where: there is no column '{name}'; {nearest(name, table.column_names)}",
                f"columns: {', '.join(table.column_names)}",
            )
        given = next(v for v in (single, double, bare) if v is not None)
        kept &= _compare(name, tables.column(table, name), operator, given)
    return kept


def _compare(name: str, values: NDArray, operator: str, given: str) -> NDArray[np.bool_]:
    if values.dtype.kind in "iufb":
        try:
            # An id has more digits than a float holds: whole numbers are compared as such.
            wanted = int(given) if re.fullmatch(r"[+-]?\d+", given) else float(given)
        except ValueError:
            raise UsageError(f"--where: '{given}' is not a number, as {name} is", EXAMPLE) from None
        known = np.isfinite(values)
        with np.errstate(invalid="ignore"):
            result = _operate(values, operator, wanted)
    else:
        known = np.array([v is not None for v in values], bool)
        result = _operate(np.array([str(v) for v in values]), operator, given)
    return result & known


def _operate(values: NDArray, operator: str, wanted: int | float | str) -> NDArray[np.bool_]:
    table = {
        "<": np.less, "<=": np.less_equal, ">": np.greater, ">=": np.greater_equal,
        "=": np.equal, "==": np.equal, "!=": np.not_equal,
    }  # fmt: skip
    return np.asarray(table[operator](values, wanted), bool)
