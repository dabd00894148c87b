"""Optical spectra of LAMOST, DESI, SDSS and the like, on one grid: 2 Angstrom, 3850-9000 A.

Sources: Rizhko & Bloom 2025 (arXiv:2411.08842) for the grid and the scaling; Carnall 2017
(arXiv:1705.05165) for resampling that conserves flux.
"""

from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from mmclip.arrays import Array, Lists, lists
from mmclip.config import AtLeast0, Part, Positive, Size
from mmclip.errors import UsageError
from mmclip.modalities import Column, Columns, Export, Modality, Prepared, multimodal
from mmclip.modalities.air import air, vacuum
from mmclip.modalities.resample import Resampled, interpolate, resample
from mmclip.modalities.robust import mad, median
from mmclip.modalities.settings import one_of

COLUMNS = (
    Column("wavelength", "Angstrom", "in vacuum, increasing; frame as in the file", 0,
           number="float64"),
    Column("flux", "any", "spectral flux density; NaN = bad pixel", 0),
    Column("sigma", "as flux", "1-sigma uncertainty; NaN = bad pixel; null if unknown", 0, True),
    Column("redshift", "", "of the source, for the rest frame", 1, True, ("z",), "float64"),
    Column("prepared", "", "AstroM3's three channels on its grid, as published", 0, True),
)  # fmt: skip
CHANNELS = ("flux", "error", "log10 MAD")


@dataclass(frozen=True)
class SpectraSettings:
    """How spectra are put on a grid and scaled."""

    start: Positive = 3850.0  # first pixel, Angstrom; with spacing "log" its log10
    step: Positive = 2.0  # Angstrom; with spacing "log" in log10
    pixels: Size = 2575  # 3850, 3852, ... 8998 A
    spacing: str = "linear"  # linear | log
    resampling: str = "flux"  # flux (conserving) | linear (np.interp)
    medium: str = "vacuum"  # of the raw wavelengths: vacuum | air
    grid_medium: str = "vacuum"  # of the grid
    rest_frame: bool = False  # divide wavelengths by 1 + redshift
    scale: str = "mad"  # (f - mean) / MAD | z: (f - mean) / std | median: f / median | none
    smallest_std: AtLeast0 = 0.0  # floor of the std with scale "z" (AstroCLIP: 0.2)
    good_fraction: Part = 0.5  # of the grid that must be observed
    form: str = "flux"  # flux: [pixels] | channels: [3, pixels] flux, error, log10 MAD
    mask: bool = True  # false: bad pixels are used and ends held, as AstroM3's code does
    error: str = "sigma"  # of form "channels": sigma | ivar (AstroM3's code divides ivar by MAD)


def grid(settings: SpectraSettings) -> Array:
    """Wavelength of each pixel, Angstrom ([pixels])."""
    steps = settings.start + settings.step * np.arange(settings.pixels)
    return 10.0**steps if settings.spacing == "log" else steps


def prepare(columns: Columns, settings: SpectraSettings) -> Prepared:
    """Resample to the grid and scale each spectrum by itself.

    Args:
        columns: `wavelength` [Angstrom], `flux`, `sigma` (1-sigma, optional): lists; NaN in flux
            or sigma, or sigma <= 0, marks a bad pixel. `redshift` [rows], for the rest frame.
            `prepared`, the channels as AstroM3 published them, is taken as it is in form
            `channels`.

    Returns:
        [rows, pixels] scaled flux and its error, or [rows, 3 x pixels] in form `channels`.
        Rejected: too little of the grid observed, a spectrum that does not vary, no redshift.

    Source:
        Rizhko & Bloom 2025, section 2: mean over all points, unscaled median absolute deviation
        over points whose flux is not zero.
    """
    if "prepared" in columns and settings.form == "channels":
        return _published(lists(columns["prepared"]), settings)
    flux, sigma = lists(columns["flux"]), columns.get("sigma")
    error = None if sigma is None else lists(sigma)
    reasons = np.full(len(flux), "", object)
    waves = _shifted(lists(columns["wavelength"]), columns, settings, reasons)
    at = grid(settings)
    if settings.mask:
        made = resample(waves, flux, error, at, settings.resampling)
    else:
        made = _as_published(waves, flux, error, at, settings.error)
    reasons = np.where(reasons == "", made.problem, reasons)
    enough = np.isfinite(made.flux).mean(axis=1) >= settings.good_fraction
    reasons[(reasons == "") & ~enough] = (
        f"less than {settings.good_fraction:.0%} of the grid is observed"
    )
    centre, scale, reasons = _scale(made.flux, settings, reasons)
    with np.errstate(invalid="ignore", divide="ignore"):
        values = (made.flux - centre[:, None]) / scale[:, None]
        errors = made.error / scale[:, None]
        level = np.log10(scale)
    if settings.form == "flux":
        known = None if error is None else errors.astype(np.float32)
        return Prepared(values.astype(np.float32), known, reasons)
    if settings.mask and settings.error == "ivar":
        with np.errstate(divide="ignore", invalid="ignore"):
            errors = made.error**-2 / scale[:, None]
    tiled = np.where(np.isfinite(values), level[:, None], np.nan)
    channels = np.concatenate([values, errors, tiled], axis=1)
    return Prepared(channels.astype(np.float32), None, reasons)


