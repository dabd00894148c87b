"""Labels from neighbours in the embedding space, beside honest baselines."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmclip.datasets import tables
from mmclip.datasets.build import Dataset
from mmclip.errors import NotFound, UsageError, nearest
from mmclip.tasks.metrics import accuracies, bootstrap, conformal_quantile, confusion, scores
from mmclip.tasks.neighbours import LEAVE_ONE_OUT, Options, neighbours, same_star, weigh
from mmclip.vectors.store import Store

Row = dict[str, Any]
CIRCULAR = ("teff", "logg", "fe_h")  # what the modelled RVS spectra were made from


@dataclass(frozen=True)
class Predictions:
    """Of one target from one view, for the stars of the evaluated split.

    Attributes:
        half_width: [stars] half the conformal interval of each star; infinite if too few stars
            were there to calibrate it. For a classification the size of the prediction set.
        covered: [stars] whether the truth lies inside.
        classes: Names, for a classification; then `truth` and `predicted` hold them.
        vote: [stars, classes] part of the neighbours' weight.
    """

    target: str
    view: str
    source_id: NDArray[np.int64]
    truth: NDArray
    predicted: NDArray
    half_width: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    covered: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, bool))
    classes: tuple[str, ...] = ()
    vote: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 0)))
    references: int = 0


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


def is_class(data: Dataset, target: str) -> bool:
    """True if the column holds names instead of numbers."""
    return target in data.objects.column_names and str(data.objects.schema.field(target).type) in (
        "string",
        "large_string",
    )


def label(data: Dataset, target: str) -> str:
    """Name and unit of a column, for the axis of a figure."""
    kept = data.objects.schema.field(target).metadata or {}
    unit = kept.get(b"unit", b"").decode()
    return f"{target} [{unit}]" if unit else target


@dataclass(frozen=True)
class _Setting:
    """Vectors and labels of one question, row by row of the store."""

    queries: NDArray[np.float32]
    reference: NDArray[np.float32]
    truth: NDArray
    known: NDArray[np.bool_]
    groups: NDArray[np.int64]


def _setting(
    store: Store, data: Dataset, target: str, view: str, fit_on: str | None,
    only: NDArray[np.bool_] | None,
) -> _Setting:  # fmt: skip
    position = {int(s): i for i, s in enumerate(data.source_id)}
    order = np.array([position.get(int(s), -1) for s in store.source_id])
    if (order < 0).any():
        raise UsageError(
            f"{data.artifact.path} lacks stars of {store.artifact.path}", "mmclip embed --force"
        )
    if is_class(data, target):
        truth = np.array([c or "" for c in data.objects[target].to_pylist()], object)
        known = truth != ""
    else:
        truth = target_values(data, target)
        known = np.isfinite(truth)
    if only is not None:
        known = known & only
    groups = same_star(data)
    return _Setting(
        store.vectors(view), store.vectors(fit_on or view), truth[order],
        np.asarray(known, bool)[order], groups[order],
    )  # fmt: skip


def _rows(store: Store, at: _Setting, split: str, target: str) -> tuple[NDArray, NDArray]:
    """Reference rows and asked rows of the store."""
    if split == LEAVE_ONE_OUT:
        train = asked = np.ones(len(at.known), bool)
    else:
        train, asked = store.split == "train", store.split == split
    train = at.known & train & np.isfinite(at.reference[:, 0])
    asked = at.known & asked & np.isfinite(at.queries[:, 0])
    if train.sum() < 2 or not asked.any():
        raise UsageError(
            f"{int(train.sum())} reference and {int(asked.sum())} {split} stars have '{target}'",
            "preprocess more stars, or choose another --target",
        )
    return np.flatnonzero(train), np.flatnonzero(asked)


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
    options: Options | None = None,
) -> Predictions:
    """k-NN regression, or classification if the target is a column of names.

    Args:
        store: Unit vectors.
        data: The labels, by source_id.
        target: Column of the objects table.
        view: View of the query stars; `fit_on` of the reference stars (the same by default).
        k, weights, split: Short for `options`, which wins where it is given.
        only: [objects of the data set] stars to keep, as reference and as query; all by default.
        options: See `Options`.

    Returns:
        Predictions with a conformal interval for each star, calibrated on the validation stars
        (on the other half of the asked stars, if these are asked themselves).
    """
    options = options or Options(k, weights, split=split)
    at = _setting(store, data, target, view, fit_on, only)
    train, asked = _rows(store, at, options.split, target)
    held = at.known & (store.split == "validation") & np.isfinite(at.queries[:, 0])
    own = options.split != "test" or held.sum() < 20
    rows = asked if own else np.concatenate([asked, np.flatnonzero(held)])
    distance, found = neighbours(
        at.reference[train], at.queries[rows], options.k, options,
        (at.groups[train], at.groups[rows]),
    )  # fmt: skip
    weight, near = weigh(distance, options.weights), at.truth[train][found]
    # Halves of a random order calibrate each other where no other stars are held out.
    part = np.zeros(len(rows), int)
    if own:
        part = np.random.default_rng(42).permutation(len(rows)) % 2
    else:
        part[len(asked) :] = 1
    name = f"{fit_on} -> {view}" if fit_on and fit_on != view else view
    finish = _classified if is_class(data, target) else _regressed
    return finish(
        target, name, store.source_id[rows], at.truth[rows], near, weight, part,
        options.coverage, len(asked), own, len(train),
    )  # fmt: skip


def _regressed(
    target: str, view: str, ids: NDArray, truth: NDArray, near: NDArray, weight: NDArray,
    part: NDArray, coverage: float, count: int, own: bool, references: int,
) -> Predictions:  # fmt: skip
    near, truth = near.astype(float), truth.astype(float)
    predicted = (near * weight).sum(axis=1)
    spread = np.sqrt(np.maximum(((near - predicted[:, None]) ** 2 * weight).sum(axis=1), 0))
    # A floor, so that neighbours that agree by chance do not promise certainty.
    spread = spread + 0.1 * np.median(spread) + 1e-12
    ratio = np.abs(truth - predicted) / spread
    edge = _edges(ratio, part, coverage, own)
    width = (edge * spread)[:count]
    truth, predicted = truth[:count], predicted[:count]
    return Predictions(
        target, view, ids[:count], truth, predicted, width, np.abs(truth - predicted) <= width,
        references=references,
    )  # fmt: skip


def _edges(score: NDArray, part: NDArray, coverage: float, own: bool) -> NDArray:
    """[rows] the conformal quantile of the scores of the stars that are not in a row's part."""
    quantile = [conformal_quantile(score[part == p], coverage) for p in (0, 1)]
    return np.where(part == 0, quantile[1], quantile[0]) if own else np.full(len(part), quantile[1])


