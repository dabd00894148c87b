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
    from scipy.stats import kurtosis, skew

    series = values.reshape(len(values), *size).astype(np.float64)
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # channels without a single value
        parts = [
            np.nanmean(series, 1), np.nanstd(series, 1),
            skew(series, axis=1, nan_policy="omit"),
            kurtosis(series, axis=1, nan_policy="omit"),
            *np.nanpercentile(series, [5, 25, 50, 75, 95], axis=1),
            np.nanmean(np.diff(series, axis=1) ** 2, 1) / np.nanvar(series, 1),
        ]  # fmt: skip
    stacked = np.concatenate([np.ma.filled(p, np.nan) for p in parts], axis=1)
    return np.where(np.isfinite(stacked), stacked, np.nan).astype(np.float32)
