"""What a reader made of the columns of a file: target, unit, conversion; and what it did not use.

It travels in the schema of a view table, as JSON under `columns`, from the reader to the manifest.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from mmclip import arrays

KEY = b"columns"


@dataclass(frozen=True)
class Role:
    """What one column of a file was taken for.

    Attributes:
        target: `wavelength`, `source_id`, `ra` ..., or `label` for one that is kept beside a view.
        column: Its name in the file.
        unit: As the file states it.
        conversion: What was done to its values, `nm -> Angstrom`; empty for nothing.
    """

    target: str
    column: str
    unit: str = ""
    conversion: str = ""


@dataclass(frozen=True)
class Interpretation:
    """The roles of columns, and the columns that are not used with the reason of each."""

    roles: tuple[Role, ...] = ()
    unused: tuple[tuple[str, str], ...] = ()


def of(table: pa.Table) -> Interpretation:
    """The interpretation that a table carries; empty where a reader gave none.

    >>> of(pa.table({}))
    Interpretation(roles=(), unused=())
    """
    text = (table.schema.metadata or {}).get(KEY)
    if not text:
        return Interpretation()
    body: dict[str, Any] = json.loads(text)
    roles = tuple(Role(**role) for role in body["roles"])
    return Interpretation(roles, tuple((n, why) for n, why in body["unused"]))


def noted(table: pa.Table, new: Interpretation) -> pa.Table:
    """The table with an interpretation, after that which it carries."""
    before = of(table)
    body = {
        "roles": [asdict(role) for role in (*before.roles, *new.roles)],
        "unused": [*before.unused, *new.unused],
    }
    metadata = {**(table.schema.metadata or {}), KEY: json.dumps(body).encode()}
    return table.replace_schema_metadata(metadata)


def left_out(table: pa.Table, names: Mapping[str, str]) -> pa.Table:
    """The table with columns (name -> why) noted as not used."""
    return noted(table, Interpretation((), tuple(names.items()))) if names else table


def values(array: pa.Array | pa.ChunkedArray) -> dict[str, Any]:
    """Rows, nulls (NaN too) and the range of a column of numbers or of lists of numbers.

    >>> values(pa.array([1.0, None, 3.0]))
    {'rows': 3, 'nulls': 1, 'low': 1.0, 'high': 3.0}
    """
    rows, nulls = len(array), array.null_count
    inner = array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array
    if isinstance(inner, pa.ChunkedArray):
        inner = pa.concat_arrays(inner.chunks) if inner.num_chunks else pa.array([], inner.type)
    while arrays.is_list(inner.type):
        inner = inner.flatten()
    made: dict[str, Any] = {"rows": rows, "nulls": nulls}
    if not (pa.types.is_floating(inner.type) or pa.types.is_integer(inner.type)):
        return made
    numbers = inner.drop_null().to_numpy(zero_copy_only=False)
    if numbers.dtype.kind == "f":
        good = numbers[np.isfinite(numbers)]
        made["nulls"] = nulls + (len(numbers) - len(good))
        numbers = good
    if len(numbers):
        made |= {"low": numbers.min().item(), "high": numbers.max().item()}
    return made
