"""Pre-training by hidden chunks of spectra: what is hidden, what counts, what is learnt."""

import json

import pytest
import torch

from mmclip import plugins
from mmclip.artifacts.workspace import Workspace
from mmclip.encoders import EncoderConfig
from mmclip.errors import UsageError
from mmclip.tasks.pretrain import as_run, open_encoder
from mmclip.tasks.pretrain.masked import Masked, hide
from tests.cli.test_cli import ask
from tests.conftest import fetch_made, made_stars

SMALL = {"features": 32, "heads": 4, "layers": 2}


def encoder(size, name="spectrum-transformer", options=SMALL):
    torch.manual_seed(0)
    config = EncoderConfig(32, 1, 0.0, options)
    return plugins.load("encoders", name, "ENCODER").build(size, config)


def test_the_chunks_are_those_of_the_papers():
    torch.manual_seed(0)
    # AstroCLIP: 7781 pixels in 777 patches, 6 chunks of about 50; LAMOST: 146, 6 of 10.
    for tokens, length in ((777, 52), (146, 10)):
        found = hide(200, tokens, 6, 0.4)
        assert found.shape == (200, tokens)
        assert found.sum(1).max() <= 6 * length
        one = hide(200, tokens, 1, 0.4 / 6)
        assert (one.sum(1) == length).all()
        # Runs: one rise and one fall.
        assert ((one[:, 1:].int() - one[:, :-1].int()) == 1).sum(1).max() <= 1


def test_a_hidden_pixel_does_not_reach_the_network_and_an_unobserved_one_not_the_loss():
    net = Masked(encoder((400,))).eval()
    x, mask = torch.randn(4, 400), torch.ones(4, 400, dtype=torch.bool)
    hidden = torch.zeros(4, net.encoder.stack.places.shape[1] - 1, dtype=torch.bool)
    hidden[:, 10:14] = True  # pixels 100 to 150
    tokens, _, _ = net.encoder.tokens(x, mask, hidden)
    changed = x.clone()
    # Two pixels exchanged: mean and deviation stay; both lie in hidden patches alone.
    changed[:, [118, 122]] = x[:, [122, 118]]
    again, _, patches = net.encoder.tokens(changed, mask, hidden)
    torch.testing.assert_close(tokens, again)
    assert not torch.equal(patches, net.encoder.tokens(x, mask, hidden)[2])
    mask[:, 200:] = False
    torch.manual_seed(5)
    one = net.loss(x, mask)
    x[:, 200:] = 1e6
    torch.manual_seed(5)
    torch.testing.assert_close(net.loss(x, mask), one)


def test_lines_of_one_family_are_rebuilt_from_the_rest_of_the_spectrum():
    """Every spectrum is a phase of one wave: what is hidden follows from what is shown."""
    torch.manual_seed(0)
    phase = 6.28 * torch.rand(256, 1)
    x = torch.sin(torch.linspace(0, 12.6, 200) + phase)
    mask = torch.ones_like(x, dtype=torch.bool)
    net = Masked(encoder((200,)))
    optimiser = torch.optim.Adam(net.parameters(), 3e-3)
    losses = []
    for _ in range(150):
        rows = torch.randint(256, (64,))
        loss = net.loss(x[rows], mask[rows])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[0] > 0.8  # nothing is known: 1
    assert sum(losses[-10:]) / 10 < 0.1


def test_an_encoder_is_pretrained_and_stands_in_front_of_a_label_network(tmp_path, capsys):
    where = ("-w", tmp_path)
    fetch_made(tmp_path, made_stars(120), "made")
    assert ask(capsys, "preprocess", "--name", "made", *where)[0] == 0
    masked = ("pretrain", "--method", "masked", "--modality", "xp", "--epochs", "1", *where)
    code, _, err = ask(capsys, *masked, "--name", "hidden", "--probe", "teff")
    assert code == 0, err
    artifact = Workspace(tmp_path).get("encoder", "hidden")
    made, run = open_encoder(artifact)[0], as_run(artifact)
    x = torch.randn(3, *run.shape.sizes["xp"])
    mask = torch.ones_like(x, dtype=torch.bool)
    with torch.no_grad():
        expected = torch.nn.functional.normalize(made(x, mask), dim=1)
        torch.testing.assert_close(run.model.embed("xp", x, mask), expected)
    code, out, err = ask(
        capsys, "adapt", "--from", "hidden", "--data", "made", "--target", "teff", "--method",
        "zero-shot", "--sizes", "0", "--seeds", "1", "--json", *where,
    )  # fmt: skip
    assert code == 0, err
    assert any(json.loads(line)["method"] == "zero-shot" for line in out.splitlines())
    code, _, err = ask(capsys, *masked, "--encoder", "mlp", "--name", "no")
    assert code == 2
    assert "--encoder spectrum-transformer" in err


def test_another_encoder_is_refused():
    with pytest.raises(UsageError, match="spectrum-transformer alone"):
        Masked(encoder((200,), "cnn", {}))
