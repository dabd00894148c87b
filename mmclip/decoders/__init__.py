"""An embedding -> an observation. One file a decoder, which defines `DECODER`."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True)
class Decoder:
    """The contract of a decoder.

    `build(dimension, length)` returns a module whose `forward(vectors [B, D])` gives the mean and
    the logarithm of the variance of a view in normalised units, [B, L] each.
    """

    name: str
    build: Callable[[int, int], nn.Module]