def _classified(
    target: str, view: str, ids: NDArray, truth: NDArray, near: NDArray, weight: NDArray,
    part: NDArray, coverage: float, count: int, own: bool, references: int,
) -> Predictions:  # fmt: skip
    classes = sorted({*near.ravel().tolist(), *truth.tolist()})
    place = {c: i for i, c in enumerate(classes)}
    vote = np.zeros((len(near), len(classes)))
    for column in range(near.shape[1]):
        codes = [place[c] for c in near[:, column]]
        vote[np.arange(len(near)), codes] += weight[:, column]
    names = np.array(classes, object)
    predicted = names[vote.argmax(axis=1)]
    own_vote = vote[np.arange(len(vote)), [place[c] for c in truth]]
    edge = _edges(1 - own_vote, part, coverage, own)
    inside = 1 - vote <= edge[:, None] + 1e-12
    return Predictions(
        target, view, ids[:count], truth[:count], predicted[:count],
        inside.sum(axis=1).astype(float)[:count], (1 - own_vote <= edge + 1e-12)[:count],
        tuple(classes), vote[:count], references,
    )  # fmt: skip


def baselines(
    data: Dataset,
    target: str,
    view: str,
    split: str = "test",
    only: NDArray[np.bool_] | None = None,
) -> list[Row]:
    """Mean of the training labels, and ridge regression on the raw view, on the same stars.

    Args:
        data: With the view.
        target: Numeric column.
        view: Whose values ridge regression takes.
        split: Who is asked; there are no baselines for leave-one-out.
        only: [objects] stars to keep, or None for all.
    """
    if split == LEAVE_ONE_OUT:
        return []
    from sklearn.linear_model import RidgeCV

    truth, shown = target_values(data, target), data.views[view]
    truth = truth if only is None else np.where(only, truth, np.nan)
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


def _measured(result: Predictions, options: Options) -> Row:
    """The numbers of one k-NN row, with everything that they depend on."""
    if result.classes:
        classes = list(result.classes)

        def measure(truth: NDArray, predicted: NDArray) -> Row:
            return accuracies(confusion(truth, predicted, classes))
    else:
        measure = scores
    row = measure(result.truth, result.predicted)
    row |= bootstrap(measure, result.truth, result.predicted, options.resamples)
    row |= {"coverage": float(result.covered.mean()), "wanted coverage": options.coverage}
    width = float(np.median(result.half_width)) if np.isfinite(result.half_width).all() else None
    row["set size" if result.classes else "half width"] = width
    return row | {
        "k": options.k, "weights": options.weights, "metric": options.metric,
        "scale": options.scale, "normalised": True, "references": result.references,
        "excluded": "itself and same star within 2 arcsec", "split": options.split,
    }  # fmt: skip


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
    options: Options | None = None,
) -> tuple[list[Row], list[Predictions]]:  # fmt: skip
    """One row a target, view and method; and the predictions behind the k-NN rows."""
    chosen = options or Options(k, weights, split=split)
    rows, made = [], []
    for target in targets:
        for view in views:
            result = regress(store, data, target, view, fit_on=fit_on, only=only, options=chosen)
            how = f"k-NN, k={chosen.k}, {chosen.weights}"
            row: Row = {"target": target, "view": result.view, "method": how}
            measured = _measured(result, chosen)
            if options is None:  # in short: only the numbers of the table
                measured = {n: measured[n] for n in (*scores(np.ones(2), np.ones(2)),
                            "micro", "macro", "coverage") if n in measured}  # fmt: skip
            rows.append(row | measured)
            made.append(result)
            if view in data.views and not result.classes:
                rows += baselines(data, target, view, chosen.split, only)
    for made_row in rows:
        made_row["circular"] = any(
            circular(store.artifact.manifest.provenance, v, made_row["target"])
            for v in made_row["view"].split(" -> ")
        )
    return rows, made


def circular(provenance: dict[str, str], view: str, target: str) -> bool:
    """True if the view was modelled from the very label that is to be predicted."""
    return provenance.get(view) == "modelled" and target in CIRCULAR


def objects(made: list[Predictions]) -> list[Row]:
    """One row a star: truth, prediction and its conformal interval."""
    rows: list[Row] = []
    for result in made:
        for i, source_id in enumerate(result.source_id):
            row: Row = {"source_id": int(source_id), "target": result.target, "view": result.view}
            truth, predicted = result.truth[i], result.predicted[i]
            if result.classes:
                row |= {
                    "true class": str(truth),
                    "predicted class": str(predicted),
                    "vote": float(result.vote[i].max()),
                    "set size": int(result.half_width[i]),
                }
            else:
                row |= {"truth": float(truth), "predicted": float(predicted),
                        "half_width": float(result.half_width[i])}  # fmt: skip
            rows.append(row)
    return rows
