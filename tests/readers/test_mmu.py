"""The Multimodal Universe: made files of each published schema, its faults, and the way back."""

import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmclip import readers
from mmclip.cli import run
from mmclip.datasets import export
from mmclip.errors import INTEGRITY, IntegrityError, UsageError
from mmclip.modalities import multimodal
from mmclip.readers import files, mmu
from tests.cli.test_cli import ask
from tests.conftest import fetch_made, made_stars
from tests.shared import shared

WAVE = 3600 + 0.8 * np.arange(7781)


def named(table, name="001-of-001.parquet"):
    """A table as the bytes of a Parquet file."""
    body = io.BytesIO()
    pq.write_table(table, body)
    made = files.Loaded(body.getvalue())
    made.name = name
    return made


def gaia_set():
    """`gaia`: coefficients of both bands in one array, positions in float32, nested groups."""
    coeff = np.arange(220, dtype="f4").reshape(2, 110) + 1
    return pa.table(
        {
            "spectral_coefficients": [{"coeff": c, "coeff_error": c / 10} for c in coeff],
            "photometry": [{"phot_g_mean_mag": 12.5, "bp_rp": 0.8}] * 2,
            "flags": [{"ruwe": 1.0}] * 2,
            "object_id": pa.array([5937083312263887616, 4295806720]),
            "healpix": pa.array([1054, 0]),
            "ra": pa.array([250.1234567, 44.9961], pa.float32()),
            "dec": pa.array([-54.2, 0.0056], pa.float32()),
        }
    )


def desi_set(nested="struct", zwarn=(True, False)):
    """`desi`: a spectrum of 7781 pixels, `ZWARN` as the published loader writes it."""
    flux = np.arange(2 * 7781, dtype="f4").reshape(2, 7781)
    parts = {
        "flux": flux,
        "ivar": np.full((2, 7781), 4.0, "f4"),
        "lsf_sigma": np.ones((2, 7781), "f4"),
        "lambda": np.stack([WAVE] * 2).astype("f4"),
        "mask": np.arange(2 * 7781).reshape(2, 7781) % 100 == 7,
    }
    if nested == "struct":
        spectrum = [{k: v[i] for k, v in parts.items()} for i in range(2)]
    else:
        spectrum = [[{k: v[i, j].item() for k, v in parts.items()} for j in range(7781)]
                    for i in range(2)]  # fmt: skip
    return pa.table(
        {
            "spectrum": spectrum,
            "Z": pa.array([0.1, 0.2], pa.float32()),
            "ZWARN": pa.array(zwarn),
            "object_id": ["39633300968442591", "39633297352951412"],
        }
    )


def test_gaia_coefficients_are_cut_into_bands_and_keep_their_ids():
    table = readers.read(named(gaia_set()), "xp")
    assert table["source_id"].to_pylist() == [5937083312263887616, 4295806720]
    assert table["bp_coefficients"][0].as_py() == list(range(1, 56))
    assert table["rp_coefficients"][0].as_py() == list(range(56, 111))
    np.testing.assert_allclose(table["rp_coefficient_errors"][1].as_py()[:2], [16.6, 16.7])
    assert table["phot_g_mean_mag"].to_pylist() == [12.5, 12.5]
    assert table.schema.metadata[b"faults"].count(b"is float32") == 2


def test_an_odd_number_of_coefficients_is_refused():
    table = gaia_set()
    odd = table.set_column(0, "coeff", pa.array([[1.0] * 109] * 2)).rename_columns(
        ["coeff", *table.column_names[1:]]
    )
    with pytest.raises(IntegrityError, match="two halves"):
        readers.read(named(odd), "xp")


@pytest.mark.parametrize("nested", ["struct", "list"])
def test_desi_spectra_are_read_from_either_nesting(nested):
    table = readers.read(named(desi_set(nested)), "spectra")
    flux, sigma = (np.array(table[n][1].as_py()) for n in ("flux", "sigma"))
    bad = np.arange(7781, 2 * 7781) % 100 == 7
    np.testing.assert_array_equal(np.isnan(flux), bad)
    np.testing.assert_array_equal(flux[~bad], np.arange(7781, 2 * 7781)[~bad])
    np.testing.assert_allclose(sigma[~bad], 0.5)
    np.testing.assert_allclose(table["wavelength"][0].as_py(), WAVE, rtol=1e-7)
    assert table["object_name"].to_pylist() == ["39633300968442591", "39633297352951412"]


