"""The page of a map: which columns it offers and which stars show their observations."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mmclip.artifacts import Artifact
from mmclip.datasets.build import Dataset
from mmclip.datasets.objects import Portrait, dips, folded, observations, periods, portraits
from mmclip.plots import ramp
from mmclip.report import sky
from mmclip.tasks.map import column_values
from mmclip.vectors.store import Store

POINTS = 160  # of a curve on a card


def page(
    store: Store, data: Dataset, raw: Artifact | None, positions: NDArray[np.float32], first: str,
    cards: int, column: str = "",
) -> str:  # fmt: skip
    """HTML of a map to zoom, colour, lasso and search in.

    Args:
        store: Vectors.
        data: The objects and their views.
        raw: Where light curves are, or None.
        positions: [stars of the store, 2] on the map; NaN where a star is not on it.
        first: The column that colours the map at first.
        cards: How many stars show their observations; drawn at random, always the same.
        column: Of classes, whose numbers are names.
    """
    seen = np.flatnonzero(np.isfinite(positions[:, 0]))
    drawn = np.random.default_rng(0).permutation(len(seen))[:cards]
    manifest = store.artifact.manifest
    footer = (
        f"mmclip {manifest.mmclip_version}, vectors {manifest.fingerprint[:12]}: "
        + ", ".join(f"{n} ({p})" for n, p in sorted(manifest.provenance.items()))
        + f". {min(cards, len(seen))} of {len(seen)} objects carry their observations."
    )
    return sky.page(
        f"Map of {store.artifact.path.name}", store.source_id[seen], positions[seen, 0],
        positions[seen, 1], _columns(store, data, seen, first, column),
        _cards(store, data, raw, seen, np.sort(drawn)), ramp(), footer,
    )  # fmt: skip


def _columns(
    store: Store, data: Dataset, seen: NDArray[np.int64], first: str, column: str
) -> list[sky.Column]:
    """The columns to colour by, `first` first; lists and dates are left out."""
    ours = ("source_id", *(f"has_{view}" for view in data.artifact.manifest.provenance))
    usable = [f.name for f in data.objects.schema if f.name not in ours]
    made = []
    for name in [first, *(n for n in usable if n != first)]:
        try:
            values = column_values(data, store, name, name == column)[seen]
        except (TypeError, ValueError):
            continue
        unit = (data.objects.schema.field(name).metadata or {}).get(b"unit", b"").decode()
        made.append(sky.Column(name, values, unit))
    return made


def _cards(
    store: Store, data: Dataset, raw: Artifact | None, seen: NDArray[np.int64],
    drawn: NDArray[np.int64],
) -> list[sky.Cards]:  # fmt: skip
    """The observations of the stars drawn, view by view, thinned to `POINTS` each."""
    row = {int(store.source_id[seen[i]]): int(i) for i in drawn}
    made = []
    for view in observations(data, store.modalities):
        found = portraits(data, raw, list(row), view)
        if not found or found[0].kind == "values":
            continue
        made.append(_of_view(found, row))
        if found[0].kind == "light curve":
            known = periods(data, raw)
            turned = [_centred(folded(p, known[p.source_id], dips(p, known[p.source_id])))
                      for p in found if p.source_id in known]  # fmt: skip
            if turned:
                made.insert(len(made) - 1, _of_view(turned, row, (-0.5, 0.5)))
    return made


def _centred(curve: Portrait) -> Portrait:
    """Two cycles with phase 0 between them, so that an eclipse there is seen whole."""
    return replace(curve, view=f"{curve.view}, folded", x=curve.x - 1)


def _of_view(
    found: list[Portrait], row: dict[int, int], limits: tuple[float, float] | None = None
) -> sky.Cards:
    """Cards of one view; within the limits of x, if there are any (one cycle of a phase)."""
    first, labels = found[0], [p.xlabel for p in found]
    curves = [_thinned(p, limits) for p in found]
    return sky.Cards(
        first.view, labels[0] if len(set(labels)) == 1 else labels, first.ylabel,
        [row[p.source_id] for p in found], [x for x, _ in curves], [y for _, y in curves],
        "light curve" in first.kind, first.inverted, first.modelled, limits,
    )  # fmt: skip


def _thinned(
    curve: Portrait, limits: tuple[float, float] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """At most `POINTS` points of a curve, evenly spread."""
    x, y = curve.x, curve.y
    if limits is not None:
        inside = (x >= limits[0]) & (x < limits[1])
        x, y = x[inside], y[inside]
    step = -(-len(x) // POINTS) or 1
    return x[::step], y[::step]
