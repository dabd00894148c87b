"""The resumable training loop.

The order of samples and every random number are pure functions of (seed, step), so the state to
resume from is the weights, the optimiser's moments and one number.
"""

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmclip import artifacts, config, plugins
from mmclip.artifacts import Artifact, write_atomic
from mmclip.clip import checkpoint
from mmclip.clip.model import Batch, ClipModel, Shape
from mmclip.clip.run import device, shape_to_dict, tensors, write_tensors
from mmclip.datasets.build import Dataset
from mmclip.encoders import EncoderConfig
from mmclip.errors import MmclipError, UsageError

Tell = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class TrainConfig:
    """Settings of `mmclip train`."""

    modalities: tuple[str, ...] = ()  # empty: every view of the data set
    encoders: tuple[str, ...] = ()  # one a modality, in their order; empty: each one's own
    dimension: int = 128  # of the shared space
    width: int = 512  # of the encoders
    depth: int = 2  # residual blocks
    dropout: float = 0.1
    epochs: int = 100
    generator_epochs: int = 50  # of the decoders, on frozen vectors
    batch: int = 256
    learning_rate: float = 1e-3  # peak; linear warm-up, then a cosine to zero
    warm_up: float = 0.05  # fraction of the steps
    weight_decay: float = 0.05  # decoupled; matrices only
    logit_scale: float = 10.0  # at the start; learned, held in [1, 100]
    symmetric: str = "mean"  # mean | sum of the two directions
    pairs: str = "mean"  # mean | sum over pairs of modalities
    reconstruction: float = 1.0  # weight of each view's own reconstruction; 0: CLIP alone
    self_contrast: float = 0.5  # weight of telling a redrawn spectrum from the others; 0: none
    noise: float = 1.0  # training spectra are redrawn within this many of their errors
    seed: int = 42
    device: str = "auto"
    checkpoint_seconds: float = 20.0  # at most this much work is lost


def train(data: Dataset, settings: TrainConfig, final: Path, tell: Tell, force: bool) -> Artifact:
    """Train, resume if the same command was interrupted before, and write the run to `final`.

    Args:
        data: With at least two views.
        settings: All that fixes the result besides the data.
        final: The run's directory-to-be.
        tell: Is told a dictionary of numbers after each epoch.
        force: Replace a run that is there.

    Raises:
        UsageError: If fewer than two modalities or fewer than two training objects are left.
    """
    names = sorted(data.views)
    if len(names) < 2:
        raise UsageError(
            f"training needs two modalities or more, here is {', '.join(names) or 'none'}",
            "mmclip train --modalities xp,metadata",
        )
    if final.exists() and not force:
        raise MmclipError(f"{final} exists already", "choose another --name, or add --force")
    shape = model_shape(data, settings)
    identity = {
        "config": config.to_dict(settings) | {"checkpoint_seconds": 0, "modalities": names},
        "data": data.artifact.manifest.fingerprint,
    }
    partial = checkpoint.place(final, identity)
    with checkpoint.locked(partial):
        loop = Loop(data, settings, shape, partial)
        metrics = loop.run(tell)
        with artifacts.building(final, replace=force) as folder:
            artifact = _write(folder, data, settings, shape, loop.model, metrics)
        checkpoint.forget(partial)
    return Artifact(final, artifact.manifest)


def model_shape(data: Dataset, settings: TrainConfig) -> Shape:
    """The shape of the model for a data set; encoders are given in the order of `modalities`."""
    names = settings.modalities or tuple(sorted(data.views))
    if settings.encoders and len(settings.encoders) != len(names):
        raise UsageError(
            f"{len(settings.encoders)} encoders for {len(names)} modalities",
            f"give one for each of {', '.join(names)}, in that order",
        )
    chosen = settings.encoders or tuple(
        plugins.load("modalities", n, "MODALITY").encoder for n in names
    )
    for name in chosen:
        plugins.load("encoders", name, "ENCODER")
    return Shape(
        sizes={n: data.views[n].size for n in sorted(names)},
        encoders=dict(sorted(zip(names, chosen, strict=True))),
        dimension=settings.dimension,
        encoder=EncoderConfig(settings.width, settings.depth, settings.dropout),
        logit_scale=settings.logit_scale,
    )


