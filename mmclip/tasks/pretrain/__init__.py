"""An encoder trained on one view alone, for users who have no published weights: MoCo, Spender.

The weights come out under the encoder's own names, so that `mmclip train` loads them into a view.
"""

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mmclip import arrays, artifacts, config, plugins
from mmclip.artifacts import Artifact, paths, write_atomic
from mmclip.clip.model import ClipModel, Shape
from mmclip.clip.run import Run
from mmclip.config import MOST, AtLeast0, Chance, Count, Positive, Range, Seed, Size, Whole
from mmclip.datasets.build import Dataset, View
from mmclip.encoders import EncoderConfig
from mmclip.encoders.tensors import (
    built,
    device,
    fit_encoder,
    read_weights,
    tensors,
    write_tensors,
)
from mmclip.errors import NotFound, UsageError
from mmclip.metrics import scores
from mmclip.modalities import Statistics
from mmclip.tasks.pretrain.autoencoder import Autoencoder, rest_grid
from mmclip.tasks.pretrain.masked import Masked
from mmclip.tasks.pretrain.moco import MoCo, look
from mmclip.training import loop, schedule
from mmclip.training.loop import Epoch, Report, Stage, Training

Row = dict[str, Any]
Method = Literal["moco", "autoencoder", "masked"]
REDSHIFTS = ("redshift", "z", "z_hp")  # columns of the objects table
NEIGHBOURS = 16
ENCODERS = {"moco": "resnet", "autoencoder": "spender", "masked": "spectrum-transformer"}


@dataclass(frozen=True)
class PretrainConfig:
    """Settings of `mmclip pretrain`."""

    modality: str = "image"
    method: Method = "moco"
    encoder: str = ""  # empty: resnet, spender or spectrum-transformer, by the method
    width: Size = 128  # of the encoder's features
    depth: Whole = 1
    dropout: Chance = 0.0
    epochs: Count = 100
    batch: Annotated[int, Range(2, MOST)] = 64
    learning_rate: AtLeast0 = 0.0  # 0: 0.03 for moco (momentum SGD, cosine), 1e-3 for the other
    weight_decay: AtLeast0 = 1e-4  # of moco and masked
    keys: Count = 4096  # in the queue of moco; cut to the training objects in whole batches
    momentum: Chance = 0.99  # of the key encoder; 0.999 for millions of objects
    temperature: Positive = 0.2
    latents: Size = 6  # of the autoencoder
    similarity: AtLeast0 = 3.0  # weight
    consistency: AtLeast0 = 1.0  # weight
    chunks: Count = 6  # of masked: runs of patches that are hidden
    hidden: Annotated[float, Range(0, 1, above=True, below=True)] = (
        0.4  # of masked: the part of all patches in these runs
    )
    split: Literal["train", "all"] = "train"  # all: unlabelled test objects may teach too
    seed: Seed = 42
    device: str = "auto"
    checkpoint_seconds: AtLeast0 = 20.0

    def __post_init__(self) -> None:
        config.check("pretrain", self)


def pretrain(
    data: Dataset, settings: PretrainConfig, final: Path, force: bool, report: Report
) -> Artifact:
    """Train, resume if the same command was interrupted, and write the encoder to `final`.

    Raises:
        UsageError: If fewer than 8 objects have the view.
    """
    artifacts.check_free(final, force)
    view = data.views[settings.modality]
    chosen = view.present & ((data.split == "train") | (settings.split == "all"))
    rows = np.flatnonzero(chosen)
    if len(rows) < 8:
        raise UsageError(
            f"only {len(rows)} training objects have {settings.modality}", "preprocess more objects"
        )
    place = device(settings.device)
    identity = config.to_dict(settings) | {"checkpoint_seconds": 0}
    progress = artifacts.unfinished(final, [identity, data.artifact.manifest.fingerprint])
    with artifacts.locked(progress, "pre-training"):
        torch.manual_seed(settings.seed)
        encoder = fresh(settings, view.size, view.values, rows)
        net, history = _train(encoder, data, view, rows, settings, place, progress, report)
        with artifacts.building(final, replace=force, work=progress) as folder:
            made = _write(folder, net, data, view, settings, history, len(rows))
    return Artifact(final, made.manifest)


def encoder_name(settings: PretrainConfig) -> str:
    """The encoder asked for, or the method's own."""
    return settings.encoder or ENCODERS[settings.method]


