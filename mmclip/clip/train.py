"""`mmclip train`: a data set and settings -> a run on disk, resumed if it was interrupted."""

import json
from collections.abc import Callable
from pathlib import Path

import torch

from mmclip import artifacts, config
from mmclip.artifacts import Artifact, paths, write_atomic
from mmclip.clip.model import ClipModel, Shape
from mmclip.clip.run import shape_to_dict
from mmclip.clip.settings import TrainConfig, model_shape, weight_files
from mmclip.clip.stages import ALIGN, ClipTraining, labels_of
from mmclip.datasets.build import Dataset
from mmclip.encoders.tensors import write_tensors
from mmclip.errors import UsageError
from mmclip.training import distributed, loop
from mmclip.training.loop import Epoch, Report

Draw = Callable[[list[Epoch]], dict[str, bytes]]


def train(
    data: Dataset,
    settings: TrainConfig,
    final: Path,
    report: Report,
    force: bool,
    draw: Draw | None = None,
) -> Artifact:
    """Train, resume if the same command was interrupted before, and write the run to `final`.

    Under `torchrun` all processes train together; the first one writes.

    Args:
        data: With one view or more; one alone is trained by self-supervision: a star redrawn
            within its errors must find itself, and a vector must give its view again.
        settings: All that fixes the result besides the data.
        final: The run's directory-to-be.
        report: Called after each epoch, and now and then within one.
        force: Replace a run that is there.
        draw: Metrics -> pictures by file name, put beside them.

    Raises:
        UsageError: If there is no modality, one alone without anything to learn from, fewer
            than two training objects are left, or no training object has one of the modalities.
        NotFound: If a label is no column of the data.
    """
    names = sorted(data.views)
    _check_single(data, settings, names)
    learnt = data.of("train")
    for name, view in data.views.items():
        if not (view.present & learnt).any():
            raise UsageError(
                f"no training star has {name}: there is nothing to align it by",
                f"mmclip train --modalities {','.join(n for n in names if n != name)}",
            )
    if settings.labels:
        labels_of(data, settings.labels)  # refuses before anything is begun
    artifacts.check_free(final, force)
    shape = model_shape(data.views, settings)
    weights = {n: artifacts.sha256(f) for n, f in weight_files(settings, names).items()}
    identity = {
        "config": config.to_dict(settings) | {"checkpoint_seconds": 0, "modalities": names},
        "data": data.artifact.manifest.fingerprint,
        "weights": weights,
    }
    partial = artifacts.unfinished(final, identity)
    group = distributed.join()
    if group.rank > 0:
        return _follow(data, settings, shape, partial, group, final)
    with artifacts.locked(partial, "training"):
        group.wait()
        training = ClipTraining(data, settings, shape, partial, group)
        metrics = training.run(report)
        with artifacts.building(final, replace=force, work=partial) as folder:
            for name, picture in (draw(metrics) if draw else {}).items():
                write_atomic(folder / name, picture)
            artifact = _write(folder, data, settings, shape, training.model, metrics, weights)
        group.wait()
    return Artifact(final, artifact.manifest)


def _check_single(data: Dataset, settings: TrainConfig, names: list[str]) -> None:
    """Refuse to train on nothing, or on one view that neither errors nor pixels teach."""
    if not names:
        raise UsageError("the data set has no view to train on", "mmclip preprocess")
    redrawn = settings.self_contrast > 0 and settings.noise
    if len(names) == 1 and not (settings.reconstruction > 0 or redrawn):
        raise UsageError(
            f"{names[0]} alone is trained by self_contrast or reconstruction, and both are off",
            "mmclip train --set reconstruction=1",
        )


def _follow(
    data: Dataset,
    settings: TrainConfig,
    shape: Shape,
    partial: Path,
    group: distributed.Group,
    final: Path,
) -> Artifact:
    """The part of a process that does not write: the same steps, then wait for the run."""
    group.wait()
    ClipTraining(data, settings, shape, partial, group).run()
    group.wait()
    return artifacts.read(final)


def _write(
    folder: Path,
    data: Dataset,
    settings: TrainConfig,
    shape: Shape,
    model: ClipModel,
    metrics: list[Epoch],
    weights: dict[str, str],
) -> Artifact:
    write_tensors(folder / paths.MODEL, model.state_dict())
    write_atomic(folder / paths.CONFIG, config.to_toml("train", settings).encode())
    write_atomic(folder / paths.METRICS, loop.lines(metrics).encode())
    kept = {n: v.statistics.to_dict() for n, v in data.views.items()}
    body = {"shape": shape_to_dict(shape), "statistics": kept}
    write_atomic(folder / paths.SHAPE, json.dumps(body).encode())
    provenance = {n: v.provenance for n, v in data.views.items()}
    write_atomic(folder / "card.md", card(data, shape, model, metrics).encode())
    return artifacts.seal(
        folder,
        "run",
        config=config.to_dict(settings),
        parents=[data.artifact.reference],
        rows={s: int(data.of(s).sum()) for s in ("train", "validation", "test")},
        surveys=data.artifact.manifest.surveys,
        provenance=provenance,
        seed=settings.seed,
        notes={
            "torch": torch.__version__,
            "parameters": sum(p.numel() for p in model.parameters()),
        }
        | ({"weights": weights} if weights else {}),
    )


def card(data: Dataset, shape: Shape, model: ClipModel, metrics: list[Epoch]) -> str:
    """The model card: what it saw, what it is, how it ended."""
    views = "\n".join(
        f"- `{n}`: {' x '.join(map(str, shape.sizes[n]))} values, encoder `{shape.encoders[n]}`, "
        f"**{v.provenance}**, {int(v.present.sum())} objects"
        for n, v in data.views.items()
    )
    losses = [e.loss for e in metrics if e.stage == ALIGN and e.loss is not None]
    ended = f"{min(losses):.4f}" if losses else "not measured"
    kept = [e for e in metrics if e.stage == ALIGN and e.kept]
    recall = ""
    if kept and "recall@1" in kept[-1].numbers:
        numbers = kept[-1].numbers
        seen = max(int(v) for k, v in numbers.items() if k.startswith("candidates"))
        recall = (
            f"Weights kept from epoch {kept[-1].epoch}: validation recall@1 "
            f"{numbers['recall@1']:.3f} among {seen} candidates (chance {1 / seen:.4f}).\n"
        )
    told = (
        f"Trained to tell {shape.labels} labels of training objects too.\n" if shape.labels else ""
    )
    return (
        f"# Model card\n\nTrained on `{data.artifact.path.name}` "
        f"({int(data.of('train').sum())} training objects).\n\n{views}\n\n"
        f"Embedding dimension {shape.dimension}; "
        f"{sum(p.numel() for p in model.parameters()):,} parameters.\n"
        f"Best validation loss: {ended}.\n{recall}{told}"
    )
