"""Classifiers on the encoders of a run: a head alone, or everything trained further."""

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from mmclip.clip.model import ClipModel, Shape
from mmclip.config import AtLeast0, Chance, Count, Part, Positive, Range, Seed, Whole, choice
from mmclip.encoders.tensors import Batch, device, tensors
from mmclip.errors import UsageError
from mmclip.training import loop, schedule
from mmclip.training.loop import Epoch, Report, Stage, Training, silent


@dataclass(frozen=True)
class FinetuneConfig:
    """Settings of a fine-tuning.

    Source:
        Rizhko & Bloom 2025, arXiv:2411.08842, and its code: linear warm-up over 10 epochs, then
        the rate falls when the validation loss stalls for 3; at most 50 epochs, stopped after 6
        without improvement of the validation loss; the weights of the best validation accuracy.
        Its learning rates, dropouts and the like were searched for, one set a run: those are
        `[finetune]` of `mmclip/papers/astrom3.toml`; here is one set for all.
    """

    epochs: Count = 50
    batch: Count = 512  # a smaller training set is one batch
    learning_rate: Positive = 1e-3
    beta1: Chance = 0.9  # of Adam
    weight_decay: AtLeast0 = 1e-4
    dropout: Annotated[
        tuple[float, ...], Range(0, 1, below=True)
    ] = ()  # of each view's encoder; empty: that of the run
    warm_up: Whole = 10  # epochs
    warm_up_start: Part = 0.0  # part of the rate in the first epoch; 0: one part in `warm_up`
    factor: Annotated[float, Range(0, 1, above=True, below=True)] = 0.3  # by which the rate falls
    stall: Whole = 3  # epochs without improvement before it falls
    patience: Count = 6  # epochs without improvement before the end
    waited_first: Whole = 0  # what the counter of `patience` holds after the first epoch
    clip_gradient: AtLeast0 = 5.0  # 0: none
    scaled: bool = True  # several views: the head reads entries of order one
    least_steps: Whole = 400  # small sets go on for more epochs, until so many steps
    loss: str = "cross-entropy"  # cross-entropy | balanced (each class weighs alike) | focal
    focal: AtLeast0 = 2.0  # exponent of the focal loss
    seed: Seed = 42
    device: str = "auto"


class Classifier(nn.Module):
    """Encoders and a linear head.

    One view: the head reads the encoder's features (its projection is unused). Several: the mean
    of the unit vectors of those views that an object has, times sqrt(dimension) if `scaled`.
    """

    def __init__(
        self, model: ClipModel, views: tuple[str, ...], classes: int, scaled: bool = True
    ) -> None:
        super().__init__()
        self.model, self.views, self.scaled = model, views, scaled
        length = math.prod(model.sizes[views[0]])
        blank = torch.zeros(1, length), torch.ones(1, length, dtype=torch.bool)
        model.eval()
        with torch.no_grad():
            alone = len(views) == 1
            seen = self._features(views[0], *blank) if alone else model.embed(views[0], *blank)
        self.head = nn.Linear(seen.shape[1], classes)

    def _features(self, view: str, values: Tensor, mask: Tensor) -> Tensor:
        size = self.model.sizes[view]
        features: Tensor = self.model.encoders[view](
            values.unflatten(1, size), mask.unflatten(1, size)
        )
        return features.flatten(1).float()

    def forward(self, batch: Batch, use: tuple[str, ...] = ()) -> Tensor:
        """Logits [B, classes]; `use` names the views to look at, all of them by default."""
        if len(self.views) == 1:
            logits: Tensor = self.head(self._features(self.views[0], *batch[self.views[0]]))
            return logits
        total, seen = torch.zeros(()), torch.zeros(())
        for view in use or self.views:
            values, mask = batch[view]
            present = mask.any(dim=1, keepdim=True).float()
            total = total + self.model.embed(view, values, mask) * present
            seen = seen + present
        # Entries of order one, as a dense layer's first weights expect; else it learns slowly.
        mean = total / seen.clamp(min=1) * (self.head.in_features**0.5 if self.scaled else 1.0)
        combined: Tensor = self.head(mean)
        return combined


