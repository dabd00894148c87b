"""The two stages of training a model: alignment, then generators on frozen vectors."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mmclip import arrays, plugins
from mmclip.clip import validation
from mmclip.clip.model import CHUNK, ClipModel, Shape
from mmclip.clip.objective import backward, embed_batch
from mmclip.clip.settings import TrainConfig, view_settings, weight_files
from mmclip.datasets import memmap
from mmclip.datasets.build import Dataset
from mmclip.encoders import weights
from mmclip.encoders.tensors import Batch, device, fit_encoder
from mmclip.errors import NotFound, UsageError, nearest
from mmclip.training import correlations, loop, optimisers, schedule
from mmclip.training.batches import Batches
from mmclip.training.distributed import ALONE, Group
from mmclip.training.loop import Epoch, Report, Score, Stage, Step, Training, silent
from mmclip.training.precision import in_bfloat16

ALIGN, GENERATE = "align", "generate"
CUDA_GRAPHS = "reduce-overhead"  # the mode of torch.compile that records them
GENERATOR_RATE, GENERATOR_DECAY = 1e-3, 0.05


Rows = NDArray[np.int64]


class ClipTraining:
    """A model, the batches it is trained on, and what each stage does with them.

    Raises:
        UsageError: If fewer than two training objects have two views, or a batch cannot be
            shared by the processes.
    """

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
        self.bfloat16 = in_bfloat16(settings.precision, self.device)
        torch.manual_seed(settings.seed)
        self.model = ClipModel(shape)
        _prepare_encoders(self.model, settings)
        self.model.to(self.device)
        self._read_rows(data)
        _fit_encoders(self.model, settings, data, self.train_rows)
        self.batches = _batches(data, settings, shape, self.device)
        self.batch = _batch_size(settings, len(self.train_rows), group)
        self.labels: Tensor | None = None
        if settings.labels:
            self.labels = labels_of(data, settings.labels).to(self.device)
        self.frozen: dict[str, Tensor] = {}

    def _read_rows(self, data: Dataset) -> None:
        views = [data.views[n] for n in self.model.sizes]
        present = np.sum([v.present for v in views], axis=0, dtype=np.int16)
        training = data.of("train")
        short = np.int32 if len(training) < 2**31 else np.int64
        self.train_rows = np.flatnonzero(training & (present >= 1)).astype(short)
        needed, names = min(2, len(views)), ", ".join(self.model.sizes)
        self.validation_rows = np.flatnonzero(data.of("validation") & (present >= needed))
        self.count = len(training)
        several = int((training & (present >= needed)).sum())
        if several < 2:
            what = "two views or more" if needed > 1 else names
            raise UsageError(
                f"only {several} training objects have {what}",
                "preprocess more objects, or other modalities",
            )

    def run(self, report: Report = silent) -> list[Epoch]:
        """Train; one entry an epoch."""
        return loop.run(self.training(), self.folder, report)

    def training(self) -> Training:
        """Both stages, as the loop runs them."""
        s = self.settings
        kept = [n for n in self.model.state_dict() if not n.startswith("generators.")]
        return Training(
            self.model,
            self.train_rows,
            self.batch,
            s.seed,
            (self._align_stage(), self._generate_stage()),
            kept=frozenset(kept),
            group=self.group,
            checkpoint_seconds=s.checkpoint_seconds,
        )

    def _align_stage(self) -> Stage:
        s = self.settings
        optimiser = optimisers.make(
            s.optimiser, self.model.alignment_parameters(), s.weight_decay, s.betas, s.epsilon,
            s.decay_all,
        )  # fmt: skip
        return Stage(
            ALIGN,
            s.epochs,
            optimiser,
            optimisers.parameters(optimiser),
            self.align,
            self._align_rate,
            self.validate_alignment,
            score=self._score,
            stop=self._stop,
            after_step=self.model.clamp_scales,
            restarts=schedule.restarts(s.epochs * (len(self.train_rows) // self.batch), self.plan),
            clip=s.gradient_clip,
            hint="lower learning_rate, or noise",
        )

    def _generate_stage(self) -> Stage:
        generators = list(self.model.generators.parameters()) or [nn.Parameter()]
        optimiser = optimisers.make("adamw", generators, GENERATOR_DECAY)
        plan = schedule.Plan(learning_rate=GENERATOR_RATE)
        return Stage(
            GENERATE,
            self.settings.generator_epochs,
            optimiser,
            optimisers.parameters(optimiser),
            self.generate,
            lambda step, steps, epochs: schedule.cosine(step, steps, plan),
            self.validate_generators,
            begin=self.freeze,
            clip=self.settings.gradient_clip,
        )

    def align(self, step: Step) -> Tensor:
        """Gradient of the alignment loss of one batch."""
        s = self.settings
        self.model.train()
        if s.compile and s.graphs:  # it imports the compiler, which takes seconds
            new_step: Callable[[], None] = torch.compiler.cudagraph_mark_step_begin
            new_step()  # outputs of the last step may be overwritten
        twin = bool(s.self_contrast and s.noise)
        batch, twins = self.batches.batch(step.rows, s.noise, step.seed, twin, True, self.group)
        if step.following is not None:
            share = self.batch // self.group.size
            self.batches.prefetch(step.following[self.group.rank * share :][:share])
        labels = None
        if self.labels is not None:
            share = len(step.rows) // self.group.size
            mine = step.rows[self.group.rank * share :][:share]
            labels = self.labels[torch.from_numpy(mine.astype(np.int64)).to(self.device)]
        loss, _ = backward(
            self.model, batch, twins, self.objective, s.encode_chunk, self.bfloat16, self.group,
            labels,
        )  # fmt: skip
        return loss

    def _align_rate(self, step: int, steps: int, epochs: Sequence[Epoch]) -> float:
        if self.plan.schedule == "constant":
            return self.plan.learning_rate
        if self.plan.schedule == "cosine":
            return schedule.cosine(step, steps, self.plan)
        of_training = self.settings.plateau_watch == "train_loss"
        watched = [e.train_loss if of_training or e.loss is None else e.loss for e in epochs]
        return schedule.plateau(len(epochs), watched, self.plan)

    def _score(self, epoch: Epoch) -> Score:
        """The least is kept: by the rule of the settings, else the last."""
        by, last = self.settings.keep, -float(epoch.step)
        if by == "loss" and epoch.loss is not None:
            return (epoch.loss,)
        measured = {"recall": "recall@1", "accuracy": "accuracy"}.get(by, "")
        return (-epoch.numbers[measured] if measured in epoch.numbers else last,)

    def _stop(self, epochs: Sequence[Epoch]) -> bool:
        losses = [e.loss for e in epochs if e.loss is not None]
        s = self.settings
        return schedule.stopped(losses, s.early_stop, s.early_stop_first)

    def _chunks(self) -> list[Rows]:
        """Validation objects, a batch at a time; none if there are fewer than two."""
        size, rows = self.settings.batch, self.validation_rows
        if len(rows) < 2:
            return []
        chunks = [rows[i : i + size] for i in range(0, len(rows), size)]
        if self.settings.drop_last_validation and len(chunks) > 1 and len(chunks[-1]) < size:
            chunks.pop()
        return chunks

    def validate_alignment(self) -> dict[str, float]:
        """See `validation.alignment`; and how many objects there were."""
        self.model.eval()
        chunks, s = self._chunks(), self.settings
        if not chunks:
            return {}
        found = validation.alignment(
            self.model, self.batches, chunks, self.objective, s.seed, s.augment_validation,
            self.bfloat16,
        )  # fmt: skip
        return found | {"validation_objects": sum(map(len, chunks))}

    @torch.no_grad()
    def freeze(self, step: int) -> None:
        """Embed every row once, with the weights as they are."""
        self.model.eval()
        if not self.settings.generator_epochs:
            return
        apart = any(v.mapped for v in self.batches.views.values())
        self.folder.mkdir(parents=True, exist_ok=True)
        found: dict[str, NDArray[np.float32]] = {}
        for start in range(0, self.count, CHUNK):
            part = slice(start, min(start + CHUNK, self.count))
            batch, _ = self.batches.batch(np.arange(part.start, part.stop))
            for name, vectors in embed_batch(self.model, batch).items():
                if name not in found:
                    shape = (self.count, vectors.shape[1])
                    label = f"{name}-{self.group.rank}"
                    found[name] = memmap.empty(self.folder, label, shape, apart)
                found[name][part] = vectors.cpu().numpy()
        place = torch.device("cpu") if apart else self.device
        self.frozen = {n: torch.from_numpy(v).to(place) for n, v in found.items()}

    def generate(self, step: Step) -> Tensor:
        """Gradient of the generators' loss of one batch."""
        loss = self.model.generation_loss(*self._frozen_batch(step.rows))
        torch.autograd.backward(loss)
        return loss.detach()

    def validate_generators(self) -> dict[str, float]:
        """Loss of the generators on the validation objects, and how many there were."""
        self.model.eval()
        chunks = self._chunks()
        if not chunks:
            return {}
        found = validation.generation(self.model, map(self._frozen_batch, chunks))
        return found | {"validation_objects": sum(map(len, chunks))}

    def _frozen_batch(self, rows: Rows) -> tuple[dict[str, Tensor], Batch]:
        """Vectors, on the device or mapped from the disk, and views of some rows."""
        index = torch.from_numpy(np.ascontiguousarray(rows))
        vectors = {n: v[index.to(v.device)].to(self.device) for n, v in self.frozen.items()}
        return vectors, self.batches.batch(rows)[0]


