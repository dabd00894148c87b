"""Gaia RVS mean spectrum: 846-870 nm in vacuum, in even steps, continuum-normalised.

DR3 has 2401 samples of 0.01 nm; of another release as many as its data hold.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmclip.arrays import Array, lists
from mmclip.config import Json, Size
from mmclip.modalities import Column, Columns, Modality, Prepared
from mmclip.modalities.robust import padded
from mmclip.modalities.settings import one_of

LENGTH = 2401
GOOD_FRACTION = 0.5


@dataclass(frozen=True)
class RvsSettings:
    """How spectra are scaled (open in Schwarz & Buck 2024, arXiv:2410.16081)."""

    samples: Size = LENGTH  # taken from the data unless given
    scale: str = "pixel"  # each pixel over the training split | spectrum: each spectrum by itself


def wavelength(samples: int = LENGTH) -> Array:
    """Wavelength of each sample, nm in vacuum ([samples])."""
    return np.linspace(846.0, 870.0, samples)


def labels(samples: int = LENGTH) -> list[str]:
    """Names of the prepared values."""
    return [f"{w:.2f} nm" for w in wavelength(samples)]


def detect(columns: Columns, given: Mapping[str, Any]) -> Json:
    """The number of samples, unless it was given."""
    samples = int(lists(columns["flux"]).lengths.max(initial=0)) if "flux" in columns else 0
    return {} if "samples" in given or samples in (0, LENGTH) else {"samples": samples}


def prepare(columns: Columns, settings: RvsSettings) -> Prepared:
    """Keep the normalised flux as it is; the ends, often NaN, stay missing.

    With scale `spectrum` each is (flux - mean) / std of its own good pixels.

    Args:
        columns: `flux` and `flux_error` [stars, samples], relative to the continuum; `wavelength`
            (nm) where the release has another number of samples than DR3.

    Returns:
        [stars, samples]. Rejected: fewer than half of the pixels good; no spread to scale by;
        another number of samples, or other wavelengths than the steps from 846 to 870 nm.
    """
    flux, error = (_matrix(columns[n], settings.samples) for n in ("flux", "flux_error"))
    good = np.isfinite(flux) & np.isfinite(error) & (error > 0)
    reasons = np.full(len(flux), "", object)
    reasons[good.mean(axis=1) < GOOD_FRACTION] = "fewer than half of the pixels are good"
    lengths = lists(columns["flux"]).lengths
    other = (lengths != settings.samples) & (lengths > 0)
    reasons[other] = [f"{n} samples, not {settings.samples}" for n in lengths[other]]
    if columns.get("wavelength") is not None:
        grid = wavelength(settings.samples)
        away = np.abs(_matrix(columns["wavelength"], settings.samples) - grid)
        off = (away > 0.1 * (grid[1] - grid[0])).any(axis=1) if len(grid) > 1 else away[:, 0] > 0
        reasons[off & (reasons == "")] = "wavelengths are not even steps from 846 to 870 nm"
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


def _matrix(rows: Any, samples: int) -> NDArray[np.float32]:
    held = lists(rows)
    return padded(held, np.arange(len(held)), samples).astype(np.float32)


def configure(settings: RvsSettings) -> Modality:
    """The modality under these settings."""
    one_of("rvs.scale", settings.scale, ("pixel", "spectrum"))
    alone = settings.scale == "spectrum"
    flux = Column("flux", "relative", "flux over the continuum, 846-870 nm step 0.01 nm", LENGTH)
    error = Column("flux_error", "relative", "its 1-sigma uncertainty", LENGTH)
    columns = [replace(c, length=settings.samples) for c in (flux, error)]
    if settings.samples != LENGTH:
        columns += [Column("wavelength", "nm", "in vacuum", settings.samples, True, (), "float64")]
    return Modality(
        name="rvs",
        title="Gaia RVS spectrum",
        columns=tuple(columns),
        raw=(flux, error),
        labels=partial(labels, settings.samples),
        unit="(flux - mean) / std" if alone else "flux / continuum",
        prepare=partial(prepare, settings=settings),
        encoder="cnn",
        kind="spectrum",
        axis=partial(wavelength, settings.samples),
        axis_unit="nm",
        normalisation="none" if alone else "",
        settings=settings,
        configure=configure,
        detect=detect,
    )


MODALITY = configure(RvsSettings())
