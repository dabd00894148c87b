"""Order of training objects and seeds of random numbers: functions of (seed, epoch, step) alone."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def mix(seed: int, step: int) -> int:
    """The seed of every random number of a step, in [0, 2^63)."""
    words = np.random.SeedSequence((seed, step)).generate_state(1, np.uint64)
    return int(words[0] >> np.uint64(1))


def shuffled(rows: NDArray[Any], seed: int, epoch: int) -> NDArray[Any]:
    """The training rows in the order in which an epoch sees them."""
    return np.random.default_rng((seed, epoch)).permutation(rows)
