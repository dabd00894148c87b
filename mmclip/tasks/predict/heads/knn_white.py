"""The mean of the 13 nearest training stars on 40 white components: each counts as much.

An opponent, as the plain network is; no photometry beside a spectrum.
"""

import numpy as np

from mmclip.tasks.predict.heads import Floats, Head, Predict, Sample, State, knn, leading

COMPONENTS = 40


def fit(sample: Sample, seed: int, like: State | None) -> State:
    """Keeps the stars."""
    columns = leading(sample, sample.features(spectra=True), COMPONENTS)
    deviation = sample.x[:, columns].std(axis=0)
    deviation[deviation == 0] = 1.0
    kept = {"x": sample.x[:, columns] / deviation, "y": sample.y.astype("f4")}
    return kept | {"columns": columns, "deviation": deviation}


def load(state: State) -> Predict:
    """Neighbours by the components over their deviations."""
    inside = knn.load(state | {"columns": np.arange(len(state["columns"]))})

    def predict(asked: Floats) -> Floats:
        return inside(asked[:, state["columns"]] / state["deviation"])

    return predict


HEAD = Head("knn-white", "13 nearest neighbours, white components", fit, load)
