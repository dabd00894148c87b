"""Decoders: the same questions to each, then what makes each one what it is."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy import stats
from torch.distributions import LowRankMultivariateNormal
from torch.nn.functional import normalize

from mmclip import plugins
from mmclip.decoders import Known, draw, flow, kernel_ridge, metadata, noise_length, schwarz
from mmclip.decoders.loss import inverse_variance, mean_square

NAMES = plugins.names("decoders")
SOLVED = [n for n in NAMES if plugins.load("decoders", n, "DECODER").solve]
STEPPED = [n for n in NAMES if n not in SOLVED]  # learned by gradients
SIZES = [(40,), (12, 3)]


def view_of(values, mask, flux=False):
    """A view of S/N 200, whose normalised values are its own."""
    length = values.shape[1]
    snr = torch.full((len(values),), 200.0)
    return Known(values, mask, snr, torch.zeros(length), torch.ones(length), flux)


def made(name, size, stars=60):
    """A decoder, fitted if it wants that, with vectors, values and mask it could be trained on."""
    torch.manual_seed(3)
    decoder = plugins.load("decoders", name, "DECODER")
    length = math.prod(size)
    vectors = normalize(torch.randn(stars, 16), dim=1)
    values = 4 * vectors @ torch.randn(16, length) + 0.3 * torch.randn(stars, length)
    mask = torch.rand(stars, length) > 0.2
    module = decoder.build(16, size)
    if decoder.fit is not None:
        decoder.fit(module, vectors, values, mask)
    if decoder.solve is not None:
        decoder.solve(module, vectors, view_of(values, mask))
    return decoder, module, vectors, values, mask


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_a_decoder_keeps_its_contract(name, size):
    decoder, module, vectors, values, mask = made(name, size)
    length = math.prod(size)
    loss = decoder.loss or mean_square
    assert decoder.name == name
    # Layers that begin at zero hide those below them from the first gradient: step once.
    for _ in range(0 if decoder.solve else 2):
        module.zero_grad()
        loss(module, vectors, values, mask).backward()
        with torch.no_grad():
            for p in module.parameters():
                p -= 1e-2 * p.grad
    dead = [n for n, p in module.named_parameters() if p.grad is None or not p.grad.any()]
    assert dead == []
    module.eval()
    with torch.no_grad():
        mean, log_variance = module(vectors)
        assert mean.shape == log_variance.shape == (60, length)
        assert torch.isfinite(mean).all()
        assert torch.isfinite(log_variance).all()
        alone = module(vectors[7:8])
        torch.testing.assert_close(alone[0], mean[7:8], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(alone[1], log_variance[7:8], rtol=1e-4, atol=1e-4)
        noise = torch.randn(60, noise_length(decoder, module, length))
        one = draw(decoder, module, vectors, noise)
        assert one.shape == (60, length)
        assert torch.equal(one, draw(decoder, module, vectors, noise))
        part = draw(decoder, module, vectors[5:9], noise[5:9])
        torch.testing.assert_close(part, one[5:9], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", STEPPED)
def test_a_value_that_was_not_observed_does_not_change_the_loss(name):
    decoder, module, vectors, values, mask = made(name, (40,))
    loss = decoder.loss or mean_square
    module.eval()
    other = torch.where(mask, values, torch.full_like(values, 1e4))
    torch.manual_seed(0)
    first = loss(module, vectors, values, mask)
    torch.manual_seed(0)
    torch.testing.assert_close(first, loss(module, vectors, other, mask))


@pytest.mark.parametrize("name", [n for n in NAMES if n not in ("schwarz", "mlp")])
def test_draws_have_the_mean_and_the_spread_that_are_stated(name):
    decoder, module, vectors, _, _ = made(name, (40,))
    module.eval()
    with torch.no_grad():
        mean, log_variance = (x[:1] for x in module(vectors))
        many = vectors[:1].expand(8000, -1)
        drawn = draw(decoder, module, many, torch.randn(8000, noise_length(decoder, module, 40)))
    sigma = torch.exp(0.5 * log_variance[0])
    # t with 4 degrees of freedom has no fourth moment: its spread is known less well.
    loose = 0.15 if name == "flow" else 0.03
    assert ((drawn.mean(0) - mean[0]).abs() / sigma).max() < 0.05
    assert (drawn.std(0) / sigma - 1).abs().max() < loose


@pytest.mark.parametrize("name", STEPPED)
def test_a_decoder_learns_a_linear_view(name):
    decoder, module, vectors, values, mask = made(name, (40,), 300)
    loss = decoder.loss or mean_square
    optimiser = torch.optim.Adam(module.parameters(), 3e-3)
    before = ((values - values.mean(0)) ** 2)[mask].mean()
    for _ in range(120):
        optimiser.zero_grad()
        loss(module, vectors, values, mask).backward()
        optimiser.step()
    module.eval()
    with torch.no_grad():
        after = ((module(vectors)[0] - values) ** 2)[mask].mean()
    # A light curve is smooth in its phase by construction, this view is not; a likelihood learns
    # the mean later than a square does.
    assert after < {"lightcurve": 0.9, "metadata": 0.6}.get(name, 0.2) * before


def ordinary_kernel_ridge(x, y, asked, length, ridge):
    """(alpha of Rasmussen & Williams 2.25) and equation 5.12's answer without each star."""

    def kernel(a, b):
        r = np.sqrt(3) * np.linalg.norm(a[:, None] - b[None], axis=2) / length
        return (1 + r) * np.exp(-r)

    inverse = np.linalg.inv(kernel(x, x) + np.diag(ridge))
    alone = y - (inverse @ y) / np.diag(inverse)[:, None]
    return kernel(asked, x) @ inverse @ y, alone


