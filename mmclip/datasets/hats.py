"""A table of a raw artefact as a HATS catalogue: one Parquet file a HEALPix pixel.

Pixels follow the position, or the source_id of a row that has none (order 12 and coarser lie in its
upper bits), split until none holds more than a set number of rows. Layout:
`dataset/Norder=K/Dir=D/Npix=N.parquet`, `partition_info.csv`, `hats.properties` (HATS 1.0;
github.com/astronomy-commons/hats, HATS_GUIDE).
"""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mmclip import arrays, sky
from mmclip.artifacts import write_atomic
from mmclip.datasets import tables
from mmclip.errors import UsageError
from mmclip.ids import is_local, rows_of

MOST = 100_000  # rows of a pixel
DEEPEST = 10
FINE = 29  # order of the pixel that HATS keeps beside each row


def pixels(spatial: NDArray[np.int64], most: int = MOST) -> list[tuple[int, int, int, int]]:
    """(order, pixel, first row, end row) that cover sorted pixels of order 29 with few rows each.

    Args:
        spatial: Nested HEALPix pixels of order 29, rising.
        most: Rows of a pixel, unless it is of order 10.
    """
    found: list[tuple[int, int, int, int]] = []
    todo = [(0, p) for p in range(11, -1, -1)]
    while todo:
        order, pixel = todo.pop()
        width = 4 ** (FINE - order)
        low, high = np.searchsorted(spatial, [pixel * width, (pixel + 1) * width]).tolist()
        if high == low:
            continue
        if high - low > most and order < DEEPEST:
            todo += [(order + 1, 4 * pixel + k) for k in (3, 2, 1, 0)]
        else:
            found.append((order, pixel, low, high))
    return found


def places(shard: Path, positions: pa.Table | None) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(source_id, pixel of order 29) of each row of a file: by its position, else by a Gaia id.

    A few Gaia sources lie just outside the pixel that their id begins with, so the position comes
    first. -1 where a row has neither.
    """
    held = pq.read_schema(shard).names
    names = ["source_id", *(n for n in ("ra", "dec") if n in held)]
    table = tables.read(shard, names)
    source_id = table["source_id"].to_numpy().astype(np.int64)
    if len(names) < 3 and positions is not None:
        rows = rows_of(positions["source_id"].to_numpy(), source_id)
        axes = [arrays.taken(positions[n], rows) for n in ("ra", "dec")]
        table = pa.table(axes, names=["ra", "dec"])
    by_id = np.where(is_local(source_id) | (source_id <= 0), -1, healpix29(source_id))
    if "ra" not in table.column_names or "dec" not in table.column_names:
        return source_id, by_id
    here = sky.cell(FINE, arrays.floats(table, "ra"), arrays.floats(table, "dec"))
    return source_id, np.where(here >= 0, here, by_id)


def name(order: int, pixel: int) -> str:
    """Place of a pixel's file inside `dataset/`."""
    return f"Norder={order}/Dir={pixel // 10000 * 10000}/Npix={pixel}.parquet"


def write(
    shards: list[Path],
    folder: Path,
    label: str,
    positions: pa.Table | None = None,
    most: int = MOST,
) -> int:
    """Lay shards (each sorted by source_id) out as one catalogue; rows written.

    Only ids and places of all shards are held at once; rows are read pixel by pixel.

    Args:
        shards: Parquet files.
        folder: Of the catalogue.
        label: Its name.
        positions: source_id, ra, dec, for tables that have no positions of their own.
        most: Rows of a pixel.

    Raises:
        UsageError: If a row has no place: neither a position nor a Gaia id.
    """
    parts_ = [places(s, positions) for s in shards]
    spatial = np.concatenate([p for _, p in parts_])
    if (spatial < 0).any():
        raise UsageError(
            f"{int((spatial < 0).sum())} rows of {label} have neither a position nor a Gaia id",
            "repeat without --hats",
        )
    source_id = np.concatenate([i for i, _ in parts_])
    order_of = np.lexsort((source_id, spatial))
    shard = np.repeat(np.arange(len(parts_)), [len(i) for i, _ in parts_])[order_of]
    row = np.concatenate([np.arange(len(i)) for i, _ in parts_])[order_of]
    spatial = spatial[order_of]
    counts: dict[tuple[int, int], int] = {}
    schema = pq.read_schema(shards[0])
    for order, pixel, low, high in pixels(spatial, most):
        here = [low + np.flatnonzero(shard[low:high] == n) for n in np.unique(shard[low:high])]
        parts = [tables.read(shards[int(shard[at[0]])]).take(pa.array(row[at])) for at in here]
        table = pa.concat_tables(parts, promote_options="permissive")
        table = table.take(pa.array(np.argsort(np.concatenate(here), kind="stable")))
        if positions is not None and "ra" not in table.column_names:
            known = positions["source_id"].to_numpy()
            rows = rows_of(known, table["source_id"].to_numpy())
            for n, column in enumerate(("ra", "dec")):
                table = table.add_column(1 + n, column, arrays.taken(positions[column], rows))
        table = table.add_column(0, "_healpix_29", pa.array(spatial[low:high]))
        schema = table.schema
        file = folder / "dataset" / name(order, pixel)
        file.parent.mkdir(parents=True, exist_ok=True)
        tables.write(file, table)
        counts[order, pixel] = high - low
    return finish(folder, label, counts, schema)


def finish(folder: Path, label: str, rows: dict[tuple[int, int], int], schema: pa.Schema) -> int:
    """Write the files that make pixels already written a HATS catalogue; rows in all.

    Args:
        folder: Of the catalogue.
        label: Its name.
        rows: (order, pixel) -> rows.
        schema: Of every file.
    """
    listing = [f"{order},{pixel},{count}" for (order, pixel), count in rows.items()]
    total = sum(rows.values())
    pq.write_metadata(schema, folder / "dataset" / "_common_metadata")
    body = "\n".join(["Norder,Npix,num_rows", *listing]) + "\n"
    write_atomic(folder / "partition_info.csv", body.encode())
    write_atomic(
        folder / "hats.properties", properties(label, total, "ra" in schema.names).encode()
    )
    return total


def healpix29(source_id: NDArray[np.int64]) -> NDArray[np.int64]:
    """An order-29 nested pixel inside the level-12 pixel of each source_id.

    A Gaia id holds the level-12 pixel in its upper bits and a running number in its lower 35; the
    34 bits below level 12 at order 29 take the upper 34 of those, so that the order is that of ids.
    """
    return (source_id >> 35 << 34) | (source_id & (2**35 - 1)) >> 1


def properties(label: str, rows: int, positions: bool) -> str:
    """The file `hats.properties`."""
    lines = [
        f"obs_collection={label}",
        f"dataproduct_type={'object' if positions else 'source'}",
        f"hats_nrows={rows}",
        "hats_col_ra=ra",
        "hats_col_dec=dec",
        "hats_col_healpix=_healpix_29",
        "hats_col_healpix_order=29",
        "hats_npix_suffix=.parquet",
        "hats_version=v1.0",
    ]
    return "\n".join(lines) + "\n"
