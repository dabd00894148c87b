"""Pictures of `mmclip adapt`: truth against prediction, label planes, scores by number of stars."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from mmclip.errors import UsageError
from mmclip.metrics import scores
from mmclip.plots.style import COLOURS, GREY, new_figure, tidy
from mmclip.results import Row, number

METHOD_NAMES = ("zero-shot", "residual", "lora", "full", "scratch")
SCORES = {"R2": "$R^2$", "scatter": "σ after 3σ clipping"}
Floats = NDArray[np.float64]
Pairs = tuple[Floats, Floats]  # truth and prediction of the same stars


def scan_figure(rows: Sequence[Row], score: str = "R2", title: str = "") -> Figure:
    """A score against the number of labelled target stars, with 1-sigma bars over the runs.

    Args:
        rows: Each with `method`, `size`, the score and `SCORE +-`; methods without target labels
            (size 0) become horizontal lines. Baselines are grey.
        score: Which column.
        title: Heading; may be empty.
    """
    figure = new_figure(6.8, 4.4)
    axes = figure.subplots()
    _scan(axes, rows, score)
    axes.legend(frameon=False, fontsize=9, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    tidy(axes, title)
    return figure


def scans_figure(rows: Sequence[Row], title: str = "") -> Figure:
    """R2 above, clipped sigma below, a column a label; see `scan_figure`.

    Args:
        rows: Of the comparison, with `target` too.
        title: Heading; may be empty.
    """
    labels = list(dict.fromkeys(str(r["target"]) for r in rows if _known(r, "R2")))
    figure = new_figure(4.6 * len(labels) + 1.6, 6.6)
    grid = figure.subplots(len(SCORES), len(labels), squeeze=False, sharex="col")
    for j, label in enumerate(labels):
        mine = [r for r in rows if r["target"] == label]
        for i, score in enumerate(SCORES):
            _scan(grid[i, j], mine, score)
            tidy(grid[i, j], label if i == 0 else "")
            if i < len(SCORES) - 1:
                grid[i, j].set_xlabel("")
    handles = {h: k for axes in grid.flat for k, h in zip(*axes.get_legend_handles_labels())}
    figure.legend(
        list(handles.values()), list(handles), frameon=False, fontsize=9, loc="outside right upper"
    )
    if title:
        figure.suptitle(title, fontsize=12)
    return figure


def _known(row: Row, score: str) -> bool:
    return row.get(score) is not None and bool(np.isfinite(number(row, score)))


def _scan(axes: Axes, rows: Sequence[Row], score: str) -> None:
    styles = dict(zip(METHOD_NAMES, COLOURS, strict=False))
    greys = iter(("--", ":", "-.", (0, (5, 1, 1, 1, 1, 1))))
    drawn = []
    for method in dict.fromkeys(str(r["method"]) for r in rows):
        mine = [r for r in rows if r["method"] == method and _known(r, score)]
        colour = styles.get(method, GREY)
        style = "-" if method in styles else next(greys, ":")
        if all(number(r, "size") == 0 for r in mine):
            for row in mine[:1]:
                axes.axhline(number(row, score), color=colour, linestyle=style, label=method)
                drawn.append(number(row, score))
            continue
        # A little to the side, so that bars do not hide each other.
        aside = 1.02 ** (len(axes.containers) - 2)
        axes.errorbar(
            [number(r, "size") * aside for r in mine],
            [number(r, score) for r in mine],
            [number(r, f"{score} +-") for r in mine],
            color=colour, linestyle=style, marker="o", markersize=4, capsize=3, label=method,
        )  # fmt: skip
        drawn += [number(r, score) for r in mine]
    axes.set(xscale="log", xlabel="labelled target stars", ylabel=SCORES.get(score, score))
    counts = sorted({number(r, "size") for r in rows if number(r, "size") > 0})
    axes.set_xticks(counts, [f"{n:g}" for n in counts])
    axes.minorticks_off()
    if score == "R2" and drawn:
        low, high = max(-1.0, min(drawn)), max(drawn)
        axes.set_ylim(low - 0.08 * (high - low) - 0.02, min(1.0, high + 0.15 * (high - low) + 0.02))


def one_to_one_figure(
    panels: Mapping[str, Mapping[str, Pairs]], units: Mapping[str, str], title: str = ""
) -> Figure:
    """Prediction against truth: a row a label, a column a method, with R2 and clipped sigma.

    Args:
        panels: Label -> method -> truth and prediction; NaN is left out.
        units: Name and unit of each label.
        title: Heading; may be empty.

    Raises:
        UsageError: If there is nothing to draw.
    """
    methods = list(dict.fromkeys(m for of in panels.values() for m in of))
    if not methods:
        raise UsageError("there is nothing to draw", "another --regime")
    figure = new_figure(2.9 * len(methods) + 0.6, 3.1 * len(panels) + 0.5)
    grid = figure.subplots(len(panels), len(methods), squeeze=False, sharex="row", sharey="row")
    for i, (label, of) in enumerate(panels.items()):
        every = np.concatenate([np.concatenate(pair) for pair in of.values()])
        edges = _edges(every)
        for j, method in enumerate(methods):
            axes = grid[i, j]
            if method in of:
                _one_to_one(axes, of[method], edges)
            tidy(axes, method if i == 0 else "")
            axes.set_xlabel(f"true {units.get(label, label)}", fontsize=9)
            if j == 0:
                axes.set_ylabel(f"predicted {units.get(label, label)}", fontsize=9)
    if title:
        figure.suptitle(title, fontsize=12)
    return figure


def _one_to_one(axes: Axes, pair: Pairs, edges: tuple[float, float]) -> None:
    known = np.isfinite(pair[0]) & np.isfinite(pair[1])
    truth, predicted = pair[0][known], pair[1][known]
    _cloud(axes, truth, predicted, (*edges, *edges))
    axes.plot(edges, edges, color=COLOURS[1], linewidth=1.1)
    if len(truth) > 1:
        found = scores(truth, predicted)
        words = f"$R^2$ = {found['R2']:.3f}\nσ = {found['scatter']:.3g}\nN = {len(truth)}"
        box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 1}
        axes.text(0.04, 0.96, words, transform=axes.transAxes, va="top", fontsize=8, bbox=box)
    axes.set(xlim=edges, ylim=edges)


def plane_figure(
    reference: Floats, clouds: Mapping[str, tuple[Floats, float]], names: tuple[str, str],
    title: str = "",
) -> Figure:  # fmt: skip
    """Stars in the plane of two labels: the reference first, then each method with its MMD.

    Args:
        reference: [stars, 2].
        clouds: Method -> [stars, 2] as predicted, and the squared MMD to the reference.
        names: Names and units of the two labels, x first.
        title: Heading; may be empty.
    """
    panels = {"reference": (reference, float("nan")), **clouds}
    wide = min(4, len(panels))
    high = -(-len(panels) // wide)
    figure = new_figure(3.0 * wide + 0.5, 2.8 * high + 0.5)
    grid = figure.subplots(high, wide, squeeze=False, sharex=True, sharey=True)
    every = np.concatenate([points for points, _ in panels.values()])
    extent = (*_edges(every[:, 0]), *_edges(every[:, 1]))
    for axes, (name, (points, mmd)) in zip(grid.flat, panels.items()):
        _cloud(axes, points[:, 0], points[:, 1], extent)
        words = f"N = {len(points)}"
        if np.isfinite(mmd):
            words = f"MMD$^2$ = {mmd:.4f}\n{words}"
        axes.text(0.96, 0.96, words, transform=axes.transAxes, va="top", ha="right", fontsize=8)
        axes.set(xlim=extent[:2], ylim=extent[2:])
        tidy(axes)
        axes.set_title(name, fontsize=10, loc="left")
    for spare in range(len(panels), wide * high):
        grid.flat[spare].set_visible(False)
        grid.flat[spare - wide].tick_params(labelbottom=True)
    figure.supxlabel(names[0], fontsize=10)
    figure.supylabel(names[1], fontsize=10)
    if title:
        figure.suptitle(title, fontsize=12)
    return figure


def _edges(values: Floats) -> tuple[float, float]:
    """Where 99.6 % of the known values lie, and a little room."""
    known = values[np.isfinite(values)]
    low, high = np.percentile(known, [0.2, 99.8]) if len(known) else (0.0, 1.0)
    margin = 0.06 * (high - low) or 0.5
    return float(low - margin), float(high + margin)


def _cloud(axes: Axes, x: Floats, y: Floats, extent: tuple[float, float, float, float]) -> None:
    """Points where they are few, their density where they are many."""
    if len(x) > 500:
        axes.hexbin(x, y, gridsize=40, bins="log", mincnt=1, cmap="cividis", extent=extent)
    else:
        axes.scatter(x, y, s=9, c=COLOURS[0], alpha=0.6, linewidths=0, rasterized=True)