def fresh(
    settings: PretrainConfig, size: tuple[int, ...], values: NDArray[np.float32] | None = None,
    rows: NDArray[np.int64] | None = None,
) -> nn.Module:  # fmt: skip
    """The encoder before any training, fitted to rows of a view; every weight of it is trained."""
    plugin = plugins.load("encoders", encoder_name(settings), "ENCODER")
    built: nn.Module = plugin.build(size, encoder_config(settings))
    if values is not None and rows is not None:
        fit_encoder(built, plugin, size, values, rows)
    return built.requires_grad_(True)


def encoder_config(settings: PretrainConfig) -> EncoderConfig:
    """Sizes and options of the encoder."""
    own = plugins.load("encoders", encoder_name(settings), "ENCODER").options
    given = dict[str, Any]()
    if own is not None and "frozen" in {f.name for f in dataclasses.fields(own)}:
        given["options"] = {"frozen": False}
    return EncoderConfig(settings.width, settings.depth, settings.dropout, **given)


def width_of(encoder: nn.Module, settings: PretrainConfig) -> int:
    """Number of features of an encoder."""
    return int(getattr(encoder, "width", settings.width))


@dataclass(frozen=True)
class _Objects:
    """The training objects of a view; `take` gives a batch of them on the device, [B, *S] each."""

    values: Tensor
    mask: Tensor
    errors: Tensor | None
    size: tuple[int, ...]
    place: torch.device

    def take(self, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor, Tensor | None]:
        at = torch.from_numpy(rows)
        values, mask, errors = (
            None if t is None else t[at].to(self.place).reshape(-1, *self.size)
            for t in (self.values, self.mask, self.errors)
        )
        assert values is not None
        assert mask is not None
        return values, mask, errors


def _train(
    encoder: nn.Module, data: Dataset, view: View, rows: NDArray[np.int64],
    settings: PretrainConfig, place: torch.device, folder: Path, report: Report,
) -> tuple[nn.Module, list[Epoch]]:  # fmt: skip
    """The encoder with the weights of the last epoch, and one entry an epoch."""
    values, mask = tensors(view.values[rows], torch.device("cpu"))
    errors = None
    if view.errors is not None:
        errors = torch.from_numpy(np.nan_to_num(view.errors[rows], posinf=0.0))
    batch = min(settings.batch, len(rows))
    objects = _Objects(values, mask, errors, view.size, place)
    net: MoCo | Autoencoder | Masked
    optimiser: torch.optim.Optimizer
    if settings.method == "moco":
        net, loss = _moco(encoder, objects, batch, settings)
        rate = settings.learning_rate or 0.03
        optimiser = torch.optim.SGD(
            _trained(net), rate, momentum=0.9, weight_decay=settings.weight_decay
        )
    elif settings.method == "masked":
        net, loss = _masked(encoder, objects, settings)
        rate = settings.learning_rate or 3e-4
        optimiser = torch.optim.AdamW(_trained(net), rate, weight_decay=settings.weight_decay)
    else:
        net, loss = _autoencoder(encoder, objects, data, view, rows, settings)
        rate = settings.learning_rate or 1e-3
        optimiser = torch.optim.Adam(_trained(net), rate)
    stage = Stage(
        settings.method,
        settings.epochs,
        optimiser,
        _trained(net),
        loop.gradient_of(net, loss),
        lambda step, steps, epochs: schedule.half_cosine(step, steps, rate),
    )
    training = Training(
        net, np.arange(len(rows)), batch, settings.seed, (stage,),
        checkpoint_seconds=settings.checkpoint_seconds,
    )  # fmt: skip
    return net.encoder, loop.run(training, folder, report)


def _trained(net: nn.Module) -> list[nn.Parameter]:
    return [p for p in net.parameters() if p.requires_grad]


Loss = Callable[[NDArray[np.int64]], Tensor]


