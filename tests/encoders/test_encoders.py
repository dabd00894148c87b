"""Conformance of every encoder; published parameter counts; published weights in their layout."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from mmclip import plugins
from mmclip.encoders import EncoderConfig, weights
from mmclip.encoders.informer import Options, sinusoids, window
from mmclip.encoders.layers import Dropout, attend
from mmclip.errors import UsageError

SIZES = {1: [(10,), (311,), (2401,)], 2: [(3, 300), (40, 9)], 3: [(3, 32, 32)]}
VARIANTS = {
    "informer": [
        {},
        {"pool": "flatten"},
        {"attention": "prob", "mask_padding": False},
        {"pool": "flatten", "points": 8},
    ],
    "spender": [{}, {"activation": "prelu", "activate_output": True, "z_score": True}],
    "resnet50": [{}, {"frozen": True}],
}
SMALL = {  # of encoders that are large unless told otherwise
    "dinov2": {"patch": 8, "features": 32, "heads": 4, "layers": 2},
    "specformer": {"features": 32, "heads": 4, "layers": 2},
}


def encoder(name):
    return plugins.load("encoders", name, "ENCODER")


def build(name, size, dropout=0.1, width=32, **options):
    torch.manual_seed(1)
    config = EncoderConfig(width, 2, dropout, options)
    encoder(name).check(size, config)
    return encoder(name).build(size, config)


def parameters(net, trainable=False):
    return sum(p.numel() for p in net.parameters() if p.requires_grad or not trainable)


def cases():
    for name in plugins.names("encoders"):
        for axes in encoder(name).axes:
            for size in SIZES[axes]:
                for options in VARIANTS.get(name, [{}]) if math.prod(size) < 1000 else [{}]:
                    if name in ("informer", "xp-transformer"):
                        options = {"layers": 1 if size == (2401,) else 2, **options}
                    options = SMALL.get(name, {}) | options
                    yield pytest.param(name, size, options, id=f"{name}-{size}-{options}")


@pytest.mark.parametrize(("name", "size", "options"), list(cases()))
def test_an_encoder_keeps_its_contract(name, size, options):
    net = build(name, size, **options)
    width = getattr(net, "width", 32)
    values, mask = torch.randn(4, *size), torch.rand(4, *size) > 0.2
    # A curve that ends early, and one view that is not there at all.
    if len(size) == 2:
        mask[1, size[0] // 2 :] = False
    mask[3] = False
    out = net.train()(values, mask)
    assert out.shape == (4, width)
    # A fixed projection: the sum of squares of normalised features has no gradient.
    (out * torch.linspace(-1, 1, width)).sum().backward()
    trained = {n: p for n, p in net.named_parameters() if p.requires_grad}
    assert [n for n, p in trained.items() if p.grad is None or not p.grad.any()] == []
    if math.prod(size) < 1000:  # in bfloat16 too a finite gradient reaches every weight
        net.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            coarse = net(values, mask).float()
        (coarse * torch.linspace(-1, 1, width)).sum().backward()
        assert all(torch.isfinite(p.grad).all() for p in trained.values())
        assert [n for n, p in trained.items() if not p.grad.any()] == []
    net.eval()
    with torch.no_grad():
        whole = net(values, mask)
        assert torch.isfinite(whole).all()
        assert torch.equal(whole, net(values, mask)), "not deterministic in evaluation"
        for i in range(4):  # a batch of one; trimming to the longest of another batch
            alone = net(values[i : i + 1], mask[i : i + 1])
            torch.testing.assert_close(whole[i : i + 1], alone, rtol=1e-3, atol=1e-4)
        order = torch.tensor([2, 0, 3, 1])
        torch.testing.assert_close(
            whole[order], net(values[order], mask[order]), rtol=1e-3, atol=1e-4
        )
        hidden = torch.where(mask, values, torch.full_like(values, 1e6))
        torch.testing.assert_close(whole, net(hidden, mask))
        with torch.autocast("cpu", torch.bfloat16):
            coarse = net(values, mask).float()
        if options.get("attention") != "prob":  # there rounding may choose another query
            error = (coarse - whole)[:3].norm() / whole[:3].norm()
            assert error < 0.1, f"bf16 differs by {error:.3f}"


@pytest.mark.parametrize(
    ("name", "size", "width", "options", "published"),
    [
        # Schwarz & Buck 2024: 110 x 1024 + 1024 x 32.
        ("xp-mlp", (110,), 32, {}, 145_408),
        # AstroM3 (arXiv:2411.08842): counted in the published network.
        ("informer", (200, 9), 32, {"pool": "flatten"}, 1_589_888),
        ("galspecnet", (3, 2575), 32, {}, 22_272),
        ("metadata-mlp", (34,), 512, {}, 280_576),
        # ResNet-50 without its dense layer (25,557,032 - 2,049,000), with the MoCo-v2 head.
        ("resnet50", (3, 96, 96), 128, {}, 23_508_032 + 4_458_624),
        # ResNet-18 of 1000 classes has 11,689,512 (He et al. 2015 as published).
        ("resnet18", (3, 96, 96), 1000, {}, 11_689_512),
    ],
)
def test_parameter_counts_are_the_published_ones(name, size, width, options, published):
    assert parameters(build(name, size, width=width, **options)) == published


def test_the_heads_of_astroclip_have_the_published_counts():
    assert (
        parameters(build("resnet50", (3, 96, 96), width=128, frozen=True), trainable=True)
        == 4_458_624
    )
    options = {"hidden": (256, 256, 256), "activation": "none"}
    assert parameters(build("spender", (7781,), width=128, **options).head) == 230_272
    text = {"hidden": (256, 128), "activation": "none"}
    head = build("spender", (7781,), width=128, **text).head
    # 256 -> 256 -> 128 -> 128
    assert parameters(head) == 256 * 256 + 256 + 256 * 128 + 128 + 128 * 128 + 128


def published_dinov2(side=6, width=32, layers=3, chunks=True):
    """Weights in the layout of DINOv2's public code, a teacher's backbone, patches of 8 pixels."""
    made = {
        "cls_token": (1, 1, width), "mask_token": (1, width),
        "pos_embed": (1, 1 + side**2, width), "patch_embed.proj.weight": (width, 3, 8, 8),
        "patch_embed.proj.bias": (width,), "norm.weight": (width,), "norm.bias": (width,),
    }  # fmt: skip
    for i in range(layers):
        at = f"blocks.{i % 2}.{i}" if chunks else f"blocks.{i}"
        dense = {"attn.qkv": 3 * width, "attn.proj": width, "mlp.fc1": 4 * width}
        for name, out in dense.items():
            made |= {f"{at}.{name}.weight": (out, width), f"{at}.{name}.bias": (out,)}
        made |= {f"{at}.mlp.fc2.weight": (width, 4 * width), f"{at}.mlp.fc2.bias": (width,)}
        for name in ("norm1", "norm2"):
            made |= {f"{at}.{name}.weight": (width,), f"{at}.{name}.bias": (width,)}
        made |= {f"{at}.{name}.gamma": (width,) for name in ("ls1", "ls2")}
    return {k: 0.3 * torch.randn(shape) for k, shape in made.items()}


def plain_dinov2(w, images, heads=4, layers=3):
    """The published network by PyTorch's own layers, residual branches scaled by hand."""
    x = functional.conv2d(images, w["patch_embed.proj.weight"], w["patch_embed.proj.bias"], 8)
    x = torch.cat([w["cls_token"].expand(len(x), -1, -1), x.flatten(2).mT], 1) + w["pos_embed"]
    for i in range(layers):
        at = next(k for k in w if k.endswith(f".{i}.norm1.weight")).removesuffix(".norm1.weight")
        width = x.shape[-1]
        y = functional.layer_norm(x, (width,), w[f"{at}.norm1.weight"], w[f"{at}.norm1.bias"], 1e-6)
        turned = y.transpose(0, 1)
        y = functional.multi_head_attention_forward(
            turned, turned, turned, width, heads, w[f"{at}.attn.qkv.weight"],
            w[f"{at}.attn.qkv.bias"], None, None, False, 0.0, w[f"{at}.attn.proj.weight"],
            w[f"{at}.attn.proj.bias"],
        )[0].transpose(0, 1)  # fmt: skip
        x = x + w[f"{at}.ls1.gamma"] * y
        y = functional.layer_norm(x, (width,), w[f"{at}.norm2.weight"], w[f"{at}.norm2.bias"], 1e-6)
        y = functional.gelu(
            functional.linear(y, w[f"{at}.mlp.fc1.weight"], w[f"{at}.mlp.fc1.bias"])
        )
        y = functional.linear(y, w[f"{at}.mlp.fc2.weight"], w[f"{at}.mlp.fc2.bias"])
        x = x + w[f"{at}.ls2.gamma"] * y
    return functional.layer_norm(x, (width,), w["norm.weight"], w["norm.bias"], 1e-6)


