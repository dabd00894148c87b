"""The view that was never observed, from the embedding of one that was."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mmclip import plugins
from mmclip.clip.run import Run
from mmclip.datasets.build import Dataset
from mmclip.errors import NotFound, UsageError
from mmclip.modalities import restore, restore_error
from mmclip.vectors.index import build
from mmclip.vectors.store import Store

Row = dict[str, Any]


@dataclass(frozen=True)
class Generated:
    """Generated views of some stars, in the modality's own unit; row i is star i.

    Attributes:
        source_id: [stars].
        axis: Wavelength or the like [length], or None.
        labels: Names of the entries.
        mean, sigma: [stars, length]: expectation and 1-sigma of the decoder.
        observed, error: [stars, length], NaN where there is none.
        distance: [stars] mean cosine distance of the query to its 10 nearest training stars.
        outside: [stars] True where that exceeds the 99th percentile of the training stars.
        provenance: Of the training data of the generated view.
    """

    start: str
    to: str
    source_id: NDArray[np.int64]
    axis: NDArray[np.floating] | None
    axis_unit: str
    unit: str
    labels: list[str]
    mean: NDArray[np.float64]
    sigma: NDArray[np.float64]
    observed: NDArray[np.float64]
    error: NDArray[np.float64]
    distance: NDArray[np.float64]
    outside: NDArray[np.bool_]
    provenance: str


@torch.no_grad()
def generate(
    store: Store, data: Dataset, run: Run, start: str, to: str, rows: NDArray[np.int64]
) -> Generated:
    """Decode the vectors of the stars in `rows` (of the store) into the view `to`.

    Raises:
        NotFound: If a view is not in the run, or a star was not observed in `start`.
    """
    from mmclip.tasks.outliers import knn_distance

    for name in (start, to):
        if name not in run.shape.sizes:
            raise NotFound(
                f"the run {run.artifact.path.name} knows no view '{name}'",
                f"it knows: {', '.join(sorted(run.shape.sizes))}",
            )
    vectors = store.vectors(start)
    if not np.isfinite(vectors[rows, 0]).all():
        lost = store.source_id[rows[~np.isfinite(vectors[rows, 0])]][0]
        raise NotFound(f"source_id {lost} was not observed in {start}", "--from another view")
    decoder: Any = run.model.generators[start]
    mean, log_variance = decoder[to](torch.from_numpy(np.ascontiguousarray(vectors[rows])))
    by, modality = run.statistics[to], plugins.load("modalities", to, "MODALITY")
    train = store.split == "train"
    near = knn_distance(vectors, train, 10)
    edge = np.nanpercentile(near[train], 99)
    place = {int(s): i for i, s in enumerate(data.source_id)}
    here = np.array([place[int(s)] for s in store.source_id[rows]], np.int64)
    view = data.views.get(to)
    nothing = np.full(tuple(mean.shape), np.nan)
    observed = nothing if view is None else restore(view.values[here], view.statistics)
    error = nothing
    if view is not None and view.errors is not None:
        error = restore_error(view.errors[here], view.statistics)
    return Generated(
        start=start,
        to=to,
        source_id=store.source_id[rows],
        axis=modality.axis() if modality.axis else None,
        axis_unit=modality.axis_unit,
        unit=modality.unit,
        labels=modality.labels(),
        mean=restore(mean.numpy(), by),
        sigma=restore_error(np.exp(0.5 * log_variance.numpy()), by),
        observed=observed,
        error=error,
        distance=near[rows],
        outside=near[rows] > edge,
        provenance=data.artifact.manifest.provenance[to],
    )


def residuals(made: Generated) -> NDArray[np.float64]:
    """(observed - generated) / sqrt(sigma^2 + error^2), [stars, length]; NaN if unobserved."""
    error = np.nan_to_num(made.error)
    residual: NDArray[np.float64] = (made.observed - made.mean) / np.hypot(made.sigma, error)
    return residual


def compare(
    store: Store, data: Dataset, run: Run, start: str, to: str, split: str = "test", k: int = 13
) -> list[Row]:
    """The decoder beside its baselines on a split where both views were observed.

    Returns:
        One row a method: median over pixels and stars of |generated - observed| (and, for a view
        with an axis, relative to the observed value), and for the decoder the part of pixels
        within 1 and 2 sigma (68.3 and 95.4 % if the uncertainty is right).
    """
    a, b = store.vectors(start), store.vectors(to)
    both = np.isfinite(a[:, 0]) & np.isfinite(b[:, 0])
    asked, train = np.flatnonzero(both & (store.split == split)), both & (store.split == "train")
    if len(asked) == 0 or not train.any():
        raise UsageError(f"no {split} star has both {start} and {to}", "preprocess more stars")
    made = generate(store, data, run, start, to, asked)
    place = {int(s): i for i, s in enumerate(data.source_id)}
    view = data.views[to]
    known = restore(view.values[[place[int(s)] for s in store.source_id[train]]], view.statistics)
    _, found = build(np.ascontiguousarray(a[train])).search(a[asked], min(k, int(train.sum())))
    guesses = {
        "decoder": made.mean,
        f"mean of the {k} nearest observed": np.nanmean(known[found], axis=1),
        "mean of the training stars": np.broadcast_to(np.nanmean(known, axis=0), made.mean.shape),
    }
    rows = []
    for method, guess in guesses.items():
        off = np.abs(guess - made.observed)
        row: Row = {"from": start, "to": to, "method": method, "stars": len(asked)}
        row["median |residual|"] = float(np.nanmedian(off))
        if made.axis is not None:
            row["median fraction"] = float(np.nanmedian(off / np.abs(made.observed)))
        if method == "decoder":
            z = np.abs(residuals(made))
            row["within 1 sigma"] = float((z < 1).sum() / np.isfinite(z).sum())
            row["within 2 sigma"] = float((z < 2).sum() / np.isfinite(z).sum())
        row["provenance"] = made.provenance
        rows.append(row)
    return rows


def table(made: Generated) -> list[Row]:
    """One row a star and entry: what was generated, its sigma, what was observed."""
    z = residuals(made)
    rows = []
    for i, source_id in enumerate(made.source_id):
        for j, label in enumerate(made.labels):
            row: Row = {"source_id": int(source_id)}
            if made.axis is None:
                row["quantity"] = label
            else:
                row[f"wavelength_{made.axis_unit}"] = float(made.axis[j])
            row |= {
                "generated": float(made.mean[i, j]),
                "sigma": float(made.sigma[i, j]),
                "observed": float(made.observed[i, j]),
                "residual_in_sigma": float(z[i, j]),
                "provenance": "generated"
                + (", from modelled data" if made.provenance == "modelled" else ""),
            }
            rows.append(row)
    return rows
