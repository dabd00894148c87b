"""A label network of one survey carried over to another: every method beside its baselines.

Source:
    Zhao et al. 2026, arXiv:2602.15021: pre-training on one survey, zero-shot, residual head, LoRA,
    full fine-tuning, from scratch, at several numbers of labelled target stars, five runs each.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from mmclip.datasets import split
from mmclip.encoders.tensors import read_tensors, write_tensors
from mmclip.errors import UsageError
from mmclip.results import Result, Row, Value, from_rows, number
from mmclip.training.loop import Progress
from mmclip.transfer.data import METHODS, AdaptConfig, Stars, evaluated, same_stars, sizes
from mmclip.transfer.methods import (
    TUNINGS,
    Base,
    Fitted,
    network,
    predict,
    pretrain,
    reads_view,
    trained_state,
    tune,
)
from mmclip.transfer.regressor import Trunk
from mmclip.transfer.scores import judge, mmd2, over_seeds

Floats: TypeAlias = NDArray[np.float64]
BASELINES = ("mean", "ridge zero-shot", "ridge", "pipeline")
WITHOUT_TARGET = ("zero-shot", "ridge zero-shot", "pipeline")  # use no labelled target star
NUMBERS = ("R2", "bias", "scatter", "NMAD", "within 1 sigma", "MMD2")
RIDGE_ROWS = 20_000  # a ridge regression is fitted on at most so many source stars


@dataclass(frozen=True)
class Outcome:
    """What `adapt` found.

    Attributes:
        runs: A row for each label, method, size, seed and regime.
        predictions: Columns of one row for each label, method, size, seed and judged star.
        bases: The source network of each label.
        fitted: Networks of the first seed at the largest size, by (label, method).
        counts: Stars by what they were used for.
    """

    runs: list[dict[str, Value]]
    predictions: dict[str, list[Value]]
    bases: dict[str, Base]
    fitted: dict[tuple[str, str], dict[str, torch.Tensor]]
    scales: dict[tuple[str, str], tuple[float, float]]
    counts: dict[str, int]


def adapt(
    source: Stars,
    target: Stars,
    trunk: Trunk | None,
    settings: AdaptConfig,
    place: torch.device,
    folder: Path,
    tell: Callable[[str], None],
    reference: Floats | None = None,
) -> Outcome:
    """Every label, size, seed and method; what is done lies in `folder` and is not done again.

    The stars that are judged are taken out of the source's training too, so no network has seen
    the label of a star it is judged on, whichever survey observed it.

    Args:
        source, target: In the same units.
        trunk: A run's encoder in front of the networks, or None.
        settings: See `AdaptConfig`.
        place: Where the networks are trained.
        folder: For the work in progress.
        tell: Is told a line after each run.
        reference: [stars, 2] in the first two labels, for MMD; the judged stars' if None.
    """
    unknown = [m for m in settings.methods if m not in METHODS]
    if unknown:
        raise UsageError(f"'{unknown[0]}' is not a method", f"one of: {', '.join(METHODS)}, all")
    asked_of = evaluated(target, settings)
    judged = asked_of & target.present
    theirs, ours = same_stars(source, target)
    outcome = Outcome([], {}, {}, {}, {}, {})
    for label in settings.targets:
        asked = judged & np.isfinite(target.labels[label])
        pool = np.flatnonzero(~asked_of & target.present & np.isfinite(target.labels[label]))
        free = source.present & np.isfinite(source.labels[label]) & (source.split != "test")
        shared = np.isin(theirs, ours[asked])
        rows = np.flatnonzero(free & ~shared)
        if asked.sum() < 2 or len(rows) < 10:
            raise UsageError(
                f"{len(rows)} source stars and {int(asked.sum())} target stars to judge on have "
                f"'{label}'",
                "--holdout 0.5 judges on half of a small target",
            )
        outcome.counts.update(
            {
                f"{label}: source stars": len(rows),
                f"{label}: left out of the source, judged in the target": int(
                    (free & shared).sum()
                ),
                f"{label}: target pool": len(pool),
                f"{label}: target judged": int(asked.sum()),
            }
        )
        base = _base(label, source, rows, trunk, settings, place, folder, tell)
        outcome.bases[label] = base
        task = _Task(label, source, rows, target, pool, asked, base, settings, place)
        _one_label(task, folder, tell, outcome)
    if len(settings.targets) > 1:
        outcome.runs.extend(_plane(settings, outcome.predictions, reference))
    return outcome


@dataclass(frozen=True)
class _Task:
    """One label: who teaches, who may teach in the target, who is judged."""

    label: str
    source: Stars
    rows: NDArray[np.int64]
    target: Stars
    pool: NDArray[np.int64]
    asked: NDArray[np.bool_]
    base: Base
    settings: AdaptConfig
    place: torch.device

    def answer(
        self, method: str, some: NDArray[np.int64], seed: int, folder: Path
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], Fitted | None]:
        """Predictions and sigmas of the judged stars, and the network if one was tuned."""
        x, base = self.target.x[self.asked], self.base
        if method in TUNINGS:
            y = self.target.labels[self.label][some]
            x_some = self.target.x[some]
            made = tune(base, method, x_some, y, self.settings, seed, self.place, folder)
            through = reads_view(base, method, self.settings)
            return *predict(base, made, through, x, self.place), made
        if method == "zero-shot":
            made = Fitted(base.head, base.centre, base.scale)
            return *predict(base, made, base.trunk is None, x, self.place), None
        if method == "pipeline":
            own = self.target.pipeline[self.label][self.asked]
            return own, np.full(len(own), np.nan), None
        guess = _baseline(method, self.source, self.rows, self.target, some, self.label, x)
        return guess, np.full(len(guess), np.nan), None


def _runs(
    settings: AdaptConfig, numbers: list[int], pipeline: bool
) -> list[tuple[int, int, list[str]]]:
    """(seed, size, methods) of every run; what uses no target star is done once, at size 0."""
    chosen = list(settings.methods) + (list(BASELINES) if settings.baselines else [])
    chosen = [m for m in chosen if m != "pipeline" or pipeline]
    once = [m for m in chosen if m in WITHOUT_TARGET]
    again = [m for m in chosen if m not in WITHOUT_TARGET]
    seeds = range(settings.seed, settings.seed + settings.seeds)
    return [(settings.seed, 0, once)] + [(s, n, again) for s in seeds for n in numbers if n > 0]


def _one_label(task: _Task, folder: Path, tell: Callable[[str], None], outcome: Outcome) -> None:
    settings, target = task.settings, task.target
    truth = target.labels[task.label][task.asked]
    regimes = {n: flags[task.asked] for n, flags in target.regimes.items()}
    numbers = sizes(settings, len(task.pool))
    for seed, size, methods in _runs(settings, numbers, task.label in target.pipeline):
        order = np.random.default_rng((settings.seed, seed)).permutation(task.pool)
        for method in methods:
            cell = _Cell(folder, task.label, method, size, seed)
            if cell.lacking():
                predicted, sigma, made = task.answer(method, order[:size], seed, cell.work)
                kept = seed == settings.seed and size == numbers[-1]
                cell.write(predicted, sigma, made if kept else None)
            predicted, sigma = cell.read(outcome)
            run: dict[str, Value] = {
                "target": task.label,
                "method": method,
                "size": size,
                "seed": seed,
            }
            outcome.runs.extend(run | row for row in judge(truth, predicted, sigma, regimes))
            _keep(outcome.predictions, run, target.source_id[task.asked], truth, predicted, sigma)
        tell(f"{task.label}: seed {seed}, {size} target stars done")


def _base(
    label: str, source: Stars, rows: NDArray[np.int64], trunk: Trunk | None,
    settings: AdaptConfig, place: torch.device, folder: Path, tell: Callable[[str], None],
) -> Base:  # fmt: skip
    """The source network, from `folder` if it was trained before."""
    file = folder / f"base-{label}.safetensors"
    held = source.split[rows] == "validation"
    if not held.any():
        held = split.mix(source.star[rows], settings.seed) % np.uint64(10) == 0
    y = source.labels[label][rows]
    if file.is_file():
        state = read_tensors(file)
        centre, scale = (float(v) for v in state.pop("scale"))
        length = trunk.dimension if trunk else source.x.shape[1]
        net = network(length, settings)
        net.load_state_dict(state)
        return Base(net.to(place).eval(), trunk, centre, scale)

    def say(progress: Progress) -> None:
        done = progress.epoch
        if done is not None and done.epoch % 10 == 0:
            tell(f"{label}: source epoch {done.epoch}, validation loss {done.loss:.4f}")

    base = pretrain(
        source.x[rows], y, held, trunk, settings, settings.seed, place,
        folder / f"fit-{label}", say,
    )  # fmt: skip
    scales = torch.tensor([base.centre, base.scale], dtype=torch.float64)
    write_tensors(file, base.head.state_dict() | {"scale": scales})
    return base


@dataclass(frozen=True)
class _Cell:
    """One run on disk: predictions, and the trained parameters where they are kept."""

    folder: Path
    label: str
    method: str
    size: int
    seed: int

    @property
    def file(self) -> Path:
        name = f"{self.label}.{self.method.replace(' ', '_')}.{self.size}.{self.seed}"
        return self.folder / "cells" / f"{name}.safetensors"

    @property
    def work(self) -> Path:
        """Where the checkpoint of a network lies while it is tuned."""
        return self.file.with_suffix(".work")

    def lacking(self) -> bool:
        return not self.file.is_file()

    def write(self, predicted: Floats, sigma: Floats, made: Fitted | None) -> None:
        body = {"predicted": torch.from_numpy(predicted), "sigma": torch.from_numpy(sigma)}
        if made is not None:
            body["scale"] = torch.tensor([made.centre, made.scale], dtype=torch.float64)
            body |= {f"net.{n}": p for n, p in trained_state(made.net).items()}
        self.file.parent.mkdir(parents=True, exist_ok=True)
        write_tensors(self.file, body)
        shutil.rmtree(self.work, ignore_errors=True)

    def read(self, outcome: Outcome) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        body = read_tensors(self.file)
        if "scale" in body:
            state = {k[4:]: v for k, v in body.items() if k.startswith("net.")}
            outcome.fitted[self.label, self.method] = state
            centre, scale = (float(v) for v in body["scale"])
            outcome.scales[self.label, self.method] = (centre, scale)
        return body["predicted"].numpy(), body["sigma"].numpy()


def _baseline(
    method: str, source: Stars, rows: NDArray[np.int64], target: Stars, some: NDArray[np.int64],
    label: str, x: NDArray[np.float32],
) -> NDArray[np.float64]:  # fmt: skip
    """Mean of the labelled target stars; ridge on the view, of source or of those stars."""
    from sklearn.linear_model import RidgeCV

    if method == "mean":
        return np.full(len(x), target.labels[label][some].mean())
    if method == "ridge zero-shot":
        chosen = rows[:: max(1, -(-len(rows) // RIDGE_ROWS))]
        known, truth = source.x[chosen], source.labels[label][chosen]
    else:
        known, truth = target.x[some], target.labels[label][some]
    ridge = RidgeCV(np.logspace(-2, 5, 15)).fit(np.nan_to_num(known).astype(np.float64), truth)
    answer: NDArray[np.float64] = ridge.predict(np.nan_to_num(x).astype(np.float64))
    return answer


def _keep(
    columns: dict[str, list[Value]], run: dict[str, Value], source_id: NDArray[np.int64],
    truth: Floats, predicted: Floats, sigma: Floats,
) -> None:  # fmt: skip
    for name, value in run.items():
        columns.setdefault(name, []).extend([value] * len(truth))
    found = {"source_id": source_id, "truth": truth, "predicted": predicted, "sigma": sigma}
    for name, values in found.items():
        columns.setdefault(name, []).extend(values.tolist())


def _plane(
    settings: AdaptConfig, predictions: dict[str, list[Value]], reference: Floats | None = None
) -> list[dict[str, Value]]:
    """MMD between predicted and reference clouds in the plane of the first two labels."""
    first, second = settings.targets[:2]
    found: dict[tuple[Value, ...], dict[Value, dict[Value, tuple[Value, Value]]]] = {}
    held: dict[Value, set[Value]] = {first: set(), second: set()}
    for label, size in zip(predictions["target"], predictions["size"], strict=True):
        held.setdefault(label, set()).add(size)
    # All stars with one label may be fewer than all with the other: both are "all".
    most = {label: max((int(str(s)) for s in given), default=0) for label, given in held.items()}
    everyone = min(most[first], most[second])
    for label, method, size, seed, star, truth, predicted in zip(
        *(predictions[n] for n in ("target", "method", "size", "seed", "source_id", "truth",
                                   "predicted")),
        strict=True,
    ):  # fmt: skip
        other = held[second if label == first else first]
        shared = everyone if size == most[label] and size not in other else size
        group = found.setdefault((method, shared, seed), {})
        group.setdefault(star, {})[label] = (truth, predicted)
    rows: list[dict[str, Value]] = []
    for (method, size, seed), group in found.items():
        both = [v for v in group.values() if first in v and second in v]
        # [stars, label, truth | predicted]
        clouds = np.array([[v[first], v[second]] for v in both], np.float64).reshape(-1, 2, 2)
        clouds = clouds[np.isfinite(clouds).all(axis=(1, 2))]
        if len(clouds) < 2:
            continue
        wanted = clouds[:, :, 0] if reference is None else reference
        value = mmd2(clouds[:, :, 1], wanted, settings.seed)
        rows.append(
            {"target": f"{first} x {second}", "method": method, "size": size, "seed": seed,
             "regime": "all", "stars": len(clouds), "MMD2": value}
        )  # fmt: skip
    return rows


def table(runs: list[dict[str, Value]], question: str = "") -> Result:
    """Mean and standard deviation over the seeds, in the order of labels, regimes and sizes."""
    order: dict[Value, int] = {name: i for i, name in enumerate((*BASELINES, *METHODS))}
    rows = over_seeds(runs, ("target", "regime", "size", "method", "stars"), NUMBERS)
    labels = list(dict.fromkeys(r["target"] for r in runs))
    regimes = list(dict.fromkeys(r["regime"] for r in runs))

    def place(row: Row) -> tuple[int, int, float, int]:
        target, regime = labels.index(row["target"]), regimes.index(row["regime"])
        return target, regime, number(row, "size"), order[row["method"]]

    return from_rows(sorted(rows, key=place), question)
