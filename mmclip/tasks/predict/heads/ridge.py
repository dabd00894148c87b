"""Ridge regression, the penalty by leave-one-out."""

import numpy as np
from sklearn.linear_model import RidgeCV

from mmclip.tasks.predict.heads import Floats, Head, Predict, Sample, State

PENALTIES = np.logspace(-3, 4, 15)


def fit(sample: Sample, seed: int, like: State | None) -> State:
    """One line for each target."""
    columns = sample.features()
    gain = sample.gain[columns]
    x = sample.x[:, columns] * gain
    slope, zero = np.zeros((x.shape[1], sample.y.shape[1])), np.zeros(sample.y.shape[1])
    for j, y in enumerate(sample.y.T):
        known = np.isfinite(y)
        line = RidgeCV(PENALTIES).fit(x[known], y[known], sample_weight=sample.weight[known])
        slope[:, j], zero[j] = line.coef_, line.intercept_
    return {"slope": slope * gain[:, None], "zero": zero, "columns": columns}


def load(state: State) -> Predict:
    """A straight line."""

    def predict(asked: Floats) -> Floats:
        made: Floats = asked[:, state["columns"]] @ state["slope"] + state["zero"]
        return made

    return predict


HEAD = Head("ridge", "ridge regression", fit, load)
