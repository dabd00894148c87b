"""What the readers of single surveys' light curves share: a header to know, points to leave out."""

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mmclip.arrays import find, whole
from mmclip.errors import IntegrityError
from mmclip.readers import views
from mmclip.readers.files import Loaded

HEAD = 65536  # bytes in which a header lies


def named(data: Loaded, words: Sequence[str]) -> bool:
    """Whether the beginning of a file (of Parquet: its end) has all these column names."""
    head = bytes(data[-HEAD:] if data[:4] == b"PAR1" else data[:HEAD]).lower()
    return all(word.lower().encode() in head for word in words)


def truth(table: pa.Table, name: str) -> NDArray[np.bool_]:
    """[rows] a column of flags, as booleans, numbers or text; unknown is False."""
    column = find(table, [name])
    if column is None:
        return np.zeros(table.num_rows, bool)
    words = [str(v).strip().lower() for v in whole(table, column).to_pylist()]
    return np.array([w in ("true", "t", "1", "1.0", "yes", "y") for w in words], bool)


def kept(table: pa.Table, left_out: Mapping[str, NDArray[np.bool_]], survey: str) -> pa.Table:
    """The table without some points; a note counts them by reason.

    Args:
        table: One row a point.
        left_out: By reason, [rows]; a point counts under the first that applies.
        survey: For the messages.

    Raises:
        IntegrityError: If no point is left.
    """
    good = np.ones(table.num_rows, bool)
    counts = []
    for reason, bad in left_out.items():
        new = int((bad & good).sum())
        counts += [f"{new} {reason}"] if new else []
        good &= ~bad
    if not good.any():
        raise IntegrityError(
            f"{survey}: none of {table.num_rows} points is usable ({', '.join(counts)})",
            "get the light curve again, or name the columns: --columns time=...,magnitude=...",
        )
    some = table.filter(pa.array(good))
    return views.told(some, f"{survey}: points left out: {', '.join(counts)}") if counts else some


def with_columns(table: pa.Table, columns: Mapping[str, object], drop: Sequence[str]) -> pa.Table:
    """The table with columns added: an array, or one word for all rows; `drop` go before."""
    for name in drop:
        column = find(table, [name])
        table = table if column is None else table.drop_columns([column])
    for name, given in columns.items():
        array = pa.array([given] * table.num_rows) if isinstance(given, str) else pa.array(given)
        table = table.append_column(name, array)
    return table
