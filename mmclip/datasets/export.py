"""Artefacts for other programs: a folder for `datasets`, the Multimodal Universe's layout, HATS."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mmclip import arrays, artifacts, ids, plugins, sky
from mmclip.artifacts import Artifact, paths, write_atomic
from mmclip.datasets import hats, tables
from mmclip.datasets.ingest import read_view
from mmclip.errors import MmclipError, NotFound, UsageError
from mmclip.modalities import Modality, registry
from mmclip.readers import mmu

HELD = 20_000  # objects whose rows are held at once
ORDER = 4  # HEALPix NSIDE 16, the Multimodal Universe's
SPLITS = ("train", "validation", "test")
LAYOUTS = ("parquet", "hdf5", "hats")
OBJECTS = "objects"  # in place of a view: labels alone


@dataclass(frozen=True)
class Exported:
    """What was written: files, rows, and rows left out by reason."""

    files: list[Path]
    rows: int
    left_out: dict[str, int]


def to_datasets(data: Artifact, folder: Path) -> Exported:
    """A data artefact as a folder that `datasets.load_dataset(folder)` loads, a file a split.

    A row is an object: `source_id`, labels, and for each view `VIEW` and `VIEW_error` (lists of
    float32 in normalised units; null where the view was not observed). The statistics that undo
    the normalisation lie in `statistics.json`, the manifest in `source.json`.

    Raises:
        UsageError: If the artefact is not one of data.
        MmclipError: If the folder is not empty.
    """
    _kind(data, "data")
    _empty(folder)
    with artifacts.assembling(folder) as temporary:
        files, rows = _by_split(data, temporary)
    return Exported([folder / f for f in files], rows, {})


def _by_split(data: Artifact, folder: Path) -> tuple[list[Path], int]:
    """Write the folder; the files of the splits, relative to it, and the number of rows."""
    objects = tables.read(artifacts.checked(data, paths.OBJECTS))
    statistics = {}
    for view in sorted(data.manifest.provenance):
        stored = tables.read(artifacts.checked(data, paths.table(view)))
        objects = _beside(objects, stored, view)
        found = artifacts.checked(data, paths.statistics(view))
        statistics[view] = json.loads(found.read_bytes())
    artifacts.check_unreplaced(data)
    files = []
    split = np.asarray(arrays.column(objects, "split")).astype(str)
    for name in SPLITS:
        part = objects.filter(pa.array(split == name))
        if part.num_rows:
            path = folder / "data" / f"{name}-00000-of-00001.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            tables.write(path, part)
            files.append(path.relative_to(folder))
    write_atomic(folder / "statistics.json", json.dumps(statistics).encode())
    _about(folder, data, "One row an object; views in normalised units.")
    return files, objects.num_rows


def _beside(objects: pa.Table, stored: pa.Table, view: str) -> pa.Table:
    rows = pc.index_in(objects["source_id"], value_set=stored["source_id"].combine_chunks())
    for column, title in (("values", view), ("errors", f"{view}_error")):
        if column in stored.column_names:
            array = arrays.whole(stored, column)
            # `take` with a null index gives null: the view was not observed.
            plain = array.cast(pa.list_(array.type.value_type))
            taken = plain.take(arrays.whole(pa.table({"i": rows}), "i"))
            objects = objects.append_column(title, taken)
    return objects


def to_mmu(raw: Artifact, folder: Path, view: str | None, layout: str) -> Exported:
    """A view of a raw artefact in the Multimodal Universe's schema and layout.

    Args:
        raw: Fetched or imported.
        folder: Where to; `SURVEY/healpix=K/001-of-001.parquet` (or `.hdf5`), or a HATS catalogue.
        view: As the artefact names it, or `objects`: labels alone; None if it has only one that
            can be written.
        layout: `parquet`, `hdf5` or `hats`.

    Raises:
        NotFound: If the artefact lacks the view.
        UsageError: If it has several and none is named, or the schema cannot hold it.
    """
    _kind(raw, "raw")
    if layout not in LAYOUTS:
        raise UsageError(f"--layout '{layout}' is not known", " or ".join(LAYOUTS))
    _empty(folder)
    with artifacts.assembling(folder) as temporary:
        modality = None if view == OBJECTS else _view(raw, view)
        files, rows, lost = _by_cell(raw, temporary, modality, layout)
    return Exported([folder / f for f in files], rows, lost)


def _by_cell(
    raw: Artifact, folder: Path, modality: Modality | None, layout: str
) -> tuple[list[Path], int, dict[str, int]]:
    """Write the folder; the files of the cells, relative to it, rows, and rows left out."""
    everyone, name = read_view(raw, "objects"), modality.name if modality else OBJECTS
    files, lost = list[Path](), dict[str, int]()
    for objects in _groups(everyone):
        if modality is None:
            table = mmu.catalogue(objects)
        else:
            stored = read_view(raw, name, arrays.column(objects, "source_id").astype(np.int64))
            stored, objects, gone = _usable(modality, stored, objects)
            lost = {k: lost.get(k, 0) + gone.get(k, 0) for k in (*lost, *gone)}
            if not stored.num_rows:
                continue
            table = mmu.table(modality, objects, stored)
        cells = _cells(objects)
        if (cells < 0).any():
            lost["no position: in cell -1"] = int((cells < 0).sum())
        table = table.append_column("healpix", pa.array(cells))
        for cell in np.unique(cells):
            part = table.filter(pa.array(cells == cell))
            if layout == "hats" and cell < 0:
                lost["no position: not in a HATS catalogue"] = part.num_rows
                continue
            path = _place(folder, raw.path.name, layout, int(cell))
            path.parent.mkdir(parents=True, exist_ok=True)
            if layout == "hdf5":
                mmu.write_hdf5(path, part)
            else:
                tables.write(path, _hats_rows(part) if layout == "hats" else part)
            files.append(path)
    if not files and modality is not None and "no position: not in a HATS catalogue" not in lost:
        raise UsageError(f"no {name} of {raw.path} can be written ({lost})", f"mmclip info {raw}")
    if layout == "hats":
        counted = {(ORDER, int(f.stem.partition("=")[2])): _rows(f, layout) for f in files}
        hats.finish(folder / raw.path.name, raw.path.name, counted, pq.read_schema(files[0]))
    _about(folder, raw, f"{name} in the schema of the Multimodal Universe.")
    rows = sum(_rows(f, layout) for f in files)
    return [f.relative_to(folder) for f in files], rows, lost


def _rows(file: Path, layout: str) -> int:
    if layout == "hdf5":
        return int(mmu.hdf5(file).num_rows)
    return int(pq.ParquetFile(file).metadata.num_rows)


def _view(raw: Artifact, view: str | None) -> Modality:
    held = _writable(raw)
    published = [m for m in held if m.export]
    if view is None and len(published) == 1:
        return published[0]
    if view is None and len(held) == 1:
        return held[0]
    if view is None and held:
        shown = ", ".join(m.name for m in held)
        raise UsageError(f"{raw.path} has {shown}", f"--view {held[0].name}")
    found = next((m for m in held if view in (m.name, m.origin)), None)
    if found is None:
        raise NotFound(
            f"{raw.path} has no {view or 'view of lists'} that can be written",
            f"it needs one of {', '.join([*(m.name for m in held), OBJECTS])}",
        )
    return found


def _writable(raw: Artifact) -> list[Modality]:
    """Modalities of the raw views that have lists; tables of scalars go with the objects."""
    origins, known = plugins.origins(raw.manifest.notes), plugins.names("modalities")
    held = [n for n in raw.manifest.provenance if n in origins or n in known]
    found = [registry.modality(origins.get(n, n)) for n in held]
    return [m for m in found if m.kind != "table"]


def _usable(
    modality: Modality, stored: pa.Table, objects: pa.Table
) -> tuple[pa.Table, pa.Table, dict[str, int]]:
    """Rows that the layout can hold, and the object of each; others are counted."""
    layout = modality.export or mmu.plain_layout(modality)
    layout.lists(stored.slice(0, 0))  # refuses a view of which it can hold no row
    lost: dict[str, int] = {}
    keep = np.ones(stored.num_rows, bool)
    for name in layout.needs:
        here = name in stored.column_names
        seen = np.asarray(arrays.whole(stored, name).is_valid()) if here else np.zeros_like(keep)
        if (keep & ~seen).any():
            lost[f"no {name}"] = int((keep & ~seen).sum())
        keep &= seen
    stored = stored.filter(pa.array(keep))
    rows = pc.index_in(stored["source_id"], value_set=objects["source_id"].combine_chunks())
    return stored, objects.take(rows), lost


def _groups(objects: pa.Table) -> Iterator[pa.Table]:
    """Objects in the order of their cells, whole cells at a time, about `HELD` of them."""
    cells = _cells(objects)
    order = np.argsort(cells, kind="stable")
    ends = np.flatnonzero(np.diff(cells[order], append=cells.max(initial=0) + 1)) + 1  # of cells
    begin = 0
    for end in ends.tolist():
        if end - begin >= HELD or end == len(order):
            # Within a cell the objects stay in the order of the artefact.
            yield objects.take(pa.array(order[begin:end]))
            begin = end


def _cells(objects: pa.Table) -> NDArray[np.int64]:
    """The cell of each object: of its position, else of its Gaia id, else -1."""
    source_id = arrays.column(objects, "source_id").astype(np.int64)
    nothing = np.full(len(source_id), np.nan)
    axes = [
        arrays.floats(objects, n) if n in objects.column_names else nothing for n in ("ra", "dec")
    ]
    cells = sky.cell(ORDER, *axes)
    by_id = np.where(ids.is_local(source_id), -1, source_id >> (35 + 2 * (12 - ORDER)))
    return np.asarray(np.where(cells >= 0, cells, by_id), np.int64)


def _place(folder: Path, survey: str, layout: str, cell: int) -> Path:
    if layout == "hats":
        return folder / survey / "dataset" / hats.name(ORDER, cell)
    ending = "hdf5" if layout == "hdf5" else "parquet"
    return folder / survey / f"healpix={cell}" / f"001-of-001.{ending}"


def _hats_rows(part: pa.Table) -> pa.Table:
    """In order of the pixel of order 29, which HATS keeps beside each row."""
    cells = sky.cell(hats.FINE, arrays.floats(part, "ra"), arrays.floats(part, "dec"))
    order = np.argsort(cells, kind="stable")
    part = part.take(pa.array(order))
    return part.add_column(0, "_healpix_29", pa.array(cells[order]))


def _kind(artifact: Artifact, kind: str) -> None:
    if artifact.manifest.kind != kind:
        raise UsageError(
            f"{artifact.path} is a {artifact.manifest.kind} artefact; here {kind} is needed",
            "--format datasets takes data, --format mmu takes raw",
        )


def _empty(folder: Path) -> None:
    try:
        if folder.exists() and any(folder.iterdir()):
            raise MmclipError(f"{folder} is not empty", "give a new directory with -o")
    except OSError as error:
        if isinstance(error, MmclipError):
            raise
        raise artifacts.unwritable(folder, error) from error


def _about(folder: Path, artifact: Artifact, text: str) -> None:
    """A README and where it all comes from."""
    manifest = artifact.manifest
    modelled = artifacts.modelled(manifest.provenance)
    lines = [f"# {artifact.path.name}", "", text, ""]
    if modelled:
        lines += [f"MODELLED, not observed: {', '.join(modelled)}.", ""]
    for survey in manifest.surveys:
        cited = ", ".join(survey.get("citations", []))
        lines.append(f"- {survey['name']} {survey.get('release', '')}: {cited}")
    write_atomic(folder / "README.md", ("\n".join(lines) + "\n").encode())
    facts = {
        "fingerprint": manifest.fingerprint,
        "provenance": manifest.provenance,
        "surveys": manifest.surveys,
        "config": manifest.config,
    }
    write_atomic(folder / "source.json", json.dumps(facts, indent=2, sort_keys=True).encode())
