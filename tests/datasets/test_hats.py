"""HATS: every star once, in the pixel that its id names, in files that a reader can find."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmclip.datasets import hats, tables
from mmclip.errors import UsageError
from mmclip.ids import local_id


# A busy machine is no fault of the strategy.
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.integers(0, 12 * 4**29 - 1), unique=True, max_size=200), st.integers(1, 50))
def test_pixels_cover_every_star_once(ids, most):
    ids = np.array(sorted(ids), np.int64)
    found = hats.pixels(ids, most)
    assert sum(high - low for *_, low, high in found) == len(ids)
    end = 0
    for order, pixel, low, high in found:
        assert low == end
        end = high
        assert set((ids[low:high] >> 2 * (29 - order)).tolist()) == {pixel}
        assert high - low <= most or order == hats.DEEPEST


def test_shards_become_a_catalogue(tmp_path):
    rng = np.random.default_rng(1)
    ids = np.sort(rng.choice(12 * 4**12, 3000, replace=False).astype(np.int64) * 2**35 + 8)
    for n in range(3):
        part = pa.table({"source_id": ids[n::3], "ra": rng.uniform(0, 360, 1000)})
        tables.write(tmp_path / f"{n}.parquet", part)
    made = tmp_path / "hats"
    assert hats.write(sorted(tmp_path.glob("*.parquet")), made, "test", most=400) == 3000
    lines = (made / "partition_info.csv").read_text().splitlines()[1:]
    got = []
    for line in lines:
        order, pixel, rows = map(int, line.split(","))
        table = pq.read_table(made / "dataset" / hats.name(order, pixel), partitioning=None)
        assert table.num_rows == rows <= 400
        spatial = table["_healpix_29"].to_numpy()
        assert (np.diff(spatial) >= 0).all()
        assert set((spatial >> 2 * (29 - order)).tolist()) == {pixel}
        got += table["source_id"].to_pylist()
    assert sorted(got) == ids.tolist()
    assert "hats_nrows=3000" in (made / "hats.properties").read_text()
    assert pq.read_schema(made / "dataset" / "_common_metadata").names[0] == "_healpix_29"


def test_a_star_lies_where_its_position_is_not_where_its_id_says(tmp_path):
    """A source outside the pixel of its id, a galaxy without one, and a star without a position."""
    # On the equator base pixels 4 to 7 are centred at RA 0, 90, 180, 270 (Gorski et al. 2005).
    stray = (7 << 59) + 8  # an id of base pixel 7
    galaxy = local_id("desi", "39627000000000000")
    rows = {"source_id": [8, stray, galaxy], "ra": [None, 0.0, 150.0], "dec": [None, 0.0, 2.5]}
    order = np.argsort(rows["source_id"])
    table = pa.table({n: [v[i] for i in order] for n, v in rows.items()})
    tables.write(tmp_path / "x.parquet", table)
    view = pa.table({"source_id": sorted([8, stray, stray, galaxy]), "flux": [1.0, 2.0, 3.0, 4.0]})
    tables.write(tmp_path / "view.parquet", view)
    hats.write([tmp_path / "x.parquet"], tmp_path / "objects", "test")
    hats.write([tmp_path / "view.parquet"], tmp_path / "views", "test", table)
    for folder, count in (("objects", 1), ("views", 2)):
        found = {}
        for file in (tmp_path / folder / "dataset").rglob("Npix=*.parquet"):
            made = pq.read_table(file, partitioning=None)
            for row in made.to_pylist():
                found.setdefault(row["source_id"], []).append(row["_healpix_29"] >> 58)
                assert file.name == f"Npix={row['_healpix_29'] >> 58}.parquet"
        assert found == {8: [0], stray: [4] * count, galaxy: [6]}


def test_a_row_without_any_place_is_not_lost_in_silence(tmp_path):
    table = pa.table({"source_id": [local_id("css", "1")], "flux": [1.0]})
    tables.write(tmp_path / "x.parquet", table)
    with pytest.raises(UsageError, match="1 rows of test"):
        hats.write([tmp_path / "x.parquet"], tmp_path / "made", "test")


def test_a_reader_of_hats_opens_it(tmp_path):
    reader = pytest.importorskip("hats", reason="the package hats is not installed")
    ids = np.arange(100, dtype=np.int64) * 2**55 + 8
    table = pa.table({"source_id": ids, "ra": np.zeros(100), "dec": np.zeros(100)})
    tables.write(tmp_path / "x.parquet", table)
    hats.write([tmp_path / "x.parquet"], tmp_path / "made", "test")
    assert reader.read_hats(tmp_path / "made").catalog_info.total_rows == 100
