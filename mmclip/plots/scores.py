"""How good predictions are: truth against prediction, confusion, recall, calibration."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator, StrMethodFormatter
from numpy.typing import ArrayLike

from mmclip.datasets.build import Dataset
from mmclip.errors import UsageError
from mmclip.metrics import Calibration, confusion
from mmclip.plots.style import COLOURS, GREY, Floats, new_figure, tidy
from mmclip.results import Row, number
from mmclip.tasks.knn import Predictions, label

POINTS = 1000  # stars, from which on their density is drawn

if TYPE_CHECKING:
    from mmclip.tasks.classify import Answer


def prediction_figure(
    truth: ArrayLike, predicted: ArrayLike, label: str, title: str = ""
) -> Figure:
    """Predicted against true, with the residual below: points, or of 1,000 stars their density.

    R^2, mean residual and NMAD (1.4826 times the median absolute deviation) are of all pairs that
    are both finite; the axes leave out the outermost 0.2 %, and of a Teff are logarithmic.

    Args:
        truth, predicted: One value a star, both in the unit that `label` names.
        label: Name and unit of the quantity.
        title: Heading; may be empty.

    Raises:
        UsageError: If no pair is finite.
    """
    t, p = np.asarray(truth, float), np.asarray(predicted, float)
    good = np.isfinite(t) & np.isfinite(p)
    if not good.any():
        raise UsageError(f"no star has both a true and a predicted {label}", "another --target")
    t, p = t[good], p[good]
    figure = new_figure(5.4, 6.4)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    low, high = np.percentile(np.concatenate([t, p]), [0.2, 99.8])
    margin = 0.05 * (high - low) or 1.0
    edges = (low - margin, high + margin)
    log = label.lower().startswith("teff") and min(t.min(), p.min()) > 0
    if log:
        edges = (low / 1.05, high * 1.05)
    _pairs(figure, above, t, p, (edges, edges), (log, log), 45)
    above.plot(edges, edges, color=COLOURS[1], linewidth=1.2)
    residual = p - t
    spread = ((t - t.mean()) ** 2).sum()
    r2 = 1 - (residual**2).sum() / spread if spread > 0 else float("nan")
    nmad = 1.4826 * np.median(np.abs(residual - np.median(residual)))
    words = f"$R^2$ = {r2:.3f}\nbias = {residual.mean():.3g}\nNMAD = {nmad:.3g}\nN = {len(t)}"
    above.text(
        0.04, 0.96, words, transform=above.transAxes, va="top", fontsize=9, linespacing=1.4,
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 2},
    )  # fmt: skip
    above.set(ylabel=f"predicted {label}", xlim=edges, ylim=edges)
    reach = np.percentile(np.abs(residual), 99) * 1.2 or 1.0
    _pairs(None, below, t, residual, (edges, (-reach, reach)), (log, False), (45, 12))
    below.axhline(0, color=COLOURS[1], linewidth=1.2)
    if log:
        for axis in (above.xaxis, above.yaxis, below.xaxis):
            axis.set_major_locator(LogLocator(subs=(1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0)))
            axis.set_major_formatter(StrMethodFormatter("{x:g}"))
            axis.set_minor_locator(NullLocator())
    else:
        below.xaxis.set_major_locator(MaxNLocator(6))
    below.set(xlabel=f"true {label}", ylabel="predicted − true", ylim=(-reach, reach))
    tidy(above, title)
    tidy(below)
    return figure


def _pairs(
    figure: Figure | None, axes: Axes, x: Floats, y: Floats,
    ends: tuple[tuple[float, float], tuple[float, float]], log: tuple[bool, bool],
    cells: int | tuple[int, int],
) -> None:  # fmt: skip
    """Points of fewer than `POINTS` stars, the density of more; log axes where they are asked.

    Args:
        figure: Gets the bar of the density; None: no bar.
        axes: Where.
        x, y: [stars].
        ends: Of x and of y.
        log: Whether x, y are logarithmic.
        cells: Of the density.
    """
    for wanted, scale in zip(log, (axes.set_xscale, axes.set_yscale)):
        if wanted:
            scale("log")
    if len(x) < POINTS:
        axes.scatter(x, y, s=10, alpha=0.6, color=COLOURS[0], linewidths=0, rasterized=True)
        return
    a, b, c, d = (np.log10(e) if flag else e for pair, flag in zip(ends, log) for e in pair)
    drawn = axes.hexbin(
        x, y, gridsize=cells, bins="log", mincnt=1, cmap="cividis", extent=(a, b, c, d),
        xscale="log" if log[0] else "linear", yscale="log" if log[1] else "linear",
    )  # fmt: skip
    if figure is None:
        return
    bar = figure.colorbar(drawn, ax=axes, label="stars per cell", aspect=30)
    bar.ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    bar.ax.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    bar.ax.yaxis.set_minor_locator(NullLocator())


def knn_figure(data: Dataset, made: Predictions, k: int) -> Figure:
    """Predictions of a number against the truth, or the confusion matrix of a class."""
    title = f"k-NN (k={k}) from {made.view}"
    if made.classes:
        counts = confusion(made.truth, made.predicted, list(made.classes))
        return confusion_figure(counts, made.classes, title)
    return prediction_figure(made.truth, made.predicted, label(data, made.target), title)


def recall_figure(rows: Sequence[Row]) -> Figure:
    """Recall@1/5/10 of each direction as bars, chance as black marks; logarithmic.

    Args:
        rows: Each with `direction`, `recall@1`, `recall@5`, `recall@10` (fractions) and
            `candidates` (how many stars were searched, so that chance is k / candidates).
    """
    figure = new_figure(max(5.0, 1.6 * len(rows) + 2), 4.0)
    axes = figure.subplots()
    lowest = 1.0
    for i, k in enumerate((1, 5, 10)):
        place = np.arange(len(rows)) + (i - 1) * 0.28
        heights = [number(r, f"recall@{k}") for r in rows]
        axes.bar(place, heights, 0.26, color=COLOURS[i], label=f"recall@{k}")
        chance = [min(1.0, k / number(r, "candidates")) for r in rows]
        lowest = min([lowest, *chance, *(h for h in heights if h > 0)])
        for width, colour in ((4.5, "white"), (2.0, "black")):
            axes.hlines(
                chance, place - 0.13, place + 0.13, color=colour, linewidth=width, zorder=3,
                label="chance" if (k, colour) == (10, "black") else "",
            )  # fmt: skip
        for where, height, level in zip(place, heights, chance, strict=True):
            axes.annotate(
                f"{height:.2g}", (where, max(height, level)), xytext=(0, 3), ha="center",
                textcoords="offset points", fontsize=8,
            )  # fmt: skip
    axes.set(ylabel="fraction of test stars", yscale="log", ylim=(lowest / 2, 1.6))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set_xticks(
        range(len(rows)), [f"{r['direction']}\n{r['candidates']} candidates" for r in rows]
    )
    axes.legend(frameon=False, fontsize=9, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    tidy(axes)
    axes.grid(False, axis="x")
    return figure


def confusion_figure(counts: ArrayLike, classes: Sequence[str], title: str = "") -> Figure:
    """A confusion matrix: colour is the part of the true class, the number the stars.

    Args:
        counts: [classes, classes]; row the true class, column the predicted one.
        classes: Their names.
        title: Heading; may be empty.
    """
    n = np.asarray(counts)
    part = n / np.maximum(n.sum(axis=1, keepdims=True), 1)
    side = 0.52 * len(classes) + 2.2
    figure = new_figure(side + 0.6, side)
    axes = figure.subplots()
    drawn = axes.imshow(part, cmap="cividis", vmin=0, vmax=1)
    figure.colorbar(drawn, ax=axes, label="part of the true class", aspect=30)
    for i in range(len(classes)):
        for j in range(len(classes)):
            if n[i, j]:
                colour = "black" if part[i, j] > 0.55 else "white"
                axes.text(j, i, f"{n[i, j]}", ha="center", va="center", fontsize=8, color=colour)
    axes.set_xticks(range(len(classes)), classes, rotation=60, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(classes)), classes)
    axes.set(xlabel="predicted class", ylabel="true class")
    axes.tick_params(length=0, labelsize=9)
    axes.spines[:].set_visible(False)
    if title:
        axes.set_title(title, loc="left", fontsize=12)
    return figure


def reliability_figure(methods: Mapping[str, Calibration], title: str = "") -> Figure:
    """Accuracy against confidence, one line a method; the diagonal is a perfect forecast.

    Args:
        methods: Calibration by name.
        title: Heading; may be empty.
    """
    figure = new_figure(5.0, 4.6)
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle="--", label="perfect")
    for i, (name, found) in enumerate(methods.items()):
        filled = found.counts > 0
        colour = COLOURS[i % len(COLOURS)]
        axes.plot(
            found.confidence[filled], found.accuracy[filled],
            color=colour, marker="os^Dv"[i % 5], linewidth=1.4, markersize=4,
            label=f"{name} (ECE {found.ece:.3f})",
        )  # fmt: skip
    axes.set(xlabel="confidence", ylabel="accuracy", xlim=(0, 1), ylim=(0, 1.02))
    axes.legend(frameon=False, fontsize=9)
    tidy(axes, title)
    return figure


def calibration_figure(
    pit: ArrayLike, parts: ArrayLike, covered: ArrayLike, title: str = ""
) -> Figure:
    """Histogram of the probability integral transform, and covered against nominal part.

    Args:
        pit: Ranks of observations in their predicted distribution, 0 to 1; flat if right.
        parts: Nominal parts of central intervals.
        covered: Part of the observations within each.
        title: Heading; may be empty.
    """
    ranks = np.asarray(pit, float)
    ranks = ranks[np.isfinite(ranks)]
    figure = new_figure(7.8, 3.6)
    left, right = figure.subplots(1, 2)
    left.hist(ranks, bins=20, range=(0, 1), density=True, color=COLOURS[0], alpha=0.75)
    left.axhline(1.0, color=COLOURS[1], linewidth=1.2)
    left.set(xlabel="rank of the observation (PIT)", ylabel="density", xlim=(0, 1))
    right.plot([0, 1], [0, 1], color=COLOURS[1], linewidth=1.2)
    right.plot(np.asarray(parts), np.asarray(covered), "o", color=COLOURS[0], markersize=4)
    right.set(xlabel="nominal part", ylabel="part of observations within", xlim=(0, 1), ylim=(0, 1))
    tidy(left, title)
    tidy(right)
    return figure


def classifier_figures(classes: Sequence[str], made: "Answer", views: str) -> dict[str, Figure]:
    """The confusion matrix of each classifier and the reliability of all, by a name for a file."""
    found = {
        f"{views}-{name}".replace(" ", "-"): confusion_figure(
            counts, classes, f"{views}: {_words(name)}, added over seeds"
        )
        for name, counts in made.confusions.items()
    }
    if made.reliability:
        methods = {_words(name): about for name, about in made.reliability.items()}
        found[f"{views}-reliability".replace(" ", "-")] = reliability_figure(methods, views)
    return found


def _words(name: str) -> str:
    """A classifier and fraction for people: "head 0.1" is "head, 10 % of the labels"."""
    method, _, fraction = name.rpartition(" ")
    return f"{method}, {100 * float(fraction):g} % of the labels"
