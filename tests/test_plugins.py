"""Conformance: the same questions to every plug-in found."""

import math

import numpy as np
import pytest
import torch

from mmclip import plugins
from mmclip.encoders import EncoderConfig
from mmclip.errors import NotFound
from mmclip.modalities import normalise, restore, statistics


def modality(name):
    return plugins.load("modalities", name, "MODALITY")


def columns_of(name, rows, seed=0):
    rng = np.random.default_rng(seed)
    made = {}
    for column in modality(name).columns:
        shape = (rows,) if column.length == 1 else (rows, column.length)
        made[column.name] = rng.uniform(5, 15, shape)
    return made


@pytest.mark.parametrize("name", plugins.names("modalities"))
def test_a_modality_keeps_its_contract(name):
    it = modality(name)
    assert it.name == name
    made = it.prepare(columns_of(name, 6))
    assert made.values.shape == (6, len(it.labels())) == (6, math.prod(it.size))
    assert made.values.dtype == np.float32
    assert made.reasons.tolist() == [""] * 6
    assert it.axis is None or len(it.axis()) == len(it.labels())
    assert it.encoder in plugins.names("encoders")
    assert all(c.meaning for c in it.columns)


@pytest.mark.parametrize("name", plugins.names("modalities"))
def test_a_row_of_nan_is_rejected_and_named_not_invented(name):
    columns = {k: v.copy() for k, v in columns_of(name, 4).items()}
    for values in columns.values():
        values[2] = np.nan
    made = modality(name).prepare(columns)
    assert made.reasons[2] != ""
    assert [r == "" for r in made.reasons] == [True, True, False, True]


@pytest.mark.parametrize("name", plugins.names("modalities"))
def test_rows_do_not_depend_on_each_other(name):
    columns = columns_of(name, 5)
    order = np.array([3, 1, 4, 0, 2])
    shuffled = modality(name).prepare({k: v[order] for k, v in columns.items()})
    np.testing.assert_array_equal(shuffled.values, modality(name).prepare(columns).values[order])


@pytest.mark.parametrize("name", plugins.names("encoders"))
@pytest.mark.parametrize("length", [10, 311, 2401])
def test_an_encoder_keeps_its_contract(name, length):
    torch.manual_seed(1)
    net = plugins.load("encoders", name, "ENCODER").build((length,), EncoderConfig(width=32))
    values, mask = torch.randn(5, length), torch.rand(5, length) > 0.2
    out = net.train()(values, mask)
    assert out.shape == (5, 32)
    out.square().sum().backward()
    dead = [n for n, p in net.named_parameters() if p.grad is None or not p.grad.any()]
    assert dead == []
    net.eval()
    with torch.no_grad():
        whole = net(values, mask)
        torch.testing.assert_close(whole[2:3], net(values[2:3], mask[2:3]), rtol=1e-4, atol=1e-5)
        hidden = torch.where(mask, values, torch.full_like(values, 1e6))
        torch.testing.assert_close(whole, net(hidden, mask))
        assert torch.equal(whole, net(values, mask))


@pytest.mark.parametrize("name", plugins.names("surveys"))
def test_a_survey_says_what_it_is(name):
    it = plugins.load("surveys", name, "SURVEY")
    assert it.name == name
    assert it.title
    assert it.release
    assert it.citations


@pytest.mark.parametrize("method", ["z", "mad"])
def test_restore_undoes_normalise(method):
    values = np.random.default_rng(0).normal(5, 3, (50, 7))
    by = statistics(values, method)
    np.testing.assert_allclose(restore(normalise(values, by), by), values, rtol=1e-5, atol=1e-5)


def test_z_statistics_are_those_of_numpy_and_mad_those_of_scipy():
    from scipy.stats import median_abs_deviation

    values = np.random.default_rng(0).normal(5, 3, (51, 4))
    by = statistics(values, "z")
    np.testing.assert_allclose(by.centre, values.mean(0))
    np.testing.assert_allclose(by.scale, values.std(0))
    by = statistics(values, "mad")
    np.testing.assert_allclose(by.scale, 1.4826 * median_abs_deviation(values, axis=0))


def test_a_constant_column_does_not_divide_by_zero():
    by = statistics(np.full((9, 2), 3.0))
    np.testing.assert_array_equal(normalise(np.full((1, 2), 3.0), by), 0)


def test_an_unknown_plugin_names_the_nearest():
    with pytest.raises(NotFound, match="did you mean 'metadata'"):
        plugins.load("modalities", "metadat", "MODALITY")


def test_a_dotted_name_is_imported_as_it_stands(tmp_path, monkeypatch):
    (tmp_path / "mylab").mkdir()
    (tmp_path / "mylab" / "echelle.py").write_text("MODALITY = 'mine'\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert plugins.load("modalities", "mylab.echelle", "MODALITY") == "mine"
    with pytest.raises(NotFound, match="cannot be imported"):
        plugins.load("modalities", "nolab.echelle", "MODALITY")