def _prepare_encoders(model: ClipModel, settings: TrainConfig) -> None:
    """Published weights, then what is frozen, then compilation."""
    for name, file in weight_files(settings, list(model.sizes)).items():
        plugin = plugins.load("encoders", model.shape.encoders[name], "ENCODER")
        weights.load_into(model.encoders[name], plugin, file)
    for name, encoder in model.encoders.items():
        if view_settings(settings, name).get("freeze"):
            encoder.requires_grad_(False)
        if settings.compile:
            encoder.compile(mode=CUDA_GRAPHS if settings.graphs else None)


def labels_of(data: Dataset, names: Sequence[str]) -> Tensor:
    """[objects, n] numbers of the catalogue, of mean 0 and deviation 1 over the training objects.

    Raises:
        NotFound: If there is no such column.
        UsageError: If a column is no number, or known of fewer than two training objects.
    """
    made = []
    for name in names:
        if name not in data.objects.column_names:
            raise NotFound(f"no column '{name}'; {nearest(name, data.objects.column_names)}",
                           "--set labels=teff,logg")  # fmt: skip
        column = data.objects[name]
        if not (pa.types.is_floating(column.type) or pa.types.is_integer(column.type)):
            raise UsageError(f"the label '{name}' is no number", "--set labels=teff,logg")
        values = arrays.column(data.objects, name).astype(np.float64)
        known = values[data.of("train") & np.isfinite(values)]
        if len(known) < 2 or known.std() == 0:
            raise UsageError(f"{len(known)} training stars have '{name}', or it is the same of all",
                             "mmclip preprocess --labels FILE")  # fmt: skip
        made.append((values - known.mean()) / known.std())
    return torch.from_numpy(np.stack(made, 1).astype(np.float32))


def _fit_encoders(
    model: ClipModel, settings: TrainConfig, data: Dataset, rows: NDArray[Any]
) -> None:  # fmt: skip
    """What encoders take from the training objects at once; not where weights were given."""
    for name, encoder in model.encoders.items():
        plugin = plugins.load("encoders", model.shape.encoders[name], "ENCODER")
        view = data.views[name]
        if plugin.fit is not None and "weights" not in view_settings(settings, name):
            fit_encoder(encoder, plugin, view.size, view.values, rows[view.present[rows]])


def _batches(data: Dataset, settings: TrainConfig, shape: Shape, where: torch.device) -> Batches:
    augmentations = {n: tuple(view_settings(settings, n).get("augment", ())) for n in shape.sizes}
    views = {n: data.views[n] for n in shape.sizes}
    known = correlations.of_views(data, shape.sizes) if settings.noise else {}
    return Batches(views, where, settings.resident, augmentations, known)


def _batch_size(settings: TrainConfig, rows: int, group: Group) -> int:
    size = min(settings.batch, rows)
    if size % group.size:
        raise UsageError(
            f"a batch of {size} cannot be shared by {group.size} processes",
            f"--batch {size - size % group.size}",
        )
    return size
