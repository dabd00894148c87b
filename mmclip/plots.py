"""Tables -> figures: colour-blind safe, labelled with units, no window ever opened."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator
from numpy.typing import ArrayLike

from mmclip.artifacts import write_atomic
from mmclip.errors import UsageError

# Okabe & Ito 2008: blue, vermillion, green, orange, purple, sky.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7", "#56B4E9")
# Air wavelengths of the NIST atomic spectra database, taken to vacuum like every axis of mmclip.
LINES = (
    ("Hβ", 486.27),
    ("Hα", 656.46),
    ("Ca II", 850.04),
    ("Ca II", 854.44),
    ("Ca II", 866.45),
)  # nm, vacuum
GREY = "#8a8f98"


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _tidy(axes: Axes, title: str = "") -> None:
    axes.grid(True, color="#d9dce1", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GREY)
    axes.tick_params(color=GREY, labelsize=9)
    if title:
        axes.set_title(title, loc="left", fontsize=12)


def map_figure(
    x: ArrayLike, y: ArrayLike, colour: ArrayLike, label: str, title: str = ""
) -> Figure:
    """Points of a map coloured by a quantity; grey where it is unknown.

    Args:
        x, y: Places on the map, dimensionless.
        colour: The quantity; colours end at its 1st and 99th percentile.
        label: Its name and unit, beside the colour bar.
        title: Heading; may be empty.
    """
    px, py, c = (np.asarray(v, float) for v in (x, y, colour))
    figure = _figure(7.2, 5.6)
    axes = figure.subplots()
    known = np.isfinite(c)
    size = float(np.clip(30000 / max(len(px), 1), 1.5, 12))
    if not known.all():
        axes.scatter(
            px[~known], py[~known], s=size, c="#bbbbbb", linewidths=0, rasterized=True,
            label="not known",
        )  # fmt: skip
        axes.legend(frameon=False, fontsize=9, markerscale=3, loc="upper right")
    low, high = np.percentile(c[known], [1, 99]) if known.any() else (0.0, 1.0)
    drawn = axes.scatter(
        px[known], py[known], s=size, c=c[known], cmap="cividis", vmin=low, vmax=high,
        linewidths=0, rasterized=True,
    )  # fmt: skip
    figure.colorbar(drawn, ax=axes, label=label, extend="both", aspect=30)
    _tidy(axes, title)
    axes.set(xticks=[], yticks=[], xlabel="UMAP 1", ylabel="UMAP 2")
    return figure


def prediction_figure(
    truth: ArrayLike, predicted: ArrayLike, label: str, title: str = ""
) -> Figure:
    """Predicted against true, density coloured, with the residual below.

    R^2, mean residual and NMAD (1.4826 times the median absolute deviation) are of all pairs that
    are both finite; the axes leave out the outermost 0.2 %.

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
    figure = _figure(5.4, 6.4)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    low, high = np.percentile(np.concatenate([t, p]), [0.2, 99.8])
    margin = 0.05 * (high - low) or 1.0
    edges = (low - margin, high + margin)
    drawn = above.hexbin(
        t, p, gridsize=45, bins="log", mincnt=1, cmap="cividis", extent=(*edges, *edges)
    )
    figure.colorbar(drawn, ax=above, label="stars per cell", aspect=30)
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
    below.hexbin(
        t, residual, gridsize=(45, 12), bins="log", mincnt=1, cmap="cividis",
        extent=(*edges, -reach, reach),
    )  # fmt: skip
    below.axhline(0, color=COLOURS[1], linewidth=1.2)
    below.set(xlabel=f"true {label}", ylabel="predicted − true", ylim=(-reach, reach))
    _tidy(above, title)
    _tidy(below)
    return figure


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
    figure = _figure(max(3.4 * columns, 4.2), 2.1 * rows + 0.6)
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True)
    for panel, flux, label in zip(panels.flat, f, labels):
        if median is not None:
            panel.plot(w, np.asarray(median, float), color="#999999", linewidth=1)
        panel.plot(w, flux, color=COLOURS[0], linewidth=1.1)
        panel.set_title(label, fontsize=9)
        _tidy(panel)
    for spare, panel in enumerate(panels.flat):
        if spare >= len(f):
            panel.set_visible(False)
            panels.flat[spare - columns].tick_params(labelbottom=True)
    figure.supxlabel("wavelength [nm]", fontsize=10)
    figure.supylabel(ylabel, fontsize=10)
    if title:
        figure.suptitle(title, fontsize=12)
    return figure


