"""Optimisers: LAMB written out here, Adam (coupled decay) and AdamW from PyTorch."""

from collections.abc import Callable, Iterable
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from mmclip.errors import UsageError, nearest

Kind = Literal["adamw", "adam", "lamb"]
KINDS = get_args(Kind)


class Lamb(torch.optim.Optimizer):
    """Layer-wise adaptive moments: Adam's step, scaled by each tensor's own norm.

    u = m / (sqrt(v) + eps) + decay w with bias-corrected moments; w -= rate |w| / |u| u, the
    ratio being 1 where either norm is 0.

    Source:
        You et al. 2020, arXiv:1904.00962, algorithm 2; the ratio is not clipped.
    """

    def __init__(
        self,
        parameters: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(
            parameters, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        )

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step over all parameters that have a gradient."""
        loss = None if closure is None else closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._one(parameter, group)
        return loss

    def _one(self, weight: Tensor, group: dict[str, Any]) -> None:
        state, (first, second) = self.state[weight], group["betas"]
        if not state:
            state["step"] = torch.tensor(0.0)
            state["exp_avg"] = torch.zeros_like(weight)
            state["exp_avg_sq"] = torch.zeros_like(weight)
        state["step"] += 1
        count, mean, square = state["step"].item(), state["exp_avg"], state["exp_avg_sq"]
        mean.lerp_(weight.grad, 1 - first)
        square.mul_(second).addcmul_(weight.grad, weight.grad, value=1 - second)
        update = (square / (1 - second**count)).sqrt_().add_(group["eps"])
        update = (mean / (1 - first**count)).div_(update)
        update.add_(weight, alpha=group["weight_decay"])
        size, length = weight.norm(), update.norm()
        ratio = torch.where((size > 0) & (length > 0), size / length, torch.ones_like(size))
        weight.sub_(update * (group["lr"] * ratio))


def make(
    kind: str,
    parameters: list[nn.Parameter],
    weight_decay: float,
    betas: tuple[float, ...] = (0.9, 0.999),
    epsilon: float = 1e-8,
    decay_all: bool = False,
) -> torch.optim.Optimizer:
    """An optimiser of the parameters that are trained.

    Args:
        kind: `adamw` (decay by itself), `adam` (decay added to the gradient) or `lamb`.
        decay_all: Decay biases, norms and scales too; else only tensors of two axes and more.

    Raises:
        UsageError: On an unknown kind.
    """
    if kind not in KINDS:
        raise UsageError(f"the optimiser '{kind}' is not known; {nearest(kind, list(KINDS))}")
    trained = [p for p in parameters if p.requires_grad]
    big = [p for p in trained if decay_all or p.ndim > 1]
    small = [p for p in trained if not (decay_all or p.ndim > 1)]
    groups = [{"params": p, "weight_decay": d} for p, d in ((big, weight_decay), (small, 0.0)) if p]
    pair = (float(betas[0]), float(betas[1]))
    if kind == "lamb":
        return Lamb(groups, betas=pair, eps=epsilon)
    chosen = torch.optim.AdamW if kind == "adamw" else torch.optim.Adam
    return chosen(groups, betas=pair, eps=epsilon, fused=True)


def parameters(optimiser: torch.optim.Optimizer) -> list[nn.Parameter]:
    """What an optimiser changes, in the order of its groups."""
    return [p for group in optimiser.param_groups for p in group["params"]]
