"""How files are understood, as `--explain` shows it and the manifest keeps it; errors given."""

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmclip import artifacts, readers
from mmclip.cli import run
from mmclip.datasets import import_files
from mmclip.datasets.import_files import ImportConfig
from mmclip.errors import INTEGRITY, USAGE, IntegrityError, UsageError
from mmclip.modalities import registry
from mmclip.readers import Options, errors, interpretation

STAR = 5937083312263887616
NM = np.linspace(400.0, 500.0, 20)


@pytest.fixture
def spectra(tmp_path):
    """Three spectra in nm with a sentinel among the temperatures and two columns without a use."""
    kinds = [pa.field("lam", pa.list_(pa.float64()), metadata={"unit": "nm"})]
    kinds += [(n, pa.list_(pa.float64())) for n in ("flux", "sky")]
    kinds += [("source_id", pa.int64()), ("teff", pa.float64()), ("empty", pa.null())]
    table = pa.table(
        [[NM.tolist()] * 3, [np.ones(20).tolist()] * 3, [np.zeros(20).tolist()] * 3,
         [STAR, STAR + 1, STAR + 2], [5000.0, 5600.0, -9999.0], [None] * 3],
        schema=pa.schema(kinds),
    )  # fmt: skip
    path = tmp_path / "three.parquet"
    pq.write_table(table, path)
    return path


def test_every_column_of_a_file_has_a_row(spectra):
    rows, said = import_files.explain([spectra], ImportConfig(("spectra",)))
    by = {row["column"]: row for row in rows}
    assert set(by) == {"lam", "flux", "sky", "source_id", "teff", "empty"}
    assert by["lam"]["target"] == "wavelength"
    assert (by["lam"]["unit"], by["lam"]["conversion"]) == ("nm", "nm -> Angstrom")
    assert by["lam"]["range"] == "4000 to 5000"
    assert by["teff"]["sentinels"].startswith("1 of 3 is exactly -9999")
    assert (by["teff"]["nulls"], by["teff"]["range"]) == (1, "5000 to 5600")
    assert by["sky"]["target"] == by["empty"]["target"] == "not used"
    assert "no target" in by["sky"]["conversion"]
    assert by["source_id"]["range"] == f"{STAR} to {STAR + 2}"
    assert any("reader spectra" in line and "3 of 3" in line for line in said)


def test_without_a_view_each_that_a_file_holds_is_shown(spectra, capsys):
    assert run(["import", "--explain", str(spectra)]) == 0
    shown = capsys.readouterr()
    assert "as spectra: reader spectra" in shown.err
    assert "rvs" not in shown.err
    assert "nm -> Angstrom" in shown.out


def test_an_import_says_how_it_read_and_keeps_it_in_its_manifest(spectra, tmp_path, capsys):
    assert run(["import", str(spectra), "--as", "spectra", "-w", str(tmp_path / "w")]) == 0
    said = capsys.readouterr().err
    assert "spectra read by spectra" in said
    assert "wavelength = lam (nm -> Angstrom)" in said
    assert "not used: empty, sky" in said
    kept = artifacts.read(tmp_path / "w" / "raw" / "three").manifest.notes["read"]["spectra"]
    assert {"column": "sky", "why": "a list that no target names", "files": 1} in kept["not used"]
    values = kept["values"]["wavelength"]
    assert (values["rows"], values["nulls"]) == (3, 0)
    assert (values["low"], values["high"]) == pytest.approx((4000.0, 5000.0))


def test_strict_makes_a_note_an_error_and_leaves_nothing_behind(spectra, tmp_path, capsys):
    w = str(tmp_path / "w")
    assert run(["import", str(spectra), "--as", "spectra", "--strict", "-w", w]) == INTEGRITY
    assert "-9999" in capsys.readouterr().err
    assert not (tmp_path / "w" / "raw" / "three").exists()
    assert run(["import", str(spectra), "--as", "spectra", "-w", w]) == 0
    assert run(["import", str(spectra), "--as", "spectra", "--strict", "-w", w]) == INTEGRITY


def test_a_refusal_of_all_rows_counts_the_reasons(tmp_path):
    table = pa.table({"source_id": [STAR, STAR + 1], "flux": [[1.0] * 5, [1.0] * 7]})
    pq.write_table(table, tmp_path / "short.parquet")
    with pytest.raises(UsageError, match="5 samples instead of 343: 1; 7 samples"):
        import_files.bring(
            [tmp_path / "short.parquet"], ImportConfig(("xp",)), tmp_path / "raw" / "x"
        )


