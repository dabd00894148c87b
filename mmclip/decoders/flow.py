"""A distribution over whole spectra: conditional flow matching on PCA coefficients.

1. The view is written in its first principal components, each divided by its robust spread.
2. The mean of the coefficients is that of remembered training stars, weighted by
   softmax(cosine / tau) (kernel regression, tau learned), plus the correction of a network; the
   network gives their scales too. Both are trained by the likelihood of Student's t with four
   degrees of freedom, since a few hot stars lie 50 robust spreads away from all others, and the
   mean also by the absolute deviation of the entries.
3. A rectified flow carries standard normal numbers to the residuals, made normal by the
   probability integral transform of that t; they need be neither normal nor independent.
4. What the components leave over is noise, every pixel by itself.

Draws are of what the survey would have observed: its noise is learned with the stars.

The velocity field is a(t) x + correction(x, t, vector), a(t) = (2t - 1) / (t^2 + (1 - t)^2). For
independent normal residuals the first term alone is exact and carries every number to itself, so
a flow whose correction is zero draws from the t distributions.

Source: Lipman et al. 2023, arXiv:2210.02747; Liu et al. 2023, arXiv:2209.03003 (straight paths
x_t = (1 - t) x_0 + t x_1 with the target x_1 - x_0). Quantile of t with four degrees of freedom:
Shaw 2006, Journal of Computational Finance 9(4), 37.
"""

import math

import torch
from torch import Tensor, nn

from mmclip.decoders import Decoder

COMPONENTS, REMEMBERED = 32, 4096
HIDDEN, CORRECTION, TIMES = 256, 256, 8
STEPS = 8  # of Heun's method: 16 evaluations a draw
LOG_SCALE2 = (-8.0, 6.0)  # of coefficients, squared scale of t
ABSOLUTE = 5.0  # weight of the absolute deviation of the mean, in typical deviations
COSINE_SCALE = 20.0  # 1 / tau at the start
ITSELF = 0.999999  # a remembered star of higher cosine is the star that is asked for: left out
DAMPING = 1.0001  # of the least squares, so that a view that is nearly all gaps has a solution
MOST = 20000  # rows the components are found from
FARTHEST = 4.5  # standard normal deviates beyond are taken as this


