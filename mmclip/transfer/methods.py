"""One label, one network: pre-trained on a source survey, made right for a target survey.

x is [stars, L] in the source's normalised units, NaN where not observed; labels are [stars].
"""

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mmclip import config
from mmclip.config import AtLeast0, Chance, Count, Positive, Size, Whole
from mmclip.errors import UsageError
from mmclip.training import loop
from mmclip.training.loop import Epoch, Report, Stage, Training, silent
from mmclip.transfer.lora import Corrected, add_lora, pull
from mmclip.transfer.regressor import WIDTHS, Regressor, Trunk, label_loss, split_outputs

Array = NDArray[np.floating]
Tuning = Literal["residual", "lora", "full", "scratch"]
TUNINGS = get_args(Tuning)


@dataclass(frozen=True)
class TuneConfig:
    """Settings of networks, their pre-training and their fine-tuning."""

    dropout: Chance = 0.1
    heteroscedastic: bool = False  # the network gives a variance too
    source_epochs: Whole = 200
    source_batch: Count = 256
    source_rate: Positive = 1e-3
    epochs: Whole = 200  # of fine-tuning
    batch: Count = 32
    patience: Whole = 20  # epochs without a better validation loss
    validation: Chance = 0.1  # of the labelled target stars, for early stopping
    residual_rate: Positive = 1e-3
    lora_rate: Positive = 1e-3
    full_rate: Positive = 1e-4
    scratch_rate: Positive = 1e-3
    rank: Size = 8  # of LoRA
    alpha: Positive = 16.0
    lora_output: bool = False  # a low-rank change of the output layer too
    l2_sp: AtLeast0 = 0.0  # strength of the pull to the pre-trained weights, full fine-tuning
    reach: Literal["head", "encoder", "both"] = "head"  # what LoRA and full fine-tuning change

    def __post_init__(self) -> None:
        config.check("adapt", self)


@dataclass(frozen=True)
class Fitted:
    """A network with the scale of its label; `trunk` is in front of it where it reads vectors."""

    net: nn.Module
    centre: float
    scale: float


@dataclass(frozen=True)
class Base:
    """A pre-trained network: an MLP on a view, or on the vectors of a run's encoder."""

    head: Regressor
    trunk: Trunk | None
    centre: float
    scale: float

    def whole(self, reach: str) -> tuple[Regressor, bool]:
        """A copy to fine-tune, and whether it reads the view itself (and not vectors)."""
        if self.trunk is None or reach == "head":
            return copy.deepcopy(self.head), self.trunk is None
        net = copy.deepcopy(self.head)
        net.trunk = copy.deepcopy(self.trunk)
        return net, True


def network(length: int, settings: TuneConfig) -> Regressor:
    """A fresh regressor of one label for inputs of `length`."""
    return Regressor(length, 2 if settings.heteroscedastic else 1, settings.dropout)


def pretrain(
    x: Array,
    y: Array,
    held: NDArray[np.bool_],
    trunk: Trunk | None,
    settings: TuneConfig,
    seed: int,
    place: torch.device,
    folder: Path | None,
    report: Report = silent,
) -> Base:
    """Train the source network: inputs `x`, labels `y`, early stopping on the rows `held`."""
    torch.manual_seed(seed)
    inputs = vectors(trunk, x, place)
    net = network(inputs.shape[1], settings).to(place)
    centre, spread = _label_scale(y[~held])
    length = _Length(
        settings.source_epochs, settings.source_batch, settings.source_rate, settings.patience
    )
    stage, known = _stage(net, net, inputs, (y - centre) / spread, held, length)
    loop.run(_training(net, stage, known, length, seed), folder, report)
    return Base(net, trunk, centre, spread)


def tune(
    base: Base, method: str, x: Array, y: Array, settings: TuneConfig, seed: int,
    place: torch.device, folder: Path | None = None,
) -> Fitted:  # fmt: skip
    """Fit one method on labelled target stars; the last `validation` part of them stops it early.

    Residual head, LoRA and full fine-tuning begin at the source network, and keep it if nothing
    is better on the validation stars; `scratch` begins from nothing and reads the view itself.

    Args:
        base: The source network.
        method: `residual`, `lora`, `full` or `scratch`.
        x, y: The labelled target stars, at least 4.
        seed: Of the initial weights and the order of stars.
        place: Where the network is trained.
        folder: For the work in progress; None: it is not kept.

    Raises:
        UsageError: If the method is unknown or there are too few stars.
    """
    if len(y) < 4:
        raise UsageError(f"fine-tuning on {len(y)} stars is not possible", "--sizes 100,200,all")
    torch.manual_seed(seed)
    net, reads_view = _wrapped(base, method, x.shape[1], settings)
    net = net.to(place)
    inputs = _tensor(x, place) if reads_view else vectors(base.trunk, x, place)
    held = np.zeros(len(y), bool)
    held[-max(2, round(settings.validation * len(y))) :] = True
    centre, scale = (base.centre, base.scale)
    if method == "scratch":
        centre, scale = _label_scale(y[~held])
    rate = getattr(settings, f"{method}_rate")
    length = _Length(settings.epochs, settings.batch, rate, settings.patience)
    forward: Callable[[Tensor], Tensor] = net
    if isinstance(net, Corrected):
        net.eval()
        inputs, forward = net.inputs(inputs), net.correct
    strength = settings.l2_sp if method == "full" else 0.0
    stage, known = _stage(net, forward, inputs, (y - centre) / scale, held, length, strength)
    loop.run(_training(net, stage, known, length, seed), folder)
    return Fitted(net, centre, scale)


