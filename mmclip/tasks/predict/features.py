"""What a head reads of a star: each view as a few numbers, in one scale, NaN where it is missing.

n stars, L entries of a view, d features.

A spectrum is taken as arcsinh of its flux over the median: a logarithm with a floor turns the noisy
blue end of faint cool stars into large numbers, arcsinh does not. Of its principal components each
is divided by the square root of its deviation, half of a whitening. Where there are errors the same
is done once more with each pixel in units of its median error, so that noisy pixels count less.
Photometry gives G - J, J - H, H - K and G, without the colours that follow from these.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mmclip.datasets.build import Dataset, View
from mmclip.modalities import Modality, restore, restore_error
from mmclip.tasks.curve_summary import summary

Floats = NDArray[np.floating[Any]]
Form = Literal["flux", "flux / error", "columns", "curve", "values", "vectors", "noise"]
COMPONENTS = 80  # of a spectrum
SAMPLE = 10_000  # stars that the components are learned from
AT_ONCE = 1 << 20  # entries read at a time
WIDE, FEW = 4096, 1000  # entries of a wide view, of which so many stars are enough
CLIP = 4.0  # deviations to which a column or a noise is limited
COLUMN, MAGNITUDE = 0.15, 0.10  # weight of a colour, and of a magnitude, beside a spectrum's 1
NOISE = 0.01  # weight of log10 S/N: networks see it, distances do not
COLOURS = ("phot_g_mean_mag - j_m", "j_m - h_m", "h_m - ks_m")
BRIGHTNESS = "phot_g_mean_mag"


@dataclass(frozen=True)
class Block:
    """How one view becomes features: ((f(values) - centre) / scale, limited) @ axes.

    Attributes:
        view: Name of the view.
        form: What f is.
        size: Shape of one object of the view.
        columns: Entries of the view that are used; empty: all.
        centre, scale: Of each of them.
        axes: [entries, d] weights included.
        gain: [d] what brings each feature to deviation 1 or, of a spectrum, all to one scale.
        draws: Measures of random parts of a light curve that stand behind those of the whole.
    """

    view: str
    form: Form
    size: tuple[int, ...]
    columns: NDArray[np.int64]
    centre: Floats
    scale: Floats
    axes: Floats
    gain: Floats
    draws: int = 0

    def __call__(self, values: Floats, draw: int = 0) -> NDArray[np.float32]:
        """[n, L] physical values -> [n, d]; a star of which no entry is known is NaN.

        Draw 0 is the whole curve; a view of fewer draws gives its last.
        """
        seen = np.isfinite(values).any(axis=1)
        raw = _form(values, self.form, self.size)
        after = min(draw, self.draws) * (raw.shape[1] // (1 + self.draws))
        raw = raw[:, self.columns + after] if len(self.columns) else raw
        bound = CLIP if self.form in ("columns", "curve", "noise") else np.inf
        scaled = np.clip((raw - self.centre) / self.scale, -bound, bound)
        made = (np.nan_to_num(scaled) @ self.axes).astype(np.float32)
        made[~seen] = np.nan
        return made

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What is stored beside `view`, `form` and `size`."""
        names = ("columns", "centre", "scale", "axes", "gain")
        return {n: np.ascontiguousarray(getattr(self, n)) for n in names}


def block_of(about: Mapping[str, Any], held: Mapping[str, NDArray[Any]]) -> Block:
    """The inverse of `Block.arrays`; `about` holds `view`, `form`, `size` and any `draws`."""
    draws = int(about.get("draws", 0))
    return Block(about["view"], about["form"], tuple(about["size"]), **held, draws=draws)


def _form(values: Floats, form: Form, size: tuple[int, ...]) -> Floats:
    if form in ("flux", "flux / error"):
        return np.arcsinh(values)
    return summary(values.astype(np.float32), size) if form == "curve" else values


def form_of(modality: Modality, size: tuple[int, ...]) -> Form:
    """How a view of this modality is taken."""
    if modality.kind == "spectrum" and modality.axis is not None:
        return "flux"
    if modality.kind == "table":
        return "columns"
    return "curve" if len(size) == 2 else "values"


def learn(view: str, modality: Modality, values: Floats, size: tuple[int, ...]) -> Block:
    """The features of a view, learned from physical values [n, L] of training stars."""
    form = form_of(modality, size)
    if form in ("columns", "curve"):
        labels = modality.labels() if form == "columns" else []
        draws = int(getattr(modality.settings, "draws", 0))
        return _columns(view, form, size, _form(values, form, size), labels, draws)
    return components(view, form, size, values)


