"""Decoders on frozen embeddings: trained resumably, recalibrated on validation stars, stored."""

import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mmclip import artifacts, config, plugins
from mmclip.artifacts import Artifact, paths, write_atomic
from mmclip.clip.run import Run
from mmclip.config import AtLeast0, Chance, Count, Json, Part, Positive, Seed
from mmclip.datasets.build import View
from mmclip.decoders import Decoder, Known, draw, noise_length
from mmclip.decoders.loss import inverse_variance, mean_square
from mmclip.encoders.tensors import Observation, built, device, read_weights, write_tensors
from mmclip.errors import IntegrityError, NotFound, UsageError
from mmclip.modalities import Kind, Modality, Statistics, registry
from mmclip.tasks.generate import calibrate
from mmclip.tasks.generate.calibrate import Calibration
from mmclip.tasks.predict import form_of, read_features
from mmclip.tasks.predict.features import Block, block_of, reader
from mmclip.tasks.predict.stars import Stars
from mmclip.training import loop, optimisers, schedule
from mmclip.training.batches import Batches
from mmclip.training.loop import Epoch, Report, Stage, Step, Training, silent
from mmclip.training.order import mix

CHUNK = 1024  # vectors at a time
SOLVED = 40_000  # stars that are worth solving for
MOST = 20_000  # stars that a fit or a calibration holds at once
VALIDATION, FIT, FIRST = 0, 1, 2  # steps of `mix`: of validation, of `fit`, of the first step
CALIBRATE_DRAWS = 512  # validation stars whose draws are compared with the observations


@dataclass(frozen=True)
class DecodeConfig:
    """Settings of `mmclip train-decoder`."""

    start: tuple[str, ...] = ()  # views that were observed; several are fused
    to: str = ""  # the view to generate
    decoder: str = ""  # empty: the one that suits the view
    loss: Literal["own", "mse", "ivar"] = "own"
    optimiser: optimisers.Kind = "adamw"
    epochs: Count = 60
    batch: Count = 256
    learning_rate: Positive = 1e-3  # peak; linear warm-up, then one cosine to zero
    warm_up: Part = 0.05  # fraction of the steps
    weight_decay: AtLeast0 = 0.05  # matrices only
    jitter: AtLeast0 = 0.0  # training vectors are moved by this part of their own size
    drop_view: Chance = 0.3  # chance that a fused view is hidden in a step, one always left
    error_floor: AtLeast0 = (
        0.0  # added to errors in quadrature by the loss `ivar`, normalised units
    )
    seed: Seed = 42
    device: str = "auto"
    checkpoint_seconds: AtLeast0 = 20.0  # at most this much work is lost

    def __post_init__(self) -> None:
        config.check("train-decoder", self)


@dataclass(frozen=True)
class Fused:
    """The vectors of several views, [objects, D] each, fused where rows of them are asked for."""

    vectors: tuple[NDArray[np.float32], ...]

    def __getitem__(self, rows: NDArray[Any] | slice) -> NDArray[np.float32]:
        """[rows, D] as `fuse` gives them."""
        return fuse([v[rows] for v in self.vectors])

    @property
    def shape(self) -> tuple[int, int]:
        """Of all rows together."""
        return len(self.vectors[0]), fuse([v[:1] for v in self.vectors]).shape[1]


Blocks = Mapping[str, tuple[Block, ...]]  # by view


@dataclass(frozen=True)
class Featured:
    """Features of the views themselves, read where rows of them are asked for.

    Attributes:
        stars: The stars of a data set; start: the views that are read.
        blocks: How each becomes features.
        at: [objects] row of the data set of each row that may be asked for.
    """

    stars: Stars
    start: tuple[str, ...]
    blocks: Blocks
    at: NDArray[np.int64]

    def __getitem__(self, rows: NDArray[Any] | slice) -> NDArray[np.float32]:
        """[rows, D], each spectrum once; zeros for a view that is missing."""
        asked, kept = self.at[rows], self.columns
        parts = [read_features(self.stars, part, self.start, self.blocks)[0][:, kept]
                 for part in _chunks(asked)]  # fmt: skip
        return np.concatenate([np.zeros((0, len(kept)), np.float32), *parts])

    @property
    def columns(self) -> NDArray[np.int64]:
        """Of all features, those that are read."""
        form = form_of(self.start, self.blocks)
        return np.flatnonzero(form != "flux / error")

    @property
    def shape(self) -> tuple[int, int]:
        """Of all rows together."""
        return len(self.at), len(self.columns)