def _moco(
    encoder: nn.Module, objects: _Objects, batch: int, settings: PretrainConfig
) -> tuple[MoCo, Loss]:
    width, count = width_of(encoder, settings), len(objects.values)
    keys = max(batch, min(settings.keys, count) // batch * batch)
    net = MoCo(encoder, width, keys, settings.momentum, settings.temperature).to(objects.place)

    def loss(rows: NDArray[np.int64]) -> Tensor:
        x, seen, error = objects.take(rows)
        who = torch.from_numpy(rows).to(objects.place)
        return net.loss(look(x, seen, error), look(x, seen, error), who)

    return net, loss


def _masked(encoder: nn.Module, objects: _Objects, settings: PretrainConfig) -> tuple[Masked, Loss]:
    net = Masked(encoder, settings.chunks, settings.hidden).to(objects.place)

    def loss(rows: NDArray[np.int64]) -> Tensor:
        x, seen, _ = objects.take(rows)
        return net.loss(x, seen)

    return net, loss


def _autoencoder(
    encoder: nn.Module, objects: _Objects, data: Dataset, view: View, rows: NDArray[np.int64],
    settings: PretrainConfig,
) -> tuple[Autoencoder, Loss]:  # fmt: skip
    redshift, z_max = redshifts(data)
    modality = data.modality(settings.modality)
    axis = modality.axis() if modality.axis and len(view.size) == 1 else None
    rest = rest_grid(axis, z_max, view.values.shape[1])
    width = width_of(encoder, settings)
    net = Autoencoder(encoder, width, settings.latents, rest).to(objects.place)
    shifts = torch.from_numpy(redshift[rows].astype(np.float32))

    def loss(chosen: NDArray[np.int64]) -> Tensor:
        x, seen, error = objects.take(chosen)
        weight = seen.to(x.dtype)
        if error is not None:
            # An error of nearly zero would let one pixel rule the loss.
            weight = weight / error.clamp(min=0.01).square()
        z = shifts[torch.from_numpy(chosen)].to(objects.place)
        found = net.losses(x, seen, weight, z, z_max)
        return (
            found["fidelity"]
            + settings.similarity * found["similarity"]
            + settings.consistency * found["consistency"]
        )

    return net, loss


def redshifts(data: Dataset) -> tuple[NDArray[np.float64], float]:
    """Redshift of each object and the largest; zero for stars and where there is none."""
    for name in REDSHIFTS:
        if name in data.objects.column_names:
            found = np.nan_to_num(arrays.column(data.objects, name).astype(np.float64))
            found = np.clip(found, 0.0, None)
            return found, float(found.max())
    return np.zeros(len(data.source_id)), 0.0


def _write(
    folder: Path, encoder: nn.Module, data: Dataset, view: View, settings: PretrainConfig,
    history: list[Epoch], objects: int,
) -> Artifact:  # fmt: skip
    write_tensors(folder / paths.ENCODER, encoder.state_dict())
    write_atomic(folder / paths.CONFIG, config.to_toml("pretrain", settings).encode())
    # Nothing is validated here: `loss` is that of training, as it was in the first of these files.
    named = [dataclasses.replace(e, loss=e.train_loss) for e in history]
    write_atomic(folder / paths.METRICS, loop.lines(named).encode())
    s = view.statistics
    shape = {
        "modality": settings.modality,
        "size": list(view.size),
        "encoder": encoder_name(settings),
        "statistics": s.to_dict(),
    }
    write_atomic(folder / paths.SHAPE, json.dumps(shape).encode())
    return artifacts.seal(
        folder,
        "encoder",
        config=config.to_dict(settings),
        parents=[data.artifact.reference],
        rows={"objects": objects},
        surveys=data.artifact.manifest.surveys,
        provenance={settings.modality: view.provenance},
        seed=settings.seed,
        notes={
            "torch": torch.__version__,
            "parameters": sum(p.numel() for p in encoder.parameters()),
        },
    )


@artifacts.opener
def open_encoder(artifact: Artifact) -> tuple[nn.Module, PretrainConfig]:
    """The trained encoder in evaluation mode, and how it was trained."""
    shape = artifacts.json_of(artifact, paths.SHAPE)
    settings = config.resolve(PretrainConfig, "pretrain", None, dict(artifact.manifest.config))
    held = read_weights(artifact, paths.ENCODER)
    encoder = built(lambda: fresh(settings, tuple(shape["size"])), held)
    encoder.load_state_dict(held)
    artifacts.check_unreplaced(artifact)
    return encoder.eval(), settings


def as_run(artifact: Artifact) -> Run:
    """A pre-trained encoder as a run of one view, whose vectors are its features, of unit length.

    `mmclip adapt --from` puts it in front of its networks.
    """
    encoder, settings = open_encoder(artifact)
    body = artifacts.json_of(artifact, paths.SHAPE)
    name = settings.modality
    shape = Shape(
        sizes={name: tuple(body["size"])},
        encoders={name: encoder_name(settings)},
        dimension=width_of(encoder, settings),
        encoder=EncoderConfig(settings.width, settings.depth, settings.dropout),
        logit_scale=1.0,
        views={name: encoder_config(settings)},
        projection=False,
        reconstruct=False,
        generate=False,
    )
    model = ClipModel(shape)
    model.encoders[name].load_state_dict(encoder.state_dict())
    return Run(artifact, model.eval(), shape, {name: Statistics.from_dict(body["statistics"])})


@torch.no_grad()
def features(encoder: nn.Module, view: View, place: torch.device) -> NDArray[np.float32]:
    """Features of every object [objects, F]; zeros where the view is absent."""
    values, mask = tensors(view.values, torch.device("cpu"))
    encoder = encoder.to(place).eval()
    found = [
        encoder(
            values[i : i + 256].to(place).unflatten(1, view.size),
            mask[i : i + 256].to(place).unflatten(1, view.size),
        ).cpu()
        for i in range(0, len(values), 256)
    ]
    return torch.cat(found).numpy()


def probe(
    artifact: Artifact, data: Dataset, label: str, k: int = NEIGHBOURS, where: str = "auto"
) -> list[Row]:
    """k-NN from training to test objects: on the raw view, untrained, and pre-trained features.

    Args:
        artifact: Of kind `encoder`.
        data: With the view and the column `label`; text is classified, a number is regressed.
        k: Neighbours, by Euclidean distance of unit vectors, weighted by 1 / distance.

    Raises:
        NotFound: If there is no such column.
    """
    encoder, settings = open_encoder(artifact)
    view, place = data.views[settings.modality], device(where)
    if label not in data.objects.column_names:
        raise NotFound(
            f"there is no column '{label}'", f"columns: {', '.join(data.objects.column_names)}"
        )
    truth = arrays.column(data.objects, label)
    torch.manual_seed(settings.seed)
    taught = np.flatnonzero(view.present & (data.split == "train"))
    untrained = fresh(settings, view.size, view.values, taught)
    kinds = {
        f"raw {settings.modality}": np.nan_to_num(view.values),
        "untrained encoder": features(untrained, view, place),
        f"{settings.method} encoder": features(encoder, view, place),
    }
    rows = []
    for name, found in kinds.items():
        row = {"label": label, "k": k, "features": name, "dimension": found.shape[1]}
        rows.append(row | neighbours(found, truth, data.split, view.present, k))
    return rows


def verdict(rows: Sequence[Mapping[str, Any]]) -> str:
    """A warning if the pre-trained features tell less than the raw view or no training at all.

    Args:
        rows: Of `probe`: raw, untrained, pre-trained.
    """
    main = "accuracy" if "accuracy" in rows[-1] else "R2"
    ours = rows[-1][main]
    better = [row for row in rows[:-1] if not row[main] < ours]
    if not better:
        return ""
    told = " and ".join(f"{row['features']} ({row[main]:.3f})" for row in better)
    return (f"warning: the pre-training did not help: {main} {ours:.3f} is not above that of "
            f"{told}")  # fmt: skip


def neighbours(
    found: NDArray[np.float32],
    truth: NDArray[Any],
    split: NDArray[Any],
    present: NDArray[np.bool_],
    k: int,
) -> Row:
    """Accuracy (text labels) or `scores` (numbers) of k-NN, training to test objects."""
    from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor

    number = truth.dtype.kind in "iuf"
    known = present & (np.isfinite(truth) if number else np.array([v is not None for v in truth]))
    train, test = known & (split == "train"), known & (split == "test")
    if not train.any() or not test.any():
        raise UsageError(
            f"{int(train.sum())} training and {int(test.sum())} test objects have the label",
            "preprocess more objects",
        )
    length = np.linalg.norm(found, axis=1, keepdims=True)
    unit = found / np.where(length > 0, length, 1.0)
    take = min(k, int(train.sum()))
    if number:
        fitted = KNeighborsRegressor(take, weights="distance").fit(unit[train], truth[train])
        return scores(truth[test].astype(float), fitted.predict(unit[test]))
    named = truth.astype(str)
    voted = KNeighborsClassifier(take, weights="distance").fit(unit[train], named[train])
    right = voted.predict(unit[test]) == named[test]
    commonest = max((named[test] == c).mean() for c in np.unique(named[test]))
    error = float(np.sqrt(right.mean() * (1 - right.mean()) / test.sum()))
    return {
        "accuracy": float(right.mean()), "accuracy +-": error,
        "commonest class": float(commonest), "objects": int(test.sum()),
    }  # fmt: skip
