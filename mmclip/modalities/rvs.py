"""Gaia RVS mean spectrum: 846-870 nm in vacuum, 2401 samples of 0.01 nm, continuum-normalised."""

import numpy as np

from mmclip.modalities import Array, Column, Columns, Modality, Prepared

LENGTH = 2401
GOOD_FRACTION = 0.5


def wavelength() -> Array:
    """Wavelength of each sample, nm in vacuum ([2401])."""
    return np.linspace(846.0, 870.0, LENGTH)


def labels() -> list[str]:
    """Names of the prepared values."""
    return [f"{w:.2f} nm" for w in wavelength()]


def prepare(columns: Columns) -> Prepared:
    """Keep the normalised flux as it is; the ends, often NaN, stay missing.

    Args:
        columns: `flux` and `flux_error` [stars, 2401], relative to the continuum.

    Returns:
        [stars, 2401]. Rejected: fewer than half of the pixels good.
    """
    flux = np.asarray(columns["flux"], np.float32)
    error = np.asarray(columns["flux_error"], np.float32)
    good = np.isfinite(flux) & np.isfinite(error) & (error > 0)
    reasons = np.full(len(flux), "", object)
    reasons[good.mean(axis=1) < GOOD_FRACTION] = "fewer than half of the pixels are good"
    nan = np.float32(np.nan)
    return Prepared(np.where(good, flux, nan), np.where(good, error, nan), reasons)


MODALITY = Modality(
    name="rvs",
    title="Gaia RVS spectrum",
    columns=(
        Column("flux", "relative", "flux over the continuum, 846-870 nm step 0.01 nm", LENGTH),
        Column("flux_error", "relative", "its 1-sigma uncertainty", LENGTH),
    ),
    labels=labels,
    unit="flux / continuum",
    prepare=prepare,
    encoder="cnn",
    axis=wavelength,
    axis_unit="nm",
)
