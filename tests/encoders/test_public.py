"""Published layouts: our encoders give what the authors' own code gives on the same weights.

The numbers of `public.json` came from their code (`public_code.py`); with a folder of checkouts in
MMCLIP_PUBLIC_CODE that code is run again beside ours.
"""

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from mmclip import plugins
from mmclip.encoders import EncoderConfig
from mmclip.encoders import weights as published
from tests.encoders import public_code

STORED = json.loads(public_code.STORED.read_text())
CURVE = {"attention": "prob", "mask_padding": False, "pool": "flatten", "features": 16,
         "hidden": 32, "heads": 2, "layers": 2}  # fmt: skip
VIT = {"patch": 12, "features": 32, "heads": 4, "layers": 3}
SMALL = {"channels": [8, 16, 16, 32], "kernels": [5, 10, 20, 40], "pools": [5, 10, 20],
         "hidden": [32, 32], "activation": "prelu"}  # fmt: skip
# Of each stored network: our encoder, its width and settings, and which tensors the file has.
OURS = {
    "astrom3-photometry": ("informer", 32, CURVE, "astrom3-photometry"),
    "astrom3-spectra": ("galspecnet", 32, {}, "astrom3-photometry"),
    "astrom3-metadata": ("metadata-mlp", 32, {}, "astrom3-photometry"),
    "spender": ("spender", 6, {"hidden": [128, 64, 32], "activation": "prelu"}, "spender"),
    "dinov2": ("dinov2", 32, {**VIT, "pool": "cls"}, "dinov2"),
    "astroclip-image": ("dinov2", 32, {**VIT, "published": True}, "astroclip-image"),
    "astroclip-spectrum": ("specformer", 32, {"features": 24, "heads": 3, "layers": 2,
                                              "longest": 80}, "astroclip-image"),
    "moco": ("resnet50", 16, {}, "moco"),
    "conv-attention": ("spender", 3, SMALL, "conv-attention"),
    "resnet18": ("resnet18", 3, {}, "resnet18"),
}  # fmt: skip


def ours(name, folder):
    """Features of the stored objects by our encoder, its weights read from a file of theirs."""
    encoder, width, options, whole = OURS[name]
    size = tuple(n for n in STORED[name]["input"][1:] if n > 1)
    plugin = plugins.load("encoders", encoder, "ENCODER")
    net = plugin.build(size, EncoderConfig(width, 2, 0.0, options))
    file = folder / f"{whole}.safetensors"
    if not file.is_file():
        save_file(public_code.weights(STORED[whole]["shapes"]), file)
    published.load_into(net, plugin, file)
    values = public_code.inputs(STORED[name]["input"]).reshape(-1, *size)
    mask = torch.ones_like(values, dtype=torch.bool)
    if name == "astrom3-photometry":
        for row, steps in enumerate(public_code.STEPS):
            mask[row, steps:] = False
    with torch.no_grad():
        return public_code.brief(net.eval()(values, mask))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("published")


def test_every_stored_network_has_an_encoder():
    assert set(OURS) == set(STORED)


@pytest.mark.parametrize("name", OURS)
def test_an_encoder_gives_what_the_authors_code_gave(name, folder):
    found, expected = ours(name, folder), STORED[name]
    assert found["width"] == expected["width"]
    for part in ("first", "mean", "rms"):
        size = 1e-5 * max(expected["rms"])
        assert torch.tensor(found[part]) == pytest.approx(
            torch.tensor(expected[part]), rel=2e-4, abs=size
        ), part


@pytest.mark.filterwarnings("ignore")  # theirs
@pytest.mark.parametrize("code", public_code.CODES)
def test_the_stored_numbers_are_what_the_authors_code_gives_here(code):
    place = os.environ.get("MMCLIP_PUBLIC_CODE")
    if place is None:
        pytest.skip("MMCLIP_PUBLIC_CODE names no folder of the authors' code")
    with torch.no_grad():
        for name, _, size, out in public_code.CODES[code](Path(place)):
            assert list(size) == STORED[name]["input"]
            found = public_code.brief(out)
            assert torch.tensor(found["first"]) == pytest.approx(
                torch.tensor(STORED[name]["first"]), rel=1e-3, abs=1e-4
            )
