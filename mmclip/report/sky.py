"""The map as one self-contained page: every point, its columns, and a card for some of them."""

import base64
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mmclip.report import POLICY

# Eight of Okabe & Ito 2008, then eight of Tol's muted scheme: readable on white and on black;
# the rarest classes share the grey.
CLASSES = (
    "#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7", "#56B4E9", "#B8A900", "#7F3C8D",
    "#882255", "#44AA99", "#661100", "#6699CC", "#AA4466", "#117733", "#DDCC77", "#332288",
)  # fmt: skip
OTHER, MOST = "#8A8F98", len(CLASSES)
DECADES = 100.0  # high / low of a quantity, from which its scale is logarithmic at first


@dataclass(frozen=True)
class Column:
    """A quantity by which the points can be coloured: numbers (NaN unknown) or names."""

    name: str
    values: ArrayLike
    unit: str = ""


@dataclass(frozen=True)
class Cards:
    """Curves to be shown with some points.

    Attributes:
        title, ylabel: With units.
        xlabel: With unit; one for all, or one a curve.
        rows: [cards] which point each curve belongs to.
        x, y: One array a curve; NaN points are left out.
        points: Dots instead of a line.
        inverted: Small values on top: magnitudes.
        limits: Ends of the axis of x, where they are not those of each curve.
    """

    title: str
    xlabel: str | Sequence[str]
    ylabel: str
    rows: Sequence[int]
    x: Sequence[NDArray[Any]]
    y: Sequence[NDArray[Any]]
    points: bool = False
    inverted: bool = False
    modelled: bool = False
    limits: tuple[float, float] | None = None


def page(
    title: str,
    source_id: ArrayLike,
    x: ArrayLike,
    y: ArrayLike,
    columns: Sequence[Column],
    cards: Sequence[Cards],
    ramp: Sequence[str],
    footer: str = "",
) -> str:
    """HTML that needs nothing else: zoom, colour by column, lasso, search, cards, saved ids.

    Args:
        title: Heading.
        source_id: [points] int64.
        x, y: [points] finite places.
        columns: At least one.
        cards: A kind of curve each.
        ramp: Colours from low to high, `#rrggbb`.
        footer: Where it comes from.
    """
    body = {
        "label": "source_id",
        "ids": _pack(np.asarray(source_id, "<i8")),
        "x": _pack(np.asarray(x, "<f4")),
        "y": _pack(np.asarray(y, "<f4")),
        "ramp": list(ramp),
        "columns": [_column(c) for c in columns],
        "views": [_cards(c) for c in cards],
    }
    # "</script>" inside the data would end it.
    data = json.dumps(body, separators=(",", ":")).replace("<", "\\u003c")
    text = _part("map.html").replace("@STYLE@", _part("map.css"))
    text = text.replace("@SCRIPT@", _part("map.js"))
    count = str(len(np.asarray(source_id)))
    parts = {"@POLICY@": POLICY, "@TITLE@": escape(title), "@COUNT@": count,
             "@FOOTER@": escape(footer), "@DATA@": data}  # fmt: skip
    # All at once: a title that holds "@DATA@" is a title.
    return re.sub("|".join(parts), lambda mark: parts[mark[0]], text)


def _part(name: str) -> str:
    return files("mmclip.report").joinpath(name).read_text(encoding="utf-8")


def _pack(values: NDArray[Any]) -> str:
    return base64.b64encode(np.ascontiguousarray(values).tobytes()).decode()


def _column(column: Column) -> dict[str, object]:
    values = np.asarray(column.values)
    title = f"{column.name} [{column.unit}]" if column.unit else column.name
    about: dict[str, object] = {"name": column.name, "title": title, "colour": True}
    if values.dtype.kind in "fiu":
        return about | _numbers(column, values)
    words = np.array(["unknown" if v is None or v == "" else str(v) for v in values], object)
    names, codes, counts = np.unique(words.astype(str), return_inverse=True, return_counts=True)
    order = np.argsort(np.where(names == "unknown", 1, -counts), kind="stable")
    place = np.empty(len(order), np.uint32)
    place[order] = np.arange(len(order))
    colours = [CLASSES[i] if i < MOST else OTHER for i in range(len(order))]
    # Names of single objects tell no groups apart: they are shown, not offered as a colour.
    about["colour"] = not _names_objects(len(names), len(words))
    return about | {
        "kind": "class", "type": "u4", "data": _pack(place[codes].astype("<u4")),
        "names": [str(n) for n in names[order]], "counts": counts[order].tolist(),
        "colours": [OTHER if names[o] == "unknown" else c for o, c in zip(order, colours)],
    }  # fmt: skip


def _names_objects(different: int, objects: int) -> bool:
    return different > 2 * MOST and 2 * different > objects


def _numbers(column: Column, values: NDArray[Any]) -> dict[str, object]:
    """A number a point; float64 where float32 would lose digits: positions, long integers."""
    known = values[np.isfinite(values)]
    # Beyond 2^53 even a float64 loses digits: such numbers are ids, and are shown as text.
    if values.dtype.kind in "iu" and len(known) and np.abs(known).max() > 2**53:
        return _column(Column(column.name, values.astype(str).astype(object)))
    largest = float(np.abs(known).max()) if len(known) else 0.0
    whole = values.dtype.kind in "iu"
    wide = largest > 2**24 if whole else values.dtype.itemsize == 8 and column.unit == "deg"
    kind = "<f8" if wide else "<f4"
    low, high = np.percentile(known, [1, 99]) if len(known) else (0.0, 1.0)
    numbers = np.where(np.isfinite(values), values, np.nan).astype(kind)
    hot = column.name.lower().startswith("teff")  # hot stars blue, as on a colour-magnitude diagram
    ids = whole and _names_objects(len(np.unique(known)), len(known)) and largest > 1e5
    return {
        "kind": "number", "type": kind[1:], "data": _pack(numbers), "low": float(low),
        "high": float(high), "log": bool(low > 0 and (hot or high > DECADES * low)), "flip": hot,
        "colour": not ids,
    }  # fmt: skip


def _cards(cards: Cards) -> dict[str, object]:
    starts, limits, px, py = [0], [], [], []
    for x, y in zip(cards.x, cards.y, strict=True):
        good = np.isfinite(x) & np.isfinite(y)
        a = _steps(np.asarray(x, float)[good], cards.limits)
        b = _steps(np.asarray(y, float)[good])
        px.append(a[0])
        py.append(b[0])
        limits += [*a[1:], *b[1:]]
        starts.append(starts[-1] + int(good.sum()))
    empty = np.zeros(0, "<u2")
    return {
        "title": cards.title,
        "xlabel": cards.xlabel if isinstance(cards.xlabel, str) else list(cards.xlabel),
        "ylabel": cards.ylabel,
        "points": cards.points, "inverted": cards.inverted, "modelled": cards.modelled,
        "rows": _pack(np.asarray(cards.rows, "<i4")), "starts": _pack(np.asarray(starts, "<u4")),
        "limits": _pack(np.asarray(limits, "<f4")),
        "x": _pack(np.concatenate([empty, *px])), "y": _pack(np.concatenate([empty, *py])),
    }  # fmt: skip


def _steps(
    values: NDArray[Any], limits: tuple[float, float] | None = None
) -> tuple[NDArray[np.uint16], float, float]:
    """Values as 16-bit steps between their limits (or those given), and the limits."""
    if len(values) == 0:
        return np.zeros(0, "<u2"), 0.0, 1.0
    low, high = limits or (float(values.min()), float(values.max()))
    span = (high - low) or 1.0
    return np.round((values - low) / span * 65535).astype("<u2"), low, high
