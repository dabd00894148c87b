"""Networks trained end to end on a view, as the tables of the Multimodal Universe have them.

N objects, T targets.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmclip import plugins
from mmclip.datasets import split
from mmclip.datasets.build import Dataset
from mmclip.encoders import EncoderConfig
from mmclip.encoders.tensors import device, tensors
from mmclip.errors import UsageError, nearest
from mmclip.tasks.classify import cache
from mmclip.tasks.classify.cache import Cell, Guesses
from mmclip.tasks.curve_summary import summary
from mmclip.training import loop, schedule
from mmclip.training.loop import Stage, Training

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Network:
    """An encoder that ends in the labels: its name, and its own settings."""

    encoder: str
    dropout: float = 0.0
    options: dict[str, object] = dataclasses.field(default_factory=dict)


# The public baselines of AstroCLIP, which the Multimodal Universe trains too: ResNet-18 of images;
# of spectra four small convolutions, attention over wavelength, dense layers of 32.
NETWORKS = {
    "resnet18": Network("resnet18"),
    "conv-attention": Network(
        "spender",
        options={
            "channels": (8, 16, 16, 32), "kernels": (5, 10, 20, 40), "pools": (5, 10, 20),
            "hidden": (32, 32), "activation": "prelu",
        },
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Protocol:
    """How long such a network is trained: Adam, the rate falling along half a cosine."""

    epochs: int = 50
    batch: int = 256
    learning_rate: float = 5e-4
    held: float = 0.1  # part of the training objects that chooses the weights
    seed: int = 42
    device: str = "auto"


def regress(
    data: Dataset, view: str, network: str, labels: dict[str, Floats], protocol: Protocol,
    folder: Path | None = None, tell: Callable[[str], None] = lambda line: None,
) -> dict[str, tuple[Floats, Floats]]:  # fmt: skip
    """Truth and prediction of each label for the test objects, by one network for all of them.

    Labels are standardised on the training objects, and are predicted in their own unit. Objects
    without the view or one of the labels are left out.

    Args:
        data: With the view.
        view, network: The name of a view, and one of `NETWORKS`.
        labels: [objects] each, NaN where not known.
        protocol: See there.
        folder: Where the answer is kept, and taken from the next time; None: it is not.
        tell: Is told a line an epoch.

    Raises:
        UsageError: If the network is not known, or too few objects have the view and labels.
    """
    if network not in NETWORKS:
        raise UsageError(f"no network '{network}'; {nearest(network, list(NETWORKS))}", "")
    truth = np.stack(list(labels.values()), axis=1)
    known = np.isfinite(truth).all(axis=1) & data.views[view].present
    taught = np.flatnonzero(known & (data.split == "train"))
    test = np.flatnonzero(known & (data.split == "test"))
    if len(taught) < 4 or len(test) < 2:
        raise UsageError(
            f"{len(taught)} training and {len(test)} test objects have {view} and "
            f"{', '.join(labels)}",
            "preprocess more objects",
        )
    settled = {"network": network, "view": view, "labels": list(labels)}
    file = folder and cache.place(folder, **settled, **dataclasses.asdict(protocol))
    kept = cache.read(file) if file else None
    if kept is None:
        found = _fit(data, view, network, truth, taught, test, protocol, tell)
        guesses = np.zeros(len(test), np.int64)
        kept = Cell([Guesses(n, guesses, found[:, i]) for i, n in enumerate(labels)], [])
        if file:
            cache.write(file, kept)
    return {
        made.name: (truth[test, i], np.asarray(made.confidence, np.float64))
        for i, made in enumerate(kept.guesses)
    }


def by_trees(
    data: Dataset, view: str, labels: Floats, measure: str, seed: int
) -> tuple[Floats, Floats]:
    """Truth and prediction of the test objects, by boosted trees on a summary of a view.

    Args:
        data, view: With the view.
        labels: [objects], NaN where not known; 0 or 1 where the measure is `auc`.
        measure: auc: the probability of 1 is predicted | rmse: the label.
        seed: Of the trees.

    Raises:
        UsageError: If too few objects have the view and the label, or all have one class.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    shown = data.views[view]
    known = np.isfinite(labels) & shown.present
    taught, test = (np.flatnonzero(known & (data.split == part)) for part in ("train", "test"))
    alike = measure == "auc" and len(np.unique(labels[taught])) < 2
    if len(taught) < 4 or len(test) < 2 or alike:
        raise UsageError(
            f"{len(taught)} training and {len(test)} test objects have {view} and the label"
            + (", all of one class" if alike else ""),
            "preprocess more objects",
        )
    x, asked = (summary(np.asarray(shown.values[r]), shown.size) for r in (taught, test))
    if measure == "auc":
        forest = HistGradientBoostingClassifier(random_state=seed).fit(x, labels[taught] > 0.5)
        return labels[test], np.asarray(forest.predict_proba(asked)[:, 1], np.float64)
    trees = HistGradientBoostingRegressor(random_state=seed).fit(x, labels[taught])
    return labels[test], np.asarray(trees.predict(asked), np.float64)


