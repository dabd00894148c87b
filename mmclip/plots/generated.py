"""Generated views beside what was observed: spectra, folded light curves, coefficients."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from mmclip.errors import UsageError
from mmclip.plots.folded import CHANNEL, generated_fold_figure
from mmclip.plots.spectra import mark_lines
from mmclip.plots.style import (
    COLOURS,
    GREY,
    Floats,
    new_figure,
    symmetric_logarithm,
    tidy,
    value_range,
)

if TYPE_CHECKING:
    from mmclip.tasks.generate import Generated

MOST = 4  # stars of one picture
BAND = re.compile(r"(bp|rp) .*", re.IGNORECASE)  # entries that are coefficients of a band


@dataclass(frozen=True)
class _Drawn:
    """What is drawn of one star; [length] each, the widest interval first."""

    axis: Floats
    mean: Floats
    sigma: Floats
    bands: Sequence[tuple[Floats, Floats]]
    observed: Floats
    error: Floats
    samples: Floats | None = None
    never: NDArray[np.bool_] | None = None


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
    never: ArrayLike | None = None,
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
        never: [length] True for pixels that no training star has; nothing is drawn there.
    """
    blank = np.full(np.shape(generated), np.nan)
    star = _Drawn(
        np.asarray(axis, float), np.asarray(generated, float), np.asarray(sigma, float),
        [(np.asarray(low, float), np.asarray(high, float)) for low, high in bands],
        blank if observed is None else np.asarray(observed, float),
        blank if error is None else np.asarray(error, float),
        None if samples is None else np.atleast_2d(np.asarray(samples, float)),
        None if never is None else np.asarray(never, bool),
    )  # fmt: skip
    return _spectra_figure([star], [title], unit, modelled)


def _spectra_figure(
    stars: Sequence[_Drawn], titles: Sequence[str], unit: str, modelled: bool
) -> Figure:
    """A column a star: its spectrum, and the residual below where anything was observed."""
    seen = any(np.isfinite(s.observed).any() for s in stars)
    alone = len(stars) == 1
    figure = new_figure(7.8 if alone else 4.6 * len(stars), 5.4 if seen else 4.2)
    grid = figure.subplots(2 if seen else 1, len(stars), sharex=True, squeeze=False,
                           height_ratios=[3, 1] if seen else [1])  # fmt: skip
    for j, (star, title) in enumerate(zip(stars, titles, strict=True)):
        _spectrum(grid[0, j], star, modelled)
        tidy(grid[0, j])
        grid[0, j].set_title(title, loc="left", fontsize=12 if alone else 9)
        if seen:
            hidden = star.observed - star.mean
            if star.never is not None:
                hidden = np.where(star.never, np.nan, hidden)
            _residual(grid[1, j], star.axis, hidden, star.sigma)
            tidy(grid[1, j])
        grid[-1, j].set(xlabel="wavelength in vacuum [nm]")
    grid[0, 0].set(ylabel=unit)
    if seen:
        grid[1, 0].set(ylabel="residual [σ]")
    known = {k: h for a in grid[0] for h, k in zip(*a.get_legend_handles_labels(), strict=True)}
    figure.legend(list(known.values()), list(known), frameon=False, fontsize=9, ncols=7,
                  loc="outside lower center")  # fmt: skip
    figure.align_ylabels()
    return figure


def _spectrum(above: Axes, star: _Drawn, modelled: bool) -> None:
    w, shown = star.axis, np.ones(len(star.axis), bool)
    if star.never is not None and star.never.any():
        shown = ~star.never
        for begin, end in _runs(star.never):
            above.axvspan(w[begin], w[end - 1], facecolor="none", edgecolor=GREY, hatch="////",
                          linewidth=0, alpha=0.5, label="never observed")  # fmt: skip
    for (low, high), alpha, name in zip(star.bands, (0.18, 0.32), ("95 %", "68 %"), strict=False):
        above.fill_between(w, low, high, where=shown, color=COLOURS[1], alpha=alpha, linewidth=0,
                           label=name)  # fmt: skip
    for i, one in enumerate(star.samples[:5] if star.samples is not None else ()):
        above.plot(
            w, np.where(shown, one, np.nan), color=COLOURS[5], linewidth=0.7, alpha=0.8,
            label="draws" if i == 0 else "",
        )  # fmt: skip
    o, e = star.observed, star.error
    if np.isfinite(o).any():
        known = "modelled spectrum" if modelled else "observed"
        above.plot(w, o, color="#222222", linewidth=1.2, label=known)
        if np.isfinite(e).any():
            above.fill_between(w, o - e, o + e, color="#222222", alpha=0.18, linewidth=0)
    mean = np.where(shown, star.mean, np.nan)
    above.plot(w, mean, color=COLOURS[1], linewidth=1.2, label="generated")
    ends = [np.where(shown, end, np.nan) for end in star.bands[0]] if star.bands else []
    least, most = value_range(np.concatenate([o, mean, *ends]))
    above.set(ylim=(least - 0.05 * (most - least), most + 0.16 * (most - least)))
    mark_lines(above, float(w.min()), float(w.max()))
    if modelled:
        above.text(
            0.5, 0.5, "MODELLED DATA", transform=above.transAxes, ha="center", va="center",
            fontsize=26, color=COLOURS[1], alpha=0.28, rotation=15, zorder=0,
        )  # fmt: skip


