"""New objects, not in the store: read from a file, prepared and embedded by the run."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from mmclip import arrays
from mmclip.artifacts import Artifact
from mmclip.clip.model import embed_all
from mmclip.clip.run import Run
from mmclip.datasets import tables
from mmclip.datasets.build import limits
from mmclip.encoders.tensors import tensors
from mmclip.errors import IntegrityError, NotFound, UsageError
from mmclip.modalities import Column, Modality, normalise, registry
from mmclip.tasks.search import Queries
from mmclip.vectors.store import MEAN, unit

NAMES = ("name", "object_id", "source_id")


def read(path: Path) -> pa.Table:
    """A table from a file: .parquet, .csv, or any kind that astropy reads.

    Raises:
        NotFound: If there is no such file.
        IntegrityError: If it cannot be read.
    """
    if not path.is_file():
        raise NotFound(f"there is no file {path}", "--query-file FILE: a table of new objects")
    try:
        if path.suffix == ".parquet":
            return tables.read(path)
        from astropy.table import Table

        columns = Table.read(path)
        return pa.table({n: columns[n].tolist() for n in columns.colnames})
    except Exception as error:  # every reader has its own exceptions
        raise IntegrityError(f"{path} cannot be read as a table: {error}") from error


def fitting(table: pa.Table, run: Run) -> list[str]:
    """The views of a run whose raw columns the table has."""
    held = set(table.column_names)
    return [v for v in sorted(run.shape.sizes) if {c.name for c in _needed(run, v)} <= held]


def _modality(run: Run, view: str) -> Modality:
    """Under the settings of the run, where it has the view."""
    known = run.statistics.get(view)
    return registry.of_view(view, known) if known else registry.modality(view)


def _needed(run: Run, view: str) -> list[Column]:
    return [c for c in _modality(run, view).columns if not c.optional]


def _columns(table: pa.Table, modality: Modality) -> dict[str, Any]:
    """The modality's raw columns; a file of one value a row is one object in long form."""
    there = [c for c in modality.columns if c.name in table.column_names]
    long = any(c.length != 1 for c in there) and not any(
        pa.types.is_nested(table.schema.field(c.name).type) for c in there
    )
    found: dict[str, Any] = {}
    for c in there:
        if long:
            values = arrays.column(table, c.name)
            found[c.name] = values[None] if c.length != 1 else values[:1]
            continue
        found[c.name] = arrays.raw_column(table, c.name)
        if c.length > 1:
            rows = [np.asarray(v, np.float64).ravel() for v in found[c.name]]
            wrong = [len(v) for v in rows if len(v) != c.length]
            if wrong:
                raise UsageError(
                    f"'{c.name}' of {modality.name} has {wrong[0]} values, not {c.length}",
                    c.meaning,
                )
            found[c.name] = np.stack(rows)
    return found


@torch.no_grad()
def embed_table(
    run: Run, table: pa.Table, view: str, data: Artifact
) -> tuple[NDArray[Any], list[str]]:
    """Vectors of new objects in one view, and why some have none.

    Args:
        run: The run that made the store; its statistics normalise the objects.
        table: Raw columns of the modality, one row an object.
        view: The modality.
        data: What the run was trained on; it says where values were limited.

    Returns:
        [objects, dim] unit vectors, NaN where rejected; [objects] reasons, empty for the good.
    """
    modality = _modality(run, view)
    prepared = modality.prepare(_columns(table, modality))
    by = run.statistics[view]
    bound = limits(modality, by, float(data.manifest.config.get("clip", 0.0)))
    values = np.clip(normalise(prepared.values, by), -bound, bound)
    good = np.array([not r for r in prepared.reasons]) & np.isfinite(values).any(axis=1)
    place = next(run.model.parameters()).device
    vectors = np.full((len(values), run.shape.dimension), np.nan, np.float32)
    if good.any():
        vectors[good] = embed_all(run.model, view, *tensors(values[good], place)).cpu().numpy()
    return vectors, [str(r) for r in prepared.reasons]


def from_file(
    run: Run, path: Path, start: str | None, contrast: str | None, data: Artifact
) -> tuple[Queries, str, list[str]]:
    """New objects of a file as queries; the view they are asked in; what was rejected and why.

    Args:
        run: The run that made the store.
        path: A table with the raw columns of at least one view.
        start: View, or `mean` for the average of those in the file; None takes the first.
        contrast: Another view that the file must have too, or None.
        data: See `embed_table`.

    Raises:
        UsageError: If the file lacks the columns of the view, or no object of it is good.
    """
    table = read(path)
    views = sorted(run.shape.sizes)
    held = fitting(table, run)
    needed = [v for v in (start, contrast) if v not in (None, MEAN)]
    if not held or not set(needed) <= set(held):
        lacking = next((v for v in needed if v not in held), views[0])
        columns = _needed(run, str(lacking))
        raise UsageError(
            f"{path} lacks columns that {lacking} needs: "
            + ", ".join(f"{c.name} [{c.unit}]" for c in columns),
            f"its columns: {', '.join(table.column_names)}",
        )
    made, lost = {}, []
    for view in held if start == MEAN else dict.fromkeys([start or held[0], *needed]):
        made[view], reasons = embed_table(run, table, str(view), data)
        lost += [f"{view}: {r}" for r in reasons if r]
    vectors = _mean(list(made.values())) if start == MEAN else made[start or held[0]]
    good = np.isfinite(vectors[:, 0])
    if contrast:
        good &= np.isfinite(made[contrast][:, 0])
    if not good.any():
        raise UsageError(f"no object of {path} can be embedded: {'; '.join(sorted(set(lost)))}")
    label = next((n for n in NAMES if n in table.column_names), None)
    given = table[label].to_pylist() if label else []
    names = [given[i] if i < len(given) else f"row {i + 1}" for i in range(len(vectors))]
    kept = np.flatnonzero(good)
    queries = Queries(
        [names[i] for i in kept],
        vectors[kept],
        np.full(len(kept), -1, np.int64),
        made[contrast][kept] if contrast else None,
    )
    return queries, start or held[0], lost


def _mean(parts: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    stacked = np.stack(parts)
    seen = np.isfinite(stacked[:, :, 0]).sum(axis=0)
    return unit(np.nansum(stacked, axis=0) / np.where(seen > 0, seen, np.nan)[:, None])