# Errors


def sampled(**more):
    flux = np.linspace(1.0, 2.0, 343)
    out = io.BytesIO()
    pq.write_table(pa.table({"source_id": [STAR], "flux": [flux.tolist()]} | more), out)
    return out.getvalue(), flux


def test_a_file_without_errors_gets_those_of_the_user():
    body, flux = sampled()
    plain = readers.read(body, "xp")
    assert "have no errors" in plain.schema.metadata[b"faults"].decode()
    made = readers.read(body, "xp", Options(error="1%"))
    np.testing.assert_allclose(made["flux_error"].to_pylist()[0], 0.01 * flux, rtol=1e-6)
    assert "1% of flux" in made.schema.metadata[b"faults"].decode()
    prepared = registry.modality("xp").prepare(
        {n: np.array(made[n].to_pylist()) for n in ("flux", "flux_error")}
    )
    assert not prepared.reasons[0]


def test_one_per_cent_of_a_magnitude_is_a_hundredth_of_1_0857():
    text = "jd,mag\n" + "\n".join(f"{2459000 + i},{12 + i / 10}" for i in range(6))
    made = readers.read(text.encode(), "photometry", Options(error="1%"))
    np.testing.assert_allclose(made["error"].to_pylist()[0], 0.0108574, rtol=1e-4)
    made = readers.read(text.encode(), "photometry", Options(error="0.02"))
    np.testing.assert_allclose(made["error"].to_pylist()[0], 0.02, rtol=1e-6)


def test_errors_of_the_file_are_kept_or_scaled():
    body, flux = sampled(flux_error=[np.full(343, 0.1).tolist()])
    made = readers.read(body, "xp", Options(error="1%", error_scale=1.5))
    np.testing.assert_allclose(made["flux_error"].to_pylist()[0], 0.15, rtol=1e-6)
    np.testing.assert_allclose(made["flux"].to_pylist()[0], flux, rtol=1e-6)
    assert "times 1.5" in made.schema.metadata[b"faults"].decode()


@pytest.mark.parametrize("text", ["x", "-1%", "0", "nan"])
def test_errors_that_are_none_are_refused(text):
    with pytest.raises(UsageError, match="--error"):
        errors.parse(text)


def test_an_import_keeps_what_was_said_of_errors(spectra, tmp_path, capsys):
    w = str(tmp_path / "w")
    assert run(["import", str(spectra), "--as", "spectra", "--error", "2%", "-w", w]) == 0
    notes = artifacts.read(tmp_path / "w" / "raw" / "three").manifest
    assert any("2% of flux" in fault for fault in notes.notes["faults"])
    assert notes.config["steps"][0]["error"] == "2%"
    assert run(["import", str(spectra), "--as", "spectra", "--error-scale", "0", "-w", w]) == USAGE


def test_values_of_lists_and_of_empty_columns():
    lists = pa.array([[1.0, np.nan], None, [3.0]])
    assert interpretation.values(lists) == {"rows": 3, "nulls": 2, "low": 1.0, "high": 3.0}
    assert interpretation.values(pa.array([], pa.float64())) == {"rows": 0, "nulls": 0}
    assert interpretation.values(pa.array(["a"])) == {"rows": 1, "nulls": 0}


def test_an_unreadable_file_of_an_explanation_is_named(tmp_path):
    (tmp_path / "x.csv").write_text("<html>")
    rows, said = import_files.explain([tmp_path / "x.csv"], ImportConfig(()))
    assert rows == []
    assert all("HTML" in line for line in said)
    with pytest.raises(IntegrityError):
        readers.read(tmp_path / "x.csv", "xp")


def test_units_that_differ_from_file_to_file_are_told(tmp_path):
    for name, unit in (("a", "Jy"), ("b", "mJy")):
        flux = pa.field("flux", pa.list_(pa.float64()), metadata={"unit": unit})
        kinds = pa.schema([("wavelength", pa.list_(pa.float64())), flux])
        table = pa.table([[(10 * NM).tolist()], [np.ones(20).tolist()]], schema=kinds)
        pq.write_table(table, tmp_path / f"{name}.parquet")
    settings = ImportConfig(("spectra",))
    made, _ = import_files.bring([tmp_path / "a.parquet", tmp_path / "b.parquet"], settings,
                                 tmp_path / "raw" / "x")  # fmt: skip
    said = import_files.lines(made)
    assert "note: spectra: flux is in several units (Jy, mJy), kept as they are" in said
    assert any("per frequency" in line for line in said)
