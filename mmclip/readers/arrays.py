"""Arrow columns to NumPy and back: lists of any length, text arrays, names in any case."""

from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mmclip.errors import NotFound, UsageError, nearest
from mmclip.modalities import Column

Row = NDArray | None


def whole(table: pa.Table, name: str) -> pa.Array:
    """A column as one Arrow array."""
    joined = table[name].combine_chunks()
    if isinstance(joined, pa.ChunkedArray):
        return joined.chunk(0) if joined.num_chunks else pa.array([], joined.type)
    return joined


def is_list(kind: pa.DataType) -> bool:
    """True for a list of numbers, of fixed or of any length."""
    return bool(
        pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    )


def find(table: pa.Table, names: Iterable[str]) -> str | None:
    """The first of `names` that the table has, whatever its case; its name as the table has it."""
    here: dict[str, str] = {}
    for name in table.column_names:
        here.setdefault(name.lower(), name)
    return next((here[n.lower()] for n in names if n.lower() in here), None)


def shown(table: pa.Table) -> str:
    """The first names of a table's columns, for messages."""
    names = table.column_names
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return ", ".join(names[:8]) + more


def need(table: pa.Table, name: str, what: str) -> str:
    """`name` as the table has it.

    Raises:
        NotFound: If the table lacks it, naming the column most like it.
    """
    found = name if name in table.column_names else find(table, [name])
    if found is None:
        raise NotFound(
            f"{what}: there is no column '{name}'; {nearest(name, table.column_names)}",
            f"columns: {', '.join(table.column_names[:40])}",
        )
    return found


def floats(table: pa.Table, name: str) -> NDArray[np.float64]:
    """A scalar column as float64 ([rows]); null, and text that is no number, become NaN."""
    array = whole(table, name)
    if pa.types.is_string(array.type) or pa.types.is_large_string(array.type):
        return np.array([number(v) for v in array.to_pylist()], np.float64)
    if pa.types.is_boolean(array.type):
        array = array.cast(pa.int8())
    try:
        return np.asarray(array.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False))
    except pa.ArrowException as error:
        raise UsageError(f"the column '{name}' holds {array.type}, not numbers") from error


def number(text: str | None) -> float:
    """A number, or NaN for what is none (`>14.654`, `null`, an empty cell)."""
    try:
        return float(text) if text is not None else float("nan")
    except ValueError:
        return float("nan")


def rows(table: pa.Table, name: str) -> list[Row]:
    """A column of lists, one NumPy array a row (None where null); text arrays are parsed.

    Archives write arrays in text as `(1.0, 2.0)` or `[1.0,null]`; both are read.
    """
    array = whole(table, name)
    if pa.types.is_string(array.type) or pa.types.is_large_string(array.type):
        return [parse(text) for text in array.to_pylist()]
    if pa.types.is_fixed_size_list(array.type):
        array = array.cast(pa.list_(array.type.value_type))
    if not is_list(array.type):
        raise UsageError(f"the column '{name}' holds {array.type}, not lists of numbers")
    offsets = array.offsets.to_numpy()
    inner = array.values
    if pa.types.is_string(inner.type) or pa.types.is_large_string(inner.type):
        values = np.array(inner.to_pylist(), object)
    else:
        values = inner.to_numpy(zero_copy_only=False)
    valid = np.asarray(array.is_valid())
    return [
        values[a:b] if v else None for a, b, v in zip(offsets[:-1], offsets[1:], valid, strict=True)
    ]


def parse(text: str | None) -> NDArray[np.float64] | None:
    """`(1.0, 2.0)`, `[1.0,null]` or `1 2 3` as an array; None if empty."""
    body = (text or "").strip().strip("()[]{}").replace(",", " ")
    if not body or body.lower() in ("null", "nan", "--", "none"):
        return None
    return np.array([number(word) for word in body.split()])


def lists(values: Sequence[Row], kind: pa.DataType) -> pa.Array:
    """One list a row; None becomes null."""
    lengths = np.array([0 if v is None else len(v) for v in values], np.int64)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    present = [v for v in values if v is not None]
    if pa.types.is_string(kind):
        flat = pa.array([str(x) for v in present for x in v], kind)
    else:
        dtype = kind.to_pandas_dtype()
        flat = pa.array(np.concatenate(present).astype(dtype) if present else np.empty(0, dtype))
    absent = np.array([v is None for v in values], bool)
    marks = pa.array(offsets, pa.int64(), mask=np.append(absent, False))
    if offsets[-1] < 2**31:
        return pa.ListArray.from_arrays(marks.cast(pa.int32()), flat)
    return pa.LargeListArray.from_arrays(marks, flat)


def fix(array: pa.Array) -> pa.Array:
    """Lists that are all of one length as fixed-size lists; others as they are."""
    if not is_list(array.type) or pa.types.is_fixed_size_list(array.type):
        return array
    lengths = {n for n in array.value_lengths().to_pylist() if n is not None}
    if len(lengths) != 1 or pa.types.is_string(array.type.value_type):
        return array
    return array.cast(pa.list_(array.type.value_type, lengths.pop()))


def field(column: Column, kind: pa.DataType) -> pa.Field:
    """A field of a schema with unit and meaning in its metadata."""
    return pa.field(column.name, kind, metadata={"unit": column.unit, "meaning": column.meaning})
