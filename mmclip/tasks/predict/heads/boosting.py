"""Gradient boosting of histograms: one model a number, one for all classes of a label.

Of spectra it reads 40 components, those of largest variance. Of a star with draws (measures of
random parts of its light curve) it reads all.

A fitted head holds nothing but numbers: LightGBM's classifier as the bytes of its text, and of
scikit-learn's models the training stars, from which the same seed grows the same trees when the
head is opened.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingRegressor

from mmclip.tasks.classify import priors, trees
from mmclip.tasks.predict.heads import Floats, Head, Predict, Sample, State, leading

TREES, RATE, LEAVES = 200, 0.07, 31
COMPONENTS = 40  # of spectra, those of largest variance


def fit(sample: Sample, seed: int, like: State | None) -> State:
    """Keeps the stars, and LightGBM's models of classes where it is installed.

    Returns:
        `x` [(1 + draws) n, d], draw by draw, `columns`, `y` [n, t], `weight` [n], `seed`,
        `classes` [labels, 2] ranges of targets, and `model FIRST` [bytes] of the label whose
        classes begin with target FIRST.
    """
    columns = leading(sample, sample.features(), COMPONENTS)
    made: State = {
        "x": np.concatenate(sample.every[..., columns]), "columns": columns,
        "y": sample.y.astype(np.float32),
        "weight": np.asarray(sample.weight), "seed": np.array(seed),
        "classes": np.array(sample.classes, np.int64).reshape(-1, 2),
    }  # fmt: skip
    for first, after in sample.classes if trees.lightgbm() else ():
        text = trees.as_text(_classifier(made, first, after))
        made[f"model {first}"] = np.frombuffer(text.encode(), np.uint8)
    return made


def _classifier(state: State, first: int, after: int) -> Any:
    known, _, codes = _classes(state, first, after)
    x, draws = _known(state, known)
    codes, weight = (np.tile(a, draws) for a in (codes, state["weight"][known]))
    return trees.boosted(x, codes, int(state["seed"].flat[0]), weight, draws)


def _known(state: State, known: NDArray[np.bool_]) -> tuple[NDArray[Any], int]:
    """Features of some stars ([n]) in every draw, draw by draw, and how many these are."""
    every = state["x"].reshape(-1, len(known), state["x"].shape[1])
    return np.concatenate(every[:, known]), len(every)


def _classes(
    state: State, first: int, after: int
) -> tuple[NDArray[np.bool_], NDArray[np.int64], NDArray[np.int64]]:
    """[n] whose class is known; the classes among them; which of these each has."""
    known = np.isfinite(state["y"][:, first])
    present, codes = np.unique(state["y"][known, first:after].argmax(axis=1), return_inverse=True)
    return known, present, codes


def load(state: State) -> Predict:
    """Grows the trees that are not stored.

    Raises:
        MissingExtra: If LightGBM grew them and is not installed.
    """
    ranges = [(int(a), int(b)) for a, b in state.get("classes", ())]
    seed, models, classifiers = int(state["seed"].flat[0]), {}, []
    for first, after in ranges:
        text = state.get(f"model {first}")
        model = (_classifier(state, first, after) if text is None
                 else trees.from_text(text.tobytes().decode()))  # fmt: skip
        classifiers.append((first, _classes(state, first, after)[1], model))
    of_class = {j for first, after in ranges for j in range(first, after)}
    for j, y in enumerate(state["y"].T):
        if j in of_class:
            continue
        known = np.isfinite(y)
        model = HistGradientBoostingRegressor(
            max_iter=TREES, learning_rate=RATE, max_leaf_nodes=LEAVES, random_state=seed,
            early_stopping=False,
        )  # fmt: skip
        x, draws = _known(state, known)
        models[j] = model.fit(x, *(np.tile(a[known], draws) for a in (y, state["weight"])))

    def predict(asked: Floats) -> Floats:
        x = asked[:, state["columns"]]
        made = np.full((len(x), state["y"].shape[1]), np.log(priors.LEAST))
        for j, model in models.items():
            made[:, j] = model.predict(x)
        for first, present, model in classifiers:
            made[:, first + present] = np.log(np.maximum(trees.chances(model, x), priors.LEAST))
        return made

    return predict


HEAD = Head("boosting", "gradient boosting", fit, load, folds=3, draws=True)
