"""A table of a raw artefact as a HATS catalogue: one Parquet file a HEALPix pixel.

Pixels follow the position, or the source_id of a row that has none (order 12 and coarser lie in its
upper bits), split until none holds more than a set number of rows. Layout:
`dataset/Norder=K/Dir=D/Npix=N.parquet`, `dataset/_metadata` (the footers of all files),
`partition_info.csv`, `hats.properties` (HATS 1.0; github.com/astronomy-commons/hats, HATS_GUIDE).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mmclip import __version__, arrays, sky
from mmclip.artifacts import write_atomic, writing
from mmclip.datasets import tables
from mmclip.errors import UsageError
from mmclip.ids import is_local, rows_of

MOST = 100_000  # rows of a pixel
PIXEL_BYTES = 1 << 28  # of a pixel, not compressed
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


class Places(NamedTuple):
    """Of each row of a file: its id, position in deg (NaN unknown), and pixel of order 29 or -1."""

    source_id: NDArray[np.int64]
    ra: NDArray[np.float64]
    dec: NDArray[np.float64]
    pixel: NDArray[np.int64]


def places(shard: Path, positions: pa.Table | None) -> Places:
    """Where the rows of a file lie: by their position, else by a Gaia id.

    A few Gaia sources lie just outside the pixel that their id begins with, so the position comes
    first.
    """
    held = tables.names(shard)
    names = ["source_id", *(n for n in ("ra", "dec") if n in held)]
    table = tables.read(shard, names)
    source_id = table["source_id"].to_numpy().astype(np.int64)
    axes = [np.full(len(source_id), np.nan)] * 2
    if len(names) == 3:
        axes = [arrays.floats(table, n) for n in ("ra", "dec")]
    elif positions is not None:
        rows = rows_of(positions["source_id"].to_numpy(), source_id)
        axes = [arrays.floats(pa.table({n: arrays.taken(positions[n], rows)}), n)
                for n in ("ra", "dec")]  # fmt: skip
    here = sky.cell(FINE, *axes)
    by_id = np.where(is_local(source_id) | (source_id <= 0), -1, healpix29(source_id))
    return Places(source_id, axes[0], axes[1], np.where(here >= 0, here, by_id))


def name(order: int, pixel: int) -> str:
    """Place of a pixel's file inside `dataset/`."""
    return f"Norder={order}/Dir={pixel // 10000 * 10000}/Npix={pixel}.parquet"


def write(
    shards: list[Path],
    folder: Path,
    label: str,
    positions: pa.Table | None = None,
    most: int = MOST,
    about: Mapping[str, str] | None = None,
) -> int:
    """Lay Parquet files out as one catalogue; rows written.

    Only ids and places of all rows are held at once, 150 bytes a row while they are sorted. The
    rest is read pixel by pixel, of each file only the row groups that a pixel needs: files sorted
    by source_id, which follows the sky, are read once.

    Args:
        shards: Parquet files.
        folder: Of the catalogue.
        label: Its name.
        positions: source_id, ra, dec, for tables that have no positions of their own.
        most: Rows of a pixel; fewer where rows are long.
        about: Further lines of its properties.

    Raises:
        UsageError: If a row has no place: neither a position nor a Gaia id.
    """
    found = [places(s, positions) for s in shards]
    every = Places(*(np.concatenate(column) for column in zip(*found, strict=True)))
    if (every.pixel < 0).any():
        raise UsageError(
            f"{int((every.pixel < 0).sum())} rows of {label} have neither a position nor a Gaia id",
            "repeat without --hats",
        )
    of_row = np.lexsort((every.source_id, every.pixel))
    starts = np.cumsum([0, *(len(f.pixel) for f in found)])
    files = [_Rows(s) for s in shards]
    given = positions is not None and "ra" not in tables.names(shards[0])
    size = sum(tables.size(s) for s in shards) / max(len(of_row), 1)
    most = min(most, max(1000, int(PIXEL_BYTES / max(size, 1))))
    counts: dict[tuple[int, int], int] = {}
    spatial, schema = every.pixel[of_row], tables.schema(shards[0])
    for order, pixel, low, high in pixels(spatial, most):
        rows = of_row[low:high]
        table = _taken(files, starts, rows)
        if given:
            for n, (column, values) in enumerate((("ra", every.ra), ("dec", every.dec))):
                table = table.add_column(1 + n, column, pa.array(values[rows], from_pandas=True))
        table = _plain(table.add_column(0, "_healpix_29", pa.array(spatial[low:high])))
        schema = table.schema
        file = folder / "dataset" / name(order, pixel)
        file.parent.mkdir(parents=True, exist_ok=True)
        with writing(file) as to:
            pq.write_table(table, to, row_group_size=most, **tables.encoding(schema))
        counts[order, pixel] = high - low
    return finish(folder, label, counts, schema, about)


