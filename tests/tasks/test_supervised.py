"""Networks trained end to end for the tables of the Multimodal Universe, and trees beside them."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from mmclip import papers
from mmclip.datasets.build import Dataset, View
from mmclip.errors import UsageError
from mmclip.modalities import Statistics
from mmclip.tasks import evaluate, supervised

COUNT = 80


def data_of(name, values, **columns):
    """Objects with one view [COUNT, *size]; three quarters are for training."""
    size = values.shape[1:]
    flat = values.reshape(COUNT, -1).astype("f4")
    by = Statistics(np.zeros(flat.shape[1]), np.ones(flat.shape[1]), "none")
    split = np.where(np.arange(COUNT) % 4 == 3, "test", "train")
    objects = pa.table({"source_id": np.arange(COUNT) + 1, "split": split, **columns})
    artifact = SimpleNamespace(path="made", manifest=SimpleNamespace(provenance={}))
    return Dataset(artifact, objects, {name: View(flat, None, by, "observed", size)})


@pytest.fixture
def spectra():
    """Spectra whose line is as deep as the label."""
    rng = np.random.default_rng(0)
    depth = rng.uniform(0, 1, COUNT)
    x = np.arange(120)
    flux = 1 - depth[:, None] * np.exp(-0.5 * ((x - 60) / 4) ** 2)
    flux += 0.02 * rng.normal(size=flux.shape)
    return data_of("spectra", flux, z_hp=depth, log_mstar=9 + 2 * depth), depth


def test_convolutions_with_attention_learn_a_line(spectra, tmp_path):
    data, depth = spectra
    labels = {"z_hp": depth, "log_mstar": 9 + 2 * depth}
    asked = supervised.Protocol(epochs=20, batch=15, learning_rate=1e-2, device="cpu")
    told = []
    made = supervised.regress(data, "spectra", "conv-attention", labels, asked, tmp_path,
                              told.append)  # fmt: skip
    truth, predicted = made["log_mstar"]
    test = np.arange(COUNT) % 4 == 3
    np.testing.assert_array_equal(truth, 9 + 2 * depth[test])
    assert 1 - ((predicted - truth) ** 2).mean() / truth.var() > 0.7
    # The answer is kept: asked again, nothing is trained.
    again = supervised.regress(data, "spectra", "conv-attention", labels, asked, tmp_path,
                               lambda line: pytest.fail("trained again"))  # fmt: skip
    np.testing.assert_array_equal(again["log_mstar"][1], predicted)
    assert told


def test_resnet_18_reads_images_and_the_table_has_its_rows():
    rng = np.random.default_rng(1)
    data = data_of("image", rng.normal(size=(COUNT, 3, 16, 16)), z_hp=rng.normal(size=COUNT))
    about = replace(
        papers.benchmarks()["mmu-provabgs"],
        regressions=tuple(
            r for r in papers.benchmarks()["mmu-provabgs"].regressions if r.network == "resnet18"
        ),
    )
    asked = supervised.Protocol(epochs=1, batch=60, device="cpu")

    def ask(view, network, labels):
        return supervised.regress(data, view, network, labels, asked)

    rows = [evaluate._regression(r, about, None, data, [], ask) for r in about.regressions]
    assert [r["published"] for r in rows] == [0.771, 0.725, 0.381]
    assert rows[0]["test"] == COUNT // 4
    assert rows[0]["ours low"] <= rows[0]["ours"] <= rows[0]["ours high"]
    assert rows[0]["comparison"] == "same data"
    assert rows[1]["comparison"].startswith("not measured: no column")


def test_trees_find_the_class_and_the_number_of_a_light_curve():
    rng = np.random.default_rng(2)
    z, kind = rng.uniform(0, 1, COUNT), rng.integers(0, 2, COUNT)
    curves = rng.normal(size=(COUNT, 30, 1)) * (1 + 3 * kind[:, None, None]) + z[:, None, None]
    names = np.where(kind == 1, "SNIa", "SNII").tolist()
    data = data_of("photometry", curves, spec_class=names, redshift=z)
    about = papers.benchmarks()["mmu-time-series"]
    rows = [evaluate._measure(m, data, ("ps1_sne_ia",), [], None) for m in about.measures]
    assert [r["published"] for r in rows] == [0.985, 0.90, 0.247]
    assert rows[0]["comparison"] == "not measured: no view image"
    assert rows[1]["ours"] > 0.95
    assert "theirs is a forest" in rows[1]["comparison"]
    assert rows[2]["comparison"].startswith("refused: other data (nothing of plasticc")
    assert 0 < rows[2]["ours"] < z.std() * 2


def test_too_few_objects_or_an_unknown_network_are_refused(spectra):
    data, depth = spectra
    none = {"z_hp": np.full(COUNT, np.nan)}
    with pytest.raises(UsageError, match="0 training"):
        supervised.regress(data, "spectra", "resnet18", none, supervised.Protocol())
    with pytest.raises(UsageError, match="conv-attention"):
        supervised.regress(data, "spectra", "conv-atention", {"z_hp": depth}, supervised.Protocol())
    with pytest.raises(UsageError, match="one class"):
        supervised.by_trees(data, "spectra", np.ones(COUNT), "auc", 0)
