"""Parquet in and out: fixed-width columns, page checksums, and one clear error a bad file."""

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mmclip.artifacts import write_atomic
from mmclip.errors import IntegrityError


def write(path: Path, table: pa.Table) -> None:
    """Write a Parquet file with page checksums (zstd)."""
    body = io.BytesIO()
    pq.write_table(table, body, compression="zstd", write_page_checksum=True)
    write_atomic(path, body.getvalue())


def rows(path: Path) -> int:
    """Number of rows of a Parquet file, from its footer."""
    return int(pq.read_metadata(path).num_rows)


def read(path: Path, columns: list[str] | None = None) -> pa.Table:
    """Read a Parquet file (or some columns of it), page checksums verified.

    Raises:
        IntegrityError: If it is not a whole Parquet file.
    """
    try:
        return pq.read_table(path, columns=columns, page_checksum_verification=True)
    except (pa.ArrowException, OSError, MemoryError) as error:
        raise IntegrityError(f"{path} is not a whole Parquet file: {error}") from error


def column(table: pa.Table, name: str) -> NDArray:
    """A column as a NumPy array: fixed-size lists become [rows, length]; null becomes NaN."""
    array = table[name].combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = array.chunk(0) if array.num_chunks else pa.array([], array.type)
    if pa.types.is_fixed_size_list(array.type):
        length = array.type.list_size
        if array.null_count:
            filled = np.full((len(array), length), np.nan, np.float32)
            valid = np.asarray(array.is_valid())
            filled[valid] = array.drop_null().flatten().to_numpy(False).reshape(-1, length)
            return filled
        return array.flatten().to_numpy(zero_copy_only=False).reshape(-1, length)
    return array.to_numpy(zero_copy_only=False)


def fixed(values: NDArray) -> pa.Array:
    """[rows, length] -> an Arrow array of fixed-size lists."""
    flat = pa.array(np.ascontiguousarray(values).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
