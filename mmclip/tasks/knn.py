"""Stellar parameters from neighbours in the embedding space, beside honest baselines."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmclip.datasets import tables
from mmclip.datasets.build import Dataset
from mmclip.errors import NotFound, UsageError, nearest
from mmclip.vectors.index import build
from mmclip.vectors.store import Store

Row = dict[str, Any]
CIRCULAR = ("teff", "logg", "fe_h")  # what the modelled RVS spectra were made from


@dataclass(frozen=True)
class Predictions:
    """Of one target from one view, for the stars of the evaluated split."""

    target: str
    view: str
    source_id: NDArray[np.int64]
    truth: NDArray[np.float64]
    predicted: NDArray[np.float64]


def scores(truth: NDArray, predicted: NDArray) -> Row:
    """R2, bias and robust scatter of predictions.

    Returns:
        `R2` = 1 - SS_res / SS_tot about the mean of the evaluated rows; `bias` = mean of
        (predicted - truth); `scatter` = standard deviation of the residual after iterative
        3-sigma clipping (at most 5 rounds, about the median, as astropy's sigma_clip);
        `NMAD` = 1.4826 median |r - median r|; `stars`.
    """
    residual = predicted - truth
    total = ((truth - truth.mean()) ** 2).sum()
    clipped = residual
    for _ in range(5):
        inside = np.abs(clipped - np.median(clipped)) <= 3 * clipped.std()
        if inside.all():
            break
        clipped = clipped[inside]
    return {
        "R2": float(1 - (residual**2).sum() / total) if total > 0 else float("nan"),
        "bias": float(residual.mean()),
        "scatter": float(clipped.std()),
        "NMAD": float(1.4826 * np.median(np.abs(residual - np.median(residual)))),
        "stars": len(truth),
    }


def target_values(data: Dataset, target: str) -> NDArray[np.float64]:
    """A numeric column of the objects table, NaN where unknown.

    Raises:
        NotFound: If there is none of that name.
    """
    names = [
        f.name
        for f in data.objects.schema
        if f.name not in ("source_id", "split") and str(f.type) in ("float", "double", "int64")
    ]
    if target not in names:
        raise NotFound(
            f"the data set has no numeric column '{target}'; {nearest(target, names)}",
            f"--target, for example: {','.join(n for n in names if 'error' not in n)}",
        )
    return tables.column(data.objects, target).astype(np.float64)


def regress(
    store: Store,
    data: Dataset,
    target: str,
    view: str,
    k: int = 13,
    fit_on: str | None = None,
    weights: str = "uniform",
    split: str = "test",
    only: NDArray[np.bool_] | None = None,
) -> Predictions:
    """k-NN regression: neighbours from the training split, answers for `split`.

    Args:
        store: Unit vectors; cosine and Euclidean distance order the same.
        data: The labels, by source_id.
        target: Column of the objects table.
        view: View of the query stars; `fit_on` of the reference stars (the same by default).
        k: Neighbours.
        weights: `uniform` or `distance` (1 / Euclidean distance).
        split: Which stars are asked; never among their own neighbours, as those are `train`.
        only: [objects of the data set] stars to keep, as reference and as query; all by default.
    """
    if weights not in ("uniform", "distance"):
        raise UsageError(f"weights '{weights}' are not known", "choose uniform or distance")
    queries, reference = store.vectors(view), store.vectors(fit_on or view)
    position = {int(s): i for i, s in enumerate(data.source_id)}
    order = np.array([position.get(int(s), -1) for s in store.source_id])
    if (order < 0).any():
        raise UsageError(
            f"{data.artifact.path} lacks stars of {store.artifact.path}", "mmclip embed --force"
        )
    truth = _kept(target_values(data, target), only)[order]
    known = np.isfinite(truth)
    train = known & (store.split == "train") & np.isfinite(reference[:, 0])
    asked = known & (store.split == split) & np.isfinite(queries[:, 0])
    if not train.any() or not asked.any():
        raise UsageError(
            f"{int(train.sum())} reference and {int(asked.sum())} {split} stars have '{target}'",
            "preprocess more stars, or choose another --target",
        )
    take = min(k, int(train.sum()))
    cosine, found = build(np.ascontiguousarray(reference[train])).search(queries[asked], take)
    near = truth[train][found]
    if weights == "uniform":
        predicted = near.mean(axis=1)
    else:
        distance = np.sqrt(np.maximum(2 - 2 * cosine.astype(np.float64), 1e-12))
        predicted = np.average(near, axis=1, weights=1 / distance)
    return Predictions(
        target, f"{fit_on} -> {view}" if fit_on and fit_on != view else view,
        store.source_id[asked], truth[asked], predicted,
    )  # fmt: skip


def _kept(values: NDArray[np.float64], only: NDArray[np.bool_] | None) -> NDArray[np.float64]:
    return values if only is None else np.where(only, values, np.nan)


def baselines(
    data: Dataset,
    target: str,
    view: str,
    split: str = "test",
    only: NDArray[np.bool_] | None = None,
) -> list[Row]:
    """Mean of the training labels, and ridge regression on the raw view, on the same stars."""
    from sklearn.linear_model import RidgeCV

    truth, shown = _kept(target_values(data, target), only), data.views[view]
    known = np.isfinite(truth) & shown.present
    train, asked = known & (data.split == "train"), known & (data.split == split)
    if not train.any() or not asked.any():
        raise UsageError(f"too few stars have '{target}' in {view}", "preprocess more stars")
    mean = np.full(int(asked.sum()), truth[train].mean())
    rows = [{"method": "mean of the training stars", **scores(truth[asked], mean)}]
    values = np.nan_to_num(shown.values).astype(np.float64)
    ridge = RidgeCV(np.logspace(-2, 5, 15)).fit(values[train], truth[train])
    rows.append(
        {"method": f"ridge on raw {view}", **scores(truth[asked], ridge.predict(values[asked]))}
    )
    return [{"target": target, "view": view, **row} for row in rows]


def table(
    store: Store,
    data: Dataset,
    targets: list[str],
    views: list[str],
    k: int,
    weights: str,
    split: str = "test",
    fit_on: str | None = None,
    only: NDArray[np.bool_] | None = None,
) -> tuple[list[Row], list[Predictions]]:  # fmt: skip
    """One row a target, view and method; and the predictions behind the k-NN rows."""
    rows, made = [], []
    for target in targets:
        for view in views:
            result = regress(store, data, target, view, k, fit_on, weights, split, only)
            row: Row = {"target": target, "view": result.view, "method": f"k-NN, k={k}, {weights}"}
            rows.append(row | scores(result.truth, result.predicted))
            made.append(result)
            if view in data.views:
                rows += baselines(data, target, view, split, only)
    for made_row in rows:
        made_row["circular"] = any(
            circular(store.artifact.manifest.provenance, v, made_row["target"])
            for v in made_row["view"].split(" -> ")
        )
    return rows, made


def circular(provenance: dict[str, str], view: str, target: str) -> bool:
    """True if the view was modelled from the very label that is to be predicted."""
    return provenance.get(view) == "modelled" and target in CIRCULAR
