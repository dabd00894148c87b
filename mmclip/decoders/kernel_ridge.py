"""Kernel ridge regression from the views themselves, in closed form; nothing is learned by steps.

1. A spectrum is written in the first principal components of arcsinh(flux / 0.3), another view in
   those of its values. Each is the kernel regression (Matern 3/2) of the features of the input
   on training stars. A star counts by 1 / max(1, 120 / S/N)^2.
2. The size of a residual is regressed in the same way: the first components of log |residual|,
   the residual of a star being that of the regression without it.
3. Draws are of the covariance of the residuals in units of that size.

Of many training stars 4,096, evenly spread, are the centres of kernels that all are fitted with.

Source: Rasmussen & Williams 2006, Gaussian Processes for Machine Learning, equations 2.25, 4.17
and section 8.3.3 (projected processes).
"""

import math

import torch
from torch import Tensor, nn

from mmclip.decoders import Decoder, Known

COMPONENTS, SIZES, DRAWN = 40, 8, 32  # of the view, of log |residual|, of the draws
CENTRES = 4096
SOFT = 0.3  # of a flux over its median
FAINT, LEAST = 120.0, 5.0  # S/N below which a star counts less, and the least that is told apart
RIDGE, SMOOTH = 0.03, 3.0  # of the view, of the sizes
JITTER = 1e-6
CHUNK = 2048
LOG_NORMAL = 0.635  # minus the mean of log |z| of a normal deviate


class KernelRidge(nn.Module):
    """Features [B, D] -> mean and log variance of L entries."""

    keys: Tensor  # [A, D] features of the centres
    weight: Tensor  # [A, K + Q]
    held: Tensor  # [] how many centres there are; below them are zeros
    length: Tensor  # [] of the kernel
    soft: Tensor  # [] flux in units of the view that arcsinh is linear below; 0: no arcsinh
    centre: Tensor  # [L] what undoes the normalisation; scale: [L]
    scale: Tensor
    middle: Tensor  # [L] mean of the transformed view; components: [K, L]
    components: Tensor
    typical: Tensor  # [L] mean log |residual|; sizes: [Q, L]
    sizes: Tensor
    root: Tensor  # [R, L] of the covariance of residuals; rest: [L] what it leaves over
    rest: Tensor

    def __init__(self, dimension: int, size: tuple[int, ...]) -> None:
        super().__init__()
        length = math.prod(size)
        shapes: dict[str, tuple[int, ...]] = {
            "keys": (CENTRES, dimension), "weight": (CENTRES, COMPONENTS + SIZES), "held": (),
            "length": (), "soft": (), "centre": (length,), "scale": (length,), "middle": (length,),
            "components": (COMPONENTS, length), "typical": (length,), "sizes": (SIZES, length),
            "root": (DRAWN, length), "rest": (length,),
        }  # fmt: skip
        for name, shape in shapes.items():
            self.register_buffer(name, torch.zeros(shape))
        for name in ("length", "scale", "rest"):
            getattr(self, name).fill_(1.0)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        held = int(self.held)
        made = matern(x, self.keys[:held], self.length) @ self.weight[:held]
        log_size = self.typical + made[:, COMPONENTS:] @ self.sizes
        return self.view(made[:, :COMPONENTS]), 2 * log_size

    def view(self, coefficients: Tensor) -> Tensor:
        """Coefficients [B, K] -> entries [B, L]."""
        made = self.middle + coefficients @ self.components
        if not self.soft:
            return made
        return (torch.sinh(made) * self.soft - self.centre) / self.scale

    def transformed(self, values: Tensor) -> Tensor:
        """Entries [B, L] as their components are found from."""
        return torch.asinh((values * self.scale + self.centre) / self.soft) if self.soft else values


def matern(a: Tensor, b: Tensor, length: Tensor) -> Tensor:
    """Kernel (1 + sqrt(3) r / l) exp(-sqrt(3) r / l), [len(a), len(b)]."""
    scaled = math.sqrt(3) / length * torch.cdist(a, b)
    return (1 + scaled) * torch.exp(-scaled)


@torch.no_grad()
def solve(module: nn.Module, x: Tensor, known: Known) -> Tensor:
    """Set everything from training stars: features x [B, D] and their view."""
    assert isinstance(module, KernelRidge)
    module.soft.fill_(SOFT if known.flux else 0.0)
    module.centre.copy_(known.centre)
    module.scale.copy_(known.scale)
    target = module.transformed(known.values).double()
    mask = known.mask & torch.isfinite(target)
    module.middle.copy_(_mean(target, mask))
    basis, y = _components(target - module.middle, mask, COMPONENTS)
    module.components[: len(basis)] = basis
    snr = torch.nan_to_num(known.snr.double(), nan=FAINT)
    weight = 1 / torch.clamp(FAINT / snr.clamp(min=LEAST), min=1.0) ** 2
    keys = x[_spread(len(x), CENTRES)]
    some = x[_spread(len(x), 300)]
    module.length.copy_(torch.cdist(some, some).median().clamp(min=1e-6))
    module.keys[: len(keys)] = keys
    module.held.fill_(len(keys))
    features = _Features(x.double(), keys.double(), module.length.double())
    alpha, solved, lower = features.regress(y, weight, RIDGE)
    fitted, leverage = features.answers(solved, lower, weight)
    module.weight[: len(keys), : y.shape[1]] = alpha.float()
    left = y - (y - fitted) / (1 - leverage)[:, None]
    alone: Tensor = module.view(nn.functional.pad(left, (0, COMPONENTS - y.shape[1])).float())
    residual = known.values - alone
    _sizes(module, features, residual, known.mask, len(keys))
    sigma = torch.exp(0.5 * module.forward(x)[1])
    _draws(module, torch.where(known.mask, residual / sigma, 0.0))
    return alone


