"""Folded light curves: points of every band, Fourier series at a multiple of the period, bins.

Works on a block of curves at once, [rows, width], padded where a curve has fewer points. Values are
magnitudes, so that faint is large; a flux becomes an inverse hyperbolic sine magnitude, which
exists for a negative flux too.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmclip.arrays import Lists, lists
from mmclip.errors import UsageError
from mmclip.modalities import Columns, curves
from mmclip.modalities.robust import median_of_lists, padded

FAINTEST = 40.0  # mag; beyond lie fill values: 99.99
LEAST_ERROR = 0.01  # mag; no point weighs more than one with this error
GRID = 128  # phases at which a Fourier series is looked at
BLOCK = 512  # curves worked on at once
Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Points:
    """Valid points of many curves, sorted by time, without exact repeats.

    Attributes:
        time: d, by curve.
        value: [points] magnitude; of a flux, up to a constant for each curve.
        error: [points] 1-sigma, mag; NaN if unknown.
        band: [points] number of the band, all 0 if there is one.
        absolute: [rows] whether the zero point of `value` is that of the survey.
    """

    time: Lists
    value: Floats
    error: Floats
    band: Rows
    absolute: Flags

    def of_band(self, number: int) -> "Points":
        """The points of one band."""
        return self.some(self.band == number)

    def some(self, inside: Flags) -> "Points":
        """Some of the points ([points])."""
        offsets = np.concatenate(
            [[0], np.cumsum(np.bincount(self.time.row[inside], minlength=len(self.time)))]
        )
        time = Lists(self.time.values[inside], offsets)
        return Points(time, self.value[inside], self.error[inside], self.band[inside],
                      self.absolute)  # fmt: skip


def points(columns: Columns, bands: tuple[str, ...], name: str) -> Points:
    """Points of raw light curves in magnitudes.

    Args:
        columns: `time` [d] and `magnitude` or `flux`, `error` in its unit, `band` (text): lists.
        bands: Names of those that are kept; empty: all points are of one band.
        name: Of the modality, for messages.

    Raises:
        UsageError: If there is neither flux nor magnitude, or no band where bands are asked for.

    Source:
        Inverse hyperbolic sine magnitudes: Lupton, Gunn & Szalay 1999 (AJ 118, 1406); their
        softening is here the median error of the curve, or a thousandth of its median flux.
    """
    time = lists(columns["time"])
    row = time.row
    given = {n: lists(columns[n]) for n in ("flux", "magnitude", "error") if n in columns}
    for column, rows in given.items():
        if not np.array_equal(rows.offsets, time.offsets):
            raise UsageError(f"{name}: time and {column} differ in length in some row")
    if not given.keys() & {"flux", "magnitude"}:
        raise UsageError(f"{name}: the raw data have neither flux nor magnitude")
    empty = np.full(len(row), np.nan)
    error = given["error"].values.astype(np.float64) if "error" in given else empty
    error = np.where(np.isfinite(error) & (error > 0), error, np.nan)
    value = given["magnitude"].values.astype(np.float64) if "magnitude" in given else empty
    value = np.where(np.abs(value) < FAINTEST, value, np.nan)
    absolute = np.bincount(row, weights=np.isfinite(value), minlength=len(time)) > 0
    if "flux" in given:
        flux = given["flux"].values.astype(np.float64)
        made, spread = _asinh_magnitude(Lists(flux, time.offsets), error)
        value = np.where(absolute[row], value, made)
        error = np.where(absolute[row], error, spread)
    band = np.zeros(len(row), np.int64)
    if bands:
        if "band" not in columns:
            raise UsageError(
                f"{name}: bands = {','.join(bands)}, but the raw data name no band",
                f"--set {name}.bands=",
            )
        names = np.asarray(lists(columns["band"]).values).astype(str)
        band = np.full(len(row), -1, np.int64)
        for number, one in enumerate(bands):
            band[names == one] = number
    at = np.flatnonzero(np.isfinite(time.values) & np.isfinite(value) & (band >= 0))
    at = at[curves.ordered(row[at], time.values[at], (value[at], error[at], band[at]))]
    offsets = np.concatenate([[0], np.cumsum(np.bincount(row[at], minlength=len(time)))])
    kept = Lists(time.values[at].astype(np.float64), offsets)
    return Points(kept, value[at], error[at], band[at], absolute)


def _asinh_magnitude(flux: Lists, error: Floats) -> tuple[Floats, Floats]:
    level = np.abs(median_of_lists(flux))
    soft = median_of_lists(Lists(error, flux.offsets))
    soft = np.where(soft > 0, soft, 1e-3 * level)
    soft = np.where(soft > 0, soft, 1.0)[flux.row]
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = flux.values / (2 * soft)
        value = -2.5 / np.log(10) * (np.arcsinh(scaled) + np.log(soft))
        spread = 2.5 / np.log(10) * error / (2 * soft) / np.sqrt(1 + scaled**2)
    return value, spread


def periods(
    columns: Columns, seen: Points, how: str, shortest: float, least: int
) -> tuple[Floats, Floats]:
    """Period [d] and power (0-1) of each curve: the catalogue's, or the highest peak over bands.

    The power of a period of the catalogue is NaN.

    Args:
        columns: `period` [d], if there is one.
        seen: See `points`.
        how: `fill` finds a period where the catalogue has none; `catalogue` does not.
        shortest: Of those found, d.
        least: Points, below which no period is looked for.
    """
    rows = len(seen.time)
    given = columns.get("period")
    period = np.full(rows, np.nan) if given is None else np.array(given, np.float64)
    period = np.where(np.isfinite(period) & (period > 0), period, np.nan)
    power = np.full(rows, np.nan)
    if how == "fill":
        for i in np.flatnonzero(np.isnan(period) & (seen.time.lengths >= least)).tolist():
            at = slice(int(seen.time.offsets[i]), int(seen.time.offsets[i + 1]))
            period[i], power[i] = curves.period_over_bands(
                seen.time[i], seen.value[at], seen.error[at], seen.band[at], shortest
            )
    return period, power


@dataclass(frozen=True)
class Block:
    """Curves of like length side by side.

    Attributes:
        rows: [k] which curves.
        time, value, error: [k, width]; value is less the weighted mean, 0 beyond the end.
        valid: [k, width] False beyond the end of a curve.
        weight: [k, width] 1 / error^2, of sum 1 for each curve.
        mean: [k] weighted mean, mag.
        period: [k] d.
    """

    rows: Rows
    time: Floats
    value: Floats
    error: Floats
    valid: Flags
    weight: Floats
    mean: Floats
    period: Floats

    def phase(self, multiple: float) -> Floats:
        """[k, width] phase at a multiple of the period, from the first point; 0 beyond the end."""
        turns = (self.time - self.time[:, :1]) / (self.period * multiple)[:, None]
        return np.where(self.valid, turns - np.floor(turns), 0.0)


def blocks(seen: Points, period: Floats, least: int) -> Iterator[Block]:
    """All curves of at least so many points with a period, by length."""
    lengths = seen.time.lengths
    usable = np.flatnonzero((lengths >= least) & np.isfinite(period))
    usable = usable[np.argsort(lengths[usable], kind="stable")]
    for start in range(0, len(usable), BLOCK):
        rows = usable[start : start + BLOCK]
        width = int(lengths[rows].max())
        time = padded(seen.time, rows, width)
        valid = np.isfinite(time)
        value = padded(Lists(seen.value, seen.time.offsets), rows, width)
        error = padded(Lists(seen.error, seen.time.offsets), rows, width)
        known = np.where(valid & np.isfinite(error), np.maximum(error, LEAST_ERROR), np.nan)
        typical = _row_mean(known)
        known = np.where(np.isfinite(known), known, typical[:, None])
        weight = np.where(valid, 1 / known**2, 0.0)
        weight /= weight.sum(axis=1, keepdims=True)
        mean = (weight * np.where(valid, value, 0)).sum(axis=1)
        value = np.where(valid, value - mean[:, None], 0.0)
        yield Block(rows, np.where(valid, time, time[:, :1]), value, np.where(valid, known, 0.0),
                    valid, weight, mean, period[rows])  # fmt: skip


def _row_mean(values: Floats) -> Floats:
    """Mean of the finite values of a row; 0.05 mag where there is none."""
    there = np.isfinite(values)
    count = there.sum(axis=1)
    total = np.where(there, values, 0).sum(axis=1)
    return np.where(count > 0, total / np.maximum(count, 1), 0.05)


def quantile(block: Block, at: Floats) -> Floats:
    """[k, quantiles] of the values, linear between order statistics as NumPy's."""
    count = block.valid.sum(axis=1)[:, None]
    values = np.sort(np.where(block.valid, block.value, np.inf), axis=1)
    place = at[None, :] * (count - 1)
    below = np.floor(place).astype(np.int64)
    above = np.minimum(below + 1, count - 1)
    low = np.take_along_axis(values, below, axis=1)
    return np.asarray(low + (place - below) * (np.take_along_axis(values, above, axis=1) - low))


