"""Classes from views: heads and fine-tuned encoders, beside baselines that need no training."""

from dataclasses import asdict, dataclass, field, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmclip.clip.run import Run
from mmclip.datasets.build import Dataset
from mmclip.errors import NotFound, UsageError
from mmclip.ids import rows_of
from mmclip.metrics import accuracies, calibration, confusion, paired
from mmclip.modalities import normalise, restore
from mmclip.tasks.classify import cache as kept
from mmclip.tasks.classify.baselines import Problem, forest, head, zero_shot
from mmclip.tasks.classify.cache import Cell, Said
from mmclip.tasks.classify.finetune import (
    Classifier,
    FinetuneConfig,
    finetune,
    probabilities,
    start_from,
)
from mmclip.tasks.outliers.detectors import classes_of
from mmclip.training import checkpoint
from mmclip.vectors.store import Store

Row = dict[str, Any]
SEEDS = (42, 66, 0, 12, 123)  # AstroM3's
PAIRS = (("clip", "scratch"), ("clip", "head"), ("clip", "forest"))  # methods to compare
SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Answer:
    """One row a classifier and seed; by its name confusion counts, and what it said of the
    class it chose, with whether that was right. `taken`: rows taken from an earlier run."""

    rows: list[Row]
    importance: list[Row] = field(default_factory=list)
    confusions: dict[str, NDArray[np.int64]] = field(default_factory=dict)
    said: dict[str, list[tuple[NDArray, NDArray]]] = field(default_factory=dict)
    taken: list[Row] = field(default_factory=list)

    @property
    def reliability(self) -> dict[str, Row]:
        """Calibration of each classifier over all seeds."""
        joined = {
            name: [np.concatenate(p) for p in zip(*parts, strict=True)]
            for name, parts in self.said.items()
        }
        return {name: calibration(said, right) for name, (said, right) in joined.items()}


def problem(
    data: Dataset, run: Run, store: Store, column: str, views: tuple[str, ...], least: int = 5
) -> Problem:
    """The classified objects that have every view; classes with too few of them are left out.

    Raises:
        NotFound: If there is no such column, or a view is not in the run.
        UsageError: If fewer than two classes are left.
    """
    names = classes_of(store, data, column)
    rows = rows_of(store.source_id, data.source_id)
    kinds = np.array([names[r] if r >= 0 else "" for r in rows], object)
    values, vectors = {}, {}
    whole = np.ones(len(rows), bool)
    for view in views:
        if view not in run.shape.sizes:
            known = ", ".join(sorted(run.shape.sizes))
            raise NotFound(f"the run knows no view '{view}'", f"it knows: {known}")
        shown = data.views[view]
        ours = run.statistics[view]
        same = np.array_equal(ours.centre, shown.statistics.centre)
        values[view] = (
            shown.values if same else normalise(restore(shown.values, shown.statistics), ours)
        )
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
    where = kept.folder(store.artifact, data.artifact, run.artifact, column, views, least)
    return Problem(labels, classes, values, vectors, data.split, where)


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
    for number in np.flatnonzero(counts):
        mine = np.flatnonzero(labels == number)
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


def _score(asked: Problem, truth: NDArray, predicted: NDArray) -> tuple[Row, NDArray]:
    names = np.array(asked.classes, object)
    counts = confusion(names[truth], names[predicted], asked.classes)
    return accuracies(counts), counts


def classify(
    asked: Problem,
    run: Run,
    views: tuple[str, ...],
    methods: tuple[str, ...],
    fractions: tuple[float, ...] = (1.0,),
    seeds: tuple[int, ...] = SEEDS,
    config: FinetuneConfig | None = None,
    cap_test: bool = False,
    tell: Any = None,
    fresh: bool = False,
) -> Answer:
    """Train and test every method on every fraction with every seed, on these views together.

    Each (views, fraction, seed, method) is kept as it is made (`asked.kept`), and taken from there
    when the same is asked again.

    Args:
        asked: See `problem`.
        run: Its encoders, and their shape for those that start from nothing.
        views: Used together.
        methods: Of `clip` (fine-tuned from the run), `scratch`, `head` (linear, frozen vectors),
            `zero-shot` (centroid and 1-NN), `forest`.
        fractions: Of the training objects, by AstroM3's capping rule.
        seeds: Of the subset, the first weights and the order of objects; the split stays that of
            the data, since the run was trained under it.
        config: Of the fine-tuning.
        cap_test: Cap validation and test objects too, as AstroM3 does.
        tell: Called with each row as it is made, and whether it was `kept` from before; or None.
        fresh: Train all anew.

    Returns:
        Rows: `views`, `method`, `fraction`, `seed`, `micro`, `macro`, `ECE`, `stars`; for several
        views and a fine-tuned method the importance table (one row a subset of views at test).
    """
    checkpoint.pin_threads()
    answer, config = Answer([]), config or FinetuneConfig()
    for fraction in fractions:
        for seed in seeds:
            rows = split_rows(asked, fraction, seed, cap_test)
            for method in methods:
                own = replace(config, seed=seed)
                file = _file(asked.kept, views, method, fraction, seed, cap_test, own)
                cell = kept.read(file) if file and not fresh else None
                old = cell is not None
                if cell is None:
                    work = kept.work(file) if file else None
                    with kept.held(work) as folder:
                        cell = _cell(asked, run, views, method, rows, seed, own, fraction, folder)
                        if file:
                            kept.write(file, cell)
                about = {"views": "+".join(views), "fraction": fraction, "seed": seed,
                         "train": len(rows["train"])}  # fmt: skip
                _add(answer, asked, cell, about, asked.labels[rows["test"]], old, tell)
    return answer


