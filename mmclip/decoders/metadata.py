"""Photometry and labels with missing values: a correlated Gaussian, marginalised exactly.

Magnitudes rise and fall together, and colours are their differences, so independent errors a
column would be wrong. The covariance is diag(d) + V V^T with `RANK` columns; the likelihood of a
star uses the rows of its observed quantities alone, which is the exact marginal of a Gaussian.
"""

import math

import torch
from torch import Tensor, nn

from mmclip.decoders import Decoder

HIDDEN, RANK = (256, 256), 4
ABSOLUTE = 5.0  # weight of the absolute deviation, as in `flow`
LOG_VARIANCE = (-8.0, 6.0)  # of d, in normalised units


class Metadata(nn.Module):
    """D -> 256 -> 256 -> mean [L]; and, by a net of its own, log d [L] and V [L, RANK]."""

    def __init__(self, dimension: int, size: tuple[int, ...]) -> None:
        super().__init__()
        first, second = HIDDEN
        self.length = math.prod(size)
        widths = {"mean": self.length, "spread": self.length * (1 + RANK)}
        self.nets = nn.ModuleDict({
            name: nn.Sequential(
                nn.Linear(dimension, first), nn.GELU(), nn.Linear(first, second), nn.GELU(),
                nn.Linear(second, width),
            )
            for name, width in widths.items()
        })  # fmt: skip

    def parts(self, vectors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Mean [B, L], d [B, L] and V [B, L, RANK]."""
        scaled = vectors * vectors.shape[-1] ** 0.5
        mean = self.nets["mean"](scaled)
        log_d, factor = self.nets["spread"](scaled).split([self.length, self.length * RANK], dim=1)
        d = torch.exp(torch.clamp(log_d, *LOG_VARIANCE))
        return mean, d, factor.unflatten(1, (self.length, RANK))

    def forward(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        mean, d, factor = self.parts(vectors)
        return mean, torch.log(d + (factor**2).sum(dim=2))


def likelihood(residual: Tensor, d: Tensor, factor: Tensor, mask: Tensor) -> Tensor:
    """Negative log-likelihood of the observed quantities, per quantity, without the constant.

    With W = V^T diag(1/d) V + 1 over the observed rows (Woodbury and the determinant lemma):
    2 NLL = sum ln d + ln det W + r^T diag(1/d) r - b^T W^-1 b, b = V^T diag(1/d) r.
    """
    precision = torch.where(mask, 1 / d, 0.0)
    weighted = factor * precision[:, :, None]
    inner = factor.transpose(1, 2) @ weighted + torch.eye(RANK, device=d.device)
    root = torch.linalg.cholesky(inner)
    b = torch.einsum("blr,bl->br", weighted, residual)[:, :, None]
    solved = torch.linalg.solve_triangular(root, b, upper=False)
    log_det = 2 * torch.log(torch.diagonal(root, dim1=1, dim2=2)).sum(dim=1)
    log_d = torch.where(mask, torch.log(d), 0.0).sum(dim=1)
    distance = (residual**2 * precision).sum(dim=1) - (solved**2).sum(dim=(1, 2))
    loss: Tensor = 0.5 * (log_d + log_det + distance).sum() / mask.sum().clamp(min=1)
    return loss


def loss(module: nn.Module, vectors: Tensor, values: Tensor, mask: Tensor) -> Tensor:
    """The likelihood for the covariance, the absolute deviation for the mean.

    The likelihood does not train the mean: where colours are differences of magnitudes the
    covariance is near singular, and the mean would follow its stiff directions alone.
    """
    assert isinstance(module, Metadata)
    mean, d, factor = module.parts(vectors)
    residual = torch.where(mask, values - mean, 0.0)
    absolute = residual.abs().sum() / mask.sum().clamp(min=1)
    return likelihood(residual.detach(), d, factor, mask) + ABSOLUTE * absolute


def noise(module: nn.Module) -> int:
    """L independent numbers, then RANK shared ones."""
    assert isinstance(module, Metadata)
    return module.length + RANK


def sample(module: nn.Module, vectors: Tensor, noise: Tensor) -> Tensor:
    """mean + sqrt(d) e + V f, with the standard normal e [B, L] and f [B, RANK]."""
    assert isinstance(module, Metadata)
    mean, d, factor = module.parts(vectors)
    own, shared = noise.split([module.length, RANK], dim=1)
    drawn: Tensor = mean + torch.sqrt(d) * own + torch.einsum("blr,br->bl", factor, shared)
    return drawn


DECODER = Decoder("metadata", Metadata, loss=loss, noise=noise, sample=sample)