@dataclass(frozen=True)
class Fit:
    """A Fourier series for each curve of a block.

    Attributes:
        phase: [k, width] at which it was fitted.
        coefficients: [k, 1 + 2 harmonics]: constant, then cosine and sine of each harmonic.
        model: [k, width] at the points.
        misfit: [k] weighted mean square of the residuals.
    """

    phase: Floats
    coefficients: Floats
    model: Floats
    misfit: Floats

    @property
    def waves(self) -> NDArray[np.complex128]:
        """[k, harmonics] complex amplitudes: cosine - i sine."""
        return self.coefficients[:, 1::2] - 1j * self.coefficients[:, 2::2]

    def curve(self) -> Floats:
        """[k, GRID] the series at equally spaced phases."""
        turns = 2 * np.pi * np.arange(GRID) / GRID
        basis = [np.ones(GRID)]
        for j in range(1, (self.coefficients.shape[1] + 1) // 2):
            basis += [np.cos(j * turns), np.sin(j * turns)]
        return np.asarray(self.coefficients @ np.stack(basis))


def fourier(block: Block, multiple: float, harmonics: int, ridge: float = 1e-3) -> Fit:
    """Weighted least squares with a penalty that grows with the harmonic's number."""
    phase = block.phase(multiple)
    turn = np.exp(2j * np.pi * phase)
    basis = np.empty((*phase.shape, 1 + 2 * harmonics), np.float32)
    basis[..., 0] = 1
    wave = np.ones_like(turn)
    for j in range(1, harmonics + 1):
        wave = wave * turn
        basis[..., 2 * j - 1], basis[..., 2 * j] = wave.real, wave.imag
    weighted = (basis * block.weight[..., None].astype(np.float32)).transpose(0, 2, 1)
    normal = np.matmul(weighted, basis).astype(np.float64)
    right = np.matmul(weighted, block.value[..., None].astype(np.float32)).astype(np.float64)
    penalty = ridge * np.concatenate([[0], np.repeat(np.arange(1.0, harmonics + 1), 2)])
    diagonal = np.arange(1 + 2 * harmonics)
    normal[:, diagonal, diagonal] += penalty + 1e-9
    found = np.linalg.solve(normal, right)[..., 0]
    model = np.matmul(basis, found[..., None].astype(np.float32))[..., 0].astype(np.float64)
    misfit = (block.weight * (block.value - model) ** 2).sum(axis=1)
    return Fit(phase, found, model, misfit)


def zero_phase(curve: Floats, zero: str) -> Rows:
    """[k] place on the grid where the curve is `faintest` or `brightest`."""
    place = curve.argmax(axis=1) if zero == "faintest" else curve.argmin(axis=1)
    return np.asarray(place, np.int64)


@dataclass(frozen=True)
class Bins:
    """Points of folded curves by bin of phase ([k, bins] each).

    Attributes:
        mean: Of the magnitudes less the curve's weighted mean; NaN in an empty bin.
        error: 1-sigma of `mean`: the larger of that of the errors and that of the scatter.
        scatter: Standard deviation of the points; NaN in an empty bin.
        count: Points.
        total: Sum of the magnitudes.
    """

    mean: Floats
    error: Floats
    scatter: Floats
    count: Floats
    total: Floats


def binned(block: Block, phase: Floats, bins: int) -> Bins:
    """Mean, error and number of points in bins of equal width; phase 0 is where bin 0 begins."""
    k = len(phase)
    key = np.minimum((phase * bins).astype(np.int64), bins - 1) + np.arange(k)[:, None] * bins
    key, value = key[block.valid], block.value[block.valid]

    def added(what: Floats | None) -> Floats:
        made = np.bincount(key, weights=what, minlength=k * bins)
        return made.reshape(k, bins).astype(np.float64)

    count, total, squares = added(None), added(value), added(value**2)
    variances = added(block.error[block.valid] ** 2)
    some = np.where(count > 0, count, np.nan)
    mean = total / some
    scatter = np.sqrt(np.maximum(squares / some - mean**2, 0))
    error = np.maximum(np.sqrt(variances) / some, scatter / np.sqrt(some))
    return Bins(mean, error, scatter, count, total)
