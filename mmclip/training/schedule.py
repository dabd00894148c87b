"""Learning rates and stopping: pure functions of the step and of the epochs that lie behind.

Nothing here holds state, so a resumed training computes what the uninterrupted one did.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Plan:
    """What a schedule needs of the settings; see `TrainConfig` for the meaning."""

    schedule: str = "cosine"
    learning_rate: float = 1e-3
    learning_rates: tuple[float, ...] = ()
    cycles: int = 1
    warm_up: float = 0.05
    warm_up_from_zero: bool = False
    warm_up_epochs: int = 0
    warm_up_start: float = 1e-5
    plateau_factor: float = 0.5
    plateau_patience: int = 5


def bounds(steps: int, parts: int) -> list[int]:
    """Where each of `parts` runs or cycles begins, and the end."""
    return [steps * i // parts for i in range(parts + 1)]


def restarts(steps: int, plan: Plan) -> list[int]:
    """Steps at which a new run begins and the optimiser is reset."""
    return bounds(steps, max(1, len(plan.learning_rates)))[1:-1]


def cosine(step: int, steps: int, plan: Plan) -> float:
    """Runs of cycles, each a linear warm-up to the run's peak and a cosine to zero.

    Source:
        Loshchilov & Hutter 2017, arXiv:1608.03983, equation 5; the four runs of Schwarz & Buck
        2024, arXiv:2410.16081, table 1.
    """
    peaks = plan.learning_rates or (plan.learning_rate,)
    runs = bounds(steps, len(peaks))
    run = next(i for i in range(len(peaks)) if step < runs[i + 1] or i == len(peaks) - 1)
    edges = [runs[run] + e for e in bounds(runs[run + 1] - runs[run], plan.cycles)]
    cycle = max(i for i in range(plan.cycles) if step >= edges[i])
    within, length = step - edges[cycle], edges[cycle + 1] - edges[cycle]
    warm = max(1, round(plan.warm_up * length))
    if within < warm:
        return peaks[run] * (within if plan.warm_up_from_zero else within + 1) / warm
    done = (within - warm) / max(1, length - warm)
    return peaks[run] * 0.5 * (1 + math.cos(math.pi * done))


def half_cosine(step: int, steps: int, peak: float) -> float:
    """From the peak at the first step to zero after the last, without a warm-up."""
    return peak * 0.5 * (1 + math.cos(math.pi * (step / steps)))


def stalls(losses: Sequence[float], patience: int) -> int:
    """How often more than `patience` epochs in a row, counted anew each time, had no lower loss."""
    lowest, waited, found = math.inf, 0, 0
    for loss in losses:
        if loss < lowest:
            lowest, waited = loss, 0
            continue
        waited += 1
        if waited > patience:
            found, waited = found + 1, 0
    return found


def plateau(epoch: int, watched: Sequence[float], plan: Plan) -> float:
    """A linear warm-up by epochs, then a rate cut each time the watched loss stands still.

    Args:
        epoch: From 0.
        watched: The loss after each epoch so far.

    Returns:
        The rate: what `torch.optim.lr_scheduler.LinearLR` followed by `ReduceLROnPlateau` (mode
        min, relative threshold 1e-4, first asked after the warm-up) would give.
    """
    if epoch < plan.warm_up_epochs:
        part = plan.warm_up_start + (1 - plan.warm_up_start) * epoch / plan.warm_up_epochs
        return plan.learning_rate * part
    rate, best, bad = plan.learning_rate, math.inf, 0
    for loss in watched[plan.warm_up_epochs : epoch]:
        if loss < best * (1 - 1e-4):
            best, bad = loss, 0
        else:
            bad += 1
        if bad > plan.plateau_patience:
            lower, bad = rate * plan.plateau_factor, 0
            rate = lower if rate - lower > 1e-8 else rate
    return rate


def stopped(losses: Sequence[float], patience: int, first: int = 0) -> bool:
    """Whether the last epoch is the `patience`-th in a row without a lower loss.

    Args:
        losses: Validation loss of each epoch.
        patience: 0 never stops.
        first: What the counter holds after the first epoch (1 in AstroM3's public code).
    """
    best, waited = math.inf, 0
    for number, loss in enumerate(losses):
        if number == 0:
            best, waited = loss, first
        elif loss < best:
            best, waited = loss, 0
        else:
            waited += 1
        if patience and waited >= patience:
            return True
    return False
