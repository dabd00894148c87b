"""Groups of objects on a map, beside a few objects of each."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from mmclip.artifacts import Artifact
from mmclip.datasets.build import Dataset
from mmclip.datasets.objects import Portrait, periods, portraits, with_phases
from mmclip.plots.objects import draw_image, draw_object
from mmclip.plots.style import COLOURS, marker_of, new_figure, tidy

SHOWN, EACH = 10, 3  # groups with objects beside the map, and objects of each


def clusters_figure(
    positions: NDArray[np.float32], labels: NDArray[np.int64],
    objects: Mapping[int, Sequence[Portrait]], title: str = "",
) -> Figure:  # fmt: skip
    """A map coloured by group, and a row of objects of each of the largest groups.

    Args:
        positions: [objects, 2] on the map; NaN is left out.
        labels: [objects] group of each; negative ones are in none and grey.
        objects: By group; at most `SHOWN` groups of `EACH` are drawn.
        title: Heading; may be empty.
    """
    rows = list(objects)[:SHOWN]
    figure = new_figure(6.4 + 1.8 * EACH * bool(rows), max(5.0, 1.25 * len(rows) + 0.6))
    left, right = figure.subfigures(1, 2, squeeze=False, width_ratios=[6.4, 1.8 * EACH])[0]
    axes = left.subplots()
    none = labels < 0
    groups = np.unique(labels[~none]).tolist()
    size = float(np.clip(30000 / max(len(labels), 1), 1.5, 14))
    axes.scatter(*positions[none].T, s=size, c="#bbbbbb", linewidths=0, rasterized=True)
    for i, group in enumerate(groups):
        mine = labels == group
        axes.scatter(
            *positions[mine].T, s=size, c=COLOURS[i % len(COLOURS)], linewidths=0, rasterized=True,
            marker=marker_of(i),
        )  # fmt: skip
        if group in rows:
            middle = np.nanmedian(positions[mine], axis=0)
            axes.annotate(
                str(group), middle, ha="center", va="center", fontsize=10, weight="bold",
                bbox={"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 1.5},
            )  # fmt: skip
    tidy(axes, title)
    axes.set(xticks=[], yticks=[], xlabel="UMAP 1", ylabel="UMAP 2")
    if rows:
        grid = right.subplots(len(rows), EACH, squeeze=False)
        for i, group in enumerate(rows):
            shown, colour = list(objects[group]), COLOURS[groups.index(group) % len(COLOURS)]
            for j in range(EACH):
                panel = grid[i, j]
                if j >= len(shown):
                    panel.set_axis_off()
                    continue
                if shown[j].kind == "image":
                    draw_image(panel, shown[j].y, "", colour)
                else:
                    draw_object(panel, shown[j], "", colour)
                    panel.set(xlabel="", ylabel="", yticks=[])
                    panel.tick_params(labelsize=6)
            grid[i, 0].set_ylabel(str(group), rotation=0, ha="right", va="center", fontsize=10)
    return figure


def grouped_figure(
    data: Dataset, raw: Artifact | None, positions: NDArray[np.float32],
    labels: NDArray[np.int64], source_id: NDArray[np.int64], views: Sequence[str],
    title: str = "",
) -> Figure:  # fmt: skip
    """`clusters_figure` with the objects nearest to the middle of each group on the map.

    Args:
        data, raw: Where the objects are.
        positions, labels, source_id: [objects] each, row by row.
        views: The first image among them is drawn, else the first of them.
    """
    images = [v for v in views if data.modality(v).kind == "image"]
    view = (images or list(views))[0]
    counts = np.bincount(labels[labels >= 0])
    known = periods(data, raw)
    objects: dict[int, list[Portrait]] = {}
    for group in np.argsort(-counts, kind="stable")[:SHOWN].tolist():
        mine = np.flatnonzero((labels == group) & np.isfinite(positions).all(axis=1))
        if not len(mine):
            continue
        away = ((positions[mine] - np.median(positions[mine], axis=0)) ** 2).sum(axis=1)
        near = source_id[mine[np.argsort(away, kind="stable")[: 4 * EACH]]].tolist()
        objects[group] = with_phases(portraits(data, raw, near, view)[:EACH], known)
    return clusters_figure(positions, labels, objects, title)
