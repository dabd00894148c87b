"""Fine-tuning as published: each run has its own rate, dropouts, decay; nothing hidden beside."""

import math

import numpy as np
import pytest
import torch

from mmclip import papers
from mmclip.clip.model import ClipModel
from mmclip.clip.settings import TrainConfig, sizes_shape
from mmclip.config import resolve
from mmclip.encoders.layers import Dropout
from mmclip.errors import UsageError
from mmclip.tasks import evaluate
from mmclip.tasks.classify.finetune import FinetuneConfig, finetune, start_from

ABOUT = papers.figures()["astrom3"]
VIEWS = ("photometry", "spectra", "metadata_astrom3")
SIZES = {"photometry": (20, 9), "spectra": (3, 200), "metadata_astrom3": (34,)}


def small_shape():
    """AstroM3's networks on short views, a third as deep."""
    given = papers.settings("astrom3", "train")
    given["views"]["photometry"] |= {"layers": 1, "features": 16, "heads": 2, "hidden": 16}
    return sizes_shape(SIZES, resolve(TrainConfig, "train", None, {}, given))


def run_of(kinds, fraction, start):
    return next(
        dict(r.settings)
        for r in ABOUT.finetuning
        if ([v[0] for v in r.views], r.fraction, r.start) == (list(kinds), fraction, start)
    )


@pytest.mark.parametrize(
    ("kinds", "fraction", "start", "rate", "dropout", "clip"),
    [
        # Read again from the configuration files of the public code.
        (("photometry", "spectra", "metadata_astrom3"), 1.0, "clip", 9.504e-3,
         (0.2330, 0.1768, 0.1177), 0.0),
        (("photometry",), 0.1, "scratch", 1.293e-4, (0.0923,), 5.0),
        (("spectra",), 0.5, "clip", 2.511e-3, (0.3972,), 5.0),
        (("metadata_astrom3",), 0.25, "clip", 4.520e-3, (0.2576,), 0.0),
    ],
)  # fmt: skip
def test_each_run_has_the_published_settings(kinds, fraction, start, rate, dropout, clip):
    made = evaluate.as_published(run_of(kinds, fraction, start))
    assert (made.learning_rate, made.dropout, made.clip_gradient) == (rate, dropout, clip)
    assert (made.epochs, made.batch, made.warm_up, made.patience) == (50, 512, 10, 6)
    assert (made.least_steps, made.scaled, made.waited_first) == (0, False, 1)


def test_there_is_a_run_for_every_accuracy_of_tables_2_and_4():
    runs = {(r.views, r.fraction, r.start) for r in ABOUT.finetuning}
    assert runs == {(a.views, a.fraction, a.start) for a in ABOUT.accuracies}
    assert len(runs) == 32


def test_a_classifier_takes_the_dropouts_of_its_run_and_the_weights_of_the_model():
    shape = small_shape()
    torch.manual_seed(0)
    model = ClipModel(shape)
    config = FinetuneConfig(dropout=(0.2, 0.1, 0.3), scaled=False)
    made = start_from(model, shape, VIEWS, 4, 1, config)
    for view, p in zip(VIEWS, config.dropout, strict=True):
        rates = {m.p for m in made.model.encoders[view].modules() if isinstance(m, Dropout)}
        # The embedded steps of a light curve keep a dropout of 0.1 that was not tuned.
        assert rates == ({p, 0.1} if view == "photometry" else {p})
        for a, b in zip(made.model.encoders[view].parameters(), model.encoders[view].parameters()):
            assert torch.equal(a, b)
    batch = {
        v: (torch.randn(3, math.prod(s)), torch.ones(3, math.prod(s), dtype=torch.bool))
        for v, s in SIZES.items()
    }
    made.eval()
    with torch.no_grad():
        mean = torch.stack([made.model.embed(v, *batch[v]) for v in VIEWS]).mean(0)
        torch.testing.assert_close(made(batch), made.head(mean))
    with pytest.raises(UsageError, match="2 dropouts for 3 views"):
        start_from(model, shape, VIEWS, 4, 1, FinetuneConfig(dropout=(0.1, 0.2)))


def test_the_first_epoch_has_a_hundred_thousandth_of_the_rate_and_the_eleventh_all(monkeypatch):
    shape = small_shape()
    rng = np.random.default_rng(0)
    values = {"metadata_astrom3": rng.normal(size=(60, 34)).astype("f4")}
    labels = rng.integers(0, 3, 60)
    rows = {"train": np.arange(40), "validation": np.arange(40, 60)}
    settings = run_of(("metadata_astrom3",), 0.1, "scratch")
    seen = []

    class Watched(torch.optim.Adam):
        def step(self, *args, **kwargs):
            seen.append((self.param_groups[0]["lr"], self.param_groups[0]["betas"][0]))
            return super().step(*args, **kwargs)

    monkeypatch.setattr(torch.optim, "Adam", Watched)
    config = evaluate.as_published(settings | {"epochs": 12, "patience": 0, "device": "cpu"})
    finetune(
        start_from(None, shape, ("metadata_astrom3",), 3, 0, config), values, labels, rows, config
    )
    rates = [rate for rate, _ in seen]
    assert len(rates) == 12  # one batch an epoch, and no more of them for a small set
    assert rates[0] == pytest.approx(1e-5 * 9.586e-3)
    assert rates[5] == pytest.approx((1e-5 + (1 - 1e-5) * 5 / 10) * 9.586e-3)
    assert rates[10] == pytest.approx(9.586e-3)
    assert {beta for _, beta in seen} == {0.9604}