def _columns(
    view: str, form: Form, size: tuple[int, ...], raw: Floats, labels: list[str], draws: int
) -> Block:
    chosen = np.arange(raw.shape[1] // (1 + draws))  # of the whole curve, without its draws
    weight = np.full(len(chosen), COLUMN if form == "columns" else len(chosen) ** -0.5)
    if {*COLOURS, BRIGHTNESS} <= set(labels):
        chosen = np.array([labels.index(n) for n in (*COLOURS, BRIGHTNESS)])
        weight = np.array([COLUMN, COLUMN, COLUMN, MAGNITUDE])
    centre, scale = _moments(raw[:, chosen])
    return Block(view, form, size, chosen, centre, scale, np.diag(weight), 1 / weight, draws)


def _moments(values: Floats) -> tuple[Floats, Floats]:
    """Median and deviation of each column's finite values; 0 and 1 where there are none."""
    centre, scale = np.zeros(values.shape[1]), np.ones(values.shape[1])
    for j, column in enumerate(values.T):
        known = column[np.isfinite(column)].astype(np.float64)
        if len(known):
            centre[j], spread = np.median(known), known.std()
            scale[j] = spread if spread > 1e-9 * max(1.0, abs(centre[j])) else 1.0
    return centre, scale


def weighted(view: str, size: tuple[int, ...], values: Floats, errors: Floats) -> Block:
    """Components of arcsinh(flux) in units of each pixel's median error ([n, L] both)."""
    with np.errstate(all="ignore"):
        noise = errors / np.hypot(values, 1.0)  # d arcsinh(f) = df / sqrt(1 + f^2)
    known = np.isfinite(noise) & (noise > 0)
    every = float(np.median(noise[known]))
    scale = np.array([np.median(c[k]) if k.any() else every
                      for c, k in zip(noise.T, known.T, strict=True)])  # fmt: skip
    return components(view, "flux / error", size, values, scale=scale)


def components(
    view: str, form: Form, size: tuple[int, ...], values: Floats, most: int = COMPONENTS,
    power: float = 0.5, scale: Floats | None = None,
) -> Block:  # fmt: skip
    """Principal components, each divided by its deviation**power, of total variance 1.

    Entries are first divided by `scale` [L], if it is given.
    """
    raw = _form(values, form, size)
    scale = np.ones(raw.shape[1]) if scale is None else scale
    raw = raw / scale
    raw = raw[np.isfinite(raw).any(axis=1)].astype(np.float64)
    mean = np.nan_to_num(np.nanmean(raw, axis=0)) if len(raw) else np.zeros(raw.shape[1])
    away = np.nan_to_num(raw - mean)
    if len(away) < away.shape[1]:
        variance, left = np.linalg.eigh(away @ away.T / max(len(away), 1))
        lengths = np.sqrt(np.maximum(variance, 1e-30) * max(len(away), 1))
        turn = away.T @ left / lengths
    else:
        variance, turn = np.linalg.eigh(away.T @ away / max(len(away), 1))
    variance, turn = variance[::-1], turn[:, ::-1]
    kept = min(most, max(1, int((variance > 1e-10 * max(variance[0], 1e-30)).sum())))
    deviation = np.sqrt(np.maximum(variance[:kept], 1e-30))
    total = np.sqrt((deviation ** (2 - 2 * power)).sum())
    axes = turn[:, :kept] / deviation**power / total
    gain = np.full(kept, np.sqrt(kept))
    return Block(view, form, size, np.zeros(0, np.int64), mean * scale, scale, axes, gain)


def noise_block(view: str, ratio: Floats) -> Block:
    """log10 S/N of a view as a feature of its own."""
    centre, scale = _moments(ratio[:, None])
    axes = np.array([[NOISE]])
    return Block(view, "noise", (1,), np.zeros(0, np.int64), centre, scale, axes, 1 / axes[0])


@dataclass(frozen=True)
class Rows:
    """A view of some stars: physical values [n, L] and log10 S/N [n], NaN where unknown.

    `errors` [n, L] are 1 sigma, or None.
    """

    values: Floats
    noise: Floats
    errors: Floats | None = None


Read = Callable[[NDArray[np.int64]], Rows]  # rows of a data set -> a view of them


def reader(view: View) -> Read:
    """Reads rows of a view of a data set, in its own unit."""

    def read(rows: NDArray[np.int64]) -> Rows:
        values = restore(np.asarray(view.values[rows]), view.statistics)
        if view.errors is None:
            return Rows(values, np.full(len(rows), np.nan))
        errors = restore_error(np.asarray(view.errors[rows]), view.statistics)
        return Rows(values, log_snr(values, errors), errors)

    return read


def log_snr(values: Floats, errors: Floats) -> Floats:
    """[n] log10 of the median of |value| / error over the entries; NaN where there is none."""
    with np.errstate(all="ignore"):
        ratio = np.abs(values) / np.where(errors > 0, errors, np.nan)
    ratio.sort(axis=1)  # what is unknown comes last; np.nanmedian takes ten times the memory
    known = (~np.isnan(ratio)).sum(axis=1)[:, None]
    middle = [
        np.take_along_axis(ratio, np.maximum(i, 0), 1) for i in ((known - 1) // 2, known // 2)
    ]
    with np.errstate(divide="ignore"):
        return np.asarray(np.log10(np.maximum(np.mean(middle, axis=0)[:, 0], 1e-3)))


def noise_of(data: Dataset, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """[rows] log10 S/N, the largest of the opened views with errors; NaN where there is none."""
    found = np.full(len(rows), np.nan)
    for view in data.views.values():
        read = reader(view)
        step = max(1, AT_ONCE // max(1, view.values.shape[1]))
        for start in range(0, len(rows) if view.errors is not None else 0, step):
            part = slice(start, start + step)
            found[part] = np.fmax(found[part], read(rows[part]).noise)
    return found


def vectors_reader(vectors: NDArray[np.float32]) -> Read:
    """Reads rows of vectors [stars, dim], NaN for a star without the view."""
    return lambda rows: Rows(np.asarray(vectors[rows], np.float64), np.full(len(rows), np.nan))


def some(rows: NDArray[np.int64], most: int = SAMPLE) -> NDArray[np.int64]:
    """At most so many rows, drawn at random but always the same."""
    if len(rows) <= most:
        return rows
    return np.sort(np.random.default_rng(42).choice(rows, most, replace=False))