class _Rows:
    """The rows of one Parquet file; a row group is read when one of its rows is asked for."""

    def __init__(self, path: Path) -> None:
        self.file = pq.ParquetFile(path, page_checksum_verification=True)
        self.edges = np.cumsum([0, *tables.groups(path)])

    def take(self, rows: NDArray[np.int64]) -> pa.Table:
        """Some rows, in the order asked."""
        group = np.searchsorted(self.edges, rows, side="right") - 1
        needed, at = np.unique(group, return_inverse=True)
        held = self.file.read_row_groups(needed.tolist())
        sizes = np.diff(self.edges)[needed]
        before = np.cumsum([0, *sizes])[:-1]
        return held.take(pa.array(before[at] + rows - self.edges[group]))


def _taken(files: list[_Rows], starts: NDArray[np.int64], rows: NDArray[np.int64]) -> pa.Table:
    """Rows of all files, counted through, in the order asked."""
    file = np.searchsorted(starts, rows, side="right") - 1
    here = [np.flatnonzero(file == n) for n in np.unique(file)]
    parts = [files[file[at[0]]].take(rows[at] - starts[file[at[0]]]) for at in here]
    whole = pa.concat_tables(parts, promote_options="permissive")
    return whole.take(pa.array(np.argsort(np.concatenate(here), kind="stable")))


def _plain(table: pa.Table) -> pa.Table:
    """Lists of one length as lists of any, which every reader of HATS knows."""
    fields = [
        f.with_type(pa.list_(f.type.value_type)) if pa.types.is_fixed_size_list(f.type) else f
        for f in table.schema
    ]
    return table.cast(pa.schema(fields, table.schema.metadata))


def finish(
    folder: Path,
    label: str,
    rows: dict[tuple[int, int], int],
    schema: pa.Schema,
    about: Mapping[str, str] | None = None,
) -> int:
    """Write the files that make pixels already written a HATS catalogue; rows in all.

    Args:
        folder: Of the catalogue.
        label: Its name.
        rows: (order, pixel) -> rows.
        schema: Of every file.
        about: Further lines of its properties.
    """
    listing = [f"{order},{pixel},{count}" for (order, pixel), count in rows.items()]
    total = sum(rows.values())
    footers, held = [], 0
    for order, pixel in rows:
        file = folder / "dataset" / name(order, pixel)
        footers.append(pq.read_metadata(file))
        footers[-1].set_file_path(name(order, pixel))
        held += file.stat().st_size
    pq.write_metadata(schema, folder / "dataset" / "_common_metadata")
    pq.write_metadata(
        footers[0].schema.to_arrow_schema() if footers else schema,
        folder / "dataset" / "_metadata", metadata_collector=footers,
    )  # fmt: skip
    body = "\n".join(["Norder,Npix,num_rows", *listing]) + "\n"
    write_atomic(folder / "partition_info.csv", body.encode())
    lines = properties(label, total, "ra" in schema.names) | {
        "hats_max_rows": str(max(rows.values(), default=0)),
        "hats_estsize": str(held // 1024),
        "moc_sky_fraction": f"{sum(1 / (12 * 4**order) for order, _ in rows):.5f}",
        **(about or {}),
    }
    text = "".join(f"{key}={value}\n" for key, value in lines.items())
    for file_name in ("hats.properties", "properties"):
        write_atomic(folder / file_name, text.encode())
    return total


def healpix29(source_id: NDArray[np.int64]) -> NDArray[np.int64]:
    """An order-29 nested pixel inside the level-12 pixel of each source_id.

    A Gaia id holds the level-12 pixel in its upper bits and a running number in its lower 35; the
    34 bits below level 12 at order 29 take the upper 34 of those, so that the order is that of ids.
    """
    return (source_id >> 35 << 34) | (source_id & (2**35 - 1)) >> 1


def properties(label: str, rows: int, positions: bool) -> dict[str, str]:
    """What the file `hats.properties` says of any catalogue."""
    return {
        "obs_collection": label,
        "dataproduct_type": "object" if positions else "source",
        "hats_nrows": str(rows),
        "hats_col_ra": "ra",
        "hats_col_dec": "dec",
        "hats_col_healpix": "_healpix_29",
        "hats_col_healpix_order": "29",
        "hats_npix_suffix": ".parquet",
        "hats_builder": f"mmclip {__version__}",
        "hats_version": "v1.0",
    }
