"""New stars of files scored against the stars of a store: how far from the ordinary are they?"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mmclip import metrics
from mmclip.clip.model import embed_all
from mmclip.clip.run import Run
from mmclip.datasets.build import Dataset, limits
from mmclip.encoders.tensors import tensors
from mmclip.modalities import normalise
from mmclip.modalities.settings import plain
from mmclip.results import Result, from_table
from mmclip.tasks.neighbours import EXACT, Search, asked, data_rows
from mmclip.tasks.neighbours import observed as seen
from mmclip.tasks.outliers import COLUMNS, Measures, disagreement, flagged, measure, residual
from mmclip.tasks.outliers.summary import Settings
from mmclip.tasks.predict.catalogue import from_files
from mmclip.tasks.predict.features import noise_of
from mmclip.tasks.predict.features import reader as read_view
from mmclip.vectors.store import Store

Floats = NDArray[np.float64]
FEW = 20  # new stars of which an AUC means something


def vectors_of(run: Run, data: Dataset, new: Dataset) -> dict[str, NDArray[np.float32]]:
    """[stars, dim] unit vectors of new stars by view, NaN where a star lacks it.

    Args:
        run: Whose encoders are used.
        data: What they were trained on; it says where values were limited.
        new: The stars, prepared as the run's were but not normalised.
    """
    clip = float(data.artifact.manifest.config.get("clip", 0.0))
    place = next(run.model.parameters()).device
    made = {}
    for view, held in new.views.items():
        by, rows = run.statistics[view], np.flatnonzero(held.present)
        bound = limits(data.modality(view), by, clip)
        values = np.clip(normalise(read_view(held)(rows).values, by), -bound, bound)
        vectors = np.full((len(new.source_id), run.shape.dimension), np.nan, np.float32)
        if len(rows):
            found = embed_all(run.model, view, *tensors(values.astype(np.float32), place))
            vectors[rows] = found.detach().cpu().numpy()
        made[view] = vectors
    return made


def distances(
    store: Store, view: str, queries: NDArray[np.float32], reference: NDArray[np.bool_], k: int,
    search: Search = EXACT,
) -> Floats:  # fmt: skip
    """[queries] mean cosine distance to the k nearest reference stars; NaN without the view."""
    among = search.among(store, view, reference & seen(store.vectors(view)))
    take = min(k, int(among.allowed.sum()))
    rows, made = np.flatnonzero(seen(queries)), np.full(len(queries), np.nan)
    for part, cosine, _ in asked(among, queries, rows, take, search.progress):
        made[rows[part]] = (1 - cosine.astype(np.float64)).mean(axis=1)
    return made


def find(
    store: Store, data: Dataset, run: Run, files: Sequence[Path], folder: Path,
    settings: Settings, reference: NDArray[np.bool_] | None = None, search: Search = EXACT,
    reader: str = "", columns: str | None = None,
) -> Result:  # fmt: skip
    """New stars in order of their excess over the thresholds of the ordinary stars.

    Args:
        store, data, run: Vectors, the data set and the encoders behind them.
        files: As `mmclip import` takes them.
        folder: Where they are imported for the while.
        settings: `k`, `percentile` and `top`.
        reference: [stars of the store] what is ordinary; None for the training stars.
        search: How neighbours are found.
        reader, columns: Of the files.

    Returns:
        The columns of `mmclip.tasks.outliers.outliers`; a note gives the AUC of the new stars
        against the test stars by each measure.

    Raises:
        MmclipError: If none of the views is in the files.
    """
    views = {v: {"settings": plain(data.modality(v))} for v in sorted(store.modalities)}
    new = from_files(files, views, folder, reader, columns)
    made = vectors_of(run, data, new)
    known = measure(store, data, k=settings.k, percentile=settings.percentile, search=search,
                    reference=reference)  # fmt: skip
    count, empty = len(new.source_id), np.full(len(new.source_id), np.nan)
    found = _residuals(store, data, new, known)
    for name in [n for n in known.measures if n not in found]:
        kind, _, which = name.partition(" ")
        if kind == "distance":
            queries = made.get(which)
            found[name] = empty if queries is None else distances(
                store, which, queries, known.train, settings.k, search)  # fmt: skip
        else:
            a, b = next((a, b) for a in views for b in views if f"{a}-{b}" == which)
            both = a in made and b in made
            found[name] = disagreement(made[a], made[b]) if both else empty
    whole = {n: np.concatenate([known.measures[n], found[n]]) for n in found}
    old = np.zeros(len(store.source_id), bool)
    train = np.append(known.train, np.zeros(count, bool))
    joined = flagged(np.append(old, np.ones(count, bool)), train, whole, settings.percentile)
    order = joined.order()
    rows = order - len(old)
    listed = pa.table({
        "source_id": new.source_id[rows],
        "flags": joined.flags[order].astype(np.int64), "views": joined.views[order].astype(int),
        "excess": joined.total[order], "snr": 10.0 ** noise_of(new, rows),
        "score": joined.score(order),
        **{name: value[order] for name, value in whole.items()},
    })  # fmt: skip
    title = f"{count} new stars against {int(known.train.sum())} ordinary ones"
    told = _told(joined, store.of("test") & ~known.train, count)
    return from_table(listed.slice(0, settings.top or count), title, COLUMNS, store.artifact,
                      notes=told)  # fmt: skip


def _residuals(
    store: Store, data: Dataset, new: Dataset, known: Measures
) -> dict[str, Floats]:  # fmt: skip
    """What ordinary spectra leave of those of new stars; NaN for a view that they lack."""
    at = data_rows(store, data)
    at = np.arange(len(store.source_id)) if at is None else at
    rows, found = np.arange(len(new.source_id)), dict[str, Floats]()
    for view in residual.spectra(data):
        ordinary = residual.learn(data, view, at[np.flatnonzero(known.train)])
        if ordinary is not None and view in new.views:
            found |= residual.measures(ordinary, new, view, rows)
        elif ordinary is not None:
            found |= {f"{kind} {view}": np.full(len(rows), np.nan) for kind in residual.KINDS}
    return found


def _told(joined: Measures, field: NDArray[np.bool_], count: int) -> list[str]:
    """How well each measure tells the new stars from test stars, if there are 20 of both."""
    if count < FEW or field.sum() < FEW:
        return []
    ordinary = np.append(field, np.zeros(count, bool))
    parts = []
    for name, value in {"excess": joined.total, **joined.measures}.items():
        known = np.isfinite(value) & (ordinary | joined.members)
        if (known & joined.members).sum() >= FEW and (known & ordinary).sum() >= FEW:
            parts.append(f"{name} {metrics.auc(joined.members[known], value[known]):.3f}")
    told = f"AUC of the {count} new stars against {int(field.sum())} test stars: "
    return [told + ", ".join(parts)] if parts else []
