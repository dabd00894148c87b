"""Low-resolution spectra: the trunk of GalSpecNet (Wu et al. 2024, MNRAS 527, 1163).

As in AstroM3 (arXiv:2411.08842, appendix): convolutions of kernel 3 without padding, channels 64,
64, 32, 32, max-pooling by 4 after the first three: 22,272 parameters at three input channels and
1184 features at 2575 pixels.
"""

from dataclasses import dataclass
from typing import Annotated

from torch import Tensor, nn
from torch.nn import functional

from mmclip.config import Range, Size
from mmclip.encoders import Encoder, EncoderConfig, Weights, channels_first, seen, settings
from mmclip.encoders.layers import Dropout


@dataclass(frozen=True)
class Options:
    """Settings of `galspecnet`."""

    channels: Annotated[tuple[int, ...], Range(1, 2**20)] = (64, 64, 32, 32)
    kernel: Size = 3
    pool: Size = 4


class GalSpecNet(nn.Module):
    """Channels x pixels -> convolutions -> flat features [B, self.width]."""

    def __init__(self, size: tuple[int, ...], config: EncoderConfig) -> None:
        super().__init__()
        own = settings(Options, "galspecnet", config)
        before, length = channels_first(size)
        shortest = own.kernel
        for _ in own.channels[1:]:
            shortest = shortest * own.pool + own.kernel - 1
        # A spectrum too short for the pooling is padded with zeros, as if not observed there.
        self.missing = max(0, shortest - length)
        length += self.missing
        layers: list[nn.Module] = []
        for i, after in enumerate(own.channels):
            layers.append(nn.Conv1d(before, after, own.kernel))
            length -= own.kernel - 1
            if i < len(own.channels) - 1:
                layers.append(nn.MaxPool1d(own.pool))  # before the ReLU: the same, on a quarter
                length //= own.pool
            layers.append(nn.ReLU())
            before = after
        self.layers = nn.Sequential(*layers)
        self.dropout = Dropout(config.dropout)
        self.width = before * length

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        flux = seen(values, mask)
        flux = flux.unsqueeze(1) if flux.ndim == 2 else flux
        features: Tensor = self.layers(functional.pad(flux, (0, self.missing)))
        dropped: Tensor = self.dropout(features.flatten(1))
        return dropped


def translate(published: Weights) -> Weights:
    """Weights of AstroM3's public code; its layers are numbered as ours are."""
    return {k: v for k, v in published.items() if not k.startswith("fc.")}


ENCODER = Encoder("galspecnet", GalSpecNet, Options, axes=(1, 2), translate=translate)
