"""Gradient boosting of histograms, one model a target, on 40 components of spectra and all else.

A fitted head keeps its training stars and grows the trees again when it is opened: the same seed
gives the same trees, and no file holds anything but numbers.
"""

import numpy as np
from sklearn.ensemble import HistGradientBoostingRegressor

from mmclip.tasks.predict.heads import Floats, Head, Predict, Sample, State, leading

TREES, RATE, LEAVES = 200, 0.07, 31
COMPONENTS = 40  # of spectra, those of largest variance


def fit(sample: Sample, seed: int, like: State | None) -> State:
    """Keeps the stars."""
    columns = leading(sample, sample.features(), COMPONENTS)
    return {
        "x": sample.x[:, columns], "columns": columns, "y": sample.y.astype(np.float32),
        "weight": np.asarray(sample.weight), "seed": np.array(seed),
    }  # fmt: skip


def load(state: State) -> Predict:
    """Grows the trees."""
    models = []
    for y in state["y"].T:
        known = np.isfinite(y)
        model = HistGradientBoostingRegressor(
            max_iter=TREES, learning_rate=RATE, max_leaf_nodes=LEAVES,
            random_state=int(state["seed"].flat[0]), early_stopping=False,
        )  # fmt: skip
        models.append(model.fit(state["x"][known], y[known], state["weight"][known]))

    def predict(asked: Floats) -> Floats:
        return np.stack([m.predict(asked[:, state["columns"]]) for m in models], axis=1)

    return predict


HEAD = Head("boosting", "gradient boosting", fit, load, folds=3)
