"""What a decoder can be trained by; every loss is a mean over observed entries alone."""

import torch
from torch import Tensor, nn


def mean_square(module: nn.Module, vectors: Tensor, values: Tensor, mask: Tensor) -> Tensor:
    """Mean of (x - x^)^2 over observed entries."""
    residual = torch.where(mask, values - module(vectors)[0], 0.0)
    return (residual**2).sum() / mask.sum().clamp(min=1)


def inverse_variance(
    mean: Tensor, values: Tensor, mask: Tensor, error: Tensor, floor: float = 0.0
) -> Tensor:
    """1/2 mean(ivar (x - x^)^2) over observed entries with a known error.

    Args:
        mean, values, error: [B, L]; `error` is 1-sigma, entries that are not positive and finite
            carry no weight.
        mask: [B, L], True where observed.
        floor: Added to every error in quadrature, so that one bright star does not rule.

    Source:
        Melchior et al. 2023, arXiv:2211.07890, equation 1 (fidelity).
    """
    known = mask & torch.isfinite(error) & (error > 0)
    variance = torch.where(known, error, 1.0) ** 2 + floor**2
    square = torch.where(known, values - mean, 0.0) ** 2 / variance
    return 0.5 * square.sum() / known.sum().clamp(min=1)


def gaussian(module: nn.Module, vectors: Tensor, values: Tensor, mask: Tensor) -> Tensor:
    """Negative log-likelihood per observed entry, in nats, without the constant."""
    mean, log_variance = module(vectors)
    residual = torch.where(mask, values - mean, 0.0)
    each = 0.5 * (residual**2 * torch.exp(-log_variance) + log_variance)
    total: Tensor = (each * mask).sum() / mask.sum().clamp(min=1)
    return total