def test_kernel_ridge_is_the_textbook_formula_and_so_is_each_star_without_itself():
    rng = np.random.default_rng(5)
    x, asked = (rng.normal(size=(n, 3)).astype("f4") for n in (80, 9))
    y = np.stack([np.sin(x[:, 0]), x[:, 1] ** 2, x[:, 2]], axis=1).astype("f4")
    module = kernel_ridge.KernelRidge(3, (3,))
    view = view_of(torch.tensor(y), torch.ones(80, 3, dtype=torch.bool))
    view.snr[::2] = 60.0  # half of FAINT: a quarter of the weight
    alone = kernel_ridge.solve(module, torch.tensor(x), view)
    ridge = kernel_ridge.RIDGE * np.where(np.arange(80) % 2, 1.0, 4.0)
    mean = y.mean(axis=0)
    expected = ordinary_kernel_ridge(x, y - mean, asked, float(module.length), ridge)
    np.testing.assert_allclose(module(torch.tensor(asked))[0], mean + expected[0], atol=3e-3)
    np.testing.assert_allclose(alone, mean + expected[1], atol=3e-3)


def test_kernel_ridge_on_fewer_centres_hardly_differs(monkeypatch):
    rng = np.random.default_rng(6)
    x = torch.tensor(rng.uniform(-1, 1, (300, 2)).astype("f4"))
    y = torch.stack([torch.sin(3 * x[:, 0]), x[:, 0] * x[:, 1]], dim=1)
    found = []
    for centres in (300, 100):
        monkeypatch.setattr(kernel_ridge, "CENTRES", centres)
        module = kernel_ridge.KernelRidge(2, (2,))
        kernel_ridge.solve(module, x, view_of(y, torch.ones(300, 2, dtype=torch.bool)))
        found.append(module(x[:50])[0])
    assert (found[0] - found[1]).abs().mean() < 0.01


