"""Probabilities of classes: shares of a sample, temperature, blends, losses, scores by class."""

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score

from mmclip import metrics
from mmclip.errors import UsageError
from mmclip.modalities.registry import modality
from mmclip.tasks import classify
from mmclip.tasks.classify import priors, trees
from mmclip.tasks.classify.baselines import Problem
from mmclip.tasks.classify.finetune import FinetuneConfig, class_loss


def two_gaussians(share, number, seed):
    """Classes at -1 and +1 with unit spread; posterior under equal shares is 1 / (1 + e^-2x)."""
    generator = np.random.default_rng(seed)
    truth = (generator.random(number) < share).astype(int)
    x = generator.normal(2 * truth - 1)
    p = 1 / (1 + np.exp(-2 * x))
    return np.stack([1 - p, p], axis=1), truth


@pytest.mark.parametrize("share", [0.05, 0.3, 0.8])
def test_the_shares_of_a_sample_are_found_without_its_classes(share):
    soft, truth = two_gaussians(share, 40_000, 1)
    equal = np.array([0.5, 0.5])
    assert priors.shares(soft, equal)[1] == pytest.approx(truth.mean(), abs=0.015)
    # Bayes' rule: the threshold moves, and no other answer is right as often.
    moved = priors.to_sample(soft, soft, equal)
    before = (soft.argmax(1) == truth).mean()
    best = max(((soft[:, 1] > t) == truth).mean() for t in np.linspace(0.02, 0.98, 97))
    assert (moved.argmax(1) == truth).mean() == pytest.approx(best, abs=0.003)
    assert (moved.argmax(1) == truth).mean() > before


def test_moving_to_the_same_shares_changes_nothing():
    soft, _ = two_gaussians(0.5, 50, 2)
    equal = np.array([0.5, 0.5])
    np.testing.assert_allclose(priors.moved(soft, equal, equal), soft, rtol=1e-12)


def test_the_temperature_undoes_a_scaling_of_the_logits():
    soft, truth = two_gaussians(0.5, 40_000, 3)
    assert priors.temperature(soft, truth) == pytest.approx(1.0, rel=0.07)
    sharp = priors.tempered(soft, 0.5)
    assert priors.temperature(sharp, truth) == pytest.approx(2.0, rel=0.07)
    np.testing.assert_allclose(priors.tempered(sharp, 2.0), soft, atol=1e-3)


def test_a_blend_leaves_out_what_does_not_help():
    soft, truth = two_gaussians(0.5, 2000, 4)
    noise = np.random.default_rng(5).dirichlet([1, 1], 2000)
    np.testing.assert_array_equal(priors.blended([soft, noise], [soft, noise], truth), soft)


def test_a_blend_averages_log_odds_of_two_independent_measurements():
    # Each measures the class at -1 and +1 with unit spread: log odds 2 x. Both together know more.
    generator = np.random.default_rng(7)
    truth = generator.integers(0, 2, 4000)
    odds = 2 * generator.normal(2 * truth - 1, size=(2, 4000))
    parts = [np.stack([1 - p, p], axis=1) for p in 1 / (1 + np.exp(-odds))]
    made = priors.blended(parts, parts, truth)
    np.testing.assert_allclose(np.log(made[:, 1] / made[:, 0]), odds.mean(axis=0), atol=0.2)
    right = [(q.argmax(axis=1) == truth).mean() for q in (*parts, made)]
    assert right[0] == pytest.approx(0.841, abs=0.02)  # the normal distribution function at 1
    assert right[2] == pytest.approx(0.921, abs=0.02)  # at the square root of 2