def start_from(
    model: ClipModel | None,
    shape: Shape,
    views: tuple[str, ...],
    classes: int,
    seed: int,
    config: FinetuneConfig | None = None,
    fitted: ClipModel | None = None,
) -> Classifier:
    """A classifier from a run's weights, or from new ones where there is no model.

    What encoders were fitted to (`Encoder.fit`) new ones take from `fitted`.

    Raises:
        UsageError: If there is not one dropout a view.
    """
    config = config or FinetuneConfig()
    torch.manual_seed(seed)
    if config.dropout:
        shape = with_dropout(shape, views, config.dropout)
    if model is None:
        fresh = ClipModel(shape)
        if fitted is not None:
            fresh.load_state_dict(dict(fitted.named_buffers()), strict=False)
    elif config.dropout:
        fresh = ClipModel(shape)
        fresh.load_state_dict(model.state_dict())
    else:
        fresh = copy.deepcopy(model)
    # What generates or rebuilds a view is not needed, and costs memory.
    for unused in ("generators", "reconstructors"):
        if hasattr(fresh, unused):
            setattr(fresh, unused, nn.ModuleDict())
    torch.manual_seed(seed)
    return Classifier(fresh, views, classes, config.scaled)


def with_dropout(shape: Shape, views: tuple[str, ...], dropout: tuple[float, ...]) -> Shape:
    """The shape of a model with other dropouts, one a view."""
    if len(dropout) != len(views):
        raise UsageError(f"{len(dropout)} dropouts for {len(views)} views", "give one for each")
    other = {
        v: replace(shape.views.get(v, shape.encoder), dropout=p)
        for v, p in zip(views, dropout, strict=True)
    }
    return replace(shape, views=dict(shape.views) | other)


