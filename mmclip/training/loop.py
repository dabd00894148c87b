"""The training loop of every network: exact resume, best weights, early stopping, progress.

A kind of training brings what is its own as plain functions in `Stage` and `Training`. The order
of objects and every random number are functions of (seed, step), so what a checkpoint has to hold
is the weights, the moments of the optimisers, the numbers of each epoch and one step number.
"""

import dataclasses
import json
import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mmclip.config import Json
from mmclip.errors import MmclipError
from mmclip.training import checkpoint, memory, order
from mmclip.training.distributed import ALONE, Group

FORMAT = 1  # of checkpoints; one of another format is not taken up
REPORT_SECONDS = 0.5  # between two reports within an epoch


@dataclass(frozen=True)
class Step:
    """One step of a training.

    Attributes:
        number: From 0, over all stages.
        seed: Of every random number in it; torch's own generator has it already.
        rows: Of the whole batch, in all processes.
        following: Those of the next step, to be read ahead; None at the end of an epoch.
    """

    number: int
    seed: int
    rows: NDArray[np.int64]
    following: NDArray[np.int64] | None


@dataclass(frozen=True)
class Epoch:
    """What is known after an epoch; one line of `metrics.jsonl`.

    Attributes:
        stage: Of the training: `align`, `decode`, ...
        epoch, step: How many are done, over all stages.
        train_loss: Mean over the steps of the epoch.
        learning_rate: Of its last step.
        loss: Of validation; None where nothing is validated.
        numbers: All else that validation measures, by name.
        kept: These weights are the best so far.
    """

    stage: str
    epoch: int
    step: int
    train_loss: float
    learning_rate: float
    loss: float | None = None
    numbers: Mapping[str, float] = field(default_factory=dict)
    kept: bool = False

    def line(self) -> Json:
        """The JSON object of `metrics.jsonl`; what was not measured is left out."""
        body = {k: v for k, v in vars(self).items() if k not in ("numbers", "loss", "kept")}
        loss = {} if self.loss is None else {"loss": self.loss}
        return body | loss | dict(self.numbers) | ({"kept": True} if self.kept else {})


def lines(epochs: Sequence[Epoch]) -> str:
    """The text of `metrics.jsonl`."""
    return "".join(json.dumps(e.line()) + "\n" for e in epochs)


@dataclass(frozen=True)
class Progress:
    """How far a training is.

    Attributes:
        stage: What is trained.
        step, steps: Done, and of the whole training.
        loss: Of the last step.
        samples_per_second, seconds_left: Since this process began.
        epoch: What was measured, at the end of an epoch; None within one.
    """

    stage: str
    step: int
    steps: int
    loss: float
    samples_per_second: float
    seconds_left: float
    epoch: Epoch | None


Report = Callable[[Progress], None]
Score = tuple[float, ...]


def silent(progress: Progress) -> None:
    """Report nothing."""


@dataclass(frozen=True)
class Stage:
    """A part of a training with an optimiser, a loss and a length of its own.

    Attributes:
        name: In reports and metrics.
        epochs: At most.
        optimiser: Of `parameters`.
        parameters: What is trained; the norm of their gradient is clipped.
        gradient: Adds the gradient of a step's loss to the parameters; returns the loss of this
            process, detached. Puts the network into the mode it trains in.
        rate: (step of the stage, its steps, its epochs so far) -> learning rate.
        validate: Numbers measured after an epoch; `loss` is the validation loss.
        score: Of an epoch; the weights of the least one are kept. None: none are.
        score_start: Score the weights before the first step too.
        stop: Whether the epochs of the stage so far are enough.
        begin: Called with the step of the stage at which this process takes it up.
        after_step: Called after the weights have changed.
        restarts: Steps of the stage before which the optimiser forgets its moments.
        clip: Largest norm of the gradient; 0: any.
        hint: What the user can do when the loss is not finite.
    """

    name: str
    epochs: int
    optimiser: torch.optim.Optimizer
    parameters: Sequence[nn.Parameter]
    gradient: Callable[[Step], Tensor]
    rate: Callable[[int, int, Sequence[Epoch]], float]
    validate: Callable[[], Mapping[str, float]] = dict
    score: Callable[[Epoch], Score] | None = None
    score_start: bool = False
    stop: Callable[[Sequence[Epoch]], bool] = lambda epochs: False
    begin: Callable[[int], None] = lambda step: None
    after_step: Callable[[], None] = lambda: None
    restarts: Collection[int] = ()
    clip: float = 5.0
    hint: str = "lower the learning rate"


