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
from matplotlib.mathtext import MathTextParser
from matplotlib.text import Text
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator, StrMethodFormatter
from numpy.typing import ArrayLike

from mmclip.artifacts import whole
from mmclip.errors import UsageError

# Okabe & Ito 2008: blue, vermillion, green, orange, purple, sky.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7", "#56B4E9")
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


def ramp(steps: int = 64) -> list[str]:
    """The sequential colours of every figure here (cividis), from low to high, as `#rrggbb`."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    return [to_hex(c) for c in colormaps["cividis"](np.linspace(0, 1, steps))]


def class_map_figure(
    x: ArrayLike, y: ArrayLike, names: Sequence[str], label: str, title: str = "",
    marked: Mapping[str, ArrayLike] | None = None,
) -> Figure:  # fmt: skip
    """Points of a map coloured by class, the most frequent first; marks tell beyond six apart.

    Args:
        x, y: Places on the map, dimensionless; NaN is left out.
        names: Class of each point; an empty one is drawn grey.
        label: What the classes are.
        title: Heading; may be empty.
        marked: Sets of points to be ringed: a name and a mask each.
    """
    px, py, kinds = np.asarray(x, float), np.asarray(y, float), np.asarray(names, object)
    figure = _figure(8.2, 5.6)
    axes = figure.subplots()
    size = float(np.clip(30000 / max(len(px), 1), 1.5, 14))
    found, counts = np.unique(kinds[kinds != ""].astype(str), return_counts=True)
    none = kinds == ""
    if none.any():
        axes.scatter(
            px[none], py[none], s=size, c="#bbbbbb", linewidths=0, rasterized=True,
            label=f"not known ({int(none.sum())})",
        )  # fmt: skip
    for i, kind in enumerate(found[np.argsort(-counts, kind="stable")]):
        mine = kinds == kind
        marker = "o^sDvP*X"[i // len(COLOURS) % 8]
        # The rarer classes share colours with the first six: their marks must be told apart.
        first = marker == "o"
        axes.scatter(
            px[mine], py[mine], s=size if first else max(1.8 * size, 13), marker=marker,
            c=COLOURS[i % len(COLOURS)], linewidths=0 if first else 0.4, edgecolors="white",
            rasterized=True, label=f"{kind} ({int(mine.sum()):,})",
        )  # fmt: skip
    for i, (name, mask) in enumerate((marked or {}).items()):
        chosen = np.asarray(mask, bool)
        axes.scatter(
            px[chosen], py[chosen], s=38 + 26 * i, facecolors="none", edgecolors="black",
            linewidths=0.8, marker="os^D"[i % 4], label=f"{name} ({int(chosen.sum())})",
        )  # fmt: skip
    legend = axes.legend(
        frameon=False, fontsize=9, title=label, loc="upper left", bbox_to_anchor=(1.0, 1.0),
        alignment="left",
    )  # fmt: skip
    for mark in legend.legend_handles:
        mark.set_sizes([32.0])  # type: ignore[union-attr]
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
    bar = figure.colorbar(drawn, ax=above, label="stars per cell", aspect=30)
    bar.ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    bar.ax.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    bar.ax.yaxis.set_minor_locator(NullLocator())
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
    below.xaxis.set_major_locator(MaxNLocator(6))
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


def _portrait(axes: Axes, portrait: Any, title: str, colour: str) -> None:
    """One `mmclip.datasets.objects.Portrait`: points for a light curve, an image, else a line."""
    if portrait.kind == "image":
        _image(axes, portrait.y, title, colour)
        return
    if "light curve" in portrait.kind:
        axes.errorbar(
            portrait.x, portrait.y, yerr=portrait.error, fmt=".", markersize=3, linewidth=0,
            elinewidth=0.5, color=colour, ecolor=GREY, alpha=0.8,
        )  # fmt: skip
        low, high = np.nanpercentile(portrait.y, [0.5, 99.5])
        margin = 0.15 * (high - low) or 0.1
        axes.set_ylim(low - margin, high + margin)
    else:
        mark = "." if portrait.kind == "values" else ""
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
    _tidy(axes)
    axes.set_title(title, fontsize=9, loc="left")


def portraits_figure(panels: Sequence[tuple[Any, str, bool]], title: str = "") -> Figure:
    """Portraits of objects, three a row; those marked True (the queries) in vermillion.

    Args:
        panels: (`mmclip.datasets.objects.Portrait`, heading, mark).
        title: Heading of the whole; may be empty.

    Raises:
        UsageError: If there is nothing to draw.
    """
    if not panels:
        raise UsageError("there is nothing to draw", "leave --plot out")
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    figure = _figure(3.7 * columns + 0.3, 2.4 * rows + 0.4)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes, (portrait, heading, marked) in zip(grid.flat, panels):
        _portrait(axes, portrait, heading, COLOURS[1] if marked else COLOURS[0])
    for axes in list(grid.flat)[len(panels) :]:
        axes.set_visible(False)
    if title:
        figure.suptitle(title, fontsize=12)
    return figure


def dossier_figure(
    portraits: Sequence[Any],
    scatters: Sequence[tuple[str, ArrayLike, ArrayLike, int, str, str, bool]],
    title: str = "",
) -> Figure:
    """All there is to see of one object, side by side.

    Args:
        portraits: Of `mmclip.datasets.objects.Portrait`.
        scatters: Panels in which the object is one of many: heading, x and y of all, the
            object's row, labels of x and y, and whether y is a magnitude (bright is up).
        title: Heading; may be empty.
    """
    count = max(1, len(portraits) + len(scatters))
    columns = min(4, count)
    rows = -(-count // columns)
    figure = _figure(3.3 * columns, 2.7 * rows + 0.3)
    grid = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes, portrait in zip(grid, portraits):
        _portrait(axes, portrait, f"{portrait.view}: {portrait.kind}", COLOURS[0])
    for axes, (name, x, y, mine, xlabel, ylabel, inverted) in zip(grid[len(portraits) :], scatters):
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
        _tidy(axes)
        axes.set_title(name, fontsize=9, loc="left")
        axes.set_xlabel(xlabel, fontsize=8)
        axes.set_ylabel(ylabel, fontsize=8)
        axes.tick_params(labelsize=8)
    for axes in grid[count:]:
        axes.set_visible(False)
    if title:
        figure.suptitle(title, fontsize=11, x=0.01, ha="left")
    return figure


def _residual(axes: Axes, w: Any, off: Any, sigma: Any) -> None:
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


def _range(values: Any) -> tuple[float, float]:
    """Least and greatest finite value, never equal."""
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def overlay_figure(
    x: ArrayLike, rows: ArrayLike, labels: Sequence[str], xlabel: str, ylabel: str, title: str = ""
) -> Figure:
    """A few curves over one axis; those that are all NaN are left out."""
    figure = _figure(7.4, 4.2)
    axes = figure.subplots()
    for i, (row, label) in enumerate(zip(np.asarray(rows, float), labels)):
        if np.isfinite(row).any():
            style = ("-", "--", ":", "-.")[i // len(COLOURS) % 4]
            colour = COLOURS[i % len(COLOURS)]
            axes.plot(x, row, color=colour, linestyle=style, linewidth=1.3, label=label)
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.legend(frameon=False, fontsize=9)
    _tidy(axes, title)
    return figure


def mean_curves_figure(
    curves: Sequence[Any], faint: bool, unit: str, names: Sequence[str], title: str = ""
) -> Figure:
    """Mean folded light curves side by side on one scale, two cycles; bright is up.

    Args:
        curves: A `mmclip.tasks.cluster.MeanCurve` each; those of no stars are left out.
        faint: Whether phase 0 is where stars are faintest.
        unit: What the curves are in, as at the axis of one light curve.
        names: Of the groups.
        title: Heading; may be empty.
    """
    shown = [(c, n, i) for i, (c, n) in enumerate(zip(curves, names, strict=True)) if c.stars]
    columns = min(4, len(shown))
    rows = -(-len(shown) // columns)
    figure = _figure(2.7 * columns + 0.9, 2.7 * rows + 0.6)
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    # The sign of a magnitude comes back: brighter is smaller.
    sign = -1 if unit.startswith("magnitude") else 1
    for axes, (curve, name, i) in zip(grid.flat, shown):
        phase = np.arange(2 * len(curve.middle)) / len(curve.middle)
        low, middle, high = (np.tile(sign * v, 2) for v in (curve.low, curve.middle, curve.high))
        colour = COLOURS[i % len(COLOURS)]
        axes.fill_between(phase, low, high, color=colour, alpha=0.22, linewidth=0)
        axes.plot(phase, middle, color=colour, linewidth=1.6)
        _tidy(axes)
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


def lineage_figure(
    boxes: Sequence[tuple[str, str, int]], arrows: Sequence[tuple[int, int]], title: str = ""
) -> Figure:
    """Artefacts as boxes in columns, the answer at the left and the sky at the right.

    Args:
        boxes: (heading, text, column) of each.
        arrows: (child, parent) as places in `boxes`; an arrow points from parent to child.
        title: Heading; may be empty.
    """
    columns = max((column for _, _, column in boxes), default=0) + 1
    fullest = max(sum(c == column for _, _, c in boxes) for column in range(columns))
    figure = _figure(2.6 * columns, 1.5 + 1.3 * fullest)
    axes = figure.subplots()
    places: list[tuple[float, float]] = []
    for index, (heading, text, column) in enumerate(boxes):
        peers = [i for i, box in enumerate(boxes) if box[2] == column]
        y = (len(peers) - 1) / 2 - peers.index(index)
        places.append((float(column), y))
        axes.text(
            column, y, f"{heading}\n{text}", ha="center", va="center", fontsize=9,
            linespacing=1.5,
            bbox={"boxstyle": "round,pad=0.6", "facecolor": "#eef3f8", "edgecolor": COLOURS[0]},
        )  # fmt: skip
    for child, parent in arrows:
        # An arrow over more than one column goes round the boxes between.
        bend = 0.0 if boxes[parent][2] - boxes[child][2] <= 1 else 0.28
        axes.annotate(
            "", xy=places[child], xytext=places[parent], zorder=0,
            arrowprops={
                "arrowstyle": "-|>", "color": GREY, "shrinkA": 66, "shrinkB": 66,
                "connectionstyle": f"arc3,rad={bend}",
            },
        )  # fmt: skip
    axes.set(xlim=(-0.6, columns - 0.4), ylim=(-fullest / 2 - 0.2, fullest / 2 + 0.2))
    axes.set_axis_off()
    if title:
        axes.set_title(title, loc="left", fontsize=12)
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
    figure = _figure(side + 0.6, side)
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


def reliability_figure(methods: Mapping[str, Mapping[str, Any]], title: str = "") -> Figure:
    """Accuracy against confidence, one line a method; the diagonal is a perfect forecast.

    Args:
        methods: For each name what `mmclip.metrics.calibration` gives.
        title: Heading; may be empty.
    """
    figure = _figure(5.0, 4.6)
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle="--", label="perfect")
    for i, (name, found) in enumerate(methods.items()):
        filled = np.asarray(found["counts"]) > 0
        colour = COLOURS[i % len(COLOURS)]
        axes.plot(
            np.asarray(found["confidence"])[filled], np.asarray(found["accuracy"])[filled],
            color=colour, marker="os^Dv"[i % 5], linewidth=1.4, markersize=4,
            label=f"{name} (ECE {found['ECE']:.3f})",
        )  # fmt: skip
    axes.set(xlabel="confidence", ylabel="accuracy", xlim=(0, 1), ylim=(0, 1.02))
    axes.legend(frameon=False, fontsize=9)
    _tidy(axes, title)
    return figure


def png_bytes(figure: Figure, dpi: int = 110) -> bytes:
    """The figure as PNG."""
    return _bytes(figure, "png", dpi)


def _bytes(figure: Figure, kind: str, dpi: int) -> bytes:
    body = io.BytesIO()
    for text in figure.findobj(Text):
        _literal(text)
    with rc_context({"svg.fonttype": "none"}):
        figure.savefig(body, format=kind, dpi=dpi)
    return body.getvalue()


def _literal(text: Any) -> None:
    """A name with dollar signs that is no formula is drawn as it stands."""
    try:
        MathTextParser("path").parse(text.get_text())
    except ValueError:
        text.set_parse_math(False)


def save(figure: Figure, path: Path) -> None:
    """Write a figure by its suffix (.png .pdf .svg), whole or not at all.

    Raises:
        UsageError: On another suffix, or in a directory that is not there.
        MmclipError: If it cannot be written.
    """
    kind = path.suffix.lower().removeprefix(".")
    if kind not in ("png", "pdf", "svg"):
        raise UsageError(f"'{path.suffix}' of {path} is no picture format", ".png .pdf .svg")
    body = _bytes(figure, kind, 150)
    if not path.parent.is_dir():
        raise UsageError(
            f"{path} cannot be written: {path.parent} is no directory", "another --plot"
        )
    with whole(path) as part:
        part.write_bytes(body)


METHOD_NAMES = ("zero-shot", "residual", "lora", "full", "scratch")


def scan_figure(rows: Sequence[Mapping[str, Any]], score: str = "R2", title: str = "") -> Figure:
    """A score against the number of labelled target stars, with 1-sigma bars over the runs.

    Args:
        rows: Each with `method`, `size`, the score and `SCORE +-`; methods without target labels
            (size 0) become horizontal lines. Baselines are grey.
        score: Which column.
        title: Heading; may be empty.
    """
    figure = _figure(6.8, 4.4)
    axes = figure.subplots()
    styles = dict(zip(METHOD_NAMES, COLOURS, strict=False))
    greys = iter(("--", ":", "-."))
    drawn = []
    for method in dict.fromkeys(r["method"] for r in rows):
        mine = [r for r in rows if r["method"] == method and score in r]
        colour = styles.get(method, GREY)
        style = "-" if method in styles else next(greys, ":")
        if all(r["size"] == 0 for r in mine):
            for row in mine[:1]:
                axes.axhline(row[score], color=colour, linestyle=style, label=method)
                drawn.append(row[score])
            continue
        # A little to the side, so that bars do not hide each other.
        aside = 1.02 ** (len(axes.containers) - 2)
        axes.errorbar(
            [r["size"] * aside for r in mine],
            [r[score] for r in mine],
            [r[f"{score} +-"] for r in mine],
            color=colour, linestyle=style, marker="o", markersize=4, capsize=3, label=method,
        )  # fmt: skip
        drawn += [r[score] for r in mine]
    axes.set(xscale="log", xlabel="labelled target stars", ylabel=score.replace("R2", "$R^2$"))
    counts = sorted({r["size"] for r in rows if r["size"] > 0})
    axes.set_xticks(counts, [f"{n:g}" for n in counts])
    axes.minorticks_off()
    if score == "R2" and drawn:
        low, high = max(-1.0, min(drawn)), max(drawn)
        axes.set_ylim(low - 0.08 * (high - low) - 0.02, min(1.0, high + 0.15 * (high - low) + 0.02))
    axes.legend(frameon=False, fontsize=9, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    _tidy(axes, title)
    return figure


def landscape_figure(surfaces: Mapping[str, tuple[ArrayLike, ArrayLike]]) -> Figure:
    """The loss around each network: its surface above, its contours below, one column each.

    Args:
        surfaces: By name, the axis (in lengths of the network's own filters) and log10 of the
            loss [b, a].
    """
    figure = _figure(max(3.3 * len(surfaces), 4.0), 6.4)
    every = np.concatenate([np.asarray(z, float).ravel() for _, z in surfaces.values()])
    low, high = _range(every)
    for i, (name, (axis, losses)) in enumerate(surfaces.items()):
        a, z = np.asarray(axis, float), np.asarray(losses, float)
        x, y = np.meshgrid(a, a)
        above: Any = figure.add_subplot(2, len(surfaces), i + 1, projection="3d")
        above.plot_surface(x, y, z, cmap="cividis", vmin=low, vmax=high, linewidth=0)
        above.set(zlim=(low, high), xticks=[], yticks=[])
        above.set_title(name, fontsize=10)
        below = figure.add_subplot(2, len(surfaces), len(surfaces) + i + 1)
        filled = below.contourf(x, y, z, levels=np.linspace(low, high, 15), cmap="cividis")
        below.contour(x, y, z, levels=np.linspace(low, high, 15), colors="white", linewidths=0.4)
        below.plot(0, 0, marker="+", color=COLOURS[1], markersize=9)
        below.set(xlabel="direction 1", aspect="equal")
        if i == 0:
            below.set_ylabel("direction 2")
        if i == len(surfaces) - 1:
            label = "$\\log_{10}$ MSE (z-scored label)"
            figure.colorbar(filled, ax=below, label=label, format="{x:.2f}")
    return figure


def _image(axes: Axes, pixels: ArrayLike, title: str, colour: str) -> None:
    """An image [height, width, 1 or 3] without axes, framed in a colour."""
    shown = np.asarray(pixels, float)
    axes.imshow(shown[:, :, 0] if shown.shape[2] == 1 else shown, cmap="gray", vmin=0, vmax=1)
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set_color(colour)
        spine.set_linewidth(2)
    axes.set_title(title, fontsize=9, loc="left")


def strips_figure(
    rows: Sequence[Sequence[tuple[Any, Any, str]]], titles: Sequence[str] = ()
) -> Figure:
    """Retrieval as strips: a query at the left of each row, its answers beside it.

    Each object is its image above its spectrum; the query is in vermillion.

    Args:
        rows: For each query, itself first, (image portrait, spectrum portrait, heading); either
            `mmclip.datasets.objects.Portrait` may be None.
        titles: A word at the left of each row; may be empty.

    Raises:
        UsageError: If there is nothing to draw.
    """
    if not rows or not rows[0]:
        raise UsageError("there is nothing to draw", "leave --plot out")
    columns = max(len(row) for row in rows)
    figure = _figure(1.9 * columns + 0.6, 3.0 * len(rows))
    heights = [1.6, 1.0] * len(rows)
    grid = figure.subplots(2 * len(rows), columns, squeeze=False, height_ratios=heights)
    for i, row in enumerate(rows):
        for j in range(columns):
            above, below = grid[2 * i, j], grid[2 * i + 1, j]
            above.set_axis_off()
            below.set_axis_off()
            if j >= len(row):
                continue
            image, spectrum, heading = row[j]
            colour = COLOURS[1] if j == 0 else COLOURS[0]
            if image is not None:
                above.set_axis_on()
                _image(above, image.y, heading, colour)
            if spectrum is not None:
                below.set_axis_on()
                below.plot(spectrum.x, spectrum.y, color=colour, linewidth=0.6)
                below.tick_params(labelsize=6)
                below.set(yticks=[])
                below.spines[["top", "right", "left"]].set_visible(False)
        if i < len(titles):
            grid[2 * i, 0].set_ylabel(titles[i], fontsize=9)
    units = {s.xlabel for row in rows for _, s, _ in row if s is not None}
    figure.supxlabel(", ".join(sorted(units)), fontsize=9)
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
        _tidy(panels[1])
    panels[-1].set(xlabel="wavelength in vacuum [nm]")
    _tidy(above, title)
    figure.align_ylabels()
    return figure


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