def test_losses_are_those_of_their_definitions():
    logits = torch.tensor([[2.0, 0.0], [0.0, 1.0], [0.5, 0.0]])
    truth = torch.tensor([0, 1, 0])
    p = torch.softmax(logits, 1)[torch.arange(3), truth]
    counts = torch.tensor([30, 10])
    plain = class_loss(FinetuneConfig(), counts)(logits, truth)
    assert plain.item() == pytest.approx(-p.log().mean().item())
    focal = class_loss(FinetuneConfig(loss="focal"), counts)(logits, truth)
    assert focal.item() == pytest.approx((-((1 - p) ** 2) * p.log()).mean().item(), rel=1e-5)
    weight = torch.tensor([40 / 60, 2.0, 40 / 60])  # 40 / (2 x 30), 40 / (2 x 10)
    balanced = class_loss(FinetuneConfig(loss="balanced"), counts)(logits, truth)
    assert balanced.item() == pytest.approx(-(weight * p.log()).mean().item(), rel=1e-5)
    with pytest.raises(UsageError, match="loss"):
        class_loss(FinetuneConfig(loss="hinge"), counts)


def test_macro_f1_and_scores_by_class_are_scikit_learns():
    generator = np.random.default_rng(6)
    truth, guess = generator.integers(0, 3, 200), generator.integers(0, 3, 200)
    counts = metrics.confusion(truth, guess, [0, 1, 2])
    assert metrics.macro_f1(counts) == pytest.approx(f1_score(truth, guess, average="macro"))
    answer = classify.Answer([], confusions={"forest 1": counts})
    each = list(classify.per_class(answer, ["a", "b", "c"]))
    assert [r["F1"] for r in each] == pytest.approx(f1_score(truth, guess, average=None).tolist())


@pytest.mark.parametrize("grow", [trees.boosting, trees.extra_trees])
def test_trees_take_missing_values_and_classes_that_were_not_seen(grow):
    generator = np.random.default_rng(7)
    labels = np.repeat([0, 2, 3], 60)  # of four classes
    x = (generator.normal(size=(180, 3)) + 4 * labels[:, None]).astype(np.float32)
    x[generator.random(x.shape) < 0.1] = np.nan
    rows = {"train": np.arange(0, 180, 2), "test": np.arange(1, 180, 2)}
    soft = grow(x[None], labels, 4, rows, 1)
    np.testing.assert_allclose(soft.sum(axis=1), 1)
    assert (soft[:, 1] == 0).all()
    assert (soft.argmax(1) == labels[rows["test"]]).mean() > 0.95


@pytest.mark.parametrize("grow", [trees.boosting, trees.extra_trees])
def test_trees_answer_with_the_mean_over_the_draws_of_a_star(grow):
    # Classes at -1 and +1, each draw with noise of 1.5 of its own: one is right in
    # Phi(1 / 1.5) = 0.75, the mean of nine in Phi(2) = 0.98.
    generator = np.random.default_rng(8)
    labels = np.tile([0, 1], 150)
    x = generator.normal(2.0 * labels - 1, 1.5, (9, 300))[..., None].astype(np.float32)
    rows = {"train": np.arange(150), "test": np.arange(150, 300)}
    right = (grow(x, labels, 2, rows, 1).argmax(1) == labels[rows["test"]]).mean()
    assert right > 0.9


def test_a_view_is_read_draw_by_draw():
    values = {"curve": np.arange(12.0, dtype=np.float32).reshape(2, 6)}
    asked = Problem(np.zeros(2, int), ["a"], values, {}, np.array(["train"] * 2), None,
                    {"curve": 2}, {"curve": (6,)})  # fmt: skip
    read = [asked.of_draw("curve", n).tolist() for n in range(3)]
    assert read == [[[0, 1], [6, 7]], [[2, 3], [8, 9]], [[4, 5], [10, 11]]]
    seen = trees.features(asked, ("curve",), learned=False)
    assert seen.shape == (3, 2, 2)


def test_boosting_is_compared_by_default_where_a_view_is_of_light_curves():
    class Data:
        def modality(self, view):
            return modality(view)

    assert "boosting" in classify.usual(Data(), ("metadata", "photometry_features"))
    assert "boosting" not in classify.usual(Data(), ("metadata", "xp"))
