"""A batch of one view -> features. One file an encoder, which defines `ENCODER`.

Shapes: B objects, S the shape of one prepared object (`Modality.size`), F features.
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

    `build(size, config)` returns a module whose `forward(values [B, *S], mask [B, *S])` gives
    features [B, width], where S is `size`, for example `(2401,)`. `mask` is True where a value
    was observed; a masked value must not change the answer.
    """

    name: str
    build: Callable[[tuple[int, ...], EncoderConfig], nn.Module]
