"""Labels from the nearest neighbours in the embedding space, beside baselines."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mmclip import arrays
from mmclip.arrays import decode, encode, equals
from mmclip.artifacts import Manifest
from mmclip.datasets.build import Dataset
from mmclip.datasets.names import check_label
from mmclip.errors import NotFound, UsageError, nearest
from mmclip.metrics import Numbers, accuracies, bootstrap, conformal_quantile, confusion, scores
from mmclip.results import Result, Row, Value, from_rows, from_table, number
from mmclip.tasks import ridge
from mmclip.tasks.circular import input_column, modelled_from
from mmclip.tasks.neighbours import (
    EXACT,
    LEAVE_ONE_OUT,
    Options,
    Search,
    Split,
    Weights,
    data_rows,
    neighbours,
    observed,
    star_of,
    weigh,
)
from mmclip.tasks.predict import (
    LEAST,
    calibrate,
    features,
    fit_heads,
    form_of,
    gain_of,
    heads,
    learn_blocks,
    open_heads,
    read_features,
)
from mmclip.tasks.predict import widths as expected
from mmclip.tasks.predict.heads import Sample, kernel_ridge
from mmclip.tasks.predict.stars import stars_of
from mmclip.vectors.store import Store

Labels = NDArray[Any]  # numbers, codes of classes, or names of classes
Found = Iterator[tuple[slice, NDArray[np.float64], NDArray[np.int64]]]  # see `neighbours`
OPPONENTS = ("knn-white", "kernel-ridge")  # beside ridge
EVERY = ("knn", "knn-white", "kernel-ridge", "mlp", "mlp-ensemble", "boosting")
ASKED = 1000  # stars at a time that opponents answer for
SHAPED = 4000  # training stars that say where errors are large
AXES = 5  # principal components of the vectors, along which errors may change
MOST = 20_000  # stars at a time, and training stars of an opponent
SHORT = ("R2", "bias", "scatter", "NMAD", "stars", "micro", "macro", "coverage")
SETTINGS = (
    "weights", "metric", "scale", "normalised", "references", "excluded", "k", "split",
    "wanted coverage", "index", "index recall@10",
)  # fmt: skip
COLUMNS = {
    "target": ("", "label that is predicted"),
    "view": ("", "view of the query stars, and of the references before an arrow"),
    "R2": ("", "1 - SS_res / SS_tot about the mean of the evaluated stars"),
    "bias": ("", "mean of predicted - true, in the unit of the target"),
    "scatter": (
        "",
        "deviation of the residual after 3-sigma clipping, unit of the target",
    ),
    "NMAD": ("", "1.4826 times the median absolute deviation, unit of the target"),
    "micro": ("", "fraction of stars whose class is right"),
    "macro": ("", "mean over classes of the fraction that is right"),
    "*_low": ("", "2.5th percentile over bootstrap resamples"),
    "*_high": ("", "97.5th percentile over bootstrap resamples"),
    "stars": ("", "stars that were evaluated"),
    "coverage": ("", "fraction of stars inside their conformal interval or set"),
    "wanted coverage": ("", "fraction that the conformal interval should hold"),
    "half width": ("", "median half width of the conformal interval, unit of the target"),
    "set size": ("", "median number of classes in the conformal set"),
    "references": ("", "training stars that may be neighbours"),
    "circular": ("", "the view was modelled from the label that is predicted, or holds it"),
}
STARS = {
    "truth": ("", "label, in the unit of the target"),
    "predicted": ("", "k-NN prediction, in the unit of the target"),
    "half_width": ("", "half the conformal interval, in the unit of the target"),
    "lower": ("", "lower end of the conformal interval, in the unit of the target"),
    "upper": ("", "upper end of the conformal interval, in the unit of the target"),
    "vote": ("", "weight of the neighbours of the predicted class, 0 to 1"),
    "set size": ("", "classes in the conformal set"),
}
CIRCULAR_WARNING = (
    "warning: circular: a view was made from labels that are predicted from it, or holds them; "
    "that says nothing about real stars"
)


@dataclass(frozen=True)
class Predictions:
    """Of one target from one view, for the stars of the evaluated split.

    Attributes:
        half_width: [stars] half the conformal interval of each star; infinite if too few stars
            were there to calibrate it. For a classification the size of the prediction set.
        lower, upper: [stars] its ends; none for a classification.
        covered: [stars] whether the truth lies inside.
        classes: Names, for a classification; then `truth` and `predicted` hold them.
        vote: [stars, classes] part of the neighbours' weight.
    """

    target: str
    view: str
    source_id: NDArray[np.int64]
    truth: Labels
    predicted: Labels
    half_width: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    covered: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, bool))
    classes: tuple[str, ...] = ()
    vote: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 0)))
    references: int = 0
    lower: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    upper: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))


def target_values(data: Dataset, target: str) -> NDArray[np.float64]:
    """A numeric column of the objects table, NaN where unknown.

    Raises:
        NotFound: If there is none of that name.
    """
    names = [
        f.name
        for f in data.objects.schema
        if f.name not in ("source_id", "split") and arrays.is_number(f.type)
    ]
    if target not in names:
        raise NotFound(
            f"the data set has no numeric column '{target}'; {nearest(target, names)}",
            f"--target, for example: {','.join(n for n in names if 'error' not in n)}",
        )
    return arrays.floats(data.objects, target)


def is_class(data: Dataset, target: str) -> bool:
    """True if the column holds names (text, true or false, categories) instead of numbers.

    Raises:
        UsageError: If it names the objects.
    """
    check_label(data.objects, target)
    names = data.objects.column_names
    return target in names and arrays.is_name(data.objects.schema.field(target).type)


def label(data: Dataset, target: str) -> str:
    """Name and unit of a column, for the axis of a figure."""
    kept = data.objects.schema.field(target).metadata or {}
    unit = kept.get(b"unit", b"").decode()
    return f"{target} [{unit}]" if unit else target


@dataclass(frozen=True)
class _Setting:
    """Labels of one question, row by row of the store.

    Attributes:
        truth: [stars] numbers, or codes of `classes`.
        known: [stars] whether they may ask or be asked.
        star: [stars] see `mmclip.tasks.neighbours.same_star`.
        classes: Names, for a classification.
    """

    truth: Labels
    known: NDArray[np.bool_]
    star: NDArray[np.int64]
    classes: tuple[str, ...] | None


def _setting(
    store: Store, data: Dataset, target: str, only: NDArray[np.bool_] | None, numbered: bool
) -> _Setting:
    truth: Labels
    at, classes = data_rows(store, data), None
    if is_class(data, target) or (numbered and target in data.objects.column_names):
        names, truth = encode(data.objects, target)
        known, classes = truth >= 0, tuple(names)
    else:
        truth = target_values(data, target)
        known = np.isfinite(truth)
    if only is not None:
        known = known & only
    if at is not None:
        truth, known = truth[at], known[at]
    return _Setting(truth, known, star_of(store, data), classes)


def _rows(
    store: Store,
    at: _Setting,
    seen: tuple[NDArray[np.bool_], NDArray[np.bool_]],
    split: Split,
    target: str,
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Which stars are references, and the rows of those that are asked."""
    train, asked = (at.known & s for s in seen)
    if split != LEAVE_ONE_OUT:
        train, asked = train & store.of("train"), asked & store.of(split)
    if train.sum() < 2 or not asked.any():
        raise UsageError(
            f"{int(train.sum())} reference and {int(asked.sum())} {split} stars have '{target}'",
            "preprocess more stars, or choose another --target",
        )
    return train, np.flatnonzero(asked)


