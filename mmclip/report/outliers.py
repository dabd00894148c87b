"""A page of outliers: light curves, spectra, colour-magnitude diagram and map of each star."""

import numpy as np
from numpy.typing import NDArray

from mmclip.artifacts import Artifact
from mmclip.datasets.build import Dataset
from mmclip.datasets.objects import (
    Diagram,
    Portrait,
    colour_magnitude,
    dips,
    folded,
    observations,
    periods,
    portraits,
)
from mmclip.ids import rows_of
from mmclip.plots import Scatter, dossier_figure, png_bytes
from mmclip.report import Section
from mmclip.report import page as whole_page
from mmclip.results import Result, Row
from mmclip.vectors.store import Store


def page(
    store: Store, data: Dataset, raw: Artifact | None, found: Result,
    positions: NDArray[np.float32] | None = None,
) -> str:  # fmt: skip
    """HTML with a table of the outliers and a section of pictures for each.

    Args:
        store: Vectors.
        data: The objects and their views.
        raw: Where light curves are, or None.
        found: One row a star, of `mmclip.tasks.outliers`.
        positions: [stars of the store, 2] on a map, or None.
    """
    ids = found.column("source_id").tolist() if len(found) else []
    views = _views(store, data, raw, ids)
    diagram = colour_magnitude(data, raw)
    at = rows_of(data.source_id, np.array(ids, np.int64)).tolist()
    on_map = store.rows(ids).tolist()
    named = "object_name" in data.objects.column_names
    names = data.objects["object_name"] if named else None
    sections = [Section(found.question, "The strangest first.", table=found.rows)]
    for row, source_id, place, mine in zip(found, ids, at, on_map, strict=True):
        scatters = _scatters(diagram, place, positions, mine)
        if views[source_id] or scatters:
            name = names[place].as_py() if names is not None else None
            lacking = missing(diagram, place, positions, views[source_id])
            sections.append(_section(row, source_id, name, views[source_id], scatters, lacking))
    manifest = store.artifact.manifest
    footer = f"mmclip {manifest.mmclip_version}, vectors {manifest.fingerprint[:12]}."
    title = f"Outliers of {store.artifact.path.name}"
    return whole_page(title, found.question, sections, footer)


def _views(
    store: Store, data: Dataset, raw: Artifact | None, ids: list[int]
) -> dict[int, list[Portrait]]:
    """What each star looks like in each view; light curves also folded by a known period."""
    known = periods(data, raw)
    found: dict[int, list[Portrait]] = {i: [] for i in ids}
    for view in observations(data, store.modalities):
        for made in portraits(data, raw, ids, view):
            if made.kind == "values":
                continue
            found[made.source_id].append(made)
            period = known.get(made.source_id)
            if made.kind == "light curve" and period is not None:
                found[made.source_id].append(folded(made, period, dips(made, period)))
    return found


def _scatters(
    diagram: Diagram | None, row: int, positions: NDArray[np.float32] | None, on_map: int
) -> list[Scatter]:
    """The star among all others: in the colour-magnitude diagram, and on the map."""
    made: list[Scatter] = []
    if diagram is not None:
        made.append(("colour-magnitude", diagram.x, diagram.y, row, diagram.xlabel,
                     diagram.ylabel, True))  # fmt: skip
    if positions is not None:
        made.append(("map", positions[:, 0], positions[:, 1], on_map, "UMAP 1", "UMAP 2", False))
    return made


def missing(
    diagram: Diagram | None, row: int, positions: NDArray[np.float32] | None, views: list[Portrait]
) -> list[str]:  # fmt: skip
    """What cannot be drawn of a star, and why."""
    said = []
    if diagram is None:
        said.append("no colour-magnitude diagram: the data have no G with BP - RP or J - Ks")
    elif not np.isfinite([diagram.x[row], diagram.y[row]]).all():
        lacks = "parallax" if diagram.ylabel.startswith("absolute") else "magnitude"
        said.append(f"not in the colour-magnitude diagram: no colour or no (positive) {lacks}")
    if positions is None:
        said.append("no map: mmclip map makes one")
    kinds = {p.kind for p in views}
    if "light curve" in kinds and len([p for p in views if "light curve" in p.kind]) == 1:
        said.append("not folded: no period is known")
    return said


def _section(
    row: Row, source_id: int, name: str | None, views: list[Portrait], scatters: list[Scatter],
    lacking: list[str],
) -> Section:  # fmt: skip
    said = row.get("neighbours say", "")
    words = [f"class {row['class']}, neighbours say {said}"] if row.get("class") else []
    snr = row.get("snr")
    if isinstance(snr, float) and np.isfinite(snr):
        words.append(f"S/N {snr:.3g}")
    caption = f"{source_id}: {'; '.join([*words, *lacking])}".rstrip(": ")
    heading = f"{source_id} · {name}" if name and name != str(source_id) else str(source_id)
    return Section(
        heading, str(row.get("verdict") or ""), table=[row],
        pictures=[(png_bytes(dossier_figure(views, scatters)), caption)],
        modelled=any(p.modelled for p in views), wide=True,
    )  # fmt: skip
