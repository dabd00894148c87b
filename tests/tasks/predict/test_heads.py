"""Heads: against scikit-learn and mathematics; the same question to each of them."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import Matern
from sklearn.neighbors import KNeighborsRegressor

from mmclip.errors import MissingExtra
from mmclip.tasks.classify import trees
from mmclip.tasks.predict import fit_heads, heads, open_heads, out_of_fold
from mmclip.tasks.predict.heads import Sample, boosting, kernel_ridge, knn, mlp_ensemble


def line(count=300, seed=0):
    """A sample of two targets that are straight lines, the second known of two thirds."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, 4)).astype(np.float32)
    y = np.stack([x[:, 0] - 0.5 * x[:, 1], x[:, 2]], axis=1)
    y = (y - y.mean(axis=0)) / y.std(axis=0)
    y[rng.random(count) < 1 / 3, 1] = np.nan
    return Sample(x, y, np.ones(count), np.ones(4))


@pytest.mark.parametrize("name", heads.names())
def test_every_head_finds_a_straight_line_and_is_numbers_alone(name):
    sample = line()
    held, asked = sample.of(np.arange(200)), sample.of(np.arange(200, 300))
    states = fit_heads(heads.head(name), held, seed=1)
    stored = {n: {k: np.array(v) for k, v in s.items()} for n, s in states.items()}
    assert all(v.dtype != object for s in stored.values() for v in s.values())
    made = open_heads(stored)(asked.x)
    for j in range(2):
        known = np.isfinite(asked.y[:, j])
        left = ((made[known, j] - asked.y[known, j]) ** 2).mean()
        assert left < 0.35 * asked.y[known, j].var(), (name, j)


@pytest.mark.parametrize("name", heads.names())
def test_the_same_seed_gives_the_same_answer(name, monkeypatch):
    monkeypatch.setattr(mlp_ensemble, "SHORTEST", 20)
    monkeypatch.setattr(mlp_ensemble, "EPOCHS", 20)
    monkeypatch.setattr(boosting, "TREES", 20)
    sample = line(80)
    made = [open_heads(fit_heads(heads.head(name), sample, 3))(sample.x[:9]) for _ in range(2)]
    np.testing.assert_array_equal(*made)


def test_kernel_ridge_is_the_gaussian_process_of_scikit_learn():
    sample = line(120)
    like = {"length": np.array([1.7, 1.7]), "ridge": np.array([0.05, 0.05])}
    state = kernel_ridge.fit(sample, 0, like)
    asked = line(40, seed=5).x
    for j in range(2):
        known = np.isfinite(sample.y[:, j])
        process = GaussianProcessRegressor(Matern(1.7, nu=1.5), alpha=0.05, optimizer=None)
        process.fit(sample.x[known].astype(float), sample.y[known, j])
        expected = process.predict(asked.astype(float))
        np.testing.assert_allclose(kernel_ridge.load(state)(asked)[:, j], expected, atol=2e-4)


def test_leave_one_out_residuals_are_those_of_leaving_one_out():
    sample = line(30)
    apart = kernel_ridge.distances(sample.x, sample.x)
    matrix, y = kernel_ridge.kernel(apart, 2.0).astype(float), sample.y[:, :1]
    found = kernel_ridge.leave_one_out(matrix, np.full(30, 0.1), y)
    for i in range(30):
        rest = np.arange(30) != i
        alpha = np.linalg.solve(matrix[np.ix_(rest, rest)] + 0.1 * np.eye(29), y[rest])
        np.testing.assert_allclose(found[i], y[i] - matrix[i, rest] @ alpha, atol=1e-6)


def test_neighbours_of_each_target_are_those_that_have_it():
    sample = line(150)
    asked = line(20, seed=9).x
    made = knn.load(knn.fit(sample, 0, None))(asked)
    for j in range(2):
        known = np.isfinite(sample.y[:, j])
        model = KNeighborsRegressor(13).fit(sample.x[known], sample.y[known, j])
        np.testing.assert_allclose(made[:, j], model.predict(asked), atol=1e-6)


