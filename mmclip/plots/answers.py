"""Answers of `mmclip search` beside their queries: rows of objects, strips of images."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from mmclip.artifacts import Artifact
from mmclip.datasets.build import Dataset
from mmclip.datasets.objects import Portrait, periods, portraits, with_phases
from mmclip.errors import UsageError
from mmclip.ids import rows_of
from mmclip.plots.objects import draw_image, draw_object, portraits_figure
from mmclip.plots.style import COLOURS, GREY, new_figure
from mmclip.results import Result
from mmclip.tasks.search import Queries

Beside = tuple[Portrait | None, Portrait | None, str]  # image, spectrum, heading
Panel = tuple[Portrait | None, str, str]  # a view of an object, heading, colour
QUERIES, ANSWERS = 4, 4  # of one picture with several queries


def rows_figure(rows: Sequence[Sequence[Panel]], title: str = "") -> Figure:
    """Objects in rows, for example a query and its answers each; None leaves a place empty.

    Raises:
        UsageError: If there is nothing to draw.
    """
    if not any(panel[0] for row in rows for panel in row):
        raise UsageError("there is nothing to draw", "leave --plot out")
    columns = max(len(row) for row in rows)
    figure = new_figure(2.9 * columns + 0.3, 2.2 * len(rows) + 0.5)
    grid = figure.subplots(len(rows), columns, squeeze=False)
    for i, row in enumerate(rows):
        for j in range(columns):
            portrait, heading, colour = row[j] if j < len(row) else (None, "", "")
            axes = grid[i, j]
            if portrait is None:
                axes.set_axis_off()
                axes.text(0.5, 0.5, heading, ha="center", va="center", fontsize=9, color=GREY)
                continue
            draw_object(axes, portrait, heading, colour)
            if i < len(rows) - 1 and all(r[j][0] is not None for r in rows[i + 1 :] if j < len(r)):
                axes.set_xlabel("")
    if title:
        figure.suptitle(title, fontsize=12)
    return figure


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
    data: Dataset, raw: Artifact | None, queries: Queries, answers: Result, start: str, to: str,
    contrast: str | None = None,
) -> Figure:  # fmt: skip
    """The answers beside the queries that are in the store.

    Images with their spectra: strips of four queries. Across views, or of several queries: a row
    each of at most four, with the query's own view of that kind, the truth, before its four
    answers. With a contrast the same objects in that view below. Else all answers to the first
    query, whose light curve stands there in order of time before it is folded.

    Args:
        data: The objects and their views.
        raw: Where light curves are, or None.
        queries: Who was asked for; one that is not in the store is not drawn itself.
        answers: Of `mmclip.tasks.search`.
        start, to: Views asked from and answered in; the mean of the views is drawn as the first.
        contrast: View in which the answers were to differ, or None.
    """
    stored = [name for name in queries.names if isinstance(name, int)]
    cosine = _cosines(answers)
    images = [n for n in data.views if data.modality(n).kind == "image"]
    if images and isinstance(queries.names[0], int):
        return strips_figure(
            [_strip(data, images[0], q, cosine.get(str(q), {})) for q in stored[:QUERIES]]
        )
    names = list(data.views)
    first, then = (v if v in data.views else names[0] for v in (start, to))
    if stored and (contrast or len(stored) > 1 or first != then):
        some = stored[:1] if contrast else stored[:QUERIES]
        asked_of = [(q, cosine.get(str(q), {}), first, then) for q in some]
        if contrast:
            asked_of.append((some[0], cosine.get(str(some[0]), {}), contrast, contrast))
        words = f", unlike in {contrast}" if contrast else ""
        return rows_figure(_rows(data, raw, asked_of), f"{start} → {to}{words}")
    asked: list[Portrait] = []
    if isinstance(queries.names[0], int) and queries.rows[0] >= 0:
        asked = portraits(data, raw, [queries.names[0]], first)
    mine = cosine.get(str(queries.names[0]), {})
    shown = folded_beside(asked, portraits(data, raw, list(mine), then), periods(data, raw))
    classes = _classes(data, [p.source_id for p, _ in shown])
    panels = []
    for (view, queried), kind in zip(shown, classes, strict=True):
        word = f"query {view.source_id}"
        if not queried:
            word = f"{view.source_id}   cos {mine[view.source_id]:.3f}"
        panels.append((view, f"{word}   {kind}".rstrip(), queried))
    return portraits_figure(panels, f"{start} → {to}")


def folded_beside(
    asked: list[Portrait], answers: list[Portrait], known: Mapping[int, float]
) -> list[tuple[Portrait, bool]]:
    """The query and its answers, folded where a period is known, and whether each is the query.

    A query that is folded stands there in order of time too.

    Args:
        asked: The query, or nothing.
        answers: Its answers.
        known: Period in days by source_id.
    """
    shown = [(p, i < len(asked)) for i, p in enumerate(with_phases(asked + answers, known))]
    turned = [p for p, _ in shown[: len(asked)] if p.kind == "folded light curve"]
    return [*((p, True) for p in asked if turned), *shown]


def _rows(
    data: Dataset, raw: Artifact | None, asked: Sequence[tuple[int, dict[int, float], str, str]]
) -> list[list[Panel]]:
    """Each query, its own view of the kind that was asked for, and its nearest answers.

    Args:
        data, raw: See `answers_figure`.
        asked: Query, cosine by answer, view asked from, view answered in.
    """
    places: list[list[tuple[int, str, str, str]]] = []  # id, view, heading, colour
    for query, cosine, first, then in asked:
        row = [(query, first, f"query {query}", COLOURS[1])]
        if first != then:
            row.append((query, then, f"its own {then}", COLOURS[2]))
        row += [(i, then, f"{i}   cos {cosine[i]:.3f}", COLOURS[0]) for i in list(cosine)[:ANSWERS]]
        classes = _classes(data, [i for i, _, _, _ in row])
        places.append(
            [
                (i, view, f"{words}   {kind}".rstrip(), colour)
                for (i, view, words, colour), kind in zip(row, classes, strict=True)
            ]
        )
    wanted: dict[str, list[int]] = {}
    for i, view, _, _ in (place for row in places for place in row):
        wanted.setdefault(view, []).append(i)
    known = periods(data, raw)
    seen = {
        (p.source_id, view): p
        for view, ids in wanted.items()
        for p in with_phases(portraits(data, raw, list(dict.fromkeys(ids)), view), known)
    }
    return [
        [
            (seen.get((i, view)), heading if (i, view) in seen else f"{heading}:\nnot observed", c)
            for i, view, heading, c in row
        ]
        for row in places
    ]


def _classes(data: Dataset, ids: Sequence[int]) -> list[str]:
    """The class of each object by the catalogue; empty where there is none."""
    if "class" not in data.objects.column_names:
        return [""] * len(ids)
    at = rows_of(data.source_id, np.array(ids, np.int64))
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
