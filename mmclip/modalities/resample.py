"""Spectra onto one wavelength grid: weights once for each distinct sampling, then one product.

Spectra of one survey mostly share their sampling. The weights of a sampling are a sparse matrix
[pixels of the grid, pixels of the spectrum] with few entries a row, applied to all its spectra.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from mmclip import compiled
from mmclip.arrays import Array, Lists

CHUNK = 64  # spectra compared at once, so that they stay in the processor's cache
FEW = 4  # spectra of one sampling, below which linear weights are not worth a matrix
ROWS = 8  # spectra in one product
MANY = 2000  # spectra that are worth loading what numba has compiled, about a second


@dataclass(frozen=True)
class Resampled:
    """Spectra on the grid.

    Attributes:
        flux, error: [rows, pixels]; NaN where not observed. `error` is NaN where unknown.
        problem: [rows] of text; empty unless the sampling of a spectrum cannot be used.
    """

    flux: Array
    error: Array
    problem: NDArray[np.object_]


def resample(
    wavelength: Lists,
    flux: Lists,
    error: Lists | None,
    grid: Array,
    method: str = "flux",
    coverage: float = 0.5,
) -> Resampled:
    """Put spectra on a grid; bad pixels (flux or error not finite, error <= 0) have no weight.

    Args:
        wavelength: In the unit of `grid`, any order; entries that are not positive are padding.
        flux: Flux density.
        error: 1-sigma; None, or not finite throughout a spectrum: unknown.
        grid: Centres, increasing.
        method: `flux` conserves flux: a grid pixel is the mean flux density of the pixels that
            it overlaps, by the width of the overlap (Carnall 2017, arXiv:1705.05165). `linear`
            interpolates as np.interp does; a point beside a bad pixel is bad.
        coverage: With `flux`, the fraction of a grid pixel that good pixels must cover.

    Returns:
        `Resampled`. Pixels of the grid count as independent: errors add in quadrature, and the
        covariance that resampling makes between neighbours is not kept.
    """
    out = np.full((len(flux), len(grid)), np.nan)
    out_error = np.full_like(out, np.nan)
    problem = np.full(len(flux), "", object)
    uneven = wavelength.lengths != flux.lengths
    if error is not None:
        uneven |= wavelength.lengths != error.lengths
    problem[uneven] = "wavelength, flux and error differ in length"
    done = uneven.copy()
    if method == "linear":
        _by_rows(wavelength, flux, error, grid, False, out, out_error, done)
    for rows, waves in samplings(wavelength, np.flatnonzero(~done)):
        order = usable(waves)
        if len(order) < 2:
            problem[rows] = "fewer than two pixels with a wavelength"
            continue
        f = _pick(_matrix(flux, rows), order)
        e = None if error is None else _pick(_matrix(error, rows), order)
        out[rows], out_error[rows] = _one_sampling(waves[order], f, e, grid, method, coverage)
    return Resampled(out, out_error, problem)


def _one_sampling(
    waves: Array, flux: Array, error: Array | None, grid: Array, method: str, coverage: float
) -> tuple[Array, Array]:
    good = np.isfinite(flux)
    known = np.zeros(len(flux), bool)
    if error is not None:
        finite = np.isfinite(error) & (error > 0)
        known = np.asarray(finite.any(axis=1), bool)
        good &= finite | ~known[:, None]
    if method == "linear" and len(flux) < FEW:
        return _linear_few(waves, flux, error, good, known, grid)
    clean = bool(good.all())
    weights = linear_weights(waves, grid) if method == "linear" else overlaps(waves, grid)
    whole = weights.sum(axis=1)
    if method == "linear":
        inside = (grid >= waves[0]) & (grid <= waves[-1])
        near_bad: Array = np.zeros((1, 1)) if clean else _apply(weights, ~good)
        seen = np.broadcast_to(inside & (near_bad == 0), (len(flux), len(grid)))
        divisor: Array = np.asarray(whole)
    else:
        divisor = whole if clean else _apply(weights, good)
        wanted = coverage * np.diff(edges(grid)) * (1 - 1e-9)
        seen = np.broadcast_to(divisor > wanted, (len(flux), len(grid)))
    share = np.where(seen, divisor, np.nan)
    values = _apply(weights, flux if clean else np.where(good, flux, 0.0)) / share
    if not known.any() or error is None:
        return values, np.full_like(values, np.nan)
    squares = weights.copy()
    squares.data = squares.data**2
    # 1e-20 squared is nothing in float32.
    sigma = np.where(good & known[:, None], error, 0.0).astype(np.float64)
    variance = _apply(squares, sigma**2)
    errors = np.sqrt(variance) / share
    errors[~known] = np.nan
    return values, errors


def _linear_few(
    waves: Array,
    flux: Array,
    error: Array | None,
    good: NDArray[np.bool_],
    known: NDArray[np.bool_],
    grid: Array,
) -> tuple[Array, Array]:
    """The same without a matrix, which a few spectra do not pay for."""
    left, share = _neighbours(waves, grid)
    inside = (grid >= waves[0]) & (grid <= waves[-1])
    near_bad = (~good[:, left] & (share < 1)) | (~good[:, left + 1] & (share > 0))
    seen = inside & ~near_bad
    clean = np.where(good, flux, 0.0).astype(np.float64)
    values = np.where(seen, clean[:, left] * (1 - share) + clean[:, left + 1] * share, np.nan)
    if error is None:
        return values, np.full_like(values, np.nan)

    sigma = np.where(good & known[:, None], error, 0.0).astype(np.float64)
    parts = (1 - share) ** 2 * sigma[:, left] ** 2, share**2 * sigma[:, left + 1] ** 2
    errors = np.sqrt(parts[0] + parts[1])
    return values, np.where(seen & known[:, None], errors, np.nan)


def samplings(
    wavelength: Lists, rows: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.int64], Array]]:
    """(rows, wavelengths) for each distinct wavelength array among the rows."""
    lengths = wavelength.lengths[rows]
    start, last = wavelength.offsets[:-1][rows], np.maximum(lengths - 1, 0)
    if len(wavelength.values) == 0:
        return
    # A cheap mark first; the arrays themselves are compared within it.
    at = np.stack([start, start + last // 3, start + last], axis=1)
    ends = wavelength.values[np.minimum(at, len(wavelength.values) - 1)].astype(np.float64)
    marks = np.column_stack([lengths, np.where(lengths[:, None] > 0, ends, 0.0)])
    _, group = np.unique(marks, axis=0, return_inverse=True)
    order = np.argsort(group.reshape(-1), kind="stable")
    for left in np.split(rows[order], np.flatnonzero(np.diff(group.reshape(-1)[order])) + 1):
        while len(left):
            first = wavelength[left[0]]
            same = _like(wavelength, left, first)
            yield left[same], first.astype(np.float64)
            left = left[~same]


def _like(wavelength: Lists, rows: NDArray[np.int64], first: Array) -> NDArray[np.bool_]:
    if len(rows) == 1:
        return np.ones(1, bool)
    same = np.empty(len(rows), bool)
    for start in range(0, len(rows), CHUNK):
        block = _matrix(wavelength, rows[start : start + CHUNK])
        equal = block == first
        if not equal.all():
            equal |= (block != block) & (first != first)
        same[start : start + CHUNK] = equal.all(axis=1)
    same[0] = True
    return same


def usable(waves: Array) -> NDArray[np.int64]:
    """Pixels in increasing wavelength; of equal wavelengths the first, padding left out."""
    valid = np.flatnonzero(np.isfinite(waves) & (waves > 0))
    _, first = np.unique(waves[valid], return_index=True)
    return valid[first]


def edges(centres: Array) -> Array:
    """Borders half-way between pixels; the outer ones as far out as the inner ones are in."""
    inner = 0.5 * (centres[1:] + centres[:-1])
    first, last = 1.5 * centres[0] - 0.5 * centres[1], 1.5 * centres[-1] - 0.5 * centres[-2]
    return np.concatenate([[first], inner, [last]])


def overlaps(waves: Array, grid: Array) -> csr_array:
    """Width that each grid pixel shares with each pixel of a spectrum ([grid, spectrum])."""
    source, target = edges(waves), edges(grid)
    cuts = np.unique(np.concatenate([source, target]))
    middle, width = 0.5 * (cuts[1:] + cuts[:-1]), np.diff(cuts)
    pixel = np.searchsorted(source, middle) - 1
    bins = np.searchsorted(target, middle) - 1
    inside = (pixel >= 0) & (pixel < len(waves)) & (bins >= 0) & (bins < len(grid))
    starts = np.searchsorted(bins[inside], np.arange(len(grid) + 1))
    return csr_array((width[inside], pixel[inside], starts), shape=(len(grid), len(waves)))


def linear_weights(waves: Array, grid: Array) -> csr_array:
    """Weights of np.interp ([grid, spectrum]); outside the range the end values are held."""
    left, share = _neighbours(waves, grid)
    entries = np.stack([1 - share, share], axis=1)
    pixels = np.stack([left, left + 1], axis=1)
    # A point that falls on a pixel has no other neighbour, good or bad.
    keep = entries != 0
    starts = np.concatenate([[0], np.cumsum(keep.sum(axis=1))])
    return csr_array((entries[keep], pixels[keep], starts), shape=(len(grid), len(waves)))


def _neighbours(waves: Array, grid: Array) -> tuple[NDArray[np.int64], Array]:
    """The pixel left of each point, and how far the point is on its way to the next (0-1)."""
    at = np.clip(grid, waves[0], waves[-1])
    left = np.clip(np.searchsorted(waves, at, side="right") - 1, 0, len(waves) - 2)
    return left, (at - waves[left]) / (waves[left + 1] - waves[left])


def interpolate(wavelength: Lists, values: Lists, grid: Array) -> Array:
    """np.interp of every row onto the grid, bad pixels and all ([rows, pixels])."""
    out = np.empty((len(values), len(grid)))
    done = np.zeros(len(values), bool)
    _alike(wavelength, values, grid, out, done)
    if not done.all():
        _by_rows(wavelength, values, None, grid, True, out, np.empty((0, 0)), done)
    for rows, waves in samplings(wavelength, np.flatnonzero(~done)):
        order = usable(waves)
        if len(order) < 2:
            out[rows] = np.nan
            continue
        if len(rows) < FEW:
            left, share = _neighbours(waves[order], grid)
            few = _pick(_matrix(values, rows), order).astype(np.float64)
            beyond = np.where(share > 0, few[:, left + 1], 0.0)
            out[rows] = few[:, left] * (1 - share) + beyond * share
            continue
        made = _apply(linear_weights(waves[order], grid), _pick(_matrix(values, rows), order))
        if len(rows) == len(values):
            return made
        out[rows] = made
    return out


def _alike(
    wavelength: Lists, values: Lists, grid: Array, out: Array, done: NDArray[np.bool_]
) -> None:
    """Many spectra of the sampling of the first one, if that is in order; marks them as done."""
    if len(values) < MANY or not np.array_equal(wavelength.offsets, values.offsets):
        return
    first, loops = wavelength[0].astype(np.float64), compiled.interpolation()
    if loops is None or len(first) < 2 or not np.array_equal(usable(first), np.arange(len(first))):
        return
    left, share = _neighbours(first, grid)
    right = left + (share > 0)  # a point that falls on a pixel has no other neighbour
    loops.alike(
        wavelength.values, wavelength.offsets, values.values, left, right, share, len(first), out,
        done,
    )  # fmt: skip


def _by_rows(
    wavelength: Lists, values: Lists, error: Lists | None, grid: Array, hold: bool,
    out: Array, out_error: Array, done: NDArray[np.bool_],
) -> None:  # fmt: skip
    """Many spectra, each of a sampling of its own, if it is in order; marks them as done."""
    if len(values) < MANY or any(
        it is not None and not np.array_equal(it.offsets, wavelength.offsets)
        for it in (values, error)
    ):
        return
    loops, sigma = compiled.interpolation(), values.values[:0] if error is None else error.values
    if loops is not None:
        loops.each(
            wavelength.values, wavelength.offsets, values.values, sigma, hold, grid, out,
            out_error, done,
        )  # fmt: skip


def _matrix(values: Lists, rows: NDArray[np.int64]) -> Array:
    """Rows of equal length as a matrix; neighbours in the file are not copied one by one."""
    length = int(values.lengths[rows[0]]) if len(rows) else 0
    start = values.offsets[:-1][rows]
    if len(rows) and (np.diff(start) == length).all():
        return values.values[start[0] : start[0] + len(rows) * length].reshape(len(rows), length)
    return np.asarray(values.values[start[:, None] + np.arange(length)])


def _pick(matrix: Array, order: NDArray[np.int64]) -> Array:
    whole = len(order) == matrix.shape[1] and bool((order == np.arange(len(order))).all())
    return matrix if whole else matrix[:, order]


def _apply(weights: csr_array, values: Array) -> Array:
    """weights @ row for every row ([rows, n] -> [rows, m]).

    The weights of several rows stand on one diagonal, so that a product takes many rows as they
    lie in memory: a transposition would cost more than the product.
    """
    rows, m = len(values), weights.shape[0]
    out = np.empty((rows, m))
    many = min(ROWS, rows)
    block = _repeated(weights, many)
    for start in range(0, rows - rows % many, many):
        row = np.ascontiguousarray(values[start : start + many], np.float64).reshape(-1)
        out[start : start + many] = (block @ row).reshape(many, m)
    for start in range(rows - rows % many, rows):
        out[start] = weights @ values[start].astype(np.float64)
    return out


def _repeated(weights: csr_array, times: int) -> csr_array:
    m, n = weights.shape
    count = len(weights.data)
    shift = np.repeat(np.arange(times), count)
    indices = (np.tile(weights.indices, times) + shift * n).astype(np.int32)
    steps = np.arange(times)[:, None] * count + weights.indptr[1:]
    starts = np.concatenate([[0], steps.reshape(-1)]).astype(np.int32)
    return csr_array((np.tile(weights.data, times), indices, starts), shape=(m * times, n * times))
