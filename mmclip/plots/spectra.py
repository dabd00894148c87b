"""Spectra: side by side, over one axis, and generated ones with their intervals."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from mmclip.plots.folded import generated_fold_figure
from mmclip.plots.style import COLOURS, GREY, Floats, new_figure, tidy, value_range

if TYPE_CHECKING:
    from mmclip.tasks.generate import Generated

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


def generated_spectrum_figure(
    axis: ArrayLike,
    generated: ArrayLike,
    sigma: ArrayLike,
    bands: Sequence[tuple[ArrayLike, ArrayLike]],
    observed: ArrayLike | None = None,
    error: ArrayLike | None = None,
    samples: ArrayLike | None = None,
    title: str = "",
    unit: str = "relative flux",
    modelled: bool = False,
) -> Figure:
    """A generated spectrum with its intervals and draws; below, the residual in sigma.

    Args:
        axis: Wavelength, nm in vacuum.
        generated, sigma: Expectation and calibrated 1-sigma of an observation.
        bands: Low and high ends of intervals, the widest first.
        observed, error: What was observed and its error, or None; NaN where there is none.
        samples: [draws, length]; at most five are drawn.
        title: Heading; may be empty.
        unit: Of the flux.
        modelled: Whether the decoder learned from modelled spectra; then the figure says so.
    """
    w, g, s = (np.asarray(v, float) for v in (axis, generated, sigma))
    o = np.full_like(g, np.nan) if observed is None else np.asarray(observed, float)
    seen = bool(np.isfinite(o).any())
    figure = new_figure(7.8, 5.4 if seen else 4.2)
    panels = figure.subplots(2 if seen else 1, 1, sharex=True, squeeze=False,
                             height_ratios=[3, 1] if seen else [1])[:, 0]  # fmt: skip
    above = panels[0]
    for (low, high), alpha, name in zip(bands, (0.18, 0.32), ("95 %", "68 %"), strict=False):
        above.fill_between(w, low, high, color=COLOURS[1], alpha=alpha, linewidth=0, label=name)
    for i, one in enumerate(np.atleast_2d(samples)[:5] if samples is not None else ()):
        above.plot(
            w, one, color=COLOURS[5], linewidth=0.7, alpha=0.8, label="draws" if i == 0 else ""
        )
    if seen:
        known = "modelled spectrum" if modelled else "observed"
        above.plot(w, o, color="#222222", linewidth=1.2, label=known)
        e = None if error is None else np.asarray(error, float)
        if e is not None and np.isfinite(e).any():
            above.fill_between(w, o - e, o + e, color="#222222", alpha=0.18, linewidth=0)
    above.plot(w, g, color=COLOURS[1], linewidth=1.2, label="generated")
    low, high = value_range(np.concatenate([o, g, *(np.asarray(b, float) for b in bands[0])]))
    above.set(ylabel=unit, ylim=(low - 0.05 * (high - low), high + 0.16 * (high - low)))
    _mark_lines(above, float(w.min()), float(w.max()))
    figure.legend(*above.get_legend_handles_labels(), frameon=False, fontsize=9, ncols=6,
                  loc="outside lower center")  # fmt: skip
    if modelled:
        above.text(
            0.5, 0.5, "MODELLED DATA", transform=above.transAxes, ha="center", va="center",
            fontsize=26, color=COLOURS[1], alpha=0.28, rotation=15, zorder=0,
        )  # fmt: skip
    if seen:
        _residual(panels[1], w, o - g, s)
        tidy(panels[1])
    panels[-1].set(xlabel="wavelength in vacuum [nm]")
    tidy(above, title)
    figure.align_ylabels()
    return figure


def _residual(axes: Axes, w: Floats, off: Floats, sigma: Floats) -> None:
    """Observed - generated in sigma; nothing where sigma is not known."""
    z = np.divide(off, sigma, out=np.full_like(off, np.nan), where=sigma > 0)
    axes.plot(w, z, color=COLOURS[0], linewidth=0.9)
    for level, style in ((1, "--"), (3, ":")):
        for sign in (-1, 1):
            axes.axhline(sign * level, color="#555555", linewidth=0.8, linestyle=style)
    reach = max(4.0, float(np.nanmax(np.abs(z))) * 1.1 if np.isfinite(z).any() else 0.0)
    axes.set(ylabel="residual [σ]", ylim=(-reach, reach))
    if reach < 8:
        axes.set_yticks([-3, -1, 1, 3])


def _mark_lines(axes: Axes, low: float, high: float) -> None:
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


def generated_figure(made: "Generated", row: int) -> Figure:
    """The figure of one generated star: a spectrum, or a folded light curve.

    Raises:
        UsageError: If the view has neither wavelengths nor phases.
    """
    if made.axis is None:
        return generated_fold_figure(made, row)
    low68, high68 = made.interval(0.68)
    low95, high95 = made.interval(0.95)
    return generated_spectrum_figure(
        made.axis, made.mean[row], made.sigma[row],
        bands=((low95[row], high95[row]), (low68[row], high68[row])),
        observed=made.observed[row], error=made.error[row],
        samples=None if made.samples is None else made.samples[row],
        title=f"{made.to} of {made.source_id[row]} from its {made.start}",
        unit=made.unit, modelled=made.provenance == "modelled",
    )  # fmt: skip
