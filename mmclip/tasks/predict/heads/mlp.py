"""A plain network on 40 white components: what a careful reader would try first.

Two hidden layers of 128, Huber loss, 80 epochs, the mean of three; no photometry beside a spectrum.
It is an opponent, which `auto` does not try: without dropout and decay single stars blow up.
"""

import numpy as np

from mmclip.tasks.predict.heads import Head, Sample, State
from mmclip.tasks.predict.heads.mlp_ensemble import Network, load, train

COMPONENTS = 40
PLAIN = Network(width=128, hidden=2, dropout=0.0, decay=1e-4, rate=2e-3, epochs=80)


def fit(sample: Sample, seed: int, like: State | None) -> State:
    """Networks on the first components, each of deviation 1."""
    columns = sample.features(spectra=True)[:COMPONENTS]
    deviation = sample.x[:, columns].std(axis=0, dtype=np.float64)
    gain = 1 / np.where(deviation > 0, deviation, 1.0)
    return train(sample, columns, gain, PLAIN, seed)


HEAD = Head("mlp", "plain network, 40 components", fit, load, folds=3)