def _published(given: Lists, settings: SpectraSettings) -> Prepared:
    """Channels that were put on the grid and scaled by others."""
    size = len(CHANNELS) * settings.pixels
    reasons = np.full(len(given), "", object)
    other = given.lengths != size
    reasons[other] = f"not {len(CHANNELS)} x {settings.pixels} published values"
    values = np.full((len(given), size), np.nan, np.float32)
    values[~other] = given.values[np.repeat(~other, given.lengths)].reshape(-1, size)
    return Prepared(values, None, reasons)


def _shifted(
    waves: Lists, columns: Columns, settings: SpectraSettings, reasons: NDArray[np.object_]
) -> Lists:
    values = waves.values
    if settings.medium != settings.grid_medium:
        change = vacuum if settings.medium == "air" else air
        values = change(values.astype(np.float64))
    if settings.rest_frame:
        if "redshift" not in columns:
            raise UsageError(
                "spectra: rest_frame needs a raw column redshift, and there is none",
                "--set spectra.rest_frame=false",
            )
        redshift = np.asarray(columns["redshift"], np.float64)
        reasons[~(np.isfinite(redshift) & (redshift > -1))] = "no redshift"
        factor = np.where(reasons == "", 1 + redshift, 1.0)
        values = values / np.repeat(factor, waves.lengths)
    return Lists(values, waves.offsets)


def _as_published(
    waves: Lists, flux: Lists, error: Lists | None, at: Array, kind: str
) -> Resampled:
    """np.interp of flux and error, bad pixels used as they are, ends held."""
    values = interpolate(waves, flux, at)
    if error is None:
        errors = np.full_like(values, np.nan)
    elif kind == "ivar":
        with np.errstate(divide="ignore", over="ignore"):
            ivar = np.where(error.values > 0, 1.0 / np.square(error.values.astype(float)), 0.0)
        errors = interpolate(waves, Lists(np.nan_to_num(ivar, posinf=0.0), error.offsets), at)
    else:
        errors = interpolate(waves, error, at)
    return Resampled(values, errors, np.full(len(flux), "", object))


def _scale(
    flux: Array, settings: SpectraSettings, reasons: NDArray[np.object_]
) -> tuple[Array, Array, NDArray[np.object_]]:
    """Centre and scale of each row; a row that has none is named."""
    rows = len(flux)
    if settings.scale == "none":
        return np.zeros(rows), np.ones(rows), reasons
    seen = np.isfinite(flux)
    count = np.maximum(seen.sum(axis=1), 1)
    clean = flux if seen.all() else np.where(seen, flux, 0.0)
    mean = clean.sum(axis=1) / count
    if settings.scale == "median":
        centre, scale = np.zeros(rows), median(flux)
        problem = "median flux is not positive"
    elif settings.scale == "z":
        square = np.where(seen, flux - mean[:, None], 0.0) ** 2
        scale = np.maximum(np.sqrt(square.sum(axis=1) / count), settings.smallest_std)
        centre, problem = mean, "flux does not vary"
    else:
        zeros = clean == 0
        scale = mad(np.where(zeros, np.nan, flux) if zeros.any() else flux)
        centre, problem = mean, "flux does not vary (MAD = 0)"
    # Below: rounding of a constant, not a spread. A floor that the user gave counts as a spread.
    flat = settings.smallest_std if settings.scale == "z" else 0.0
    small = ~(scale > np.where(flat > 0, 0.0, 1e-12 * np.abs(mean)))
    reasons = np.where((reasons == "") & small, problem, reasons)
    return centre, np.where(small, np.nan, scale), reasons


def labels(settings: SpectraSettings) -> list[str]:
    """Names of the prepared values."""
    names = [f"{w:.2f} A" for w in grid(settings)]
    if settings.form == "flux":
        return names
    return [f"{channel} at {name}" for channel in CHANNELS for name in names]


def configure(settings: SpectraSettings) -> Modality:
    """The modality under these settings.

    Raises:
        UsageError: If a setting is not one of the known ones.
    """
    one_of("spectra.spacing", settings.spacing, ("linear", "log"))
    one_of("spectra.resampling", settings.resampling, ("flux", "linear"))
    one_of("spectra.medium", settings.medium, ("vacuum", "air"))
    one_of("spectra.grid_medium", settings.grid_medium, ("vacuum", "air"))
    one_of("spectra.scale", settings.scale, ("mad", "z", "median", "none"))
    one_of("spectra.form", settings.form, ("flux", "channels"))
    one_of("spectra.error", settings.error, ("sigma", "ivar"))
    if settings.pixels < 2 or settings.step <= 0:
        raise UsageError(
            f"spectra: a grid of {settings.pixels} pixels in steps of {settings.step} is none",
            "--set spectra.pixels=2575 --set spectra.step=2",
        )
    flux = settings.form == "flux"
    return Modality(
        name="spectra",
        title="Optical spectrum",
        columns=COLUMNS,
        labels=partial(labels, settings),
        unit={"mad": "(flux - mean) / MAD", "z": "(flux - mean) / std", "median": "flux / median"}
        .get(settings.scale, "as observed"),
        prepare=partial(prepare, settings=settings),
        encoder="cnn",
        kind="spectrum",
        axis=partial(grid, settings) if flux else None,
        axis_unit="Angstrom" if flux else "",
        shape=() if flux else (3, settings.pixels),
        normalisation="" if settings.scale == "none" else "none",
        aliases=("spectrum",),
        export=Export("spectrum", ("wavelength", "flux"), multimodal.spectra),
        settings=settings,
        configure=configure,
    )  # fmt: skip


MODALITY = configure(SpectraSettings())
