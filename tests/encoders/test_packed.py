"""Curves without padding: the same numbers as padded ones, and dropout that stores no decisions."""

import pytest
import torch
from torch.nn import functional

from mmclip import plugins
from mmclip.encoders import EncoderConfig, packed, seen


def curves(count=20, steps=50, channels=9):
    """Curves of 0 to `steps` steps; one lacks a step in its middle, one a channel."""
    draw = torch.Generator().manual_seed(3)
    values = torch.randn(count, steps, channels, generator=draw, dtype=torch.float64)
    length = torch.randint(1, steps + 1, (count,), generator=draw)
    length[3], length[7] = 0, steps
    mask = torch.arange(steps)[None] < length[:, None]
    mask[7, 5] = False
    mask = mask[..., None].repeat(1, 1, channels)
    mask[6, :, 2] = False
    return values, mask


def encoder(pool, dropout=0.0):
    torch.manual_seed(0)
    options = {"features": 32, "hidden": 64, "layers": 3, "pool": pool}
    plugin = plugins.load("encoders", "informer", "ENCODER")
    return plugin.build((50, 9), EncoderConfig(32, 2, dropout, options)).double()


@pytest.mark.parametrize("pool", ["mean", "flatten"])
def test_a_training_without_padding_has_the_losses_of_one_with_padding(pool):
    values, mask = curves()
    losses = []
    for padded in (False, True):
        net = encoder(pool)
        optimiser = torch.optim.Adam(net.parameters(), 1e-2)
        mine = []
        for _ in range(5):
            if padded:
                features = net._encoded(seen(values, mask), mask.any(-1))
            else:
                features = net(values, mask)
            loss = (features - torch.linspace(-1, 1, features.shape[1])).square().mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            mine.append(loss.item())
        losses.append(mine)
    assert losses[0] == pytest.approx(losses[1], rel=1e-10)
    assert losses[0][-1] < losses[0][0]


def test_attention_of_each_sequence_is_that_of_pytorch():
    torch.manual_seed(0)
    lengths, heads, width = (5, 1, 17), 2, 8
    entered = torch.randn(23, 3 * width, dtype=torch.float64, requires_grad=True)
    slope = torch.randn(23, width, dtype=torch.float64)
    parts = []
    for piece in entered.split(lengths):
        q, k, v = piece.view(len(piece), 3, heads, -1).permute(1, 2, 0, 3)
        mixed = functional.scaled_dot_product_attention(q, k, v)
        parts.append(mixed.transpose(0, 1).flatten(1))
    for made in (torch.cat(parts), packed.attend(entered, lengths, heads)):
        parts.append([made, *torch.autograd.grad(made, entered, slope)])
    for ours, theirs in zip(parts[-1], parts[-2], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("p", [0.0, 0.3])
def test_the_gradient_of_the_wide_layer_is_that_of_its_differences(p, compiled, monkeypatch):
    if not compiled:
        monkeypatch.setattr(packed.compiled, "dropout", lambda: None)
    draw = torch.Generator().manual_seed(1)
    shapes = ((4, 3), (5, 3), (5,), (3, 5), (3,))
    given = [torch.randn(s, generator=draw, dtype=torch.float64) for s in shapes]

    def layer(x, *weights):
        torch.manual_seed(2)
        return packed.feed_forward(x, weights[:2], weights[2:], p)

    assert torch.autograd.gradcheck(layer, [g.requires_grad_() for g in given])
    if p == 0:
        x, w, b, v, c = given
        plain = functional.linear(functional.gelu(functional.linear(x, w, b)), v, c)
        torch.testing.assert_close(layer(*given), plain, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("compiled", [True, False])
def test_dropout_without_stored_decisions_keeps_the_right_part_and_is_repeated(
    compiled, monkeypatch
):
    if not compiled:
        monkeypatch.setattr(packed.compiled, "dropout", lambda: None)
    count, p = 300_001, 0.2451
    x = torch.ones(count, requires_grad=True)
    found = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        found.append(packed.drop(x, p))
    assert torch.equal(found[0], found[1])
    kept = [(y.detach() > 0).double() for y in (found[0], found[2])]
    most = 6 / count**0.5  # six standard deviations of a correlation of independent decisions
    for one in kept:
        assert abs(one.mean() - (1 - p)) < most * (p * (1 - p)) ** 0.5
        for apart in (1, 2, 128, 512):
            pair = torch.stack([one[apart:], one[:-apart]])
            assert abs(torch.corrcoef(pair)[0, 1]) < most
    assert abs(torch.corrcoef(torch.stack(kept))[0, 1]) < most
    torch.testing.assert_close(found[0].max().item(), 1 / (1 - p))
    found[0].sum().backward()
    assert torch.equal(x.grad, found[0])
    assert packed.drop(x, 0.0) is x