def _file(
    where: Path | None, views: tuple[str, ...], method: str, fraction: float, seed: int,
    cap_test: bool, config: FinetuneConfig,
) -> Path | None:  # fmt: skip
    if where is None:
        return None
    trained = asdict(config) if method in ("clip", "scratch") else {}
    return kept.place(
        where, views=views, method=method, fraction=fraction, seed=seed, cap_test=cap_test,
        config=trained,
    )  # fmt: skip


def _add(
    answer: Answer, asked: Problem, cell: Cell, about: Row, truth: NDArray, old: bool, tell: Any
) -> None:
    """Score a cell and put it into the answer."""
    answer.importance.extend(cell.importance)
    for said in cell.said:
        numbers, counts = _score(asked, truth, said.guess)
        row: Row = {"views": about["views"], "method": said.name, **about, **numbers}
        key = f"{said.name} {about['fraction']:g}"
        if said.confidence is not None:
            right = (said.confidence, said.guess == truth)
            row["ECE"] = calibration(*right)["ECE"]
            answer.said.setdefault(key, []).append(right)
        answer.rows.append(row)
        if old:
            answer.taken.append(row)
        before = answer.confusions.get(key, np.zeros_like(counts))
        answer.confusions[key] = before + counts
        if tell:
            tell({**row, "kept": old})


def _cell(
    asked: Problem, run: Run, views: tuple[str, ...], method: str, rows: dict[str, NDArray],
    seed: int, config: FinetuneConfig, fraction: float, folder: Path | None,
) -> Cell:  # fmt: skip
    """Train one method and ask it about the test rows."""
    shares: list[Row] = []
    if method == "zero-shot":
        found = zero_shot(asked, rows, views)
        return Cell([Said(name, guess, None) for name, guess in found.items()], [])
    if method == "forest":
        soft = forest(asked, run.shape.sizes, rows, views, seed)
    elif method == "head":
        soft = head(asked, rows, views, seed)
    elif method in ("clip", "scratch"):
        model = run.model if method == "clip" else None
        made = start_from(model, run.shape, views, len(asked.classes), seed)
        made = finetune(made, asked.values, asked.labels, rows, config, folder)
        soft = probabilities(made, asked.values, rows["test"])
        about = {"method": method, "fraction": fraction, "seed": seed}
        shares = _shares(asked, made, views, rows["test"], about)
    else:
        raise UsageError(
            f"--method {method} is not known", "of clip, scratch, head, zero-shot, forest"
        )
    return Cell([Said(method, soft.argmax(axis=1), soft.max(axis=1))], shares)


def _shares(
    asked: Problem, made: Classifier, views: tuple[str, ...], test: NDArray, about: Row
) -> list[Row]:
    """Rows of the importance table: every set of views at test, the others left out."""
    found = []
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


def over_seeds(rows: list[Row]) -> list[Row]:
    """Mean and population standard deviation over the seeds of each method (ddof 0: AstroM3's)."""
    made: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        made.setdefault((row["views"], row["fraction"], row["method"]), []).append(row)
    return [
        {"views": views, "fraction": fraction, "method": method, "train": same[0]["train"],
         "test": same[0]["stars"],
         **{f"{n} {what}": float(f([r[n] for r in same]))
            for n in ("micro", "macro") for what, f in (("mean", np.mean), ("std", np.std))},
         **({"ECE mean": float(np.mean([r["ECE"] for r in same]))} if "ECE" in same[0] else {}),
         "seeds": len(same)}
        for (views, fraction, method), same in made.items()
    ]  # fmt: skip


def importance(rows: list[Row]) -> list[Row]:
    """The modality-importance table: accuracy and class recalls by views at test, seed means."""
    made: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        made.setdefault((row["method"], row["fraction"], row["at test"]), []).append(row)
    return [
        {"method": method, "fraction": fraction, "at test": use,
         **{k: float(np.mean([r[k] for r in same])) for k in same[0]
            if k not in ("method", "fraction", "at test", "seed", "stars")}}
        for (method, fraction, use), same in made.items()
    ]  # fmt: skip


def significance(rows: list[Row], pairs: tuple[tuple[str, str], ...] = PAIRS) -> list[Row]:
    """Differences of micro accuracy, paired over seeds, at each fraction.

    Between the methods of `pairs` on the same views, and, where one set of views holds another,
    between the two by the same method: whether more views are better.
    """
    micro: dict[tuple[str, float, str], dict[int, float]] = {}
    for r in rows:
        micro.setdefault((r["views"], r["fraction"], r["method"]), {})[r["seed"]] = r["micro"]
    found = []
    for views, fraction in dict.fromkeys((r["views"], r["fraction"]) for r in rows):
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
    return found
