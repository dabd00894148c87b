"""The components of `pca-mlp` are scikit-learn's, half white; a vector gives them again."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from mmclip import plugins
from mmclip.clip.model import ClipModel, Shape
from mmclip.clip.objective import Objective, alignment_loss
from mmclip.encoders import EncoderConfig
from mmclip.encoders.tensors import fit_encoder

PLUGIN = plugins.load("encoders", "pca-mlp", "ENCODER")
CONFIG = EncoderConfig(16, 1, 0.0, {"components": 5})


@pytest.fixture(scope="module")
def spectra():
    draw = np.random.default_rng(3)
    return (draw.normal(size=(200, 9)) @ draw.normal(size=(9, 9)) + 2).astype(np.float32)


def fitted(spectra):
    net = PLUGIN.build((9,), CONFIG)
    fit_encoder(net, PLUGIN, (9,), spectra, np.arange(len(spectra)))
    return net.eval()


def test_components_are_those_of_scikit_learn_divided_by_the_root_of_their_deviation(spectra):
    theirs = PCA(5).fit(spectra.astype(np.float64))
    deviation = np.sqrt((theirs.transform(spectra) ** 2).mean(axis=0))
    wanted = theirs.transform(spectra) / np.sqrt(deviation) / np.sqrt(deviation.mean())
    values = torch.from_numpy(spectra)
    found = fitted(spectra).summary(values, torch.ones_like(values, dtype=torch.bool)).numpy()
    sign = np.sign((found * wanted).sum(axis=0))
    np.testing.assert_allclose(found * sign, wanted, atol=2e-4)
    assert (found**2).mean() == pytest.approx(1, abs=1e-3)


def test_fewer_spectra_than_components_leave_the_others_at_zero(spectra):
    net = fitted(spectra[:3])
    values = torch.from_numpy(spectra[:3])
    made = net.summary(values, torch.ones_like(values, dtype=torch.bool))
    assert torch.count_nonzero(net.axes.abs().sum(0)) == 2
    assert torch.isfinite(net(values, torch.ones_like(values, dtype=torch.bool))).all()
    assert made[:, 2:].abs().max() == 0


def test_a_vector_has_to_give_the_components_again_and_not_the_pixels(spectra):
    shape = Shape({"a": (9,), "b": (4,)}, {"a": "pca-mlp", "b": "mlp"}, 8,
                  EncoderConfig(16, 1, 0.0), 10.0, {"a": CONFIG})  # fmt: skip
    torch.manual_seed(0)
    model = ClipModel(shape).eval()
    fit_encoder(model.encoders["a"], PLUGIN, (9,), spectra, np.arange(len(spectra)))
    values, mask = torch.from_numpy(spectra[:6]), torch.ones(6, 9, dtype=torch.bool)
    batch = {"a": (values, mask), "b": (torch.randn(6, 4), torch.ones(6, 4, dtype=torch.bool))}
    vectors = {n: model.embed(n, *v) for n, v in batch.items()}
    _, parts = alignment_loss(model, vectors, batch, Objective(reconstruction=1.0))
    goal = model.encoders["a"].summary(values, mask)
    guess = model.reconstructors["a"](vectors["a"] * 8**0.5)
    assert parts["reconstruction a"].item() == pytest.approx(((goal - guess) ** 2).mean().item())
