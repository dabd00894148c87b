"""Three networks trained at once, their answers averaged.

Three hidden layers of 192, residual, SiLU, dropout 0.1; Huber loss; AdamW with decay 0.1, cosine
schedule. Without dropout and decay single stars outside the training set blow up.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mmclip.tasks.predict.heads import Floats, Head, Predict, Sample, State

BATCH, EPOCHS = 128, 100  # epochs at most
LARGE = 10_000  # stars
SHORTEST, LONGEST, FEWEST = 300, 2000, 40  # steps; epochs of a large sample
WARM = 0.03  # part of the steps in which the rate rises
LIMIT = 8.0  # deviations to which an input is limited
CHUNK = 4096


@dataclass(frozen=True)
class Network:
    """Shape and training of the networks."""

    members: int = 3
    width: int = 192
    hidden: int = 3
    dropout: float = 0.1
    decay: float = 0.1
    rate: float = 1.5e-3
    epochs: int = 100  # of a sample that is not large


def forward(
    x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor], dropout: float
) -> Tensor:
    """[members, n, d] -> [members, n, t]."""
    for i, (w, b) in enumerate(zip(weights, biases, strict=True)):
        y = torch.baddbmm(b, x, w)
        if i < len(weights) - 1:
            y = nn.functional.silu(y)
            if dropout:
                y = nn.functional.dropout(y, dropout)
            y = (x + y) * math.sqrt(0.5) if i else y
        x = y
    return x


def fit(sample: Sample, seed: int, like: State | None) -> State:
    """Networks on spectra in units of their errors, and all else.

    Of a large sample one network answers out of fold (`like` is given) where three answer others.
    """
    columns = sample.features(weighted=True)
    of = Network(members=1) if like is not None and len(sample.x) >= LARGE else Network()
    return train(sample, columns, sample.gain[columns], of, seed)


def train(
    sample: Sample, columns: NDArray[np.int64], gain: Floats, of: Network, seed: int
) -> State:
    """Trains all members on batches of their own order.

    Args:
        sample: The stars.
        columns: Features that are read; gain: [columns] what they are multiplied by.
        of: The networks.
        seed: Of weights, order and dropout.
    """
    inputs = np.clip(sample.x[:, columns] * gain, -LIMIT, LIMIT)
    centre = inputs.mean(axis=0)
    x = torch.tensor(inputs - centre, dtype=torch.float32)
    known = torch.tensor(np.isfinite(sample.y) * sample.weight[:, None], dtype=torch.float32)
    y = torch.tensor(np.nan_to_num(sample.y), dtype=torch.float32)
    generator = torch.Generator().manual_seed(seed)
    sizes = [x.shape[1], *([of.width] * of.hidden), y.shape[1]]
    weights, biases = [], []
    for i, (a, b) in enumerate(pairwise(sizes)):
        size = math.sqrt(2 / a) * (0.1 if i == of.hidden else 1.0)
        weights.append(nn.Parameter(torch.randn(of.members, a, b, generator=generator) * size))
        biases.append(nn.Parameter(torch.zeros(of.members, 1, b)))
    optimiser = torch.optim.AdamW(
        [{"params": weights, "weight_decay": of.decay}, {"params": biases, "weight_decay": 0.0}],
        of.rate,
    )
    batch = min(BATCH if len(x) < LARGE else 2 * BATCH, len(x))
    per = max(1, len(x) // batch)
    steps = max(SHORTEST, min(min(of.epochs, EPOCHS) * per, max(LONGEST, FEWEST * per)))
    state = torch.get_rng_state()
    torch.manual_seed(seed)
    order = torch.zeros(0)
    for step in range(steps):
        if step % per == 0:
            order = torch.stack([torch.randperm(len(x), generator=generator)
                                 for _ in range(of.members)])  # fmt: skip
        at = step % per * batch
        rows = order[:, at : at + batch]
        rise = min(1.0, (step + 1) / max(1.0, WARM * steps))
        for group in optimiser.param_groups:
            group["lr"] = of.rate * rise * 0.5 * (1 + math.cos(math.pi * step / steps))
        made = forward(x[rows], weights, biases, of.dropout)
        off = nn.functional.huber_loss(made, y[rows], reduction="none")
        loss = of.members * (off * known[rows]).sum() / known[rows].sum().clamp(min=1e-6)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    torch.set_rng_state(state)
    kept = {f"w{i}": w.detach().numpy() for i, w in enumerate(weights)}
    kept |= {f"b{i}": b.detach().numpy() for i, b in enumerate(biases)}
    return kept | {"gain": gain.astype(np.float32), "centre": centre.astype(np.float32),
                   "columns": columns}  # fmt: skip


def load(state: State) -> Predict:
    """The mean of the members."""
    layers = sum(name.startswith("w") for name in state)
    weights = [torch.tensor(state[f"w{i}"]) for i in range(layers)]
    biases = [torch.tensor(state[f"b{i}"]) for i in range(layers)]

    @torch.no_grad()
    def predict(asked: Floats) -> Floats:
        made = [np.zeros((0, weights[-1].shape[-1]))]
        for start in range(0, len(asked), CHUNK):
            x = asked[start : start + CHUNK, state["columns"]]
            x = np.clip(x * state["gain"], -LIMIT, LIMIT)
            one = torch.tensor(x - state["centre"], dtype=torch.float32)
            members = one[None].expand(len(weights[0]), -1, -1)
            made.append(forward(members, weights, biases, 0.0).mean(dim=0).double().numpy())
        return np.concatenate(made)

    return predict


HEAD = Head("mlp-ensemble", "three networks", fit, load, folds=3)
