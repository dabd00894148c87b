"""Correlations of the errors of a view, in a file of their own: they are larger than the view.

`VIEW.correlations.parquet` holds `source_id` and `correlations`, a fixed-size list of float32 as
the modality lays it out, NaN where unknown. Only training reads it.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mmclip import artifacts
from mmclip.artifacts import Artifact
from mmclip.datasets import tables
from mmclip.datasets.parts import Part

COLUMN = "correlations"


def write(folder: Path, name: str, parts: Sequence[Part]) -> None:
    """Write those of the good rows of all parts, if any part has them."""
    held = [
        (p, p.values.with_name(p.values.name.replace(".values.", f".{COLUMN}."))) for p in parts
    ]
    held = [(p, file) for p, file in held if file.is_file()]
    if not held:
        return
    length = np.load(held[0][1], mmap_mode="r").shape[1]
    schema = pa.schema({"source_id": pa.int64(), COLUMN: pa.list_(pa.float32(), length)})
    file = folder / f"{name}.{COLUMN}.parquet"
    with pq.ParquetWriter(file, schema, compression="zstd", write_page_checksum=True) as to:
        for part, source in held:
            values, good = np.load(source, mmap_mode="r"), part.good
            for start in range(0, len(values), tables.GROUP):
                here = slice(start, start + tables.GROUP)
                ids = pa.array(part.source_id[here][good[here]], pa.int64())
                rows = tables.fixed(values[here][good[here]])
                to.write_table(pa.table([ids, rows], schema=schema))


def held(data: Artifact, name: str) -> bool:
    """Whether a data set keeps the correlations of a view."""
    return f"{name}.{COLUMN}.parquet" in data.manifest.files


def read(data: Artifact, name: str, ids: NDArray[np.int64]) -> NDArray[np.float32] | None:
    """Correlations [objects, length] of a view in the order of `ids`, NaN where unknown.

    None if the data set has none; the file is checked against the manifest.
    """
    if not held(data, name):
        return None
    table = tables.read(artifacts.checked(data, f"{name}.{COLUMN}.parquet"))
    values = tables.column(table, COLUMN)
    full = np.full((len(ids), values.shape[1]), np.nan, np.float32)
    full[pc.index_in(table["source_id"], value_set=pa.array(ids)).to_numpy()] = values
    return full
