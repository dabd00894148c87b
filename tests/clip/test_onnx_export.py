"""Encoders without torch: what onnxruntime answers is what the run answers."""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from mmclip.artifacts.workspace import Workspace
from mmclip.cli import run
from mmclip.clip.run import open_run
from mmclip.modalities import restore

pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
pytest.importorskip("onnx", reason="the extra onnx is not installed")

EXAMPLE = Path(__file__).parents[2] / "examples" / "embed_onnx.py"


@pytest.fixture(scope="module")
def exported(trained, tmp_path_factory):
    folder = tmp_path_factory.mktemp("onnx")
    assert run(["export", "--onnx", str(folder), "-w", str(trained)]) == 0
    return folder


def prepared(root, view):
    """[stars, entries] in the view's own unit, and the run."""
    space = Workspace(root)
    opened = open_run(space.get("run"))
    file = space.get("data").path / f"{view}.parquet"
    held = pq.read_table(file)["values"].combine_chunks()
    normal = held.flatten().to_numpy().reshape(len(held), -1)
    return restore(normal, opened.statistics[view]).astype(np.float32), opened


@pytest.mark.parametrize("view", ["xp", "metadata"])
def test_the_example_embeds_stars_as_mmclip_embed_did(exported, trained, tmp_path, view):
    values, _ = prepared(trained, view)
    np.save(tmp_path / "values.npy", values)
    spec = importlib.util.spec_from_file_location("embed_onnx", EXAMPLE)
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    example.main(exported / f"{view}.onnx", tmp_path / "values.npy", tmp_path / "vectors.npy")
    stored = pq.read_table(Workspace(trained).get("vectors").path / "vectors.parquet")
    wanted = np.array([v for v in stored[view].to_pylist() if v is not None], np.float32)
    np.testing.assert_allclose(np.load(tmp_path / "vectors.npy"), wanted, atol=1e-5)


def test_the_example_needs_no_torch():
    assert "torch" not in EXAMPLE.read_text().replace("not torch", "")


def test_the_file_says_what_it_expects(exported, trained):
    import onnxruntime

    session = onnxruntime.InferenceSession(exported / "xp.onnx")
    about = session.get_modelmeta().custom_metadata_map
    _, opened = prepared(trained, "xp")
    assert about["mmclip.unit"] == "flux / median"
    assert json.loads(about["mmclip.axis"])[0] == 380.0
    assert json.loads(about["mmclip.centre"]) == opened.statistics["xp"].centre.tolist()
    assert about["mmclip.run"] == opened.artifact.manifest.fingerprint
    assert session.get_inputs()[0].shape == ["objects", 311]


def test_a_graph_of_other_weights_is_refused(exported, trained):
    from mmclip.clip import onnx_export

    _, opened = prepared(trained, "xp")
    encoder = onnx_export.Encoder(opened, "xp")
    by = opened.statistics["xp"]
    assert onnx_export.check(encoder, by, exported / "xp.onnx") < 1e-5
    with torch.no_grad():
        opened.model.projections["xp"].weight.add_(0.01)
    assert onnx_export.check(encoder, by, exported / "xp.onnx") > 1e-5


def test_what_is_asked_for_wrongly_is_refused(trained, tmp_path, capsys, monkeypatch):
    w = ["-w", str(trained)]
    assert run(["export", "--onnx", str(tmp_path), "--view", "rvs", *w]) == 2
    assert "no view 'rvs'" in capsys.readouterr().err
    assert run(["export", *w]) == 2
    assert run(["export", "metadata-xp", "-o", str(tmp_path / "x"), *w]) == 2
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert run(["export", "--onnx", str(tmp_path), *w]) == 2
    assert "pip install 'mmclip[onnx]'" in capsys.readouterr().err