@dataclass(frozen=True)
class Training:
    """A network, the objects it is trained on, and the stages of its training.

    Attributes:
        module: All that is trained; its state is what a checkpoint holds.
        rows: Of the training objects.
        batch: Objects a step, in all processes together.
        seed: Of the order of objects and of every random number.
        stages: One after the other; each ends with its best weights, if they are scored.
        kept: Names of the weights that are kept of the best epoch; None: all of the module's.
        drop_last: Leave out the last objects of an epoch where they do not fill a batch.
        group: The processes that train together.
        checkpoint_seconds: At most this much work is lost.
    """

    module: nn.Module
    rows: NDArray[Any]
    batch: int
    seed: int
    stages: tuple[Stage, ...]
    kept: frozenset[str] | None = None
    drop_last: bool = True
    group: Group = ALONE
    checkpoint_seconds: float = 20.0

    @property
    def steps_per_epoch(self) -> int:
        """Steps of one pass over the rows."""
        count = len(self.rows) / self.batch
        return int(count) if self.drop_last else math.ceil(count)


def gradient_of(
    module: nn.Module, loss: Callable[[NDArray[np.int64]], Tensor]
) -> Callable[[Step], Tensor]:
    """The `gradient` of a stage whose loss is a function of the rows of a batch."""

    def gradient(step: Step) -> Tensor:
        module.train()
        value = loss(step.rows)
        torch.autograd.backward(value)
        return value.detach()

    return gradient


def run(training: Training, folder: Path | None, report: Report = silent) -> list[Epoch]:
    """Do all the steps that are left; the network ends with its best weights, to be evaluated.

    Args:
        training: What is trained, and how.
        folder: Where the checkpoint lies; None: there is none.
        report: Called after each epoch, and now and then within one.

    Returns:
        One entry an epoch, those of interrupted runs of the same training included.

    Raises:
        MmclipError: If the loss is not finite.
    """
    with memory.kept():
        return Loop(training, folder, report).run()


