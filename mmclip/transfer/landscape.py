"""The loss around a trained network, along two random filter-normalised directions."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn


def direction(net: nn.Module, seed: int) -> dict[str, Tensor]:
    """A random direction whose every filter is as long as the network's own.

    The filter of a weight matrix is its row, of a convolution its kernel; biases and other vectors
    do not move.

    Source:
        Li et al. 2018, arXiv:1712.09913, section 4.
    """
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for name, weight in net.named_parameters():
        random = torch.randn(weight.shape, generator=generator).to(weight.device)
        if weight.ndim < 2:
            found[name] = torch.zeros_like(weight)
            continue
        axes = tuple(range(1, weight.ndim))
        own = weight.detach().norm(dim=axes, keepdim=True)
        found[name] = random * own / random.norm(dim=axes, keepdim=True).clamp(min=1e-12)
    return found


@torch.no_grad()
def surface(
    net: nn.Module, loss: Callable[[], Tensor], steps: int = 21, reach: float = 1.0, seed: int = 42
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Loss at w + a d1 + b d2 for a and b from -reach to reach.

    Args:
        net: In evaluation mode; its weights are put back exactly.
        loss: Of the network as it then is.
        steps: Places on each axis; odd, so that the middle is the network itself.
        reach: In lengths of the network's own filters.

    Returns:
        Axis [steps] and losses [steps, steps]; row i is b = axis[i], column j is a = axis[j].
    """
    kept = {n: p.detach().clone() for n, p in net.named_parameters()}
    first, second = direction(net, seed), direction(net, seed + 1)
    axis = np.linspace(-reach, reach, steps)
    losses = np.empty((steps, steps))
    for i, b in enumerate(axis):
        for j, a in enumerate(axis):
            for name, parameter in net.named_parameters():
                parameter.copy_(kept[name] + float(a) * first[name] + float(b) * second[name])
            losses[i, j] = loss().item()
    for name, parameter in net.named_parameters():
        parameter.copy_(kept[name])
    return axis, losses
