"""Spectra: side by side, and over one axis; the lines that are marked in them."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from mmclip.plots.style import COLOURS, GREY, new_figure, tidy

# Air wavelengths of the NIST atomic spectra database, taken to vacuum like every axis of mmclip.
LINES = (
    ("Ca II K", 393.48),
    ("Ca II H", 396.96),
    ("Hδ", 410.29),
    ("Hγ", 434.17),
    ("Hβ", 486.27),
    ("Mg b", 517.41),
    ("Na D", 589.46),
    ("Hα", 656.46),
    ("Ca II", 850.04),
    ("Ca II", 854.44),
    ("Ca II", 866.45),
    ("Paδ", 1005.21),
)  # nm, vacuum


def spectra_figure(
    wavelength: ArrayLike,
    fluxes: ArrayLike,
    labels: Sequence[str],
    ylabel: str = "flux / median",
    median: ArrayLike | None = None,
    title: str = "",
) -> Figure:
    """A few spectra, a panel each, over the typical spectrum in grey.

    Args:
        wavelength: In nm, shared by all.
        fluxes: One row a spectrum, in the unit that `ylabel` names; about nine at most.
        labels: A heading for each row.
        ylabel: Name and unit of the flux.
        median: Typical spectrum of the population, same unit, or None.
        title: Heading of the whole; may be empty.
    """
    w, f = np.asarray(wavelength, float), np.atleast_2d(np.asarray(fluxes, float))
    columns = min(3, max(1, len(f)))
    rows = max(1, -(-len(f) // columns))
    figure = new_figure(max(3.4 * columns, 4.2), 2.1 * rows + 0.6)
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True)
    for panel, flux, label in zip(panels.flat, f, labels):
        if median is not None:
            panel.plot(w, np.asarray(median, float), color="#999999", linewidth=1)
        panel.plot(w, flux, color=COLOURS[0], linewidth=1.1)
        panel.set_title(label, fontsize=9)
        tidy(panel)
    for spare, panel in enumerate(panels.flat):
        if spare >= len(f):
            panel.set_visible(False)
            panels.flat[spare - columns].tick_params(labelbottom=True)
    figure.supxlabel("wavelength [nm]", fontsize=10)
    figure.supylabel(ylabel, fontsize=10)
    if title:
        figure.suptitle(title, fontsize=12)
    return figure


def overlay_figure(
    x: ArrayLike, rows: ArrayLike, labels: Sequence[str], xlabel: str, ylabel: str, title: str = ""
) -> Figure:
    """A few curves over one axis; those that are all NaN are left out."""
    figure = new_figure(7.4, 4.2)
    axes = figure.subplots()
    for i, (row, label) in enumerate(zip(np.asarray(rows, float), labels)):
        if np.isfinite(row).any():
            style = ("-", "--", ":", "-.")[i // len(COLOURS) % 4]
            colour = COLOURS[i % len(COLOURS)]
            axes.plot(x, row, color=colour, linestyle=style, linewidth=1.3, label=label)
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.legend(frameon=False, fontsize=9)
    tidy(axes, title)
    return figure


def mark_lines(axes: Axes, low: float, high: float) -> None:
    """Dotted lines at `LINES` within low to high (nm), named on the first level with room."""
    free = [-np.inf, -np.inf, -np.inf]
    for name, line in LINES:
        if not low < line < high:
            continue
        axes.axvline(line, color=GREY, linewidth=0.7, linestyle=":", zorder=1)
        level = next((i for i, end in enumerate(free) if line > end), None)
        if level is None:
            continue
        axes.text(
            line, 0.985 - 0.055 * level, f" {name}", transform=axes.get_xaxis_transform(),
            fontsize=8, color="#555555", va="top",
        )  # fmt: skip
        free[level] = line + 0.012 * len(name) * (high - low)
