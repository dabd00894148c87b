"""New objects, not in the store: read from a file, prepared and embedded by the run."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from mmclip import arrays, readers
from mmclip.artifacts import Artifact
from mmclip.clip.model import embed_all
from mmclip.clip.run import Run
from mmclip.datasets.build import limits
from mmclip.datasets.import_files import ImportConfig, options
from mmclip.encoders.tensors import tensors
from mmclip.errors import MmclipError, UsageError
from mmclip.modalities import Column, Modality, normalise, registry
from mmclip.readers import files, views
from mmclip.tasks.search import Queries
from mmclip.vectors.store import MEAN, unit

AS_IS = ImportConfig(())


def read(
    path: Path, run: Run, views: Sequence[str], settings: ImportConfig, every: bool = True
) -> dict[str, pa.Table]:
    """The views of a run that a file holds, read as `import` reads them.

    Args:
        path: A file of any format that `readers` knows.
        run: The run that made the store.
        views: Views to look for.
        settings: How the user describes the file.
        every: All views that are there; else those up to the first with a row that can be used.

    Returns:
        For each view found, a table as `readers.views` says; columns that no row has are left out.

    Raises:
        NotFound: If there is no such file.
        UsageError, IntegrityError: If the file holds none of the views: why.
    """
    data = files.body(path)
    found: dict[str, pa.Table] = {}
    refused: dict[str, MmclipError] = {}
    for view in views:
        try:
            found[view] = _read(data, run, view, settings)
            if not every and found[view]["reason"].null_count:
                break
        except MmclipError as error:
            refused[view] = error
    if not found:
        raise _refusal(path, run, refused)
    return found


def _read(data: files.Loaded, run: Run, view: str, settings: ImportConfig) -> pa.Table:
    modality = _modality(run, view)
    raw = registry.modality(modality.view) if modality.view else modality
    table = readers.read(data, raw, options(settings, raw.origin or raw.name))
    held = (table.schema.metadata or {})[b"view"].decode()
    if held != raw.name:
        raise UsageError(f"it holds {held}, not {raw.name}", f"--from {held}")
    empty = [n for n in table.column_names if table[n].null_count == table.num_rows]
    table = table.drop_columns([n for n in empty if n not in KEPT])
    lacking = [c.name for c in _needed(run, view) if c.name not in table.column_names]
    if lacking and table["reason"].null_count:
        raise UsageError(f"it has no {', '.join(lacking)}", f'--columns "{lacking[0]}=NAME"')
    return table


KEPT = ("source_id", "object_name", "reason")


def _refusal(path: Path, run: Run, refused: dict[str, MmclipError]) -> MmclipError:
    """One sentence on why a file holds none of the views asked for."""
    first = next(iter(refused.values()))
    if len({e.message for e in refused.values()}) == 1 and not isinstance(first, UsageError):
        return first
    if len(refused) > 1:
        reasons = "; ".join(f"{view}: {error.message}" for view, error in refused.items())
        return UsageError(f"{path} holds no view of these vectors ({reasons})", first.hint)
    view = next(iter(refused))
    needs = ", ".join(f"{c.name} [{c.unit}]" for c in _needed(run, view))
    return type(first)(
        f"{path} cannot be read as {view}, which needs {needs}: {first.message}", first.hint
    )


def _modality(run: Run, view: str) -> Modality:
    """Under the settings of the run, where it has the view."""
    known = run.statistics.get(view)
    return registry.of_view(view, known) if known else registry.modality(view)


def _needed(run: Run, view: str) -> list[Column]:
    return [c for c in _modality(run, view).columns if not c.optional]


def _columns(table: pa.Table, modality: Modality) -> dict[str, Any]:
    """The modality's raw columns."""
    found: dict[str, Any] = {}
    for c in (c for c in modality.columns if c.name in table.column_names):
        found[c.name] = arrays.raw_column(table, c.name)
        if c.length > 1:
            absent = np.full(c.length, np.nan)
            rows = [np.asarray(v, np.float64).ravel() for v in found[c.name]]
            rows = [v if len(v) else absent for v in rows]
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
    run: Run, path: Path, start: str | None, contrast: str | None, data: Artifact,
    settings: ImportConfig = AS_IS,
) -> tuple[Queries, str, list[str], list[str]]:  # fmt: skip
    """New objects of a file as queries; the view they are asked in; what was rejected and why;
    what the readers noted.

    Args:
        run: The run that made the store.
        path: A file of any format that `import` reads, with at least one view of the run.
        start: View, or `mean` for the average of those in the file; None takes the first.
        contrast: Another view that the file must have too, or None.
        data: See `embed_table`.
        settings: How the user describes the file: columns, id column, air.

    Raises:
        UsageError: If the file does not hold the view, or no object of it is good.
    """
    needed = [str(v) for v in (start, contrast) if v not in (None, MEAN)]
    wanted = needed if start not in (None, MEAN) else sorted({*run.shape.sizes, *needed})
    held = read(path, run, wanted, settings, start is not None or contrast is not None)
    lacking = [v for v in needed if v not in held]
    if lacking:
        read(path, run, lacking, settings)  # says why
    asked = list(held) if start == MEAN else [start or _first(held), *needed]
    made, lost = {}, []
    for view in dict.fromkeys(map(str, asked)):
        made[view], reasons = _embed(run, held[view], view, data)
        lost += [f"{view}: {r}" for r in reasons if r]
    leading = next(iter(made))
    names = held[leading]["object_name"].to_pylist()
    on_names = {v: _aligned(held[leading], held[v], vectors) for v, vectors in made.items()}
    vectors = _mean(list(on_names.values())) if start == MEAN else on_names[leading]
    good = np.isfinite(vectors[:, 0])
    if contrast:
        good &= np.isfinite(on_names[contrast][:, 0])
    if not good.any():
        counts = "; ".join(f"{r} ({n})" for r, n in sorted(Counter(lost).items()))
        raise UsageError(f"no object of {path} can be embedded: {counts}")
    kept = np.flatnonzero(good)
    queries = Queries(
        [names[i] or f"row {i + 1}" for i in kept],
        vectors[kept],
        np.full(len(kept), -1, np.int64),
        on_names[contrast][kept] if contrast else None,
    )
    said = [note for view in made for note in views.notes(held[view])]
    return queries, start or leading, lost, list(dict.fromkeys(said))