class _Features:
    """Kernels of stars around centres, turned so that their plain ridge is that of the kernels."""

    def __init__(self, x: Tensor, keys: Tensor, length: Tensor) -> None:
        own = matern(keys, keys, length)
        own.diagonal().add_(JITTER * len(keys) ** 0.5)
        self.x, self.keys, self.length = x, keys, length
        self.root = torch.linalg.cholesky(own)

    def chunk(self, start: int) -> Tensor:
        """[chunk, A] of some stars."""
        kernel = matern(self.x[start : start + CHUNK], self.keys, self.length)
        turned: Tensor = torch.linalg.solve_triangular(self.root, kernel.T, upper=False)
        return turned.T

    def regress(self, y: Tensor, weight: Tensor, ridge: float) -> tuple[Tensor, Tensor, Tensor]:
        """Weights [A, K] of the kernels; of the features [A, K]; what `answers` needs, [A, A]."""
        count = len(self.keys)
        normal = ridge * torch.eye(count, dtype=torch.float64)
        right = torch.zeros(count, y.shape[1], dtype=torch.float64)
        for start in range(0, len(y), CHUNK):
            part, w = self.chunk(start), weight[start : start + CHUNK, None]
            normal += part.T @ (w * part)
            right += part.T @ (w * y[start : start + CHUNK])
        lower = torch.linalg.cholesky(normal)
        solved = torch.cholesky_solve(right, lower)
        return torch.linalg.solve_triangular(self.root.T, solved, upper=True), solved, lower

    def answers(self, solved: Tensor, lower: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Answers [B, K] for the stars, and their leverage [B]."""
        fitted, leverage = [], []
        for start in range(0, len(self.x), CHUNK):
            part = self.chunk(start)
            fitted.append(part @ solved)
            inside = torch.linalg.solve_triangular(lower, part.T, upper=False)
            leverage.append(weight[start : start + CHUNK] * (inside**2).sum(dim=0))
        return torch.cat(fitted), torch.cat(leverage).clamp(max=0.999)


def _sizes(
    module: KernelRidge, features: _Features, residual: Tensor, mask: Tensor, count: int
) -> None:
    """The regression of log |residual|, with a floor for what agrees by chance."""
    size = torch.where(mask, residual.abs(), torch.nan)
    floor = 0.1 * size.nanmedian(dim=0).values.nan_to_num(1.0).clamp(min=1e-6)
    log = torch.log(residual.abs() + floor).double() + LOG_NORMAL
    module.typical.copy_(_mean(log, mask))
    basis, y = _components(log - module.typical, mask, SIZES)
    module.sizes[: len(basis)] = basis
    ones = torch.ones(len(y), dtype=torch.float64)
    alpha = features.regress(y, ones, SMOOTH)[0]
    module.weight[:count, COMPONENTS : COMPONENTS + y.shape[1]] = alpha.float()


def _draws(module: KernelRidge, z: Tensor) -> None:
    """Covariance of residuals [B, L] in units of their size, scaled to that size."""
    z = z.clamp(-5, 5).double()
    basis, along = _components(z, torch.ones_like(z, dtype=torch.bool), DRAWN)
    root = basis * along.std(dim=0, correction=0)[:, None]
    rest = (z - along @ basis).std(dim=0, correction=0)
    whole = torch.sqrt((root**2).sum(dim=0) + rest**2).clamp(min=1e-9)
    module.root[: len(root)] = root / whole
    module.rest.copy_(rest / whole)


def _mean(values: Tensor, mask: Tensor) -> Tensor:
    return torch.where(mask, values, 0.0).sum(dim=0) / mask.sum(dim=0).clamp(min=1)


def _components(away: Tensor, mask: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """Orthonormal rows [K, L] and the coefficients [B, K]; what is not known counts as the mean."""
    away = torch.where(mask, away, 0.0)
    variance, turn = torch.linalg.eigh(away.T @ away)
    kept = min(most, int((variance > 1e-9 * variance[-1]).sum()))
    basis = turn.flip(1)[:, :kept].T
    return basis, away @ basis.T


def _spread(rows: int, most: int) -> Tensor:
    """At most `most` of `rows` places, evenly spread, none twice."""
    return torch.linspace(0, rows - 1, min(rows, most), dtype=torch.float64).long()


def noise(module: nn.Module) -> int:
    """Numbers for the covariance, then for what it leaves over."""
    assert isinstance(module, KernelRidge)
    return DRAWN + len(module.rest)


def sample(module: nn.Module, x: Tensor, noise: Tensor) -> Tensor:
    """The mean and residuals of the training stars' covariance."""
    assert isinstance(module, KernelRidge)
    mean, log_variance = module(x)
    drawn = noise[:, :DRAWN] @ module.root + noise[:, DRAWN:] * module.rest
    made: Tensor = mean + torch.exp(0.5 * log_variance) * drawn
    return made


DECODER = Decoder("kernel-ridge", KernelRidge, noise=noise, sample=sample, solve=solve)
