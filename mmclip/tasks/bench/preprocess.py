"""Preprocessing against the obvious loop over objects: np.interp, spectres, SciPy's MAD."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mmclip.arrays import Lists
from mmclip.modalities import curves, folding, photometry, robust, spectra
from mmclip.modalities import resample as rs
from mmclip.tasks.bench import Bench, BenchConfig, Line, compare, difference, row

Floats: TypeAlias = NDArray[np.floating]

SLOW = 20  # objects for the slowest loops; their time an object is what is compared
SOME = 400  # objects for the others


@dataclass(frozen=True)
class Made:
    """LAMOST-like spectra: one sampling in steps of 1e-4 in log10, float32 flux and error."""

    wavelength: NDArray[np.float64]
    flux: NDArray[np.float32]
    error: NDArray[np.float32]

    @property
    def lists(self) -> tuple[Lists, Lists, Lists]:
        """As they come out of a Parquet file: every spectrum brings its wavelengths."""
        rows, n = self.flux.shape
        offsets = np.arange(rows + 1) * n
        waves = np.tile(self.wavelength, rows)
        return (
            Lists(waves, offsets),
            Lists(self.flux.reshape(-1), offsets),
            Lists(self.error.reshape(-1), offsets),
        )


def made(settings: BenchConfig) -> Made:
    """Spectra of noise; every pixel is good."""
    rng = np.random.default_rng(settings.seed)
    wavelength = 10 ** (np.log10(3700.0) + 1e-4 * np.arange(3909))
    shape = (settings.rows, len(wavelength))
    flux, error = rng.normal(100, 10, shape), rng.uniform(1, 5, shape)
    return Made(wavelength, flux.astype(np.float32), error.astype(np.float32))


def run(settings: BenchConfig) -> list[Line]:
    """Microseconds of one core for one object, ours and the loop's."""
    rows = settings.rows
    some = made(settings)
    grid = spectra.grid(spectra.SpectraSettings())
    waves, flux, error = some.lists
    rng = np.random.default_rng(settings.seed)
    own = some.wavelength / rng.uniform(0.995, 1.005, (rows, 1))  # each its redshift
    lines = [
        _line("interpolation to 2575 pixels", "np.interp", settings, SOME,
              lambda: rs.interpolate(waves, flux, grid),
              lambda k: np.interp(grid, some.wavelength, some.flux[k])),
        _line("flux-conserving, with errors", _rebinner()[0], settings, SLOW,
              lambda: rs.resample(waves, flux, error, grid, "flux").flux,
              lambda k: _rebinner()[1](grid, some.wavelength, some.flux[k], some.error[k])[0]),
        _line("linear with errors, each its sampling", "np.interp twice", settings, SOME,
              lambda: rs.resample(Lists(own.reshape(-1), waves.offsets), flux, error, grid,
                                  "linear").flux,
              lambda k: _twice(grid, own[k], some.flux[k], some.error[k])),
    ]  # fmt: skip
    for n in (200, 2575):
        lines += _medians(rng.normal(size=(rows, n)), settings)
    time = np.sort(rng.uniform(0, 900, (rows, 234)), axis=1)
    curve = rng.normal(1, 0.1, (rows, 234))
    period = rng.uniform(0.2, 2, rows)
    columns = {"time": time, "flux": curve, "error": np.full_like(curve, 0.1), "period": period}
    offsets = np.arange(rows + 1) * 234
    lines += [
        _line("string length of 234 points", "sort and sum a curve", settings, SOME,
              lambda: curves.string_length(Lists(time.reshape(-1), offsets), curve.reshape(-1),
                                            period),
              lambda k: _string_length(time[k], curve[k], period[k])),
        _line("light curve to 200 x 9", "a curve at a time", settings, SOME,
              lambda: photometry.MODALITY.prepare(columns).values,
              lambda k: _curve(time[k], curve[k], period[k])),
        _line("light curve folded to 64 bins", "scipy.stats.binned_statistic", settings, SOME,
              lambda: _folded(time, curve, period), lambda k: _bins(time[k], curve[k], period[k])),
    ]  # fmt: skip
    return lines


def _twice(grid: Floats, waves: Floats, flux: Floats, error: Floats) -> Floats:
    """Flux and error at the points of a grid, of which the flux is kept."""
    flux, _ = (np.interp(grid, waves, values) for values in (flux, error))
    return flux


