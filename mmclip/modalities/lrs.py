"""Low-resolution optical spectrum over its pseudo-continuum: 4000-5598 A, 1462 pixels.

The view in which surveys of different flux calibration look alike; read from the raw view
`spectra`. Source: Zhao et al. 2026, arXiv:2602.15021; see `continuum`.
"""

from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from mmclip.arrays import Array, lists
from mmclip.config import Part
from mmclip.modalities import Columns, Modality, Prepared
from mmclip.modalities.air import vacuum
from mmclip.modalities.continuum import grid, normalised
from mmclip.modalities.settings import one_of
from mmclip.modalities.spectra import COLUMNS


@dataclass(frozen=True)
class LrsSettings:
    """How spectra are brought to the grid."""

    medium: str = "vacuum"  # of the raw wavelengths: vacuum | air
    rest_frame: bool = False  # divide wavelengths by 1 + redshift
    good_fraction: Part = 0.5  # of the grid that must be observed


def prepare(columns: Columns, settings: LrsSettings) -> Prepared:
    """Divide each spectrum by its pseudo-continuum, then interpolate it.

    Args:
        columns: `wavelength` [Angstrom], `flux`, `sigma` (1-sigma, optional): lists; NaN in flux
            or sigma, or sigma <= 0, marks a bad pixel. `redshift` [rows], for the rest frame.

    Returns:
        [rows, 1462] relative flux and its error. Rejected: too little of the grid observed, no
        redshift where the rest frame is wanted.
    """
    waves, flux = lists(columns["wavelength"]), lists(columns["flux"])
    sigma = None if columns.get("sigma") is None else lists(columns["sigma"])
    redshift = np.zeros(len(flux))
    if settings.rest_frame:
        redshift = np.asarray(columns["redshift"], np.float64)
    values = np.full((len(flux), len(grid())), np.nan, np.float32)
    errors = values.copy()
    reasons = np.full(len(flux), "", object)
    for row in range(len(flux)):
        if not (np.isfinite(redshift[row]) and redshift[row] > -1):
            reasons[row] = "no redshift"
            continue
        spread = None if sigma is None else np.asarray(sigma[row], np.float64)
        values[row], errors[row] = _one(waves[row], flux[row], spread, redshift[row], settings)
    few = np.isfinite(values).mean(axis=1) < settings.good_fraction
    reasons[(reasons == "") & few] = (
        f"less than {settings.good_fraction:.0%} of the grid is observed"
    )
    return Prepared(values, None if sigma is None else errors, reasons)


def _one(
    wavelength: Array, flux: Array, sigma: Array | None, redshift: float, settings: LrsSettings
) -> tuple[Array, Array]:
    w: Array = np.asarray(wavelength, np.float64)
    f = np.asarray(flux, np.float64)
    order = np.argsort(w)
    order = order[w[order] > 0]  # entries that are not positive are padding
    w, f = w[order], f[order]
    if sigma is not None:
        sigma = sigma[order]
        # An error that is not known anywhere marks no pixel as bad.
        if np.isfinite(sigma).any():
            f = np.where(np.isfinite(sigma) & (sigma > 0), f, np.nan)
    if settings.medium == "air":
        w = vacuum(w)
    return normalised(w / (1 + redshift), f, sigma)


def labels() -> list[str]:
    """Names of the prepared values."""
    return [f"{w:.2f} A" for w in grid()]


def configure(settings: LrsSettings) -> Modality:
    """The modality under these settings.

    Raises:
        UsageError: If the medium is not known.
    """
    one_of("lrs.medium", settings.medium, ("vacuum", "air"))
    needed = [
        replace(c, optional=False) if c.name == "redshift" and settings.rest_frame else c
        for c in COLUMNS
    ]
    return Modality(
        name="lrs",
        title="Low-resolution spectrum over its pseudo-continuum",
        columns=tuple(needed),
        labels=labels,
        unit="flux / pseudo-continuum",
        prepare=partial(prepare, settings=settings),
        encoder="cnn",
        kind="spectrum",
        axis=grid,
        axis_unit="Angstrom",
        view="spectra",
        settings=settings,
        configure=configure,
    )


MODALITY = configure(LrsSettings())
