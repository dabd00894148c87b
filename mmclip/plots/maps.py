"""Maps of the embedding space, coloured by a quantity or by class."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure, SubFigure
from numpy.typing import ArrayLike, NDArray

from mmclip.plots.style import COLOURS, marker_of, new_figure, short, tidy

LAYERS = 4  # in which the points of every class are drawn
NAMED = 24  # classes that a legend has room for


def map_figure(
    x: ArrayLike, y: ArrayLike, colour: ArrayLike, label: str, title: str = "",
    into: SubFigure | None = None,
) -> Figure:  # fmt: skip
    """Points of a map coloured by a quantity; grey where it is unknown.

    Args:
        x, y: Places on the map, dimensionless.
        colour: The quantity; colours end at its 1st and 99th percentile.
        label: Its name and unit, beside the colour bar.
        title: Heading; may be empty.
        into: The part of a figure to draw into; None: a figure of its own.
    """
    px, py, c = (np.asarray(v, float) for v in (x, y, colour))
    figure: Any = into or new_figure(7.2, 5.6)
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
    figure.colorbar(drawn, ax=axes, label=short(label), extend="both", aspect=30)
    tidy(axes, title)
    axes.set(xticks=[], yticks=[], xlabel="UMAP 1", ylabel="UMAP 2")
    made: Figure = figure
    return made


def class_map_figure(
    x: ArrayLike, y: ArrayLike, names: Sequence[str], label: str, title: str = "",
    marked: Mapping[str, ArrayLike] | None = None, into: SubFigure | None = None,
) -> Figure:  # fmt: skip
    """Points of a map coloured by class, the most frequent first; marks tell beyond six apart.

    Beyond `NAMED` classes the rest is drawn as one.

    Args:
        x, y: Places on the map, dimensionless; NaN is left out.
        names: Class of each point; an empty one is drawn grey.
        label: What the classes are.
        title: Heading; may be empty.
        marked: Sets of points to be ringed: a name and a mask each.
    """
    px, py, kinds = np.asarray(x, float), np.asarray(y, float), np.asarray(names, object)
    figure: Any = into or new_figure(8.2, 5.6)
    axes = figure.subplots()
    size = float(np.clip(30000 / max(len(px), 1), 1.5, 14))
    found, counts = np.unique(kinds[kinds != ""].astype(str), return_counts=True)
    none = kinds == ""
    if none.any():
        axes.scatter(
            px[none], py[none], s=size, c="#bbbbbb", linewidths=0, rasterized=True,
            label=f"not known ({int(none.sum())})",
        )  # fmt: skip
    frequent = found[np.argsort(-counts, kind="stable")]
    rest = np.isin(kinds.astype(str), frequent[NAMED:])
    if rest.any():
        axes.scatter(
            px[rest], py[rest], s=size, c="#777777", linewidths=0, rasterized=True,
            label=f"{len(frequent) - NAMED} others ({int(rest.sum()):,})",
        )  # fmt: skip
    # In layers, each with a part of every class: no class lies over all of another.
    layer = np.random.default_rng(0).integers(0, LAYERS, len(px))
    for j, (i, kind) in itertools.product(range(LAYERS), enumerate(frequent[:NAMED])):
        mine = (kinds == kind) & (layer == j)
        marker = marker_of(i)
        # The rarer classes share colours with the first six: their marks must be told apart.
        first = marker == "o"
        axes.scatter(
            px[mine], py[mine], s=size if first else max(1.5 * size, 10), marker=marker,
            c=COLOURS[i % len(COLOURS)], linewidths=0 if first else 0.4, edgecolors="white",
            rasterized=True, label="" if j else f"{short(kind)} ({int((kinds == kind).sum()):,})",
        )  # fmt: skip
    for i, (name, mask) in enumerate((marked or {}).items()):
        chosen = np.asarray(mask, bool)
        axes.scatter(
            px[chosen], py[chosen], s=38 + 26 * i, facecolors="none", edgecolors="black",
            linewidths=0.8, marker="os^D"[i % 4], label=f"{short(name)} ({int(chosen.sum())})",
        )  # fmt: skip
    legend = axes.legend(
        frameon=False, fontsize=9, title=short(label), loc="upper left", bbox_to_anchor=(1.0, 1.0),
        alignment="left",
    )  # fmt: skip
    for mark in legend.legend_handles:
        mark.set_sizes([32.0])
    tidy(axes, title)
    axes.set(xticks=[], yticks=[], xlabel="UMAP 1", ylabel="UMAP 2")
    made: Figure = figure
    return made


def column_map_figure(
    positions: NDArray[np.float32], values: NDArray[Any], column: str, label: str,
    title: str = "", into: SubFigure | None = None,
) -> Figure:  # fmt: skip
    """A map coloured by a column: by class if it holds names, else by its numbers.

    Args:
        positions: [stars, 2] on the map.
        values: [stars] names (dtype object, empty where unknown) or numbers.
        column: Its name.
        label: Its name and unit.
        title: Heading; may be empty.
        into: The part of a figure to draw into; None: a figure of its own.
    """
    x, y = positions[:, 0], positions[:, 1]
    if values.dtype == object:
        return class_map_figure(x, y, values.tolist(), column, title, into=into)
    return map_figure(x, y, values, label, title, into)


@dataclass(frozen=True)
class MapPanel:
    """One map of several in a picture; see `column_map_figure`."""

    positions: NDArray[np.float32]
    values: NDArray[Any]
    column: str
    label: str
    title: str = ""


def map_panels_figure(panels: Sequence[MapPanel]) -> Figure:
    """Several maps in one picture, at most three beside each other."""
    if len(panels) == 1:
        one = panels[0]
        return column_map_figure(one.positions, one.values, one.column, one.label, one.title)
    wide = min(3, len(panels))
    high = -(-len(panels) // wide)
    figure = new_figure(6.2 * wide, 4.8 * high)
    parts = figure.subfigures(high, wide, squeeze=False).ravel()
    for panel, part in zip(panels, parts, strict=False):
        column_map_figure(
            panel.positions, panel.values, panel.column, panel.label, panel.title, part
        )
    return figure
