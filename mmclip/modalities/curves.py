"""Measures of light curves, many at once: robust level, string length, percentiles, periods."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmclip.arrays import Array, Lists
from mmclip.modalities.robust import CACHE, padded


def sums(values: Array, key: NDArray[np.int64], count: int) -> NDArray[np.float64]:
    """Sum of the entries of each key ([count])."""
    return np.bincount(key, weights=values, minlength=count).astype(np.float64)


def ordered(row: NDArray[np.int64], time: Array, rest: Sequence[NDArray[Any]]) -> NDArray[np.int64]:
    """Entries by row and time, exact repeats (time and all of `rest`) left out.

    Args:
        row: [entries], increasing.
        time: [entries], finite.
        rest: Other columns of an entry; two entries are the same if all of these are, NaN
            included.
    """
    steps = (np.diff(row) == 0) & ~(np.diff(time) > 0)
    if not steps.any():
        return np.arange(len(row))
    # Curves come mostly sorted: only those that are not are sorted, by all columns.
    messy = np.zeros(int(row[-1]) + 1, bool)
    messy[row[1:][steps]] = True
    at = np.flatnonzero(messy[row])
    order = at[np.lexsort((*(r[at] for r in reversed(rest)), time[at], row[at]))]
    same = (row[order][1:] == row[order][:-1]) & (time[order][1:] == time[order][:-1])
    for column in rest:
        a, b = column[order][1:], column[order][:-1]
        same &= (a == b) | ((a != a) & (b != b))
    place = np.arange(len(row))
    place[at] = order
    keep = np.ones(len(row), bool)
    keep[at[1:][same]] = False
    return place[keep]


def peak_to_peak(flux: Lists, error: Array) -> NDArray[np.float64]:
    """Peak-to-peak variability ((f - e)max - (f + e)min) / ((f - e)max + (f + e)min) ([rows]).

    An unknown error counts as zero. NaN for an empty curve or a sum that is not positive.

    Source:
        Sokolovsky et al. 2017 (MNRAS 464, 274), equation 17.
    """
    known = np.nan_to_num(error)
    high = _reduced(np.maximum, flux.values - known, flux.offsets)
    low = _reduced(np.minimum, flux.values + known, flux.offsets)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(high + low > 0, (high - low) / (high + low), np.nan)


def _reduced(how: np.ufunc, values: Array, offsets: NDArray[np.int64]) -> NDArray[np.float64]:
    out = np.full(len(offsets) - 1, np.nan)
    some = np.flatnonzero(np.diff(offsets))
    if len(some):
        out[some] = how.reduceat(values, offsets[:-1][some])
    return out


def amplitude(flux: Lists) -> NDArray[np.float64]:
    """Magnitudes between the 5th and the 95th percentile of a curve ([rows]); NaN if flux <= 0.

    Percentiles are linear between order statistics, as NumPy's.
    """
    out = np.full(len(flux), np.nan)
    lengths = flux.lengths
    sizes = np.ceil(np.log2(np.maximum(lengths, 1))).astype(int)
    for size in np.unique(sizes[lengths > 0]):
        rows = np.flatnonzero((sizes == size) & (lengths > 0))
        values = np.sort(padded(flux, rows, int(lengths[rows].max())), axis=1)
        low, high = (_percentile(values, lengths[rows], q) for q in (0.05, 0.95))
        positive = low > 0
        ratio = np.divide(high, low, out=np.ones(len(rows)), where=positive)
        out[rows] = np.where(positive, 2.5 * np.log10(ratio), np.nan)
    return out


def _percentile(values: Array, count: NDArray[np.int64], q: float) -> NDArray[np.float64]:
    at = q * (count - 1)
    below = np.floor(at).astype(int)
    above, rows = np.minimum(below + 1, count - 1), np.arange(len(values))
    low, high = values[rows, below], values[rows, above]
    return np.asarray(low + (at - below) * (high - low))


def string_length(time: Lists, flux: Array, period: Array) -> NDArray[np.float64]:
    """Lafler-Kinman string length of curves folded with their periods ([rows]).

    Near 0 for a smooth curve, near 1 for one without the period. NaN without a period, for fewer
    than three points, and for a constant.

    Args:
        time: Curves, d.
        flux: [entries] in the order of `time`.
        period: [rows], d.

    Source:
        Clarke 2002 (A&A 386, 763): sum (m[i+1] - m[i])^2 / sum (m[i] - mean)^2 x (N - 1) / (2 N)
        in order of phase, the last point followed by the first.
    """
    out = np.full(len(time), np.nan)
    usable = np.isfinite(period) & (period > 0) & (time.lengths >= 3)
    sizes = np.ceil(np.log2(np.maximum(time.lengths, 1))).astype(int)
    for size in np.unique(sizes[usable]):
        rows = np.flatnonzero(usable & (sizes == size))
        width = int(time.lengths[rows].max())
        step = max(1, CACHE // width)
        for start in range(0, len(rows), step):
            chunk = rows[start : start + step]
            curves = padded(time, chunk, width), padded(Lists(flux, time.offsets), chunk, width)
            out[chunk] = _lafler_kinman(*curves, period[chunk], time.lengths[chunk])
    return out


def _lafler_kinman(
    time: Array, flux: Array, period: Array, count: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Curves as [rows, width], NaN after the end of each."""
    turns = (time - time[:, :1]) / period[:, None]
    phase = turns - np.floor(turns)
    folded = np.take_along_axis(flux, np.argsort(phase, axis=1), axis=1)  # NaN comes last
    mean = np.nansum(flux, axis=1) / count
    spread = np.nansum((flux - mean[:, None]) ** 2, axis=1)
    last = folded[np.arange(len(flux)), count - 1]
    steps = np.nansum(np.diff(folded, axis=1) ** 2, axis=1) + (folded[:, 0] - last) ** 2
    theta = np.full(len(flux), np.nan)
    np.divide(steps * (count - 1), spread * 2 * count, out=theta, where=spread > 0)
    return theta


