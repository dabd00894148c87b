"""Gaia BP/RP spectrum, sampled: flux over its median, 380-1000 nm in steps of 2 nm.

The ends of the sampled range (336-380 and 1000-1020 nm) are noise for most stars and are left
out; wavelengths are in vacuum, fluxes per unit wavelength.
"""

import numpy as np

from mmclip.arrays import Array
from mmclip.modalities import Column, Columns, Modality, Prepared

SAMPLED = np.arange(336.0, 1021.0, 2.0)  # nm; GaiaXPy's range in steps of 2 nm, 343 samples
INSIDE = (SAMPLED >= 380.0) & (SAMPLED <= 1000.0)
GOOD_FRACTION = 0.5  # of the pixels, below which a spectrum is rejected


def wavelength() -> Array:
    """Wavelength of each prepared value, nm in vacuum ([311])."""
    return SAMPLED[INSIDE]


def labels() -> list[str]:
    """Names of the prepared values."""
    return [f"{w:.0f} nm" for w in wavelength()]


def prepare(columns: Columns) -> Prepared:
    """Cut the noisy ends off and divide each spectrum by its median.

    Args:
        columns: `flux` and `flux_error` [stars, 343], any common unit; a non-finite flux, or an
            error that is not positive, marks a bad pixel.

    Returns:
        Relative flux [stars, 311]. Rejected: fewer than half of the pixels good, or a median
        that is not positive.
    """
    flux = np.asarray(columns["flux"], np.float64)[:, INSIDE]
    error = np.asarray(columns["flux_error"], np.float64)[:, INSIDE]
    good = np.isfinite(flux) & np.isfinite(error) & (error > 0)
    enough = good.mean(axis=1) >= GOOD_FRACTION
    flux = np.where(good, flux, np.nan)
    median = np.full(len(flux), np.nan)
    median[enough] = np.nanmedian(flux[enough], axis=1)
    positive = np.nan_to_num(median) > 0
    divisor = np.where(positive, median, np.nan)[:, None]
    reasons = np.full(len(flux), "", object)
    reasons[~positive] = "median flux is not positive"
    reasons[~enough] = "fewer than half of the pixels are good"
    return Prepared(
        (flux / divisor).astype(np.float32),
        (np.where(good, error, np.nan) / divisor).astype(np.float32),
        reasons,
    )


MODALITY = Modality(
    name="xp",
    title="Gaia XP sampled spectrum",
    columns=(
        Column("flux", "relative", "spectral flux density, 336-1020 nm step 2 nm", 343),
        Column("flux_error", "relative", "its 1-sigma uncertainty", 343),
    ),
    labels=labels,
    unit="flux / median",
    prepare=prepare,
    encoder="pca-mlp",
    kind="spectrum",
    axis=wavelength,
    axis_unit="nm",
)