def _runs(flags: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """First and one past the last index of each run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(int)))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def _residual(axes: Axes, w: Floats, off: Floats, sigma: Floats) -> None:
    """Observed - generated in sigma; nothing where sigma is not known."""
    z = np.divide(off, sigma, out=np.full_like(off, np.nan), where=sigma > 0)
    axes.plot(w, z, color=COLOURS[0], linewidth=0.9)
    for level, style in ((1, "--"), (3, ":")):
        for sign in (-1, 1):
            axes.axhline(sign * level, color="#555555", linewidth=0.8, linestyle=style)
    reach = max(4.0, float(np.nanmax(np.abs(z))) * 1.1 if np.isfinite(z).any() else 0.0)
    axes.set(ylim=(-reach, reach))
    if reach < 8:
        axes.set_yticks([-3, -1, 1, 3])


def _coefficients_figure(made: "Generated", rows: Sequence[int]) -> Figure:
    """A row a star, a column a band: coefficients on a symmetric logarithmic axis."""
    bands: dict[str, list[int]] = {}
    for entry, label in enumerate(made.labels):
        bands.setdefault(label.split(" ")[0].upper(), []).append(entry)
    low95, high95 = made.interval(0.95)
    known = "modelled" if made.provenance == "modelled" else "observed"
    figure = new_figure(4.6 * len(bands) + 0.4, 2.7 * len(rows) + 0.8)
    grid = figure.subplots(len(rows), len(bands), squeeze=False, sharex="col", sharey="row")
    for i, row in enumerate(rows):
        for axes, (band, entries) in zip(grid[i], bands.items(), strict=True):
            e, x = np.array(entries), np.arange(len(entries))
            axes.fill_between(x, low95[row, e], high95[row, e], step="mid", color=COLOURS[1],
                              alpha=0.25, linewidth=0, label="95 %")  # fmt: skip
            axes.plot(x, made.observed[row, e], ".", color="#222222", markersize=5, label=known)
            axes.plot(x, made.mean[row, e], "x", color=COLOURS[1], markersize=4, label="generated")
            tidy(axes, f"{band}, {made.source_id[row]}")
            axes.title.set_fontsize(9)
        symmetric_logarithm(grid[i, 0], np.concatenate([made.observed[row], made.mean[row]]))
        grid[i, 0].set_ylabel(made.unit or "coefficient", fontsize=9)
    for axes in grid[-1]:
        axes.set_xlabel("basis function")
    figure.legend(*grid[0, 0].get_legend_handles_labels(), frameon=False, fontsize=9, ncols=3,
                  loc="outside lower center")  # fmt: skip
    figure.suptitle(f"{made.to} from {made.start}", fontsize=11)
    return figure


def generated_figure(
    made: "Generated", rows: int | Sequence[int], periods: Mapping[int, float] | None = None,
    zero: str = "",
) -> Figure:  # fmt: skip
    """The figure of generated stars: spectra side by side, coefficients one below the other.

    Args:
        made: Generated views.
        rows: Which stars; of folded light curves the first, of others at most `MOST`.
        periods: In d by source_id, of folded light curves.
        zero: Where their phase 0 is, `faintest` or `brightest`.

    Raises:
        UsageError: If the view has neither wavelengths, nor phases, nor bands.
    """
    chosen: list[int] = np.atleast_1d(np.asarray(rows)).tolist()[:MOST]
    if made.axis is None:
        if any(CHANNEL.fullmatch(label) for label in made.labels):
            period = (periods or {}).get(int(made.source_id[chosen[0]]))
            return generated_fold_figure(made, chosen[0], period, zero)
        if made.labels and all(BAND.fullmatch(label) for label in made.labels):
            return _coefficients_figure(made, chosen)
        raise UsageError(f"{made.to} has no wavelengths or phases to draw", "leave --plot out")
    stars, titles = [], []
    ends = [made.interval(part) for part in (0.95, 0.68)]
    for row in chosen:
        stars.append(
            _Drawn(
                np.asarray(made.axis, float), made.mean[row], made.sigma[row],
                [(low[row], high[row]) for low, high in ends], made.observed[row],
                made.error[row], None if made.samples is None else made.samples[row], made.never,
            )
        )  # fmt: skip
        titles.append(f"{made.to} of {made.source_id[row]} from its {made.start}")
    if len(chosen) > 1:
        titles = [str(made.source_id[row]) for row in chosen]
    figure = _spectra_figure(stars, titles, made.unit, made.provenance == "modelled")
    if len(chosen) > 1:
        figure.suptitle(f"{made.to} from {made.start}", fontsize=11)
    return figure