@pytest.mark.parametrize("chunks", [True, False])
@pytest.mark.parametrize("prefix", ["", "teacher.backbone."])
def test_dinov2_reads_published_weights_and_computes_as_published(prefix, chunks, tmp_path):
    torch.manual_seed(3)
    published = published_dinov2(chunks=chunks)
    file = tmp_path / "dino.pth"
    torch.save({"model": {f"{prefix}{k}": v for k, v in published.items()}}, file)
    options = SMALL["dinov2"] | {"layers": 3}
    net = build("dinov2", (3, 48, 48), pool="cls", **options).eval()
    assert weights.load_into(net, encoder("dinov2"), file) == len(published) - 1  # no mask token
    images = torch.randn(2, 3, 48, 48)
    expected = plain_dinov2(published, images)
    found = net(images, torch.ones_like(images, dtype=torch.bool))
    torch.testing.assert_close(found, expected[:, 0], rtol=1e-4, atol=1e-5)
    # A head is trained anew; images of another size take interpolated places.
    frozen = build("dinov2", (3, 64, 64), frozen=True, trained=48, **options)
    weights.load_into(frozen, encoder("dinov2"), file)
    assert frozen(torch.randn(2, 3, 64, 64), torch.ones(2, 3, 64, 64) > 0).shape == (2, 32)
    assert {n.split(".")[0] for n, p in frozen.named_parameters() if p.requires_grad} == {"head"}


