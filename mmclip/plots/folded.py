"""Generated light curves: the folded view at P and at 2P, with intervals and what was observed."""

import re
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mmclip.errors import UsageError
from mmclip.plots.style import COLOURS, new_figure, tidy

if TYPE_CHECKING:
    from mmclip.tasks.generate import Generated

CHANNEL = re.compile(r"(?P<name>(?:.* )?brightness (?P<fold>2?P)) (?P<bin>\d+)")


def generated_fold_figure(
    made: "Generated", row: int, period: float | None = None, zero: str = ""
) -> Figure:
    """A generated folded light curve: one panel a fold and band, two cycles, bright is up.

    Args:
        made: Of a view with entries `brightness P 0`, `g brightness 2P 63` and the like.
        row: Which star.
        period: Of the star, in d, if it is known.
        zero: Where phase 0 is, `faintest` or `brightest`.

    Raises:
        UsageError: If the view has neither a wavelength axis nor phases.
    """
    panels: dict[str, list[int]] = {}
    for entry, label in enumerate(made.labels):
        found = CHANNEL.fullmatch(label)
        if found:
            panels.setdefault(found["name"], []).append(entry)
    if not panels:
        raise UsageError(f"{made.to} has no wavelengths or phases to draw", "leave --plot out")
    figure = new_figure(3.9 * min(2, len(panels)) + 0.4, 3.1 * -(-len(panels) // 2) + 0.7)
    grid = figure.subplots(-(-len(panels) // 2), min(2, len(panels)), squeeze=False, sharey=True)
    for axes, (name, entries) in zip(grid.flat, panels.items(), strict=False):
        _draw(axes, made, row, np.array(entries))
        fold = "2P" if name.endswith("2P") else "P"
        band = name.removesuffix(f"brightness {fold}")
        axes.set_xlabel("phase" + (f" (0: {zero})" if zero else ""))
        turn = "" if period is None else f" = {period * (2 if fold == '2P' else 1):.6g} d"
        tidy(axes, f"{band}folded at {fold}{turn}")
    for spare in list(grid.flat)[len(panels) :]:
        spare.set_visible(False)
    for left in grid[:, 0]:
        left.set_ylabel("(median − m) / amplitude")
    figure.legend(*grid[0, 0].get_legend_handles_labels(), frameon=False, fontsize=9, ncols=4,
                  loc="outside lower center")  # fmt: skip
    figure.suptitle(f"{made.to} of {made.source_id[row]} from its {made.start}", fontsize=11)
    return figure


def _draw(axes: Axes, made: "Generated", row: int, entries: np.ndarray) -> None:
    count = len(entries)
    phase = (np.arange(2 * count) + 0.5) / count
    for part, alpha, name in ((0.95, 0.18, "95 %"), (0.68, 0.32, "68 %")):
        low, high = (np.tile(end[row, entries], 2) for end in made.interval(part))
        axes.fill_between(phase, low, high, color=COLOURS[1], alpha=alpha, linewidth=0, label=name)
    observed = np.tile(made.observed[row, entries], 2)
    if np.isfinite(observed).any():
        axes.plot(phase, observed, ".", color="#222222", markersize=3.5, label="observed")
    mean = np.tile(made.mean[row, entries], 2)
    axes.plot(phase, mean, color=COLOURS[1], linewidth=1.2, label="generated")
    if made.provenance == "modelled":
        axes.text(0.5, 0.5, "MODELLED DATA", transform=axes.transAxes, ha="center", va="center",
                  fontsize=18, color=COLOURS[1], alpha=0.28, rotation=15)  # fmt: skip
