"""Single objects: their light curves, spectra and images, beside those of others."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from mmclip.artifacts import Artifact
from mmclip.datasets.build import Dataset
from mmclip.datasets.objects import Portrait, periods, portraits, with_phases
from mmclip.errors import UsageError
from mmclip.ids import rows_of
from mmclip.plots.style import COLOURS, GREY, new_figure, tidy
from mmclip.results import Result
from mmclip.tasks.search import Queries

Scatter = tuple[str, ArrayLike, ArrayLike, int, str, str, bool]  # see `dossier_figure`
Beside = tuple[Portrait | None, Portrait | None, str]  # image, spectrum, heading


def draw_object(axes: Axes, portrait: Portrait, title: str, colour: str) -> None:
    """One view of an object: points for a light curve, an image, else a line."""
    if portrait.kind == "image":
        draw_image(axes, portrait.y, title, colour)
        return
    if "light curve" in portrait.kind:
        axes.errorbar(
            portrait.x, portrait.y, yerr=portrait.error, fmt=".", markersize=3, linewidth=0,
            elinewidth=0.5, color=colour, ecolor=GREY, alpha=0.8,
        )  # fmt: skip
        low, high = np.nanpercentile(portrait.y, [0.5, 99.5])
        margin = 0.15 * (high - low) or 0.1
        axes.set_ylim(low - margin, high + margin)
        axes.xaxis.set_major_locator(MaxNLocator(4 if portrait.kind == "light curve" else 5))
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
    tidy(axes)
    axes.set_title(title, fontsize=9, loc="left")


def portraits_figure(panels: Sequence[tuple[Portrait, str, bool]], title: str = "") -> Figure:
    """Objects as they look in a view, three a row; those marked True (the queries) in vermillion.

    Args:
        panels: (view of an object, heading, mark).
        title: Heading of the whole; may be empty.

    Raises:
        UsageError: If there is nothing to draw.
    """
    if not panels:
        raise UsageError("there is nothing to draw", "leave --plot out")
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    figure = new_figure(3.7 * columns + 0.3, 2.4 * rows + 0.4)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes, (portrait, heading, marked) in zip(grid.flat, panels):
        draw_object(axes, portrait, heading, COLOURS[1] if marked else COLOURS[0])
    for axes in list(grid.flat)[len(panels) :]:
        axes.set_visible(False)
    if title:
        figure.suptitle(title, fontsize=12)
    return figure


def dossier_figure(
    views: Sequence[Portrait],
    scatters: Sequence[Scatter],
    title: str = "",
) -> Figure:
    """Every view of one object, and its place among the others, side by side.

    Args:
        views: The object as it looks in each.
        scatters: Panels in which the object is one of many: heading, x and y of all, the
            object's row, labels of x and y, and whether y is a magnitude (bright is up).
        title: Heading; may be empty.
    """
    count = max(1, len(views) + len(scatters))
    columns = min(4, count)
    rows = -(-count // columns)
    figure = new_figure(3.3 * columns, 2.7 * rows + 0.3)
    grid = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes, portrait in zip(grid, views):
        draw_object(axes, portrait, f"{portrait.view}: {portrait.kind}", COLOURS[0])
    for axes, (name, x, y, mine, xlabel, ylabel, inverted) in zip(grid[len(views) :], scatters):
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
        tidy(axes)
        axes.set_title(name, fontsize=9, loc="left")
        axes.set_xlabel(xlabel, fontsize=8)
        axes.set_ylabel(ylabel, fontsize=8)
        axes.tick_params(labelsize=8)
    for axes in grid[count:]:
        axes.set_visible(False)
    if title:
        figure.suptitle(title, fontsize=11, x=0.01, ha="left")
    return figure


def draw_image(axes: Axes, pixels: ArrayLike, title: str, colour: str) -> None:
    """An image [height, width, 1 or 3] without axes, framed in a colour."""
    shown = np.asarray(pixels, float)
    axes.imshow(shown[:, :, 0] if shown.shape[2] == 1 else shown, cmap="gray", vmin=0, vmax=1)
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set_color(colour)
        spine.set_linewidth(2)
    axes.set_title(title, fontsize=9, loc="left")


def strips_figure(
    rows: Sequence[Sequence[Beside]],
    titles: Sequence[str] = (),
) -> Figure:
    """Retrieval of images and spectra: a query at the left of each row, its answers beside it.

    Each object is its image above its spectrum; the query is in vermillion.

    Args:
        rows: For each query, itself first, (image, spectrum, heading); either view may be None.
        titles: A word at the left of each row; may be empty.

    Raises:
        UsageError: If there is nothing to draw.
    """
    if not rows or not rows[0]:
        raise UsageError("there is nothing to draw", "leave --plot out")
    columns = max(len(row) for row in rows)
    figure = new_figure(1.9 * columns + 0.6, 3.0 * len(rows))
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
                draw_image(above, image.y, heading, colour)
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


def answers_figure(
    data: Dataset, raw: Artifact | None, queries: Queries, answers: Result, start: str, to: str
) -> Figure:
    """The answers to the first query beside it; where there are images, of four queries.

    Args:
        data: The objects and their views.
        raw: Where light curves are, or None.
        queries: Who was asked for; one that is not in the store is not drawn itself.
        answers: Of `mmclip.tasks.search`.
        start, to: Views asked from and answered in; the mean of the views is drawn as the first.
    """
    stored = [name for name in queries.names if isinstance(name, int)]
    cosine = _cosines(answers)
    images = [n for n in data.views if data.modality(n).kind == "image"]
    if images and isinstance(queries.names[0], int):
        return strips_figure(
            [_strip(data, images[0], q, cosine.get(str(q), {})) for q in stored[:4]]
        )
    names = list(data.views)
    first, then = (v if v in data.views else names[0] for v in (start, to))
    asked: list[Portrait] = []
    if isinstance(queries.names[0], int) and queries.rows[0] >= 0:
        asked = portraits(data, raw, [queries.names[0]], first)
    mine = cosine.get(str(queries.names[0]), {})
    shown = with_phases(asked + portraits(data, raw, list(mine), then), periods(data, raw))
    words = [f"query {p.source_id}" for p in asked]
    words += [f"{p.source_id}   cos {mine[p.source_id]:.3f}" for p in shown[len(asked) :]]
    headings = [f"{w}   {c}".rstrip() for w, c in zip(words, _classes(data, shown), strict=True)]
    panels = [(p, h, i < len(asked)) for i, (p, h) in enumerate(zip(shown, headings, strict=True))]
    return portraits_figure(panels, f"{start} → {to}")


def _classes(data: Dataset, shown: Sequence[Portrait]) -> list[str]:
    """The class of each object by the catalogue; empty where there is none."""
    if "class" not in data.objects.column_names:
        return [""] * len(shown)
    at = rows_of(data.source_id, np.array([p.source_id for p in shown], np.int64))
    return [str(data.objects["class"][int(i)].as_py() or "") if i >= 0 else "" for i in at]


def _cosines(answers: Result, most: int = 8) -> dict[str, dict[int, float]]:
    """By query: the source_id and cosine of its first answers."""
    found: dict[str, dict[int, float]] = {}
    columns = (answers.column(n).tolist() for n in ("query_id", "source_id", "cosine"))
    for query, source_id, cosine in zip(*columns, strict=True):
        mine = found.setdefault(str(query), {})
        if len(mine) < most:
            mine[source_id] = cosine
    return found


def _strip(data: Dataset, image: str, query: int, cosine: dict[int, float]) -> list[Beside]:
    """A query and its answers: image, spectrum and heading of each."""
    ids = [query, *cosine]
    headings = [f"query\n{query}", *(f"cos {c:.3f}" for c in cosine.values())]
    seen = {p.source_id: p for p in portraits(data, None, ids, image)}
    spectra: dict[int, Portrait] = {}
    for view in [v for v in data.views if v != image]:
        found = portraits(data, None, ids, view)
        spectra |= {p.source_id: p for p in found if p.kind == "spectrum"}
    return [(seen.get(i), spectra.get(i), h) for i, h in zip(ids, headings, strict=True)]
