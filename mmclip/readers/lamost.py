"""LAMOST spectra: low resolution in both layouts, medium resolution; packed or not."""

from typing import Any

import numpy as np
import pyarrow as pa

from mmclip.errors import IntegrityError
from mmclip.modalities.spectra import MODALITY as SPECTRA
from mmclip.readers import Reader, files, views, wavelength
from mmclip.readers.files import Source
from mmclip.readers.spectra import Spectrum, columns_of, spectrum

SURVEY = "lamost"
CITATIONS = {SURVEY: ("2012RAA....12.1197C", "2012RAA....12..723Z")}
HEADER = (
    "DESIG", "DATA_V", "LMJD", "MJD", "PLANID", "SPID", "FIBERID", "OBJTYPE", "CLASS", "SUBCLASS",
    "Z", "Z_ERR", "SNRU", "SNRG", "SNRR", "SNRI", "SNRZ", "OFFSET", "FIBERMAS",
)  # fmt: skip

COEFFICIENTS = (("COEFF0", "CRVAL1"), ("COEFF1", "CD1_1"))


def is_lamost(units: list[Any]) -> bool:
    """True for a spectrum of LAMOST."""
    return str(units[0].header.get("TELESCOP", "")).upper().startswith("LAMOST")


def read(source: Source) -> pa.Table:
    """One LAMOST file, LRS or MRS, as a view table `spectra` of one row.

    Wavelengths are in vacuum and heliocentric as the pipeline wrote them; no shift is applied.
    Pixels with an inverse variance of zero or a set AND mask are NaN. Fluxes are calibrated
    relatively at best (MRS: counts, each arm its own).

    Raises:
        IntegrityError: If it is not a whole FITS file of LAMOST.
    """
    name = files.label(source)
    with files.fits_units(source) as units, files.reading(name, "LAMOST"):
        if not is_lamost(units):
            raise IntegrityError(f"{name} is not a spectrum of LAMOST", "--as spectra reads others")
        return _row(units[0].header, *held(units), name)


def held(units: list[Any]) -> tuple[Spectrum, str]:
    """The spectrum of a file's HDUs, told by their number and names, and `lrs` or `mrs`.

    Raises:
        IntegrityError: If an image is not of 5 rows or has no wavelengths.
    """
    names = {u.name.upper() for u in units if getattr(u, "columns", None) is not None}
    arms = [n for n in ("COADD_B", "COADD_R") if n in names]  # an arm not combined is a stub
    if arms:
        return _join([_arm(next(u for u in units if u.name.upper() == n)) for n in arms]), "mrs"
    if len(units) > 1 and getattr(units[1], "columns", None) is not None:
        return _arm(units[1]), "lrs"
    return _image(units[0]), "lrs"


def _image(unit: Any) -> Spectrum:
    """The layout of one image: rows of flux, inverse variance, (wavelength), AND and OR mask.

    The third row was the continuum-subtracted flux in the first releases; the wavelength is
    therefore 10^(COEFF0 + COEFF1 i), and that row only where the header has no coefficients and
    it rises from above 3000 A.
    """
    data = np.asarray(unit.data, np.float64)
    if data.ndim != 2 or len(data) < 4:
        raise IntegrityError(f"an image of {data.shape} instead of 5 rows of pixels")
    header = unit.header
    first, step = (header.get(a, header.get(b)) for a, b in COEFFICIENTS)
    if first is not None and step is not None:
        wave = 10 ** wavelength.grid(float(first), float(step), data.shape[1])
    elif data[2][0] > 3000 and np.all(np.diff(data[2]) > 0):
        wave = data[2]
    else:
        raise IntegrityError("an image without its wavelengths (COEFF0, COEFF1)")
    return spectrum(wave, data[0], wavelength.sigma(data[1]), data[3])


def _arm(unit: Any) -> Spectrum:
    """The layout of a table: one row of arrays, or one row a pixel."""
    names = {n.upper(): n for n in unit.columns.names}

    def values(name: str) -> np.ndarray:
        return np.asarray(unit.data[names[name]], np.float64).ravel()

    wave = values("WAVELENGTH") if "WAVELENGTH" in names else 10 ** values("LOGLAM")
    mask = values("ANDMASK") if "ANDMASK" in names else None
    return spectrum(wave, values("FLUX"), wavelength.sigma(values("IVAR")), mask)


def _join(spectra: list[Spectrum]) -> Spectrum:
    wave, flux, sigma = (
        np.concatenate([np.asarray(s[i], np.float64) for s in spectra]) for i in range(3)
    )
    return spectrum(wave, flux, sigma)


def _row(header: Any, found: Spectrum, resolution: str, name: str) -> pa.Table:
    columns, reasons = columns_of([found])
    obsid = header.get("OBSID")
    if obsid is None:
        reasons = ["no OBSID in the header"]
    elif str(header.get("FIBERTYP", "Obj")).strip().upper() not in ("OBJ", "F-STD", ""):
        reasons = [f"fibre type {header.get('FIBERTYP')} is no star"]
    labels = {
        key.lower(): pa.array([value.strip() if isinstance(value, str) else value])
        for key in HEADER
        if (value := header.get(key)) is not None and isinstance(value, str | int | float)
    }
    return views.observations(
        SPECTRA,
        columns,
        source_id=pa.array([None], pa.int64()),
        object_name=pa.array([None if obsid is None else str(obsid)]),
        reasons=reasons,
        labels=labels | {"resolution": pa.array([resolution])},
        ra=pa.array([_degrees(header.get("RA"))], pa.float64()),
        dec=pa.array([_degrees(header.get("DEC"))], pa.float64()),
        survey=SURVEY,
    )


def _degrees(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None


READER = Reader(
    "lamost",
    lambda source, units: bool(units) and is_lamost(units),
    lambda source, modality, options: read(source),
    ("spectra",),
    CITATIONS,
)
