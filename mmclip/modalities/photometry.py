"""Light curves: time, flux and error of each point beside the measures of the whole curve.

Source: Rizhko & Bloom 2025 (arXiv:2411.08842), section 2: repeated rows removed, sorted by time,
flux less its mean over its unscaled MAD, time from 0 to 1, six measures repeated at every point,
200 points.
"""

from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from mmclip.arrays import Array, Lists, lists
from mmclip.config import Count, Positive, Size
from mmclip.errors import UsageError
from mmclip.modalities import Column, Columns, Export, Modality, Prepared, curves, multimodal
from mmclip.modalities.robust import mad_of_lists, median_of_lists
from mmclip.modalities.settings import one_of

COLUMNS = (
    Column("time", "d", "as in the file, increasing", 0, number="float64"),
    Column("flux", "any", "linear flux; null if the file has magnitudes", 0, True),
    Column("magnitude", "mag", "used where there is no flux; null if the file has fluxes", 0, True),
    Column("error", "as flux or magnitude", "1-sigma uncertainty; NaN if unknown", 0, True),
    Column("band", "", "name of the filter of each point", 0, True, number="string"),
    Column("period", "d", "of the catalogue", 1, True, ("period_d",), "float64"),
    Column("amplitude", "mag", "of the catalogue", 1, True,
           ("amplitude_mag", "asassn_amplitude_mag", "v_amp_mag"), "float64"),
    Column("lksl_statistic", "", "ASAS-SN's Lafler-Kinman statistic", 1, True, (), "float64"),
    Column("rfr_score", "", "ASAS-SN's random-forest regression score", 1, True, (), "float64"),
    Column("prepared", "", "AstroM3's nine channels of each point, as published", 0, True),
)  # fmt: skip
POINT = ("time", "flux", "error")
MEASURED = ("amplitude", "log10 period", "string length", "peak to peak")
ASTROM3 = ("amplitude", "log10 period", "lksl_statistic", "rfr_score")
LEVEL = ("log10 MAD", "span / 365 d")
FAINTEST = 40.0  # mag; beyond lie fill values: 99.99
STANDARDISED = range(3, 7)  # the channels that are z-scaled over the training split


@dataclass(frozen=True)
class CurveSettings:
    """How light curves are prepared."""

    length: Size = 200  # points; shorter curves are padded, longer ones cropped
    crop: str = "centre"  # centre | start; statistics are of the whole curve
    bands: tuple[str, ...] = ()  # each scaled by itself, with a channel each; empty: one band
    measures: str = "measured"  # from the curve | astrom3: the catalogue's, with rfr_score
    periods: str = "fill"  # find a period where the catalogue has none | catalogue
    shortest_period: Positive = 0.05  # d, of those found
    least: Count = 5  # points, below which a curve is rejected


