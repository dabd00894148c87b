"""What mmclip is for, in one picture: a map, a star and its neighbours, labels with errors."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from mmclip.plots.style import COLOURS, GREY, new_figure, tidy


@dataclass(frozen=True)
class Look:
    """What the three panels show.

    Attributes:
        positions: [stars, 2] on the map; colour: [stars] Teff, K.
        query: Row of the star that is asked for; found: rows of its neighbours, best first.
        wavelength: [pixels] nm in vacuum; spectra: [1 + found, pixels] of the query, then of them.
        start, to: Views asked from and answered in.
        truth, value, lower, upper: [test stars] a label and its 68 % interval; of them `mine` is
            the star asked for.
        label: Name and unit of the label.
    """

    positions: NDArray[np.floating]
    colour: NDArray[np.floating]
    query: int
    found: Sequence[int]
    wavelength: NDArray[np.floating]
    spectra: NDArray[np.floating]
    start: str
    to: str
    truth: NDArray[np.floating]
    value: NDArray[np.floating]
    lower: NDArray[np.floating]
    upper: NDArray[np.floating]
    mine: int
    label: str


def first_look_figure(look: Look, title: str = "") -> Figure:
    """Map, neighbours across views, labels against the measured ones."""
    figure = new_figure(13.2, 4.3)
    left, middle, right = figure.subplots(1, 3, width_ratios=[1.08, 1.15, 1.0])
    _map(figure, left, look)
    _neighbours(middle, look)
    _labels(right, look)
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=12)
    return figure


def _map(figure: Figure, axes: Axes, look: Look) -> None:
    x, y = np.asarray(look.positions, float).T
    known = np.isfinite(look.colour)
    axes.scatter(x[~known], y[~known], s=4, c="#bbbbbb", linewidths=0, rasterized=True)
    low, high = np.percentile(look.colour[known], [5, 90])
    drawn = axes.scatter(x[known], y[known], s=5, c=look.colour[known], cmap="cividis", vmin=low,
                         vmax=high, linewidths=0, rasterized=True)  # fmt: skip
    figure.colorbar(drawn, ax=axes, label="Teff [K]", extend="both", aspect=30)
    axes.scatter(x[look.found], y[look.found], s=46, facecolors="none", edgecolors=COLOURS[1],
                 linewidths=1.4, label="its neighbours")  # fmt: skip
    axes.scatter(x[look.query], y[look.query], s=130, marker="*", c="white", edgecolors="black",
                 linewidths=1.0, label="a star", zorder=3)  # fmt: skip
    axes.legend(frameon=False, fontsize=9, loc="best")
    tidy(axes, "Where is a star among all?")
    axes.set(xticks=[], yticks=[], xlabel="UMAP 1", ylabel="UMAP 2")


def _neighbours(axes: Axes, look: Look) -> None:
    step = 0.9 * float(np.nanpercentile(look.spectra[0], 99) - np.nanpercentile(look.spectra[0], 1))
    for i, flux in enumerate(look.spectra):
        axes.plot(look.wavelength, flux - i * step, linewidth=1.2,
                  color="#222222" if i == 0 else COLOURS[1])  # fmt: skip
        name = "its own" if i == 0 else f"neighbour {i}"
        axes.text(look.wavelength[-1], flux[-1] - i * step, f" {name}", fontsize=8, va="center")
    axes.margins(x=0.02)
    axes.set_xlim(right=look.wavelength[-1] + 0.2 * np.ptp(look.wavelength))
    axes.set_xticks(np.arange(400, 1001, 200))
    axes.set(yticks=[], xlabel="wavelength in vacuum [nm]", ylabel="relative flux, shifted")
    tidy(axes, f"Which {look.to} looks like its {look.start}?")


def _labels(axes: Axes, look: Look) -> None:
    ends = [float(np.nanmin(look.truth)), float(np.nanmax(look.truth))]
    axes.plot(ends, ends, color=GREY, linewidth=1)
    _errorbar(
        axes, look, np.arange(len(look.truth)) != look.mine, COLOURS[0], 0.35, 3, "test stars"
    )
    _errorbar(axes, look, np.arange(len(look.truth)) == look.mine, COLOURS[1], 1.0, 8, "the star")
    axes.legend(frameon=False, fontsize=9, loc="upper left")
    axes.set(xlabel=f"{look.label}, APOGEE", ylabel=f"{look.label}, mmclip, 68 %")
    tidy(axes, "What are its labels?")


def _errorbar(axes: Axes, look: Look, some: ArrayLike, colour: str, alpha: float, size: float,
              name: str) -> None:  # fmt: skip
    rows = np.flatnonzero(some)
    value = look.value[rows]
    away = np.stack([value - look.lower[rows], look.upper[rows] - value])
    axes.errorbar(look.truth[rows], value, np.maximum(away, 0), fmt="o", markersize=size,
                  color=colour, alpha=alpha, elinewidth=0.7, label=name,
                  zorder=2 + alpha)  # fmt: skip
