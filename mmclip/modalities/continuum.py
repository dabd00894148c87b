"""Pseudo-continuum normalisation and the 1462-pixel grid of low-resolution optical spectra.

Wavelengths are in Angstrom, in vacuum, and in the star's rest frame.

Source:
    Zhao et al. 2026, arXiv:2602.15021, and the grid and recipe of the same group's public code.
    There the places of the Balmer gaps are counted in the whole spectrum and used in its blue part,
    which differ where a spectrum starts below 3700 A; here they are found in the blue part itself.
"""

import numpy as np
from numpy.typing import NDArray

from mmclip.arrays import Array

LENGTH = 1462
LOG_FIRST, LOG_STEP = 3.602, 1e-4  # of log10(wavelength / angstrom)
BLUE, RED = (3700.0, 5700.0), 6100.0  # the red fit begins at RED
GAPS = ((4030.0, 4160.0), (4270.0, 4410.0), (4800.0, 4940.0))  # H delta, H gamma, H beta
ANCHOR = 10.0  # Angstrom: a gap is bridged between the maxima within this of its ends
EARLY = 4500.0  # nm: hot stars, whose first fit peaks below this, have their gaps bridged
FILTER = 7  # pixels of the median filter
SIGMAS_PER_FWHM = 1 / np.sqrt(8 * np.log(2))


def grid() -> Array:
    """The 1462 wavelengths, 3999 to 5598 A, equally spaced in their logarithm."""
    return 10 ** (LOG_FIRST + LOG_STEP * np.arange(LENGTH))


def continuum(wavelength: Array, flux: Array) -> Array:
    """Upper envelope of a spectrum: a quintic from 3700 to 5700 A, a quartic above 6100 A.

    Args:
        wavelength: [pixels] in Angstrom, increasing.
        flux: [pixels], any unit; finite.

    Returns:
        [pixels]; 1 where the fit is not positive, NaN outside both ranges or where a range has
        fewer than 20 pixels.
    """
    w = np.asarray(wavelength, np.float64)
    smooth = _median_filter(np.asarray(flux, np.float64))
    found = np.full(len(w), np.nan)
    blue, red = (w >= BLUE[0]) & (w <= BLUE[1]), w > RED
    if blue.sum() >= 20:
        found[blue] = _blue(w[blue], smooth[blue])
    if red.sum() >= 20:
        found[red] = _red(w[red], smooth[red])
    found[found <= 0] = 1.0
    return found


def normalised(
    wavelength: Array, flux: Array, error: Array | None = None
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """A spectrum over its pseudo-continuum, on the 1462-pixel grid.

    The continuum is divided out before the interpolation, which is linear in log wavelength.

    Args:
        wavelength: [pixels] in Angstrom, increasing.
        flux: [pixels], any unit; NaN is a bad pixel.
        error: [pixels], 1-sigma in the same unit, or None.

    Returns:
        Flux and its error, relative to the continuum; NaN where a neighbouring pixel is bad or
        the instrument did not reach. The error is NaN where none is known.
    """
    w, f = np.asarray(wavelength, np.float64), np.asarray(flux, np.float64)
    e = np.full(len(f), np.nan) if error is None else np.asarray(error, np.float64)
    good = np.isfinite(f) & np.isfinite(w)
    nothing = np.full(LENGTH, np.nan, np.float32)
    if good.sum() < 20:
        return nothing, nothing
    level = continuum(w[good], f[good])
    relative, spread = np.full(len(f), np.nan), np.full(len(f), np.nan)
    relative[good], spread[good] = f[good] / level, e[good] / np.abs(level)
    # NaN spreads through the interpolation to both neighbours of a bad pixel.
    at, known = np.log10(grid()), np.log10(w)
    on_grid = [np.interp(at, known, v, left=np.nan, right=np.nan) for v in (relative, spread)]
    return on_grid[0].astype(np.float32), on_grid[1].astype(np.float32)


def blur(wavelength: Array, flux: Array, fwhm: Array) -> Array:
    """Spectra convolved with a Gaussian whose width may vary with wavelength.

    Args:
        wavelength: [pixels] in Angstrom, increasing.
        flux: [spectra, pixels]; a NaN pixel stays NaN and does not spread.
        fwhm: [pixels] or a number: full width at half maximum, Angstrom; 0 changes nothing.
    """
    w = np.asarray(wavelength, np.float64)
    width = np.abs(np.gradient(w))
    sigma = np.maximum(np.asarray(fwhm, np.float64) * SIGMAS_PER_FWHM, 1e-6 * width)
    reach = int(np.ceil(4 * (sigma / width).max()))
    seen = np.isfinite(flux)
    filled = np.where(seen, flux, 0.0)
    total, weight = np.zeros(filled.shape), np.zeros(filled.shape)
    pixels = np.arange(len(w))
    for shift in range(-reach, reach + 1):
        inside = (pixels + shift >= 0) & (pixels + shift < len(w))
        at = np.clip(pixels + shift, 0, len(w) - 1)
        share = inside * width[at] * np.exp(-0.5 * ((w[at] - w) / sigma) ** 2)
        total += filled[:, at] * share
        weight += seen[:, at] * share
    return np.where(seen, total / np.where(seen, weight, 1.0), np.nan)


def matching_fwhm(wavelength: Array, sharp: Array, broad: Array) -> Array:
    """FWHM (Angstrom) of the Gaussian that takes a resolution to a broader one; 0 where it is not.

    Args:
        wavelength: [pixels] in Angstrom.
        sharp, broad: FWHM in Angstrom, at each pixel or one number.
    """
    difference = np.asarray(broad, np.float64) ** 2 - np.asarray(sharp, np.float64) ** 2
    return np.broadcast_to(np.sqrt(np.maximum(difference, 0.0)), np.shape(wavelength)).copy()


def _median_filter(flux: Array) -> Array:
    half = FILTER // 2
    padded = np.pad(flux, half, mode="edge")
    return np.median(np.lib.stride_tricks.sliding_window_view(padded, FILTER), axis=1)


def _basis(w: Array, degree: int) -> Array:
    """Orthonormal columns that span the polynomials up to `degree`: a fit is Q (Q^T y)."""
    x = (w - w[0]) / (w[-1] - w[0]) * 2 - 1
    orthonormal: Array = np.linalg.qr(np.polynomial.legendre.legvander(x, degree))[0]
    return orthonormal


def _blue(w: Array, y: Array) -> Array:
    q = _basis(w, 5)
    fit = q @ (q.T @ y)
    if w[np.argmax(fit)] < EARLY:
        y = _bridged(w, y)
        fit = q @ (q.T @ y)
    for _ in range(10):
        y = np.maximum(fit, y)
        fit = q @ (q.T @ y)
    return fit


def _bridged(w: Array, y: Array) -> Array:
    """Balmer lines replaced by straight lines between the maxima near their ends."""
    y = y.copy()
    for low, high in GAPS:
        ends = []
        for end in (low, high):
            near = np.flatnonzero(np.abs(w - end) <= ANCHOR)
            if len(near):
                ends.append(near[np.argmax(y[near])])
        if len(ends) == 2:
            a, b = ends
            y[a : b + 1] = np.interp(w[a : b + 1], w[[a, b]], y[[a, b]])
    return y


def _red(w: Array, y: Array) -> Array:
    q = _basis(w, 4)
    fit = q @ (q.T @ y)
    for _ in range(9):
        off = y - fit
        y = np.where((off < 0) | (off > 3 * off.std()), fit, y)
        fit = q @ (q.T @ y)
    return fit