def prepare(columns: Columns, settings: CurveSettings) -> Prepared:
    """Scale each curve by itself and lay it out as [length, channels], row by row.

    Args:
        columns: Lists `time` [d] and `flux` or `magnitude`, `error` in the unit of whichever is
            given, `band` (text); scalars `period` [d], `amplitude`, `lksl_statistic`, `rfr_score`.
            All but `time` and one of `flux`, `magnitude` are optional. `prepared`, the channels as
            AstroM3 published them, point by point, is laid out as it is under `measures =
            "astrom3"`.

    Returns:
        [rows, length x channels]: time 0-1, flux, error, six measures (the same at every point),
        one 0/1 channel a band. NaN after the end of a curve and where a value is unknown.
        Rejected: too few points, all at one time, MAD = 0.
    """
    if "prepared" in columns and settings.measures == "astrom3":
        return _as_published(lists(columns["prepared"]), settings)
    rows = len(lists(columns["time"]))
    time, flux, error, band = _points(columns, settings)
    bands = max(len(settings.bands), 1)
    key = time.row * bands + band
    count = np.bincount(key, minlength=rows * bands)
    main = count.reshape(rows, bands).argmax(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = curves.sums(flux, key, rows * bands) / count
    spread = _mad_by_key(flux, key, rows * bands)
    varies = spread > 1e-12 * np.abs(mean)
    first, last = _ends(time)
    with np.errstate(invalid="ignore", divide="ignore"):
        level = np.log10(np.where(varies, spread, np.nan)).reshape(rows, bands)
        span = last - first
        phase = (time.values - first[time.row]) / span[time.row]
        point = np.stack([phase, (flux - mean[key]) / spread[key], error / spread[key]], axis=1)
    measures = _measures(columns, settings, time, flux, error, band == main[time.row])
    measures += [level[np.arange(rows), main], span / 365.0]
    reasons = np.full(rows, "", object)
    reasons[~varies.reshape(rows, bands)[np.arange(rows), main]] = "flux does not vary (MAD = 0)"
    reasons[~(span > 0)] = "all points at one time"
    reasons[time.lengths < settings.least] = f"fewer than {settings.least} points"
    point[~varies[key]] = np.nan
    channels = [point, np.stack(measures, axis=1)[time.row].astype(np.float64)]
    if settings.bands:
        channels.append((band[:, None] == np.arange(bands)).astype(np.float64))
    made = _lay_out(time, np.concatenate(channels, axis=1), settings)
    return Prepared(made, None, reasons)


def _as_published(given: Lists, settings: CurveSettings) -> Prepared:
    """Channels that were scaled by others: points that are all zero are padding."""
    width = len(names(settings))
    if (given.lengths % width).any():
        raise UsageError(
            f"photometry: the published channels are not {width} a point",
            "--set photometry.measures=measured",
        )
    points = given.values.reshape(-1, width)
    row = np.repeat(np.arange(len(given)), given.lengths // width)
    real = points.any(axis=1)
    counts = np.bincount(row[real], minlength=len(given))
    time = Lists(points[real, 0], np.concatenate([[0], np.cumsum(counts)]))
    reasons = np.full(len(given), "", object)
    reasons[counts < settings.least] = f"fewer than {settings.least} points"
    return Prepared(_lay_out(time, points[real], settings), None, reasons)


def _points(
    columns: Columns, settings: CurveSettings
) -> tuple[Lists, Array, Array, NDArray[np.int64]]:
    """Valid points, sorted and without repeats: times as lists; flux, error, band of each."""
    time = lists(columns["time"])
    row, flux, error = time.row, *_flux(columns, time)
    band = np.zeros(len(row), np.int64)
    if settings.bands:
        if "band" not in columns:
            raise UsageError(
                f"photometry: bands = {','.join(settings.bands)}, but the raw data name no band",
                "--set photometry.bands=",
            )
        names = np.asarray(lists(columns["band"]).values).astype(str)
        band = np.full(len(row), -1, np.int64)
        for index, name in enumerate(settings.bands):
            band[names == name] = index
    valid = np.isfinite(time.values) & np.isfinite(flux) & (band >= 0)
    at = np.flatnonzero(valid)
    at = at[curves.ordered(row[at], time.values[at], (flux[at], error[at], band[at]))]
    offsets = np.concatenate([[0], np.cumsum(np.bincount(row[at], minlength=len(time)))])
    kept = Lists(time.values[at].astype(np.float64), offsets)
    return kept, flux[at], error[at], band[at]


def _flux(columns: Columns, time: Lists) -> tuple[Array, Array]:
    """Flux and error of every point; magnitudes become flux relative to their median."""
    empty = np.full(len(time.values), np.nan)
    given = {n: lists(columns[n]) for n in ("flux", "magnitude", "error") if n in columns}
    for name, rows in given.items():
        if not np.array_equal(rows.offsets, time.offsets):
            raise UsageError(f"photometry: time and {name} differ in length in some row")
    error = given["error"].values.astype(np.float64) if "error" in given else empty
    error = np.where(np.isfinite(error) & (error >= 0), error, np.nan)
    if not given.keys() & {"flux", "magnitude"}:
        raise UsageError("photometry: the raw data have neither flux nor magnitude")
    flux = given["flux"].values.astype(np.float64) if "flux" in given else empty
    if "magnitude" not in given:
        return flux, error
    magnitude = given["magnitude"].values.astype(np.float64)
    magnitude = np.where(np.abs(magnitude) < FAINTEST, magnitude, np.nan)
    middle = median_of_lists(Lists(magnitude, time.offsets))[time.row]
    relative = 10 ** (-0.4 * (magnitude - middle))
    lacking = np.bincount(time.row, weights=np.isfinite(flux), minlength=len(time))[time.row] == 0
    error = np.where(lacking, relative * 0.4 * np.log(10) * error, error)
    return np.where(lacking, relative, flux), error


def _mad_by_key(flux: Array, key: NDArray[np.int64], keys: int) -> NDArray[np.float64]:
    order = np.argsort(key, kind="stable") if (np.diff(key) < 0).any() else np.arange(len(key))
    offsets = np.concatenate([[0], np.cumsum(np.bincount(key, minlength=keys))])
    return mad_of_lists(Lists(flux[order], offsets))


def _ends(time: Lists) -> tuple[Array, Array]:
    first, last = np.full((2, len(time)), np.nan)
    some = time.lengths > 0
    first[some] = time.values[time.offsets[:-1][some]]
    last[some] = time.values[time.offsets[1:][some] - 1]
    return first, last


def _measures(
    columns: Columns, settings: CurveSettings, time: Lists, flux: Array, error: Array,
    inside: NDArray[np.bool_],
) -> list[Array]:  # fmt: skip
    """Amplitude, log10 period, string length and the fourth, of the points inside ([rows] each)."""
    row = time.row[inside]
    offsets = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=len(time)))])
    time, flux, error = Lists(time.values[inside], offsets), flux[inside], error[inside]
    period = _column(columns, "period", len(time))
    period = np.where(period > 0, period, np.nan)
    if settings.periods == "fill":
        for i in np.flatnonzero(np.isnan(period) & (time.lengths >= settings.least)).tolist():
            at = slice(offsets[i], offsets[i + 1])
            period[i] = curves.best_period(time[i], flux[at], error[at], settings.shortest_period)
    if settings.measures == "astrom3":
        catalogue = [_column(columns, n, len(time)) for n in ("amplitude", *ASTROM3[2:])]
        return [catalogue[0], np.log10(period), *catalogue[1:]]
    return [
        curves.amplitude(Lists(flux, offsets)),
        np.log10(period),
        curves.string_length(time, flux, period),
        curves.peak_to_peak(Lists(flux, offsets), error),
    ]


