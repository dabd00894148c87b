"""Correlations of the errors of a view, in a file of their own: they are larger than the view.

`VIEW.correlations.parquet` holds `source_id` and `correlations`, a fixed-size list of float32 as
the modality lays it out, NaN where unknown. Only training reads it.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mmclip import arrays, artifacts
from mmclip.artifacts import Artifact, paths
from mmclip.datasets import tables
from mmclip.datasets.prepare import Part
from mmclip.ids import rows_of

COLUMN = paths.CORRELATIONS


def write(folder: Path, name: str, parts: Sequence[Part], before: Artifact | None = None) -> None:
    """Write those of the good rows of all parts, if any has them, after those of `before`."""
    files = [p.values.with_name(p.values.name.replace(".values.", f".{COLUMN}.")) for p in parts]
    having = [(p, file) for p, file in zip(parts, files, strict=True) if file.is_file()]
    old = before is not None and held(before, name)
    if having or old:
        tables.write_pieces(
            folder / paths.correlations(name), _pieces(having, name, before if old else None)
        )


def _pieces(
    having: Sequence[tuple[Part, Path]], name: str, before: Artifact | None
) -> Iterator[pa.Table]:
    if before is not None:
        file = artifacts.checked(before, paths.correlations(name))
        for rows in tables.batches(file, None, ["source_id", COLUMN], tables.GROUP):
            values = arrays.fixed(arrays.column(rows, COLUMN))
            yield pa.table({"source_id": rows["source_id"], COLUMN: values})
    for part, source in having:
        values, good = np.load(source, mmap_mode="r"), part.good
        for start in range(0, len(values), tables.GROUP):
            here = slice(start, start + tables.GROUP)
            ids = pa.array(part.source_id[here][good[here]], pa.int64())
            yield pa.table({"source_id": ids, COLUMN: arrays.fixed(values[here][good[here]])})


def held(data: Artifact, name: str) -> bool:
    """Whether a data set keeps the correlations of a view."""
    return paths.correlations(name) in data.manifest.files


def read(data: Artifact, name: str, ids: NDArray[np.int64]) -> NDArray[np.float32] | None:
    """Correlations [objects, length] of a view in the order of `ids`, NaN where unknown.

    None if the data set has none; the file is checked against the manifest.
    """
    if not held(data, name):
        return None
    table = tables.read(artifacts.checked(data, paths.correlations(name)))
    values = arrays.column(table, COLUMN)
    full = np.full((len(ids), values.shape[1]), np.nan, np.float32)
    full[rows_of(ids, arrays.column(table, "source_id"))] = values
    return full
