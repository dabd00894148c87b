"""DESI coadds: three arms of many targets, merged on their common 0.8 Angstrom lattice."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mmclip.arrays import Array, floats, whole
from mmclip.errors import IntegrityError
from mmclip.modalities.spectra import MODALITY as SPECTRA
from mmclip.readers import Reader, files, views, wavelength
from mmclip.readers.files import Source
from mmclip.readers.spectra import Spectrum, columns_of
from mmclip.readers.tables import fits_table
from mmclip.readers.views import Options

SURVEY = "desi"
CITATIONS = {SURVEY: ("2024AJ....168...58D",)}
ARMS = ("B", "R", "Z")
LABELS = (
    "TARGETID", "OBJTYPE", "COADD_FIBERSTATUS", "PMRA", "PMDEC", "REF_CAT", "MORPHTYPE", "EBV",
    "FLUX_G", "FLUX_R", "FLUX_Z", "FLUX_W1", "FLUX_W2", "PHOTSYS", "DESI_TARGET", "BGS_TARGET",
    "MWS_TARGET", "COADD_NUMEXP", "COADD_EXPTIME", "TILEID",
)  # fmt: skip


def is_desi(units: list[Any]) -> bool:
    """True for a coadd (or spectra file) of DESI."""
    names = {u.name.upper() for u in units}
    return "FIBERMAP" in names and any(f"{a}_WAVELENGTH" in names for a in ARMS)


def merge(
    arms: Sequence[tuple[Array, Array, Array]],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Spectra of several arms on the union of their wavelengths, weighted by inverse variance.

    Args:
        arms: Of each arm the wavelength [n] (Angstrom), flux [objects, n] and inverse variance
            [objects, n], 0 where bad. Arms share one lattice, so nothing is resampled.

    Returns:
        wavelength [m], flux [objects, m] (NaN where nothing is good) and the summed inverse
        variance [objects, m].

    Source:
        The rule of desispec's `coadd_cameras`: overlapping samples are averaged with inverse
        variances as weights.
    """
    # Lattices are equal to far less than a thousandth of an Angstrom or are not equal at all.
    grid = np.unique(np.concatenate([np.round(w, 3) for w, _, _ in arms]))
    count = len(arms[0][1])
    weight, total = np.zeros((count, len(grid))), np.zeros((count, len(grid)))
    for wave, flux, ivar in arms:
        place = np.searchsorted(grid, np.round(wave, 3))
        good = np.isfinite(flux) & np.isfinite(ivar) & (ivar > 0)
        w = np.where(good, ivar, 0.0).astype(np.float64)
        weight[:, place] += w
        total[:, place] += w * np.where(good, flux, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return grid, np.where(weight > 0, total / weight, np.nan), weight


def held(
    units: list[Any], name: str
) -> tuple[pa.Table, list[tuple[NDArray[np.float64], Array, Array]]]:
    """The fibermap of a coadd and its arms for `merge`: HDUs are found by name, in any order.

    Raises:
        IntegrityError: If an arm has not one spectrum for each row of the fibermap.
    """
    by_name = {u.name.upper(): u for u in units}
    fibermap = fits_table(by_name["FIBERMAP"])
    arms = []
    for arm in ARMS:
        if f"{arm}_WAVELENGTH" not in by_name:
            continue
        wave = np.asarray(files.unpacked(by_name[f"{arm}_WAVELENGTH"], name), np.float64)
        flux = np.asarray(files.unpacked(by_name[f"{arm}_FLUX"], name))
        ivar = np.asarray(files.unpacked(by_name[f"{arm}_IVAR"], name))
        if f"{arm}_MASK" in by_name:
            ivar = np.where(files.unpacked(by_name[f"{arm}_MASK"], name) == 0, ivar, 0)
        if len(flux) != fibermap.num_rows:
            raise IntegrityError(
                f"{name}: {len(flux)} spectra for {fibermap.num_rows} rows of the FIBERMAP"
            )
        arms.append((wave, flux, ivar))
    return fibermap, arms


def read(source: Source) -> pa.Table:
    """All targets of one coadd file as a view table `spectra`.

    Wavelengths are in vacuum, barycentric, in the observed frame; flux in 1e-17 erg s-1 cm-2
    A-1. Sky fibres and targets with a set COADD_FIBERSTATUS are rejected with that reason.
    Objects are named by TARGETID. REF_ID is an id of Gaia DR2 (or Tycho-2) and is not used as a
    source_id: the MWS catalogue's HDU `GAIA` has DR3's.

    Raises:
        IntegrityError: If it is not a whole coadd.
    """
    name = files.label(source)
    with files.fits_units(source, True) as units, files.reading(name, "DESI"):
        if not is_desi(units):
            raise IntegrityError(f"{name} is not a DESI coadd", "--as spectra reads others too")
        fibermap, arms = held(units, name)
        grid, flux, ivar = merge(arms)
        sigma = wavelength.sigma(ivar)
        spectra: list[Spectrum | str] = [(grid, f, s) for f, s in zip(flux, sigma, strict=True)]
        columns, reasons = columns_of(spectra)
        header = units[0].header
        reasons = [w or r for w, r in zip(_wrong(fibermap), reasons, strict=True)]
        ra, dec = views.position(fibermap)
        kept = fibermap.select([n for n in LABELS if n in fibermap.column_names])
        labels = views.labels(kept, Options(), {"TARGETID"})
        for key in ("SURVEY", "PROGRAM"):
            if key in header:
                labels[key.lower()] = pa.array([str(header[key])] * fibermap.num_rows)
        return views.observations(
            SPECTRA,
            columns,
            source_id=pa.nulls(fibermap.num_rows, pa.int64()),
            object_name=pa.array([str(i) for i in whole(fibermap, "TARGETID").to_pylist()]),
            reasons=reasons,
            labels={n.lower(): a for n, a in labels.items()},
            ra=ra,
            dec=dec,
            survey=SURVEY,
        )


def _wrong(fibermap: pa.Table) -> list[str]:
    reasons = [""] * fibermap.num_rows
    if "COADD_FIBERSTATUS" in fibermap.column_names:
        for i, status in enumerate(floats(fibermap, "COADD_FIBERSTATUS")):
            reasons[i] = f"COADD_FIBERSTATUS is {int(status)}" if status != 0 else ""
    if "OBJTYPE" in fibermap.column_names:
        for i, kind in enumerate(whole(fibermap, "OBJTYPE").to_pylist()):
            if kind and kind.strip() != "TGT":
                reasons[i] = f"OBJTYPE is {kind.strip()}, no target"
    return reasons


READER = Reader(
    "desi",
    lambda source, units: is_desi(units),
    lambda source, modality, options: read(source),
    ("spectra",),
    CITATIONS,
)
