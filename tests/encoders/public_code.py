"""What the authors' own code gives on weights made by a seed: the numbers of `public.json`.

`FOLDER` holds checkouts of github.com/MeriDK/AstroM3, pmelchior/spender, PolymathicAI/AstroCLIP and
facebookresearch/dinov2 under their names; MoCo is AstroCLIP's, on torchvision's ResNet-50.

    python -m tests.encoders.public_code FOLDER      writes tests/encoders/public.json anew
"""

import importlib
import importlib.util
import json
import sys
import types
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

STORED = Path(__file__).with_name("public.json")
CURVES, STEPS = (2, 40, 9), (40, 30)  # light curves, and how long each is
SPEC = {"input_dim": 22, "embed_dim": 24, "num_layers": 2, "num_heads": 3, "max_len": 80}


def weights(shapes, seed=7):
    """Weights of these shapes, neither vanishing nor exploding; scales and variances positive."""
    rng, made = np.random.default_rng(seed), {}
    for name in sorted(shapes):
        x, kind = rng.normal(size=shapes[name]), name.rsplit(".", 1)[-1]
        scale = ("norm" in name or ".bn" in name) and kind == "weight"
        if x.ndim > 1:
            x *= (2.0 / np.prod(x.shape[1:])) ** 0.5
        elif scale or kind in ("running_var", "gamma", "beta"):
            x = 0.7 + 0.3 * np.abs(x)
        else:
            x *= 0.2
        made[name] = torch.from_numpy(np.asarray(x, np.float32))
    return made


def inputs(shape, seed=11):
    """Objects of a shape; light curves end where they end, galaxy spectra are about 1.5."""
    x = torch.from_numpy(np.random.default_rng(seed).normal(size=shape).astype(np.float32))
    if tuple(shape) == CURVES:
        for row, steps in enumerate(STEPS):
            x[row, steps:] = 0
    return 0.8 * x + 1.5 if tuple(shape[2:]) == (1,) else x


def brief(out):
    """Some numbers of features [objects, F], and measures of all of them."""
    o = out.detach().reshape(len(out), -1).double().numpy()
    return {
        "width": o.shape[1], "first": np.round(o[:, :6], 6).tolist(),
        "mean": np.round(o.mean(1), 7).tolist(), "rms": np.round((o**2).mean(1) ** 0.5, 7).tolist(),
    }  # fmt: skip


@contextmanager
def drawn_by_layer(layers=2):
    """The keys that sparse attention draws, by a seed that is the number of the layer."""
    real, calls = torch.randint, iter(range(1000))

    def draw(high, size):
        return real(high, size, generator=torch.Generator().manual_seed(next(calls) % layers))

    torch.randint = draw
    try:
        yield
    finally:
        torch.randint = real


def stub(name, path=None, **attributes):
    """A module of that name that has these attributes, or whose parts lie in a folder."""
    module = types.ModuleType(name)
    module.__dict__.update(attributes)
    if path is not None:
        module.__path__ = [str(path)]
    sys.modules[name] = module


class Lightning(nn.Module):
    """What the authors' modules need of a LightningModule."""

    def save_hyperparameters(self):
        caller = sys._getframe(1).f_locals
        self.hparams = types.SimpleNamespace(**{k: v for k, v in caller.items() if k != "self"})


def loaded(net, start=""):
    """The network with weights made by the seed, to be evaluated; and their shapes."""
    left = ("num_batches_tracked", ".pe")
    shapes = {
        k: list(v.shape)
        for k, v in net.state_dict().items()
        if k.startswith(start) and not k.endswith(left)
    }
    net.load_state_dict(weights(shapes), strict=False)
    return net.eval(), shapes


