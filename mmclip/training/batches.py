"""Data set -> batches: resident on the device when it fits, else gathered row by row, ahead.

A batch is a pure function of (rows, seed, step): noise and augmentation come from generators of
their own, drawn for the whole batch and then cut, so that several processes see what one would.
"""

from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmclip.datasets.build import View
from mmclip.encoders.tensors import Batch, Observation, observation
from mmclip.training.augment import augment
from mmclip.training.correlations import ErrorCorrelations
from mmclip.training.distributed import ALONE, Group

RESIDENT_BYTES = 2 * 2**30  # on the CPU; on a GPU half of what is free


class Batches:
    """The views of a data set as batches on a device."""

    def __init__(
        self,
        views: Mapping[str, View],
        device: torch.device,
        resident: str = "auto",
        augmentations: Mapping[str, tuple[str, ...]] | None = None,
        correlations: Mapping[str, ErrorCorrelations] | None = None,
    ) -> None:
        self.views, self.device = views, device
        self.augmentations, self.correlations = augmentations or {}, correlations or {}
        # What was too large to be held in memory is not held here either.
        small = device.type == "cuda" or not any(v.mapped for v in views.values())
        fits = small and sum(9 * v.values.size for v in views.values()) <= _room(device)
        self.resident = resident == "yes" or (resident == "auto" and fits)
        self.held: dict[str, Observation] = {}
        if self.resident:
            self.held = {n: observation(v.values, v.errors, device) for n, v in views.items()}
        self.reader = ThreadPoolExecutor(1, "mmclip-batches")
        self.ahead: tuple[NDArray[np.int64], Future[dict[str, Observation]]] | None = None

    def prefetch(self, rows: NDArray[np.int64]) -> None:
        """Begin to gather the rows of the next batch while the device computes."""
        if not self.resident:
            self.ahead = (rows, self.reader.submit(self.gather, rows))

    def read(self, rows: NDArray[np.int64]) -> dict[str, Observation]:
        """Values, masks and errors [rows, L] of each view, on the device."""
        if self.resident:
            index = torch.from_numpy(np.ascontiguousarray(rows)).to(self.device)
            return {
                n: Observation(v[index], m[index], None if e is None else e[index])
                for n, (v, m, e) in self.held.items()
            }
        if self.ahead is not None and np.array_equal(self.ahead[0], rows):
            found, self.ahead = self.ahead[1].result(), None
        else:
            found = self.gather(rows)
        return {
            n: Observation(
                _move(v, self.device),
                _move(m, self.device),
                None if e is None else _move(e, self.device),
            )
            for n, (v, m, e) in found.items()
        }

    def gather(self, rows: NDArray[np.int64]) -> dict[str, Observation]:
        """The same in the memory of the CPU, from wherever the views lie."""
        order = np.argsort(rows)  # the disk is read forwards
        back = np.argsort(order)
        found = {}
        for name, view in self.views.items():
            values = view.values[rows[order]][back]
            errors = None if view.errors is None else view.errors[rows[order]][back]
            found[name] = observation(values, errors, torch.device("cpu"))
        return found

    def batch(
        self,
        rows: NDArray[np.int64],
        noise: float = 0.0,
        seed: int = 0,
        twin: bool = False,
        augmented: bool = False,
        group: Group = ALONE,
    ) -> tuple[Batch, Batch]:
        """The batch of this process's share of `rows`, and its redrawn twin (empty if not asked).

        Args:
            rows: Of the whole batch, in all processes.
            noise: Values are redrawn within this many of their errors, by their covariance in
                the views that have `correlations`.
            seed: Of noise and augmentation.
            twin: Draw a second time, for the views that have errors.
            augmented: Also turn, flip or crop the views that ask for it.
        """
        share = len(rows) // group.size
        mine = slice(group.rank * share, (group.rank + 1) * share)
        found = self.read(rows[mine])
        chance = torch.Generator().manual_seed(seed)
        first: Batch = {}
        second: Batch = {}
        for name, (values, mask, errors) in found.items():
            for into, wanted in ((first, True), (second, twin and errors is not None)):
                if wanted:
                    drawn = self._redraw(name, values, errors, noise, chance, rows, mine)
                    into[name] = (drawn, mask)
            kinds = self.augmentations.get(name, ())
            if augmented and kinds:
                size = self.views[name].size
                first[name] = augment(*first[name], size, kinds, chance, len(rows), mine)
        return first, second

    def _redraw(
        self,
        name: str,
        values: Tensor,
        errors: Tensor | None,
        noise: float,
        chance: torch.Generator,
        rows: NDArray[np.int64],
        mine: slice,
    ) -> Tensor:
        if not noise or errors is None:
            return values
        draw = torch.randn((len(rows), values.shape[1]), generator=chance)[mine]
        if name in self.correlations:
            bounded = errors.clamp(max=1.0)
            return self.correlations[name].redraw(values, bounded, noise * draw, rows[mine])
        return values + noise * draw.to(self.device) * errors.clamp(max=1.0)


def _move(tensor: Tensor, device: torch.device) -> Tensor:
    if device.type == "cpu":
        return tensor
    return tensor.pin_memory().to(device, non_blocking=True)


def _room(device: torch.device) -> float:
    if device.type != "cuda":
        return RESIDENT_BYTES
    return torch.cuda.mem_get_info(device)[0] / 2
