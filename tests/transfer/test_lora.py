"""Adapters keep what they promise: nothing changes at first, merging is exact, counts are right."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from mmclip import plugins
from mmclip.encoders import EncoderConfig
from mmclip.errors import UsageError
from mmclip.transfer.landscape import direction, surface
from mmclip.transfer.lora import (
    Corrected,
    adaptable,
    add_lora,
    lora_parts,
    merge,
    pull,
    trainable,
    unmerge,
)
from mmclip.transfer.regressor import Regressor
from tests.encoders.test_encoders import SMALL


def net(length=40, seed=0):
    torch.manual_seed(seed)
    return Regressor(length).eval()


def shaken(model):
    """The same network after its trained parameters moved away from where they began."""
    with torch.no_grad():
        for p in model.parameters():
            if p.requires_grad:
                p.add_(0.1 * torch.randn_like(p))
    return model


def test_lora_of_the_published_network_has_the_published_number_of_parameters():
    # 31,744 of 1,378,049 (2.30 %): 768 -> 1024 -> 512 -> 128 -> 1, rank 8, output layer left out.
    model = Regressor(768)
    assert sum(p.numel() for p in model.parameters()) == 1_378_049
    add_lora(model, rank=8, alpha=16, leave_out=("leave",))
    assert trainable(model) == 31_744


@pytest.mark.parametrize("how", ["lora", "residual"])
def test_at_step_zero_an_adapter_answers_exactly_as_the_network_it_adapts(how):
    plain, x = net(), torch.randn(9, 40)
    model = copy.deepcopy(plain)
    adapted = Corrected(model, 128, 1) if how == "residual" else add_lora(model)
    assert torch.equal(adapted.eval()(x), plain(x))


def test_lora_is_the_weight_plus_alpha_over_r_times_b_a():
    torch.manual_seed(1)
    layer = nn.Sequential(nn.Linear(5, 3))
    before = layer[0].weight.detach().clone()
    shaken(add_lora(layer, rank=2, alpha=6.0))
    ((_, _, _, change),) = lora_parts(layer)
    expected = before.numpy() + 3.0 * change.b.detach().numpy() @ change.a.detach().numpy()
    np.testing.assert_allclose(layer[0].weight.detach().numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Linear(12, 7), (4, 12)),
        (nn.Conv1d(4, 6, 5, groups=2), (3, 4, 20)),
        (nn.Conv2d(3, 5, 3, stride=2), (2, 3, 11, 11)),
    ],
)
def test_merging_and_unmerging_are_exact(layer, shape):
    model = nn.Sequential(layer)
    plain = copy.deepcopy(model)
    shaken(add_lora(model, rank=3))
    x = torch.randn(shape)
    adapted = model(x)
    assert not torch.allclose(adapted, plain(x), atol=1e-3)
    taken = merge(model)
    assert set(model.state_dict()) == set(plain.state_dict())
    torch.testing.assert_close(model(x), adapted, rtol=0, atol=0)
    unmerge(model, taken)
    torch.testing.assert_close(model(x), adapted, rtol=1e-5, atol=1e-5)
    assert trainable(model) == sum(p.numel() for c in taken.values() for p in c.parameters())


@pytest.mark.parametrize("name", plugins.names("encoders"))
def test_every_encoder_takes_lora_and_gives_it_back(name):
    torch.manual_seed(2)
    it = plugins.load("encoders", name, "ENCODER")
    axes = getattr(it, "axes", (1,))
    size = {1: (40,), 2: (200, 9), 3: (3, 40, 40)}[min(axes)]
    model = it.build(size, EncoderConfig(width=32, options=SMALL.get(name, {}))).eval()
    values, mask = torch.randn(2, *size), torch.ones(2, *size, dtype=torch.bool)

    def answer():
        torch.manual_seed(0)
        return model(values, mask)

    plain = answer()
    assert adaptable(model)
    shaken(add_lora(model, rank=2))
    assert 0 < trainable(model) < sum(p.numel() for p in model.parameters())
    adapted = answer()
    assert not torch.allclose(adapted, plain, atol=1e-4)
    merge(model)
    torch.testing.assert_close(answer(), adapted, rtol=1e-4, atol=1e-5)


def test_attention_is_adapted_too():
    model = nn.MultiheadAttention(8, 2, batch_first=True)
    assert adaptable(model) == [("", "in_proj_weight"), ("out_proj", "weight")]
    x = torch.randn(2, 5, 8)
    plain = model(x, x, x)[0]
    add_lora(model, rank=2)
    torch.testing.assert_close(model(x, x, x)[0], plain)
    assert not torch.allclose(shaken(model)(x, x, x)[0], plain)


def test_the_residual_head_leaves_the_network_below_it_alone():
    model = Corrected(net(), 128, 1).train()
    before = copy.deepcopy(model.base.state_dict())
    optimiser = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.1)
    for _ in range(3):
        loss = (model(torch.randn(8, 40)) - 3).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert not model.base.training
    assert all(torch.equal(v, before[k]) for k, v in model.base.state_dict().items())


def test_the_pull_is_half_the_squared_distance():
    model = nn.Linear(2, 1)
    start = {n: p.detach() - 2.0 for n, p in model.named_parameters()}
    assert pull(model, start).item() == pytest.approx(0.5 * 3 * 4.0)


def test_a_rank_of_zero_is_refused():
    with pytest.raises(UsageError, match="rank of LoRA is 0"):
        add_lora(net(), rank=0)


def test_a_direction_of_the_landscape_has_filters_as_long_as_the_networks_own():
    model = nn.Sequential(nn.Conv1d(2, 4, 3), nn.Flatten(), nn.Linear(32, 5))
    found = direction(model, 1)
    for name, weight in model.named_parameters():
        norm = found[name].flatten(1).norm(dim=1) if weight.ndim > 1 else found[name]
        expected = weight.detach().flatten(1).norm(dim=1) if weight.ndim > 1 else 0 * norm
        torch.testing.assert_close(norm, expected)


def test_the_landscape_of_a_quadratic_is_a_quadratic_and_the_network_is_put_back():
    model = nn.Linear(3, 2, bias=False)
    before = model.weight.detach().clone()
    axis, losses = surface(model, lambda: (model.weight - before).square().sum(), 5, 1.0, 7)
    first, second = (direction(model, s)["weight"].flatten().numpy() for s in (7, 8))
    a, b = np.meshgrid(axis, axis)
    expected = a**2 * (first @ first) + b**2 * (second @ second) + 2 * a * b * (first @ second)
    np.testing.assert_allclose(losses, expected, rtol=1e-4, atol=1e-6)
    assert torch.equal(model.weight, before)
