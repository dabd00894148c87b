"""Single objects: their light curves, spectra and images, beside those of others."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from mmclip.datasets.objects import Portrait
from mmclip.errors import UsageError
from mmclip.plots.style import COLOURS, GREY, new_figure, symmetric_logarithm, tidy

Scatter = tuple[str, ArrayLike, ArrayLike, int, str, str, bool]  # see `dossier_figure`


def draw_object(axes: Axes, portrait: Portrait, title: str, colour: str) -> None:
    """One view of an object: points for a light curve, an image, else a line."""
    if portrait.kind == "image":
        draw_image(axes, portrait.y, title, colour)
        return
    if "light curve" in portrait.kind:
        axes.errorbar(
            portrait.x, portrait.y, yerr=portrait.error, fmt=".", markersize=3, linewidth=0,
            elinewidth=0.5, color=colour, ecolor=GREY, alpha=0.8,
        )  # fmt: skip
        low, high = np.nanpercentile(portrait.y, [0.5, 99.5])
        margin = 0.15 * (high - low) or 0.1
        axes.set_ylim(low - margin, high + margin)
        axes.xaxis.set_major_locator(MaxNLocator(4 if portrait.kind == "light curve" else 5))
    else:
        mark = "" if portrait.kind == "spectrum" else "."
        if portrait.kind == "coefficients":
            symmetric_logarithm(axes, portrait.y)
        axes.plot(portrait.x, portrait.y, color=colour, linewidth=1.1, marker=mark)
    if portrait.inverted:
        axes.invert_yaxis()
    if portrait.modelled:
        axes.text(
            0.5, 0.5, "MODELLED", transform=axes.transAxes, ha="center", va="center", fontsize=18,
            color=COLOURS[1], alpha=0.28, rotation=15,
        )  # fmt: skip
    axes.set_xlabel(portrait.xlabel, fontsize=8)
    axes.set_ylabel(portrait.ylabel, fontsize=8)
    axes.tick_params(labelsize=8)
    tidy(axes)
    axes.set_title(title, fontsize=9, loc="left")


def portraits_figure(panels: Sequence[tuple[Portrait, str, bool]], title: str = "") -> Figure:
    """Objects as they look in a view, three a row; those marked True (the queries) in vermillion.

    Args:
        panels: (view of an object, heading, mark).
        title: Heading of the whole; may be empty.

    Raises:
        UsageError: If there is nothing to draw.
    """
    if not panels:
        raise UsageError("there is nothing to draw", "leave --plot out")
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    figure = new_figure(3.7 * columns + 0.3, 2.4 * rows + 0.4)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes, (portrait, heading, marked) in zip(grid.flat, panels):
        draw_object(axes, portrait, heading, COLOURS[1] if marked else COLOURS[0])
    for axes in list(grid.flat)[len(panels) :]:
        axes.set_visible(False)
    if title:
        figure.suptitle(title, fontsize=12)
    return figure


def dossier_figure(
    views: Sequence[Portrait],
    scatters: Sequence[Scatter],
    title: str = "",
) -> Figure:
    """Every view of one object, and its place among the others, side by side.

    Args:
        views: The object as it looks in each.
        scatters: Panels in which the object is one of many: heading, x and y of all, the
            object's row, labels of x and y, and whether y is a magnitude (bright is up).
        title: Heading; may be empty.
    """
    count = max(1, len(views) + len(scatters))
    columns = min(4, count)
    rows = -(-count // columns)
    figure = new_figure(3.3 * columns, 2.7 * rows + 0.3)
    grid = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes, portrait in zip(grid, views):
        draw_object(axes, portrait, f"{portrait.view}: {portrait.kind}", COLOURS[0])
    for axes, (name, x, y, mine, xlabel, ylabel, inverted) in zip(grid[len(views) :], scatters):
        px, py = np.asarray(x, float), np.asarray(y, float)
        some = np.random.default_rng(0).permutation(len(px))[:5000]
        axes.scatter(px[some], py[some], s=2, c="#b5b9c0", linewidths=0, rasterized=True)
        axes.scatter(
            px[mine], py[mine], s=130, marker="*", c=COLOURS[1], edgecolors="black",
            linewidths=0.6, zorder=3,
        )  # fmt: skip
        for low_high, values, across in ((axes.set_xlim, px, True), (axes.set_ylim, py, False)):
            known = values[np.isfinite(values)]
            if len(known):
                ends = np.percentile(known, [0.2, 99.8])
                own = values[mine] if np.isfinite(values[mine]) else ends[0]
                low, high = min(ends[0], own), max(ends[1], own)
                margin = 0.06 * (high - low) or 1.0
                flip = inverted and not across
                low_high(
                    *((high + margin, low - margin) if flip else (low - margin, high + margin))
                )
        tidy(axes)
        axes.set_title(name, fontsize=9, loc="left")
        axes.set_xlabel(xlabel, fontsize=8)
        axes.set_ylabel(ylabel, fontsize=8)
        axes.tick_params(labelsize=8)
    for axes in grid[count:]:
        axes.set_visible(False)
    if title:
        figure.suptitle(title, fontsize=11, x=0.01, ha="left")
    return figure


def draw_image(axes: Axes, pixels: ArrayLike, title: str, colour: str) -> None:
    """An image [height, width, 1 or 3] without axes, framed in a colour."""
    shown = np.asarray(pixels, float)
    axes.imshow(shown[:, :, 0] if shown.shape[2] == 1 else shown, cmap="gray", vmin=0, vmax=1)
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set_color(colour)
        spine.set_linewidth(2)
    axes.set_title(title, fontsize=9, loc="left")
