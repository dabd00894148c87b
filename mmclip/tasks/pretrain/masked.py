"""Spectra of which chunks are hidden, and rebuilt: a transformer that learns without labels.

Shapes: B spectra, T patches, P pixels of a patch (all channels).

Sources:
    Parker et al. 2024, arXiv:2310.03024, section 3.2: 6 chunks of 50 of 777 patches are hidden,
    mean squared error over them. Zhao et al. 2025, arXiv:2507.01939 (the embeddings that
    arXiv:2602.15021 transfers): 6 chunks of 10 of 146 patches of LAMOST spectra. Both hide two
    fifths.
"""

import torch
from torch import Tensor, nn

from mmclip.encoders.spectrum_transformer import SpectrumTransformer
from mmclip.errors import UsageError

CHUNKS, HIDDEN = 6, 0.4


class Masked(nn.Module):
    """An encoder of patches, and a dense layer from each token back to its pixels."""

    def __init__(self, encoder: nn.Module, chunks: int = CHUNKS, part: float = HIDDEN) -> None:
        super().__init__()
        if not isinstance(encoder, SpectrumTransformer):
            raise UsageError(
                "patches can be hidden from the encoder spectrum-transformer alone",
                "--encoder spectrum-transformer",
            )
        self.encoder, self.chunks, self.part = encoder, chunks, part
        pixels = encoder.embed.in_features // 2
        self.rebuild = nn.Linear(encoder.width, pixels)

    def loss(self, values: Tensor, mask: Tensor) -> Tensor:
        """Mean squared error of the observed pixels of hidden patches, in scaled units.

        1 if nothing is learnt of spectra without a continuum: they are brought to deviation 1.

        Args:
            values, mask: [B, L] or [B, C, L]; chunks are drawn from torch's own generator.
        """
        tokens = self.encoder.stack.places.shape[1] - 1
        hidden = hide(len(values), tokens, self.chunks, self.part).to(values.device)
        given, observed, patches = self.encoder.tokens(values, mask, hidden)
        made = self.rebuild(self.encoder.stack.every(given, observed)[:, 2:])
        truth, seen = patches.chunk(2, dim=-1)
        weight = seen * hidden.unsqueeze(-1)
        loss: Tensor = ((made - truth).square() * weight).sum() / weight.sum().clamp(min=1)
        return loss


def hide(count: int, tokens: int, chunks: int, part: float) -> Tensor:
    """[count, tokens] True for patches to hide: runs of one length, anywhere, that may overlap."""
    length = max(1, round(part * tokens / chunks))
    start = (torch.rand(count, chunks) * (tokens - length + 1)).long()
    place = torch.arange(tokens)
    run = (place >= start.unsqueeze(-1)) & (place < start.unsqueeze(-1) + length)
    return run.any(dim=1)