def test_zwarn_means_good_in_parquet_and_bad_in_hdf5():
    assert mmu.redshift_good(pa.array([True, False]), "parquet").to_pylist() == [True, False]
    assert mmu.redshift_good(pa.array([0, 4]), "hdf5").to_pylist() == [True, False]
    assert mmu.redshift_good(pa.array([False, True]), "hdf5").to_pylist() == [True, False]
    table = readers.read(named(desi_set()), "spectra")
    assert table["redshift_good"].to_pylist() == [True, False]
    assert "ZWARN" not in table.column_names


def lamost_set(obsid=("11", "12")):
    """`lamost`: fluxes and wavelengths padded with 0 to 3908, no errors."""
    wave = np.zeros((2, 3908), "f4")
    flux = np.zeros((2, 3908), "f4")
    wave[:, :3700] = 10 ** (3.5682 + 1e-4 * np.arange(3700))
    flux[:, :3700] = 5
    return pa.table(
        {
            "spectrum_flux": list(flux),
            "spectrum_wavelength": list(wave),
            "teff": pa.array([5700.0, 4800.0], pa.float32()),
            "obsid": list(obsid),
            "object_id": ["11", "12"],
        }
    )


def test_padding_of_lamost_is_not_taken_for_a_spectrum():
    table = readers.read(named(lamost_set()), "spectra")
    assert [len(w) for w in table["wavelength"].to_pylist()] == [3700, 3700]
    assert table["sigma"].null_count == 2
    assert table["teff"].to_pylist() == [5700, 4800]


def test_a_misaligned_catalogue_is_refused():
    with pytest.raises(IntegrityError, match="2 rows have another obsid"):
        readers.read(named(lamost_set(obsid=("12", "13"))), "spectra")


def test_apogee_bitmasks_and_continuum_stay_out_of_the_flux():
    spectrum = {"flux": [1.0, 2.0, 3.0], "ivar": [4.0, 0.0, 4.0], "lambda": [15200.0, 15201, 15202],
                "pseudo_continuum_flux": [9.0] * 3, "pix_bitmask": [0, 1, 0]}  # fmt: skip
    table = pa.table({"spectrum": [spectrum], "teff": [4800.0], "object_id": ["2M0"]})
    got = readers.read(named(table), "spectra")
    np.testing.assert_array_equal(got["flux"][0].as_py(), [1, np.nan, 3])


def test_provabgs_is_metadata():
    table = pa.table(
        {
            "PROVABGS_MCMC": [[[0.0] * 13] * 100],
            "LOG_MSTAR": pa.array([10.5], pa.float32()),
            "Z_HP": pa.array([0.1]),
            "ra": pa.array([10.0], pa.float32()),
            "dec": pa.array([1.0], pa.float32()),
            "object_id": ["39627"],
        }
    )
    got = readers.read(named(table), "metadata")
    assert got["LOG_MSTAR"].to_pylist() == [10.5]
    assert got["object_name"].to_pylist() == ["39627"]


def test_padded_light_curves_lose_their_padding():
    curve = {"band": ["g", "g", "r", "", ""], "time": [2.0, 1.0, 3.0, 0, 0],
             "flux": [5.0, 4.0, 6.0, 0, 0], "flux_err": [0.1, 0.1, 0.1, 0, 0]}  # fmt: skip
    table = pa.table({"lightcurve": [curve], "object_id": ["ZTF1"]})
    got = readers.read(named(table), "lightcurve")
    assert got["time"][0].as_py() == [1, 2, 3]
    assert got["flux"][0].as_py() == [4, 5, 6]
    assert got["band"][0].as_py() == ["g", "g", "r"]


# Writing and back