def test_the_formula_leaves_a_star_out_with_all_its_rows():
    sample = replace(line(90), star=np.r_[0, 0, 2:90])  # the first two rows are one star
    state = kernel_ridge.fit(sample, 0, None)
    found = kernel_ridge.left_out(sample, state)
    for row in (0, 1, 50):
        rest = sample.of(np.flatnonzero(sample.star != sample.star[row]))
        without = kernel_ridge.load(kernel_ridge.fit(rest, 0, state))(sample.x[row : row + 1])[0]
        known = np.isfinite(sample.y[row])
        np.testing.assert_allclose(found[row, known], without[known], atol=2e-4)


def test_boosting_learns_all_classes_of_a_label_as_one():
    """Two overlapping normal densities of equal share: P(b | x) = 1 / (1 + exp(-2 x))."""
    rng = np.random.default_rng(4)
    kind = rng.random(1500) < 0.5
    x = (rng.normal(size=1500) + np.where(kind, 1, -1)).astype(np.float32)[:, None]
    y = np.stack([x[:, 0], ~kind, kind], axis=1).astype(float)
    sample = Sample(x, y, np.ones(1500), np.ones(1), classes=((1, 3),))
    asked = np.linspace(-1, 1, 9, dtype=np.float32)[:, None]
    made = open_heads(fit_heads(heads.head("boosting"), sample, 1))(asked)
    np.testing.assert_allclose(made[:, 0], asked[:, 0], atol=0.1)
    chance = np.exp(made[:, 1:])
    np.testing.assert_allclose(chance.sum(axis=1), 1, atol=1e-6)
    assert np.abs(chance[:, 1] - 1 / (1 + np.exp(-2 * asked[:, 0]))).mean() < 0.12


def test_a_head_that_lightgbm_grew_says_so_where_it_is_not_installed(monkeypatch):
    sample = line(60)
    state = boosting.fit(sample, 0, None) | {"classes": np.array([[0, 2]])}
    state["model 0"] = np.frombuffer(b"tree", np.uint8)
    monkeypatch.setattr(trees, "lightgbm", lambda: None)
    with pytest.raises(MissingExtra, match="grown by LightGBM"):
        boosting.load(state)


def test_boosting_learns_from_the_draws_of_a_star_and_answers_with_their_mean():
    """Classes at -1 and +1, each draw with noise of 1.5 of its own: one is right in
    Phi(1 / 1.5) = 0.75, the mean of nine in Phi(2) = 0.98. The whole curve says nothing here.
    """
    rng = np.random.default_rng(8)
    kind = np.tile([0, 1], 150)
    every = rng.normal(2.0 * kind - 1, 1.5, (9, 300))[..., None].astype(np.float32)
    every[0] = 0
    sample = Sample(every[0], np.eye(2)[kind], np.ones(300), np.ones(1), classes=((0, 2),),
                    draws=every[1:])  # fmt: skip
    learned, asked = sample.of(np.arange(150)), sample.of(np.arange(150, 300))
    made = open_heads(fit_heads(heads.head("boosting"), learned, 1))(asked.every)
    assert (made.argmax(axis=1) == kind[150:]).mean() > 0.9
    alone = open_heads(fit_heads(heads.head("ridge"), learned, 1))  # reads the whole curve
    np.testing.assert_array_equal(alone(asked.every), alone(asked.x))


def test_the_draws_of_a_star_stay_in_its_fold(monkeypatch):
    """Labels of pure noise: a head that had seen another draw of a star would know its label."""
    monkeypatch.setattr(trees, "ROUNDS", 20)
    rng = np.random.default_rng(9)
    kind = rng.integers(0, 2, 300)
    x = rng.normal(size=(300, 2)).astype(np.float32)
    sample = Sample(x, np.eye(2)[kind], np.ones(300), np.ones(2), classes=((0, 2),),
                    draws=np.stack([x, x]))  # fmt: skip
    head = heads.head("boosting")
    states = fit_heads(head, sample, 1)
    seen = (open_heads(states)(sample.every).argmax(axis=1) == kind).mean()
    held_out = (out_of_fold(head, sample, states, 1).argmax(axis=1) == kind).mean()
    assert seen > 0.75
    assert abs(held_out - 0.5) < 4 * 0.5 / np.sqrt(300)
