"""Published weights: every entry has what a user must know, and a file is checked by its layout."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from mmclip import papers, plugins
from mmclip.cli import run
from mmclip.clip import catalogue
from mmclip.encoders import EncoderConfig
from mmclip.errors import NotFound, UsageError

MODELS = catalogue.models()
# DINOv2's 300 million weights are built in tests/encoders once, at a tenth of their size.
READ = [m for m in MODELS.values() if m.layout not in (catalogue.ONNX, "dinov2")]


@pytest.mark.parametrize("name", MODELS)
def test_an_entry_says_what_a_user_must_know(name):
    model = MODELS[name]
    assert all((model.licence, model.source, model.where, model.unit, model.grid))
    assert model.view in plugins.names("modalities")
    assert model.layout == catalogue.ONNX or model.layout in plugins.names("encoders")
    assert not model.preset or model.preset in papers.names()
    assert bool(model.time) == (model.view == "photometry")


@pytest.mark.parametrize("model", READ, ids=lambda m: m.name)
def test_a_file_of_the_layout_passes_and_another_is_refused(model, tmp_path):
    """Made weights in mmclip's own names; `tests/encoders` has the layouts as published."""
    plugin = plugins.load("encoders", model.layout, "ENCODER")
    network = plugin.build(model.shape, EncoderConfig(width=model.width, options=model.options))
    state = {k: v.contiguous() for k, v in network.state_dict().items()}
    save_file(state, tmp_path / "right.safetensors")
    save_file({"other": torch.zeros(3)}, tmp_path / "wrong.safetensors")
    assert f"of the encoder {model.layout}" in catalogue.check(
        model, tmp_path / "right.safetensors"
    )
    with pytest.raises(UsageError):
        catalogue.check(model, tmp_path / "wrong.safetensors")


def test_spenders_own_names_are_read(tmp_path):
    """conv1.0 (convolution), conv1.2 (PReLU) and mlp, as its public code names them."""
    model = MODELS["spender-desi-star"]
    plugin = plugins.load("encoders", "spender", "ENCODER")
    network = plugin.build(model.shape, EncoderConfig(width=model.width, options=model.options))
    published = {}
    for key, value in network.state_dict().items():
        first, *rest = key.split(".")
        if first == "blocks":
            published[f"encoder.conv{int(rest[0]) + 1}.{2 * int(rest[1])}.{rest[2]}"] = value
        else:
            published[f"encoder.mlp.{'.'.join(rest)}"] = value
    save_file(published, tmp_path / "published.safetensors")
    count = len(network.state_dict())
    found = catalogue.check(model, tmp_path / "published.safetensors")
    assert found.startswith(f"{count} of {count} tensors")


def test_an_onnx_file_is_known_by_its_inputs(tmp_path):
    onnx = pytest.importorskip("onnx", reason="the extra onnx is not installed")
    pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    helper = onnx.helper

    def write(name, width):
        kind = onnx.TensorProto.FLOAT
        shapes = {"x_enc": [200, width], "mask": [200], "mean": [200, width]}
        made = {n: helper.make_tensor_value_info(n, kind, ["b", *s]) for n, s in shapes.items()}
        node = helper.make_node("Identity", ["x_enc"], ["mean"])
        graph = helper.make_graph([node], "g", [made["x_enc"], made["mask"]], [made["mean"]])
        opset = [helper.make_opsetid("", 17)]
        onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), tmp_path / name)

    write("right.onnx", 9)
    write("wrong.onnx", 4)
    model = MODELS["astrom3-onnx"]
    assert "outputs mean" in catalogue.check(model, tmp_path / "right.onnx")
    with pytest.raises(UsageError, match=r"has not the input x_enc \[200, 9\]"):
        catalogue.check(model, tmp_path / "wrong.onnx")
    np.save(tmp_path / "none.npy", np.zeros(3))
    with pytest.raises(UsageError, match="no ONNX file"):
        catalogue.check(model, tmp_path / "none.npy")


def test_the_command_lists_and_explains(capsys):
    assert run(["models"]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in MODELS)
    assert run(["models", "astromer1-onnx"]) == 0
    assert "MJD" in capsys.readouterr().out
    assert run(["models", "--check", "x"]) == 2
    with pytest.raises(NotFound, match="did you mean"):
        catalogue.model("astromer1-onx")
