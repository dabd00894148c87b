"""A batch of one view -> features. One file an encoder, which defines `ENCODER`.

Shapes: B objects, S the shape of one prepared object (`Modality.size`), F features. A spectrum is
(L,) or (channels, L); a light curve (steps, channels); an image (channels, height, width).
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from mmclip.config import Chance, Size, Whole, resolve
from mmclip.errors import UsageError

C = TypeVar("C")
Weights = dict[str, Tensor]


@dataclass(frozen=True)
class EncoderConfig:
    """Sizes that every encoder understands, and `options`, the encoder's own settings."""

    width: Size = 512
    depth: Whole = 2
    dropout: Chance = 0.1
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Encoder:
    """The contract of an encoder.

    `build(size, config)` returns a module whose `forward(values [B, *S], mask [B, *S])` gives
    features [B, F], where S is `size`, for example `(2401,)`. F is the attribute `width` of the
    module where it has one, else `config.width`. `mask` is True where a value was observed; a
    masked value must not change the answer.

    Attributes:
        options: A frozen dataclass of the encoder's own settings, or None if it has none.
        axes: Numbers of axes that one object may have.
        translate: Weights as somebody else published them -> weights of `build`'s module.
        fit: (module, values [n, *S], mask [n, *S]), training objects: sets, once before training,
            what is not learned by gradients. A module with a method `summary(values, mask)` says
            by it which `summarised` numbers [B, K] a vector has to give again, not the view.
    """

    name: str
    build: Callable[[tuple[int, ...], EncoderConfig], nn.Module]
    options: type | None = None
    axes: tuple[int, ...] = (1, 2, 3)
    translate: Callable[[Weights], Weights] | None = None
    fit: Callable[[nn.Module, Tensor, Tensor], None] | None = None

    def check(self, size: tuple[int, ...], config: EncoderConfig) -> None:
        """Refuse what `build` could not mean.

        Raises:
            UsageError: On an unknown or ill-typed option, or a shape the encoder cannot read.
        """
        if len(size) not in self.axes:
            raise UsageError(
                f"the encoder {self.name} reads objects of {_either(self.axes)} axes, "
                f"not of shape {' x '.join(map(str, size))}",
                "choose another with --encoders",
            )
        if self.options is not None:
            settings(self.options, self.name, config)
        elif config.options:
            raise UsageError(
                f"the encoder {self.name} has no setting '{next(iter(config.options))}'",
                "its settings are width, depth and dropout",
            )


def _either(numbers: tuple[int, ...]) -> str:
    return " or ".join(map(str, numbers))


def settings(kind: type[C], name: str, config: EncoderConfig) -> C:
    """The encoder's own settings, checked; an unknown one names the nearest."""
    return resolve(kind, f"encoder {name}", None, dict(config.options))


def seen(values: Tensor, mask: Tensor) -> Tensor:
    """Values, with zero where nothing was observed; same shape."""
    return torch.where(mask, values, 0.0)


def channels_first(size: tuple[int, ...]) -> tuple[int, int]:
    """(channels, length) of a spectrum's shape, (L,) or (channels, L)."""
    return (1, size[0]) if len(size) == 1 else (size[0], math.prod(size[1:]))
