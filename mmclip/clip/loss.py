"""Contrastive loss of two views, with masks for objects that lack one."""

import torch
from torch import Tensor
from torch.nn import functional


def clip_loss(left: Tensor, right: Tensor, scale: Tensor, symmetric: str = "mean") -> Tensor:
    """Symmetric cross-entropy of telling which left vector belongs to which right one.

    Row i of both is the same star; every other row is a negative for it.

    Args:
        left, right: [stars, dim] unit vectors, at least one star.
        scale: Inverse temperature.
        symmetric: `mean` or `sum` of the two directions.

    Returns:
        Loss in nats, in float32; log(stars) per direction if the vectors carry no information.

    Source:
        Radford et al. 2021, arXiv:2103.00020, figure 3.
    """
    logits = scale.float() * (left.float() @ right.float().T)
    truth = torch.arange(len(left), device=left.device)
    both = functional.cross_entropy(logits, truth) + functional.cross_entropy(logits.T, truth)
    return both / 2 if symmetric == "mean" else both


def gaussian_loss(mean: Tensor, log_variance: Tensor, values: Tensor, mask: Tensor) -> Tensor:
    """Negative log-likelihood per observed pixel, in nats, without the constant.

    Args:
        mean, log_variance, values: [objects, pixels] in normalised units.
        mask: [objects, pixels], True where observed.
    """
    residual = torch.where(mask, values - mean, 0.0)
    each = 0.5 * (residual**2 * torch.exp(-log_variance) + log_variance)
    return (each * mask).sum() / mask.sum().clamp(min=1)
