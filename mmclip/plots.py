"""Tables -> figures: colour-blind safe, labelled with units, no window ever opened."""

import io
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from mmclip.errors import UsageError

# Okabe & Ito 2008: blue, vermillion, green, orange, purple, sky.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7", "#56B4E9")
LINES = {
    "Hβ": 486.27,
    "Hα": 656.46,
    "Ca II": 849.98,
    " Ca II ": 854.44,
    "Ca II ": 866.45,
}  # nm, vacuum


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _tidy(axes: Axes) -> None:
    axes.grid(True, alpha=0.25, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)


def map_figure(
    x: ArrayLike, y: ArrayLike, colour: ArrayLike, label: str, title: str = ""
) -> Figure:
    """Points of a map coloured by a quantity; grey where it is unknown."""
    px, py, c = (np.asarray(v, float) for v in (x, y, colour))
    figure = _figure(7.2, 5.6)
    axes = figure.subplots()
    known = np.isfinite(c)
    size = float(np.clip(30000 / max(len(px), 1), 1.5, 12))
    axes.scatter(px[~known], py[~known], s=size, c="#bbbbbb", linewidths=0, rasterized=True)
    low, high = np.percentile(c[known], [1, 99]) if known.any() else (0.0, 1.0)
    drawn = axes.scatter(
        px[known], py[known], s=size, c=c[known], cmap="cividis", vmin=low, vmax=high,
        linewidths=0, rasterized=True,
    )  # fmt: skip
    figure.colorbar(drawn, ax=axes, label=label, extend="both")
    axes.set(xticks=[], yticks=[], xlabel="UMAP 1", ylabel="UMAP 2", title=title)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def prediction_figure(
    truth: ArrayLike, predicted: ArrayLike, label: str, title: str = ""
) -> Figure:
    """Predicted against true, density coloured, with the residual below."""
    t, p = np.asarray(truth, float), np.asarray(predicted, float)
    good = np.isfinite(t) & np.isfinite(p)
    t, p = t[good], p[good]
    figure = _figure(5.2, 6.0)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    low, high = np.percentile(np.concatenate([t, p]), [0.2, 99.8])
    margin = 0.05 * (high - low) or 1.0
    edges = (low - margin, high + margin)
    above.hexbin(t, p, gridsize=45, bins="log", mincnt=1, cmap="cividis", extent=(*edges, *edges))
    above.plot(edges, edges, color=COLOURS[1], linewidth=1.2)
    residual = p - t
    spread = ((t - t.mean()) ** 2).sum()
    r2 = 1 - (residual**2).sum() / spread if spread > 0 else float("nan")
    nmad = 1.4826 * np.median(np.abs(residual - np.median(residual)))
    words = f"$R^2$ = {r2:.3f}\nbias = {residual.mean():.3g}\nNMAD = {nmad:.3g}\nN = {len(t)}"
    above.text(0.04, 0.96, words, transform=above.transAxes, va="top", fontsize=9)
    above.set(ylabel=f"predicted {label}", xlim=edges, ylim=edges, title=title)
    reach = np.percentile(np.abs(residual), 99) * 1.2 or 1.0
    below.hexbin(
        t, residual, gridsize=(45, 12), bins="log", mincnt=1, cmap="cividis",
        extent=(*edges, -reach, reach),
    )  # fmt: skip
    below.axhline(0, color=COLOURS[1], linewidth=1.2)
    below.set(xlabel=f"true {label}", ylabel="residual", ylim=(-reach, reach))
    _tidy(above)
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
    """A few spectra, a panel each, over the typical spectrum in grey."""
    w, f = np.asarray(wavelength, float), np.atleast_2d(np.asarray(fluxes, float))
    columns = min(3, max(1, len(f)))
    rows = max(1, -(-len(f) // columns))
    figure = _figure(3.4 * columns, 2.1 * rows + 0.4)
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True)
    for panel, flux, label in zip(panels.flat, f, labels):
        if median is not None:
            panel.plot(w, np.asarray(median, float), color="#999999", linewidth=1)
        panel.plot(w, flux, color=COLOURS[0], linewidth=1.1)
        panel.set_title(label, fontsize=8)
        _tidy(panel)
    for panel in list(panels.flat)[len(f) :]:
        panel.set_visible(False)
    figure.supxlabel("wavelength [nm]", fontsize=10)
    figure.supylabel(ylabel, fontsize=10)
    if title:
        figure.suptitle(title)
    return figure


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
    """A generated spectrum with its 1-sigma band over the observed one; residual in sigma below."""
    w, o, g = (np.asarray(v, float) for v in (wavelength, observed, generated))
    e = np.nan_to_num(np.asarray(error, float)) if error is not None else np.zeros_like(g)
    s = np.asarray(sigma, float) if sigma is not None else np.zeros_like(g)
    figure = _figure(7.6, 5.0)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    known = "modelled spectrum" if modelled else "observed"
    above.fill_between(w, g - s, g + s, color=COLOURS[1], alpha=0.25, linewidth=0)
    above.plot(w, o, color="#222222", linewidth=1.2, label=known)
    above.plot(w, g, color=COLOURS[1], linewidth=1.2, label="generated, 1σ band")
    for colour, (name, flux) in zip(COLOURS[2:], (baselines or {}).items(), strict=False):
        above.plot(w, np.asarray(flux, float), color=colour, linewidth=0.9, label=name)
    top = 0.97
    for name, line in LINES.items():
        if w.min() < line < w.max():
            above.axvline(line, color="#777777", linewidth=0.6, linestyle=":")
            if name != " Ca II " and (name != "Ca II " or np.ptp(w) < 100):
                above.text(
                    line, top, f" {name.strip()}", transform=above.get_xaxis_transform(),
                    fontsize=8, color="#555555", va="top",
                )  # fmt: skip
    above.set(ylabel="relative flux", title=title)
    above.legend(frameon=False, fontsize=9, loc="lower center")
    total = np.hypot(s, e)
    z = np.divide(o - g, total, out=np.full_like(g, np.nan), where=total > 0)
    for level, style in ((1, "--"), (3, ":")):
        for sign in (-1, 1):
            below.axhline(sign * level, color="#777777", linewidth=0.7, linestyle=style)
    below.plot(w, z, color=COLOURS[0], linewidth=0.9)
    reach = max(3.5, float(np.nanmax(np.abs(z))) * 1.1) if np.isfinite(z).any() else 3.5
    below.set(xlabel="wavelength [nm]", ylabel="residual [σ]", ylim=(-reach, reach))
    if modelled:
        above.text(
            0.5, 0.5, "MODELLED DATA", transform=above.transAxes, ha="center", va="center",
            fontsize=24, color=COLOURS[1], alpha=0.25, rotation=15,
        )  # fmt: skip
    _tidy(above)
    _tidy(below)
    return figure


def curves_figure(
    steps: Sequence[float], series: Mapping[str, Sequence[float]], ylabel: str, title: str = ""
) -> Figure:
    """Numbers by epoch, one line each."""
    figure = _figure(6.4, 3.6)
    axes = figure.subplots()
    for colour, (name, values) in zip(COLOURS * 4, series.items(), strict=False):
        axes.plot(steps, values, color=colour, linewidth=1.5, label=name)
    axes.set(xlabel="epoch", ylabel=ylabel, title=title, yscale="log")
    axes.legend(frameon=False, fontsize=9)
    _tidy(axes)
    return figure


def recall_figure(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Recall@1/5/10 of each direction as bars, chance as black marks; logarithmic."""
    figure = _figure(max(5.0, 1.6 * len(rows) + 2), 3.6)
    axes = figure.subplots()
    lowest = 1.0
    for i, k in enumerate((1, 5, 10)):
        place = np.arange(len(rows)) + (i - 1) * 0.26
        axes.bar(
            place, [r[f"recall@{k}"] for r in rows], 0.24, color=COLOURS[i], label=f"recall@{k}"
        )
        chance = [min(1.0, k / r["candidates"]) for r in rows]
        lowest = min([lowest, *chance])
        axes.hlines(
            chance, place - 0.12, place + 0.12, color="black", linewidth=2,
            label="chance" if k == 10 else "",
        )  # fmt: skip
    axes.set(ylabel="fraction of test stars", yscale="log", ylim=(lowest / 2, 1.5))
    axes.set_xticks(
        range(len(rows)), [f"{r['direction']}\n{r['candidates']} candidates" for r in rows]
    )
    axes.legend(frameon=False, fontsize=9, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    _tidy(axes)
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
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".tmp-")
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}", "another --plot") from error
    with os.fdopen(handle, "wb") as file:
        file.write(body)
    Path(name).replace(path)