def test_kernel_ridge_states_a_larger_sigma_where_the_scatter_is_larger():
    rng = np.random.default_rng(7)
    x = torch.tensor(rng.uniform(-1, 1, (600, 1)).astype("f4"))
    scatter = torch.where(x > 0, 0.5, 0.1)
    y = x.expand(-1, 6) + scatter * torch.tensor(rng.normal(size=(600, 6)).astype("f4"))
    module = kernel_ridge.KernelRidge(1, (6,))
    kernel_ridge.solve(module, x, view_of(y, torch.ones(600, 6, dtype=torch.bool)))
    sigma = torch.exp(0.5 * module(torch.tensor([[-0.5], [0.5]]))[1]).mean(dim=1)
    assert sigma[1] / sigma[0] == pytest.approx(5, rel=0.3)
    assert sigma[1] == pytest.approx(0.5, rel=0.25)


def test_the_activation_is_equation_2_of_schwarz_and_buck():
    layer = schwarz.Activation(3)
    with torch.no_grad():
        layer.gamma.copy_(torch.tensor([1.0, 0.0, 0.25]))
        layer.beta.copy_(torch.tensor([5.0, 0.0, 2.0]))
    x = torch.tensor([[1.5, 1.5, -0.7]])
    sigmoid = 1 / (1 + math.exp(1.4))
    expected = [1.5, 0.75, (0.25 + 0.75 * sigmoid) * -0.7]
    torch.testing.assert_close(layer(x), torch.tensor([expected]))


def test_the_rvs_decoder_has_the_published_widths():
    module = schwarz.Schwarz(32, (2401,))
    widths = [32, 64, 256, 1024, 2401]
    layers = sum(a * b + 3 * b for a, b in pairwise(widths))
    assert sum(p.numel() for p in module.parameters()) == layers


def test_inverse_variance_is_half_the_reduced_chi_square_of_known_pixels():
    mean, values = torch.zeros(2, 3), torch.tensor([[1.0, 2.0, 9.0], [3.0, 9.0, 9.0]])
    error = torch.tensor([[0.5, 2.0, 0.0], [1.0, float("nan"), 1.0]])
    mask = torch.tensor([[True, True, True], [True, True, False]])
    expected = 0.5 * (4 + 1 + 9) / 3
    assert inverse_variance(mean, values, mask, error).item() == pytest.approx(expected)
    floored = inverse_variance(mean, values, mask, error, floor=1e3).item()
    assert floored < 1e-4


def test_missing_quantities_are_marginalised_exactly():
    _, module, vectors, values, mask = made("metadata", (6,), 9)
    mean, d, factor = module.parts(vectors)
    residual = torch.where(mask, values - mean, 0.0)
    loss = metadata.likelihood(residual, d, factor, mask).item()
    total = 0.0
    for i in range(9):
        seen = mask[i]
        it = LowRankMultivariateNormal(mean[i, seen], factor[i, seen], d[i, seen])
        total -= it.log_prob(values[i, seen]).item() + 0.5 * int(seen.sum()) * math.log(2 * math.pi)
    assert loss == pytest.approx(total / int(mask.sum()), rel=1e-4)