def _column(columns: Columns, name: str, rows: int) -> NDArray[np.float64]:
    given = columns.get(name)
    return np.full(rows, np.nan) if given is None else np.array(given, np.float64)


def _lay_out(time: Lists, channels: Array, settings: CurveSettings) -> NDArray[np.float32]:
    """[rows, length x channels]; NaN after the end of a curve."""
    surplus = np.maximum(time.lengths - settings.length, 0)
    start = surplus // 2 if settings.crop == "centre" else np.zeros_like(surplus)
    within = start[:, None] + np.arange(settings.length)
    beyond = within >= time.lengths[:, None]
    # One row more, of NaN, is what lies after the end of a curve.
    nothing = np.full((1, channels.shape[1]), np.nan)
    source = np.concatenate([channels, nothing]).astype(np.float32)
    at = np.where(beyond, len(channels), time.offsets[:-1, None] + within)
    made = source.take(at, axis=0)
    return made.reshape(len(time), settings.length * channels.shape[1])


def names(settings: CurveSettings) -> tuple[str, ...]:
    """Names of the channels."""
    four = MEASURED if settings.measures == "measured" else ASTROM3
    return (*POINT, *four, *LEVEL, *(f"is {b}" for b in settings.bands))


def labels(settings: CurveSettings) -> list[str]:
    """Names of the prepared values."""
    return [f"{name} {k}" for k in range(settings.length) for name in names(settings)]


def anchors(settings: CurveSettings) -> NDArray[np.int64]:
    """Four measures are z-scaled, by their values at the first point; the rest is kept."""
    channel = np.arange(len(names(settings)))
    one = np.where(np.isin(channel, list(STANDARDISED)), channel, -1)
    return np.tile(one, settings.length)


def configure(settings: CurveSettings) -> Modality:
    """The modality under these settings.

    Raises:
        UsageError: If a setting is not one of the known ones.
    """
    one_of("photometry.crop", settings.crop, ("centre", "start"))
    one_of("photometry.measures", settings.measures, ("measured", "astrom3"))
    one_of("photometry.periods", settings.periods, ("fill", "catalogue"))
    if settings.length < 2 or not settings.shortest_period > 0:
        raise UsageError(
            f"photometry: length = {settings.length}, shortest_period = "
            f"{settings.shortest_period} cannot be",
            "--set photometry.length=200",
        )
    return Modality(
        name="photometry",
        title="Light curve",
        columns=COLUMNS,
        labels=partial(labels, settings),
        unit="time 0-1, (flux - mean) / MAD, measures",
        prepare=partial(prepare, settings=settings),
        encoder="curve-cnn",
        kind="light curve",
        shape=(settings.length, len(names(settings))),
        normalisation="z",
        anchors=partial(anchors, settings),
        aliases=("lightcurve", "light-curve"),
        export=Export("lightcurve", ("time", "flux", "error"), multimodal.light_curves),
        settings=settings,
        configure=configure,
    )


MODALITY = configure(CurveSettings())