def test_dinov2_of_astroclip_is_vit_large():
    with torch.device("meta"):
        net = build("dinov2", (3, 144, 144), pool="cls")
    # 24 blocks of 12 W^2 + 13 W, two scales of W each; patches, places, summary, last norm.
    w = 1024
    blocks = 24 * (12 * w * w + 13 * w + 2 * w)
    assert parameters(net) == blocks + 3 * 144 * w + w + (1 + 144) * w + w + 2 * w


def test_dinov2_refuses_images_that_are_no_whole_patches():
    with pytest.raises(UsageError, match="not whole patches of 12"):
        build("dinov2", (3, 152, 152), layers=1)


def test_a_curve_longer_than_the_network_reads_is_cut_to_its_middle():
    size = (50, 9)
    whole = build("informer", size, points=20, pool="flatten").eval()
    short = build("informer", (20, 9), pool="flatten").eval()
    short.load_state_dict(whole.state_dict())
    assert whole.width == short.width == 20 * 128
    values, mask = torch.randn(3, *size), torch.ones(3, *size, dtype=torch.bool)
    mask[1, 33:], mask[2, 11:] = False, False
    # AstroM3: the first point is (n - 200) // 2; a curve that is not longer stays whole.
    starts = [(50 - 20) // 2, (33 - 20) // 2, 0]
    cut = [torch.stack([x[i, s : s + 20] for i, s in enumerate(starts)]) for x in (values, mask)]
    torch.testing.assert_close(whole(values, mask), short(*cut))


def test_in_training_every_run_of_a_curve_is_as_likely_as_another():
    torch.manual_seed(0)
    steps = torch.arange(50.0).view(1, 50, 1).expand(6000, 50, 1)
    mask = torch.ones(6000, 50, 1, dtype=torch.bool)
    mask[:, 25:] = False
    cut, there = window(steps, mask, 20, True)
    assert there.all()
    assert (cut.diff(dim=1) == 1).all()
    starts = torch.bincount(cut[:, 0, 0].long(), minlength=6)
    assert len(starts) == 6  # 0 to 25 - 20
    assert (starts - 1000).abs().max() < 5 * (1000 * 5 / 6) ** 0.5


def test_galspecnet_gives_1184_features_of_2575_pixels():
    assert build("galspecnet", (3, 2575)).width == 1184


def test_spender_pools_7781_pixels_to_142_places():
    net = build("spender", (7781,))
    x = torch.zeros(1, 1, 7781)
    assert net.pools[1](net.pools[0](x)).shape[-1] == 142


def published_layer(rng, number, width=8, hidden=16):
    """Weights of one layer in the layout of AstroM3's public code."""
    at = f"encoder.attn_layers.{number}"
    made = {}
    for part in ("query", "key", "value", "out"):
        made[f"{at}.attention.{part}_projection.weight"] = rng.normal(size=(width, width))
        made[f"{at}.attention.{part}_projection.bias"] = rng.normal(size=width)
    made |= {
        f"{at}.conv1.weight": rng.normal(size=(hidden, width, 1)),
        f"{at}.conv1.bias": rng.normal(size=hidden),
        f"{at}.conv2.weight": rng.normal(size=(width, hidden, 1)),
        f"{at}.conv2.bias": rng.normal(size=width),
    }
    for norm in ("norm1", "norm2"):
        made[f"{at}.{norm}.weight"] = rng.normal(size=width)
        made[f"{at}.{norm}.bias"] = rng.normal(size=width)
    return made


def plain_norm(x, weight, bias):
    off = x - x.mean(-1, keepdims=True)
    return off / np.sqrt((off**2).mean(-1, keepdims=True) + 1e-5) * weight + bias


def plain_layer(x, w, number, sampled, heads=2):
    """The published layer in plain loops: one curve, one head, one query at a time."""
    at, (count, length, width) = f"encoder.attn_layers.{number}", x.shape
    q, k, v = (
        (
            x @ w[f"{at}.attention.{p}_projection.weight"].T
            + w[f"{at}.attention.{p}_projection.bias"]
        )
        for p in ("query", "key", "value")
    )
    q, k, v = (t.reshape(count, length, heads, -1) for t in (q, k, v))
    few = math.ceil(math.log(length))
    context = np.zeros((count, heads, length, width // heads))
    for b in range(count):
        for h in range(heads):
            m = np.empty(length)
            for i in range(length):
                products = [q[b, i, h] @ k[b, j, h] for j in sampled[i]]
                m[i] = max(products) - sum(products) / length
            context[b, h] = v[b, :, h].mean(0)
            for i in np.argsort(-m)[:few]:
                scores = k[b, :, h] @ q[b, i, h] / math.sqrt(width // heads)
                p = np.exp(scores - scores.max())
                context[b, h, i] = p @ v[b, :, h] / p.sum()
    mixed = context.reshape(count, length, width)  # heads and steps interleaved, as published
    out = mixed @ w[f"{at}.attention.out_projection.weight"].T
    x = plain_norm(
        x + out + w[f"{at}.attention.out_projection.bias"],
        w[f"{at}.norm1.weight"], w[f"{at}.norm1.bias"],
    )  # fmt: skip
    y = x @ w[f"{at}.conv1.weight"][:, :, 0].T + w[f"{at}.conv1.bias"]
    y = functional.gelu(torch.tensor(y)).numpy()
    y = y @ w[f"{at}.conv2.weight"][:, :, 0].T + w[f"{at}.conv2.bias"]
    return plain_norm(x + y, w[f"{at}.norm2.weight"], w[f"{at}.norm2.bias"])


def test_published_astrom3_weights_give_what_plain_loops_give():
    rng = np.random.default_rng(0)
    length, channels, width = 20, 9, 8
    w = {"enc_embedding.value_embedding.tokenConv.weight": rng.normal(size=(width, channels, 3))}
    w |= published_layer(rng, 0) | published_layer(rng, 1)
    w |= {
        "encoder.norm.weight": rng.normal(size=width),
        "encoder.norm.bias": rng.normal(size=width),
    }
    own = {"attention": "prob", "mask_padding": False, "pool": "flatten", "layers": 2,
           "features": width, "hidden": 16, "heads": 2}  # fmt: skip
    net = build("informer", (length, channels), **own).double().eval()
    translated = encoder("informer").translate({k: torch.tensor(v) for k, v in w.items()})
    net.load_state_dict(translated)
    curves = rng.normal(size=(3, length, channels))
    steps = np.ones((3, length), bool)
    steps[1, 12:] = False
    curves[~steps] = 0.0
    around = np.concatenate([curves[:, -1:], curves, curves[:, :1]], axis=1)  # circular
    kernel = w["enc_embedding.value_embedding.tokenConv.weight"]
    x = sum(around[:, i : i + length] @ kernel[:, :, i].T for i in range(3))
    x = x + sinusoids(length, width).double().numpy()
    for number in range(2):
        x = plain_layer(x, w, number, net.layers[number]._sampled(length).numpy())
    x = plain_norm(x, w["encoder.norm.weight"], w["encoder.norm.bias"]) * steps[..., None]
    with torch.no_grad():
        mask = torch.tensor(steps)[..., None].expand(-1, -1, channels)
        found = net.double()(torch.tensor(curves), mask)
    np.testing.assert_allclose(found.numpy(), x.reshape(3, -1), rtol=1e-5, atol=1e-6)


def test_full_attention_does_not_see_what_comes_after_the_curve():
    net = build("informer", (50, 9)).eval()
    values, mask = torch.randn(2, 50, 9), torch.ones(2, 50, 9, dtype=torch.bool)
    mask[0, 30:] = False
    short = build("informer", (30, 9)).eval()
    short.load_state_dict(net.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(
            net(values, mask)[:1], short(values[:1, :30], mask[:1, :30]), rtol=1e-4, atol=1e-5
        )


def test_recomputed_activations_change_no_gradient():
    grads = []
    for recompute in (False, True):
        net = build("informer", (30, 9), layers=2, recompute=recompute)
        torch.manual_seed(5)
        out = net(torch.ones(3, 30, 9).cumsum(1) / 30, torch.ones(3, 30, 9, dtype=torch.bool))
        (out * torch.linspace(-1, 1, net.width)).sum().backward()
        grads.append(torch.cat([p.grad.flatten() for p in net.parameters()]))
    torch.testing.assert_close(*grads)


def test_a_frozen_resnet_gives_its_weights_no_gradient_and_keeps_its_statistics():
    net = build("resnet50", (3, 32, 32), frozen=True).train()
    before = net.bn1.running_mean.clone()
    net(torch.randn(2, 3, 32, 32), torch.ones(2, 3, 32, 32, dtype=torch.bool)).sum().backward()
    with_gradient = {n.split(".")[0] for n, p in net.named_parameters() if p.grad is not None}
    assert with_gradient == {"fc"}
    assert torch.equal(net.bn1.running_mean, before)


def test_a_moco_checkpoint_loads_by_its_query_encoder():
    net = build("resnet50", (3, 32, 32))
    state = {f"module.encoder_q.{k}": v for k, v in net.state_dict().items()}
    state |= {"module.queue": torch.zeros(4), "module.encoder_k.fc.0.bias": torch.zeros(2048)}
    made = encoder("resnet50").translate(state)
    missing, unexpected = net.load_state_dict(made, strict=False)
    assert not unexpected
    assert all(k.endswith("num_batches_tracked") for k in missing)


def test_an_unknown_option_names_the_nearest_and_a_wrong_shape_is_refused():
    with pytest.raises(UsageError, match="did you mean 'attention'"):
        encoder("informer").check((200, 9), EncoderConfig(options={"attenton": "full"}))
    with pytest.raises(UsageError, match="3 axes"):
        encoder("resnet50").check((200, 9), EncoderConfig())
    with pytest.raises(UsageError, match="no setting 'colour'"):
        encoder("mlp").check((9,), EncoderConfig(options={"colour": 1}))


@pytest.mark.parametrize("masked", [False, True])
def test_attention_and_its_gradient_are_those_of_pytorch(masked):
    torch.manual_seed(0)
    given = [torch.randn(3, 2, 17, 8, dtype=torch.float64, requires_grad=True) for _ in "qkv"]
    allowed = torch.rand(3, 17) > 0.4 if masked else None
    mask = allowed[:, None, None, :] if masked else None
    slope = torch.randn(3, 2, 17, 8, dtype=torch.float64)
    found = []
    for made in (
        attend(*given, allowed),
        functional.scaled_dot_product_attention(*given, attn_mask=mask),
    ):
        found.append([made, *torch.autograd.grad(made, given, slope)])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


def test_dropout_keeps_the_right_part_the_mean_and_its_decisions():
    torch.manual_seed(0)
    drop, x = Dropout(0.2451).train(), torch.ones(300_001, requires_grad=True)
    y = drop(x)
    kept = (y > 0).double()
    # Six standard deviations of a binomial.
    assert abs(kept.mean() - 0.7549) < 6 * (0.2451 * 0.7549 / 300_001) ** 0.5
    torch.testing.assert_close(y[y > 0], torch.full_like(y[y > 0], 1 / 0.7549))
    neighbours = ((kept[1:] - kept.mean()) * (kept[:-1] - kept.mean())).mean() / kept.var()
    assert abs(neighbours) < 6 / 300_001**0.5
    y.sum().backward()
    assert torch.equal(x.grad > 0, y > 0)
    assert torch.equal(drop.eval()(x), x)


def test_the_defaults_are_full_attention_over_observed_steps():
    assert (Options().attention, Options().mask_padding) == ("full", True)


@pytest.mark.parametrize("name", plugins.names("modalities"))
def test_the_encoder_of_a_modality_takes_its_objects(name):
    it = plugins.load("modalities", name, "MODALITY")
    net = plugins.load("encoders", it.encoder, "ENCODER").build(it.size, EncoderConfig(width=32))
    values = torch.randn(2, *it.size)
    out = net.eval()(values, torch.ones_like(values, dtype=torch.bool))
    assert out.shape[0] == 2
    assert torch.isfinite(out).all()