def test_a_folded_light_curve_closes_on_itself():
    _, module, vectors, _, _ = made("lightcurve", (64,))
    phase, time = torch.tensor([0.0, 1.0, 0.3, 7.3]), torch.full((4,), 0.5)
    mean, _ = module.at(vectors, phase, time)
    torch.testing.assert_close(mean[:, 0], mean[:, 1], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(mean[:, 2], mean[:, 3], rtol=1e-4, atol=1e-4)
    later, _ = module.at(vectors, phase, torch.ones(4))
    assert not torch.allclose(later, mean)


@pytest.mark.parametrize("x", [-9.0, -1.3, -1e-3, 0.0, 0.4, 2.1])
def test_the_t_transform_is_that_of_scipy(x):
    normal = flow.to_normal(torch.tensor([x], dtype=torch.float64)).item()
    assert normal == pytest.approx(stats.norm.ppf(stats.t.cdf(x, 4)), abs=1e-9)
    again = flow.from_normal(torch.tensor([normal], dtype=torch.float64)).item()
    assert again == pytest.approx(x, rel=1e-6, abs=1e-7)


def test_a_flow_without_correction_carries_every_number_to_itself():
    module = flow.Flow(16, (40,))
    x = torch.randn(50, module.kept)
    condition, start, step = torch.randn(50, 16 + 2 * module.kept), x.clone(), 1.0 / 64
    for i in range(64):
        time = torch.full((50, 1), i * step)
        first = module.velocity(x, time, condition)
        x = x + 0.5 * step * (first + module.velocity(x + step * first, time + step, condition))
    torch.testing.assert_close(x, start, rtol=1e-3, atol=1e-3)


def test_components_of_the_flow_are_those_of_numpy():
    rng = np.random.default_rng(1)
    values = (rng.normal(size=(300, 3)) * [5, 3, 1]) @ rng.normal(size=(3, 50))
    values = (values + 0.01 * rng.normal(size=values.shape)).astype("f4")
    module, x = flow.Flow(8, (50,)), torch.from_numpy(values)
    flow.fit(module, torch.randn(300, 8), x, torch.ones_like(x, dtype=torch.bool))
    _, _, basis = np.linalg.svd(values - values.mean(0), full_matrices=False)
    cosine = np.abs((basis[:3] * module.components[:3].numpy()).sum(1))
    np.testing.assert_allclose(cosine, 1.0, atol=1e-4)


def test_gaps_do_not_move_the_coefficients_of_a_noiseless_spectrum():
    rng = np.random.default_rng(2)
    values = torch.from_numpy((rng.normal(size=(200, 3)) @ rng.normal(size=(3, 60))).astype("f4"))
    module, whole = flow.Flow(8, (60,)), torch.ones(200, 60, dtype=torch.bool)
    flow.fit(module, torch.randn(200, 8), values, whole)
    gaps = torch.rand(200, 60) > 0.3
    full, gappy = module.coefficients(values, whole), module.coefficients(values, gaps)
    torch.testing.assert_close(full, gappy, rtol=1e-2, atol=1e-2)


def test_a_star_does_not_remember_itself():
    torch.manual_seed(0)
    vectors, values = normalize(torch.randn(50, 8), dim=1), torch.randn(50, 20)
    module = flow.Flow(8, (20,))
    flow.fit(module, vectors, values, torch.ones(50, 20, dtype=torch.bool))
    with torch.no_grad():
        module.log_cosine_scale.fill_(math.log(1e3))  # the nearest alone counts
        near = module.remembered(vectors)
        cosine = vectors @ vectors.T
        cosine.fill_diagonal_(-1)
        other = module.memory[cosine.argmax(dim=1)]
        assert torch.median((near - other).abs()) < 1e-3
        moved = module.remembered(normalize(vectors + 0.05 * torch.randn(50, 8), dim=1),
                                  own=module.memory[:50])  # fmt: skip
        assert not torch.isclose(moved, module.memory[:50], atol=1e-3).all(dim=1).any()


@pytest.mark.slow
def test_the_flow_learns_a_distribution_of_two_peaks():
    """Half of the stars of every vector lie at +1, half at -1: a Gaussian cannot say that."""
    torch.manual_seed(0)
    stars = 600
    vectors = normalize(torch.randn(stars, 8), dim=1)
    side = torch.where(torch.rand(stars, 1) < 0.5, 1.0, -1.0)
    values = side * torch.ones(1, 6) + 0.05 * torch.randn(stars, 6)
    mask = torch.ones_like(values, dtype=torch.bool)
    module = flow.Flow(8, (6,))
    flow.fit(module, vectors, values, mask)
    optimiser = torch.optim.Adam(module.parameters(), 2e-3)
    for _ in range(400):
        rows = torch.randint(stars, (256,))
        optimiser.zero_grad()
        flow.loss(module, vectors[rows], values[rows], mask[rows]).backward()
        optimiser.step()
    module.eval()
    with torch.no_grad():
        drawn = flow.sample(module, vectors, torch.randn(stars, flow.noise(module)))
    place = drawn.mean(dim=1)
    # Of a Gaussian of the same variance 39 % would lie there.
    assert ((place.abs() > 0.6) & (place.abs() < 1.4)).float().mean() > 0.6
    assert 0.4 < (place > 0).float().mean() < 0.6