Vectors = NDArray[np.float32] | Fused | Featured


def observed(vectors: Vectors, rows: NDArray[Any] | slice = slice(None)) -> NDArray[np.bool_]:
    """[rows] True where at least one input view was observed."""
    if isinstance(vectors, Featured):
        present, at = vectors.stars.present, vectors.at[rows]
        return np.asarray(np.logical_or.reduce([present[name][at] for name in vectors.start]))
    views = vectors.vectors if isinstance(vectors, Fused) else (vectors,)
    return np.asarray(np.logical_or.reduce([np.isfinite(v[rows, 0]) for v in views]))


@dataclass(frozen=True)
class Pairs:
    """Frozen vectors and the view to decode; row i of all but the view is the same star.

    Attributes:
        vectors: [objects, D] of the fused input; NaN rows where no input view was observed.
        view: The view to generate, in normalised units.
        of: The name of a split -> [objects] True for those of it.
        views, dimension: How many views are fused, and the width of each.
        at: [objects] row of the view; None: the same.
    """

    vectors: Vectors
    view: View
    of: Callable[[str], NDArray[np.bool_]]
    views: int
    dimension: int
    at: NDArray[np.int64] | None = None

    def places(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Rows of the view."""
        return rows if self.at is None else self.at[rows]


@dataclass(frozen=True)
class Trained:
    """A decoder ready for use, whether an artefact of its own or a part of a run.

    Attributes:
        start, to: The views it reads and the one it makes.
        decoder, module: The plug-in and its weights, in evaluation mode.
        statistics: What undoes the normalisation of `to`.
        calibration: What makes its sigma true.
        artifact: Where it came from; None for the quick decoder of a run.
        provenance: Of the training data of the generated view.
        blocks: How the input views become features; None: it reads their vectors.
    """

    start: tuple[str, ...]
    to: str
    decoder: Decoder
    module: nn.Module
    statistics: Statistics
    calibration: Calibration
    artifact: Artifact | None
    provenance: str
    blocks: Blocks | None = None


def fuse(vectors: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """One input from the vectors of several views.

    Args:
        vectors: [objects, D] each; NaN rows where the view was not observed.

    Returns:
        The vectors themselves for one view. For V views [objects, V (D + 1)]: all vectors, zero
        where not observed, then a flag a view (1 / sqrt(D) if observed); NaN rows where none was.
    """
    if len(vectors) == 1:
        return vectors[0]
    seen = np.stack([np.isfinite(v[:, 0]) for v in vectors], axis=1)
    flags = seen / np.sqrt(vectors[0].shape[1])
    fused = np.concatenate([np.nan_to_num(v) for v in vectors] + [flags], axis=1)
    fused[~seen.any(axis=1)] = np.nan
    return fused.astype(np.float32)


OF_KIND: dict[Kind, str] = {
    "spectrum": "flow", "image": "flow", "light curve": "lightcurve", "table": "metadata",
}  # fmt: skip


def default_decoder(modality: Modality, start: Sequence[Modality] = ()) -> str:
    """The decoder for a view when none is asked for: the modality's, or that of its kind.

    Between spectra and tables, the views `start` all of one of them, kernel ridge.
    """
    kinds = ({one.kind for one in start}, modality.kind)
    if not modality.decoder and kinds in (({"table"}, "spectrum"), ({"spectrum"}, "table")):
        return "kernel-ridge"
    return modality.decoder or OF_KIND[modality.kind]


def train(
    pairs: Pairs,
    settings: DecodeConfig,
    final: Path,
    parents: list[artifacts.Reference],
    surveys: list[artifacts.SurveyEntry],
    report: Report,
    force: bool = False,
) -> Artifact:
    """Train a decoder, or go on with it, recalibrate it, and write it to `final`.

    Args:
        pairs: Vectors and view.
        settings: All that fixes the result besides the pairs; `decoder` and `to` are set.
        final: The artefact's directory-to-be.
        parents: The vectors, the run and the data set, by fingerprint.
        surveys: Where the data came from.
        report: Called after each epoch, and now and then within one.
        force: Replace an artefact that is there.

    Raises:
        UsageError: If fewer than two training stars have both, or the loss does not suit.
    """
    artifacts.check_free(final, force)
    identity = {
        "decoder": config.to_dict(settings) | {"checkpoint_seconds": 0},
        "parents": [p["fingerprint"] for p in parents],
    }
    partial = artifacts.unfinished(final, identity)
    with artifacts.locked(partial, "training"):
        training = DecoderTraining(pairs, settings, partial)
        metrics = training.run(report)
        with artifacts.building(final, replace=force, work=partial) as folder:
            artifact = _write(folder, settings, training, metrics, parents, surveys)
    return Artifact(final, artifact.manifest)


class DecoderTraining:
    """A decoder, the stars it is trained on, and what a step does with them.

    Raises:
        UsageError: If fewer than two training stars have both, or the loss does not suit.
    """

    def __init__(self, pairs: Pairs, settings: DecodeConfig, folder: Path) -> None:
        self.settings, self.folder, self.pairs = settings, folder, pairs
        self.decoder: Decoder = plugins.load("decoders", settings.decoder, "DECODER")
        self.device = device("cpu" if self.decoder.solve else settings.device)
        self.alone = np.zeros(0, np.int64), np.zeros((0, 0), np.float32)
        _check_loss(self.decoder, pairs, settings)
        torch.manual_seed(settings.seed)
        width = pairs.vectors.shape[1]
        self.module = self.decoder.build(width, pairs.view.size).to(self.device)
        present = pairs.view.present
        usable = observed(pairs.vectors) & (present if pairs.at is None else present[pairs.at])
        self.train_rows = np.flatnonzero(usable & pairs.of("train"))
        self.validation_rows = np.flatnonzero(usable & pairs.of("validation"))
        if len(self.train_rows) < 2:
            raise UsageError(
                f"only {len(self.train_rows)} training stars have both {', '.join(settings.start)} "
                f"and {settings.to}",
                "preprocess more stars, or other views",
            )
        view = pairs.view if settings.loss == "ivar" else replace(pairs.view, errors=None)
        self.batches = Batches({settings.to: view}, self.device)
        self.held = self._on_device(pairs.vectors[:]) if self.batches.resident else None

    def run(self, report: Report = silent) -> list[Epoch]:
        """Train; the best weights by validation loss are kept. One entry an epoch.

        A decoder that is solved has none; its residuals without each star are kept in `alone`.
        """
        if self.decoder.solve is None:
            return loop.run(self.training(), self.folder, report)
        rows = spread(self.train_rows, SOLVED)
        x, seen = self.read(rows)
        view, by = self.pairs.view, self.pairs.view.statistics
        noise = [reader(view)(self.pairs.places(part)).noise for part in _chunks(rows)]
        snr = torch.from_numpy(10.0 ** np.concatenate(noise))
        centre, scale = (torch.tensor(np.asarray(v, np.float32)) for v in (by.centre, by.scale))
        flux = registry.of_view(self.settings.to, by).kind == "spectrum"
        known = Known(seen.values, seen.mask, snr, centre, scale, flux)
        self.alone = rows, self.decoder.solve(self.module, x, known).numpy()
        return []

    def training(self) -> Training:
        """The one stage, as the loop runs it."""
        s = self.settings
        optimiser = optimisers.make(
            s.optimiser, list(self.module.parameters()), s.weight_decay,
            epsilon=1e-6 if s.optimiser == "lamb" else 1e-8,
        )  # fmt: skip
        stage = Stage(
            "decode",
            s.epochs,
            optimiser,
            list(self.module.parameters()),
            self.gradient,
            lambda step, steps, epochs: rate(step, steps, s),
            self.validate,
            score=lambda e: (-float(e.step) if e.loss is None else e.loss,),
            begin=self.fit,
            hint="--learning-rate",
        )
        return Training(
            self.module,
            self.train_rows,
            min(s.batch, len(self.train_rows)),
            s.seed,
            (stage,),
            checkpoint_seconds=s.checkpoint_seconds,
        )

    def read(self, rows: NDArray[np.int64]) -> tuple[Tensor, Observation]:
        """Vectors [rows, D] of some stars and their view, on the device."""
        if self.held is None:
            vectors = self._on_device(self.pairs.vectors[rows])
        else:
            vectors = self.held[torch.from_numpy(np.ascontiguousarray(rows)).to(self.device)]
        return vectors, self.batches.read(self.pairs.places(rows))[self.settings.to]

    def _on_device(self, vectors: NDArray[np.float32]) -> Tensor:
        return torch.from_numpy(np.nan_to_num(vectors)).to(self.device)

    def fit(self, step: int) -> None:
        """Set what is not learned by gradients, before the first step."""
        if step == 0 and self.decoder.fit is not None:
            vectors, seen = self.read(spread(self.train_rows, MOST))
            torch.manual_seed(mix(self.settings.seed, FIT))
            self.decoder.fit(self.module, vectors, seen.values, seen.mask)

    def gradient(self, step: Step) -> Tensor:
        """Gradient of the loss of one batch."""
        s = self.settings
        torch.manual_seed(mix(s.seed, FIRST + step.number))
        self.module.train()
        vectors, seen = self.read(step.rows)
        if step.following is not None:
            self.batches.prefetch(self.pairs.places(step.following))
        vectors = hide(vectors, self.pairs, s.drop_view)
        if s.jitter:
            size = torch.linalg.vector_norm(vectors, dim=1, keepdim=True) / vectors.shape[1] ** 0.5
            vectors = vectors + s.jitter * size * torch.randn(vectors.shape).to(self.device)
        loss = self.loss(vectors, seen)
        torch.autograd.backward(loss)
        return loss.detach()

    def loss(self, vectors: Tensor, seen: Observation) -> Tensor:
        """The loss that is asked for."""
        if self.settings.loss == "ivar":
            assert seen.errors is not None
            mean, floor = self.module(vectors)[0], self.settings.error_floor
            return inverse_variance(mean, seen.values, seen.mask, seen.errors, floor)
        own = self.decoder.loss if self.settings.loss == "own" else None
        return (own or mean_square)(self.module, vectors, seen.values, seen.mask)

    def validate(self) -> dict[str, float]:
        """Mean loss over the validation stars, if there are any."""
        self.module.eval()
        torch.manual_seed(mix(self.settings.seed, VALIDATION))
        chunks = _chunks(self.validation_rows)
        if not len(self.validation_rows):
            return {}
        each = [self.loss(*self.read(c)).item() for c in chunks]
        return {"loss": float(np.average(each, weights=[len(c) for c in chunks]))}


def _check_loss(decoder: Decoder, pairs: Pairs, settings: DecodeConfig) -> None:
    if settings.loss != "own" and decoder.probabilistic:
        raise UsageError(
            f"the decoder {settings.decoder} learns its spread, which {settings.loss} does not",
            "--loss own, or --decoder schwarz or mlp",
        )
    if settings.loss == "ivar" and pairs.view.errors is None:
        raise UsageError(f"{settings.to} has no errors to weigh by", "--loss mse")


def hide(vectors: Tensor, pairs: Pairs, chance: float) -> Tensor:
    """Hide fused views at random, never the last one of a star (see `fuse`)."""
    if pairs.views == 1 or chance == 0:
        return vectors
    width = pairs.dimension
    flags = vectors[:, pairs.views * width :] > 0
    roll = torch.rand(flags.shape, device="cpu").to(vectors.device)
    gone = flags & (roll < chance)
    # Of the views a star has, the one with the highest roll stays.
    last = torch.where(flags, roll, -1.0).argmax(dim=1)
    gone[torch.arange(len(gone)), last] = False
    keep = torch.cat([(~gone).repeat_interleave(width, dim=1), ~gone], dim=1)
    return vectors * keep


def rate(step: int, steps: int, settings: DecodeConfig) -> float:
    """Learning rate of a step: linear warm-up, then one cosine to zero."""
    plan = schedule.Plan(learning_rate=settings.learning_rate, warm_up=settings.warm_up)
    return schedule.cosine(step, steps, plan)


def spread(rows: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """At most so many of the rows, evenly spread; none twice, and all if they are not more."""
    return np.asarray(rows[np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(int)])


def _device(module: nn.Module) -> torch.device:
    """Where its numbers are; a decoder that is solved has no parameters."""
    return next(itertools.chain(module.parameters(), module.buffers())).device


def _chunks(rows: NDArray[Any], size: int = CHUNK) -> list[NDArray[Any]]:
    return [rows[i : i + size] for i in range(0, len(rows), size)]


@torch.no_grad()
def predict(
    trained: Trained, vectors: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean and calibrated sigma [objects, L] in normalised units.

    Args:
        trained: A decoder.
        vectors: [objects, D] as `fuse` gives them, finite.
    """
    means, sigmas = [], []
    where = _device(trained.module)
    for part in _chunks(vectors):
        chunk = torch.tensor(np.asarray(part)).to(where)
        mean, log_variance = trained.module(chunk)
        means.append(mean.cpu().numpy())
        sigmas.append(torch.exp(0.5 * log_variance).cpu().numpy())
    length = len(trained.statistics.centre)
    if not means:
        return np.zeros((0, length), np.float32), np.zeros((0, length), np.float32)
    whole = np.concatenate(means)
    rough = np.concatenate(sigmas)
    sigma = rough * trained.calibration.widths(whole, np.log(rough).mean(axis=1))
    return whole, sigma.astype(np.float32)


@torch.no_grad()
def draws(
    trained: Trained,
    vectors: NDArray[np.float32],
    source_id: NDArray[np.int64],
    count: int,
    seed: int,
) -> NDArray[np.float32]:
    """Calibrated draws [objects, count, L] in normalised units.

    The random numbers of a star are a function of (seed, source_id) alone: its draws are the same
    whatever other stars are asked for, and the first draws do not depend on `count`.
    """
    length = len(trained.statistics.centre)
    numbers = noise_length(trained.decoder, trained.module, length)
    made = np.empty((len(vectors), count, length), np.float32)
    where = _device(trained.module)
    per = max(1, CHUNK // max(count, 1))
    for at in range(0, len(vectors), per):
        part, ids = vectors[at : at + per], source_id[at : at + per]
        noise = np.stack([_noise(seed, int(i), count, numbers) for i in ids])
        many = torch.from_numpy(np.repeat(part, count, axis=0)).to(where)
        deviates = torch.from_numpy(noise.reshape(-1, numbers)).to(where)
        rough = draw(trained.decoder, trained.module, many, deviates)
        mean, log_variance = trained.module(torch.tensor(np.asarray(part)).to(where))
        sigma = torch.exp(0.5 * log_variance)[:, None].cpu().numpy()
        off = (rough.unflatten(0, (len(part), count)) - mean[:, None]).cpu().numpy() / sigma
        mapped = calibrate.map_draws(trained.calibration, off)
        middle = mean.cpu().numpy()
        level = np.log(sigma[:, 0]).mean(axis=1)
        scale = sigma * trained.calibration.widths(middle, level)[:, None]
        made[at : at + per] = middle[:, None] + scale * mapped
    return made


def _noise(seed: int, source_id: int, count: int, numbers: int) -> NDArray[np.float32]:
    key = np.array([seed, source_id], np.int64).astype(np.uint64)
    generator = np.random.Generator(np.random.Philox(key=key))
    return generator.standard_normal((count, numbers), np.float32)


def quick(run: Run, start: str, to: str, provenance: str) -> Trained:
    """The decoder that `mmclip train` made along with the encoders; not recalibrated.

    Raises:
        NotFound: If the run knows no such view.
    """
    for name in (start, to):
        if name not in run.shape.sizes:
            raise NotFound(
                f"the run {run.artifact.path.name} knows no view '{name}'",
                f"it knows: {', '.join(sorted(run.shape.sizes))}",
            )
    if start not in run.model.generators:
        raise NotFound(
            f"the run {run.artifact.path.name} was trained without decoders",
            f"mmclip train-decoder --from {start} --to {to}",
        )
    generators: Any = run.model.generators[start]
    decoder = plugins.load("decoders", "gaussian", "DECODER")
    by = run.statistics[to]
    plain = calibrate.none(len(by.centre))
    return Trained((start,), to, decoder, generators[to], by, plain, None, provenance)


def _write(
    folder: Path,
    settings: DecodeConfig,
    training: DecoderTraining,
    metrics: list[Epoch],
    parents: list[artifacts.Reference],
    surveys: list[artifacts.SurveyEntry],
) -> Artifact:
    pairs, module = training.pairs, training.module
    blocks = pairs.vectors.blocks if isinstance(pairs.vectors, Featured) else None
    rough = Trained(
        settings.start, settings.to, training.decoder, module, pairs.view.statistics,
        calibrate.none(pairs.view.values.shape[1]), None, pairs.view.provenance, blocks,
    )  # fmt: skip
    calibration = _calibrated(rough, training)
    write_tensors(folder / paths.MODEL, module.state_dict())
    if blocks is not None:
        arrays = {f"{view}/{i}/{name}": torch.from_numpy(value) for view, ones in blocks.items()
                  for i, one in enumerate(ones)
                  for name, value in one.arrays().items()}  # fmt: skip
        write_tensors(folder / paths.FEATURES, arrays)
    write_atomic(folder / paths.CONFIG, config.to_toml("train-decoder", settings).encode())
    write_atomic(folder / paths.METRICS, loop.lines(metrics).encode())
    by = pairs.view.statistics
    body = {
        "start": list(settings.start),
        "to": settings.to,
        "decoder": settings.decoder,
        "input": pairs.vectors.shape[1],
        "size": list(pairs.view.size),
        "statistics": by.to_dict(),
        "calibration": calibration.to_dict(),
        "provenance": pairs.view.provenance,
        "blocks": None if blocks is None else {
            view: [{"form": one.form, "size": list(one.size)} for one in ones]
            for view, ones in blocks.items()
        },
    }  # fmt: skip
    write_atomic(folder / paths.SHAPE, json.dumps(body).encode())
    return artifacts.seal(
        folder,
        "decoder",
        config=config.to_dict(settings),
        parents=parents,
        rows={
            "train": len(training.alone[0]) or len(training.train_rows),
            "validation": len(training.validation_rows),
        },
        surveys=surveys,
        provenance={settings.to: pairs.view.provenance},
        seed=settings.seed,
        notes={
            "torch": torch.__version__,
            "parameters": sum(p.numel() for p in module.parameters()),
            "epoch": int(np.argmin([e.loss or 0.0 for e in metrics])) + 1 if metrics else 0,
        },
    )


def _calibrated(rough: Trained, training: DecoderTraining) -> Calibration:
    """The calibration of a decoder on validation stars, `MOST` of them if they are more.

    Of a decoder that is solved the training stars count too, each generated without itself.
    """
    pairs, seed = training.pairs, training.settings.seed
    rows = spread(training.validation_rows, MOST)
    mean, sigma = predict(rough, pairs.vectors[rows])
    few = rows[:CALIBRATE_DRAWS]
    made = draws(rough, pairs.vectors[few], few.astype(np.int64), 16, seed)
    drawn = (made - mean[: len(few), None]) / sigma[: len(few), None]
    # The rough decoder maps draws from normal quantiles to normal ones: not at all.
    own, alone = training.alone
    if len(own):
        kept = spread(np.arange(len(own)), MOST)
        rows, mean = np.concatenate([rows, own[kept]]), np.concatenate([mean, alone[kept]])
        sigma = np.concatenate([sigma, predict(rough, pairs.vectors[own[kept]])[1]])
    z = (pairs.view.values[pairs.places(rows)] - mean) / sigma
    return calibrate.calibrate(z, drawn if drawn.size else None, mean, np.log(sigma).mean(axis=1))


@artifacts.opener
def open_decoder(artifact: Artifact, where: str = "cpu") -> Trained:
    """Load a decoder in evaluation mode; files are checked against the manifest first."""
    body = artifacts.json_of(artifact, paths.SHAPE)
    decoder: Decoder = plugins.load("decoders", body["decoder"], "DECODER")
    by = Statistics.from_dict(body["statistics"])
    calibration = calibrate.from_dict(body["calibration"])
    held = read_weights(artifact, paths.MODEL)
    module = built(lambda: decoder.build(body["input"], tuple(body["size"])), held)
    try:
        module.load_state_dict(held)
    except RuntimeError as error:
        raise IntegrityError(f"{artifact.path}: the weights do not fit the shape") from error
    blocks = _blocks(artifact, body["blocks"]) if body.get("blocks") else None
    artifacts.check_unreplaced(artifact)
    return Trained(
        tuple(body["start"]), body["to"], decoder, module.eval().to(device(where)), by,
        calibration, artifact, body["provenance"], blocks,
    )  # fmt: skip


def _blocks(artifact: Artifact, about: Json) -> Blocks:
    held = {name: value.numpy() for name, value in read_weights(artifact, paths.FEATURES).items()}
    made = {}
    for view, ones in about.items():
        stems = [f"{view}/{i}/" for i in range(len(ones))]
        arrays = [{n.removeprefix(s): a for n, a in held.items() if n.startswith(s)} for s in stems]
        made[view] = tuple(block_of({"view": view, **one}, a)
                           for one, a in zip(ones, arrays, strict=True))  # fmt: skip
    return made
