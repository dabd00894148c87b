"""The one training loop: every kind of training against itself broken off at a step."""

import copy
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from mmclip.artifacts.workspace import Workspace
from mmclip.clip.run import open_run
from mmclip.datasets.build import open_dataset
from mmclip.errors import MmclipError
from mmclip.tasks import classify, pretrain
from mmclip.tasks.classify.finetune import FinetuneConfig, finetune, start_from
from mmclip.training import loop, order, schedule
from mmclip.training.loop import Stage, Training
from mmclip.transfer import methods
from mmclip.transfer.regressor import Regressor
from mmclip.vectors.store import Store
from tests.interruption import interrupted

CPU = torch.device("cpu")


def same(one, other):
    """Whether two networks have the same weights, bit for bit."""
    a, b = one.state_dict(), other.state_dict()
    return a.keys() == b.keys() and all(torch.equal(v, b[k]) for k, v in a.items())


def line(rows=64):
    """y = 2 x0 - x1: inputs and labels."""
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(rows, 2)).astype("f4"))
    return x, 2 * x[:, 0] - x[:, 1]


def of_a_line(epochs=10, **changes):
    """The training of a small network with dropout on `line`."""
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Dropout(0.2), nn.Linear(16, 1))
    x, y = line()

    def loss(rows):
        return (model(x[rows])[:, 0] - y[rows]).square().mean()

    def validate():
        model.eval()
        return {"loss": float((model(x)[:, 0] - y).square().mean())}

    weights = list(model.parameters())
    stage = Stage(
        "line", epochs, torch.optim.Adam(weights, 1e-3), weights, loop.gradient_of(model, loss),
        lambda step, steps, epochs: 1e-3, validate, score=lambda e: (e.loss,), score_start=True,
    )  # fmt: skip
    return Training(
        model, np.arange(len(y)), 10, 42, (replace(stage, **changes),), drop_last=False,
        checkpoint_seconds=-1.0,
    )  # fmt: skip


def test_an_interrupted_training_goes_on_to_the_same_weights_bit_for_bit(tmp_path):
    whole, cut, resumed = of_a_line(), of_a_line(), of_a_line()
    history = loop.run(whole, None)

    def stop(progress):
        if progress.epoch is not None and progress.epoch.epoch == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        loop.run(cut, tmp_path, stop)
    assert loop.run(resumed, tmp_path) == history
    assert len(history) == 10
    assert same(resumed.module, whole.module)


def test_a_training_that_only_gets_worse_keeps_where_it_began():
    model = nn.Linear(1, 1)
    before = copy.deepcopy(model.state_dict())
    weights = list(model.parameters())
    stage = Stage(
        "worse", 5, torch.optim.Adam(weights), weights,
        loop.gradient_of(model, lambda rows: -model(torch.ones(len(rows), 1)).mean()),
        lambda step, steps, epochs: 0.1,
        lambda: {"loss": float(model(torch.ones(1, 1)))}, score=lambda e: (e.loss,),
        score_start=True,
    )  # fmt: skip
    loop.run(Training(model, np.arange(8), 4, 42, (stage,)), None)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_every_object_is_seen_once_an_epoch_and_the_order_is_that_of_seed_and_epoch():
    seen = []
    training = of_a_line(epochs=3)
    real = training.stages[0].gradient

    def gradient(step):
        seen.append(step.rows)
        return real(step)

    stage = replace(training.stages[0], gradient=gradient)
    loop.run(replace(training, stages=(stage,)), None)
    epochs = [np.concatenate(seen[i : i + 7]) for i in range(0, 21, 7)]
    assert all((np.sort(e) == np.arange(64)).all() for e in epochs)
    assert not np.array_equal(epochs[0], epochs[1])
    for number, rows in enumerate(epochs):
        np.testing.assert_array_equal(rows, order.shuffled(np.arange(64), 42, number))


def test_a_loss_that_is_not_finite_ends_the_training_with_a_hint():
    training = of_a_line(gradient=lambda step: torch.tensor(math.nan), hint="lower it")
    with pytest.raises(MmclipError, match="the loss is nan at step 0") as error:
        loop.run(training, None)
    assert error.value.hint == "lower it"


def test_progress_ends_at_the_last_step_also_when_it_stops_early():
    told = []
    loop.run(of_a_line(stop=lambda epochs: len(epochs) >= 4), None, told.append)
    assert [p.epoch.epoch for p in told if p.epoch is not None] == [1, 2, 3, 4]
    assert (told[-1].step, told[-1].steps, told[-1].seconds_left) == (28, 28, 0.0)
    assert all(p.steps == 70 for p in told[:-1])


