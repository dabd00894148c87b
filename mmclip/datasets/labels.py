"""A user's own table of labels or classes, joined on source_id."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv

from mmclip import arrays
from mmclip.artifacts import Artifact
from mmclip.datasets.ingest import read_view
from mmclip.datasets.names import by_name
from mmclip.errors import IntegrityError, MmclipError, NotFound, UsageError
from mmclip.ids import columns, rows_of, texts
from mmclip.readers import files, tables
from mmclip.surveys import parse_source_id


def read_labels(path: Path, raws: Sequence[Artifact] = ()) -> pa.Table:
    """Read a table with a `source_id` column, or with names that the objects of raw data have.

    Args:
        path: .parquet, .csv, or any table that `readers.tables` reads.
        raws: Whose objects may be named by another id: `object_name`, `css_id`, `name`, ...

    Raises:
        NotFound: If there is no such file.
        UsageError: If it has no usable source_id, or has one twice.
    """
    if not path.is_file():
        raise NotFound(f"there is no file {path}", "--labels FILE: a table with source_id")
    try:
        if path.suffix == ".parquet":
            table = tables.gaps(files.parquet(path))
        elif path.suffix == ".csv":
            as_text = tables.csv_options({"source_id": pa.string()}, texts=False)
            table = tables.gaps(pa.csv.read_csv(path, convert_options=as_text))
        else:
            table = tables.read(path)
    except MmclipError:
        raise
    except Exception as error:  # every reader has its own exceptions
        raise IntegrityError(f"{path} cannot be read as a table: {error}") from error
    if "source_id" not in table.column_names:
        table = _with_ids(table, raws)
    if "source_id" not in table.column_names:
        raise UsageError(
            f"{path} has no column source_id, nor one with names of the data's objects",
            "name the id column source_id",
        )
    ids = [parse_source_id(v) for v in table["source_id"].to_pylist()]
    if not ids:
        raise UsageError(f"{path} is empty", "give a table with at least one row")
    if len(set(ids)) < len(ids):
        raise UsageError(f"{path} has a source_id more than once", "keep one row a star")
    place = table.column_names.index("source_id")
    return table.set_column(place, "source_id", pa.array(ids, pa.int64()))


def _with_ids(table: pa.Table, raws: Sequence[Artifact]) -> pa.Table:
    """The rows whose object is among those of raw data, under its source_id."""
    gaia, own = columns(table, None)
    if gaia is not None:
        return table.rename_columns(["source_id" if n == gaia else n for n in table.column_names])
    if own is None:
        return table
    named = texts(table, own)
    found = np.full(len(named), -1, np.int64)
    for raw in raws:
        ids = by_name(read_view(raw, "objects"), [n or "" for n in named])
        found = np.where(found < 0, ids, found)
    if not (found >= 0).any():
        return table
    return table.drop_columns([own]).append_column("source_id", pa.array(found)).filter(found >= 0)


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
