"""Parquet in and out: fixed-width columns, page checksums, and one clear error a bad file."""

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mmclip import arrays
from mmclip.artifacts import writing
from mmclip.errors import IntegrityError

GROUP = 2048  # rows of a row group, the unit in which a view is streamed


def write(path: Path, table: pa.Table) -> None:
    """Write a Parquet file; see `encoding`."""
    with writing(path) as file:
        pq.write_table(table, file, row_group_size=GROUP, **encoding(table.schema))


def write_pieces(path: Path, pieces: Iterable[pa.Table]) -> None:
    """As `write`, a piece at a time: at least one, each but the last of whole row groups."""
    with writing(path) as file, contextlib.ExitStack() as stack:
        to = None
        for table in pieces:
            if to is None:
                made = pq.ParquetWriter(file, table.schema, **encoding(table.schema))
                to = stack.enter_context(made)
            to.write_table(table, row_group_size=GROUP)


def encoding(schema: pa.Schema) -> dict[str, Any]:
    """How columns are written: zstd, page checksums, floats as streams of their first, second, ...
    bytes; all else by dictionaries, which measured values never repeat enough for.
    """
    paths: dict[bool, list[str]] = {True: [], False: []}
    for field in schema:
        path, kind = field.name, field.type
        while pa.types.is_list(kind) or pa.types.is_large_list(kind) or _fixed(kind):
            path, kind = f"{path}.list.element", kind.value_type
        paths[pa.types.is_float32(kind) or pa.types.is_float64(kind)].append(path)
    return {
        "compression": "zstd", "write_page_checksum": True,
        "use_byte_stream_split": paths[True] or False, "use_dictionary": paths[False] or False,
    }  # fmt: skip


def _fixed(kind: pa.DataType) -> bool:
    return bool(pa.types.is_fixed_size_list(kind))


def rows(path: Path) -> int:
    """Number of rows of a Parquet file, from its footer."""
    return sum(groups(path))


def read(path: Path, columns: list[str] | None = None) -> pa.Table:
    """Read a Parquet file (or some columns of it), page checksums verified.

    Raises:
        IntegrityError: If it is not a whole Parquet file.
    """
    try:
        return pq.read_table(path, columns=columns, page_checksum_verification=True)
    except (pa.ArrowException, OSError, MemoryError) as error:
        raise IntegrityError(f"{path} is not a whole Parquet file: {error}") from error


def groups(path: Path) -> list[int]:
    """Number of rows of each row group of a file."""
    try:
        about = pq.ParquetFile(path).metadata
    except (pa.ArrowException, OSError) as error:
        raise IntegrityError(f"{path} is not a whole Parquet file: {error}") from error
    return [about.row_group(i).num_rows for i in range(about.num_row_groups)]


def size(path: Path) -> int:
    """Bytes of the columns of a file, not compressed."""
    try:
        about = pq.ParquetFile(path).metadata
    except (pa.ArrowException, OSError) as error:
        raise IntegrityError(f"{path} is not a whole Parquet file: {error}") from error
    return sum(about.row_group(i).total_byte_size for i in range(about.num_row_groups))


def names(path: Path) -> list[str]:
    """Columns of a file."""
    return list(schema(path).names)


def schema(path: Path) -> pa.Schema:
    """Names, types and metadata of the columns of a file."""
    try:
        return pq.ParquetFile(path).schema_arrow
    except (pa.ArrowException, OSError) as error:
        raise IntegrityError(f"{path} is not a whole Parquet file: {error}") from error


def batches(path: Path, group: int | None, columns: list[str], rows: int) -> Iterator[pa.Table]:
    """One row group (None: all) in pieces of at most `rows` rows, page checksums verified."""
    try:
        file = pq.ParquetFile(path, page_checksum_verification=True)
        # One group at a time: a reader of all of them keeps the levels of every list it has read.
        for one in range(file.num_row_groups) if group is None else [group]:
            for batch in file.iter_batches(rows, row_groups=[one], columns=columns):
                yield pa.Table.from_batches([batch])
    except (pa.ArrowException, OSError) as error:
        raise IntegrityError(f"{path} is not a whole Parquet file: {error}") from error


class Writer:
    """A view written piece by piece: `source_id`, `values` and perhaps `errors` [rows, length]."""

    def __init__(self, path: Path, length: int, names: list[str]) -> None:
        lists = pa.list_(pa.float32(), length)
        kinds = {"source_id": pa.int64(), "values": lists, "errors": lists}
        self.length = length
        self.schema = pa.schema([(n, kinds[n]) for n in names])
        self.file = pq.ParquetWriter(path, self.schema, **encoding(self.schema))

    def write(self, ids: NDArray[Any], values: NDArray[Any], errors: NDArray[Any] | None) -> None:
        """Add rows; errors that are unknown are NaN where the table has any."""
        if len(ids) == 0:
            return
        columns = {"source_id": pa.array(ids, pa.int64()), "values": arrays.fixed(values)}
        if "errors" in self.schema.names:
            given = np.full_like(values, np.nan) if errors is None else errors
            columns["errors"] = arrays.fixed(np.asarray(given, np.float32))
        self.file.write_table(pa.table(columns, schema=self.schema), row_group_size=GROUP)

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, *raised: object) -> None:
        self.file.close()
