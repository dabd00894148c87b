"""Curves: training by epoch, folded light curves of groups, scores by number of labels."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator
from numpy.typing import NDArray

from mmclip.artifacts import Artifact
from mmclip.datasets.build import Dataset
from mmclip.datasets.objects import of_curves
from mmclip.errors import UsageError
from mmclip.plots.spectra import overlay_figure
from mmclip.plots.style import COLOURS, GREY, new_figure, tidy
from mmclip.tasks.cluster import MeanCurve, mean_curves, mean_views


def mean_curves_figure(
    curves: Sequence[MeanCurve], faint: bool, unit: str, names: Sequence[str], title: str = ""
) -> Figure:
    """Mean folded light curves side by side on one scale, two cycles; bright is up.

    Args:
        curves: Of each group; those of no stars are left out.
        faint: Whether phase 0 is where stars are faintest.
        unit: What the curves are in, as at the axis of one light curve.
        names: Of the groups.
        title: Heading; may be empty.
    """
    shown = [(c, n, i) for i, (c, n) in enumerate(zip(curves, names, strict=True)) if c.stars]
    columns = min(4, len(shown))
    rows = -(-len(shown) // columns)
    figure = new_figure(2.7 * columns + 0.9, 2.7 * rows + 0.6)
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    # The sign of a magnitude comes back: brighter is smaller.
    sign = -1 if unit.startswith("magnitude") else 1
    for axes, (curve, name, i) in zip(grid.flat, shown):
        phase = np.arange(2 * len(curve.middle)) / len(curve.middle)
        low, middle, high = (np.tile(sign * v, 2) for v in (curve.low, curve.middle, curve.high))
        colour = COLOURS[i % len(COLOURS)]
        axes.fill_between(phase, low, high, color=colour, alpha=0.22, linewidth=0)
        axes.plot(phase, middle, color=colour, linewidth=1.6)
        tidy(axes)
        axes.set_title(f"{name}\nmedian period {curve.period:.3g} d", fontsize=9, loc="left")
    for spare in range(len(shown), columns * rows):
        grid.flat[spare].set_visible(False)
        grid.flat[spare - columns].tick_params(labelbottom=True)
    if sign < 0:
        grid[0, 0].invert_yaxis()
    figure.supxlabel(f"phase (0 where {'faintest' if faint else 'brightest'})", fontsize=10)
    figure.supylabel(f"{unit} less the median", fontsize=10)
    if title:
        figure.suptitle(title, fontsize=12)
    return figure


def groups_figure(
    data: Dataset, raw: Artifact | None, labels: NDArray[np.int64], views: Sequence[str]
) -> Figure:
    """Mean spectra of groups in one panel, or their mean folded light curves side by side.

    Args:
        data: The objects, in the order of `labels`.
        raw: Where their light curves are, or None.
        labels: [objects] group of each; negative ones are in none.
        views: The first of these that is a spectrum or a light curve is drawn.

    Raises:
        UsageError: If none of them is.
    """
    counts = np.bincount(labels[labels >= 0])
    names = [f"group {i} ({n:,} stars)" for i, n in enumerate(counts)]
    for view in views:
        modality = data.modality(view)
        if of_curves(modality) and raw is not None:
            title = f"mean {view} of each group: median and 16th to 84th percentile"
            return mean_curves_figure(*mean_curves(data, raw, labels, view), names, title)
        if modality.kind == "spectrum" and modality.axis is not None:
            return overlay_figure(
                modality.axis(), mean_views(data, labels, view), names,
                f"wavelength [{modality.axis_unit}]", f"mean {modality.unit}",
                f"mean {view} of each group",
            )  # fmt: skip
    raise UsageError("no view here is a spectrum or a light curve to draw", "leave --plot out")


def curves_figure(
    steps: Sequence[float],
    series: Mapping[str, Sequence[float]],
    ylabel: str,
    title: str = "",
    xlabel: str = "epoch",
    rate: Sequence[float] = (),
) -> Figure:
    """Numbers by epoch, one line each; logarithmic if all are positive; below, the learning rate.

    Args:
        steps: Epochs.
        series: Numbers by name.
        ylabel, title, xlabel: For people.
        rate: Learning rate of each epoch; empty: no panel of it.
    """
    figure = new_figure(6.4, 5.0 if len(rate) else 3.8)
    axes, *below = figure.subplots(
        2 if len(rate) else 1, 1, squeeze=False, sharex=True,
        height_ratios=[3, 1] if len(rate) else [1],
    )[:, 0]  # fmt: skip
    for panel in below:
        panel.step(steps, rate, where="mid", color=GREY, linewidth=1.4)
        panel.set(ylabel="learning rate", yscale="log" if min(rate) > 0 else "linear")
        panel.set_xlabel(xlabel)
        tidy(panel)
    for i, (name, values) in enumerate(series.items()):
        style = ("-", "--", ":", "-.")[i // len(COLOURS) % 4]
        colour = COLOURS[i % len(COLOURS)]
        axes.plot(steps, values, color=colour, linestyle=style, linewidth=1.6, label=name)
    every = np.array([v for values in series.values() for v in values], float)
    if len(every) and (every[np.isfinite(every)] > 0).all():
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("")
    axes.set(xlabel="" if below else xlabel, ylabel=ylabel)
    if series:
        axes.legend(frameon=False, fontsize=9)
    tidy(axes, title)
    return figure
