"""The resumable training loop.

The order of samples and every random number are pure functions of (seed, step), so the state to
resume from is the weights, the optimiser's moments, the metrics so far and one number.
"""

import math
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmclip import plugins
from mmclip.clip.model import ClipModel, Shape
from mmclip.clip.objective import alignment_loss, backward, embed_batch
from mmclip.clip.retrieval_metrics import MOST, accuracy, measure, together
from mmclip.clip.settings import TrainConfig, view_settings, weight_files
from mmclip.datasets import memmap
from mmclip.datasets.build import Dataset
from mmclip.encoders import weights
from mmclip.encoders.tensors import device
from mmclip.errors import MmclipError, UsageError
from mmclip.training import checkpoint, covariance, optimisers, schedule
from mmclip.training.batches import Feed
from mmclip.training.distributed import ALONE, Group

Tell = Callable[[dict[str, Any]], None]
TELL_SECONDS = 0.5  # between two reports within an epoch
GRAPHS = "reduce-overhead"  # the mode of torch.compile that records CUDA graphs


class Loop:
    """One training in progress: what changes from step to step, and its checkpoint."""

    def __init__(
        self,
        data: Dataset,
        settings: TrainConfig,
        shape: Shape,
        folder: Path,
        group: Group = ALONE,
    ) -> None:
        self.settings, self.folder, self.group = settings, folder, group
        self.plan, self.objective = settings.plan(), settings.objective()
        self.device = device(settings.device)
        self.bfloat16 = settings.precision == "bfloat16" or (
            settings.precision == "auto" and self.device.type == "cuda"
        )
        torch.manual_seed(settings.seed)
        self.model = ClipModel(shape)
        self._prepare_encoders(shape)
        self.model.to(self.device)
        augmentations = {
            n: tuple(view_settings(settings, n).get("augment", ())) for n in shape.sizes
        }
        views = {n: data.views[n] for n in shape.sizes}
        ties = covariance.ties(data, shape.sizes) if settings.noise else {}
        self.feed = Feed(views, self.device, settings.resident, augmentations, ties)
        present = np.sum([v.present for v in views.values()], axis=0, dtype=np.int16)
        training = data.of("train")
        short = np.int32 if len(training) < 2**31 else np.int64
        self.train_rows = np.flatnonzero(training & (present >= 1)).astype(short)
        self.validation_rows = np.flatnonzero(data.of("validation") & (present >= 2))
        self.count = len(training)
        together = int((training & (present >= 2)).sum())
        if together < 2:
            raise UsageError(
                f"only {together} training objects have two views or more",
                "preprocess more objects, or other modalities",
            )
        self.batch = min(settings.batch, len(self.train_rows))
        if self.batch % group.size:
            raise UsageError(
                f"a batch of {self.batch} cannot be shared by {group.size} processes",
                f"--batch {self.batch - self.batch % group.size}",
            )
        self.steps_per_epoch = len(self.train_rows) // self.batch
        self.align_steps = settings.epochs * self.steps_per_epoch
        self.generate_steps = settings.generator_epochs * self.steps_per_epoch
        self.restarts = schedule.restarts(self.align_steps, self.plan)
        self.align = self._optimiser(self.model.alignment_parameters())
        self.generate = optimisers.make(
            "adamw", list(self.model.generators.parameters()) or [torch.nn.Parameter()], 0.05
        )
        self.step, self.best = 0, math.inf
        self.best_state: dict[str, Tensor] = {}
        self.metrics: list[dict[str, Any]] = []
        self.epoch_loss: list[float] = []
        self.order: tuple[int, NDArray[Any]] = (-1, self.train_rows)
        self.saved = time.monotonic()

    def _prepare_encoders(self, shape: Shape) -> None:
        """Published weights, then what is frozen, then compilation."""
        for name, file in weight_files(self.settings, list(shape.sizes)).items():
            plugin = plugins.load("encoders", shape.encoders[name], "ENCODER")
            weights.load_into(self.model.encoders[name], plugin, file)
        for name, encoder in self.model.encoders.items():
            if view_settings(self.settings, name).get("freeze"):
                encoder.requires_grad_(False)
            if self.settings.compile:
                encoder.compile(mode=GRAPHS if self.settings.graphs else None)

    def _optimiser(self, parameters: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
        s = self.settings
        return optimisers.make(
            s.optimiser, parameters, s.weight_decay, s.betas, s.epsilon, s.decay_all
        )

    def run(self, tell: Tell) -> list[dict[str, Any]]:
        """All the steps that are left; returns one entry an epoch."""
        self._resume()
        started, first, told = time.monotonic(), self.step, time.monotonic()
        frozen: dict[str, Tensor] = {}
        while self.step < self.align_steps + self.generate_steps:
            if self.step < self.align_steps:
                loss = self._align()
            else:
                if not frozen:
                    frozen = self._freeze()
                loss = self._generate(frozen)
            self.step += 1
            done = (self.step - first) * self.batch
            rate = done / max(time.monotonic() - started, 1e-9)
            if self.step % self.steps_per_epoch == 0:
                entry = self._validate(frozen)
                self.metrics.append(entry)
                self._stop_early()
                left = (self.align_steps + self.generate_steps - self.step) * self.batch / rate
                tell(
                    entry | {"samples_per_second": rate, "seconds_left": left, "steps": self.steps}
                )
            elif time.monotonic() - told > TELL_SECONDS:
                left = (self.steps - self.step) * self.batch / rate
                told = time.monotonic()
                tell(
                    {"step": self.step, "steps": self.steps, "train_loss": loss,
                     "samples_per_second": rate, "seconds_left": left}
                )  # fmt: skip
            if time.monotonic() - self.saved > self.settings.checkpoint_seconds:
                self._save()
        if self.generate_steps == 0:
            self._freeze()
        return self.metrics

    @property
    def steps(self) -> int:
        """Steps of the whole training."""
        return self.align_steps + self.generate_steps

    def _rows(self, step: int) -> NDArray[np.int64]:
        epoch, within = divmod(step, self.steps_per_epoch)
        if self.order[0] != epoch:
            chance = np.random.default_rng((self.settings.seed, epoch))
            self.order = (epoch, chance.permutation(self.train_rows))
        rows = self.order[1][within * self.batch : (within + 1) * self.batch]
        return rows.astype(np.int64)

    def _align(self) -> float:
        s = self.settings
        seed = _mix(s.seed, self.step)
        torch.manual_seed(seed + self.group.rank)
        self.model.train()
        torch.compiler.cudagraph_mark_step_begin()  # outputs of the last step may be overwritten
        if self.step in self.restarts:
            self.align.state.clear()
        batch, twin = self.feed.batch(
            self._rows(self.step),
            s.noise,
            seed,
            bool(s.self_contrast and s.noise),
            True,
            self.group,
        )
        if (self.step + 1) % self.steps_per_epoch:
            share = self.batch // self.group.size
            self.feed.prefetch(self._rows(self.step + 1)[self.group.rank * share :][:share])
        self.align.zero_grad(set_to_none=True)
        loss, _ = backward(
            self.model, batch, twin, self.objective, s.encode_chunk, self.bfloat16, self.group
        )
        whole = float(self.group.total(loss)) / self.group.size
        self._update(self.align, whole, self._rate())
        self.model.clamp_scales()
        self.epoch_loss.append(whole)
        return whole

    def _rate(self) -> float:
        if self.plan.schedule == "constant":
            return self.plan.learning_rate
        if self.plan.schedule == "cosine":
            return schedule.cosine(self.step, self.align_steps, self.plan)
        watched = [m.get(self.settings.plateau_watch, m["train_loss"]) for m in self.metrics]
        return schedule.plateau(self.step // self.steps_per_epoch, watched, self.plan)

    def _generate(self, frozen: dict[str, Tensor]) -> float:
        torch.manual_seed(_mix(self.settings.seed, self.step))
        plan = schedule.Plan(learning_rate=1e-3)
        rate = schedule.cosine(self.step - self.align_steps, self.generate_steps, plan)
        rows = self._rows(self.step)
        vectors = self._of(frozen, rows)
        self.generate.zero_grad(set_to_none=True)
        loss = self.model.generation_loss(vectors, self.feed.batch(rows)[0])
        loss.backward()
        self._update(self.generate, loss.item(), rate)
        return loss.item()

    def _update(self, optimiser: torch.optim.Optimizer, loss: float, rate: float) -> None:
        if not math.isfinite(loss):
            raise MmclipError(
                f"the loss is {loss} at step {self.step}", "lower learning_rate, or noise"
            )
        every = [p for group in optimiser.param_groups for p in group["params"]]
        for group in optimiser.param_groups:
            group["lr"] = rate
        if self.settings.gradient_clip:
            torch.nn.utils.clip_grad_norm_(every, self.settings.gradient_clip)
        optimiser.step()

    @torch.no_grad()
    def _validate(self, frozen: dict[str, Tensor]) -> dict[str, Any]:
        self.model.eval()
        entry: dict[str, Any] = {"step": self.step, "epoch": self.step // self.steps_per_epoch}
        aligning = self.step <= self.align_steps
        entry["stage"] = "align" if aligning else "generate"
        if self.epoch_loss:
            entry["train_loss"] = float(np.mean(self.epoch_loss))
            self.epoch_loss = []
        if aligning:
            entry["learning_rate"] = self.align.param_groups[0]["lr"]
        size, rows = self.settings.batch, self.validation_rows
        chunks = [rows[i : i + size] for i in range(0, len(rows), size)]
        if self.settings.drop_last_validation and len(chunks) > 1 and len(chunks[-1]) < size:
            chunks.pop()
        if len(rows) >= 2:
            found = self._validate_alignment(chunks) if aligning else {}
            if not aligning:
                found = {"loss": self._generation_loss(chunks, frozen)}
            entry |= found | {"validation_objects": sum(map(len, chunks))}
        if aligning:
            self._keep(entry)
        return entry

    def _validate_alignment(self, chunks: list[NDArray[np.int64]]) -> dict[str, float]:
        parts, sizes, right, complete = [], [], 0, 0
        vectors: dict[str, list[Tensor]] = {n: [] for n in self.model.sizes}
        present: dict[str, list[Tensor]] = {n: [] for n in self.model.sizes}
        pairs: Counter[tuple[str, str]] = Counter()
        for chunk in chunks:
            batch, _ = self.feed.batch(
                chunk, seed=self.settings.seed, augmented=self.settings.augment_validation
            )
            found = embed_batch(self.model, batch, self.bfloat16)
            _, numbers = alignment_loss(self.model, found, batch, self.objective)
            parts.append({k: float(v) for k, v in numbers.items()})
            sizes.append(len(chunk))
            seen = {n: m.any(dim=1) for n, (_, m) in batch.items()}
            right += self._right(found, seen)
            complete += int(torch.stack(list(seen.values())).all(0).sum())
            # Of millions of vectors only the first are measured.
            if min(pairs.values(), default=0) < MOST:
                pairs.update(together(seen))
                for name in batch:
                    vectors[name].append(found[name])
                    present[name].append(seen[name])
        entry = {}
        for key in dict.fromkeys(key for p in parts for key in p):
            held = [(p[key], n) for p, n in zip(parts, sizes, strict=True) if key in p]
            entry[key] = sum(v * n for v, n in held) / sum(n for _, n in held)
        whole = {n: torch.cat(v) for n, v in vectors.items()}
        there = {n: torch.cat(p) for n, p in present.items()}
        if complete:
            entry["accuracy"] = right / complete
        return entry | measure(whole, there)

    def _right(self, vectors: dict[str, Tensor], present: dict[str, Tensor]) -> int:
        complete = torch.stack(list(present.values())).all(0)
        names = sorted(vectors)
        logits = [
            self.model.scale(a, b) * vectors[a][complete] @ vectors[b][complete].T
            for i, a in enumerate(names)
            for b in names[i + 1 :]
        ]
        return int(accuracy(logits)) if bool(complete.any()) else 0

    def _generation_loss(self, chunks: list[NDArray[np.int64]], frozen: dict[str, Tensor]) -> float:
        losses = []
        for chunk in chunks:
            vectors = self._of(frozen, chunk)
            losses.append(self.model.generation_loss(vectors, self.feed.batch(chunk)[0]).item())
        return float(np.average(losses, weights=[len(c) for c in chunks]))

    def _keep(self, entry: dict[str, Any]) -> None:
        """Hold on to these weights if they are the best so far by the chosen rule."""
        keep, last = self.settings.keep, -float(self.step)
        score = {
            "loss": entry.get("loss", last),
            "recall": -entry["recall@1"] if "recall@1" in entry else last,
            "accuracy": -entry["accuracy"] if "accuracy" in entry else last,
            "last": last,
        }[keep]
        if not score < self.best:
            return
        self.best = score
        entry["kept"] = True
        self.best_state = {
            k: v.detach().clone()
            for k, v in self.model.state_dict().items()
            if not k.startswith("generators.")
        }

    def _stop_early(self) -> None:
        """Shorten the alignment to what was done if the validation loss stands still."""
        if self.step >= self.align_steps:
            return
        losses = [m["loss"] for m in self.metrics if m["stage"] == "align" and "loss" in m]
        s = self.settings
        if schedule.stopped(losses, s.early_stop, s.early_stop_first):
            self.align_steps = self.step

    @torch.no_grad()
    def _freeze(self) -> dict[str, Tensor]:
        """Take the best weights and embed every row once."""
        if self.best_state:
            self.model.load_state_dict(self.best_state, strict=False)
        self.model.eval()
        if not self.generate_steps:
            return {}
        apart = any(v.mapped for v in self.feed.views.values())
        self.folder.mkdir(parents=True, exist_ok=True)
        found: dict[str, NDArray[np.float32]] = {}
        for start in range(0, self.count, 1024):
            part = slice(start, min(start + 1024, self.count))
            batch, _ = self.feed.batch(np.arange(part.start, part.stop))
            for name, vectors in embed_batch(self.model, batch).items():
                if name not in found:
                    shape = (self.count, vectors.shape[1])
                    label = f"{name}-{self.group.rank}"
                    found[name] = memmap.empty(self.folder, label, shape, apart)
                found[name][part] = vectors.cpu().numpy()
        place = torch.device("cpu") if apart else self.device
        return {n: torch.from_numpy(v).to(place) for n, v in found.items()}

    def _of(self, frozen: dict[str, Tensor], rows: NDArray[np.int64]) -> dict[str, Tensor]:
        """The rows of vectors that lie on the device, or mapped from the disk."""
        index = torch.from_numpy(np.ascontiguousarray(rows))
        return {n: v[index.to(v.device)].to(self.device) for n, v in frozen.items()}

    def _save(self) -> None:
        """Write the whole state; the first process does."""
        if self.group.rank == 0:
            state = {f"model.{k}": v for k, v in self.model.state_dict().items()}
            state |= {f"best.{k}": v for k, v in self.best_state.items()}
            for label, optimiser in (("align", self.align), ("generate", self.generate)):
                state |= checkpoint.moments(label, optimiser)
            body = {
                "align_steps": self.align_steps,
                "best": self.best if math.isfinite(self.best) else None,
                "epoch_loss": self.epoch_loss,
                "metrics": self.metrics,
            }
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
        for label, optimiser in (("align", self.align), ("generate", self.generate)):
            checkpoint.restore_moments(label, optimiser, state)
        self.step, self.metrics = body["step"], body["metrics"]
        self.align_steps, self.epoch_loss = body["align_steps"], body["epoch_loss"]
        self.best = math.inf if body["best"] is None else body["best"]


@torch.no_grad()
def embed_all(model: ClipModel, name: str, values: Tensor, mask: Tensor) -> Tensor:
    """Unit vectors [objects, D] in chunks of fixed size; the model must be in evaluation mode."""
    chunks = [
        model.embed(name, values[i : i + 1024], mask[i : i + 1024])
        for i in range(0, len(values), 1024)
    ]
    return torch.cat(chunks)


def _mix(seed: int, step: int) -> int:
    return int(np.random.SeedSequence((seed, step)).generate_state(1, np.uint64)[0] >> 1)