def test_the_best_weights_of_a_stage_are_what_the_next_one_begins_with():
    first = of_a_line(
        epochs=1, rate=lambda step, steps, epochs: 100.0
    )  # every step is for the worse
    before, at_start = copy.deepcopy(first.module), []
    second = replace(
        first.stages[0], name="next", score=None, score_start=False,
        begin=lambda step: at_start.append(same(first.module, before)),
    )  # fmt: skip
    loop.run(replace(first, stages=(*first.stages, second)), None)
    assert at_start == [True]
    assert not same(first.module, before)


def test_a_rate_is_cut_after_each_run_of_epochs_without_a_lower_loss():
    # Of `ReduceLROnPlateau` with patience 2 and no threshold, counted by its own rates.
    losses = [5.0, 4.0, 4.0, 4.1, 4.2, 3.0, 3.5, 3.5, 3.5, 3.5, 3.5, 3.5, 2.0]
    weight = nn.Parameter(torch.zeros(1))
    optimiser = torch.optim.SGD([weight], 1.0)
    reference = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimiser, factor=0.5, patience=2, threshold=0.0
    )
    for number, loss in enumerate(losses, 1):
        optimiser.step()
        reference.step(loss)
        rate = optimiser.param_groups[0]["lr"]
        assert 0.5 ** schedule.stalls(losses[:number], 2) == rate


# kinds of training: (what is trained, given a folder) -> its network


def labelled(count=60):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(count, 20)).astype("f4")
    return x, 2 * x[:, 0] - x[:, 1]


TUNE = methods.TuneConfig(
    source_epochs=4, source_batch=16, epochs=4, batch=16, patience=3, l2_sp=1e-3
)


def source(folder):
    x, y = labelled()
    held = np.arange(len(y)) % 6 == 0
    return methods.pretrain(x, y, held, None, TUNE, 3, CPU, folder)


def tuned(method):
    def train(folder):
        x, y = labelled(40)
        return methods.tune(BASE, method, x, y + 0.5, TUNE, 3, CPU, folder).net

    return train


def narrow(length, settings):
    """The regressor with fewer units before its last hidden layer: a checkpoint a step is small."""
    return Regressor(length, 1, settings.dropout, widths=(32, 16, 128))


torch.manual_seed(1)
BASE = methods.Base(narrow(20, TUNE).eval(), None, 0.0, 1.0)
REGRESSIONS = {"source": lambda folder: source(folder).head} | {
    method: tuned(method) for method in methods.TUNINGS
}


@pytest.mark.parametrize("call", [2, 7])
@pytest.mark.parametrize("kind", REGRESSIONS)
def test_an_interrupted_regression_ends_in_the_same_weights(tmp_path, monkeypatch, kind, call):
    monkeypatch.setattr(methods, "network", narrow)
    train = REGRESSIONS[kind]
    whole = train(None)
    steps = interrupted(monkeypatch, call)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path)
    assert same(train(tmp_path), whole)
    assert len(steps) > call


@pytest.mark.parametrize(("views", "call"), [(("metadata",), 3), (("metadata", "xp"), 6)])
def test_an_interrupted_fine_tuning_ends_in_the_same_weights(
    trained, tmp_path, monkeypatch, views, call
):
    space = Workspace(trained)
    store = Store(space.get("vectors", "metadata-xp"))
    data = open_dataset(space.parent(store.artifact, "data"))
    run = open_run(space.parent(store.artifact, "run"))
    asked = classify.problem(data, run, store, "class", ("metadata", "xp"))
    rows = classify.split_rows(asked, 1.0, 1, False)
    config = FinetuneConfig(epochs=2, least_steps=2, batch=64)

    def train(folder):
        made = start_from(run.model, run.shape, views, len(asked.classes), 1)
        return finetune(made, asked.values, asked.labels, rows, config, folder)

    whole = train(None)
    steps = interrupted(monkeypatch, call)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path)
    assert same(train(tmp_path), whole)
    assert len(steps) == 2 * (len(rows["train"]) // 64) + 1  # no step but the cut one was repeated


@pytest.mark.parametrize("method", ["moco", "autoencoder"])
def test_an_interrupted_self_supervision_ends_in_the_same_weights(
    trained, tmp_path, monkeypatch, method
):
    data = open_dataset(Workspace(trained).get("data"), ("xp",))
    settings = pretrain.PretrainConfig("xp", method, "cnn", width=16, epochs=2, batch=64)

    def train(name):
        made = pretrain.pretrain(data, settings, tmp_path / name, False, loop.silent)
        return pretrain.open_encoder(made)[0]

    whole = train("whole")
    interrupted(monkeypatch, 6)
    with pytest.raises(KeyboardInterrupt):
        train("cut")
    assert same(train("cut"), whole)
    assert not list(tmp_path.glob(".partial-*"))