def _first(held: dict[str, pa.Table]) -> str:
    """The first view of which a row can be used, else the first."""
    return next((v for v, t in held.items() if t["reason"].null_count), next(iter(held)))


def _embed(run: Run, table: pa.Table, view: str, data: Artifact) -> tuple[NDArray[Any], list[str]]:
    """As `embed_table`, of a table with rows that a reader rejected."""
    reasons = [r or "" for r in table["reason"].to_pylist()]
    good = np.flatnonzero([not r for r in reasons])
    vectors = np.full((len(reasons), run.shape.dimension), np.nan, np.float32)
    if len(good):
        vectors[good], more = embed_table(run, table.take(pa.array(good)), view, data)
        for row, reason in zip(good, more, strict=True):
            reasons[row] = reason
    return vectors, reasons


def _aligned(like: pa.Table, table: pa.Table, vectors: NDArray[Any]) -> NDArray[Any]:
    """The vectors of the objects of another table, by name; NaN for one that is not there."""
    wanted, own = (t["object_name"].to_pylist() for t in (like, table))
    if wanted == own:
        return vectors
    rows = {name: i for i, name in reversed(list(enumerate(own)))}
    made = np.full((len(wanted), vectors.shape[1]), np.nan, np.float32)
    for i, name in enumerate(wanted):
        if name in rows:
            made[i] = vectors[rows[name]]
    return made


def _mean(parts: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    stacked = np.stack(parts)
    seen = np.isfinite(stacked[:, :, 0]).sum(axis=0)
    return unit(np.nansum(stacked, axis=0) / np.where(seen > 0, seen, np.nan)[:, None])
