"""A small file in the native format of every reader of `import`: its view, and what reads it."""

import io
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from astropy.io import fits
from astropy.table import Table

from mmclip import readers
from mmclip.modalities import registry
from mmclip.readers import Options
from tests import made_files
from tests.papers import made_astrom3
from tests.readers.test_readers import rvs_csv
from tests.readers.test_survey_curves import AAVSO, ALERCE, ATLAS, POINTS, TRANSITS

STAR = 2052747119115620352


@dataclass(frozen=True)
class Native:
    """A file, what it is imported as, and the reader that it is for."""

    name: str
    file: str
    body: bytes
    view: str
    reader: str
    options: Options = field(default_factory=Options)

    def read(self, source, by_name=False):
        """As `import` reads it, or with `--reader`."""
        modality = registry.imported(self.view)
        among = readers.readers(modality, self.reader) if by_name else None
        return readers.read(source, modality, self.options, among)


def parquet(table):
    body = io.BytesIO()
    pq.write_table(table, body, write_page_checksum=True)
    return body.getvalue()


def fits_table(**columns):
    body = io.BytesIO()
    Table(columns).write(body, format="fits")
    return body.getvalue()


def ecsv(units, **columns):
    text = io.StringIO()
    table = Table(columns)
    for name, unit in units.items():
        table[name].unit = unit
    table.write(text, format="ascii.ecsv")
    return text.getvalue().encode()


def sdss_spec():
    """An optical spectrum of SDSS-III/IV: COADD and SPECOBJ."""
    wave = np.linspace(3.58, 3.96, 400)
    columns = [fits.Column("flux", "E", array=np.full(400, 5.0)),
               fits.Column("loglam", "E", array=wave),
               fits.Column("ivar", "E", array=np.full(400, 2.0)),
               fits.Column("and_mask", "J", array=np.zeros(400, int))]  # fmt: skip
    about = [fits.Column("BESTOBJID", "22A", array=["1237648721216405598"]),
             fits.Column("PLUG_RA", "D", array=[150.0]), fits.Column("PLUG_DEC", "D", array=[2.0]),
             fits.Column("Z", "E", array=[0.1])]  # fmt: skip
    units = [fits.BinTableHDU.from_columns(c) for c in (columns, about)]
    return made_files.packed([fits.PrimaryHDU(), *units])


def sdss_plate(fibres=3):
    """spPlate: a row a fibre, wavelengths by COEFF0 and COEFF1."""
    flux = fits.PrimaryHDU(np.full((fibres, 300), 5.0, "f4"))
    flux.header.update({"COEFF0": 3.58, "COEFF1": 1e-3, "PLATEID": 266, "MJD": 51602})
    places = [fits.Column("RA", "D", array=150.0 + np.arange(fibres)),
              fits.Column("DEC", "D", array=np.zeros(fibres)),
              fits.Column("FIBERID", "J", array=1 + np.arange(fibres))]  # fmt: skip
    same = [fits.ImageHDU(a) for a in (np.ones((fibres, 300), "f4"),
            np.zeros((fibres, 300), "i4"), np.zeros((fibres, 300), "i4"),
            np.ones((fibres, 300), "f4"))]  # fmt: skip
    return made_files.packed([flux, *same, fits.BinTableHDU.from_columns(places)])


def axis_fits():
    """A spectrum in the pixels of an image."""
    unit = fits.PrimaryHDU(np.linspace(1, 2, 300).astype("f4"))
    unit.header.update({"CTYPE1": "WAVE", "CUNIT1": "Angstrom", "CRVAL1": 4000.0, "CDELT1": 2.0,
                        "CRPIX1": 1, "BUNIT": "Jy"})  # fmt: skip
    return made_files.packed([unit])


