"""Classes from views: heads and fine-tuned encoders, beside baselines that need no training."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmclip.arrays import decode, encode
from mmclip.clip.run import Run
from mmclip.config import choice
from mmclip.datasets.build import Dataset, View
from mmclip.datasets.objects import of_curves
from mmclip.errors import NotFound, UsageError
from mmclip.ids import rows_of
from mmclip.metrics import (
    Calibration,
    Numbers,
    accuracies,
    calibration,
    confusion,
    macro_f1,
    paired,
)
from mmclip.modalities import normalise, restore
from mmclip.results import Result, Row, Value, from_rows, number
from mmclip.tasks.classify import cache, priors, trees
from mmclip.tasks.classify.baselines import Problem, forest, head, zero_shot
from mmclip.tasks.classify.cache import Cell, Guesses
from mmclip.tasks.classify.finetune import (
    Classifier,
    FinetuneConfig,
    finetune,
    probabilities,
    start_from,
)
from mmclip.tasks.outliers.detectors import check_classes
from mmclip.training import checkpoint
from mmclip.vectors.store import Store

METHODS = (
    "clip",
    "scratch",
    "head",
    "zero-shot",
    "forest",
    "extra-trees",
    "boosting",
    "learned",
    "blend",
)
SEEDS = (42, 66, 0, 12, 123)  # AstroM3's
BY_VALUE = ("forest", "extra-trees", "boosting")  # methods that read no vectors
PAIRS = (("clip", "scratch"), ("clip", "head"), ("clip", "forest"))  # methods to compare
SPLITS = ("train", "validation", "test")
PRIORS = ("train", "sample")
Codes = NDArray[np.int64]  # class numbers, or rows
Progress = Callable[[Row], None]
COLUMNS = {
    "views": ("", "views used together"),
    "method": ("", "classifier"),
    "fraction": ("", "of the training stars, classes capped"),
    "train": ("", "training stars"),
    "test": ("", "test stars"),
    "micro*": ("", "fraction of test stars whose class is right"),
    "macro*": ("", "mean over classes of the fraction that is right"),
    "macro F1*": ("", "mean over classes of the harmonic mean of precision and recall"),
    "ECE*": ("", "expected calibration error"),
    "answered*": ("", "fraction of test stars whose class is probable enough to be given"),
    "micro answered*": ("", "fraction of these whose class is right"),
    "class": ("", "by the catalogue"),
    "recall": ("", "fraction of its stars that are called so"),
    "precision": ("", "fraction of the stars called so that are"),
    "F1": ("", "harmonic mean of both"),
    "most often taken for": ("", "another class"),
    "then": ("", "fraction of its stars that are called that"),
    "seeds": ("", "seeds that were averaged"),
    "at test": ("", "views given at test, the others left out"),
    "compare": ("", "what is subtracted from what"),
    "difference": ("", "of micro accuracy, mean over seeds"),
    "p": ("", "two-sided, exact sign test of the differences"),
    "t p": ("", "paired t test"),
}


@dataclass(frozen=True)
class Afterwards:
    """What is done with the probabilities of a classifier.

    Attributes:
        calibrated: Divide logits by a temperature chosen on the validation objects.
        priors: `train` keeps the shares of classes of the training objects; `sample` also gives
            the answers under the shares of the objects asked about, found by
            expectation-maximisation over unlabelled validation and test objects.
        abstain: Objects whose class is less probable than this get none.
    """

    calibrated: bool = False
    priors: str = "train"
    abstain: float = 0.0


@dataclass(frozen=True)
class Answer:
    """How classifiers did on the test stars.

    Attributes:
        rows: One a classifier and seed.
        importance: One a fine-tuned classifier, seed and set of views at test.
        confusions: By classifier: counts [true class, predicted class] over all seeds.
        confidences: By classifier and seed: probability of the class it chose, and whether that
            was right.
        taken: Those of `rows` that an earlier run had made.
    """

    rows: list[Row]
    importance: list[Row] = field(default_factory=list)
    confusions: dict[str, Codes] = field(default_factory=dict)
    confidences: dict[str, list[tuple[NDArray[np.float64], NDArray[np.bool_]]]] = field(
        default_factory=dict
    )
    taken: list[Row] = field(default_factory=list)

    @property
    def reliability(self) -> dict[str, Calibration]:
        """Calibration of each classifier over all seeds."""
        return {
            name: calibration(np.concatenate([c for c, _ in parts]),
                              np.concatenate([right for _, right in parts]))
            for name, parts in self.confidences.items()
        }  # fmt: skip


def usual(data: Dataset, views: Sequence[str]) -> tuple[str, ...]:
    """The methods that are compared where none is named; of light curves boosting leads."""
    curves = any(of_curves(data.modality(view)) for view in views)
    return ("zero-shot", "head", "forest", *(("boosting",) if curves else ()))


def problem(
    data: Dataset, run: Run | None, store: Store | None, column: str, views: tuple[str, ...],
    least: int = 5,
) -> Problem:  # fmt: skip
    """The classified objects that have every view; classes with too few of them are left out.

    Args:
        data: The objects, their views and their split.
        run: By whose statistics views are normalised; None leaves them as they are.
        store: Their vectors; None for methods that read the values alone (`BY_VALUE`).
        column: Of the classes.
        views: Used together.
        least: Training objects of a class.

    Raises:
        UsageError: If fewer than two classes are left.
        NotFound: If there is no such column, or a view is not in the run.
    """
    check_classes(data, column)
    kinds = decode(*encode(data.objects, column))
    rows = rows_of(store.source_id, data.source_id) if store else np.arange(len(kinds))
    kinds[rows < 0] = ""
    values, vectors = {}, {}
    whole = np.ones(len(rows), bool)
    for view in views:
        shown = data.views[view]
        values[view] = shown.values if run is None else _like(run, view, shown)
        if store:
            vectors[view] = store.vectors(view)[rows]
        whole &= shown.present
    kinds[~whole] = ""
    classes = sorted(
        k for k in set(kinds.tolist()) - {""}
        if all(((kinds == k) & (data.split == s)).sum() >= (least if s == "train" else 1)
               for s in SPLITS)
    )  # fmt: skip
    if len(classes) < 2:
        raise UsageError(
            f"'{column}' has {len(classes)} class(es) with objects in every split that have "
            f"{', '.join(views)}",
            "preprocess more objects, or another --column",
        )
    number = {k: i for i, k in enumerate(classes)}
    labels = np.array([number.get(k, -1) for k in kinds], np.int64)
    parents = [store.artifact] if store else []
    parents += [data.artifact, *([run.artifact] if run else [])]
    where = cache.folder(parents, column, views, least)
    draws = {v: int(getattr(data.modality(v).settings, "draws", 0)) for v in views}
    sizes = {v: data.views[v].size for v in views}
    return Problem(labels, classes, values, vectors, data.split, where, draws, sizes)


def _like(run: Run, view: str, shown: View) -> NDArray[np.float32]:
    """[objects, length] values of a view, normalised as the run was trained."""
    if view not in run.shape.sizes:
        known = ", ".join(sorted(run.shape.sizes))
        raise NotFound(f"the run knows no view '{view}'", f"it knows: {known}")
    ours = run.statistics[view]
    if np.array_equal(ours.centre, shown.statistics.centre):
        return shown.values
    return normalise(restore(shown.values, shown.statistics), ours)


def cap(counts: list[int], goal: int) -> int:
    """The most objects that a class keeps in a subset of about `goal` objects.

    The rarest class always counts as filled; what is left of the goal is shared by the classes
    that are left, each time another one is filled. The cap then holds for every class, so the
    rarest is cut too where it is larger.

    Source:
        Rizhko & Bloom 2025, arXiv:2411.08842, subsets of 50, 25 and 10 % (table 3).
    """
    ordered = sorted(counts)
    filled = 0
    for i, count in enumerate(ordered):
        left = len(ordered) - i
        if i and filled + count * left > goal:
            return max((goal - filled) // left, 1)
        filled += count
    return ordered[-1] if ordered else 0


def subset(labels: NDArray[np.int64], fraction: float, seed: int) -> NDArray[np.int64]:
    """Rows of a subset of a given fraction: classes are capped, the rarest stay whole.

    Args:
        labels: [objects] class numbers, all known.
        fraction: 1 for all; 0.5, 0.25, 0.1 are AstroM3's.
        seed: Of the draw.
    """
    if fraction >= 1:
        return np.arange(len(labels))
    counts = np.bincount(labels)
    limit = cap([int(c) for c in counts if c], int(len(labels) * fraction))
    generator = np.random.default_rng(seed)
    kept = []
    for code in np.flatnonzero(counts):
        mine = np.flatnonzero(labels == code)
        kept.append(generator.permutation(mine)[:limit] if len(mine) > limit else mine)
    return np.sort(np.concatenate(kept))


def split_rows(
    asked: Problem, fraction: float, seed: int, cap_test: bool
) -> dict[str, NDArray[np.int64]]:
    """Rows of each split; the training rows of the fraction, the others too if asked for."""
    rows = {}
    for name in SPLITS:
        mine = np.flatnonzero((asked.split == name) & (asked.labels >= 0))
        part = fraction if name == "train" or cap_test else 1.0
        rows[name] = mine[subset(asked.labels[mine], part, seed)]
    return rows


def _score(asked: Problem, truth: Codes, predicted: Codes) -> tuple[Numbers, Codes]:
    names = np.array(asked.classes, object)
    counts = confusion(names[truth], names[predicted], asked.classes)
    return accuracies(counts) | {"macro F1": macro_f1(counts)}, counts


def classify(
    asked: Problem,
    run: Run | None,
    views: tuple[str, ...],
    methods: tuple[str, ...],
    fractions: tuple[float, ...] = (1.0,),
    seeds: tuple[int, ...] = SEEDS,
    config: FinetuneConfig | Callable[[str, float], FinetuneConfig] | None = None,
    cap_test: bool = False,
    progress: Progress | None = None,
    fresh: bool = False,
    after: Afterwards | None = None,
) -> Answer:
    """Train and test every method on every fraction with every seed, on these views together.

    Each (views, fraction, seed, method) is stored as it is made (`asked.kept`), and taken from
    there when the same is asked again.

    Args:
        asked: See `problem`.
        run: Its encoders, and their shape for those that start from nothing; None for methods of
            `BY_VALUE`.
        views: Used together.
        methods: Of `clip` (fine-tuned from the run), `scratch`, `head` (linear, frozen vectors),
            `zero-shot` (centroid and 1-NN), `forest`, `extra-trees`, `boosting` (on the values of
            the views), `learned` (boosting on these and the learned vectors), `blend` (of the last
            three and `head`: log probabilities, weighted on the validation objects).
        fractions: Of the training objects, by AstroM3's capping rule.
        seeds: Of the subset, the first weights and the order of objects; the split stays that of
            the data, since the run was trained under it.
        config: Of the fine-tuning; a function of (method, fraction) where runs differ.
        cap_test: Cap validation and test objects too, as AstroM3 does.
        progress: Given each row as it is made, and whether it was `kept` from before.
        fresh: Train all anew.
        after: What is done with the probabilities; nothing by default.

    Returns:
        Rows: `views`, `method`, `fraction`, `seed`, `micro`, `macro`, `ECE`, `stars`; for several
        views and a fine-tuned method the importance table (one row a subset of views at test).
    """
    checkpoint.pin_threads()
    answer, after = Answer([]), after or Afterwards()
    choice("--priors", after.priors, PRIORS)
    of = config if callable(config) else lambda method, fraction: config or FinetuneConfig()
    for fraction in fractions:
        for seed in seeds:
            rows = split_rows(asked, fraction, seed, cap_test)
            for method in methods:
                own = replace(of(method, fraction), seed=seed)
                file = _file(asked.kept, views, method, fraction, seed, cap_test, own, after)
                cell = cache.read(file) if file and not fresh else None
                old = cell is not None
                if cell is None:
                    work = cache.work(file) if file else None
                    with cache.held(work) as folder:
                        cell = _cell(
                            asked, run, views, method, rows, seed, own, fraction, folder, after
                        )
                        if file:
                            cache.write(file, cell)
                about: Row = {"views": "+".join(views), "fraction": fraction, "seed": seed,
                         "train": len(rows["train"])}  # fmt: skip
                _add(answer, asked, cell, about, asked.labels[rows["test"]], old, progress,
                     after.abstain)  # fmt: skip
    return answer


def line(row: Row) -> str:
    """One line of progress about a row of `classify`."""
    micro, macro = number(row, "micro"), number(row, "macro")
    return (
        f"{row['views']} {row['method']} {number(row, 'fraction'):g} seed {row['seed']}: "
        f"micro {micro:.4f}, macro {macro:.4f}" + (" (kept)" if row["kept"] else "")
    )


def _file(
    where: Path | None, views: tuple[str, ...], method: str, fraction: float, seed: int,
    cap_test: bool, config: FinetuneConfig, after: Afterwards,
) -> Path | None:  # fmt: skip
    if where is None:
        return None
    trained = asdict(config) if method in ("clip", "scratch") else {}
    asked_for = {"calibrated": after.calibrated, "priors": after.priors}
    trained |= {k: v for k, v in asked_for.items() if v not in (False, "train")}
    if method == "blend":
        trained["averaged"] = "log"
    return cache.place(
        where, views=views, method=method, fraction=fraction, seed=seed, cap_test=cap_test,
        config=trained,
    )  # fmt: skip


def _add(
    answer: Answer, asked: Problem, cell: Cell, about: Row, truth: Codes, old: bool,
    progress: Progress | None, abstain: float = 0.0,
) -> None:  # fmt: skip
    """Score a cell and put it into the answer."""
    answer.importance.extend(cell.importance)
    for made in cell.guesses:
        numbers, counts = _score(asked, truth, made.guess)
        row: Row = {"views": about["views"], "method": made.name, **about, **numbers}
        key = f"{made.name} {number(about, 'fraction'):g}"
        if made.confidence is not None:
            right = (made.confidence, made.guess == truth)
            row = {**row, "ECE": calibration(*right).ece}
            if abstain > 0:
                sure = made.confidence >= abstain
                among = float(right[1][sure].mean()) if sure.any() else float("nan")
                row |= {"answered": float(sure.mean()), "micro answered": among}
            answer.confidences.setdefault(key, []).append(right)
        answer.rows.append(row)
        if old:
            answer.taken.append(row)
        answer.confusions[key] = answer.confusions.get(key, np.zeros_like(counts)) + counts
        if progress:
            progress({**row, "kept": old})


def _cell(
    asked: Problem, run: Run | None, views: tuple[str, ...], method: str, rows: dict[str, Codes],
    seed: int, config: FinetuneConfig, fraction: float, folder: Path | None, after: Afterwards,
) -> Cell:  # fmt: skip
    """Train one method and ask it about the test rows."""
    choice("--method", method, METHODS)
    if method not in BY_VALUE and (run is None or not asked.vectors):
        raise UsageError(f"--method {method} reads vectors, and there are none", "mmclip embed")
    shares: list[Row] = []
    if method == "zero-shot":
        found = zero_shot(asked, rows, views)
        return Cell([Guesses(name, guess, None) for name, guess in found.items()], [])
    # Validation objects after the test objects: temperatures and weights are chosen on them.
    tests = len(rows["test"])
    both = {**rows, "test": np.concatenate([rows["test"], rows["validation"]])}
    if run and method in ("clip", "scratch"):
        model = run.model if method == "clip" else None
        made = start_from(model, run.shape, views, len(asked.classes), seed, config, run.model)
        made = finetune(made, asked.values, asked.labels, rows, config, folder)
        soft = probabilities(made, asked.values, both["test"])
        about: Row = {"method": method, "fraction": fraction, "seed": seed}
        shares = _shares(asked, made, views, rows["test"], about)
    else:
        soft = _untrained(asked, views, method, both, seed)
    known = asked.labels[rows["validation"]]
    guesses = [_guesses(method, soft[:tests])]
    if after.calibrated:
        soft = priors.tempered(soft, priors.temperature(soft[tests:], known))
        guesses = [_guesses(method, soft[:tests])]
    if after.priors == "sample":
        train = np.bincount(asked.labels[rows["train"]], minlength=len(asked.classes))
        moved = priors.to_sample(soft[:tests], soft, train / train.sum())
        guesses.append(_guesses(f"{method}, sample's priors", moved))
    return Cell(guesses, shares)


def _guesses(name: str, soft: NDArray[np.float64]) -> Guesses:
    return Guesses(name, soft.argmax(axis=1), soft.max(axis=1))


def _untrained(
    asked: Problem, views: tuple[str, ...], method: str, rows: dict[str, Codes], seed: int
) -> NDArray[np.float64]:
    """[test rows, classes] probabilities of a method that trains no network."""
    classes = len(asked.classes)
    if method == "forest":
        return forest(asked, rows, views, seed)
    if method == "head":
        return head(asked, rows, views, seed)
    x = trees.features(asked, views, learned=method in ("learned", "blend"))
    if method == "extra-trees":
        return trees.extra_trees(x, asked.labels, classes, rows, seed)
    boosted = trees.boosting(x, asked.labels, classes, rows, seed)
    if method != "blend":
        return boosted
    plain = trees.features(asked, views, learned=False)
    parts = [boosted, trees.boosting(plain, asked.labels, classes, rows, seed + 1),
             trees.extra_trees(plain, asked.labels, classes, rows, seed),
             head(asked, rows, views, seed)]  # fmt: skip
    after = len(rows["test"]) - len(rows["validation"])
    known = asked.labels[rows["validation"]]
    return priors.blended(parts, [p[after:] for p in parts], known)


def _shares(
    asked: Problem, made: Classifier, views: tuple[str, ...], test: NDArray[Any], about: Row
) -> list[Row]:
    """Rows of the importance table: every set of views at test, the others left out."""
    found: list[Row] = []
    for use in _parts(views):
        guess = probabilities(made, asked.values, test, use).argmax(axis=1)
        numbers, counts = _score(asked, asked.labels[test], guess)
        recalls = np.diag(counts) / np.maximum(counts.sum(axis=1), 1)
        found.append(
            {**about, "at test": "+".join(use), **numbers,
             **dict(zip(asked.classes, recalls.tolist(), strict=True))}
        )  # fmt: skip
    return found


def _parts(views: tuple[str, ...]) -> list[tuple[str, ...]]:
    if len(views) == 1:
        return []
    return [c for n in range(1, len(views) + 1) for c in combinations(views, n)]


def over_seeds(rows: Sequence[Row]) -> Result:
    """Mean and population standard deviation over the seeds of each method (ddof 0: AstroM3's)."""
    found: list[Row] = []
    for (views, fraction, method), same in _grouped(rows, ("views", "fraction", "method")).items():
        spread = {
            f"{name} {what}": float(f([number(r, name) for r in same]))
            for name in ("micro", "macro") for what, f in (("mean", np.mean), ("std", np.std))
        }  # fmt: skip
        error = {f"{name} mean": _mean(same, name)
                 for name in ("macro F1", "ECE", "answered", "micro answered")
                 if name in same[0]}  # fmt: skip
        found.append({
            "views": views, "fraction": fraction, "method": method, "train": same[0]["train"],
            "test": same[0]["stars"], **spread, **error, "seeds": len(same),
        })  # fmt: skip
    return from_rows(found, "test stars; mean and deviation over seeds", COLUMNS)


def _grouped(rows: Sequence[Row], names: Sequence[str]) -> dict[tuple[Value, ...], list[Row]]:
    """Rows that have the same values in some columns."""
    made: dict[tuple[Value, ...], list[Row]] = {}
    for row in rows:
        made.setdefault(tuple(row[n] for n in names), []).append(row)
    return made


def _mean(rows: Sequence[Row], name: str) -> float:
    return float(np.mean([number(row, name) for row in rows]))


def per_class(answer: Answer, classes: Sequence[str], views: str = "") -> Result:
    """Recall, precision and F1 of every class by each classifier, over all seeds."""
    found: list[Row] = []
    for name, counts in answer.confusions.items():
        stars, called, right = counts.sum(axis=1), counts.sum(axis=0), np.diag(counts)
        wrong = counts - np.diag(right)
        for i in np.flatnonzero(stars).tolist():
            other = classes[int(wrong[i].argmax())] if wrong[i].any() else ""
            found.append({
                    "views": views, "method": name, "class": classes[i], "stars": int(stars[i]),
                    "recall": float(right[i] / stars[i]),
                    "precision": float(right[i] / max(called[i], 1)),
                    "F1": float(2 * right[i] / (stars[i] + called[i])),
                    "most often taken for": other,
                    "then": float(wrong[i].max() / stars[i]),
                })  # fmt: skip
    return from_rows(found, "each class; stars counted once a seed", COLUMNS)


def importance(rows: Sequence[Row]) -> Result:
    """The modality-importance table: accuracy and class recalls by views at test, seed means."""
    by = ("method", "fraction", "at test")
    found: list[Row] = []
    for values, same in _grouped(rows, by).items():
        measured = [k for k in same[0] if k not in (*by, "seed", "stars")]
        found.append({**dict(zip(by, values)), **{k: _mean(same, k) for k in measured}})
    return from_rows(found, "which views matter: the others left out at test", COLUMNS)


def significance(rows: Sequence[Row], pairs: tuple[tuple[str, str], ...] = PAIRS) -> Result:
    """Differences of micro accuracy, paired over seeds, at each fraction.

    Between the methods of `pairs` on the same views, and, where one set of views holds another,
    between the two by the same method: whether more views are better.
    """
    micro: dict[tuple[str, float, str], dict[float, float]] = {}
    for r in rows:
        key = (str(r["views"]), number(r, "fraction"), str(r["method"]))
        micro.setdefault(key, {})[number(r, "seed")] = number(r, "micro")
    found: list[Row] = []
    for views, fraction in dict.fromkeys(key[:2] for key in micro):
        compared = [(f"{a} - {b}", views, (views, fraction, a), (views, fraction, b))
                    for a, b in pairs]  # fmt: skip
        compared += [
            (f"{method}: {views} - {less}", views, (views, part, method), (less, part, method))
            for less, part, method in micro
            if part == fraction and set(less.split("+")) < set(views.split("+"))
        ]
        for name, shown, a, b in compared:
            seeds = sorted(set(micro.get(a, {})) & set(micro.get(b, {})))
            if seeds:
                test = paired([micro[a][s] for s in seeds], [micro[b][s] for s in seeds])
                found.append({"views": shown, "fraction": fraction, "compare": name, **test})
    return from_rows(found, "differences of micro accuracy, paired over seeds", COLUMNS)
