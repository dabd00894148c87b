"""MoCo-v2: an encoder learns from one view alone that two looks at an object are one object.

Shapes: B objects, S the shape of one object in the view, P the width of the projection, K keys.
"""

import copy
import math

import torch
from torch import Tensor, nn
from torch.nn import functional

TEMPERATURE, MOMENTUM, PROJECTION = 0.2, 0.999, 128
# Extinction of z, r, g for a unit of E(B-V): Schlafly & Finkbeiner 2011, table 6, DECam. Pictures
# hold their bands red first.
REDDENING = (1.211, 2.165, 3.214)


class MoCo(nn.Module):
    """A query encoder, its slowly following copy for keys, and a queue of old keys.

    Source:
        He et al. 2020, arXiv:1911.05722, algorithm 1; Chen et al. 2020, arXiv:2003.04297: the
        two-layer head and temperature 0.2. Batch statistics could tell a query its key where an
        encoder has them, so keys pass through in another order and in parts, as on several
        devices there.
    """

    queue: Tensor
    owners: Tensor
    pointer: Tensor

    def __init__(
        self, encoder: nn.Module, width: int, keys: int, momentum: float = MOMENTUM,
        temperature: float = TEMPERATURE,
    ) -> None:  # fmt: skip
        super().__init__()
        self.encoder = encoder
        self.head = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, PROJECTION))
        self.key_encoder, self.key_head = copy.deepcopy(encoder), copy.deepcopy(self.head)
        for module in (self.key_encoder, self.key_head):
            for parameter in module.parameters():
                parameter.requires_grad_(False)
        self.momentum, self.temperature = momentum, temperature
        self.register_buffer("queue", functional.normalize(torch.randn(keys, PROJECTION), dim=1))
        self.register_buffer("owners", torch.full((keys,), -1, dtype=torch.long))
        self.register_buffer("pointer", torch.zeros((), dtype=torch.long))

    def train(self, mode: bool = True) -> "MoCo":
        """Batch normalisation learns its statistics here, even in encoders that hold them."""
        super().train(mode)
        for layer in self.modules():
            if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
                layer.training = mode
        return self

    def loss(
        self,
        queries: tuple[Tensor, Tensor],
        keys: tuple[Tensor, Tensor],
        who: Tensor,
        parts: int = 4,
    ) -> Tensor:
        """InfoNCE of two looks at the same objects; the keys then join the queue.

        In a small set the queue reaches back to the last epoch: an object's own old keys there are
        left out, they are no negatives of it.

        Args:
            queries, keys: Values and mask [B, *S] of each look.
            who: [B] number of each object.
            parts: In how many parts the encoders see a batch, where it has 2 objects a part.

        Returns:
            Mean loss in nats; log(1 + K) if the vectors carry no information.
        """
        q = self._through(self.encoder, self.head, queries, parts)
        with torch.no_grad():
            self._follow()
            order = torch.randperm(len(q), device=q.device)
            shuffled = (keys[0][order], keys[1][order])
            k = self._through(self.key_encoder, self.key_head, shuffled, parts)
            k = k[torch.argsort(order)]
        own = who[:, None] == self.owners[None]
        others = (q @ self.queue.clone().T).masked_fill(own, -torch.inf)
        logits = torch.cat([(q * k).sum(1, keepdim=True), others], dim=1)
        truth = torch.zeros(len(q), dtype=torch.long, device=q.device)
        self._remember(k, who)
        return functional.cross_entropy(logits / self.temperature, truth)

    def _through(
        self, encoder: nn.Module, head: nn.Module, look: tuple[Tensor, Tensor], parts: int
    ) -> Tensor:
        parts = max(1, min(parts, len(look[0]) // 2))
        pairs = zip(look[0].chunk(parts), look[1].chunk(parts), strict=True)
        found = torch.cat([head(encoder(values, mask)) for values, mask in pairs])
        return functional.normalize(found.float(), dim=1)

    @torch.no_grad()
    def _follow(self) -> None:
        """Key weights <- m key weights + (1 - m) query weights."""
        pairs = ((self.encoder, self.key_encoder), (self.head, self.key_head))
        for fast, slow in pairs:
            for p, k in zip(fast.parameters(), slow.parameters(), strict=True):
                k.lerp_(p, 1 - self.momentum)

    @torch.no_grad()
    def _remember(self, keys: Tensor, who: Tensor) -> None:
        size = len(self.queue)
        place = (int(self.pointer) + torch.arange(len(keys), device=keys.device)) % size
        self.queue[place], self.owners[place] = keys, who
        self.pointer.fill_((int(self.pointer) + len(keys)) % size)


def look(values: Tensor, mask: Tensor, noise: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """One random look at a batch [B, *S]: images are turned, spectra tilted and cut.

    Chance is torch's own, so that a seed fixes it.

    Args:
        values, mask: [B, L], [B, steps, channels] or [B, C, H, W]; zero where masked.
        noise: 1-sigma errors of the values, by which they are redrawn; None: not known.
    """
    if noise is not None:
        values = values + torch.randn_like(values) * noise.clamp(max=1.0)
    changed = _look_at_image(values, mask) if values.ndim == 4 else _look_at_curve(values, mask)
    return torch.where(changed[1], changed[0], 0.0), changed[1]


def _look_at_image(values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Any rotation, mirror, size 90-120 %, shift up to 7 %, reddening, PSF blur, noise.

    The kinds are those of Stein et al. 2021 (arXiv:2110.13151); the amplitudes are ours.
    """
    count, device = len(values), values.device
    angle = 2 * math.pi * torch.rand(count, device=device)
    size = 1 / (0.9 + 0.3 * torch.rand(count, device=device))
    mirror = torch.where(torch.rand(count, device=device) < 0.5, -1.0, 1.0)
    shift = 0.14 * (torch.rand(count, 2, device=device) * 2 - 1)
    cosine, sine = size * angle.cos(), size * angle.sin()
    rows = torch.stack([mirror * cosine, -sine, shift[:, 0], mirror * sine, cosine, shift[:, 1]], 1)
    grid = functional.affine_grid(rows.view(-1, 2, 3), list(values.shape), align_corners=False)
    x = functional.grid_sample(values, grid, padding_mode="reflection", align_corners=False)
    seen = functional.grid_sample(
        mask.to(x.dtype), grid, mode="nearest", padding_mode="reflection", align_corners=False
    )
    x = _redden(x)
    x = _blur(x, 1.5 * torch.rand(count, device=device))
    spread = 0.05 * torch.rand(count, 1, 1, 1, device=device) * x.std(dim=(1, 2, 3), keepdim=True)
    return x + spread * torch.randn_like(x), seen > 0.5


def _redden(x: Tensor) -> Tensor:
    """Dim red, green, blue as dust of E(B-V) up to 0.3 dims z, r, g; other bands at random."""
    channels = x.shape[1]
    dust = 0.3 * torch.rand(len(x), 1, device=x.device)
    if channels == 3:
        law = torch.tensor(REDDENING, device=x.device)[None]
        return x * (10 ** (-0.4 * dust * law))[:, :, None, None]
    return x * (1 - dust * torch.rand(len(x), channels, device=x.device))[:, :, None, None]


def _blur(x: Tensor, sigma: Tensor) -> Tensor:
    """Gaussian blur of each image [B, C, H, W] by its own sigma (pixels, [B])."""
    count, channels, high, wide = x.shape
    place = torch.arange(-3, 4, device=x.device, dtype=x.dtype)
    kernel = torch.exp(-0.5 * (place[None] / sigma.clamp(min=0.05)[:, None]) ** 2)
    kernel = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(channels, 0)
    flat = functional.pad(x.reshape(1, count * channels, high, wide), (3, 3, 3, 3), "replicate")
    flat = functional.conv2d(flat, kernel[:, None, :, None], groups=count * channels)
    flat = functional.conv2d(flat, kernel[:, None, None, :], groups=count * channels)
    return flat.view(count, channels, high, wide)


def _look_at_curve(values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """A gain that changes smoothly by up to 10 %, noise of 5 % of the spread, two gaps of 10 %."""
    count, length = values.shape[:2]
    rest = (1,) * (values.ndim - 2)
    x = torch.linspace(-1, 1, length, device=values.device)
    slope = 0.1 * (torch.rand(count, 2, device=values.device) * 2 - 1)
    gain = 1 + slope[:, :1] + slope[:, 1:] * x
    spread = 0.05 * torch.rand((count,) + (1,) * (values.ndim - 1), device=values.device)
    changed = values * gain.view(count, length, *rest) + spread * torch.randn_like(values)
    seen = mask.clone()
    place = torch.arange(length, device=values.device)
    for _ in range(2):
        start = (torch.rand(count, 1, device=values.device) * length).long()
        gap = (place >= start) & (place < start + max(1, length // 10))
        seen &= ~gap.view(count, length, *rest)
    lost = ~seen.flatten(1).any(dim=1)
    seen[lost] = mask[lost]
    return changed, seen