def regress(
    store: Store,
    data: Dataset,
    target: str,
    view: str,
    k: int = 13,
    fit_on: str | None = None,
    weights: Weights = "uniform",
    split: Split = "test",
    only: NDArray[np.bool_] | None = None,
    options: Options | None = None,
    search: Search = EXACT,
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
        search: How neighbours are found.

    Returns:
        Predictions with a conformal interval for each star, over the residual to expect of it and
        by group of predicted value x S/N, calibrated on the validation stars (on the other half of
        the asked stars, if these are asked themselves).
    """
    options = options or Options(k, weights, split=split)
    at = _setting(store, data, target, only, options.numbered)
    queries, reference = store.vectors(view), store.vectors(fit_on or view)
    seen = observed(queries)
    there = seen if reference is queries else observed(reference)
    train, asked = _rows(store, at, (there, seen), options.split, target)
    held = at.known & store.of("validation") & seen
    own = options.split != "test" or held.sum() < 20
    rows = asked if own else np.concatenate([asked, np.flatnonzero(held)])
    if not own and at.classes is None:  # left out in turn they say where errors are large
        rows = np.concatenate([rows, features.some(np.flatnonzero(train & seen), SHAPED)])
    among = search.among(store, fit_on or view, train)
    found = neighbours(among, queries, rows, options, at.star, search.progress)
    # Halves of the stars at random calibrate each other where no other stars are held out.
    part = np.zeros(len(rows), int)
    if own:
        each, of = np.unique(at.star[rows], return_inverse=True)
        part = (np.random.default_rng(42).permutation(len(each)) % 2)[of.reshape(-1)]
    else:
        part[len(asked) :] = 1
        part[len(asked) + int(held.sum()) :] = 2
    place = data_rows(store, data)
    noise = features.noise_of(data, rows if place is None else place[rows])
    case = _Case(
        target, f"{fit_on} -> {view}" if fit_on and fit_on != view else view,
        store.source_id[asked], at.truth[rows], part, own, options, int(train.sum()), noise,
    )  # fmt: skip
    if at.classes is None:
        return _regressed(case, at.truth, found, _turned(queries, rows))
    return _classified(case, at.truth, at.classes, found)


@dataclass(frozen=True)
class _Case:
    """What a prediction is of, and how it is calibrated.

    Attributes:
        source_id: Of the stars that are evaluated; those that only calibrate come after them.
        truth, part: [rows] of all that ask; stars of one part calibrate the other.
            Training stars, each left out of its own neighbours, are part 2.
        own: Whether both parts are evaluated.
        noise: [rows] log10 S/N, NaN unknown.
    """

    target: str
    view: str
    source_id: NDArray[np.int64]
    truth: Labels
    part: NDArray[np.int64]
    own: bool
    options: Options
    references: int
    noise: NDArray[np.float64]

    def reach(
        self, predicted: NDArray[np.float64], spread: NDArray[np.float64],
        seen: NDArray[np.float64],
    ) -> NDArray[np.float64]:  # fmt: skip
        """[2, rows] how far below and above each prediction its interval goes.

        Where there are stars enough, by the residual to expect of a star with its `seen` [rows, f]
        and by predicted value x S/N; else by the spread of the neighbours. Both are learned from
        training stars, each left out of its own neighbours, and brought to the level by the
        validation stars.
        """
        made = np.stack([spread, spread])
        off, level = predicted - self.truth, (self.options.coverage,)
        axes = np.stack([self.noise, predicted], axis=1)
        for p in (0, 1) if self.own else (None,):
            learn = self.part == (2 if p is None else 1 - p)
            mine = np.ones(len(off), bool) if p is None else self.part == p
            if learn.sum() < 2 * calibrate.GROUP:
                continue
            widths, held = expected.learn(seen[learn], off[learn, None])
            size = widths(seen)[:, 0]
            size[learn] = held[:, 0]
            tails = expected.tails(predicted[learn], self.truth[learn], size[learn], level)
            ends = tails(predicted, size)[:, 0]
            need = np.maximum(off / ends[0], -off / ends[1])
            groups = calibrate.groups(predicted[learn], self.noise[learn], need[learn],
                                      axes[learn], level)  # fmt: skip
            grown = ends * groups(predicted, self.noise, axes)[0]
            made[:, mine] = grown[:, mine]
        return made * self.edges(np.maximum(off / made[0], -off / made[1]))

    def edges(self, score: NDArray[np.float64]) -> NDArray[np.float64]:
        """[rows] the conformal quantile of the scores of the stars not in a row's part."""
        quantile = [
            conformal_quantile(score[self.part == p], self.options.coverage) for p in (0, 1)
        ]
        if not self.own:
            return np.full(len(self.part), quantile[1])
        return np.where(self.part == 0, quantile[1], quantile[0])


def _turned(vectors: NDArray[np.float32], rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """[rows, 5] first principal components of some vectors, read a block at a time."""
    some = np.asarray(vectors[features.some(rows, SHAPED)], np.float64)
    mean = some.mean(axis=0)
    axes = np.linalg.eigh(np.cov((some - mean).T, ddof=0).reshape(some.shape[1], -1))[1][:, -AXES:]
    blocks = [(vectors[rows[i : i + MOST]] - mean) @ axes for i in range(0, len(rows), MOST)]
    return np.concatenate(blocks)


def _regressed(
    case: _Case, labels: Labels, found: Found, turned: NDArray[np.float64]
) -> Predictions:  # fmt: skip
    predicted, spread = np.empty(len(case.truth)), np.empty(len(case.truth))
    away_from = np.empty(len(case.truth))
    for part, distance, rows in found:
        away_from[part] = distance.mean(axis=1)
        weight, near = weigh(distance, case.options.weights), labels[rows]
        predicted[part] = (near * weight).sum(axis=1)
        away = near - predicted[part, None]
        spread[part] = np.sqrt(np.maximum((away**2 * weight).sum(axis=1), 0))
    # A floor, so that neighbours that agree by chance do not promise certainty.
    spread = spread + 0.1 * np.median(spread) + 1e-12
    about = [case.noise, predicted, np.log(spread), np.log(away_from + 1e-12)]
    seen = np.concatenate([np.stack(about, axis=1), turned], axis=1)
    count = len(case.source_id)
    down, up = case.reach(predicted, spread, seen)[:, :count]
    truth, predicted = case.truth[:count], predicted[:count]
    low, high = predicted - down, predicted + up
    return Predictions(
        case.target, case.view, case.source_id, truth, predicted, (down + up) / 2,
        (truth >= low) & (truth <= high), references=case.references, lower=low, upper=high,
    )  # fmt: skip


def _classified(
    case: _Case, labels: NDArray[np.int32], classes: tuple[str, ...], found: Found
) -> Predictions:
    vote = np.zeros((len(case.truth), len(classes)))
    there = np.bincount(case.truth, minlength=len(classes)) > 0
    for part, distance, rows in found:
        weight, near = weigh(distance, case.options.weights), labels[rows]
        there |= np.bincount(near.ravel(), minlength=len(classes)) > 0
        mine = vote[part]
        for column in range(near.shape[1]):
            mine[np.arange(len(near)), near[:, column]] += weight[:, column]
    vote, names = vote[:, there], [c for c, t in zip(classes, there, strict=True) if t]
    truth = (np.cumsum(there) - 1)[case.truth]
    own_vote = vote[np.arange(len(vote)), truth]
    edge = case.edges(1 - own_vote)
    inside = 1 - vote <= edge[:, None] + 1e-12
    count = len(case.source_id)
    return Predictions(
        case.target, case.view, case.source_id, decode(names, truth[:count]),
        decode(names, vote[:count].argmax(axis=1)), inside.sum(axis=1).astype(float)[:count],
        (1 - own_vote <= edge + 1e-12)[:count], tuple(names), vote[:count], case.references,
    )  # fmt: skip


def baselines(
    data: Dataset,
    target: str,
    view: str,
    split: Split = "test",
    only: NDArray[np.bool_] | None = None,
    opponents: Sequence[str] = OPPONENTS,
) -> list[Row]:
    """Mean of the training labels, and regressions on the raw view, on the same stars.

    Args:
        data: With the view.
        target: Numeric column.
        view: Whose values ridge regression takes.
        split: Who is asked; there are no baselines for leave-one-out.
        only: [objects] stars to keep, or None for all.
        opponents: Heads of `mmclip predict` beside ridge regression.
    """
    if split == LEAVE_ONE_OUT:
        return []
    truth, shown = target_values(data, target), data.views[view]
    known = np.isfinite(truth) & shown.present
    if only is not None:
        known &= only
    train, asked = (known & equals(data.objects, "split", s) for s in ("train", split))
    if not train.any() or not asked.any():
        raise UsageError(f"too few stars have '{target}' in {view}", "preprocess more stars")
    mean = np.full(int(asked.sum()), truth[train].mean())
    line = ridge.fit(shown.values, truth, train)
    name = f"ridge on {f'{line.axes} axes of ' if line.axes else ''}raw {view}"
    named = {"mean of the training stars": mean, name: line.predict(shown.values, asked)}
    if int(np.prod(shown.size)) <= features.WIDE and train.sum() >= LEAST:
        named |= _opponents(data, truth, view, train, asked, opponents)
    return [
        {"target": target, "view": view, "method": name, **scores(truth[asked], predicted)}
        for name, predicted in named.items()
    ]


def _opponents(
    data: Dataset, truth: NDArray[np.float64], view: str, train: NDArray[np.bool_],
    asked: NDArray[np.bool_], names: Sequence[str],
) -> dict[str, NDArray[np.float64]]:  # fmt: skip
    """Predictions of the asked stars by heads on the components of the view itself."""
    stars = stars_of(data)
    blocks = learn_blocks(data, stars, (view,))
    rows = features.some(np.flatnonzero(train), MOST)
    centre, scale = truth[rows].mean(), truth[rows].std() or 1.0
    x, _ = read_features(stars, rows, (view,), blocks)
    y = ((truth[rows] - centre) / scale)[:, None]
    sample = Sample(x, y, np.ones(len(rows)), gain_of((view,), blocks), form_of((view,), blocks))
    unit = float(np.median(kernel_ridge.distances(x[:500], x[:500]))) or 1.0
    like = {"kernel-ridge": {"length": np.array([2 * unit]), "ridge": np.array([0.01])}}
    places, made = np.flatnonzero(asked), dict[str, NDArray[np.float64]]()
    for name in names:
        head = heads.head(name)
        predict = open_heads(fit_heads(head, sample, 42, like))
        parts = [
            predict(read_features(stars, places[i : i + ASKED], (view,), blocks)[0])[:, 0]
            for i in range(0, len(places), ASKED)
        ]
        made[f"{head.title} on components of {view}"] = np.concatenate(parts) * scale + centre
    return made


def _measure(result: Predictions, truth: Labels, predicted: Labels) -> Numbers:
    if result.classes:
        return accuracies(confusion(truth, predicted, list(result.classes)))
    return scores(truth, predicted)


def _measured(result: Predictions, options: Options) -> Row:
    """The numbers of one k-NN row, with everything that they depend on."""
    measure = partial(_measure, result)
    width = float(np.median(result.half_width)) if np.isfinite(result.half_width).all() else None
    return {
        **measure(result.truth, result.predicted),
        **bootstrap(measure, result.truth, result.predicted, options.resamples),
        "coverage": float(result.covered.mean()), "wanted coverage": options.coverage,
        "set size" if result.classes else "half width": width,
        "k": options.k, "weights": options.weights, "metric": options.metric,
        "scale": options.scale, "normalised": True, "references": result.references,
        "excluded": "itself and same star within 2 arcsec", "split": options.split,
    }  # fmt: skip


def table(
    store: Store,
    data: Dataset,
    targets: Sequence[str],
    views: Sequence[str],
    k: int = 13,
    weights: Weights = "uniform",
    split: Split = "test",
    fit_on: str | None = None,
    only: NDArray[np.bool_] | None = None,
    options: Options | None = None,
    search: Search = EXACT,
    opponents: Sequence[str] = OPPONENTS,
) -> tuple[Result, list[Predictions]]:
    """One row a target, view and method; and the predictions behind the k-NN rows.

    Without `options` the rows hold only the scores and the coverage, for reports.
    """
    chosen = options or Options(k, weights, split=split)
    rows: list[Row] = []
    made: list[Predictions] = []
    manifest = store.artifact.manifest
    for target in targets:
        for view in views:
            result = regress(
                store, data, target, view, fit_on=fit_on, only=only, options=chosen, search=search
            )
            name = f"k-NN, k={chosen.k}, {chosen.weights}"
            measured = _measured(result, chosen)
            if options is None:
                measured = {n: measured[n] for n in SHORT if n in measured}
            marked = {"circular": any(
                circular(data, manifest, v, target) for v in result.view.split(" -> ")
            )}  # fmt: skip
            rows.append({"target": target, "view": result.view, "method": name, **measured,
                         **search.about(fit_on or view), **marked})  # fmt: skip
            made.append(result)
            if view in data.views and not result.classes:
                rows += [
                    {**row, "circular": circular(data, manifest, view, target)}
                    for row in baselines(data, target, view, chosen.split, only, opponents)
                ]
    title = (
        f"{chosen.split} stars, references from train, {chosen.metric}, 95 % bootstrap intervals"
    )
    warning = CIRCULAR_WARNING if any(row["circular"] for row in rows) else ""
    return from_rows(rows, title, COLUMNS, store.artifact, asdict(chosen), [warning]), made


def short(result: Result) -> list[Row]:
    """Rows for a terminal: the interval of the first score beside it, options left out."""
    return [_short(row) for row in result]


def _short(row: Row) -> Row:
    kept: dict[str, Value] = {}
    for name, value in row.items():
        if name in SETTINGS or name.endswith(("_low", "_high")):
            continue
        kept[name] = value
        if name in ("R2", "micro") and f"{name}_low" in row:
            low, high = number(row, f"{name}_low"), number(row, f"{name}_high")
            kept[name] = f"{number(row, name):.3f} [{low:.3f}, {high:.3f}]"
    return kept


def circular(data: Dataset, manifest: Manifest, view: str, target: str) -> bool:
    """True if the view was modelled from the label, holds it, or holds what it follows from."""
    return modelled_from(manifest, view, target) or input_column(data, view, target)


def objects(made: Sequence[Predictions], store: Store) -> Result:
    """One row a star: truth, prediction and its conformal interval; null where not meant."""
    parts = [_columns(result) for result in made]
    joined = pa.concat_tables(parts, promote_options="default")
    some = [n for n in joined.column_names if any(n not in p.column_names for p in parts)]
    return from_table(joined, "k-NN, star by star", STARS, store.artifact, sparse=some)


def _columns(result: Predictions) -> pa.Table:
    count = len(result.source_id)
    words = {n: pa.array([w]).take(pa.array(np.zeros(count, np.int64)))
             for n, w in (("target", result.target), ("view", result.view))}  # fmt: skip
    if result.classes:
        told = {
            "true class": pa.array(result.truth, pa.string()),
            "predicted class": pa.array(result.predicted, pa.string()),
            "vote": result.vote.max(axis=1),
            "set size": result.half_width.astype(np.int64),
        }
    else:
        told = {
            "truth": result.truth, "predicted": result.predicted, "half_width": result.half_width,
            "lower": result.lower, "upper": result.upper,
        }  # fmt: skip
    return pa.table({"source_id": result.source_id, **words, **told})
