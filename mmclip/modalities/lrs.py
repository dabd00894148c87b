"""Low-resolution optical spectrum over its pseudo-continuum: 400-560 nm, 1462 pixels, at rest.

The view in which surveys of different flux calibration look alike. `_continuum.normalised` makes
the raw columns from a spectrum on any grid.
"""

import numpy as np

from mmclip.modalities import Array, Column, Columns, Modality, Prepared
from mmclip.modalities._continuum import LENGTH, grid

GOOD_FRACTION = 0.5


def labels() -> list[str]:
    """Names of the prepared values."""
    return [f"{w:.3f} nm" for w in grid()]


def wavelength() -> Array:
    """Wavelength of each pixel, nm in vacuum ([1462])."""
    return grid()


def prepare(columns: Columns) -> Prepared:
    """Keep the relative flux; a pixel without a finite flux stays missing.

    Args:
        columns: `flux` and `flux_error` [stars, 1462], relative to the pseudo-continuum; the
            errors may be NaN where the survey gives none.

    Returns:
        [stars, 1462]. Rejected: fewer than half of the pixels good.
    """
    flux = np.asarray(columns["flux"], np.float32)
    error = np.asarray(columns["flux_error"], np.float32)
    good = np.isfinite(flux) & ~(error <= 0)
    reasons = np.full(len(flux), "", object)
    reasons[good.mean(axis=1) < GOOD_FRACTION] = "fewer than half of the pixels are good"
    nan = np.float32(np.nan)
    return Prepared(np.where(good, flux, nan), np.where(good, error, nan), reasons)


MODALITY = Modality(
    name="lrs",
    title="Low-resolution spectrum over its pseudo-continuum",
    columns=(
        Column("flux", "relative", "flux over the pseudo-continuum, rest frame", LENGTH),
        Column("flux_error", "relative", "its 1-sigma uncertainty; NaN if not known", LENGTH),
    ),
    labels=labels,
    unit="flux / pseudo-continuum",
    prepare=prepare,
    encoder="cnn",
    axis=wavelength,
    axis_unit="nm",
)