class Flow(nn.Module):
    """Vectors [B, D] -> mean and log variance of L entries; K coefficients, A stars remembered."""

    centre: Tensor  # [L]
    components: Tensor  # [K, L], orthonormal rows; a row of zeros where the data had no more
    scale: Tensor  # [K] robust spread of each coefficient
    typical: Tensor  # [L] median size of an entry's deviation from its median
    rest: Tensor  # [L] standard deviation of what the components leave over
    keys: Tensor  # [A, D] vectors of the remembered stars; zeros where there are fewer
    memory: Tensor  # [A, K] their coefficients
    held: Tensor  # [] how many there are

    def __init__(self, dimension: int, size: tuple[int, ...]) -> None:
        super().__init__()
        length = math.prod(size)
        self.kept = kept = min(COMPONENTS, length)
        self.register_buffer("centre", torch.zeros(length))
        self.register_buffer("components", torch.eye(kept, length))
        self.register_buffer("scale", torch.ones(kept))
        self.register_buffer("typical", torch.ones(length))
        self.register_buffer("rest", torch.full((length,), 1e-4))
        self.register_buffer("keys", torch.zeros(REMEMBERED, dimension))
        self.register_buffer("memory", torch.zeros(REMEMBERED, kept))
        self.register_buffer("held", torch.tensor(0))
        self.log_cosine_scale = nn.Parameter(torch.tensor(math.log(COSINE_SCALE)))
        self.trunk = nn.Sequential(
            nn.Linear(dimension + kept, HIDDEN), nn.GELU(), nn.Dropout(0.1),
            nn.Linear(HIDDEN, HIDDEN), nn.GELU(), nn.Dropout(0.1),
        )  # fmt: skip
        self.leave = nn.Linear(HIDDEN, 2 * kept)
        self.correction = nn.Sequential(
            nn.Linear(3 * kept + 2 * TIMES + dimension, CORRECTION), nn.SiLU(),
            nn.Linear(CORRECTION, CORRECTION), nn.SiLU(),
        )  # fmt: skip
        self.correct = nn.Linear(CORRECTION, kept)
        for layer in (self.leave, self.correct):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def remembered(self, vectors: Tensor, own: Tensor | None = None) -> Tensor:
        """Kernel regression [B, K] on the remembered stars, the star itself left out.

        In training a star is known by its own coefficients (`own`), since its vector may have
        been changed; afterwards by its vector.
        """
        held = int(self.held)
        if held == 0:
            return torch.zeros(len(vectors), self.kept, device=vectors.device)
        keys = self.keys[:held]
        product = vectors @ keys.T
        norms = torch.linalg.vector_norm(vectors, dim=1)[:, None] * torch.linalg.vector_norm(
            keys, dim=1
        )
        cosine = product / norms.clamp(min=1e-6)
        same = cosine > ITSELF
        if own is not None:
            same = same | (torch.abs(own[:, :1] - self.memory[:held, 0]) < 1e-5)
        weight = torch.where(same, -1e4, cosine * torch.exp(self.log_cosine_scale))
        return torch.softmax(weight, dim=1) @ self.memory[:held]

    def head(self, vectors: Tensor, own: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Centre and log squared scale [B, K] of the t of the coefficients."""
        near = self.remembered(vectors, own)
        seen = torch.cat([vectors * vectors.shape[-1] ** 0.5, torch.asinh(near)], dim=1)
        shift, log_scale2 = self.leave(self.trunk(seen)).chunk(2, dim=1)
        return near + shift, torch.clamp(log_scale2, *LOG_SCALE2)

    def forward(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_scale2 = self.head(vectors)
        # The variance of t with four degrees of freedom is twice its squared scale.
        variance = 2 * torch.exp(log_scale2) * self.scale**2
        return self.spectrum(mean), torch.log(variance @ self.components**2 + self.rest**2)

    def spectrum(self, coefficients: Tensor) -> Tensor:
        """Coefficients [B, K] -> entries [B, L]."""
        return self.centre + (coefficients * self.scale) @ self.components

    def coefficients(self, values: Tensor, mask: Tensor) -> Tensor:
        """Coefficients [B, K] of entries [B, L]: least squares on the observed ones."""
        seen = torch.where(mask, values - self.centre, 0.0)
        projected = seen @ self.components.T
        gap = ~mask.all(dim=1)
        found = projected / DAMPING
        if bool(gap.any()):
            lost = self.components * (~mask[gap])[:, None, :]
            unit = torch.eye(self.kept, device=values.device)
            normal = unit * DAMPING - lost @ self.components.T
            found = found.index_put((gap,), torch.linalg.solve(normal, projected[gap]))
        return found / self.scale

    def condition(self, vectors: Tensor, centre: Tensor, log_scale2: Tensor) -> Tensor:
        """What the correction of the flow knows of a star: its vector, centre and scales."""
        scaled = vectors * vectors.shape[-1] ** 0.5
        return torch.cat([scaled, torch.asinh(centre), 0.5 * log_scale2], dim=1)

    def velocity(self, x: Tensor, time: Tensor, condition: Tensor) -> Tensor:
        """Velocity [B, K] at `x` [B, K] and `time` [B, 1]; see `condition`."""
        order = torch.arange(1, TIMES + 1, device=x.device)
        angle = math.pi * time * order
        hidden = self.correction(torch.cat([x, torch.sin(angle), torch.cos(angle), condition], 1))
        correction: Tensor = self.correct(hidden)
        return (2 * time - 1) / (time**2 + (1 - time) ** 2) * x + correction


def to_normal(residual: Tensor) -> Tensor:
    """A deviate of t with four degrees of freedom -> the standard normal one of equal rank."""
    r = residual.double()
    square = 1 + r**2 / 4
    rank = 0.75 * r / torch.sqrt(square) * (1 - r**2 / (12 * square))  # 2 F - 1
    deviate = math.sqrt(2) * torch.erfinv(torch.clamp(rank, -1 + 1e-15, 1 - 1e-15))
    return torch.clamp(deviate, -FARTHEST, FARTHEST).to(residual.dtype)


def from_normal(deviate: Tensor) -> Tensor:
    """The inverse of `to_normal`."""
    y = torch.clamp(deviate.double(), -FARTHEST, FARTHEST)
    alpha = 1 - torch.erf(y / math.sqrt(2)) ** 2  # 4 u (1 - u)
    root = torch.sqrt(alpha)
    quantile = 2 * torch.sqrt(torch.clamp(torch.cos(torch.acos(root) / 3) / root - 1, min=0.0))
    return (torch.sign(y) * quantile).to(deviate.dtype)


@torch.no_grad()
def fit(module: nn.Module, vectors: Tensor, values: Tensor, mask: Tensor) -> None:
    """Find the components and their scales, and remember up to `REMEMBERED` stars."""
    assert isinstance(module, Flow)
    rows = _spread(len(values), MOST, values.device)
    x, seen = values[rows], mask[rows]
    count = seen.sum(dim=0).clamp(min=1)
    module.centre.copy_(torch.where(seen, x, 0.0).sum(dim=0) / count)
    off = torch.where(seen, x - module.centre, 0.0)
    module.typical.copy_(off.abs().median(dim=0).values.clamp(min=1e-3))
    few = min(module.kept, len(off) - 1)
    _, found, basis = torch.svd_lowrank(off, q=min(few + 8, *off.shape), niter=4)
    few = min(few, int((found > 1e-4 * found[0]).sum()))
    module.components.zero_()
    module.components[:few] = basis[:, :few].T
    module.scale.fill_(1.0)
    raw = module.coefficients(values, mask)
    spread = 1.4826 * (raw - raw.median(dim=0).values).abs().median(dim=0).values
    module.scale[:few] = torch.maximum(spread, 1e-3 * raw.std(dim=0)).clamp(min=1e-6)[:few]
    left = torch.where(mask, values - module.spectrum(raw / module.scale), 0.0)
    square = (left**2).sum(dim=0) / mask.sum(dim=0).clamp(min=1)
    module.rest.copy_(torch.sqrt(square).clamp(min=1e-4))
    kept = _spread(len(values), REMEMBERED, values.device)
    module.held.fill_(len(kept))
    module.keys[: len(kept)] = vectors[kept]
    module.memory[: len(kept)] = raw[kept] / module.scale


def _spread(rows: int, most: int, where: torch.device) -> Tensor:
    """At most `most` of `rows` places, evenly spread, none twice."""
    step = max(1.0, rows / most)
    return (torch.arange(min(rows, most), device=where, dtype=torch.float64) * step).long()


def loss(module: nn.Module, vectors: Tensor, values: Tensor, mask: Tensor) -> Tensor:
    """Student-t negative log-likelihood of the coefficients + the flow-matching square.

    The absolute deviation of the mean in the entries themselves is added: what is asked of a
    generated spectrum is its flux, which the first few coefficients make.
    """
    assert isinstance(module, Flow)
    target = module.coefficients(values, mask)
    centre, log_scale2 = module.head(vectors, target)
    square = (target - centre) ** 2 * torch.exp(-log_scale2)
    likelihood = (2.5 * torch.log1p(square / 4) + 0.5 * log_scale2).mean()
    off = torch.where(mask, values - module.spectrum(centre), 0.0)
    absolute = (off.abs() / module.typical).sum() / mask.sum().clamp(min=1)
    end = to_normal(((target - centre) * torch.exp(-0.5 * log_scale2)).detach())
    begin, time = torch.randn_like(end), torch.rand(len(end), 1, device=end.device)
    x = (1 - time) * begin + time * end
    condition = module.condition(vectors, centre.detach(), log_scale2.detach())
    miss = module.velocity(x, time, condition) - (end - begin)
    return likelihood + ABSOLUTE * absolute + 0.5 * (miss**2).mean()


def noise(module: nn.Module) -> int:
    """K numbers for the flow, then L for what the components leave over."""
    assert isinstance(module, Flow)
    return module.kept + len(module.centre)


def sample(module: nn.Module, vectors: Tensor, noise: Tensor) -> Tensor:
    """Carry the normal numbers along the flow (Heun's method, `STEPS` steps)."""
    assert isinstance(module, Flow)
    x, own = noise[:, : module.kept], noise[:, module.kept :]
    centre, log_scale2 = module.head(vectors)
    condition = module.condition(vectors, centre, log_scale2)
    step = 1.0 / STEPS
    for i in range(STEPS):
        time = torch.full_like(x[:, :1], i * step)
        first = module.velocity(x, time, condition)
        second = module.velocity(x + step * first, time + step, condition)
        x = x + 0.5 * step * (first + second)
    drawn = centre + torch.exp(0.5 * log_scale2) * from_normal(x)
    return module.spectrum(drawn) + module.rest * own


DECODER = Decoder("flow", Flow, loss=loss, fit=fit, noise=noise, sample=sample)