def natives():
    """One file or more for every reader."""
    rng = np.random.default_rng(5)
    time = np.sort(rng.uniform(2_457_000, 2_458_000, 40))
    curve = {"time": time, "mag": rng.normal(12, 0.2, 40), "error": np.full(40, 0.02)}
    wave, flux = np.linspace(4000, 9000, 300), rng.uniform(1, 2, 300)
    spectrum = {"wavelength": wave, "flux": flux, "error": np.full(300, 0.05)}
    points = "\n".join(["time,mag,error", *(f"{t:.5f},{m:.4f},0.02" for t, m in
                                            zip(time, curve["mag"], strict=True))])  # fmt: skip
    xp = {"source_id": [STAR, STAR + 1000], "flux": [np.full(343, 1e-16)] * 2,
          "flux_error": [np.full(343, 1e-18)] * 2}  # fmt: skip
    stars = {"source_id": STAR + 1000 * np.arange(20), "ra": np.linspace(0, 300, 20),
             "dec": np.zeros(20), "g": np.linspace(10, 15, 20)}  # fmt: skip
    raw = parquet(made_astrom3.raw(3))
    columns = Options(columns={"flux": "F", "wavelength": "W"})
    given = parquet(pa.table({"object_name": ["a", "b"], "W": [wave] * 2, "F": [flux] * 2}))
    metadata = Options(columns={"g": "g"})
    text = "\n".join(["source_id,ra,dec,g", *(f"{STAR + i},{i},0,12.{i}" for i in range(20))])
    made = [
        Native("AAVSO report", "aavso.csv", AAVSO.encode(), "photometry", "aavso"),
        Native("ATLAS forced photometry", "atlas.txt", ATLAS.encode(), "photometry", "atlas"),
        Native("ALeRCE detections", "alerce.csv", ALERCE.encode(), "photometry", "ztf-alerce"),
        Native("Gaia epochs, points", "points.csv", POINTS.encode(), "photometry", "gaia-epochs"),
        Native("Gaia epochs, transits", "transits.csv", TRANSITS.encode(), "photometry",
               "gaia-epochs"),
        Native("Gaia RVS, CSV", "rvs.csv", rvs_csv(range(2401)), "rvs", "gaia"),
        Native("Gaia XP sampled, Parquet", "xp.parquet", parquet(pa.table(xp)), "xp", "gaia"),
        Native("LAMOST, image", "old.fits", made_files.lamost_old(compress=False), "spectra",
               "lamost"),
        Native("LAMOST, table", "new.fits.gz", made_files.lamost_new(), "spectra", "lamost"),
        Native("DESI coadd", "coadd.fits", made_files.desi(), "spectra", "desi"),
        Native("SDSS spec", "spec.fits", sdss_spec(), "spectra", "sdss"),
        Native("SDSS spPlate", "spplate.fits", sdss_plate(), "spectra", "sdss"),
        Native("APOGEE visit", "visit.fits", made_files.apogee(), "spectra", "sdss"),
        Native("spectrum, FITS axis", "axis.fits", axis_fits(), "spectra", "spectra"),
        Native("spectrum, FITS table", "one.fits", fits_table(**spectrum), "spectra", "spectra"),
        Native("spectrum, ECSV", "one.ecsv", ecsv({"wavelength": "Angstrom"}, **spectrum),
               "spectra", "spectra"),
        Native("spectra, FITS axis, by specutils", "wcs.fits", axis_fits(), "spectra",
               "specutils-loaders"),
        Native("light curve, CSV", "curve.csv", points.encode(), "photometry", "lightcurves"),
        Native("light curve, ECSV", "curve.ecsv", ecsv({"time": "d"}, **curve), "photometry",
               "lightcurves"),
        Native("light curve, Kepler", "kepler.fits", made_files.kepler(), "photometry",
               "lightcurves"),
        Native("columns, Parquet", "own.parquet", given, "spectra", "columns", columns),
        Native("metadata, CSV", "stars.csv", text.encode(), "metadata", "metadata", metadata),
        Native("metadata, FITS", "stars.fits", fits_table(**stars), "metadata", "metadata",
               metadata),
        *(Native(f"AstroM3, {view}", "astrom3.parquet", raw, view, "astrom3")
          for view in ("photometry", "spectra", "metadata")),
        Native("image cube", "cutout.fits",
               made_files.packed([fits.PrimaryHDU(np.ones((3, 20, 20), "f4"))]), "image", "images"),
    ]  # fmt: skip
    return tuple(made)
