"""Augmentation of training batches: turned and flipped images, cropped light curves.

Shapes: B objects, L entries of a view. Chance is drawn for the whole batch, on the CPU.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

from mmclip.errors import UsageError, nearest

KINDS = ("rotate", "flip", "crop")  # crop:N keeps a window of N points
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
            x, m = {"rotate": rotate, "flip": flip}[name](x, m, draw)
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
