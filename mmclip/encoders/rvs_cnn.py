"""RVS spectrum -> vector: convolutions, then dense layers (Schwarz & Buck 2024, section 2).

No bias anywhere, zero "same" padding, LeakyReLU(0.01) and, in the dense part, dropout after every
layer but the last. The widths appear only in the paper's figure 4: the defaults are our reading,
NOT published.
"""

from dataclasses import dataclass
from typing import Annotated

from torch import Tensor, nn

from mmclip.config import Range, Size
from mmclip.encoders import Encoder, EncoderConfig, channels_first, seen, settings
from mmclip.encoders.layers import Dropout
from mmclip.encoders.xp_mlp import lecun


@dataclass(frozen=True)
class Options:
    """Settings of `rvs-cnn`."""

    channels: Annotated[tuple[int, ...], Range(1, 2**20)] = (16, 32, 64, 64)
    kernels: Annotated[tuple[int, ...], Range(1, 2**20)] = (11, 7, 5, 5)  # odd
    pool: Size = 2  # after every convolution
    dense: Annotated[tuple[int, ...], Range(1, 2**20)] = (512, 128)  # before the output


class RvsCnn(nn.Module):
    """Flux -> pooled convolutions -> dense layers -> features [B, width]."""

    def __init__(self, size: tuple[int, ...], config: EncoderConfig) -> None:
        super().__init__()
        own = settings(Options, "rvs-cnn", config)
        before, length = channels_first(size)
        layers: list[nn.Module] = []
        for after, kernel in zip(own.channels, own.kernels, strict=True):
            layers += [nn.Conv1d(before, after, kernel, padding=kernel // 2, bias=False)]
            layers += [nn.LeakyReLU(0.01)]
            if length >= own.pool:
                layers.append(nn.MaxPool1d(own.pool))
                length //= own.pool
            before = after
        layers.append(nn.Flatten())
        before *= length
        for after in own.dense:
            layers += [nn.Linear(before, after, bias=False), nn.LeakyReLU(0.01)]
            layers.append(Dropout(config.dropout))
            before = after
        self.layers = nn.Sequential(*layers, nn.Linear(before, config.width, bias=False))
        lecun(self)

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        flux = seen(values, mask)
        features: Tensor = self.layers(flux.unsqueeze(1) if flux.ndim == 2 else flux)
        return features


ENCODER = Encoder("rvs-cnn", RvsCnn, Options, axes=(1, 2))