def finetune(
    classifier: Classifier,
    values: dict[str, NDArray[np.float32]],
    labels: NDArray[np.int64],
    rows: dict[str, NDArray[np.int64]],
    config: FinetuneConfig,
    folder: Path | None = None,
    report: Report = silent,
) -> Classifier:
    """Train the whole classifier; returns it with the weights of the best validation accuracy.

    Args:
        classifier: See `start_from`.
        values: [objects, length] of each of its views; NaN where not observed.
        labels: [objects] class numbers.
        rows: Rows of `train` and of `validation`.
        config: See `FinetuneConfig`.
        folder: For the work in progress; None: it is not kept.
        report: Called after each epoch, and now and then within one.

    Raises:
        UsageError: If there is nothing to train or to validate on.
    """
    if len(rows["train"]) < 2 or len(rows["validation"]) == 0:
        raise UsageError(
            f"{len(rows['train'])} training and {len(rows['validation'])} validation objects",
            "preprocess more objects",
        )
    place = device(config.device)
    classifier = classifier.to(place)
    held = {v: tensors(values[v], place) for v in classifier.views}
    truth = torch.from_numpy(labels).to(place)
    batch = min(config.batch, len(rows["train"]))
    stage = _stage(classifier, held, truth, rows, config, len(rows["train"]) // batch)
    loop.run(Training(classifier, rows["train"], batch, config.seed, (stage,)), folder, report)
    return classifier


def _stage(
    classifier: Classifier, held: Batch, truth: Tensor, rows: dict[str, NDArray[np.int64]],
    config: FinetuneConfig, steps_per_epoch: int,
) -> Stage:  # fmt: skip
    """Small sets go on for more epochs, and wait for an improvement that much longer."""
    trained = truth[torch.from_numpy(rows["train"]).to(truth.device)]
    of_logits = class_loss(config, torch.bincount(trained, minlength=classifier.head.out_features))
    epochs = max(config.epochs, -(-config.least_steps // steps_per_epoch))
    patience = max(config.patience, config.patience * epochs // config.epochs)
    stall = config.stall * max(1, epochs // config.epochs)

    def loss(chosen: NDArray[np.int64]) -> Tensor:
        index = torch.from_numpy(chosen).to(truth.device)
        batch = {v: (x[index], m[index]) for v, (x, m) in held.items()}
        return of_logits(classifier(batch), truth[index])

    plan = schedule.Plan(
        learning_rate=config.learning_rate, warm_up_epochs=config.warm_up,
        warm_up_start=config.warm_up_start, plateau_factor=config.factor, plateau_patience=stall,
    )  # fmt: skip

    def rate(step: int, steps: int, done: Sequence[Epoch]) -> float:
        if config.warm_up_start:
            return schedule.plateau(len(done), [_loss(e) for e in done], plan)
        cuts = schedule.stalls([_loss(e) for e in done], stall)
        warm = min(1.0, (len(done) + 1) / max(1, config.warm_up))
        return config.learning_rate * config.factor**cuts * warm

    return Stage(
        "fine-tune",
        epochs,
        torch.optim.Adam(
            classifier.parameters(),
            config.learning_rate,
            (config.beta1, 0.999),
            weight_decay=config.weight_decay,
        ),
        list(classifier.parameters()),
        loop.gradient_of(classifier, loss),
        rate,
        lambda: _validate(classifier, held, truth, rows["validation"]),
        score=lambda e: (-e.numbers["accuracy"], _loss(e)),
        stop=lambda done: schedule.stopped([_loss(e) for e in done], patience, config.waited_first),
        clip=config.clip_gradient,
    )


def class_loss(config: FinetuneConfig, counts: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    """Loss of logits [B, classes] against class numbers [B].

    Args:
        config: Says which.
        counts: [classes] training objects; a balanced loss weighs a class by 1 / count, scaled
            so that the weights of all objects have mean 1.

    Raises:
        UsageError: If the loss is not known.

    Source:
        Focal loss: Lin et al. 2017, arXiv:1708.02002, mean of -(1 - p)^gamma ln p.
    """
    choice("[classify] loss", config.loss, ("cross-entropy", "balanced", "focal"))
    if config.loss == "focal":

        def focal(logits: Tensor, truth: Tensor) -> Tensor:
            logp = functional.log_softmax(logits, 1).gather(1, truth[:, None])[:, 0]
            return -((1 - logp.exp()) ** config.focal * logp).mean()

        return focal
    if config.loss == "cross-entropy":
        return functional.cross_entropy
    known = counts > 0
    weight = counts.sum() / (known.sum() * counts.clamp(min=1)).float()

    def balanced(logits: Tensor, truth: Tensor) -> Tensor:
        each = functional.cross_entropy(logits, truth, reduction="none")
        return (weight[truth] * each).mean()

    return balanced


def _loss(epoch: Epoch) -> float:
    return math.inf if epoch.loss is None else epoch.loss


def _validate(
    classifier: Classifier, held: Batch, truth: Tensor, rows: NDArray[np.int64]
) -> dict[str, float]:
    logits = _logits(classifier, held, rows, ())
    here = truth[torch.from_numpy(rows).to(truth.device)]
    loss = functional.cross_entropy(logits, here).item()
    return {"loss": loss, "accuracy": float((logits.argmax(1) == here).float().mean())}


@torch.no_grad()
def _logits(
    classifier: Classifier, held: Batch, rows: NDArray[np.int64], use: tuple[str, ...]
) -> Tensor:
    classifier.eval()
    torch.manual_seed(0)  # an encoder that samples does so alike each time
    found = []
    for start in range(0, len(rows), 1024):
        index = torch.from_numpy(rows[start : start + 1024])
        place = next(iter(held.values()))[0].device
        chosen = {v: (x[index.to(place)], m[index.to(place)]) for v, (x, m) in held.items()}
        found.append(classifier(chosen, use))
    return torch.cat(found)


def probabilities(
    classifier: Classifier,
    values: dict[str, NDArray[np.float32]],
    rows: NDArray[np.int64],
    use: tuple[str, ...] = (),
) -> NDArray[np.float64]:
    """[rows, classes] probabilities; `use` names the views to look at, all by default."""
    place = next(classifier.parameters()).device
    held = {v: tensors(values[v], place) for v in classifier.views}
    soft = torch.softmax(_logits(classifier, held, rows, use).double(), dim=1)
    return np.asarray(soft.cpu().numpy())