def raw_spectra(root, capsys, tmp_path):
    """Two DESI-like spectra imported as a raw artefact."""
    (tmp_path / "in.parquet").write_bytes(named(desi_set()))
    with_position = pq.read_table(tmp_path / "in.parquet")
    with_position = with_position.append_column("ra", pa.array([10.0, 200.0]))
    with_position = with_position.append_column("dec", pa.array([0.5, -40.0]))
    pq.write_table(with_position, tmp_path / "in.parquet")
    code, _, err = ask(capsys, "import", tmp_path / "in.parquet", "--as", "spectra", "--name", "d",
                       "--survey", "desi", "-w", root)  # fmt: skip
    assert code == 0, err


@pytest.mark.parametrize("layout", ["parquet", "hdf5", "hats"])
def test_what_is_written_is_read_again(layout, tmp_path, capsys):
    if layout == "hdf5":
        pytest.importorskip("h5py")
    raw_spectra(tmp_path, capsys, tmp_path)
    out = tmp_path / "out"
    code, _, err = ask(capsys, "export", "--format", "mmu", "--raw", "d", "--layout", layout,
                       "-o", out, "-w", tmp_path)  # fmt: skip
    assert code == 0, err
    assert "2 rows in 2 files" in err
    code, _, err = ask(capsys, "import", out / "d", "--as", "spectra", "--name", "back",
                       "--survey", "desi", "-w", tmp_path)  # fmt: skip
    assert code == 0, err
    first, again = (pq.read_table(tmp_path / "raw" / n / "spectra.parquet") for n in ("d", "back"))
    assert again["source_id"].equals(first["source_id"])
    for name in ("wavelength", "flux", "sigma"):
        for row in range(2):
            np.testing.assert_allclose(
                again[name][row].as_py(), first[name][row].as_py(), rtol=1e-6
            )
    objects = pq.read_table(tmp_path / "raw" / "back" / "objects.parquet")
    assert sorted(objects["redshift_good"].to_pylist()) == [False, True]
    assert {round(v) for v in objects["ra"].to_pylist()} == {10, 200}


def test_a_few_cells_at_a_time_are_written_like_all_at_once(tmp_path, capsys, monkeypatch):
    raw_spectra(tmp_path, capsys, tmp_path)
    found = {}
    for held in (1, 20_000):
        monkeypatch.setattr(export, "HELD", held)
        command = ("export", "--format", "mmu", "--raw", "d", "--layout", "parquet")
        out = tmp_path / f"out{held}"
        assert ask(capsys, *command, "-o", out, "-w", tmp_path)[0] == 0
        found[held] = {f.relative_to(out): f.read_bytes() for f in sorted(out.rglob("*.parquet"))}
    assert len(found[1]) == 2
    assert found[1] == found[20_000]


def test_the_mmu_layout_is_by_healpix_cells_of_nside_16(tmp_path, capsys):
    real = shared("variables", "gaia_dr3_epoch", "gaia_dr3_epoch.parquet")
    path = tmp_path / "some.parquet"
    pq.write_table(pq.read_table(real).slice(0, 60), path)
    assert ask(capsys, "import", path, "--as", "photometry", "--columns", "flux=mag", "--name", "g",
               "-w", tmp_path)[0] == 0  # fmt: skip
    out = tmp_path / "out"
    code, _, err = ask(capsys, "export", "--format", "mmu", "--raw", "g", "-o", out, "-w", tmp_path)
    assert code == 0, err
    for file in (out / "g").glob("healpix=*/*.parquet"):
        table = pq.ParquetFile(file).read()
        cell = int(file.parent.name.partition("=")[2])
        assert {int(i) >> 51 for i in table["object_id"].to_pylist()} == {cell}
        lengths = [len(c["time"]) for c in table["lightcurve"].to_pylist()]
        assert min(lengths) >= 20


