"""Whether a processor computes in bfloat16 itself, or slowly imitates it."""

import functools
import time
from typing import Literal

import torch

from mmclip.errors import UsageError

SIDE = 384  # of the matrices that are multiplied, a millisecond or so in float32
LIMIT = 1.5  # times float32: where it is imitated it takes about ten times as long


def in_bfloat16(wanted: Literal["auto", "float32", "bfloat16"], device: torch.device) -> bool:
    """True if encoders are to compute in bfloat16: `auto` does on a GPU alone.

    Raises:
        UsageError: If it is asked of a processor that only imitates it.
    """
    if device.type == "cuda" or wanted != "bfloat16":
        return device.type == "cuda" and wanted != "float32"
    times = imitation()
    if times > LIMIT:
        raise UsageError(
            f"--precision bfloat16: this processor has no bfloat16 of its own; a product of "
            f"matrices takes {times:.0f} times as long as in float32",
            "--precision float32",
        )
    return True


@functools.cache
def imitation() -> float:
    """Time of a product of matrices in bfloat16 over that in float32, on this processor."""
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, SIDE, SIDE, generator=generator)
    return _seconds(a.bfloat16(), b.bfloat16()) / _seconds(a, b)


def _seconds(a: torch.Tensor, b: torch.Tensor) -> float:
    """The quickest of three, after one that warms up."""
    taken = []
    for _ in range(4):
        begun = time.thread_time()
        torch.mm(a, b)
        taken.append(time.thread_time() - begun)
    return min(taken[1:])
