"""Classifiers that fine-tune nothing: centroid, nearest neighbour, linear head, random forest."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmclip.tasks.curve_summary import summary
from mmclip.vectors.index import build
from mmclip.vectors.store import unit


@dataclass(frozen=True)
class Problem:
    """Objects of known class, row by row of the data.

    Attributes:
        labels: [objects] class numbers, -1 where unknown.
        classes: Names, sorted.
        values: [objects, length] of each view, normalised as the run was trained.
        vectors: [objects, dim] unit vectors of each view; empty for methods that read none.
        split: [objects].
        kept: Directory of answers that were made before; None keeps none.
        draws: By view: how many measures of random parts of the points stand behind those of the
            whole light curve in `values`; a view that is not named has none.
        sizes: By view: the shape of one object of it.
    """

    labels: NDArray[np.int64]
    classes: list[str]
    values: dict[str, NDArray[np.float32]]
    vectors: dict[str, NDArray[np.float32]]
    split: NDArray[np.str_]
    kept: Path | None = None
    draws: Mapping[str, int] = field(default_factory=dict)
    sizes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    def of_draw(self, view: str, number: int) -> NDArray[np.float32]:
        """[objects, entries] of a view: draw 0 is the whole curve; of a view without draws, all."""
        values, draws = self.values[view], self.draws.get(view, 0)
        each = values.shape[1] // (1 + draws)
        at = min(number, draws) * each
        return values[:, at : at + each]


def forest(
    asked: Problem, rows: dict[str, NDArray[Any]], views: tuple[str, ...], seed: int
) -> NDArray[np.float64]:
    """[test rows, classes] probabilities of a random forest on the raw views.

    Source:
        Breiman 2001, Machine Learning 45, 5; 500 trees, sqrt of the features a split.
    """
    from sklearn.ensemble import RandomForestClassifier

    x = np.concatenate([summary(asked.of_draw(v, 0), asked.sizes[v]) for v in views], axis=1)
    trees = RandomForestClassifier(500, random_state=seed, n_jobs=1)
    trees.fit(x[rows["train"]], asked.labels[rows["train"]])
    found = np.zeros((len(rows["test"]), len(asked.classes)))
    found[:, trees.classes_] = trees.predict_proba(x[rows["test"]])
    return found


def mean_vectors(asked: Problem, views: tuple[str, ...]) -> NDArray[np.float32]:
    """[objects, dim] average of the unit vectors of some views, brought to unit length."""
    return unit(np.mean([asked.vectors[v] for v in views], axis=0))


def zero_shot(
    asked: Problem, rows: dict[str, NDArray[Any]], views: tuple[str, ...]
) -> dict[str, NDArray[np.int64]]:
    """Class of each test object by the nearest class centroid, and by the nearest neighbour."""
    vectors = mean_vectors(asked, views)
    train, test = vectors[rows["train"]], vectors[rows["test"]]
    known = asked.labels[rows["train"]]
    centres = np.stack(
        [train[known == c].mean(axis=0) if (known == c).any() else np.full(train.shape[1], np.nan)
         for c in range(len(asked.classes))]
    )  # fmt: skip
    near = np.nan_to_num(test @ unit(centres).T, nan=-2.0)
    _, first = build(np.ascontiguousarray(train)).search(test, 1)
    return {"nearest centroid": near.argmax(axis=1), "1-NN": known[first[:, 0]]}


def head(
    asked: Problem, rows: dict[str, NDArray[Any]], views: tuple[str, ...], seed: int
) -> NDArray[np.float64]:
    """[test rows, classes] probabilities of a linear head on the frozen vectors.

    Multinomial logistic regression on standardised vectors; its penalty is chosen on the
    validation objects. At most 300 iterations: on 20,000 Catalina stars Newton's method, which
    converges, has the same accuracy to 0.002.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    vectors = np.mean([asked.vectors[v] for v in views], axis=0)
    scale = StandardScaler().fit(vectors[rows["train"]])
    x = {s: scale.transform(vectors[r]) for s, r in rows.items()}
    y = {s: asked.labels[r] for s, r in rows.items()}
    best, chosen = -1.0, None
    for strength in (0.01, 0.1, 1.0):
        model = LogisticRegression(C=strength, max_iter=300, random_state=seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(x["train"], y["train"])
        right = float((model.predict(x["validation"]) == y["validation"]).mean())
        if right > best:
            best, chosen = right, model
    assert chosen is not None
    found = np.zeros((len(x["test"]), len(asked.classes)))
    found[:, chosen.classes_] = chosen.predict_proba(x["test"])
    return found
