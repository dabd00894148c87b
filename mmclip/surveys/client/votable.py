"""VOTables (and astropy tables) to Arrow, masks to nulls, ids to int64."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from mmclip.surveys.client import checks
from mmclip.surveys.client.http import BadAnswer


def read(path: Path) -> tuple[pa.Table, str, str]:
    """The first table of a VOTable, with its query status and that status' text.

    Raises:
        BadAnswer: If it cannot be parsed.
        IntegrityError: If it holds entities.
    """
    from astropy.io import votable

    checks.votable(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            document = votable.parse(path, verify="ignore")
            tables = list(document.iter_tables())
            table = tables[0].to_table(use_names_over_ids=True) if tables else None
        except Exception as error:  # the parser raises unrelated types
            raise BadAnswer(f"a VOTable that cannot be read ({type(error).__name__})") from error
    status, text = "OK", ""
    for info in (i for r in document.resources for i in r.infos):
        if info.name == "QUERY_STATUS" and status == "OK":
            status, text = str(info.value).upper(), str(info.content or "")
    return (pa.table({}) if table is None else arrow(table)), status, text


def arrow(table: Any) -> pa.Table:
    """An astropy table as Arrow; names in lower case, units in the field metadata."""
    fields, arrays = [], []
    for name in table.colnames:
        column = table[name]
        array = _array(column)
        about = {"unit": getattr(column, "unit", None), "description": column.description}
        known = {k: str(v) for k, v in about.items() if v}
        arrays.append(array)
        fields.append(pa.field(name.lower(), array.type, metadata=known or None))
    return pa.table(arrays, schema=pa.schema(fields))


def _array(column: Any) -> pa.Array:
    values, mask = np.asarray(np.ma.getdata(column)), np.ma.getmaskarray(column)
    if values.ndim == 2 and values.dtype.kind in "fiu" and values.shape[1] and not mask.any():
        flat = values.astype(values.dtype.newbyteorder("=")).reshape(-1)
        ends = np.arange(len(values) + 1, dtype=np.int32) * values.shape[1]
        return pa.ListArray.from_arrays(pa.array(ends), pa.array(flat))
    if values.dtype.kind in "OSU" or values.ndim > 1:
        return _objects(values, mask)
    values = values.astype(values.dtype.newbyteorder("="))
    if values.dtype.kind == "f":
        mask = mask | np.isnan(values)
    return pa.array(values, mask=mask if mask.any() else None)


def _objects(values: Any, mask: Any) -> pa.Array:
    plain: list[Any] = []
    for value, hidden in zip(values, mask, strict=True):
        if np.ndim(value) > 0:
            inner = np.ma.filled(np.ma.asarray(value, dtype=None), _fill(value))
            plain.append(inner if len(inner) and not np.all(hidden) else None)
        elif np.all(hidden):
            plain.append(None)
        else:
            plain.append(value.decode() if isinstance(value, bytes) else str(value))
    kind = next((np.asarray(v).dtype for v in plain if v is not None and np.ndim(v)), None)
    if kind is not None and kind.kind in "fiub":
        native = np.dtype(kind.newbyteorder("="))
        inner_type = pa.list_(pa.from_numpy_dtype(native))
        return pa.array([None if v is None else v.astype(native) for v in plain], inner_type)
    return pa.array([None if v is None else str(v) for v in plain], pa.string())


def _fill(value: Any) -> Any:
    return np.nan if np.asarray(value).dtype.kind == "f" else 0
