"""`mmclip tune`: the papers' space, a study that goes on, a file that `mmclip train` takes."""

import json

import pytest

from mmclip.artifacts.workspace import Workspace
from mmclip.cli import run
from mmclip.clip.run import open_run
from mmclip.clip.settings import TrainConfig, resolve_settings
from mmclip.config import resolve
from mmclip.datasets.build import open_dataset
from mmclip.errors import UsageError
from mmclip.tasks.classify import problem
from mmclip.tasks.classify.finetune import FinetuneConfig
from mmclip.tasks.tune import SPACE, propose, propose_classifier, tune_classifier
from mmclip.vectors.store import Store
from tests.conftest import fetch_made, made_stars

optuna = pytest.importorskip("optuna", reason="extra tune")


class Highest:
    """A trial that always suggests the upper end."""

    def __init__(self):
        self.asked = {}

    def suggest_float(self, name, low, high, log):
        self.asked[name] = (low, high, log)
        return high


def test_the_space_is_that_of_the_paper():
    trial = Highest()
    made = propose(trial, resolve_settings("astrom3", None, [], {}), ["photometry", "spectra"])
    assert trial.asked["learning_rate"] == (1e-5, 1e-2, True)
    assert trial.asked["weight_decay"] == (1e-5, 1e-1, True)
    assert trial.asked["beta1"] == (0.7, 0.99, False)
    assert trial.asked["dropout spectra"] == (0.0, 0.4, False)
    assert made.views["photometry"]["dropout"] == 0.4
    assert made.views["photometry"]["attention"] == "prob"  # the preset's other settings stay
    assert made.plateau_factor == 1.0
    propose(plain := Highest(), TrainConfig(), ["xp"])
    assert set(SPACE) - {"dropout", "plateau_factor"} < set(plain.asked)
    assert "plateau_factor" not in plain.asked


def test_a_study_goes_on_where_it_was_and_its_best_settings_train(tmp_path, capsys):
    fetch_made(tmp_path, made_stars(250))
    w = ["--workspace", str(tmp_path)]
    assert run(["preprocess", *w]) == 0
    tune = ["tune", "--epochs", "2", "--batch", "64", "--set", "width=16", "--set", "dimension=8"]
    assert run([*tune, "--trials", "1", *w]) == 0
    # A trial that was killed between two of its settings, and a line that a full disk cut short.
    journal = tmp_path / "studies" / "study" / "study.journal"
    storage = optuna.storages.JournalStorage(
        optuna.storages.journal.JournalFileBackend(str(journal))
    )
    study = optuna.load_study(study_name="mmclip", storage=storage)
    cut = study.ask()
    cut.suggest_float("dropout metadata", 0.0, 0.4)
    with journal.open("ab") as file:
        file.write(b'{"op_code":5,"wor')
    capsys.readouterr()
    assert run([*tune, "--trials", "3", "--json", *w]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(rows) == 3
    assert run([*tune, "--trials", "3", "--json", "--name", "whole", *w]) == 0
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == rows
    whole = tmp_path / "studies" / "whole" / "best.toml"
    assert whole.read_bytes() == journal.with_name("best.toml").read_bytes()
    assert [r["loss"] for r in rows] == sorted(r["loss"] for r in rows)
    assert all(1e-5 <= r["learning_rate"] <= 1e-2 for r in rows)
    best = str(journal.with_name("best.toml"))
    assert (
        resolve_settings(None, journal.with_name("best.toml"), [], {}).learning_rate
        == (rows[0]["learning_rate"])
    )
    more = ["--epochs", "1", "--set", "generator_epochs=0", "--name", "tuned"]
    assert run(["train", "--config", best, *more, *w]) == 0


def test_the_space_of_a_classifier_is_that_of_appendix_b():
    trial = Highest()
    made = propose_classifier(trial, FinetuneConfig(), ("photometry", "spectra"))
    assert trial.asked["learning_rate"] == (1e-5, 1e-2, True)
    assert trial.asked["dropout spectra"] == (0.0, 0.4, False)
    assert (made.beta1, made.dropout) == (0.99, (0.4, 0.4))


def test_a_classifier_is_tuned_and_its_settings_are_read_by_classify(trained, tmp_path):
    space = Workspace(trained)
    store = Store(space.get("vectors", None))
    run, data = open_run(space.get("run", None)), open_dataset(space.get("data", None))
    views = ("metadata",)
    asked = problem(data, run, store, "class", views)
    quick = FinetuneConfig(epochs=2, batch=64, least_steps=0, device="cpu")
    told = []
    rows = tune_classifier(asked, run, views, "scratch", 0.5, quick, tmp_path, 2, told.append)
    assert [t.number for t in told] == [0, 1]
    assert [r["loss"] for r in rows] == sorted(r["loss"] for r in rows)
    best = resolve(FinetuneConfig, "classify", tmp_path / "best.toml", {})
    assert best.learning_rate == rows[0]["learning_rate"]
    assert best.dropout == (rows[0]["dropout metadata"],)
    assert best.epochs == 2
    # The study goes on: nothing is tried again.
    again = tune_classifier(asked, run, views, "scratch", 0.5, quick, tmp_path, 2, told.append)
    assert len(told) == 2
    assert again.rows == rows.rows
    with pytest.raises(UsageError, match="head"):
        tune_classifier(asked, run, views, "head", 0.5, quick, tmp_path, 2, told.append)
