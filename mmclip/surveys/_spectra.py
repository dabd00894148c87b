"""Spectra of LAMOST and DESI to the columns of the view `spectra`.

Wavelength in Angstrom in vacuum, observed frame; flux; sigma = 1 / sqrt(ivar), NaN where a pixel is
masked or has no inverse variance (its flux is NaN too).
"""

import gzip
import io
import warnings
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mmclip.surveys._http import BadAnswer

Spectrum = tuple[NDArray[np.float64], NDArray[np.float32], NDArray[np.float32]]


def cleaned(wave: Any, flux: Any, ivar: Any, mask: Any) -> Spectrum:
    """A spectrum with its bad pixels as NaN."""
    flux, ivar = np.array(flux, np.float64), np.array(ivar, np.float64)
    bad = ~(np.isfinite(flux) & np.isfinite(ivar) & (ivar > 0)) | (np.asarray(mask) != 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        sigma = np.where(bad, np.nan, 1 / np.sqrt(ivar))
    return (
        np.asarray(wave, np.float64),
        np.where(bad, np.nan, flux).astype(np.float32),
        sigma.astype(np.float32),
    )


def lamost(body: bytes) -> Spectrum:
    """One LAMOST LRS file of either layout, told by its number of HDUs.

    Old: an image of five rows; the wavelength is 10^(COEFF0 + COEFF1 i), or row 2 where the header
    has no coefficients and that row rises from above 3000 A (row 2 was the continuum-subtracted
    flux in the first releases). New: one table row of arrays.

    Raises:
        BadAnswer: If it is neither.
    """
    from astropy.io import fits

    if body[:2] == b"\x1f\x8b":
        body = gzip.decompress(body)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with fits.open(io.BytesIO(body), memmap=False) as units:
            if len(units) > 1:
                row = units[1].data[0]
                names = {n.upper() for n in units[1].data.dtype.names}
                mask = row["ANDMASK"] if "ANDMASK" in names else np.zeros(len(row["FLUX"]))
                return cleaned(row["WAVELENGTH"], row["FLUX"], row["IVAR"], mask)
            data, header = np.asarray(units[0].data, np.float64), units[0].header
    if data.ndim != 2 or len(data) < 4:
        raise BadAnswer(f"a LAMOST image of {data.shape} pixels instead of 5 rows")
    if "COEFF0" in header:
        wave = 10 ** (header["COEFF0"] + header["COEFF1"] * np.arange(data.shape[1]))
    elif data[2][0] > 3000 and np.all(np.diff(data[2]) > 0):
        wave = data[2]
    else:
        raise BadAnswer("a LAMOST image without its wavelengths")
    return cleaned(wave, data[0], data[1], data[3])


def coadd(path: Any, wanted: list[int]) -> dict[int, Spectrum]:
    """Spectra of some targets of a DESI coadd file, arms merged with inverse-variance weights.

    The arms share a lattice of 0.8 A, so overlaps are averaged pixel by pixel (the rule of
    desispec's coadd_cameras). HDUs are found by name.

    Raises:
        BadAnswer: If it is no coadd.
    """
    from astropy.io import fits

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with fits.open(path, memmap=False) as units:
            held = {u.name.upper(): u for u in units}
            if "FIBERMAP" not in held or not any(f"{a}_FLUX" in held for a in "BRZ"):
                raise BadAnswer("not a DESI coadd")
            targets = np.asarray(held["FIBERMAP"].data["TARGETID"], np.int64)
            rows = {int(t): i for i, t in enumerate(targets) if int(t) in set(wanted)}
            arms = [
                [np.asarray(held[f"{a}_{part}"].data) for part in
                 ("WAVELENGTH", "FLUX", "IVAR", "MASK")]
                for a in "BRZ" if f"{a}_FLUX" in held
            ]  # fmt: skip
    return {t: merged([(w, f[i], v[i], m[i]) for w, f, v, m in arms]) for t, i in rows.items()}


def merged(arms: list[tuple[Any, Any, Any, Any]]) -> Spectrum:
    """Arms (wavelength, flux, ivar, mask) on the union of their pixels."""
    grid = np.unique(np.concatenate([np.round(np.asarray(w, float), 2) for w, *_ in arms]))
    weight, total = np.zeros(len(grid)), np.zeros(len(grid))
    for wave, flux, ivar, mask in arms:
        place = np.searchsorted(grid, np.round(np.asarray(wave, float), 2))
        ok = (np.asarray(mask) == 0) & np.isfinite(flux) & (np.asarray(ivar) > 0)
        weight[place] += np.where(ok, ivar, 0.0)
        total[place] += np.where(ok, np.asarray(ivar, float) * flux, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return cleaned(grid, total / weight, weight, np.zeros(len(grid)))


def table(
    rows: list[tuple[int, Spectrum]], extra: dict[str, list], unit: str, frame: str
) -> pa.Table:
    """The view `spectra`: source_id, wavelength, flux, sigma as lists, and scalars beside."""
    rows_ = sorted(range(len(rows)), key=lambda i: rows[i][0])
    about = [
        ("wavelength", pa.list_(pa.float64()), {"unit": "Angstrom", "frame": frame}, 0),
        ("flux", pa.list_(pa.float32()), {"unit": unit}, 1),
        ("sigma", pa.list_(pa.float32()), {"unit": unit}, 2),
    ]
    fields = [pa.field("source_id", pa.int64())]
    arrays: list[pa.Array] = [pa.array([rows[i][0] for i in rows_], pa.int64())]
    for name, kind, metadata, place in about:
        fields.append(pa.field(name, kind, metadata=metadata))
        arrays.append(pa.array([rows[i][1][place] for i in rows_], kind))
    for name, values in extra.items():
        array = pa.array([values[i] for i in rows_])
        fields.append(pa.field(name, array.type))
        arrays.append(array)
    return pa.table(arrays, schema=pa.schema(fields))
