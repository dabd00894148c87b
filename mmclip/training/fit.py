"""A small resumable loop for one network: early stopping, exact resume, nothing else.

As in `mmclip.clip.train`, the order of rows and every random number are functions of (seed, step).
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mmclip.errors import MmclipError
from mmclip.training import checkpoint

Tell = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class FitConfig:
    """Settings of one fit."""

    epochs: int = 200
    batch: int = 256
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    optimiser: str = "adam"  # adam | sgd (momentum 0.9)
    cosine: bool = False  # rate falls to zero over the epochs; else constant
    patience: int = 0  # epochs without a better score before stopping; 0: never stop early
    drop_last: bool = False  # leave out the last partial batch
    seed: int = 42
    checkpoint_seconds: float = 20.0


class Fit:
    """One fit in progress: the network, its optimiser, the best state so far."""

    def __init__(self, net: nn.Module, settings: FitConfig, rows: int, folder: Path | None) -> None:
        self.net, self.settings, self.rows, self.folder = net, settings, rows, folder
        self.batch = min(settings.batch, rows)
        whole = rows // self.batch
        self.per_epoch = whole if settings.drop_last else math.ceil(rows / self.batch)
        self.trained = [p for p in net.parameters() if p.requires_grad]
        self.optimiser = _optimiser(self.trained, settings)
        self.step, self.best, self.best_epoch = 0, math.inf, 0
        self.best_state: dict[str, Tensor] = {}
        self.history: list[dict[str, Any]] = []
        self.order: tuple[int, NDArray[np.int64]] = (-1, np.zeros(0, np.int64))
        self.saved = time.monotonic()

    def run(
        self,
        loss: Callable[[NDArray[np.int64]], Tensor],
        score: Callable[[], float] | None = None,
        tell: Tell | None = None,
    ) -> list[dict[str, Any]]:
        """Train; leaves the network with its best weights, in evaluation mode.

        Args:
            loss: Of the rows (numbers below `rows`) of one batch.
            score: Validation loss after an epoch, and before the first one: if nothing beats the
                start, the start is what is kept. None: the last weights are kept.
            tell: Is told the numbers of each epoch.

        Raises:
            MmclipError: If the loss is not finite.
        """
        self._resume()
        if self.step == 0 and score is not None:
            self._judge(score)
        while self.step < self.settings.epochs * self.per_epoch and not self._tired():
            value = self._one(loss)
            self.step += 1
            if self.step % self.per_epoch == 0:
                entry = {"epoch": self.step // self.per_epoch, "step": self.step, "loss": value}
                if score is not None:
                    entry["score"] = self._judge(score)
                self.history.append(entry)
                if tell is not None:
                    tell(entry)
            if time.monotonic() - self.saved > self.settings.checkpoint_seconds:
                self._save()
        if self.best_state:
            self.net.load_state_dict(self.best_state, strict=False)
        self.net.eval()
        return self.history

    def _tired(self) -> bool:
        patience = self.settings.patience
        return patience > 0 and self.step // self.per_epoch - self.best_epoch >= patience

    def _one(self, loss: Callable[[NDArray[np.int64]], Tensor]) -> float:
        s = self.settings
        epoch, within = divmod(self.step, self.per_epoch)
        if self.order[0] != epoch:
            self.order = epoch, np.random.default_rng((s.seed, epoch)).permutation(self.rows)
        torch.manual_seed(_mix(s.seed, self.step))
        self.net.train()
        value = loss(self.order[1][within * self.batch : (within + 1) * self.batch])
        if not bool(torch.isfinite(value)):
            raise MmclipError(
                f"the loss is {value.item()} at step {self.step}", "lower the learning rate"
            )
        if s.cosine:
            share = self.step / (s.epochs * self.per_epoch)
            for group in self.optimiser.param_groups:
                group["lr"] = s.learning_rate * 0.5 * (1 + math.cos(math.pi * share))
        self.optimiser.zero_grad(set_to_none=True)
        value.backward()
        torch.nn.utils.clip_grad_norm_(self.trained, 5.0)
        self.optimiser.step()
        return value.item()

    def _judge(self, score: Callable[[], float]) -> float:
        self.net.eval()
        with torch.no_grad():
            found = score()
        if found < self.best:
            self.best, self.best_epoch = found, self.step // self.per_epoch
            names = {n for n, p in self.net.named_parameters() if p.requires_grad}
            self.best_state = {
                k: v.detach().clone() for k, v in self.net.state_dict().items() if k in names
            }
        return found

    def _save(self) -> None:
        self.saved = time.monotonic()
        if self.folder is None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        state = {f"net.{k}": v for k, v in self.net.state_dict().items()}
        state |= {f"best.{k}": v for k, v in self.best_state.items()}
        state |= checkpoint.moments("moments", self.optimiser)
        body = {
            "best": self.best if math.isfinite(self.best) else None,
            "best_epoch": self.best_epoch,
            "history": self.history,
        }
        checkpoint.write(self.folder, self.step, state, body)

    def _resume(self) -> None:
        """Go on from the checkpoint if there is a whole one; else start at step 0."""
        found = None if self.folder is None else checkpoint.read(self.folder)
        if found is None:
            return
        body, state = found
        self.net.load_state_dict(checkpoint.under(state, "net."))
        place = next(self.net.parameters()).device
        best = checkpoint.under(state, "best.")
        self.best_state = {k: v.to(place) for k, v in best.items()}
        checkpoint.restore_moments("moments", self.optimiser, state)
        self.step, self.history = body["step"], body["history"]
        self.best = math.inf if body["best"] is None else body["best"]
        self.best_epoch = body["best_epoch"]


def _optimiser(parameters: list[nn.Parameter], settings: FitConfig) -> torch.optim.Optimizer:
    if settings.optimiser == "sgd":
        return torch.optim.SGD(
            parameters, settings.learning_rate, momentum=0.9, weight_decay=settings.weight_decay
        )
    return torch.optim.Adam(parameters, settings.learning_rate, weight_decay=settings.weight_decay)


def _mix(seed: int, step: int) -> int:
    return int(np.random.SeedSequence((seed, step)).generate_state(1, np.uint64)[0] >> 1)