class Loop:
    """One training in progress: what changes from step to step, and its checkpoint."""

    def __init__(self, data: Dataset, settings: TrainConfig, shape: Shape, folder: Path) -> None:
        self.settings, self.folder = settings, folder
        self.device = device(settings.device)
        torch.manual_seed(settings.seed)
        self.model = ClipModel(shape).to(self.device)
        self.views = {n: tensors(v.values, self.device) for n, v in data.views.items()}
        self.errors = {
            n: torch.from_numpy(np.nan_to_num(v.errors)).to(self.device)
            for n, v in data.views.items()
            if v.errors is not None
        }
        present = np.stack([v.present for v in data.views.values()]).sum(axis=0)
        self.train_rows = np.flatnonzero((data.split == "train") & (present >= 1))
        self.validation_rows = np.flatnonzero((data.split == "validation") & (present >= 2))
        together = int(((data.split == "train") & (present >= 2)).sum())
        if together < 2:
            raise UsageError(
                f"only {together} training objects have two views or more",
                "preprocess more objects, or other modalities",
            )
        self.batch = min(settings.batch, len(self.train_rows))
        self.steps_per_epoch = len(self.train_rows) // self.batch
        self.align_steps = settings.epochs * self.steps_per_epoch
        self.generate_steps = settings.generator_epochs * self.steps_per_epoch
        self.align = _optimiser(self.model.alignment_parameters(), settings)
        self.generate = _optimiser(list(self.model.generators.parameters()), settings)
        self.step, self.best = 0, math.inf
        self.best_state: dict[str, Tensor] = {}
        self.metrics: list[dict[str, Any]] = []
        self.saved = time.monotonic()

    def run(self, tell: Tell) -> list[dict[str, Any]]:
        """All the steps that are left; returns one entry an epoch."""
        self._resume()
        started, first = time.monotonic(), self.step
        frozen: dict[str, Tensor] = {}
        while self.step < self.align_steps + self.generate_steps:
            if self.step < self.align_steps:
                self._align()
            else:
                if not frozen:
                    frozen = self._freeze()
                self._generate(frozen)
            self.step += 1
            if self.step % self.steps_per_epoch == 0:
                entry = self._validate(frozen)
                self.metrics.append(entry)
                done = (self.step - first) * self.batch
                rate = done / max(time.monotonic() - started, 1e-9)
                total = self.align_steps + self.generate_steps
                left = (total - self.step) * self.batch / rate
                tell(entry | {"samples_per_second": rate, "seconds_left": left})
            if time.monotonic() - self.saved > self.settings.checkpoint_seconds:
                self._save()
        if self.generate_steps == 0:
            self._freeze()
        return self.metrics

    def _rows(self) -> np.ndarray:
        epoch, within = divmod(self.step, self.steps_per_epoch)
        order = np.random.default_rng((self.settings.seed, epoch)).permutation(self.train_rows)
        return order[within * self.batch : (within + 1) * self.batch]

    def _gather(self, rows: np.ndarray, noise: float) -> Batch:
        index = torch.from_numpy(rows).to(self.device)
        batch = {}
        for name, (values, mask) in self.views.items():
            chosen = values[index]
            if noise and name in self.errors:
                draw = torch.randn(chosen.shape).to(self.device)
                chosen = chosen + noise * draw * self.errors[name][index].clamp(max=1.0)
            batch[name] = (chosen, mask[index])
        return batch

    def _align(self) -> None:
        torch.manual_seed(_mix(self.settings.seed, self.step))
        self.model.train()
        rate = schedule(self.step, self.align_steps, self.settings)
        batch = self._gather(self._rows(), self.settings.noise)
        s = self.settings
        twin = None
        if s.self_contrast and s.noise:
            again = self._gather(self._rows(), s.noise)
            twin = {n: again[n] for n in self.errors}
        loss, _ = self.model.alignment_loss(
            batch, s.symmetric, s.pairs, s.reconstruction, twin, s.self_contrast
        )
        self._update(self.align, loss, rate)
        self.model.clamp_scales()

    def _generate(self, frozen: dict[str, Tensor]) -> None:
        torch.manual_seed(_mix(self.settings.seed, self.step))
        rate = schedule(self.step - self.align_steps, self.generate_steps, self.settings)
        rows = self._rows()
        index = torch.from_numpy(rows).to(self.device)
        vectors = {n: v[index] for n, v in frozen.items()}
        loss = self.model.generation_loss(vectors, self._gather(rows, 0.0))
        self._update(self.generate, loss, rate)

    def _update(self, optimiser: torch.optim.Optimizer, loss: Tensor, rate: float) -> None:
        if not bool(torch.isfinite(loss)):
            raise MmclipError(
                f"the loss is {loss.item()} at step {self.step}", "lower learning_rate, or noise"
            )
        for group in optimiser.param_groups:
            group["lr"] = rate
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        for group in optimiser.param_groups:
            torch.nn.utils.clip_grad_norm_(group["params"], 5.0)
        optimiser.step()

    @torch.no_grad()
    def _validate(self, frozen: dict[str, Tensor]) -> dict[str, Any]:
        self.model.eval()
        s, rows = self.settings, self.validation_rows
        entry: dict[str, Any] = {"step": self.step, "epoch": self.step // self.steps_per_epoch}
        aligning = self.step <= self.align_steps
        entry["stage"] = "align" if aligning else "generate"
        if len(rows) >= 2:
            parts, weights = [], []
            for start in range(0, len(rows), s.batch):
                chunk = rows[start : start + s.batch]
                if len(chunk) < 2:
                    continue
                batch = self._gather(chunk, 0.0)
                if aligning:
                    _, numbers = self.model.alignment_loss(
                        batch, s.symmetric, s.pairs, s.reconstruction
                    )
                else:
                    vectors = {n: v[torch.from_numpy(chunk)] for n, v in frozen.items()}
                    numbers = {"loss": self.model.generation_loss(vectors, batch).item()}
                parts.append(numbers)
                weights.append(len(chunk))
            for key in parts[0] if parts else ():
                entry[key] = float(np.average([p.get(key, np.nan) for p in parts], weights=weights))
            entry["validation_objects"] = len(rows)
        if aligning and entry.get("loss", -float(self.step)) < self.best:
            self.best = entry.get("loss", -float(self.step))
            self.best_state = {
                k: v.detach().clone()
                for k, v in self.model.state_dict().items()
                if not k.startswith("generators.")
            }
        return entry

    @torch.no_grad()
    def _freeze(self) -> dict[str, Tensor]:
        """Take the best weights and embed every row once."""
        if self.best_state:
            self.model.load_state_dict(self.best_state, strict=False)
        self.model.eval()
        return {n: embed_all(self.model, n, v, m) for n, (v, m) in self.views.items()}

    def _save(self) -> None:
        """Write the whole state."""
        state = {f"model.{k}": v for k, v in self.model.state_dict().items()}
        state |= {f"best.{k}": v for k, v in self.best_state.items()}
        state |= checkpoint.moments("align", self.align)
        state |= checkpoint.moments("generate", self.generate)
        best = self.best if math.isfinite(self.best) else None
        body = {"best": best, "metrics": self.metrics}
        checkpoint.write(self.folder, self.step, state, body)
        self.saved = time.monotonic()

    def _resume(self) -> None:
        """Go on from the checkpoint if there is a whole one; else start at step 0."""
        found = checkpoint.read(self.folder)
        if found is None:
            return
        body, state = found
        self.model.load_state_dict(checkpoint.under(state, "model."))
        best = checkpoint.under(state, "best.")
        self.best_state = {k: v.to(self.device) for k, v in best.items()}
        checkpoint.restore_moments("align", self.align, state)
        checkpoint.restore_moments("generate", self.generate, state)
        self.step, self.metrics = body["step"], body["metrics"]
        self.best = math.inf if body["best"] is None else body["best"]


def schedule(step: int, steps: int, settings: TrainConfig) -> float:
    """Learning rate of a step: linear warm-up from zero, then a cosine to zero."""
    warm = max(1, round(settings.warm_up * steps))
    if step < warm:
        return settings.learning_rate * (step + 1) / warm
    done = (step - warm) / max(1, steps - warm)
    return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * done))