class Loop:
    """One training in progress: what changes from step to step, and its checkpoint."""

    def __init__(self, training: Training, folder: Path | None, report: Report = silent) -> None:
        self.training, self.folder, self.report = training, folder, report
        self.step = 0
        self.ends: list[int] = []  # of the stages that are over
        self.best: Score = (math.inf,)
        self.best_state: dict[str, Tensor] = {}
        self.history: list[Epoch] = []
        self.losses: list[float] = []  # of the steps of this epoch
        self.order: tuple[int, NDArray[Any]] = (-1, training.rows)
        checkpoint.pin_threads()
        self._resume()
        self.began = self.reported = self.saved = time.monotonic()
        self.first = self.step

    def run(self) -> list[Epoch]:
        """All the steps that are left."""
        for number, stage in enumerate(self.training.stages):
            if number >= len(self.ends):
                self._run_stage(stage)
                self._take_best()
                self.ends.append(self.step)
        self.training.module.eval()
        return self.history

    def _run_stage(self, stage: Stage) -> None:
        per_epoch, start = self.training.steps_per_epoch, self.ends[-1] if self.ends else 0
        stage.begin(self.step - start)
        if stage.score_start and self.step == start:
            self._keep(stage, self._measured(stage, math.nan))
        steps = stage.epochs * per_epoch
        while self.step - start < steps:
            if (self.step - start) % per_epoch == 0 and stage.stop(self.epochs(stage)):
                return
            loss = take_step(self, stage, self.step - start)
            self.step += 1
            measured = None
            if self.step % per_epoch == 0:
                measured = self._keep(stage, self._measured(stage, float(np.mean(self.losses))))
                self.history.append(measured)
                self.losses = []
            self._say(stage, loss, measured)
            if time.monotonic() - self.saved > self.training.checkpoint_seconds:
                self._save()

    def epochs(self, stage: Stage) -> list[Epoch]:
        return [e for e in self.history if e.stage == stage.name]

    def rows(self, step: int) -> NDArray[np.int64]:
        """The training rows of a step, in all processes."""
        t = self.training
        epoch, within = divmod(step, t.steps_per_epoch)
        if self.order[0] != epoch:
            self.order = epoch, order.shuffled(t.rows, t.seed, epoch)
        return self.order[1][within * t.batch : (within + 1) * t.batch].astype(np.int64)

    def next_step(self) -> Step:
        """What the next step is made of; torch's own random numbers begin at its seed."""
        t = self.training
        seed = order.mix(t.seed, self.step)
        torch.manual_seed(seed + t.group.rank)
        rows = self.rows(self.step)
        last = (self.step + 1) % t.steps_per_epoch == 0
        return Step(self.step, seed, rows, None if last else self.rows(self.step + 1))

    def _measured(self, stage: Stage, train_loss: float) -> Epoch:
        with torch.no_grad():
            numbers = dict(stage.validate())
        loss, rate = numbers.pop("loss", None), stage.optimiser.param_groups[0]["lr"]
        done = self.step // self.training.steps_per_epoch
        return Epoch(stage.name, done, self.step, train_loss, float(rate), loss, numbers)

    def _keep(self, stage: Stage, measured: Epoch) -> Epoch:
        """Hold on to the weights of an epoch if they are the best so far."""
        score = None if stage.score is None else stage.score(measured)
        if score is None or not score < self.best:
            return measured
        self.best, names = score, self.training.kept
        self.best_state = {
            k: v.detach().clone()
            for k, v in self.training.module.state_dict().items()
            if names is None or k in names
        }
        return dataclasses.replace(measured, kept=True)

    def _take_best(self) -> None:
        """At the end of a stage: its best weights, if any were kept."""
        if self.best_state:
            self.training.module.load_state_dict(self.best_state, strict=False)
        self.best, self.best_state = (math.inf,), {}

    def _say(self, stage: Stage, loss: float, measured: Epoch | None) -> None:
        now = time.monotonic()
        if measured is None and now - self.reported <= REPORT_SECONDS:
            return
        self.reported = now
        done = (self.step - self.first) * self.training.batch
        speed = done / max(now - self.began, 1e-9)
        steps = self._steps(stage, measured)
        left = (steps - self.step) * self.training.batch / speed
        self.report(Progress(stage.name, self.step, steps, loss, speed, left, measured))

    def _steps(self, stage: Stage, measured: Epoch | None) -> int:
        """Steps of the whole training, as far as is known now."""
        begun = self.ends[-1] if self.ends else 0
        own = stage.epochs * self.training.steps_per_epoch
        if measured is not None and stage.stop(self.epochs(stage)):
            own = self.step - begun
        later = self.training.stages[len(self.ends) + 1 :]
        return begun + own + sum(s.epochs for s in later) * self.training.steps_per_epoch

    def _save(self) -> None:
        """Write the whole state; the first process does."""
        self.saved = time.monotonic()
        if self.folder is None or self.training.group.rank > 0:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        state = {f"model.{k}": v for k, v in self.training.module.state_dict().items()}
        state |= {f"best.{k}": v for k, v in self.best_state.items()}
        for stage in self.training.stages:
            state |= checkpoint.moments(f"optimiser.{stage.name}", stage.optimiser)
        body = {
            "loop": FORMAT,
            "ends": self.ends,
            "best": list(self.best) if self.best_state else None,
            "losses": self.losses,
            "history": [dataclasses.asdict(e) for e in self.history],
        }
        checkpoint.write(self.folder, self.step, state, body)

    def _resume(self) -> None:
        """Go on from the checkpoint if there is a whole one; else start at step 0."""
        found = None if self.folder is None else checkpoint.read(self.folder)
        if found is None or found[0].get("loop") != FORMAT:
            return
        body, state = found
        module = self.training.module
        module.load_state_dict(checkpoint.under(state, "model."))
        place = next(module.parameters()).device
        self.best_state = {k: v.to(place) for k, v in checkpoint.under(state, "best.").items()}
        for stage in self.training.stages:
            checkpoint.restore_moments(f"optimiser.{stage.name}", stage.optimiser, state)
        self.step, self.ends, self.losses = body["step"], body["ends"], body["losses"]
        self.best = tuple(body["best"] or (math.inf,))
        self.history = [Epoch(**e) for e in body["history"]]


def take_step(loop: Loop, stage: Stage, within: int) -> float:
    """One step of a stage, its `within`-th: gradient, rate, weights; returns the loss.

    Raises:
        MmclipError: If the loss is not finite.
    """
    group = loop.training.group
    step = loop.next_step()
    if within in stage.restarts:
        stage.optimiser.state.clear()
    stage.optimiser.zero_grad(set_to_none=True)
    loss = float(group.total(stage.gradient(step))) / group.size
    if not math.isfinite(loss):
        raise MmclipError(f"the loss is {loss} at step {loop.step}", stage.hint)
    rate = stage.rate(within, stage.epochs * loop.training.steps_per_epoch, loop.epochs(stage))
    for each in stage.optimiser.param_groups:
        each["lr"] = rate
    if stage.clip:
        nn.utils.clip_grad_norm_(stage.parameters, stage.clip)
    stage.optimiser.step()
    stage.after_step()
    loop.losses.append(loss)
    return loss
