"""Search for settings of a training by Optuna; the study is a journal on disk and goes on."""

import contextlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mmclip import config
from mmclip.artifacts import locks, paths, whole
from mmclip.clip.run import Run
from mmclip.clip.settings import TrainConfig, model_shape
from mmclip.clip.stages import ClipTraining
from mmclip.config import choice, merge
from mmclip.datasets.build import Dataset
from mmclip.errors import MissingExtra, MmclipError
from mmclip.results import Result, Value, from_rows
from mmclip.tasks.classify import split_rows
from mmclip.tasks.classify.baselines import Problem
from mmclip.tasks.classify.finetune import FinetuneConfig, finetune, start_from
from mmclip.training.loop import Epoch, Progress

# Rizhko & Bloom 2025 (arXiv:2411.08842) and its code: low, high, logarithmic.
SPACE: dict[str, tuple[float, float, bool]] = {
    "learning_rate": (1e-5, 1e-2, True),
    "beta1": (0.7, 0.99, False),
    "weight_decay": (1e-5, 1e-1, True),
    "plateau_factor": (0.1, 1.0, False),
    "dropout": (0.0, 0.4, False),  # one a view
}


@dataclass(frozen=True)
class Trial:
    """A finished trial: its number, validation loss, recall@1 and the values it drew."""

    number: int
    loss: float
    recall: float | None
    values: Mapping[str, float] = field(default_factory=dict)

    @property
    def row(self) -> dict[str, Value]:
        """For a table."""
        return {
            "trial": self.number, "loss": self.loss, "recall@1": self.recall, **self.values,
        }  # fmt: skip


COLUMNS = {
    "loss": ("nat", "of validation, of the epoch whose weights would be kept"),
    "recall@1": ("", "of validation"),
}


Draw = Callable[[Any], tuple[float, float | None]]  # an Optuna trial -> its loss and recall@1


def tune(
    data: Dataset,
    settings: TrainConfig,
    folder: Path,
    trials: int,
    tell: Callable[[Trial], None],
) -> Result:
    """Train `trials` times in all with settings drawn from `SPACE`, and write the best down.

    A tree-structured Parzen estimator proposes; the least validation loss counts. What an
    interrupted search had begun is tried again from its seed. `folder` gets `study.journal` and
    `best.toml`.

    Returns:
        One row a finished trial, best first: its number, loss, recall@1 and settings.

    Raises:
        MissingExtra: Without Optuna.
        MmclipError: If no trial gave a validation loss.
    """

    def draw(asked: Any) -> tuple[float, float | None]:
        found = _trial(data, propose(asked, settings, sorted(data.views)), folder)
        return float(found["loss"]), found.get("recall@1")

    best, finished = _search(folder, trials, settings.seed, draw, tell)
    chosen = propose(best, settings, sorted(data.views))
    return _written(folder, config.to_toml("train", chosen), finished)


def tune_classifier(
    asked: Problem, run: Run, views: tuple[str, ...], method: str, fraction: float,
    settings: FinetuneConfig, folder: Path, trials: int, tell: Callable[[Trial], None],
) -> Result:  # fmt: skip
    """The same for a classifier of `mmclip classify`; `best.toml` has a table `[classify]`.

    Args:
        asked: See `mmclip.tasks.classify.problem`.
        run: Its encoders.
        views: Used together.
        method: clip (from the run) | scratch.
        fraction: Of the training objects, by the paper's rule.
        settings: What is not searched; its seed is that of the subset and of every trial.
        folder, trials, tell: See `tune`.

    Source:
        Rizhko & Bloom 2025, arXiv:2411.08842, appendix B.
    """
    choice("--method", method, ("clip", "scratch"))
    rows = split_rows(asked, fraction, settings.seed, cap_test=True)

    def draw(trial: Any) -> tuple[float, float | None]:
        mine = propose_classifier(trial, settings, views)
        made = start_from(run.model if method == "clip" else None, run.shape, views,
                          len(asked.classes), mine.seed, mine, run.model)  # fmt: skip
        kept: list[Epoch] = []

        def report(progress: Progress) -> None:
            if progress.epoch is not None and progress.epoch.kept:
                kept.append(progress.epoch)

        try:
            finetune(made, asked.values, asked.labels, rows, mine, None, report)
        except MmclipError as error:
            if "the loss is" not in error.message:
                raise
        loss = kept[-1].loss if kept else None
        return float("inf") if loss is None else loss, None

    best, finished = _search(folder, trials, settings.seed, draw, tell)
    chosen = propose_classifier(best, settings, views)
    return _written(folder, config.to_toml("classify", chosen), finished)


