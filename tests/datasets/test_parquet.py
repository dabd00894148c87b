"""How tables lie on disk: floats as byte streams, all else by dictionaries, and read back alike."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mmclip import arrays
from mmclip.datasets import tables
from mmclip.ids import lookup


def sample(rows=5000):
    rng = np.random.default_rng(0)
    values = rng.normal(size=(rows, 6)).astype(np.float32)
    return pa.table(
        {
            "source_id": np.arange(rows),
            "name": ["a", "b"] * (rows // 2),
            "ra": rng.uniform(0, 360, rows),
            "values": arrays.fixed(values),
            "curve": pa.array([[1.0, 2.0], None] * (rows // 2), pa.list_(pa.float32())),
            "image": pa.array([[[1.5]]] * rows, pa.list_(pa.list_(pa.float32()))),
            "epochs": pa.array([[1, 2]] * rows),
        }
    )


def columns(path):
    """Encodings of each column of a file, over all row groups."""
    about = pq.ParquetFile(path).metadata
    found = {}
    for group in range(about.num_row_groups):
        for i in range(about.num_columns):
            column = about.row_group(group).column(i)
            found.setdefault(column.path_in_schema, set()).update(column.encodings)
    return found


def test_floats_are_streams_of_bytes_and_all_else_dictionaries(tmp_path):
    table = sample()
    tables.write(tmp_path / "one.parquet", table)
    tables.write_pieces(tmp_path / "many.parquet", [table[:4096], table[4096:]])
    for name in ("one", "many"):
        path = tmp_path / f"{name}.parquet"
        assert tables.read(path).equals(table)
        kinds = columns(path)
        for column in ("ra", "values.list.element", "curve.list.element",
                       "image.list.element.list.element"):  # fmt: skip
            assert "BYTE_STREAM_SPLIT" in kinds[column], column
            assert "RLE_DICTIONARY" not in kinds[column], column
        for column in ("source_id", "name", "epochs.list.element"):
            assert "RLE_DICTIONARY" in kinds[column], column
    files = [(tmp_path / f"{n}.parquet").read_bytes() for n in ("one", "many")]
    assert files[0] == files[1]


def test_a_view_takes_less_room_than_its_numbers(tmp_path):
    rng = np.random.default_rng(0)
    values = rng.normal(size=(4096, 110)).astype(np.float32)
    with tables.Writer(tmp_path / "view.parquet", 110, ["source_id", "values"]) as to:
        to.write(np.arange(4096), values, None)
    assert (tmp_path / "view.parquet").stat().st_size < values.nbytes


def test_rows_of_ids_are_found_whatever_their_order():
    rng = np.random.default_rng(0)
    for ids in (np.arange(50) * 7, rng.permutation(50) * 7 - 90):
        wanted = rng.permutation(ids)[:20]
        np.testing.assert_array_equal(ids[lookup(ids)(wanted)], wanted)