def _fit(
    data: Dataset, view: str, network: str, truth: Floats, taught: NDArray[np.int64],
    test: NDArray[np.int64], protocol: Protocol, tell: Callable[[str], None],
) -> Floats:  # fmt: skip
    """[test objects, T] predictions."""
    chosen, shown, place = NETWORKS[network], data.views[view], device(protocol.device)
    torch.manual_seed(protocol.seed)
    plugin = plugins.load("encoders", chosen.encoder, "ENCODER")
    config = EncoderConfig(truth.shape[1], 0, chosen.dropout, chosen.options)
    plugin.check(shown.size, config)
    net = plugin.build(shown.size, config).to(place)
    held = split.mix(data.source_id[taught], protocol.seed) % np.uint64(1000)
    judged = held < np.uint64(1000 * protocol.held)
    judged[:1] |= not judged.any()
    known, watched = taught[~judged], taught[judged]
    centre, scale = truth[known].mean(axis=0), truth[known].std(axis=0)
    scale = np.where(scale > 0, scale, 1.0)
    wanted = torch.from_numpy(((truth - centre) / scale).astype(np.float32))

    def answers(rows: NDArray[np.int64]) -> Tensor:
        values, mask = tensors(np.asarray(shown.values[rows]), place)
        made: Tensor = net(values.unflatten(1, shown.size), mask.unflatten(1, shown.size))
        return made

    def loss(rows: NDArray[np.int64]) -> Tensor:
        return (answers(rows) - wanted[rows].to(place)).square().mean()

    @torch.no_grad()
    def predict(rows: NDArray[np.int64]) -> Tensor:
        net.eval()
        parts = [answers(rows[i : i + 512]).cpu() for i in range(0, len(rows), 512)]
        return torch.cat(parts)

    def validate() -> dict[str, float]:
        return {"loss": float((predict(watched) - wanted[watched]).square().mean())}

    stage = Stage(
        "regress", protocol.epochs, torch.optim.Adam(net.parameters(), protocol.learning_rate),
        list(net.parameters()), loop.gradient_of(net, loss),
        lambda step, steps, done: schedule.half_cosine(step, steps, protocol.learning_rate),
        validate, score=lambda epoch: (float(epoch.loss or 0.0),), clip=0.0,
    )  # fmt: skip

    def report(progress: loop.Progress) -> None:
        if progress.epoch is not None:
            tell(f"{network} on {view}: epoch {progress.epoch.epoch}, loss {progress.epoch.loss}")

    batch = min(protocol.batch, len(known))
    loop.run(Training(net, known, batch, protocol.seed, (stage,)), None, report)
    found: Floats = predict(test).double().numpy() * scale + centre
    return found
