"""Catalogue columns: two dense layers with ReLU and dropout, as in AstroM3 (arXiv:2411.08842).

34 -> 512 -> 512: 280,576 parameters.
"""

import math

from torch import Tensor, nn

from mmclip.encoders import Encoder, EncoderConfig, Weights, seen
from mmclip.encoders.layers import Dropout


class MetadataMlp(nn.Module):
    """`depth` times (dense, ReLU, dropout) -> features [B, width]."""

    def __init__(self, size: tuple[int, ...], config: EncoderConfig) -> None:
        super().__init__()
        before, layers = math.prod(size), list[nn.Module]()
        for _ in range(config.depth):
            layers += [nn.Linear(before, config.width), nn.ReLU(), Dropout(config.dropout)]
            before = config.width
        self.layers = nn.Sequential(*layers)

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        features: Tensor = self.layers(seen(values, mask).flatten(1))
        return features


def translate(published: Weights) -> Weights:
    """Weights of AstroM3's public code."""
    return {
        k.replace("model.", "layers.", 1): v for k, v in published.items() if k.startswith("model.")
    }


ENCODER = Encoder("metadata-mlp", MetadataMlp, translate=translate)