def file_of(path):
    """A Python file as a module, whatever else its package imports."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def astrom3(folder):
    sys.path.insert(0, str(folder / "AstroM3" / "src"))
    made = importlib.import_module("model").AstroM3(
        False, None, 16, "avg", CURVES[1], CURVES[2], 16, 0.1, 1, False, 2, 32, "gelu", 2, 0.1,
        [3, 64, 64, 32, 32], 3, 4, 34, 32, 0.1,
    )  # fmt: skip
    net, shapes = loaded(made)
    mask = torch.arange(CURVES[1])[None] < torch.tensor(STEPS)[:, None]
    spectra, metadata = (2, 3, 2575), (2, 34)
    with drawn_by_layer():
        curves = net.photometry_encoder(inputs(CURVES), mask.float())
    yield "astrom3-photometry", shapes, CURVES, curves
    yield "astrom3-spectra", shapes, spectra, net.spectra_encoder(inputs(spectra))
    yield "astrom3-metadata", shapes, metadata, net.metadata_encoder(inputs(metadata))


def spender(folder):
    stub("spender", folder / "spender" / "spender")
    stub("spender.util", interp1d=None, calc_normalization=None)
    net, shapes = loaded(importlib.import_module("spender.model").SpectrumEncoder(None, 6))
    yield "spender", shapes, (2, 700), net(inputs((2, 700)))


def astroclip(folder):
    stub("lightning", LightningModule=Lightning, Trainer=object)
    stub("dinov2", folder / "dinov2" / "dinov2")
    stub("dinov2.models", folder / "dinov2" / "dinov2" / "models")
    vision = importlib.import_module("dinov2.models.vision_transformer")
    attention = importlib.import_module("dinov2.layers").MemEffAttention

    def backbone(*_):
        return vision.DinoVisionTransformer(
            img_size=48, patch_size=12, embed_dim=32, depth=3, num_heads=4, init_values=1e-5,
            block_fn=partial(vision.Block, attn_class=attention), block_chunks=0,
        )  # fmt: skip

    images = (2, 3, 48, 48)
    net, shapes = loaded(backbone())
    yield "dinov2", shapes, images, net(inputs(images))
    stub("dinov2.eval")
    stub("dinov2.eval.setup", setup_and_build_model=lambda config: (backbone(), None))
    place = folder / "AstroCLIP"
    stub("astroclip", place / "astroclip")
    stub("astroclip.models", place / "astroclip" / "models")
    stub("astroclip.env", format_with_env=str)
    ours = importlib.import_module("astroclip.models.astroclip")
    spectra = importlib.import_module("astroclip.models.specformer").SpecFormer(**SPEC)
    real, torch.load = torch.load, lambda path: {
        "hyper_parameters": SPEC, "state_dict": spectra.state_dict()
    }  # fmt: skip
    try:
        head = ours.SpectrumHead("", embed_dim=32, n_head=4, model_embed_dim=24)
    finally:
        torch.load = real
    image = ours.ImageHead("", "", "", embed_dim=32, n_head=4, model_embed_dim=32)
    net, shapes = loaded(ours.AstroClipModel(image, head))
    yield "astroclip-image", shapes, images, net(inputs(images), "image")
    yield "astroclip-spectrum", shapes, (2, 700, 1), net(inputs((2, 700, 1)), "spectrum")


def residual(folder):
    """What stands on torchvision; its own compiled operators are not needed."""
    torch.library.define("torchvision::nms", "(Tensor a, Tensor b, float c) -> Tensor")
    stub("torchvision._meta_registrations")
    stub("lightning", LightningModule=Lightning, Trainer=object)
    stub("astroclip.env", format_with_env=str)
    place, images = folder / "AstroCLIP", (2, 3, 64, 64)
    moco = file_of(place / "astroclip" / "models" / "moco_v2.py").Moco_v2
    made = moco(base_encoder="resnet50", emb_dim=16, num_negatives=4, use_mlp=True)
    net, shapes = loaded(made, "encoder_q.")
    yield "moco", shapes, images, net.encoder_q(inputs(images))
    base = file_of(place / "downstream_tasks" / "property_estimation" / "baselines" / "modules.py")
    net, shapes = loaded(base.SpectrumEncoder(3))
    yield "conv-attention", shapes, (2, 7781), net(inputs((2, 7781)))
    net, shapes = loaded(base.ResNet18(3))
    yield "resnet18", shapes, images, net(inputs(images))


CODES = {"AstroM3": astrom3, "spender": spender, "AstroCLIP": astroclip, "torchvision": residual}


def main(folder):
    """Write what every code gives; shapes of one checkpoint are kept once."""
    stored = {}
    with torch.no_grad():
        for code in CODES.values():
            known = None
            for name, shapes, size, out in code(folder):
                same = {} if shapes is known else {"shapes": shapes}
                known = shapes
                stored[name] = same | {"input": list(size)} | brief(out)
    STORED.write_text(json.dumps(stored, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
