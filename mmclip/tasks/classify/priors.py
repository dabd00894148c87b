"""Probabilities of classes made honest: temperature, blends, shares of classes in the sample."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Soft = NDArray[np.float64]  # [objects, classes] probabilities
FLOOR = 1e-3  # of a probability, so that no class is ever ruled out
LEAST = 1e-4  # of a probability whose logarithm is averaged
STEPS = 200


def tempered(soft: Soft, temperature: float) -> Soft:
    """Probabilities as of logits divided by a temperature; above 1 they are less certain."""
    scaled = np.maximum(soft, 1e-6) ** (1 / temperature)
    return np.asarray(scaled / scaled.sum(axis=1, keepdims=True))


def temperature(soft: Soft, truth: NDArray[np.int64]) -> float:
    """The temperature of lowest log loss on objects of known class, between 1/4 and 4.

    Source:
        Guo et al. 2017, arXiv:1706.04599.
    """
    grid = np.geomspace(0.25, 4, 49)
    return float(grid[int(np.argmin([log_loss(tempered(soft, t), truth) for t in grid]))])


def log_loss(soft: Soft, truth: NDArray[np.int64]) -> float:
    """Mean of -ln p of the true class, nats."""
    return float(-np.log(np.maximum(soft[np.arange(len(truth)), truth], 1e-12)).mean())


def blended(parts: Sequence[Soft], validation: Sequence[Soft], truth: NDArray[np.int64]) -> Soft:
    """Weighted geometric mean of several classifiers, brought to sum 1.

    Log probabilities are averaged: a class that one classifier all but rules out stays unlikely.
    The weights are the tenths of lowest log loss on the validation objects.
    """
    best, chosen = np.inf, None
    logs = np.log(np.maximum(np.stack(validation), LEAST))
    for weights in _weights(len(parts), 10):
        loss = log_loss(_mean(weights, logs), truth)
        if loss < best:
            best, chosen = loss, weights
    assert chosen is not None
    if 10 in chosen:
        return parts[chosen.index(10)]
    return _mean(chosen, np.log(np.maximum(np.stack(parts), LEAST)))


def _mean(tenths: Sequence[int], logs: NDArray[np.float64]) -> Soft:
    made = np.exp(np.tensordot(np.array(tenths) / 10, logs, axes=1))
    return np.asarray(made / made.sum(axis=1, keepdims=True))


def _weights(count: int, total: int) -> list[tuple[int, ...]]:
    """Every way to share a total among so many parts."""
    if count == 1:
        return [(total,)]
    return [(first, *rest) for first in range(total + 1)
            for rest in _weights(count - 1, total - first)]  # fmt: skip


def shares(soft: Soft, before: NDArray[np.float64]) -> NDArray[np.float64]:
    """[classes] shares of the classes in a sample whose classes are unknown.

    Expectation-maximisation: the mean probability of each class, with the probabilities moved to
    these shares, until both agree.

    Args:
        soft: Probabilities of the sample, by a classifier trained where the shares were `before`.
        before: [classes].

    Source:
        Saerens, Latinne & Decaestecker 2002 (Neural Computation 14, 21).
    """
    start = _floored(soft)
    found = before.copy()
    for _ in range(STEPS):
        found = moved(start, before, found).mean(axis=0)
    return found


def moved(soft: Soft, before: NDArray[np.float64], after: NDArray[np.float64]) -> Soft:
    """Probabilities under other shares of the classes: Bayes' theorem; a class of none stays so."""
    ratio = np.divide(after, before, out=np.zeros_like(after), where=before > 0)
    weighted = soft * ratio
    return np.asarray(weighted / np.maximum(weighted.sum(axis=1, keepdims=True), 1e-300))


def _floored(soft: Soft) -> Soft:
    raised = np.maximum(soft, FLOOR)
    return np.asarray(raised / raised.sum(axis=1, keepdims=True))


def to_sample(soft: Soft, sample: Soft, before: NDArray[np.float64]) -> Soft:
    """Probabilities moved to the shares of a sample, estimated from the sample itself."""
    return moved(_floored(soft), before, shares(sample, before))
