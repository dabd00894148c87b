"""A user's own table of labels or classes, joined on source_id."""

from pathlib import Path

import pyarrow as pa
import pyarrow.csv

from mmclip import arrays
from mmclip.errors import IntegrityError, MmclipError, NotFound, UsageError
from mmclip.ids import rows_of
from mmclip.readers import files, tables
from mmclip.surveys import parse_source_id


def read_labels(path: Path) -> pa.Table:
    """Read a table with a `source_id` column: .parquet, .csv, or any that `readers.tables` reads.

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
        raise UsageError(f"{path} has no column source_id", "name the id column source_id")
    ids = [parse_source_id(v) for v in table["source_id"].to_pylist()]
    if not ids:
        raise UsageError(f"{path} is empty", "give a table with at least one row")
    if len(set(ids)) < len(ids):
        raise UsageError(f"{path} has a source_id more than once", "keep one row a star")
    place = table.column_names.index("source_id")
    return table.set_column(place, "source_id", pa.array(ids, pa.int64()))


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