def _folded(time: Floats, magnitude: Floats, period: Floats) -> Floats:
    """[rows, 64] mean magnitude by phase, less the mean of the curve."""
    columns = {"time": time, "magnitude": magnitude, "error": np.full_like(time, 0.1)}
    seen = folding.points(columns, (), "bench")
    made = np.full((len(time), 64), np.nan)
    for block in folding.blocks(seen, np.asarray(period, np.float64), 1):
        made[block.rows] = folding.binned(block, block.phase(1.0), 64).mean
    return made


def _bins(time: Floats, magnitude: Floats, period: float) -> Any:
    from scipy.stats import binned_statistic

    phase = (time - time[0]) / period % 1
    return binned_statistic(phase, magnitude - magnitude.mean(), bins=64, range=(0, 1)).statistic


def _medians(values: Floats, settings: BenchConfig) -> list[Line]:
    def ours() -> Floats:
        return robust.mad(values)

    def twice(k: int) -> Any:
        return np.median(np.abs(values[k] - np.median(values[k])))

    name = f"MAD of {values.shape[1]} values"
    by_scipy = "scipy.stats.median_abs_deviation"
    return [
        _line(name, by_scipy, settings, SOME, ours, lambda k: _scipy_mad(values[k])),
        _line(name, "np.median twice", settings, SOME, ours, twice),
    ]


def _line(
    name: str,
    against: str,
    settings: BenchConfig,
    most: int,
    ours: Callable[[], Any],
    one: Callable[[int], Any],
) -> Line:
    few = min(most, settings.rows)
    repeats = settings.repeats if most > SLOW else min(settings.repeats, 2)
    a, b, mine, theirs = compare(ours, lambda: np.array([one(k) for k in range(few)]), repeats)
    apart = difference(mine[:few], theirs)
    return row(name, "us / object", 1e6 * a / settings.rows, 1e6 * b / few, against, apart)


def _scipy_mad(values: Floats) -> Any:
    from scipy.stats import median_abs_deviation

    return median_abs_deviation(values)


def _rebinner() -> tuple[str, Callable[..., Any]]:
    """spectres, or without it the same sum a pixel at a time."""
    try:
        from spectres import spectres
    except ImportError:
        return "a loop over pixels", _rebin
    return "spectres", lambda *given: spectres(*(np.asarray(g, np.float64) for g in given))


def _rebin(grid: Floats, waves: Floats, flux: Floats, error: Floats) -> tuple[Floats, ...]:
    source, target = rs.edges(waves), rs.edges(grid)
    out, spread = np.empty(len(grid)), np.empty(len(grid))
    for k in range(len(grid)):
        low, high = target[k], target[k + 1]
        width = np.clip(np.minimum(source[1:], high) - np.maximum(source[:-1], low), 0, None)
        out[k] = (width * flux).sum() / width.sum()
        spread[k] = np.sqrt(((width * error) ** 2).sum()) / width.sum()
    return out, spread


def _string_length(time: Floats, flux: Floats, period: float) -> float:
    folded = flux[np.argsort(np.mod((time - time[0]) / period, 1.0))]
    steps = np.square(np.roll(folded, -1) - folded).sum()
    spread = np.square(flux - flux.mean()).sum()
    return float(steps / spread * (len(flux) - 1) / (2 * len(flux)))


def _curve(time: Floats, flux: Floats, period: float) -> Floats:
    """One light curve by the published recipe, errors 0.1."""
    points = np.unique(np.stack([time, flux, np.full_like(flux, 0.1)], axis=1), axis=0)
    t, f, e = points.T
    mad = _scipy_mad(f)
    low, high = np.percentile(f, [5, 95])
    top, bottom = (f - e).max(), (f + e).min()
    measures = [
        2.5 * np.log10(high / low), np.log10(period), _string_length(t, f, period),
        (top - bottom) / (top + bottom), np.log10(mad), (t[-1] - t[0]) / 365,
    ]  # fmt: skip
    start = (len(t) - 200) // 2
    phase = (t - t[0]) / (t[-1] - t[0])
    point = np.stack([phase, (f - f.mean()) / mad, e / mad], axis=1)[start : start + 200]
    return np.concatenate([point, np.tile(measures, (200, 1))], axis=1).reshape(-1)


BENCH = Bench("preprocess", "Preprocessing against the obvious loop over objects", run)
