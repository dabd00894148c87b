"""`curve-cnn` for bins of phase: the last bin is a neighbour of the first."""

from torch import nn

from mmclip.encoders import Encoder, EncoderConfig
from mmclip.encoders.curve_cnn import CurveCNN, Options


def build(size: tuple[int, ...], config: EncoderConfig) -> nn.Module:
    """For bins of phase: the ends are joined."""
    return CurveCNN(size, config, around=True, name="folded-cnn")


ENCODER = Encoder("folded-cnn", build, Options, axes=(2,))
