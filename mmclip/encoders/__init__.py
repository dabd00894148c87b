"""A batch of one view -> features. One file an encoder, which defines `ENCODER`.

Shapes: B objects, L entries of a prepared vector, F features.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True)
class EncoderConfig:
    """Sizes that every encoder understands."""

    width: int = 512
    depth: int = 2
    dropout: float = 0.1


@dataclass(frozen=True)
class Encoder:
    """The contract of an encoder.

    `build(length, config)` returns a module whose `forward(values [B, L], mask [B, L])` gives
    features [B, width]. `mask` is True where a value was observed; a masked value must not
    change the answer.
    """

    name: str
    build: Callable[[int, EncoderConfig], nn.Module]
