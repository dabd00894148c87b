"""Light curves as a table of measures: distribution, period, Fourier series, folded shape, colour.

Source:
    Measures and their sources: `mmclip.modalities.curve_measures`. With `library = true` those of
    the package light-curve (Malanchev et al. 2021, MNRAS 502, 5147) stand beside them.
"""

import math
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmclip.arrays import Lists, splitmix64
from mmclip.config import Count, Positive, Whole
from mmclip.errors import UsageError
from mmclip.modalities import Columns, Modality, Prepared, curve_measures, folding, photometry
from mmclip.modalities.folding import Floats
from mmclip.modalities.robust import median_of_lists
from mmclip.modalities.settings import one_of

KEPT = 0.85  # of the points, in a draw
# Measures that need no period; the others are NaN without one.
PLAIN = 18 + len(curve_measures.RATIOS)


@dataclass(frozen=True)
class FeatureSettings:
    """What is measured."""

    bands: tuple[str, ...] = ()  # each measured by itself, and colours between them; empty: one
    periods: str = "fill"  # find a period where the catalogue has none | catalogue
    shortest_period: Positive = 0.05  # d, of those found
    library: bool = False  # measures of the package light-curve too (mmclip[lc])
    draws: Whole = 0  # further rows of measures, each of a random 85 % of the points
    least: Count = 5  # points, below which a curve is rejected


def prepare(columns: Columns, settings: FeatureSettings) -> Prepared:
    """Measure each curve, band by band; then random parts of it, if draws are asked for.

    Args:
        columns: As of `photometry`.

    Returns:
        [rows, (1 + draws) x measures]; NaN where one is not defined: those of a period without a
        period, the mean magnitude of a flux, a colour without both bands. Rejected: too few points.
    """
    seen = folding.points(columns, settings.bands, "photometry_features")
    period, power = folding.periods(
        columns, seen, settings.periods, settings.shortest_period, settings.least
    )
    whole, most = _measured(seen, period, power, settings)
    parts = [_measured(seen.some(_drawn(seen, n)), period, power, settings)[0]
             for n in range(1, settings.draws + 1)]  # fmt: skip
    reasons = np.full(len(most), "", object)
    reasons[most < settings.least] = f"fewer than {settings.least} points"
    return Prepared(np.concatenate([whole, *parts], axis=1).astype(np.float32), None, reasons)


def _drawn(seen: folding.Points, number: int) -> NDArray[np.bool_]:
    """[points] which are in a draw: by chance, but the same however the curves are divided."""
    bits = seen.time.values.view(np.uint64) + _mixed(seen.value.view(np.uint64) + np.uint64(number))
    return _mixed(bits) < np.uint64(KEPT * 2**64)


