"""Light curves folded at the period and at twice the period: mean, error and count by bin."""

import math
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from mmclip.arrays import lists
from mmclip.config import Count, Positive, Size
from mmclip.errors import UsageError
from mmclip.modalities import Columns, Modality, Prepared, folding, photometry
from mmclip.modalities.folding import GRID, Floats
from mmclip.modalities.settings import one_of

MULTIPLES = {"P": (1.0, 4), "2P": (2.0, 8)}  # of the period, harmonics that place phase 0
VALUES = ("brightness", "error", "log count")


@dataclass(frozen=True)
class FoldedSettings:
    """How light curves are folded."""

    bins: Size = 64
    zero: str = "faintest"  # faintest | brightest: which phase is 0, at P and at 2P
    bands: tuple[str, ...] = ()  # channels of each; all are folded alike; empty: one band
    periods: str = "fill"  # find a period where the catalogue has none | catalogue
    shortest_period: Positive = 0.05  # d, of those found
    least: Count = 5  # points, below which a curve is rejected


def prepare(columns: Columns, settings: FoldedSettings) -> Prepared:
    """Fold each curve at P and at 2P, since the period of an eclipsing binary may be halved.

    Args:
        columns: As of `photometry`.

    Returns:
        [rows, bins x channels]: of each band, at P and at 2P, the brightness (median less
        magnitude, over the 5-95 % range of the curve), its 1-sigma error, and log(1 + points).
        NaN in a bin without points. Phase 0 is where the Fourier series of the band with most
        points is faintest (or brightest). Rejected: too few points, no period, no variation.
    """
    rows = len(lists(columns["time"]))
    seen = folding.points(columns, settings.bands, "photometry_folded")
    bands = max(len(settings.bands), 1)
    period, _ = folding.periods(
        columns, seen, settings.periods, settings.shortest_period, settings.least
    )
    counts = np.stack(
        [np.bincount(seen.time.row[seen.band == b], minlength=rows) for b in range(bands)], axis=1
    )
    main = counts.argmax(axis=1)
    zeros = np.full((rows, len(MULTIPLES)), np.nan)
    values = np.full((rows, bands, len(MULTIPLES), len(VALUES), settings.bins), np.nan, np.float32)
    varies = np.zeros(rows, bool)
    first = np.full(rows, np.nan)
    some = seen.time.lengths > 0
    first[some] = seen.time.values[seen.time.offsets[:-1][some]]
    for place in (True, False):  # the band that places phase 0, then every band
        for band in range(bands):
            mine = seen.of_band(band)
            known = np.where(main == band, period, np.nan) if place else period
            for block in folding.blocks(mine, known, settings.least if place else 1):
                if place:
                    zeros[block.rows] = _zeros(block, first[block.rows], settings.zero)
                else:
                    varies[block.rows] |= _fill(
                        values[:, band], block, first[block.rows], zeros[block.rows], settings
                    )
    made = np.moveaxis(values, 4, 1).reshape(rows, math.prod(values.shape[1:]))
    reasons = np.full(rows, "", object)
    reasons[~varies] = "magnitude does not vary"
    reasons[np.isnan(period)] = "no period"
    reasons[counts.max(axis=1) < settings.least] = f"fewer than {settings.least} points"
    return Prepared(made, None, reasons)


def _zeros(block: folding.Block, first: Floats, zero: str) -> Floats:
    """[k, 2] phase 0 of the fold at P and at 2P, in turns from the first point of the curve."""
    made = []
    for multiple, harmonics in MULTIPLES.values():
        place = folding.zero_phase(folding.fourier(block, multiple, harmonics).curve(), zero) / GRID
        made.append(place + (block.time[:, 0] - first) / (block.period * multiple))
    return np.stack(made, axis=1)


def _fill(
    values: NDArray[np.float32], block: folding.Block, first: Floats, zeros: Floats,
    settings: FoldedSettings,
) -> NDArray[np.bool_]:  # fmt: skip
    """Bins of one band into `values` [rows, multiples, values, bins]; which curves vary."""
    ends = np.array([0.05, 0.5, 0.95])
    low, middle, high = folding.quantile(block, ends).T
    width = high - low
    varies = width > 1e-9
    width = np.where(varies, width, np.nan)[:, None]
    for number, (multiple, _) in enumerate(MULTIPLES.values()):
        since = ((block.time[:, 0] - first) / (block.period * multiple) - zeros[:, number]) % 1
        phase = (block.phase(multiple) + since[:, None]) % 1
        phase = np.where(np.isfinite(phase), phase, 0)
        bins = folding.binned(block, phase, settings.bins)
        values[block.rows, number, 0] = (middle[:, None] - bins.mean) / width
        values[block.rows, number, 1] = bins.error / width
        values[block.rows, number, 2] = np.log1p(bins.count)
    return np.asarray(varies)


def names(settings: FoldedSettings) -> list[str]:
    """Names of the channels."""
    bands = [f"{b} " for b in settings.bands] or [""]
    return [f"{b}{value} {fold}" for b in bands for fold in MULTIPLES for value in VALUES]


def labels(settings: FoldedSettings) -> list[str]:
    """Names of the prepared values."""
    return [f"{name} {k}" for k in range(settings.bins) for name in names(settings)]


def configure(settings: FoldedSettings) -> Modality:
    """The modality under these settings.

    Raises:
        UsageError: If a setting is not one of the known ones.
    """
    one_of("photometry_folded.zero", settings.zero, ("faintest", "brightest"))
    one_of("photometry_folded.periods", settings.periods, ("fill", "catalogue"))
    if settings.bins < 8 or not settings.shortest_period > 0:
        raise UsageError(
            f"photometry_folded: bins = {settings.bins}, shortest_period = "
            f"{settings.shortest_period} cannot be",
            "--set photometry_folded.bins=64",
        )
    return Modality(
        name="photometry_folded",
        title="Folded light curve",
        columns=photometry.COLUMNS,
        labels=partial(labels, settings),
        unit="(median - magnitude) / amplitude, by phase",
        prepare=partial(prepare, settings=settings),
        encoder="folded-cnn",
        kind="table",
        shape=(settings.bins, len(names(settings))),
        normalisation="none",
        view="photometry",
        settings=settings,
        configure=configure,
    )


MODALITY = configure(FoldedSettings())