def _mark_lines(axes: Axes, low: float, high: float) -> None:
    """Dotted lines at `LINES` within low to high (nm), named where the names have room."""
    last = -np.inf
    for name, line in LINES:
        if not low < line < high:
            continue
        axes.axvline(line, color=GREY, linewidth=0.7, linestyle=":", zorder=1)
        if line - last > 0.05 * (high - low):
            axes.text(
                line, 0.985, f" {name}", transform=axes.get_xaxis_transform(), fontsize=8,
                color="#555555", va="top",
            )  # fmt: skip
            last = line


def _residual(axes: Axes, w: Any, off: Any, total: Any | None) -> None:
    """Observed - generated in sigma, or in flux where no sigma is known."""
    z = off
    if total is not None:
        z = np.divide(off, total, out=np.full_like(off, np.nan), where=total > 0)
    reach = float(np.nanmax(np.abs(z))) * 1.1 if np.isfinite(z).any() else 0.0
    axes.plot(w, z, color=COLOURS[0], linewidth=0.9)
    if total is None:
        axes.axhline(0, color=GREY, linewidth=0.8)
        axes.set(ylabel="obs. − gen.", ylim=(-(reach or 1.0), reach or 1.0))
        return
    for level, style in ((1, "--"), (3, ":")):
        for sign in (-1, 1):
            axes.axhline(sign * level, color="#555555", linewidth=0.8, linestyle=style)
    reach = max(4.0, reach)
    axes.set(ylabel="residual [σ]", ylim=(-reach, reach))
    if reach < 8:
        axes.set_yticks([-3, -1, 1, 3])


def generated_figure(
    wavelength: ArrayLike,
    observed: ArrayLike,
    error: ArrayLike | None,
    generated: ArrayLike,
    sigma: ArrayLike | None,
    title: str = "",
    modelled: bool = False,
    baselines: Mapping[str, ArrayLike] | None = None,
) -> Figure:
    """A generated spectrum over the observed one, 1-sigma bands; residual in sigma below.

    Args:
        wavelength: In nm, vacuum.
        observed, generated: Relative flux.
        error: 1-sigma of the observed flux; NaN = bad pixel, which then has no residual. None or
            all NaN = not known.
        sigma: 1-sigma spread of the generated flux, or None.
        title: Heading; may be empty.
        modelled: Whether the "observed" spectrum is itself a model; then the figure says so.
        baselines: Other spectra to draw, by name.
    """
    w, o, g = (np.asarray(v, float) for v in (wavelength, observed, generated))
    e = np.asarray(error, float) if error is not None else None
    if e is not None and not np.isfinite(e).any():
        e = None
    s = np.asarray(sigma, float) if sigma is not None else None
    figure = _figure(7.8, 5.4)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    bands = [(g, s, COLOURS[1], 0.25), (o, e, "#222222", 0.18)]
    for centre, half, colour, alpha in bands:
        if half is not None:
            above.fill_between(
                w, centre - half, centre + half, color=colour, alpha=alpha, linewidth=0
            )
    known = "modelled spectrum" if modelled else "observed"
    for name, flux, half, colour in ((known, o, e, "#222222"), ("generated", g, s, COLOURS[1])):
        label = name if half is None else f"{name}, ±1σ"
        above.plot(w, flux, color=colour, linewidth=1.2, label=label)
    shown = [o, g]
    for colour, (name, baseline) in zip(COLOURS[2:] * 4, (baselines or {}).items(), strict=False):
        shown.append(np.asarray(baseline, float))
        above.plot(w, shown[-1], color=colour, linewidth=1.0, label=name)
    low, high = _range(np.concatenate(shown))
    above.set(ylabel="relative flux", ylim=(low - 0.08 * (high - low), high + 0.16 * (high - low)))
    _mark_lines(above, float(w.min()), float(w.max()))
    figure.legend(
        *above.get_legend_handles_labels(), frameon=False, fontsize=9, ncols=4,
        loc="outside lower center",
    )  # fmt: skip
    if e is None or s is None:
        total = s if e is None else e
    else:
        total = np.hypot(s, e)
    _residual(below, w, o - g, total)
    below.set(xlabel="wavelength [nm]")
    if modelled:
        above.text(
            0.5, 0.5, "MODELLED DATA", transform=above.transAxes, ha="center", va="center",
            fontsize=26, color=COLOURS[1], alpha=0.28, rotation=15, zorder=0,
        )  # fmt: skip
    _tidy(above, title)
    _tidy(below)
    figure.align_ylabels()
    return figure


