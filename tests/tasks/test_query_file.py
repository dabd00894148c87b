"""`search --query-file`: new objects are read by the readers of `import`, whatever the file."""

import io
import json

import numpy as np
import pytest
from astropy import units as u
from astropy.table import Table

from mmclip import ids
from mmclip.cli import run
from mmclip.errors import USAGE
from mmclip.modalities import rvs, xp
from mmclip.surveys import Fetched
from mmclip.surveys.demo import table
from tests.conftest import fetch_made
from tests.shared import shared

STARS, POINTS, BASES = 30, 60, 55
ANGSTROM = np.linspace(3850.0, 7450.0, 300)
SMALL = ("--set", "width=16", "--set", "dimension=8", "--set", "generator_epochs=0")


def planck(angstrom, teff):
    flux = angstrom**-5.0 / np.expm1(14.388e7 / (angstrom * teff))
    return flux / np.median(flux)


@pytest.fixture(scope="module")
def vectors(tmp_path_factory):
    """A workspace with vectors of five views of made stars."""
    root, rng = tmp_path_factory.mktemp("many"), np.random.default_rng(0)
    source_id = ids.FIRST_GAIA + np.arange(STARS) * 7
    teff = rng.uniform(4000, 8000, STARS)

    def lists(rows):
        return np.asarray(list(rows), np.float32)

    def spectra(nm):
        flux = [planck(10 * nm, t) for t in teff]
        return {"flux": lists(flux), "flux_error": lists([0.01 * f for f in flux])}

    def view(**columns):
        return table({"source_id": source_id} | columns)

    time = np.sort(rng.uniform(2457000, 2457400, (STARS, POINTS)), axis=1)
    magnitude = 12 + 0.3 * np.sin(time * (1 + teff[:, None] / 4000))
    coefficients = {
        f"{band}_{what}": lists(scale * rng.normal(size=(STARS, BASES)) ** 2 + 0.1)
        for band in ("bp", "rp")
        for what, scale in (("coefficients", 100.0), ("coefficient_errors", 1.0))
    }
    views = {
        "objects": view(ra=np.arange(STARS) * 9.0, dec=np.zeros(STARS), teff=teff),
        "xp": view(**spectra(xp.SAMPLED)),
        "rvs": view(**spectra(rvs.wavelength())),
        "xp_coefficients": view(**coefficients),
        "spectra": view(wavelength=np.tile(ANGSTROM, (STARS, 1)),
                        flux=lists([planck(ANGSTROM, t) for t in teff])),
        "photometry": view(time=time, magnitude=lists(magnitude),
                           error=lists(np.full((STARS, POINTS), 0.01))),
    }  # fmt: skip
    fetch_made(root, Fetched(views, {n: "observed" for n in views if n != "objects"}))
    w = ["--workspace", str(root)]
    grid = {"start": 3850, "step": 20, "pixels": 180, "good_fraction": 0.1}
    settings = [x for k, v in grid.items() for x in ("--set", f"spectra.{k}={v}")]
    names = ",".join(n for n in views if n != "objects")
    assert run(["preprocess", "--modalities", names, *settings, "--set", "photometry.length=50",
                *w]) == 0  # fmt: skip
    plain = [x for n in views for x in ("--set", f"views.{n}.encoder=mlp") if n != "objects"]
    assert run(["train", "--epochs", "1", "--batch", "32", *SMALL, *plain, *w]) == 0
    assert run(["embed", *w]) == 0
    return root


def search(vectors, capsys, file, *options):
    code = run(["search", "--query-file", str(file), "-k", "1", "--json", *map(str, options),
                "-w", str(vectors)])  # fmt: skip
    said = capsys.readouterr()
    return code, [json.loads(line) for line in said.out.splitlines()], said.err


NATIVE = {
    "spectra": (
        "XP_CONTINUOUS_RAW_with_missing_BP.csv", "XP_CONTINUOUS_RAW_with_missing_BP.ecsv",
        "XP_CONTINUOUS_RAW_with_missing_BP.fits", "XP_CONTINUOUS_RAW_with_missing_BP.xml",
        "desi_coadd-5-169-thru20210419.fits", "gaia_dr3_rvs_Kepler-93.csv",
        "med-58625-TD192102N424113K01_sp12-076.fits.gz", "spec-0266-51602-0031.fits",
        "spec-57287-KP193637N444141V03_sp10-161.fits.gz",
    ),
    "variables": ("asas_152335.xml", "sesar_s82_1013184.dat", "osc_SN2013en.json"),
}  # fmt: skip


@pytest.mark.parametrize("kind", NATIVE)
def test_native_files_of_surveys_are_asked_in_one_command(vectors, capsys, kind):
    folder = shared(kind, "native")
    for name in NATIVE[kind]:
        code, found, said = search(vectors, capsys, folder / name)
        assert code == 0, (name, said)
        assert int(found[0]["source_id"]) >= ids.FIRST_GAIA, name


def test_a_library_of_spectra_is_asked_in_one_command(vectors, capsys):
    file = shared("spectra", "stellar_libraries", "stelib.parquet")
    code, found, said = search(vectors, capsys, file, "--air", "--from", "spectra")
    assert code == 0, said
    assert len({row["query_id"] for row in found}) > 150


def test_a_spectrum_beyond_the_grid_is_refused_with_that_reason(vectors, capsys):
    file = shared("spectra", "native", "apVisit-r13-5095-55844-128.fits")
    code, _, said = search(vectors, capsys, file)
    assert code == USAGE
    assert "15145" in said or "grid is observed" in said or "does not overlap" in said


def ecsv(path, unit):
    flux = planck(ANGSTROM, 5000.0)
    wave = (ANGSTROM * u.AA).to(unit, u.spectral()) if isinstance(unit, u.UnitBase) else ANGSTROM
    made = Table({"lam": wave, "flux": flux})
    out = io.StringIO()
    made.write(out, format="ascii.ecsv")
    path.write_text(out.getvalue().replace("'Angstrom'", "'furlong'"))
    return path


def test_units_of_a_query_are_those_of_its_file(vectors, capsys, tmp_path):
    """The same star in Angstrom, nm and eV has the same neighbours, at the same distance."""
    answers = []
    for name, unit in (("a", u.AA), ("b", u.nm), ("c", u.eV)):
        code, found, said = search(
            vectors, capsys, ecsv(tmp_path / f"{name}.ecsv", unit), "--from", "spectra"
        )
        assert code == 0, said
        answers.append((found[0]["source_id"], round(found[0]["cosine"], 4)))
    assert len(set(answers)) == 1


@pytest.mark.parametrize(("unit", "said_of"), [("furlong", "furlong"), ("kg", "kg")])
def test_an_unknown_unit_of_a_query_is_refused_and_can_be_said(
    vectors, capsys, tmp_path, unit, said_of
):
    file = tmp_path / "star.ecsv"
    file.write_text(ecsv(file, u.AA).read_text().replace("unit: Angstrom", f"unit: {unit}"))
    code, _, said = search(vectors, capsys, file, "--from", "spectra")
    assert code == USAGE
    assert said_of in said
    assert "--columns" in said
    code, _, said = search(
        vectors, capsys, file, "--from", "spectra", "--columns", "wavelength_A=lam"
    )
    assert code == 0, said


def test_a_file_that_is_no_table_is_refused_once(vectors, capsys, tmp_path):
    file = tmp_path / "page.csv"
    file.write_text("<html><body>Not found</body></html>")
    code, _, said = search(vectors, capsys, file)
    assert code != 0
    assert said.count("HTML") == 1