def best_period(
    time: Array, flux: Array, error: Array | None, shortest: float, samples: int = 5
) -> float:
    """Period of the highest Lomb-Scargle peak, d; NaN for fewer than five points.

    The light curve of an eclipsing binary usually gives half of its orbital period.

    Args:
        time, flux, error: [points]; errors that are unknown anywhere are left out altogether.
        shortest: Shortest period, d; the longest is the span of the curve.
        samples: Frequencies per width of a peak (1 / span).

    Source:
        nifty-ls (Garrison et al. 2024, arXiv:2409.08090) if it is installed, else astropy's fast
        method (Press & Rybicki 1989); floating mean, standard normalisation.
    """
    span = float(time[-1] - time[0]) if len(time) else 0.0
    if len(time) < 5 or span <= shortest:
        return float("nan")
    low, high = 1 / span, 1 / shortest
    number = int(np.ceil((high - low) * span * samples)) + 1
    known = error is not None and bool((np.isfinite(error) & (error > 0)).all())
    sigma = np.asarray(error, np.float64) if known else None
    t, y = np.ascontiguousarray(time - time[0], np.float64), np.ascontiguousarray(flux, np.float64)
    try:
        import nifty_ls
    except ImportError:
        from astropy.timeseries import LombScargle

        frequency = np.linspace(low, high, number)
        power = LombScargle(t, y, sigma).power(
            frequency, method="fast", assume_regular_frequency=True
        )
        return float(1 / frequency[np.argmax(power)])
    found = nifty_ls.lombscargle(t, y, sigma, fmin=low, fmax=high, Nf=number)
    return float(1 / (low + int(np.argmax(found.power)) * (high - low) / (number - 1)))


def period_over_bands(
    time: Array, value: Array, error: Array, band: NDArray[np.int64], shortest: float,
    samples: int = 5,
) -> tuple[float, float]:  # fmt: skip
    """Period of the highest Lomb-Scargle peak over all bands, d, and its power (0-1).

    The powers of the bands are averaged, each weighted by its sum of squares about its mean. NaN
    where no band has five points. An eclipsing binary usually gives half its orbital period.

    Args:
        time, value, error, band: [points]; errors that are unknown anywhere in a band are left
            out for that band.
        shortest: Shortest period, d; the longest is the span of the curve.
        samples: Frequencies per width of a peak (1 / span).

    Source:
        VanderPlas & Ivezic 2015 (ApJ 812, 18), section 4.3 for no shared model; nifty-ls (Garrison
        et al. 2024, arXiv:2409.08090) if it is installed, else astropy's fast method.
    """
    span = float(time.max() - time.min()) if len(time) else 0.0
    if span <= shortest:
        return float("nan"), float("nan")
    low, high = 1 / span, 1 / shortest
    number = int(np.ceil((high - low) * span * samples)) + 1
    total, weights = np.zeros(number), 0.0
    for one in np.unique(band):
        inside = band == one
        if inside.sum() < 5:
            continue
        t = np.ascontiguousarray(time[inside] - time.min(), np.float64)
        y, sigma = np.ascontiguousarray(value[inside], np.float64), error[inside]
        known = bool((np.isfinite(sigma) & (sigma > 0)).all())
        sigma = np.ascontiguousarray(sigma, np.float64) if known else np.ones_like(y)
        mean = np.average(y, weights=sigma**-2)
        own = float(((y - mean) ** 2 / sigma**2).sum())
        if own > 0:
            total += own * _lomb_scargle(t, y, sigma, low, high, number)
            weights += own
    if weights == 0:
        return float("nan"), float("nan")
    best = int(np.argmax(total))
    return float(1 / (low + best * (high - low) / (number - 1))), float(total[best] / weights)


def _lomb_scargle(
    time: Array, value: Array, error: Array, low: float, high: float, number: int
) -> NDArray[np.float64]:
    """Standard power at equally spaced frequencies, floating mean."""
    try:
        import nifty_ls
    except ImportError:
        from astropy.timeseries import LombScargle

        frequency = np.linspace(low, high, number)
        power = LombScargle(time, value, error).power(
            frequency, method="fast", assume_regular_frequency=True
        )
        return np.asarray(power, np.float64)
    found = nifty_ls.lombscargle(time, value, error, fmin=low, fmax=high, Nf=number)
    return np.asarray(found.power, np.float64)