@torch.no_grad()
def embed_all(model: ClipModel, name: str, values: Tensor, mask: Tensor) -> Tensor:
    """Unit vectors [objects, D] in chunks of fixed size; the model must be in evaluation mode."""
    chunks = [
        model.embed(name, values[i : i + 1024], mask[i : i + 1024])
        for i in range(0, len(values), 1024)
    ]
    return torch.cat(chunks)


def _optimiser(parameters: list[Any], settings: TrainConfig) -> torch.optim.AdamW:
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=settings.learning_rate)


def _mix(seed: int, step: int) -> int:
    return int(np.random.SeedSequence((seed, step)).generate_state(1, np.uint64)[0] >> 1)


def _write(
    folder: Path,
    data: Dataset,
    settings: TrainConfig,
    shape: Shape,
    model: ClipModel,
    metrics: list[dict[str, Any]],
) -> Artifact:
    write_tensors(folder / "model.safetensors", model.state_dict())
    write_atomic(folder / "config.toml", config.to_toml("train", settings).encode())
    lines = "".join(json.dumps(entry) + "\n" for entry in metrics)
    write_atomic(folder / "metrics.jsonl", lines.encode())
    kept = {
        n: {
            "centre": v.statistics.centre.tolist(),
            "scale": v.statistics.scale.tolist(),
            "method": v.statistics.method,
        }
        for n, v in data.views.items()
    }
    body = {"shape": shape_to_dict(shape), "statistics": kept}
    write_atomic(folder / "shape.json", json.dumps(body).encode())
    provenance = {n: v.provenance for n, v in data.views.items()}
    write_atomic(folder / "card.md", card(data, shape, model, metrics).encode())
    return artifacts.seal(
        folder,
        "run",
        config=config.to_dict(settings),
        parents=[data.artifact.reference],
        rows={s: int((data.split == s).sum()) for s in ("train", "validation", "test")},
        surveys=data.artifact.manifest.surveys,
        provenance=provenance,
        seed=settings.seed,
        notes={
            "torch": torch.__version__,
            "parameters": sum(p.numel() for p in model.parameters()),
        },
    )


def card(data: Dataset, shape: Shape, model: ClipModel, metrics: list[dict[str, Any]]) -> str:
    """The model card: what it saw, what it is, how it ended."""
    views = "\n".join(
        f"- `{n}`: {' x '.join(map(str, shape.sizes[n]))} values, encoder `{shape.encoders[n]}`, "
        f"**{v.provenance}**, {int(v.present.sum())} objects"
        for n, v in data.views.items()
    )
    aligned = [m for m in metrics if m["stage"] == "align" and "loss" in m]
    ended = f"{min(m['loss'] for m in aligned):.4f}" if aligned else "not measured"
    return (
        f"# Model card\n\nTrained on `{data.artifact.path.name}` "
        f"({int((data.split == 'train').sum())} training objects).\n\n{views}\n\n"
        f"Embedding dimension {shape.dimension}; "
        f"{sum(p.numel() for p in model.parameters()):,} parameters.\n"
        f"Best validation loss: {ended}.\n"
    )
