"""Errors of files that have none (`--error 1%`), and factors on those known to be too small."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mmclip import arrays
from mmclip.arrays import Row, whole
from mmclip.errors import UsageError
from mmclip.modalities import Modality, registry
from mmclip.readers import views
from mmclip.readers.views import Options

MAGNITUDES = 2.5 / np.log(10)  # mag of a relative error of 1


def parse(text: str) -> tuple[float, bool] | None:
    """The number of `1%` or `0.02`, and whether it is relative; None for an empty text.

    Raises:
        UsageError: If it is no positive number.

    >>> parse("1%"), parse("0.02"), parse("")
    ((0.01, True), (0.02, False), None)
    """
    if not text:
        return None
    try:
        value = float(text.strip().removesuffix("%"))
    except ValueError:
        value = np.nan
    if not (np.isfinite(value) and value > 0):
        raise UsageError(f"--error '{text}' is no positive number", "--error 1%, or --error 0.02")
    relative = text.strip().endswith("%")
    return (value / 100 if relative else value), relative


def given(table: pa.Table, modality: Modality, options: Options) -> pa.Table:
    """A view table whose errors are scaled, or made where there are none, as the user says.

    An object without any error gets `--error`; single points without one stay as they are. Notes
    say what was done, and how many objects have no errors.

    Raises:
        UsageError: If `--error` is no number.
    """
    held = (table.schema.metadata or {}).get(b"view", b"").decode()
    modality = modality if held in ("", modality.name) else registry.modality(held)
    asked, factor = parse(options.error), options.error_scale
    for value, error in _pairs(modality, table):
        lacking = _lacking(table, value, error)
        if factor != 1.0 and not lacking.all():
            rows = [None if r is None else r * factor for r in arrays.rows(table, error)]
            table = _replaced(table, error, rows)
            table = views.told(table, f"{error}: times {factor:g}, as --error-scale says")
        if not lacking.any():
            continue
        count = f"{int(lacking.sum())} of {len(lacking)} objects"
        if asked is None:
            note = f"{error}: {count} have no errors (--error 1% gives them)"
        else:
            table = _made(table, value, error, lacking, *asked)
            note = f"{error}: {options.error} of {value} as --error says, {count} had no errors"
        table = views.told(table, note)
    return table


def _pairs(modality: Modality, table: pa.Table) -> list[tuple[str, str]]:
    """Lists of values and the lists of their errors, by name."""
    held = {c.name for c in modality.stored if c.is_list} & {*table.column_names}
    pairs = []
    for name in sorted(held):
        known = [f"{name}_error", f"{name.removesuffix('s')}_errors"]
        known += ["sigma", "error"] if name in ("flux", "magnitude") else []
        error = next((e for e in known if e in held), None)
        pairs += [(name, error)] if error else []
    return pairs


def _lacking(table: pa.Table, value: str, error: str) -> NDArray[np.bool_]:
    """[rows] whether a good object has values and no error at all."""
    there = whole(table, value).is_valid().to_numpy(zero_copy_only=False)
    good = whole(table, "reason").is_null().to_numpy(zero_copy_only=False)
    errors = whole(table, error)
    lengths = np.asarray(errors.value_lengths().fill_null(0), np.int64)
    finite = np.isfinite(errors.flatten().to_numpy(zero_copy_only=False))
    before = np.concatenate([[0], np.cumsum(finite)])
    ends = np.cumsum(lengths)
    return np.asarray(there & good & (before[ends] == before[ends - lengths]))


def _made(
    table: pa.Table, value: str, error: str, lacking: NDArray[np.bool_], size: float, relative: bool
) -> pa.Table:
    values, rows = arrays.rows(table, value), arrays.rows(table, error)
    for i in np.flatnonzero(lacking):
        numbers = np.asarray(values[i], np.float64)
        scale = np.abs(numbers) if value != "magnitude" else np.full(len(numbers), MAGNITUDES)
        made = size * (scale if relative else np.ones(len(numbers)))
        rows[i] = np.where(np.isfinite(numbers) & (made > 0), made, np.nan)
    return _replaced(table, error, rows)


def _replaced(table: pa.Table, name: str, rows: Sequence[Row]) -> pa.Table:
    place = table.column_names.index(name)
    field = table.schema.field(place)
    lists = [None if r is None else np.asarray(r, np.float64).tolist() for r in rows]
    return table.set_column(place, field, pa.array(lists, field.type))
