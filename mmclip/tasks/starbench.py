"""StarBench: what the vectors of stars are worth, beside opponents that never saw them.

    retrieval    find more stars of a class at three prevalences, beside the prepared view itself
    labels       R2 and NMAD of labels, or accuracy of classes, on test stars
    few labels   the same from 100 and 300 labelled stars
    transfer     learned from the brighter half, asked of the fainter
    calibration  part of the test stars inside their 68 % interval, in fifths of the label

Vectors are read by k-NN, ridge and kernel ridge; the opponents, kernel ridge and boosted trees,
read the prepared views. All are heads of `mmclip.tasks.predict`, chosen by nobody: each is a row.
A label that is a column of a view, or that it was modelled from, is not asked of that view.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmclip import arrays
from mmclip.datasets.build import Dataset
from mmclip.errors import MmclipError, NotFound, UsageError
from mmclip.tasks.circular import circular
from mmclip.tasks.neighbours import same_star
from mmclip.tasks.predict import (
    Question,
    catalogue,
    compare,
    fit,
    inputs_of,
    learn_blocks,
    read_features,
    restrict,
)
from mmclip.tasks.predict.calibrate import LEVELS
from mmclip.tasks.predict.stars import VECTORS, Labels, labels, stars_of
from mmclip.vectors.store import Store, unit

Row = dict[str, Any]
Tell = Callable[[str], None]
NAME, VERSION = "stars", 1
TARGETS = ("teff", "logg", "fe_h", "alpha_m", "class")
READERS = {"vectors": ("knn", "ridge", "kernel-ridge"), "view": ("kernel-ridge", "boosting")}
PREVALENCES = (0.1, 0.01, 0.001)
QUERIES, GALLERY = 20, 20_000  # stars that ask, and are looked among
FEW = (100, 300)
LEAST = 30  # stars of a class, or of a split with a label
GROUPS = 5
BRIGHTNESS = ("phot_g_mean_mag", "g_mag", "gmag", "mag")


def measure(
    data: Dataset, store: Store, targets: Sequence[str] = (), seed: int = 42,
    resamples: int = 200, tell: Tell = lambda text: None,
) -> list[Row]:  # fmt: skip
    """Every task on every view that was embedded; a row a task, label, view, method and metric.

    Args:
        data, store: Stars, and their vectors.
        targets: Columns; empty: those of `TARGETS` that are there.
        seed: Of every random choice.
        resamples: Of the 95 % intervals.
        tell: Is told of progress.

    Raises:
        UsageError: If the data have none of the labels.
    """
    held = data.objects.column_names
    asked = [t for t in targets or TARGETS if targets or t in held]
    if not asked:
        raise UsageError(f"{data.artifact.path} has none of {', '.join(TARGETS)}", "--column NAME")
    found = labels(data, asked, data.of("train"))
    rows: list[Row] = []
    for view in store.modalities:
        known = [one for one in found if not circular(data, view, one.target.name)]
        tell(f"{view}: {', '.join(one.target.name for one in known) or 'no label'}")
        for question in _questions(data, store, view, known, seed):
            rows += _retrieval(question, seed)
            rows += _labels(question, resamples)
            rows += _few(question, seed)
            rows += _transfer(question)
            rows += _calibration(question)
    return rows


def _questions(
    data: Dataset, store: Store, view: str, known: Sequence[Labels], seed: int
) -> Iterator[Question]:
    """Of each label, on the vectors and on the view; where enough stars have it."""
    whole = stars_of(data, store)
    for one in known:
        for on in READERS:
            asked = Question(data, whole, (one,), (view,), on, np.ones(len(whole), bool), seed)
            enough = [len(asked.rows(s, (view,))) >= LEAST for s in ("train", "test")]
            if all(enough):
                yield asked


def _row(asked: Question, task: str, setting: str, method: str, metric: str, value: float,
         **more: Any) -> Row:  # fmt: skip
    return {"task": task, "label": asked.labels[0].target.name, "view": asked.views[0],
            "setting": setting, "on": asked.on, "method": method, "metric": metric,
            "value": value, **more}  # fmt: skip


def _features(asked: Question, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """[rows, d] of length 1: the vectors, or standardised components of the view."""
    names = inputs_of(asked.views, asked.on, asked.stars.read)
    if asked.on == "vectors":
        return unit(asked.stars.read[VECTORS + asked.views[0]](rows).values.astype(np.float32))
    x, _ = read_features(asked.stars, rows, names, learn_blocks(asked.data, asked.stars, names))
    spread = x.std(axis=0)
    return unit(((x - x.mean(axis=0)) / np.where(spread > 0, spread, 1)).astype(np.float32))


def _retrieval(asked: Question, seed: int) -> list[Row]:
    """Mean average precision of stars of one kind, among others, for some of the same kind.

    The kind is each class of at least 30 stars, or the lowest fifth of a number.
    """
    one = asked.labels[0]
    rows = np.flatnonzero(one.known & asked.stars.present[asked.views[0]])
    chance = np.random.default_rng(seed)
    rows = chance.permutation(rows)[:GALLERY]
    x, star = _features(asked, rows), same_star(asked.data)[rows]
    found = []
    for kind, member in _kinds(one, rows):
        inside, others = np.flatnonzero(member), np.flatnonzero(~member)
        queries, rest = inside[:QUERIES], inside[QUERIES:]
        rest = rest[~np.isin(star[rest], star[queries])]  # a star is no answer to itself
        for prevalence in PREVALENCES:
            count = round(prevalence / (1 - prevalence) * len(others))
            if not 2 <= count <= len(rest) or not len(others):
                continue
            among = np.concatenate([chance.permutation(rest)[:count], others])
            right = np.arange(len(among)) < count
            scores = x[queries] @ x[among].T
            values = [average_precision(right, s) for s in scores]
            found.append(_row(asked, "retrieval", f"{kind}, {prevalence:.1%} of the candidates",
                              "cosine", "average precision", float(np.mean(values)),
                              chance=count / len(among), stars=len(among)))  # fmt: skip
    return found


def _kinds(one: Labels, rows: NDArray[np.int64]) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    truth = one.truth[rows]
    if not one.target.classes:
        yield f"lowest fifth of {one.target.name}", truth <= np.quantile(truth, 0.2)
        return
    for code, name in enumerate(one.target.classes):
        if LEAST <= (truth == code).sum() < len(truth):
            yield name, truth == code


def average_precision(right: NDArray[np.bool_], score: NDArray[Any]) -> float:
    """Mean of the precision at the rank of each right answer.

    >>> average_precision(np.array([True, False, True]), np.array([3.0, 2.0, 1.0]))
    0.8333333333333333
    """
    ordered = right[np.argsort(-score, kind="stable")]
    precision = np.cumsum(ordered) / np.arange(1, len(ordered) + 1)
    return float(precision[ordered].mean())


def _scores(asked: Question, task: str, setting: str, resamples: int) -> list[Row]:
    """R2 and NMAD, or accuracies, of every reader on the test stars."""
    names = inputs_of(asked.views, asked.on, asked.stars.read)
    blocks = learn_blocks(asked.data, asked.stars, names)
    made, _, _ = compare(asked, READERS[asked.on], blocks, resamples)
    metrics = ("micro", "macro") if asked.targets[0].classes else ("R2", "NMAD")
    return [
        _row(asked, task, setting, row["method"], metric, row[metric], stars=row["stars"],
             low=row.get(f"{metric}_low"), high=row.get(f"{metric}_high"))
        for row in made for metric in metrics if metric in row
    ]  # fmt: skip


def _labels(asked: Question, resamples: int) -> list[Row]:
    return _scores(asked, "labels", "all training stars", resamples)


def _few(asked: Question, seed: int) -> list[Row]:
    rows = asked.rows("train", asked.views)
    found = []
    for count in FEW:
        if count < len(rows):
            drawn = np.random.default_rng(seed).permutation(rows)[:count]
            only = ~asked.data.of("train")
            only[drawn] = True
            found += _scores(restrict(asked, only), "few labels", f"{count} labels", 0)
    return found


def _transfer(asked: Question) -> list[Row]:
    """Learned from the brighter half of the stars, asked of the fainter; nothing without G."""
    held = asked.data.objects.column_names
    column = next((c for c in BRIGHTNESS if c in held), None)
    if column is None:
        return []
    magnitude = arrays.floats(asked.data.objects, column)
    bright = magnitude <= np.nanmedian(magnitude)
    train = asked.data.of("train")
    only = np.where(train, bright, magnitude > np.nanmedian(magnitude))
    part = restrict(asked, np.asarray(only, bool))
    if min(len(part.rows(s, asked.views)) for s in ("train", "test")) < LEAST:
        return []
    return _scores(part, "transfer", f"bright to faint in {column}", 0)


def _calibration(asked: Question) -> list[Row]:
    """Coverage of the 68 % interval: of all test stars, and of the fifth farthest from it."""
    one = asked.labels[0]
    if one.target.classes or len(asked.rows("train", asked.views)) < 2 * LEAST:
        return []
    method = "ridge" if asked.on == "vectors" else "kernel-ridge"
    fitted, _ = fit(asked, method, resamples=0)
    rows = asked.rows("test", asked.views)
    made = catalogue.table(catalogue.ask(fitted, asked.stars, check=False), rows)
    name, truth = one.target.name, one.truth[rows]
    low, high = (arrays.floats(made, f"{name}_{end}") for end in ("lower", "upper"))
    told = np.isfinite(low) & np.isfinite(truth)
    inside, truth = ((truth >= low) & (truth <= high))[told], truth[told]
    if len(truth) < GROUPS * 2:
        return []
    groups = np.array_split(np.argsort(truth, kind="stable"), GROUPS)
    each = np.array([inside[g].mean() for g in groups])
    worst = float(each[np.argmax(np.abs(each - LEVELS[0]))])
    of = "68 % interval"
    return [
        _row(asked, "calibration", of, method, "coverage", float(inside.mean()), stars=len(truth)),
        _row(asked, "calibration", of, method, "coverage of the worst fifth", worst,
             stars=len(groups[0])),
    ]  # fmt: skip


def report(data: Dataset, store: Store, rows: Sequence[Row], seed: int) -> Row:
    """What one JSON file holds: the rows, and of what they are."""
    run = [p for p in store.artifact.manifest.parents if p["kind"] == "run"]
    return {"benchmark": NAME, "version": VERSION, "seed": seed,
            "vectors": store.artifact.reference, "run": run[0] if run else None,
            "data": data.artifact.reference, "rows_of_data": data.artifact.manifest.rows,
            "provenance": data.artifact.manifest.provenance, "rows": list(rows)}  # fmt: skip


def read(file: Path) -> Row:
    """A report that `measure` was written into.

    Raises:
        NotFound: If there is no such file.
        UsageError: If it is no report of this benchmark.
    """
    try:
        body = json.loads(file.read_text(encoding="utf-8"))
        if body["benchmark"] != NAME or body["version"] != VERSION:
            raise UsageError(f"{file} is of another benchmark or version", "measure it again")
        return dict(body)
    except FileNotFoundError:
        raise NotFound(
            f"there is no file {file}", "mmclip evaluate --benchmark stars -o FILE"
        ) from None
    except MmclipError:
        raise
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{file} is no report of mmclip evaluate: {error}") from error


def beside(files: Sequence[Path]) -> tuple[list[Row], list[str]]:
    """Reports beside each other: a row a task, label, view and metric; and what differs.

    Of several methods the best on vectors is shown of each report, and once the best opponent.
    """
    reports = {str(f): read(f) for f in files}
    notes = []
    if len({r["data"]["fingerprint"] for r in reports.values()}) > 1:
        notes.append("the reports are of different data: numbers do not compare")
    made: dict[tuple[str, ...], Row] = {}
    for number, (file, body) in enumerate(reports.items()):
        title = Path(file).stem if len({Path(f).stem for f in reports}) == len(reports) else file
        for row in body["rows"]:
            key = tuple(row[n] for n in ("task", "label", "view", "setting", "metric"))
            to = made.setdefault(
                key, dict(zip(("task", "label", "view", "setting", "metric"), key))
            )
            ours = row["on"] == "vectors"
            if not ours and number:
                continue  # the opponents saw the views alone, which are the same
            place = title if ours else "without vectors"
            if place not in to or _better(row["metric"], row["value"], to[place]):
                to[place] = row["value"]
    return list(made.values()), notes


def _better(metric: str, new: float, old: float) -> bool:
    if metric.startswith("coverage"):
        return abs(new - LEVELS[0]) < abs(old - LEVELS[0])
    return new < old if metric == "NMAD" else new > old


__all__ = ["average_precision", "beside", "measure", "read", "report"]
