"""Conformance: the same questions to every plug-in found."""

import json
import math

import numpy as np
import pytest

from mmclip import plugins
from mmclip.arrays import Lists
from mmclip.errors import NotFound, UsageError
from mmclip.modalities import meant, normalise, restore, statistics
from mmclip.modalities.settings import configured, plain


def modality(name):
    return plugins.load("modalities", name, "MODALITY")


def columns_of(name, rows, seed=0, lengths=None):
    """Made raw columns; lists of one row have one length, and some entries repeat no other's."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(200, 400, rows) if lengths is None else lengths
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(int)
    made = {}
    for column in modality(name).columns:
        if column.length == 0:
            # A list covers 3000-10000, so that any grid of Angstrom is inside.
            values = rng.uniform(5, 15, offsets[-1])
            if column.name in ("wavelength", "time"):
                values = np.concatenate([[], *(np.linspace(3000, 1e4, n) for n in lengths)])
            if column.name == "band":
                values = rng.choice(["g", "r"], offsets[-1])
            made[column.name] = Lists(values, offsets)
        else:
            shape = (rows,) if column.length == 1 else (rows, column.length)
            made[column.name] = rng.uniform(5, 15, shape)
    return made


def take(columns, rows):
    return {k: v.take(rows) if isinstance(v, Lists) else v[rows] for k, v in columns.items()}


def with_nan_row(columns, row):
    """Row `row` all NaN."""
    made = {}
    for name, values in columns.items():
        if isinstance(values, Lists):
            flat = values.values.copy()
            if flat.dtype.kind == "f":
                flat[values.offsets[row] : values.offsets[row + 1]] = np.nan
            made[name] = Lists(flat, values.offsets)
        else:
            made[name] = values.copy()
            made[name][row] = np.nan
    return made


@pytest.mark.parametrize("name", plugins.names("modalities"))
def test_a_modality_keeps_its_contract(name):
    it = modality(name)
    assert it.name == name
    made = it.prepare(columns_of(name, 6))
    assert made.values.shape == (6, len(it.labels())) == (6, math.prod(it.size))
    assert made.values.dtype == np.float32
    assert made.errors is None or made.errors.shape == made.values.shape
    assert made.errors is None or made.errors.dtype == np.float32
    assert not np.isinf(made.values).any()
    assert made.reasons.tolist() == [""] * 6
    assert it.axis is None or len(it.axis()) == len(it.labels())
    assert it.encoder in plugins.names("encoders")
    assert all(c.meaning for c in it.columns)
    if it.anchors is not None:
        anchors = it.anchors()
        assert anchors.shape == (len(it.labels()),)
        # What an entry borrows from is an entry with statistics of its own.
        assert set(anchors[anchors >= 0].tolist()) <= set(np.flatnonzero(anchors >= 0).tolist())


@pytest.mark.parametrize("name", plugins.names("modalities"))
def test_optional_columns_may_be_absent(name):
    it = modality(name)
    columns = columns_of(name, 6)
    optional = [c.name for c in it.columns if c.optional]
    needs_one = {"metadata_astrom3": "parallax"}.get(
        name, "flux" if name.startswith("photometry") else None
    )
    left = {k: v for k, v in columns.items() if k not in optional or k == needs_one}
    made = it.prepare(left)
    assert made.values.shape == (6, math.prod(it.size))
    assert made.reasons.tolist() == [""] * 6


@pytest.mark.parametrize("name", plugins.names("modalities"))
def test_a_row_of_nan_is_rejected_and_named_not_invented(name):
    made = modality(name).prepare(with_nan_row(columns_of(name, 4), 2))
    assert made.reasons[2] != ""
    assert [r == "" for r in made.reasons] == [True, True, False, True]


@pytest.mark.parametrize("name", plugins.names("modalities"))
def test_a_row_without_entries_is_rejected_and_named(name):
    if not any(c.length == 0 for c in modality(name).columns):
        return
    made = modality(name).prepare(columns_of(name, 3, lengths=np.array([300, 0, 250])))
    assert [r == "" for r in made.reasons] == [True, False, True]


@pytest.mark.parametrize("name", plugins.names("modalities"))
def test_no_rows_at_all_are_prepared_to_none(name):
    made = modality(name).prepare(columns_of(name, 0))
    assert made.values.shape == (0, math.prod(modality(name).size))


@pytest.mark.parametrize("name", plugins.names("modalities"))
def test_rows_do_not_depend_on_each_other(name):
    columns = columns_of(name, 5)
    order = np.array([3, 1, 4, 0, 2])
    shuffled = modality(name).prepare(take(columns, order))
    np.testing.assert_allclose(
        shuffled.values, modality(name).prepare(columns).values[order], rtol=1e-6
    )


@pytest.mark.parametrize("name", plugins.names("modalities"))
def test_settings_survive_json_and_name_what_they_do_not_know(name):
    it = modality(name)
    if it.settings is None:
        return
    again = configured(it, json.loads(json.dumps(plain(it))))
    assert again.settings == it.settings
    assert again.size == it.size
    with pytest.raises(UsageError, match="is not a setting"):
        configured(it, {"colour_of_the_dome": 3})


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


@pytest.mark.parametrize(
    ("name", "held", "view"),
    [
        ("xp", ["rvs", "xp_coefficients"], "xp_coefficients"),
        ("xp", ["xp", "xp_coefficients"], "xp"),
        ("xp", ["xp_a", "xp_b"], "xp"),
        ("spectra", ["xp_coefficients"], "spectra"),
    ],
)
def test_xp_means_the_coefficients_where_there_is_no_sampled_xp(name, held, view):
    assert meant(name, held) == view
