"""Gaia RVS mean spectrum: 846-870 nm in vacuum, 2401 samples of 0.01 nm, continuum-normalised."""

from dataclasses import dataclass
from functools import partial

import numpy as np

from mmclip.arrays import Array
from mmclip.modalities import Column, Columns, Modality, Prepared
from mmclip.modalities.settings import one_of

LENGTH = 2401
GOOD_FRACTION = 0.5


@dataclass(frozen=True)
class RvsSettings:
    """How spectra are scaled (open in Schwarz & Buck 2024, arXiv:2410.16081)."""

    scale: str = "pixel"  # each pixel over the training split | spectrum: each spectrum by itself


def wavelength() -> Array:
    """Wavelength of each sample, nm in vacuum ([2401])."""
    return np.linspace(846.0, 870.0, LENGTH)


def labels() -> list[str]:
    """Names of the prepared values."""
    return [f"{w:.2f} nm" for w in wavelength()]


def prepare(columns: Columns, settings: RvsSettings) -> Prepared:
    """Keep the normalised flux as it is; the ends, often NaN, stay missing.

    With scale `spectrum` each is (flux - mean) / std of its own good pixels.

    Args:
        columns: `flux` and `flux_error` [stars, 2401], relative to the continuum.

    Returns:
        [stars, 2401]. Rejected: fewer than half of the pixels good; no spread to scale by.
    """
    flux = np.asarray(columns["flux"], np.float32)
    error = np.asarray(columns["flux_error"], np.float32)
    good = np.isfinite(flux) & np.isfinite(error) & (error > 0)
    reasons = np.full(len(flux), "", object)
    reasons[good.mean(axis=1) < GOOD_FRACTION] = "fewer than half of the pixels are good"
    nan = np.float32(np.nan)
    values: Array = np.where(good, flux, nan)
    errors: Array = np.where(good, error, nan)
    if settings.scale == "spectrum":
        count = np.maximum(good.sum(axis=1), 1)
        mean = np.where(good, flux, 0).sum(axis=1, dtype=np.float64) / count
        apart = np.where(good, flux - mean[:, None], 0.0)
        std = np.sqrt((apart**2).sum(axis=1) / count)
        reasons[(reasons == "") & ~(std > 1e-7 * np.abs(mean))] = "flux does not vary"
        std = np.where(reasons == "", std, np.nan)[:, None]
        values, errors = (values - mean[:, None]) / std, errors / std
    return Prepared(values.astype(np.float32), errors.astype(np.float32), reasons)


def configure(settings: RvsSettings) -> Modality:
    """The modality under these settings."""
    one_of("rvs.scale", settings.scale, ("pixel", "spectrum"))
    alone = settings.scale == "spectrum"
    return Modality(
        name="rvs",
        title="Gaia RVS spectrum",
        columns=(
            Column("flux", "relative", "flux over the continuum, 846-870 nm step 0.01 nm", LENGTH),
            Column("flux_error", "relative", "its 1-sigma uncertainty", LENGTH),
        ),
        labels=labels,
        unit="(flux - mean) / std" if alone else "flux / continuum",
        prepare=partial(prepare, settings=settings),
        encoder="cnn",
        kind="spectrum",
        axis=wavelength,
        axis_unit="nm",
        normalisation="none" if alone else "",
        settings=settings,
        configure=configure,
    )


MODALITY = configure(RvsSettings())
