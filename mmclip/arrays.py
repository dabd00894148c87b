"""Arrow columns to NumPy and back: lists of any length, text arrays, names in any case."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mmclip.errors import NotFound, UsageError, nearest

Array = NDArray[np.floating]
Row = NDArray[Any] | None


@dataclass(frozen=True)
class Lists:
    """Many lists of any length, end to end: row i is `values[offsets[i]:offsets[i + 1]]`."""

    values: NDArray[Any]
    offsets: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> NDArray[Any]:
        return self.values[self.offsets[row] : self.offsets[row + 1]]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """[rows] number of entries of each."""
        return np.diff(self.offsets)

    @property
    def row(self) -> NDArray[np.int64]:
        """[entries] the row that each entry belongs to."""
        return np.repeat(np.arange(len(self)), self.lengths)

    def take(self, rows: NDArray[Any]) -> "Lists":
        """The rows asked for, in that order."""
        rows = np.arange(len(self))[rows]
        lengths = self.lengths[rows]
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        within = np.arange(offsets[-1]) - np.repeat(offsets[:-1], lengths)
        return Lists(self.values[np.repeat(self.offsets[rows], lengths) + within], offsets)


def lists(rows: Any) -> Lists:
    """Anything made of rows - `Lists`, a matrix, a sequence of arrays - as `Lists`."""
    if isinstance(rows, Lists):
        return rows
    if isinstance(rows, np.ndarray) and rows.dtype != object and rows.ndim >= 2:
        length = math.prod(rows.shape[1:])
        return Lists(rows.reshape(-1), np.arange(len(rows) + 1) * length)
    arrays = [np.asarray(r) for r in rows]
    offsets = np.concatenate([[0], np.cumsum([len(a) for a in arrays])]).astype(np.int64)
    return Lists(np.concatenate(arrays) if arrays else np.zeros(0), offsets)


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
    array = plain(whole(table, name))
    if pa.types.is_null(array.type):
        return np.full(len(array), np.nan)
    if is_text(array.type):
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
    if pa.types.is_null(array.type):
        return [None] * len(array)
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


def list_array(values: Sequence[Row], kind: pa.DataType) -> pa.Array:
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


def column(table: pa.Table, name: str) -> NDArray[Any]:
    """A column as a NumPy array: fixed-size lists become [rows, ...]; null becomes NaN."""
    array = whole(table, name)
    if pa.types.is_fixed_size_list(array.type):
        return _matrix(array)
    return np.asarray(array.to_numpy(zero_copy_only=False))


def words(table: pa.Table, name: str) -> NDArray[np.str_]:
    """A column of few different texts as NumPy texts, without a Python object a row."""
    array = whole(table, name).dictionary_encode()
    known = np.array([*array.dictionary.to_pylist(), "None"])  # what str() makes of a null
    found: NDArray[np.str_] = known[
        array.indices.fill_null(len(known) - 1).to_numpy(zero_copy_only=False)
    ]
    return found


def raw_column(table: pa.Table, name: str) -> NDArray[Any] | Lists:
    """As `column`, and lists of any length as `Lists`; a null one is empty."""
    array = whole(table, name)
    if pa.types.is_list(array.type) or pa.types.is_large_list(array.type):
        lengths = np.asarray(array.value_lengths().fill_null(0), np.int64)
        values = array.flatten()
        while pa.types.is_nested(values.type):  # an image as lists of lists
            values = values.flatten()
        flat = values.to_numpy(zero_copy_only=False)
        if lengths.sum() and len(flat) != lengths.sum():
            lengths = lengths * (len(flat) // int(lengths.sum()))
        return Lists(flat, np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))
    return column(table, name)


def _matrix(array: pa.Array) -> NDArray[Any]:
    shape, kind = [], array.type
    while pa.types.is_fixed_size_list(kind):
        shape.append(kind.list_size)
        kind = kind.value_type
    valid = np.asarray(array.is_valid())
    values = array.drop_null() if array.null_count else array
    for _ in shape:
        values = values.flatten()
    flat: NDArray[Any] = values.to_numpy(zero_copy_only=False).reshape(-1, *shape)
    if valid.all():
        return flat
    filled = np.full((len(array), *shape), np.nan, np.float32)
    filled[valid] = flat
    return filled


def fixed(values: NDArray[Any]) -> pa.Array:
    """[rows, length] -> an Arrow array of fixed-size lists."""
    flat = pa.array(np.ascontiguousarray(values).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, values.shape[1])


def equals(table: pa.Table, name: str, word: str) -> NDArray[np.bool_]:
    """[rows] whether a column of texts holds this one."""
    return np.asarray(pc.equal(table[name], word).fill_null(False).to_numpy(), np.bool_)


def is_number(kind: pa.DataType) -> bool:
    """True for whole numbers of any width, signed or not, and for floats of any width."""
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def is_name(kind: pa.DataType) -> bool:
    """True for what names a class: text, true or false, or a category of a dictionary."""
    return bool(is_text(kind) or pa.types.is_boolean(kind) or pa.types.is_dictionary(kind))


def is_text(kind: pa.DataType) -> bool:
    """True for text of any width."""
    return bool(
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    )


def text_of(value: object) -> str:
    """A value as the name of a class: 0 is `0`, as 0.0 is, False is `False`; empty if unknown.

    >>> [text_of(v) for v in (0, 3.0, 0.5, False, None, float("nan"), "M")]
    ['0', '3', '0.5', 'False', '', '', 'M']
    """
    if value is None or value != value:
        return ""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def plain(array: pa.Array) -> pa.Array:
    """An Arrow array, its values spelled out where it is a dictionary's."""
    return array.cast(array.type.value_type) if pa.types.is_dictionary(array.type) else array


def encode(table: pa.Table, name: str) -> tuple[list[str], NDArray[np.int32]]:
    """The different values of a column as texts, sorted, and [rows] which one; -1 if unknown.

    Unknown are a null, a NaN and an empty text. See `text_of`.

    Raises:
        UsageError: If it holds neither names nor numbers.
    """
    array = plain(whole(table, name))
    if not (is_name(array.type) or is_number(array.type) or pa.types.is_null(array.type)):
        raise UsageError(
            f"the column '{name}' holds {array.type}, which names no classes",
            "a column of text, whole numbers, or true and false",
        )
    if pa.types.is_null(array.type):
        array = array.cast(pa.string())
    array = array.dictionary_encode()
    texts = [text_of(v) for v in array.dictionary.to_pylist()]
    names = sorted(set(texts) - {""})
    number = {n: i for i, n in enumerate(names)}
    codes = np.array([*(number.get(s, -1) for s in texts), -1], np.int32)
    return names, codes[array.indices.fill_null(len(texts)).to_numpy(zero_copy_only=False)]


def decode(names: list[str], codes: NDArray[np.int32]) -> NDArray[np.object_]:
    """[rows] the text behind each code, one Python object a different text; -1 is empty."""
    return np.array([*names, ""], object)[codes]


def taken(values: pa.Array | pa.ChunkedArray, rows: NDArray[np.int64]) -> pa.Array:
    """[rows] values of an Arrow column; null for row -1."""
    return values.take(pa.array(rows, pa.int64(), mask=rows < 0))


def splitmix64(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """[...] 64 well-mixed bits of each integer: the finaliser of SplitMix64.

    Source:
        Steele, Lea & Flood 2014, doi:10.1145/2660193.2660195.
    """
    with np.errstate(over="ignore"):
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))
