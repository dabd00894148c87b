"""Augmentation of training batches: turned, flipped, blurred and noisy images, cropped curves.

Shapes: B objects, L entries of a view. Chance is drawn for the whole batch, on the CPU.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

from mmclip.errors import UsageError, nearest

KINDS = ("rotate", "flip", "blur", "noise", "crop")  # crop:N keeps a window of N points
BLUR = 2.0  # pixels, the largest sigma; noise: the largest part of an image's own deviation
NOISE = 0.2
TURN = 45.0  # degrees each way, as in the Cambridge reproduction of AstroCLIP
LEAST = 0.5  # part of a curve that a crop without a number keeps


def check(kinds: tuple[str, ...], size: tuple[int, ...]) -> None:
    """Refuse what does not exist or does not fit the shape.

    Raises:
        UsageError: Naming the augmentation.
    """
    for word in kinds:
        kind, colon, points = word.partition(":")
        if colon and (kind != "crop" or not points.isdecimal() or int(points) < 1):
            raise UsageError(f"the augmentation '{word}' is not known", "crop:200 keeps 200 points")
        if kind not in KINDS:
            known = nearest(kind, list(KINDS))
            raise UsageError(f"the augmentation '{kind}' is not known; {known}")
        wanted = 2 if kind == "crop" else 3
        if len(size) != wanted:
            raise UsageError(f"'{kind}' needs a view of {wanted} axes, not {len(size)}")


def augment(
    values: Tensor,
    mask: Tensor,
    size: tuple[int, ...],
    kinds: tuple[str, ...],
    chance: torch.Generator,
    whole: int,
    mine: slice,
) -> tuple[Tensor, Tensor]:
    """Values and mask [B, L] changed by each kind in turn.

    Args:
        size: Shape of one object.
        kinds: Of `KINDS`, or `crop:N`.
        chance: Source of every random number.
        whole, mine: Size of the whole batch, and which part of it this is.
    """
    x, m = values.unflatten(1, size), mask.unflatten(1, size)
    for kind in kinds:
        draw = torch.rand((whole, 2), generator=chance)[mine].to(x.device)
        name, _, points = kind.partition(":")
        if name == "crop":
            x, m = crop(x, m, draw, int(points or 0))
        else:
            x, m = {"rotate": rotate, "flip": flip, "blur": blur, "noise": noise}[name](x, m, draw)
    return x.flatten(1), m.flatten(1)


def rotate(x: Tensor, mask: Tensor, draw: Tensor) -> tuple[Tensor, Tensor]:
    """Images [B, C, H, W] turned by up to `TURN` degrees, bilinear, zero outside."""
    angle = (2 * draw[:, 0] - 1) * math.radians(TURN)
    # In the square [-1, 1]^2 of grid_sample a turn of a picture that is not square is a shear.
    ratio = x.shape[-1] / x.shape[-2]
    cosine, sine, nought = angle.cos(), angle.sin(), torch.zeros_like(angle)
    turn = torch.stack([cosine, -sine / ratio, nought, sine * ratio, cosine, nought], 1)
    grid = functional.affine_grid(turn.view(-1, 2, 3), list(x.shape), align_corners=False)
    turned = functional.grid_sample(x, grid, align_corners=False)
    there = functional.grid_sample(mask.to(x.dtype), grid, mode="nearest", align_corners=False)
    return turned, there > 0.5


def flip(x: Tensor, mask: Tensor, draw: Tensor) -> tuple[Tensor, Tensor]:
    """Images [B, C, H, W] mirrored along each axis with probability 1/2."""
    for axis in (0, 1):
        chosen = (draw[:, axis] < 0.5).view(-1, 1, 1, 1)
        x = torch.where(chosen, x.flip(-1 - axis), x)
        mask = torch.where(chosen, mask.flip(-1 - axis), mask)
    return x, mask


def blur(x: Tensor, mask: Tensor, draw: Tensor) -> tuple[Tensor, Tensor]:
    """Images [B, C, H, W] under a Gaussian PSF of sigma 0 to `BLUR` pixels; pixels observed count.

    Source:
        Named, without a width, by the texts of AstroCLIP (arXiv:2310.03024) and its reproduction;
        their code has none. The width is our choice.
    """
    sigma = (BLUR * draw[:, 0]).clamp(min=1e-3).to(x.dtype)
    reach = math.ceil(3 * BLUR)
    place = torch.arange(-reach, reach + 1, device=x.device, dtype=x.dtype)
    kernel = torch.exp(-0.5 * (place / sigma[:, None]) ** 2)
    kernel = kernel / kernel.sum(1, keepdim=True)
    seen = mask.to(x.dtype)
    smooth, weight = (_along(_along(v, kernel, -1), kernel, -2) for v in (x * seen, seen))
    return torch.where(mask, smooth / weight.clamp(min=1e-6), x), mask


def _along(x: Tensor, kernel: Tensor, axis: int) -> Tensor:
    """Each image [C, H, W] convolved with its own kernel [2 R + 1] along an axis; zero outside."""
    lines = x.movedim(axis, -1)
    batch, length = lines.shape[0], lines.shape[-1]
    flat = lines.reshape(1, batch, -1, length).transpose(1, 2).reshape(-1, batch, length)
    made = functional.conv1d(flat, kernel.unsqueeze(1), padding=kernel.shape[1] // 2, groups=batch)
    back = made.reshape(1, -1, batch, length).transpose(1, 2).reshape(lines.shape)
    return back.movedim(-1, axis)


def noise(x: Tensor, mask: Tensor, draw: Tensor) -> tuple[Tensor, Tensor]:
    """Images with Gaussian noise of 0 to `NOISE` of each channel's own deviation.

    The numbers come from a generator seeded by the draw, so a batch is the same on every device.

    Source:
        As for `blur`.
    """
    count = mask.sum((-2, -1), keepdim=True).clamp(min=1)
    mean = (x * mask).sum((-2, -1), keepdim=True) / count
    spread = (((x - mean) * mask).square().sum((-2, -1), keepdim=True) / count).sqrt()
    normal = torch.empty(x.shape, dtype=x.dtype)
    for row, seed in zip(normal, draw[:, 1].double().cpu().tolist(), strict=True):
        chance = torch.Generator().manual_seed(int(seed * 2**31))
        row.normal_(generator=chance)
    sigma = NOISE * draw[:, 0].view(-1, 1, 1, 1) * spread
    return torch.where(mask, x + sigma * normal.to(x.device), x), mask


def crop(x: Tensor, mask: Tensor, draw: Tensor, points: int = 0) -> tuple[Tensor, Tensor]:
    """Curves [B, steps, C] cut to a run of their observed steps, moved to the beginning.

    Args:
        x, mask: Observed steps first; `mask` is False after the end of a curve.
        draw: [B, 2] uniform in [0, 1): how much is kept, and where the run begins.
        points: Length of the run; a curve that is not longer stays whole (arXiv:2411.08842,
            section 2). The start is uniform, both ends in. 0: a random part, `LEAST` or more.
    """
    observed = mask.any(-1).sum(1)
    if points:
        kept = observed.clamp(max=points)
    else:
        kept = (observed * (LEAST + (1 - LEAST) * draw[:, 0])).ceil().long()
    start = ((observed - kept + 1) * draw[:, 1]).long()
    place = torch.arange(x.shape[1], device=x.device)
    inside = place < kept.unsqueeze(1)
    source = torch.where(inside, place + start.unsqueeze(1), 0).clamp(max=x.shape[1] - 1)
    index = source.unsqueeze(-1).expand_as(x)
    cut = mask.gather(1, index) & inside.unsqueeze(-1)
    return torch.where(cut, x.gather(1, index), 0.0), cut
