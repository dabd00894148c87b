"""Several processes as one: negatives gathered with their gradients, gradients averaged.

Started by `torchrun`; alone, every function here gives back what it is given.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


@dataclass(frozen=True)
class Group:
    """This process among `size`, from 0."""

    rank: int = 0
    size: int = 1

    def gather(self, rows: Tensor) -> Tensor:
        """[n, ...] of each process -> [size x n, ...] in the order of the ranks."""
        if self.size == 1:
            return rows
        gathered: Tensor = _Gather.apply(rows, self)  # type: ignore[no-untyped-call]
        return gathered

    def total(self, value: Tensor) -> Tensor:
        """Sum over the processes, without gradient."""
        if self.size == 1:
            return value.detach()
        summed = value.detach().clone()
        dist.all_reduce(summed)
        return summed

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Each gradient becomes its mean over the processes; one message for all of them."""
        held = [p for p in parameters if p.requires_grad]
        if self.size == 1 or not held:
            return
        for parameter in held:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        flat = torch.cat([p.grad.flatten() for p in held if p.grad is not None])
        dist.all_reduce(flat)
        flat /= self.size
        for parameter, part in zip(held, flat.split([p.numel() for p in held]), strict=True):
            parameter.grad = part.view_as(parameter).clone()

    def wait(self) -> None:
        """Until every process is here."""
        if self.size > 1:
            dist.barrier()


ALONE = Group()


class _Gather(torch.autograd.Function):
    """All-gather; backward, each process gets the sum of what all did with its rows."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, group: Group) -> Tensor:
        ctx.group, ctx.count = group, len(rows)
        parts = [torch.empty_like(rows) for _ in range(group.size)]
        dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        summed = grads[0].contiguous().clone()
        dist.all_reduce(summed)
        first = ctx.group.rank * ctx.count
        return summed[first : first + ctx.count], None


def join() -> Group:
    """The group that `torchrun` started this process in; `ALONE` without it."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return ALONE
    if not dist.is_initialized():
        backend = "nccl" if torch.cuda.is_available() else "gloo"
        if backend == "nccl":
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        dist.init_process_group(backend)
    return Group(dist.get_rank(), size)
