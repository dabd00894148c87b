"""HATS catalogues matched on Dask find the pairs that the matcher in memory finds."""

from importlib.util import find_spec

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmclip.cli import run
from mmclip.datasets import crossmatch, hats, tables

ARCSEC = 1 / 3600
absent = pytest.mark.skipif(
    find_spec("lsdb") is None, reason="lsdb is absent: pip install 'mmclip[hats]'"
)

# What lsdb and Dask ask of pandas in ways that pandas 4 will end.
pytestmark = pytest.mark.filterwarnings("ignore::pandas.errors.Pandas4Warning")


def sky(rng, count):
    return rng.uniform(40, 60, count), rng.uniform(-10, 10, count)


@pytest.fixture(scope="module")
def catalogues(tmp_path_factory):
    """Two catalogues of 600 stars seen twice, 0.3 arcsec apart, and strangers in each."""
    import lsdb
    import pandas as pd

    root, rng = tmp_path_factory.mktemp("hats"), np.random.default_rng(4)
    ra, dec = sky(rng, 700)
    left = pa.table({"source_id": np.arange(1, 701) * 1000, "ra": ra, "dec": dec})
    tables.write(root / "left.parquet", left)
    hats.write([root / "left.parquet"], root / "left", "left", most=300)
    shift = rng.uniform(0, 2 * np.pi, 600)
    far, away = sky(rng, 200)
    angle = 0.3 * ARCSEC * np.array([np.cos(shift) / np.cos(np.radians(dec[:600])), np.sin(shift)])
    right = {
        "source_id": np.arange(1, 801) * 7,
        "ra": np.append(ra[:600] + angle[0], far),
        "dec": np.append(dec[:600] + angle[1], away),
        "feh": rng.normal(size=800),
    }  # fmt: skip
    made = lsdb.from_dataframe(
        pd.DataFrame(right), ra_column="ra", dec_column="dec", partition_rows=400,
        margin_threshold=5, catalog_name="right",
    )  # fmt: skip
    made.write_catalog(root / "right", as_collection=True, progress_bar=False)
    return root, left, pa.table(right)


@pytest.fixture(scope="module")
def scheduler():
    from dask.distributed import LocalCluster

    with LocalCluster(
        n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None
    ) as cluster:
        yield cluster.scheduler_address


@absent
def test_pairs_on_dask_are_those_found_in_memory(catalogues, scheduler, tmp_path, capsys):
    root, left, right = catalogues
    out = tmp_path / "pairs"
    asked = ["crossmatch", str(root / "left"), str(root / "right"), "-o", str(out)]
    assert run([*asked, "--radius", "2", "--dask", scheduler]) == 0
    assert "600 pairs of 700 rows" in capsys.readouterr().err
    places = [(t["ra"].to_numpy(), t["dec"].to_numpy()) for t in (left, right)]
    known = crossmatch.nearest(*places, 2.0)
    assert len(known.left) == 600
    made = pa.concat_tables(
        [pq.ParquetFile(f).read() for f in sorted((out / "dataset").rglob("Npix=*.parquet"))]
    ).sort_by("source_id")
    expected = left["source_id"].take(pa.array(known.left)).to_pylist()
    assert made["source_id"].to_pylist() == expected
    theirs = right["source_id"].take(pa.array(known.right)).to_pylist()
    assert made["source_id_right"].to_pylist() == theirs
    np.testing.assert_allclose(made["_dist_arcsec"].to_numpy(), known.separation, atol=1e-4)
    assert made["feh"].to_pylist() == right["feh"].take(pa.array(known.right)).to_pylist()
    assert run([*asked, "--dask", scheduler]) == 1
    assert "exists already" in capsys.readouterr().err


@absent
def test_what_would_lose_pairs_is_refused(catalogues, scheduler, tmp_path, capsys):
    root, _, _ = catalogues
    left, right = str(root / "left"), str(root / "right")
    last = ["-o", str(tmp_path / "x"), "--dask", scheduler]
    assert run(["crossmatch", right, left, *last]) == 2
    assert "has no margin" in capsys.readouterr().err
    assert run(["crossmatch", left, right, "--radius", "9", *last]) == 2
    assert "more than the margin, 5 arcsec" in capsys.readouterr().err
    assert run(["crossmatch", left, right, "--on", "name", *last]) == 2
    assert "no column 'name'" in capsys.readouterr().err
    assert run(["crossmatch", left, str(tmp_path), *last]) == 2
    assert "is no HATS catalogue" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@absent
def test_rows_are_joined_on_a_column(catalogues, scheduler, tmp_path):
    root, left, _ = catalogues
    some = left.slice(0, 250).append_column("teff", pa.array(np.arange(250.0)))
    tables.write(tmp_path / "some.parquet", some)
    hats.write([tmp_path / "some.parquet"], tmp_path / "some", "some", most=60)
    asked = ["crossmatch", str(root / "left"), str(tmp_path / "some"), "-o", str(tmp_path / "out")]
    assert run([*asked, "--on", "source_id", "--no-margin", "--dask", scheduler]) == 0
    files = sorted((tmp_path / "out" / "dataset").rglob("Npix=*.parquet"))
    made = pa.concat_tables([pq.ParquetFile(f).read() for f in files]).sort_by("source_id")
    assert made["teff"].to_pylist() == list(range(250))
    assert made["source_id"].to_pylist() == some["source_id"].to_pylist()


@pytest.mark.skipif(find_spec("lsdb") is not None, reason="lsdb is there")
def test_without_lsdb_the_extra_is_named(tmp_path, capsys):
    assert run(["crossmatch", str(tmp_path), str(tmp_path), "-o", str(tmp_path / "x")]) == 2
    assert "mmclip[hats]" in capsys.readouterr().err
