"""XP coefficients -> vector: the perceptron of Schwarz & Buck 2024 (arXiv:2410.16081), section 2.

110 -> 1024 -> 32 without biases, LeakyReLU(0.01), dropout on the inputs: 145,408 weights.
"""

import math
from dataclasses import dataclass

from torch import Tensor, nn

from mmclip.config import Size
from mmclip.encoders import Encoder, EncoderConfig, seen, settings
from mmclip.encoders.layers import Dropout


@dataclass(frozen=True)
class Options:
    """Settings of `xp-mlp`."""

    hidden: Size = 1024


class XpMlp(nn.Module):
    """Values -> dropout -> hidden -> LeakyReLU -> features [B, width]."""

    def __init__(self, size: tuple[int, ...], config: EncoderConfig) -> None:
        super().__init__()
        own = settings(Options, "xp-mlp", config)
        self.layers = nn.Sequential(
            Dropout(config.dropout),
            nn.Linear(math.prod(size), own.hidden, bias=False),
            nn.LeakyReLU(0.01),
            nn.Linear(own.hidden, config.width, bias=False),
        )
        lecun(self)

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        features: Tensor = self.layers(seen(values, mask).flatten(1))
        return features


def lecun(module: nn.Module) -> None:
    """LeCun-normal weights, the default of Flax, in which the paper's code is written."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Conv1d):
            fan_in = layer.weight[0].numel()
            nn.init.trunc_normal_(layer.weight, std=(1 / fan_in) ** 0.5)


ENCODER = Encoder("xp-mlp", XpMlp, Options)
