"""A light curve as a few numbers, whatever its length."""

import warnings

import numpy as np
from numpy.typing import NDArray


def summary(values: NDArray[np.float32], size: tuple[int, ...]) -> NDArray[np.float32]:
    """Features of a view for a forest: the values themselves, or measures of each channel.

    A view of points by channels (a light curve) gives, channel by channel, mean, deviation,
    skewness, kurtosis, five percentiles and the von Neumann ratio (mean square of successive
    differences over the variance), which knows about order.
    """
    if len(size) != 2:
        return values
    series = values.reshape(len(values), *size).astype(np.float64)
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # channels without a single value
        mean = np.nanmean(series, 1)
        away = series - mean[:, None]
        variance = np.nanmean(away**2, 1)
        variance[variance <= (1e-13 * mean) ** 2] = np.nan  # constant but for rounding
        parts = [
            mean, np.nanstd(series, 1),
            np.nanmean(away**3, 1) / variance**1.5, np.nanmean(away**4, 1) / variance**2 - 3,
            *_quantiles(series, (0.05, 0.25, 0.5, 0.75, 0.95)),
            np.nanmean(np.diff(series, axis=1) ** 2, 1) / np.nanvar(series, 1),
        ]  # fmt: skip
    stacked = np.concatenate(parts, axis=1)
    return np.where(np.isfinite(stacked), stacked, np.nan).astype(np.float32)


def _quantiles(series: NDArray[np.float64], at: tuple[float, ...]) -> list[NDArray[np.float64]]:
    """np.nanpercentile over axis 1 of [objects, points, channels], which would go row by row."""
    ordered = np.sort(series, axis=1)  # NaN comes last
    last = np.maximum(np.isfinite(series).sum(axis=1) - 1, 0)
    made = []
    for part in at:
        below = np.floor(part * last).astype(np.int64)
        low, high = (np.take_along_axis(ordered, np.minimum(i, last)[:, None], 1)[:, 0]
                     for i in (below, below + 1))  # fmt: skip
        made.append(low + (part * last - below) * (high - low))
    return made
