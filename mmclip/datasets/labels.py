"""A user's own table of labels or classes, joined on source_id."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from mmclip import arrays, ids
from mmclip.artifacts import Artifact
from mmclip.datasets.ingest import read_view
from mmclip.datasets.names import by_name
from mmclip.errors import NotFound, UsageError
from mmclip.ids import rows_of
from mmclip.readers import tables, views
from mmclip.surveys import parse_source_id


def read_labels(path: Path, raws: Sequence[Artifact] = ()) -> pa.Table:
    """A table of any format that `readers.tables` reads, its Gaia ids as int64 `source_id`.

    The id column may have any name that `ids.columns` knows (`Source`, `DR3Name` ...). Numbers that
    stand for an unknown value (-9999) become NaN; `schema.metadata[b"faults"]` says which.

    Args:
        path: The file.
        raws: Whose objects may be named by another id: `object_name`, `css_id`, `name`, ...

    Raises:
        NotFound: If there is no such file.
        UsageError: If it has no usable source_id, or has one twice.
    """
    if not path.is_file():
        raise NotFound(f"there is no file {path}", "--labels FILE: a table with source_id")
    table = tables.read(path)
    named = next((n for n in table.column_names if n == "source_id"), None)
    named = named or ids.columns(table, None)[0]
    if named is None:
        table, named = _with_ids(table, raws), "source_id"
    if named not in table.column_names:
        raise UsageError(
            f"{path} has no column source_id, nor names of the data's objects (it has: "
            f"{arrays.shown(table)})",
            "name the id column source_id",
        )
    found = [parse_source_id(v) for v in table[named].to_pylist()]
    if not found:
        raise UsageError(f"{path} is empty", "give a table with at least one row")
    if len(set(found)) < len(found):
        raise UsageError(f"{path} has a source_id more than once", "keep one row a star")
    table = table.set_column(
        table.column_names.index(named), "source_id", pa.array(found, pa.int64())
    )
    return _known(table)


def _with_ids(table: pa.Table, raws: Sequence[Artifact]) -> pa.Table:
    """The rows whose object is among those of raw data, under its source_id."""
    own = ids.columns(table, None)[1]
    if own is None:
        return table
    named = [name or "" for name in ids.texts(table, own)]
    found = np.full(len(named), -1, np.int64)
    for raw in raws:
        found = np.where(found < 0, by_name(read_view(raw, "objects"), named), found)
    if not (found >= 0).any():
        return table
    return table.drop_columns([own]).append_column("source_id", pa.array(found)).filter(found >= 0)


def _known(table: pa.Table) -> pa.Table:
    for i, field in enumerate(table.schema):
        if pa.types.is_floating(field.type):
            values, note = views.known(arrays.floats(table, field.name), field.name)
            if note:
                table = views.told(table, note)
                table = table.set_column(i, field, pa.array(values, field.type))
    return table


def join_labels(objects: pa.Table, labels: pa.Table) -> pa.Table:
    """Add the columns of `labels` to `objects`; a column of the same name is replaced."""
    rows = rows_of(arrays.column(labels, "source_id"), arrays.column(objects, "source_id"))
    if not (rows >= 0).any():
        raise UsageError("no source_id of the labels is in the data", "check the id column")
    for name in labels.column_names:
        if name == "source_id":
            continue
        values = arrays.taken(labels[name], rows)
        if name in objects.column_names:
            objects = objects.drop_columns([name])
        objects = objects.append_column(name, values)
    return objects