def test_datasets_loads_an_mmu_export(tmp_path, capsys, monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr("datasets.config.HF_DATASETS_OFFLINE", True)
    raw_spectra(tmp_path, capsys, tmp_path)
    out = tmp_path / "out"
    assert (
        run(["export", "--format", "mmu", "--raw", "d", "-o", str(out), "-w", str(tmp_path)]) == 0
    )
    loaded = datasets.load_dataset(
        "parquet", data_files=str(out / "d" / "*" / "*.parquet"), cache_dir=str(tmp_path / "c")
    )["train"]
    assert set(loaded.features["spectrum"]) == {"flux", "ivar", "lsf_sigma", "lambda", "mask"}
    assert sorted(loaded["object_id"]) == ["39633297352951412", "39633300968442591"]
    row = loaded[0]
    assert np.array(row["spectrum"]["ivar"])[np.array(row["spectrum"]["mask"])].max() == 0
    # The published meaning: True is a good redshift.
    good = dict(zip(loaded["object_id"], loaded["ZWARN"], strict=True))
    assert good == {"39633300968442591": True, "39633297352951412": False}


def test_datasets_loads_a_data_artefact(tmp_path, capsys, monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr("datasets.config.HF_DATASETS_OFFLINE", True)
    fetched = made_stars(120)
    fetched.tables["xp"] = fetched.tables["xp"].slice(0, 100)
    fetch_made(tmp_path, fetched)
    assert ask(capsys, "preprocess", "-w", tmp_path)[0] == 0
    out = tmp_path / "out"
    assert ask(capsys, "export", "-o", out, "-w", tmp_path)[0] == 0
    loaded = datasets.load_dataset(
        "parquet",
        data_files={s.name.split("-")[0]: str(s) for s in (out / "data").iterdir()},
        cache_dir=str(tmp_path / "c"),
    )
    data = tmp_path / "data" / "made"
    objects = pq.read_table(data / "objects.parquet")
    xp = pq.read_table(data / "xp.parquet")
    stored = dict(zip(xp["source_id"].to_pylist(), xp["values"].to_pylist(), strict=True))
    assert sum(len(part) for part in loaded.values()) == 120
    seen = 0
    for name, part in loaded.items():
        assert set(part["split"]) == {name}
        for row in part:
            if row["xp"] is not None:
                assert row["xp"] == stored[row["source_id"]]
                seen += 1
    assert seen == len(stored) == 100
    ids = sorted(i for part in loaded.values() for i in part["source_id"])
    assert ids == sorted(objects["source_id"].to_pylist())
    statistics = json.loads((out / "statistics.json").read_text())
    assert len(statistics["xp"]["centre"]) == 311


BAD = [
    (("--format", "mmux"), "not known", "--format"),
    (("--format", "mmu", "--layout", "zip"), "not known", "parquet"),
    (("--format", "mmu", "--view", "photometry"), "has no photometry", "needs one of"),
    (("--format", "datasets", "--data", "none"), "no data artefact", "preprocess"),
]


@pytest.mark.parametrize(("arguments", "says", "hint"), BAD, ids=str)
def test_bad_exports_get_one_clear_sentence(arguments, says, hint, tmp_path, capsys):
    raw_spectra(tmp_path, capsys, tmp_path)
    code, _, err = ask(capsys, "export", *arguments, "-o", tmp_path / "o", "-w", tmp_path)
    assert code == 2
    assert says in err
    assert hint in err


def test_a_directory_that_is_not_empty_is_left_alone(tmp_path, capsys):
    raw_spectra(tmp_path, capsys, tmp_path)
    code, _, err = ask(capsys, "export", "--format", "mmu", "-o", tmp_path, "-w", tmp_path)
    assert code == 1
    assert "not empty" in err


def test_magnitudes_cannot_be_written_as_fluxes():
    view = pa.table({"source_id": [1], "time": [[1.0]], "magnitude": [[12.0]], "error": [[0.1]]})
    with pytest.raises(UsageError, match="magnitudes"):
        multimodal.light_curves(view)


def test_a_damaged_hdf5_file_is_an_integrity_error(tmp_path, capsys):
    pytest.importorskip("h5py")
    (tmp_path / "x.hdf5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(500))
    code, _, err = ask(capsys, "import", tmp_path / "x.hdf5", "--as", "spectra", "-w", tmp_path)
    assert code == INTEGRITY
    assert "not a whole HDF5 file" in err