def _range(values: Any) -> tuple[float, float]:
    """Least and greatest finite value, never equal."""
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def curves_figure(
    steps: Sequence[float],
    series: Mapping[str, Sequence[float]],
    ylabel: str,
    title: str = "",
    xlabel: str = "epoch",
) -> Figure:
    """Numbers by epoch, one line each; logarithmic if all are positive."""
    figure = _figure(6.4, 3.8)
    axes = figure.subplots()
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
    axes.set(xlabel=xlabel, ylabel=ylabel)
    if series:
        axes.legend(frameon=False, fontsize=9)
    _tidy(axes, title)
    return figure


def recall_figure(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Recall@1/5/10 of each direction as bars, chance as black marks; logarithmic.

    Args:
        rows: Each with `direction`, `recall@1`, `recall@5`, `recall@10` (fractions) and
            `candidates` (how many stars were searched, so that chance is k / candidates).
    """
    figure = _figure(max(5.0, 1.6 * len(rows) + 2), 4.0)
    axes = figure.subplots()
    lowest = 1.0
    for i, k in enumerate((1, 5, 10)):
        place = np.arange(len(rows)) + (i - 1) * 0.28
        heights = [float(r[f"recall@{k}"]) for r in rows]
        axes.bar(place, heights, 0.26, color=COLOURS[i], label=f"recall@{k}")
        chance = [min(1.0, k / r["candidates"]) for r in rows]
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
    _tidy(axes)
    axes.grid(False, axis="x")
    return figure


def png_bytes(figure: Figure, dpi: int = 110) -> bytes:
    """The figure as PNG."""
    return _bytes(figure, "png", dpi)


def _bytes(figure: Figure, kind: str, dpi: int) -> bytes:
    body = io.BytesIO()
    with rc_context({"svg.fonttype": "none"}):
        figure.savefig(body, format=kind, dpi=dpi)
    return body.getvalue()


def save(figure: Figure, path: Path) -> None:
    """Write a figure by its suffix (.png .pdf .svg), whole or not at all.

    Raises:
        UsageError: On another suffix, or a place that cannot be written.
    """
    kind = path.suffix.lower().removeprefix(".")
    if kind not in ("png", "pdf", "svg"):
        raise UsageError(f"'{path.suffix}' of {path} is no picture format", ".png .pdf .svg")
    body = _bytes(figure, kind, 150)
    try:
        write_atomic(path, body)
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}", "another --plot") from error


# More lines than `LINES`, for generated spectra; NIST atomic spectra database, in vacuum.
MORE_LINES = (
    ("Ca II K", 393.48),
    ("Ca II H", 396.96),
    ("Hδ", 410.29),
    ("Hγ", 434.17),
    *LINES[:1],
    ("Mg b", 517.41),
    ("Na D", 589.32),
    *LINES[1:],
    ("Paδ", 1005.21),
)  # nm


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
    figure = _figure(7.8, 5.4 if seen else 4.2)
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
    low, high = _range(np.concatenate([o, g, *(np.asarray(b, float) for b in bands[0])]))
    above.set(ylabel=unit, ylim=(low - 0.05 * (high - low), high + 0.16 * (high - low)))
    _mark_more_lines(above, float(w.min()), float(w.max()))
    figure.legend(*above.get_legend_handles_labels(), frameon=False, fontsize=9, ncols=6,
                  loc="outside lower center")  # fmt: skip
    if modelled:
        above.text(
            0.5, 0.5, "MODELLED DATA", transform=above.transAxes, ha="center", va="center",
            fontsize=26, color=COLOURS[1], alpha=0.28, rotation=15, zorder=0,
        )  # fmt: skip
    if seen:
        _residual(panels[1], w, o - g, s)
        _tidy(panels[1])
    panels[-1].set(xlabel="wavelength in vacuum [nm]")
    _tidy(above, title)
    figure.align_ylabels()
    return figure


def _mark_more_lines(axes: Axes, low: float, high: float) -> None:
    """Dotted lines at `MORE_LINES` within low to high (nm), named on the first level with room."""
    free = [-np.inf, -np.inf, -np.inf]
    for name, line in MORE_LINES:
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
    figure = _figure(7.8, 3.6)
    left, right = figure.subplots(1, 2)
    left.hist(ranks, bins=20, range=(0, 1), density=True, color=COLOURS[0], alpha=0.75)
    left.axhline(1.0, color=COLOURS[1], linewidth=1.2)
    left.set(xlabel="rank of the observation (PIT)", ylabel="density", xlim=(0, 1))
    right.plot([0, 1], [0, 1], color=COLOURS[1], linewidth=1.2)
    right.plot(np.asarray(parts), np.asarray(covered), "o", color=COLOURS[0], markersize=4)
    right.set(xlabel="nominal part", ylabel="part of observations within", xlim=(0, 1), ylim=(0, 1))
    _tidy(left, title)
    _tidy(right)
    return figure
