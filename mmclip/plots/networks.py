"""The loss around a trained network."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from mmclip.plots.style import COLOURS, new_figure, value_range


def landscape_figure(surfaces: Mapping[str, tuple[ArrayLike, ArrayLike]]) -> Figure:
    """The loss around each network: its surface above, its contours below, one column each.

    Args:
        surfaces: By name, the axis (in lengths of the network's own filters) and log10 of the
            loss [b, a].
    """
    figure = new_figure(max(3.3 * len(surfaces), 4.0), 6.4)
    every = np.concatenate([np.asarray(z, float).ravel() for _, z in surfaces.values()])
    low, high = value_range(every)
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