def _wrapped(base: Base, method: str, length: int, settings: TuneConfig) -> tuple[nn.Module, bool]:
    if method == "scratch":
        return network(length, settings), True
    if method not in TUNINGS:
        raise UsageError(f"'{method}' is not a way to fine-tune", f"one of: {', '.join(TUNINGS)}")
    if method == "residual":
        net, reads_view = base.whole("head")
        return Corrected(net, WIDTHS[-1], net.leave.out_features), reads_view
    if settings.reach != "head" and base.trunk is None:
        raise UsageError(
            f"reach '{settings.reach}' needs an encoder, and the source is a data set",
            '--from a run, or reach = "head"',
        )
    net, reads_view = base.whole(settings.reach)
    fixed = ("hidden", "leave") if settings.reach == "encoder" else ("leave",)
    if method == "lora":
        kept = tuple(n for n in fixed if n == "hidden" or not settings.lora_output)
        return add_lora(net, settings.rank, settings.alpha, kept), reads_view
    for name, parameter in net.named_parameters():
        parameter.requires_grad_(settings.reach != "encoder" or name.startswith("trunk."))
    return net, reads_view


def restore(
    base: Base, method: str, length: int, state: dict[str, Tensor], settings: TuneConfig
) -> tuple[nn.Module, bool]:
    """The network of a method from the parameters it had trained; and whether it reads the view."""
    net, reads_view = _wrapped(base, method, length, settings)
    net.load_state_dict(state, strict=False)
    return net.eval(), reads_view


def trained_state(net: nn.Module) -> dict[str, Tensor]:
    """The trained parameters alone: what an adapter is, beside its source network."""
    return {n: p.detach() for n, p in net.named_parameters() if p.requires_grad}


@torch.no_grad()
def predict(
    base: Base, fitted: Fitted, reads_view: bool, x: Array, place: torch.device
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and 1-sigma of the label; sigma is NaN where the network gives none."""
    net = fitted.net.eval().to(place)
    inputs = _tensor(x, place) if reads_view else vectors(base.trunk, x, place)
    parts = [net(inputs[i : i + 4096]) for i in range(0, len(inputs), 4096)]
    outputs = torch.cat(parts).double().cpu()
    mean, log_variance = split_outputs(outputs)
    sigma = torch.exp(0.5 * log_variance) * fitted.scale
    if outputs.shape[1] == 1:
        sigma = torch.full_like(mean, float("nan"))
    return (mean * fitted.scale + fitted.centre).numpy(), sigma.numpy()


def reads_view(base: Base, method: str, settings: TuneConfig) -> bool:
    """Whether the network of a method reads the view itself, and not a run's vectors."""
    if base.trunk is None or method == "scratch":
        return True
    return method in ("lora", "full") and settings.reach != "head"


@torch.no_grad()
def vectors(trunk: Trunk | None, x: Array, place: torch.device) -> Tensor:
    """What the head reads: the view, or its vectors by the frozen encoder."""
    values = _tensor(x, place)
    if trunk is None:
        return values
    trunk = trunk.to(place).eval()
    return torch.cat([trunk(values[i : i + 1024]) for i in range(0, len(values), 1024)])


def _tensor(x: Array, place: torch.device) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(x, np.float32)).to(place)


def _label_scale(y: Array) -> tuple[float, float]:
    return float(y.mean()), float(y.std()) or 1.0


@dataclass(frozen=True)
class _Length:
    """How long and how fast a network is trained."""

    epochs: int
    batch: int
    learning_rate: float
    patience: int


def _stage(
    net: nn.Module,
    forward: Callable[[Tensor], Tensor],
    inputs: Tensor,
    labels: Array,
    held: NDArray[np.bool_],
    length: _Length,
    l2_sp: float = 0.0,
) -> tuple[Stage, int]:
    """Regression of z-scored labels, judged on the rows `held`; and how many rows teach."""
    truth = torch.from_numpy(labels.astype(np.float32)).to(inputs.device)
    known, judged = (torch.from_numpy(np.flatnonzero(rows)) for rows in (~held, held))
    start = {n: p.detach().clone() for n, p in net.named_parameters()} if l2_sp else {}

    def loss(rows: NDArray[np.int64]) -> Tensor:
        index = known[torch.from_numpy(rows)]
        value = label_loss(forward(inputs[index]), truth[index])
        return value + l2_sp * pull(net, start) if l2_sp else value

    def validate() -> dict[str, float]:
        net.eval()
        if not len(judged):
            return {}
        return {"loss": float(label_loss(forward(inputs[judged]), truth[judged]))}

    def stop(epochs: Sequence[Epoch]) -> bool:
        best = max((e.epoch for e in epochs if e.kept), default=0)
        return length.patience > 0 and len(epochs) - best >= length.patience

    trained = [p for p in net.parameters() if p.requires_grad]
    stage = Stage(
        "regress",
        length.epochs,
        torch.optim.Adam(trained, length.learning_rate),
        trained,
        loop.gradient_of(net, loss),
        lambda step, steps, epochs: length.learning_rate,
        validate,
        score=(lambda e: (math.inf if e.loss is None else e.loss,)) if len(judged) else None,
        score_start=len(judged) > 0,
        stop=stop,
    )
    return stage, len(known)


def _training(net: nn.Module, stage: Stage, rows: int, length: _Length, seed: int) -> Training:
    return Training(
        net,
        np.arange(rows),
        min(length.batch, rows),
        seed,
        (stage,),
        kept=frozenset(n for n, p in net.named_parameters() if p.requires_grad),
        drop_last=False,
    )