def _search(
    folder: Path, trials: int, seed: int, draw: Draw, tell: Callable[[Trial], None]
) -> tuple[Any, list[Trial]]:
    """The best trial, to propose its settings again, and all that are finished."""
    try:
        import optuna
        from optuna.storages.journal import JournalFileBackend
    except ImportError:
        raise MissingExtra("mmclip tune needs Optuna", "pip install 'mmclip[tune]'") from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    folder.mkdir(parents=True, exist_ok=True)
    lock: Any = _Lock(folder / "study.journal")
    backend = JournalFileBackend(str(lock.journal), lock)
    storage = optuna.storages.JournalStorage(backend)
    study = optuna.create_study(
        storage=storage, study_name="mmclip", direction="minimize", load_if_exists=True
    )
    for trial in study.get_trials(states=(optuna.trial.TrialState.RUNNING,)):
        study.tell(trial.number, state=optuna.trial.TrialState.FAIL)

    while (done := len(_finished(study))) < trials:
        # The seed belongs to the trial, so a search that was cut proposes what a whole one would.
        study.sampler = optuna.samplers.TPESampler(seed=seed + done)
        asked = study.ask()  # not `optimize`, which fails on Ctrl-C in its own bookkeeping
        loss, recall = draw(asked)
        asked.set_user_attr("recall@1", recall)
        study.tell(asked, loss)
        tell(Trial(done, loss, recall))
    finished = [
        Trial(n, float(t.value), t.user_attrs.get("recall@1"), t.params)
        for n, t in enumerate(_finished(study))
    ]
    return optuna.trial.FixedTrial(study.best_trial.params), finished


def _written(folder: Path, text: str, finished: list[Trial]) -> Result:
    with whole(folder / paths.BEST) as part:
        part.write_text(text, encoding="utf-8")
    best_first = sorted(finished, key=lambda one: one.loss)
    question = f"{len(finished)} trials, least validation loss first"
    return from_rows((one.row for one in best_first), question, COLUMNS)


class _Lock:
    """The journal's own file as its lock: unlike Optuna's, a killed process does not hold it on."""

    def __init__(self, journal: Path) -> None:
        self.journal = journal
        with journal.open("ab") as file, locks.lock(file, wait=True):
            kept = journal.read_bytes().rfind(b"\n") + 1
            os.truncate(journal, kept)  # a line that a full disk cut short would spoil the next

    def acquire(self) -> bool:
        """Wait for it."""
        with contextlib.ExitStack() as held:
            held.enter_context(locks.lock(held.enter_context(self.journal.open("ab")), wait=True))
            self.held = held.pop_all()
        return True

    def release(self) -> None:
        """Give it back."""
        self.held.close()


def _finished(study: Any) -> list[Any]:
    return [t for t in study.get_trials(deepcopy=False) if t.state.name == "COMPLETE"]


def propose_classifier(
    trial: Any, settings: FinetuneConfig, views: tuple[str, ...]
) -> FinetuneConfig:
    """Settings of a fine-tuning with the values that a trial suggests."""

    def ask(name: str, label: str = "") -> float:
        low, high, logarithmic = SPACE[name]
        return float(trial.suggest_float(label or name, low, high, log=logarithmic))

    return replace(
        settings, learning_rate=ask("learning_rate"), beta1=ask("beta1"),
        weight_decay=ask("weight_decay"), factor=min(ask("plateau_factor"), 1 - 1e-9),
        dropout=tuple(ask("dropout", f"dropout {v}") for v in views),
    )  # fmt: skip


def propose(trial: Any, settings: TrainConfig, names: list[str]) -> TrainConfig:
    """Settings with the values that a trial suggests."""

    def ask(name: str, label: str = "") -> float:
        low, high, logarithmic = SPACE[name]
        return float(trial.suggest_float(label or name, low, high, log=logarithmic))

    views: dict[str, Any] = {n: {"dropout": ask("dropout", f"dropout {n}")} for n in names}
    made = replace(
        settings,
        learning_rate=ask("learning_rate"),
        weight_decay=ask("weight_decay"),
        betas=(ask("beta1"), settings.betas[1]),
        views=merge(settings.views, views),
    )
    if settings.schedule == "plateau":
        made = replace(made, plateau_factor=ask("plateau_factor"))
    return made


def _trial(data: Dataset, settings: TrainConfig, folder: Path) -> Mapping[str, Any]:
    """The entry of the epoch whose weights would be kept."""
    # A trial keeps no checkpoint, and no decoders: only its validation loss is wanted.
    quick = replace(settings, checkpoint_seconds=1e9, generator_epochs=0)
    training = ClipTraining(data, quick, model_shape(data.views, quick), folder / "nowhere")
    try:
        epochs = [e for e in training.run() if e.loss is not None]
    except MmclipError as error:
        if "the loss is" not in error.message:
            raise
        return {"loss": float("inf")}  # diverged: a fair answer to that learning rate
    if not epochs:
        raise MmclipError("no validation stars: a search has nothing to compare", "more stars")
    return min(epochs, key=lambda e: float(e.loss or 0.0)).line()