def _mixed(bits: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Uniform 64-bit numbers of others; SplitMix64 with its increment, so that 0 is no 0."""
    return splitmix64(bits + np.uint64(0x9E3779B97F4A7C15))


def _measured(
    seen: folding.Points, period: Floats, power: Floats, settings: FeatureSettings
) -> tuple[Floats, NDArray[np.int64]]:
    """[rows, measures] of all bands, and [rows] points of the band with most."""
    rows = len(seen.time)
    bands = max(len(settings.bands), 1)
    each = len(measures())
    values = np.full((rows, bands, each), np.nan)
    extra, middles, most = [], [], np.zeros(rows, np.int64)
    for band in range(bands):
        mine = seen.of_band(band)
        most = np.maximum(most, mine.time.lengths)
        filled = np.where(np.isfinite(period), period, 1.0)
        for block in folding.blocks(mine, filled, settings.least):
            with np.errstate(invalid="ignore", divide="ignore"):
                found = curve_measures.of_block(block)
            made = np.stack(list(found.values()), axis=1)
            made[np.isnan(period[block.rows]), PLAIN:] = np.nan
            values[block.rows, band] = made
        values[~mine.absolute, band, measures().index("mean magnitude")] = np.nan
        middles.append(median_of_lists(Lists(mine.value, mine.time.offsets)))
        if settings.library:
            extra.append(_by_library(mine, settings.least))
    colours = [a - b for a, b in pairwise(middles)]
    flat = values.reshape(rows, math.prod(values.shape[1:]))
    parts = [flat, *extra, *(c[:, None] for c in colours), power[:, None]]
    return np.concatenate(parts, axis=1), most


@cache
def measures() -> tuple[str, ...]:
    """Names of the measures of one band."""
    time = np.linspace(0, 100, 12)
    some = folding.Points(
        Lists(time, np.array([0, 12])), np.sin(time), np.full(12, 0.1), np.zeros(12, np.int64),
        np.ones(1, bool),
    )  # fmt: skip
    return tuple(curve_measures.of_block(next(folding.blocks(some, np.ones(1), 1))))


def _extractor() -> Any:
    try:
        import light_curve as package
    except ImportError as error:
        raise UsageError(
            "photometry_features.library = true needs the package light-curve",
            'pip install "mmclip[lc]"',
        ) from error
    return package.Extractor(
        package.AndersonDarlingNormal(), package.BeyondNStd(1.0), package.BeyondNStd(2.0),
        package.Cusum(), package.EtaE(), package.ExcessVariance(), package.InterPercentileRange(),
        package.LinearFit(), package.LinearTrend(), package.MaximumSlope(),
        package.MedianAbsoluteDeviation(), package.MedianBufferRangePercentage(0.1),
        package.ReducedChi2(), package.StandardDeviation(), package.WeightedMean(),
    )  # fmt: skip


def _by_library(seen: folding.Points, least: int) -> Floats:
    extract = _extractor()
    made = np.full((len(seen.time), len(extract.names)), np.nan)
    for row in range(len(seen.time)):
        at = slice(int(seen.time.offsets[row]), int(seen.time.offsets[row + 1]))
        value, error = seen.value[at], seen.error[at]
        if len(value) >= least:
            known = np.where(np.isfinite(error), error, 0.05)
            made[row] = extract(
                seen.time[row], value, known, sorted=True, check=False, fill_value=np.nan
            )
    return made


def labels(settings: FeatureSettings) -> list[str]:
    """Names of the prepared values."""
    bands = [f"{b} " for b in settings.bands] or [""]
    made = [f"{b}{name}" for b in bands for name in measures()]
    if settings.library:
        made += [f"{b}{name}" for b in bands for name in _extractor().names]
    made += [f"{a} - {b}" for a, b in pairwise(settings.bands)]
    made.append("power of the period")
    return made + [f"draw {n} {name}" for n in range(1, settings.draws + 1) for name in made]


def anchors(settings: FeatureSettings) -> NDArray[np.int64]:
    """Each measure of a draw is normalised as that of the whole curve."""
    return np.tile(np.arange(len(labels(replace(settings, draws=0)))), 1 + settings.draws)


def configure(settings: FeatureSettings) -> Modality:
    """The modality under these settings.

    Raises:
        UsageError: If a setting is not one of the known ones.
    """
    one_of("photometry_features.periods", settings.periods, ("fill", "catalogue"))
    if not settings.shortest_period > 0:
        raise UsageError(
            f"photometry_features: shortest_period = {settings.shortest_period} cannot be",
            "--set photometry_features.shortest_period=0.05",
        )
    return Modality(
        name="photometry_features",
        title="Measures of a light curve",
        columns=photometry.COLUMNS,
        labels=partial(labels, settings),
        unit="measure",
        prepare=partial(prepare, settings=settings),
        encoder="mlp",
        kind="table",
        normalisation="z",
        anchors=partial(anchors, settings) if settings.draws else None,
        view="photometry",
        settings=settings,
        configure=configure,
    )


MODALITY = configure(FeatureSettings())
