"""A multilayer perceptron from a spectrum, or from the vector of a trained encoder, to one label.

Shapes: B objects, L entries of a view, F features, O outputs (1, or 2: mean and log variance).
"""

import copy

import torch
from torch import Tensor, nn

from mmclip.clip.loss import gaussian_loss
from mmclip.clip.model import ClipModel

WIDTHS = (1024, 512, 128)
LOG_VARIANCE = (-10.0, 6.0)  # of z-scored labels


class Regressor(nn.Module):
    """L -> 1024 -> 512 -> 128 -> O with GELU and dropout; NaN in the input counts as zero.

    Source:
        The widths are the reading that meets the published parameter count of arXiv:2507.20972
        (31,744 low-rank parameters of rank 8 on 1,378,049 of 768 -> 1024 -> 512 -> 128 -> 1).
    """

    def __init__(
        self,
        length: int,
        outputs: int = 1,
        dropout: float = 0.1,
        trunk: nn.Module | None = None,
        widths: tuple[int, ...] = WIDTHS,
    ) -> None:
        super().__init__()
        self.trunk = trunk
        layers: list[nn.Module] = []
        before = length
        for after in widths:
            layers += [nn.Linear(before, after), nn.GELU(), nn.Dropout(dropout)]
            before = after
        self.hidden = nn.Sequential(*layers)
        self.leave = nn.Linear(before, outputs)

    def features(self, x: Tensor) -> Tensor:
        """The last hidden layer, [B, F]."""
        inside = torch.nan_to_num(x) if self.trunk is None else self.trunk(x)
        found: Tensor = self.hidden(inside)
        return found

    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = self.leave(self.features(x))
        return answer


class Trunk(nn.Module):
    """The encoder of one view of a trained run: [B, L] with NaN where not observed -> [B, D].

    Vectors are scaled by sqrt(D), so that their entries are of order one.
    """

    def __init__(self, model: ClipModel, view: str, dimension: int) -> None:
        super().__init__()
        self.view, self.dimension = view, dimension
        self.model = copy.deepcopy(model)
        for kept in (self.model.encoders, self.model.projections):
            for other in [n for n in kept if n != view]:
                del kept[other]
        self.model.reconstructors = nn.ModuleDict()
        self.model.generators = nn.ModuleDict()

    def train(self, mode: bool = True) -> "Trunk":
        """Always in evaluation mode: no dropout, no moving statistics, even while it is tuned."""
        return super().train(False)

    def forward(self, x: Tensor) -> Tensor:
        seen = torch.isfinite(x)
        vectors = self.model.embed(self.view, torch.nan_to_num(x), seen)
        scaled: Tensor = vectors * vectors.shape[1] ** 0.5
        return scaled


def split_outputs(outputs: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and log variance [B] of z-scored labels; log variance 0 if the network gives none."""
    mean = outputs[:, 0]
    if outputs.shape[1] == 1:
        return mean, torch.zeros_like(mean)
    return mean, outputs[:, 1].clamp(*LOG_VARIANCE)


def label_loss(outputs: Tensor, labels: Tensor) -> Tensor:
    """Mean squared error; with two outputs the Gaussian negative log-likelihood.

    Args:
        outputs: [B, O].
        labels: [B], z-scored.
    """
    if outputs.shape[1] == 1:
        return (outputs[:, 0] - labels).square().mean()
    mean, log_variance = split_outputs(outputs)
    everywhere = torch.ones_like(labels, dtype=torch.bool)
    return gaussian_loss(mean[:, None], log_variance[:, None], labels[:, None], everywhere[:, None])
