"""An embedding -> an observation. One file a decoder, which defines `DECODER`.

Shapes: B objects, D entries of the (fused) embedding, S the shape of one prepared object
(`Modality.size`), L its number of entries. Values are in normalised units; the entries of an
embedding are of order 1 / sqrt(D), and a decoder scales them as it needs.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Known:
    """The view of some training objects, for a decoder that is solved.

    Attributes:
        values, mask: [B, L] in normalised units, and which were observed.
        snr: [B] median signal-to-noise ratio of an entry, NaN where there are no errors.
        centre, scale: [L] values * scale + centre are in the view's own unit.
        flux: True for a spectrum.
    """

    values: Tensor
    mask: Tensor
    snr: Tensor
    centre: Tensor
    scale: Tensor
    flux: bool


@dataclass(frozen=True)
class Decoder:
    """The contract of a decoder.

    Attributes:
        name: As typed on the command line.
        build: (D, S) -> a module whose `forward(vectors [B, D])` gives the mean and the logarithm
            of the variance of a view, [B, L] each. A decoder that knows no spread gives zeros:
            the spread is then measured on validation stars.
        loss: (module, vectors [B, D], values [B, L], mask [B, L]) -> the loss it is trained by; a
            value where the mask is False must not change it. None: the mean square.
        fit: (module, vectors, values, mask), all training objects: sets, once before training,
            what is not learned by gradients. None: nothing to set.
        noise: (module) -> how many standard normal numbers one draw needs. None: L of them.
        sample: (module, vectors [B, D], noise [B, N]) -> one draw [B, L] a row. None: mean +
            sigma x noise, every entry by itself.
        probabilistic: True if the spread is learned; then the losses `mse` and `ivar`, which
            train the mean alone, are refused.
        solve: (module, features [B, D], view) -> the mean [B, L] of each object generated without
            it: sets everything in closed form, and no step follows. Such a decoder reads the
            features of the input views (`mmclip predict` says which) in place of their vectors.
    """

    name: str
    build: Callable[[int, tuple[int, ...]], nn.Module]
    loss: Callable[[nn.Module, Tensor, Tensor, Tensor], Tensor] | None = None
    fit: Callable[[nn.Module, Tensor, Tensor, Tensor], None] | None = None
    noise: Callable[[nn.Module], int] | None = None
    sample: Callable[[nn.Module, Tensor, Tensor], Tensor] | None = None
    probabilistic: bool = True
    solve: Callable[[nn.Module, Tensor, Known], Tensor] | None = None


def noise_length(decoder: Decoder, module: nn.Module, length: int) -> int:
    """How many standard normal numbers one draw of a view of `length` entries needs."""
    return decoder.noise(module) if decoder.noise is not None else length


def draw(decoder: Decoder, module: nn.Module, vectors: Tensor, noise: Tensor) -> Tensor:
    """One draw [B, L] a row of `vectors`, a function of the standard normal `noise` alone."""
    if decoder.sample is not None:
        return decoder.sample(module, vectors, noise)
    mean, log_variance = module(vectors)
    drawn: Tensor = mean + torch.exp(0.5 * log_variance) * noise
    return drawn
