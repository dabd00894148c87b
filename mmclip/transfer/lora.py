"""Adapters: what makes a network trained on one survey right for another.

They act on any network of mmclip: LoRA on every linear and convolutional weight below a module,
a residual head on a regressor, a pull towards the weights one came from.

Shapes: B objects, F features of the last hidden layer, O outputs, r the rank of LoRA.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from mmclip.errors import UsageError

RANK, ALPHA = 8, 16.0  # of the MLPs: arXiv:2507.20972
HIDDEN = 64  # of the residual head


class LowRank(nn.Module):
    """W -> W + (alpha / r) B A, where A is [r, in] and B is [out, r] and begins at zero.

    A convolution's weight [out, in, *kernel] is taken as a matrix [out, in x kernel].

    Source:
        Hu et al. 2021, arXiv:2106.09685, section 4.1.
    """

    def __init__(self, weight: Tensor, rank: int, alpha: float) -> None:
        super().__init__()
        out, inside = weight.shape[0], weight[0].numel()
        self.scale = alpha / rank
        self.a = nn.Parameter(weight.new_empty(rank, inside))
        self.b = nn.Parameter(weight.new_zeros(out, rank))
        nn.init.kaiming_uniform_(self.a, a=math.sqrt(5))

    def change(self) -> Tensor:
        """(alpha / r) B A, [out, in x kernel]."""
        return self.scale * (self.b @ self.a)

    def forward(self, weight: Tensor) -> Tensor:
        return weight + self.change().view_as(weight)


def adaptable(net: nn.Module, leave_out: tuple[str, ...] = ()) -> list[tuple[str, str]]:
    """(module, weight) of every linear and convolutional weight of a network, attention included.

    Args:
        net: Any network.
        leave_out: Modules to leave as they are, with all below them.
    """
    found = []
    for name, module in net.named_modules():
        if any(name == n or name.startswith(f"{n}.") for n in leave_out):
            continue
        if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d):
            found.append((name, "weight"))
        elif isinstance(module, nn.MultiheadAttention) and module.in_proj_weight is not None:
            found.append((name, "in_proj_weight"))
    return found


def add_lora(
    net: nn.Module,
    rank: int = RANK,
    alpha: float = ALPHA,
    leave_out: tuple[str, ...] = (),
) -> nn.Module:
    """Freeze a network and put a trainable low-rank change on each of its weights.

    Nothing changes at first: B is zero, so the network answers exactly as before.

    Args:
        net: Changed in place.
        rank, alpha: r and alpha; the change is scaled by alpha / r.
        leave_out: Names of modules without a change, for example `leave`, the output layer.

    Raises:
        UsageError: If there is nothing to adapt, or the rank is not positive.
    """
    if rank < 1:
        raise UsageError(f"the rank of LoRA is {rank}; it must be 1 or more", "rank = 8")
    places = adaptable(net, leave_out)
    if not places:
        raise UsageError("the network has no linear or convolutional layer to adapt")
    freeze(net)
    for name, weight in places:
        module = net.get_submodule(name)
        change = LowRank(getattr(module, weight), rank, alpha)
        parametrize.register_parametrization(module, weight, change)
    return net


def lora_parts(net: nn.Module) -> Iterator[tuple[str, nn.Module, str, LowRank]]:
    """(name, module, weight, change) of every low-rank change in a network."""
    for name, module in list(net.named_modules()):
        if not parametrize.is_parametrized(module):
            continue
        for weight, chain in list(module.parametrizations.items()):
            for change in chain:
                if isinstance(change, LowRank):
                    yield name, module, weight, change


def merge(net: nn.Module) -> dict[tuple[str, str], LowRank]:
    """Write every low-rank change into its weight; the plain network is left, and the changes.

    Returns:
        What `unmerge` needs to take them out again.
    """
    taken = {}
    for name, module, weight, change in lora_parts(net):
        parametrize.remove_parametrizations(module, weight, leave_parametrized=True)
        getattr(module, weight).requires_grad_(False)
        taken[name, weight] = change
    return taken


def unmerge(net: nn.Module, taken: dict[tuple[str, str], LowRank]) -> None:
    """The inverse of `merge`, exact to the rounding of float32."""
    for (name, weight), change in taken.items():
        module = net.get_submodule(name)
        with torch.no_grad():
            merged = getattr(module, weight)
            merged.sub_(change.change().view_as(merged))
        parametrize.register_parametrization(module, weight, change)


class Corrected(nn.Module):
    """A frozen regressor plus a small head that learns what it gets wrong.

    y = f(x) + g([h, f(x)]) with h the last hidden features; g = Linear(F + O, 64), ReLU,
    Linear(64, O), whose last layer begins at zero: at step 0 this is f exactly.
    """

    def __init__(self, base: nn.Module, features: int, outputs: int) -> None:
        super().__init__()
        self.base, self.outputs = freeze(base), outputs
        self.head = nn.Sequential(
            nn.Linear(features + outputs, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, outputs)
        )
        last = self.head[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def train(self, mode: bool = True) -> "Corrected":
        """The base stays in evaluation mode: no dropout, no moving statistics."""
        super().train(mode)
        self.base.eval()
        return self

    def inputs(self, x: Tensor) -> Tensor:
        """[h, f(x)], what the head reads; it never changes while the head is trained."""
        with torch.no_grad():
            features: Tensor = self.base.features(x)  # type: ignore[operator]
            answer: Tensor = self.base.leave(features)  # type: ignore[operator]
            return torch.cat([features, answer], dim=1)

    def correct(self, inputs: Tensor) -> Tensor:
        """f(x) + g([h, f(x)]) from [h, f(x)]."""
        corrected: Tensor = inputs[:, -self.outputs :] + self.head(inputs)
        return corrected

    def forward(self, x: Tensor) -> Tensor:
        return self.correct(self.inputs(x))


def freeze(net: nn.Module) -> nn.Module:
    """No parameter of the network is trained any more."""
    for parameter in net.parameters():
        parameter.requires_grad_(False)
    return net


def trainable(net: nn.Module) -> int:
    """Number of parameters that a fine-tuning would change."""
    return sum(p.numel() for p in net.parameters() if p.requires_grad)


def pull(net: nn.Module, start: dict[str, Tensor]) -> Tensor:
    """(1/2) sum of (w - w0)^2 over the trained weights, the L2-SP penalty.

    Source:
        Li, Grandvalet & Davoine 2018, arXiv:1802.01483, equation 4.
    """
    terms = [
        (parameter - start[name]).square().sum()
        for name, parameter in net.named_parameters()
        if parameter.requires_grad and name in start
    ]
    return 0.5 * torch.stack(terms).sum()
