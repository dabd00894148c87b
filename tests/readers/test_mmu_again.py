"""Written for the Multimodal Universe and read again: ids, images and labels are what they were."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.cli.test_cli import ask

GAIA = [4295806720 + 2**43 * i for i in range(4)]


def stored(root, name, file="objects"):
    return pq.read_table(root / "raw" / name / f"{file}.parquet")


def there_and_back(capsys, root, table, views, more=(), view=None):
    """Import a table, export it, import that: names of the raw artefacts `first`, `again`."""
    pq.write_table(table, root / "in.parquet")
    chosen = [w for v in views for w in ("--as", v)]
    first = ("import", root / "in.parquet", *chosen, "--name", "first", *more, "-w", root)
    assert ask(capsys, *first)[0] == 0
    asked = ("export", "--format", "mmu", "--raw", "first", "-o", root / "out", "-w", root)
    code, _, err = ask(capsys, *asked, *(("--view", view) if view else ()))
    assert code == 0, err
    code, _, err = ask(capsys, "import", root / "out" / "first", *chosen, "--name", "again",
                       "-w", root)  # fmt: skip
    assert code == 0, err
    return stored(root, "first"), stored(root, "again")


def spectra(**columns):
    wave = np.linspace(4000, 5000, 30)
    count = len(next(iter(columns.values())))
    return pa.table(
        {**columns, "ra": np.linspace(10, 20, count), "dec": np.zeros(count),
         "wavelength": [wave] * count, "flux": [wave / 4500 + i for i in range(count)],
         "sigma": [np.full(30, 0.1)] * count}
    )  # fmt: skip


@pytest.mark.parametrize("named", [True, False])
def test_gaia_stars_keep_their_ids(named, tmp_path, capsys):
    columns = {"source_id": GAIA} | ({"object_id": list("abcd")} if named else {})
    first, again = there_and_back(capsys, tmp_path, spectra(**columns), ["spectra"])
    assert again["source_id"].to_pylist() == first["source_id"].to_pylist() == GAIA
    assert stored(tmp_path, "again", "spectra")["source_id"].to_pylist() == GAIA
    manifest = json.loads((tmp_path / "raw" / "again" / "manifest.json").read_text())
    assert manifest["notes"]["ids"]["local"] == 0


def test_local_ids_are_the_same_again_whoever_imports_them(tmp_path, capsys):
    table = spectra(object_id=["x1", "x2", "x3"])
    first, again = there_and_back(capsys, tmp_path, table, ["spectra"], ("--survey", "mine"))
    assert again["source_id"].to_pylist() == first["source_id"].to_pylist()
    assert min(again["source_id"].to_pylist()) >= 3 << 61


def test_images_are_written_as_bands_and_read_again(tmp_path, capsys):
    pixels = np.random.default_rng(0).normal(size=(3, 3, 16, 16)).astype(np.float32)
    kind = pa.list_(pa.list_(pa.list_(pa.float32())))
    table = pa.table(
        {"object_id": ["a", "b", "c"], "ra": [1.0, 2.0, 3.0], "dec": [0.0, 1.0, 2.0],
         "image": pa.array(pixels.tolist(), kind)}
    )  # fmt: skip
    there_and_back(capsys, tmp_path, table, ["image"])
    file = next((tmp_path / "out").glob("first/healpix=*/*.parquet"))
    written = pq.ParquetFile(file).read()["image"][0].as_py()
    assert written["band"] == ["des-g", "des-r", "des-z"]
    first, again = (stored(tmp_path, n, "image") for n in ("first", "again"))
    assert again["source_id"].equals(first["source_id"])
    np.testing.assert_array_equal(again["image"].to_pylist(), first["image"].to_pylist())
    assert again["shape"].to_pylist() == [[3, 16, 16]] * 3


def test_provabgs_is_written_by_its_own_names(tmp_path, capsys):
    table = pa.table(
        {"object_id": ["1", "2"], "ra": [5.0, 6.0], "dec": [1.0, 2.0], "Z_HP": [0.1, 0.2],
         "LOG_MSTAR": [10.0, 11.0], "Z_MW": [0.01, 0.02]}
    )  # fmt: skip
    first, again = there_and_back(capsys, tmp_path, table, ["metadata"], view="objects")
    file = next((tmp_path / "out").glob("first/healpix=*/*.parquet"))
    assert {"Z_HP", "LOG_MSTAR", "Z_MW", "object_id", "healpix"} <= {
        *pq.ParquetFile(file).schema_arrow.names
    }
    for name in ("source_id", "Z_HP", "LOG_MSTAR", "Z_MW"):
        assert again[name].to_pylist() == first[name].to_pylist()
