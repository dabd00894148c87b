"""Light curves of ASAS-SN: files of every recorded layout, and the view `photometry`."""

import csv
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mmclip.surveys import catalogue
from mmclip.surveys.client.http import BadAnswer

Curve = dict[str, NDArray[Any]]  # time, magnitude, error, band, camera, is_upper_limit, system
BAD = 99.0  # mag, mag_err from here on: nothing was measured


def curve(body: bytes, band: str) -> Curve:
    """A light curve of any of the recorded layouts: `.dat` (spaces or tabs), or CSV.

    Times stay float64 (an HJD has more digits than float32). Upper limits (`>14.6`) and values of
    99.99 are marked, their magnitude is NaN.

    Raises:
        BadAnswer: If there is no time or no magnitude.
    """
    lines = [x for x in body.decode("utf-8-sig", "replace").splitlines() if x.strip()]
    start = next((i for i, x in enumerate(lines) if re.search(r"\b(hjd|jd)\b", x, re.I)), None)
    if start is None:
        raise BadAnswer("a light curve without a column hjd or jd")
    head = lines[start].lstrip("# ").strip()
    split: Callable[[str], list[str]] = str.split
    if "," in head:

        def split(line: str) -> list[str]:
            return next(csv.reader([line]))

    names = [n.strip().lower() for n in split(head)]
    rows = [r for r in map(split, lines[start + 1 :]) if len(r) == len(names)]
    columns = {n: [r[i].strip() for r in rows] for i, n in enumerate(names)}

    def pick(*known: str) -> list[str] | None:
        return next((columns[k] for k in known if k in columns), None)

    time, mag = pick("hjd", "jd"), pick("mag", "magnitude")
    if time is None or mag is None:
        raise BadAnswer("a light curve without times or magnitudes")
    limit = np.array([m.startswith(">") for m in mag], bool)
    number = catalogue.numbers
    error = number(np.array(pick("mag_err", "mag error") or ["nan"] * len(mag), dtype=object))
    value = number(np.array([m.lstrip("><") for m in mag], dtype=object))
    bad = limit | ~(value < BAD) | ~(error < BAD)
    filters = pick("filter", "phot_filter") or [""] * len(mag)
    order = np.argsort(number(np.array(time, dtype=object)), kind="stable")
    return {
        "time": number(np.array(time, dtype=object))[order],
        "magnitude": np.where(bad, np.nan, value)[order].astype(np.float32),
        "error": np.where(bad, np.nan, error)[order].astype(np.float32),
        "band": np.array([f or band.replace("v", "V") for f in filters], object)[order],
        "camera": np.array(pick("camera") or [""] * len(mag), dtype=object)[order],
        "is_upper_limit": limit[order],
        "system": np.array(["HJD" if "hjd" in columns else "JD"] * len(mag), dtype=object),
    }


def photometry(stars: list[tuple[int, list[Curve]]]) -> pa.Table:
    """The view `photometry`: one row a star, epochs of all bands in order of time."""
    kinds = {
        "time": (pa.float64(), {"unit": "d", "meaning": "HJD, or JD where time_system says so"}),
        "magnitude": (pa.float32(), {"unit": "mag"}),
        "error": (pa.float32(), {"unit": "mag"}),
        "band": (pa.string(), None),
        "camera": (pa.string(), None),
        "is_upper_limit": (pa.bool_(), None),
    }
    fields = [pa.field("source_id", pa.int64())]
    arrays: list[pa.Array] = [pa.array([i for i, _ in stars], pa.int64())]
    orders = [np.argsort(np.concatenate([c["time"] for c in cs]), kind="stable") for _, cs in stars]
    for name, (kind, metadata) in kinds.items():
        lists = [
            np.concatenate([c[name] for c in cs])[o]
            for (_, cs), o in zip(stars, orders, strict=True)
        ]
        fields.append(pa.field(name, pa.list_(kind), metadata=metadata))
        arrays.append(pa.array([v.tolist() for v in lists], pa.list_(kind)))
    systems = ["+".join(sorted({s for c in cs for s in c["system"]})) for _, cs in stars]
    fields.append(pa.field("time_system", pa.string()))
    arrays.append(pa.array(systems))
    return pa.table(arrays, schema=pa.schema(fields))
