"""Galaxy and stellar spectra: the encoder of Spender (Melchior et al. 2023, arXiv:2211.07890).

Three blocks of convolution, instance normalisation and PReLU, two of them pooled; the channels
are split in half, one half weighs the other over the wavelengths; a perceptron ends it.
"""

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor, nn

from mmclip.config import Chance, Range
from mmclip.encoders import Encoder, EncoderConfig, Weights, channels_first, seen, settings
from mmclip.encoders.layers import Dropout
from mmclip.errors import UsageError


@dataclass(frozen=True)
class Options:
    """Settings of `spender`.

    `activation` after each dense layer but the last: `relu`, `prelu` (one slope a unit) or `none`.
    `activate_output` puts it, and the dropout, after the last one too (the Cambridge reproduction
    of AstroCLIP does, which keeps its unit vectors from half of the space).
    `trunk_dropout` is that of the convolutions; `frozen` trains the dense layers alone.
    `z_score` takes each spectrum's mean away and divides by its standard deviation, not below 0.2.
    `channels` and `kernels` are those of the convolutions, all but the last of them pooled by
    `pools`; the supervised networks of AstroCLIP and the Multimodal Universe have four small ones.
    """

    channels: Annotated[tuple[int, ...], Range(2, 2**16)] = (128, 256, 512)
    kernels: Annotated[tuple[int, ...], Range(1, 2**16)] = (5, 11, 21)
    pools: Annotated[tuple[int, ...], Range(1, 2**16)] = (5, 11)
    hidden: Annotated[tuple[int, ...], Range(1, 2**20)] = (256, 128, 128)
    activation: str = "relu"
    activate_output: bool = False
    z_score: bool = False
    trunk_dropout: Chance = 0.0
    frozen: bool = False


class Spender(nn.Module):
    """Spectrum -> convolutions -> attention over wavelength [B, 256] -> features [B, width]."""

    def __init__(self, size: tuple[int, ...], config: EncoderConfig) -> None:
        super().__init__()
        self.own = own = settings(Options, "spender", config)
        if not len(own.channels) == len(own.kernels) == len(own.pools) + 1 or own.channels[-1] % 2:
            raise UsageError(
                f"spender: channels {own.channels}, kernels {own.kernels}, pools {own.pools} do "
                "not go together",
                "one kernel a channel, one pool fewer, an even last channel",
            )
        before, length = channels_first(size)
        self.blocks = nn.ModuleList()
        for after, kernel in zip(own.channels, own.kernels, strict=True):
            convolve = nn.Conv1d(before, after, kernel, padding=kernel // 2)
            self.blocks.append(nn.ModuleList([convolve, nn.PReLU(after)]))
            before = after
        self.drop = Dropout(own.trunk_dropout)
        self.pools = nn.ModuleList()
        for pool, kernel in zip(own.pools, own.kernels, strict=False):
            length += 2 * (kernel // 2) - kernel + 1
            after = (length + 2 * (pool // 2) - pool) // pool + 1
            # One pixel left would be normalised to nothing: a short spectrum is not pooled.
            short = after < 2
            self.pools.append(nn.Identity() if short else nn.MaxPool1d(pool, padding=pool // 2))
            length = length if short else after
        if own.frozen:
            self.blocks.requires_grad_(False)
        self.head = _head(before // 2, config, own)

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        x = seen(values, mask)
        x, observed = (x.unsqueeze(1), mask.unsqueeze(1)) if x.ndim == 2 else (x, mask)
        if self.own.z_score:
            x = z_score(x, observed)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.own.frozen):
            attended = self._attend(x)
        features: Tensor = self.head(attended)
        return features

    def _attend(self, x: Tensor) -> Tensor:
        for i, block in enumerate(self.blocks):
            assert isinstance(block, nn.ModuleList)
            x = block[0](x)
            # Instance normalisation, written out so that it stays in fp32.
            spread, mean = torch.var_mean(x.float(), dim=-1, correction=0, keepdim=True)
            x = self.drop(block[1]((x - mean) * torch.rsqrt(spread + 1e-5)))
            if i < len(self.pools):
                x = self.pools[i](x)
        content, weight = x.chunk(2, dim=1)
        return (content * torch.softmax(weight, dim=-1)).sum(dim=-1)


def z_score(values: Tensor, mask: Tensor) -> Tensor:
    """(x - mean) / max(standard deviation, 0.2) of the observed pixels; zero elsewhere."""
    count = mask.sum(-1, keepdim=True).clamp(min=1)
    mean = values.sum(-1, keepdim=True) / count
    off = seen(values - mean, mask)
    deviation = (off.square().sum(-1, keepdim=True) / count).sqrt()
    return off / deviation.clamp(min=0.2)


def _head(width: int, config: EncoderConfig, own: Options) -> nn.Sequential:
    layers: list[nn.Module] = []
    widths = (*own.hidden, config.width)
    for i, after in enumerate(widths):
        layers.append(nn.Linear(width, after))
        if i < len(widths) - 1 or own.activate_output:
            if own.activation == "prelu":
                layers.append(nn.PReLU(after))
            elif own.activation == "relu":
                layers.append(nn.ReLU())
            layers.append(Dropout(config.dropout))
        width = after
    return nn.Sequential(*layers)


def translate(published: Weights) -> Weights:
    """Weights of spender's own encoder (`conv1` ... `conv3`, `mlp`), as its public models ship."""
    made = {}
    for key, value in published.items():
        key = key.removeprefix("encoder.")
        parts = key.split(".")
        if parts[0] in ("conv1", "conv2", "conv3", "conv4"):
            block, layer = int(parts[0][-1]) - 1, {"0": 0, "2": 1}[parts[1]]
            made[f"blocks.{block}.{layer}.{parts[2]}"] = value
        elif parts[0] == "mlp":
            made[".".join(["head", *parts[-2:]])] = value
    return made


ENCODER = Encoder("spender", Spender, Options, axes=(1, 2), translate=translate)
