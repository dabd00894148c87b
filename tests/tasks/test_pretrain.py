"""Self-supervised pre-training: MoCo, the autoencoder, and `mmclip pretrain`."""

import copy
import json
import math
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional

from mmclip import artifacts, plugins
from mmclip.cli import run
from mmclip.encoders import EncoderConfig
from mmclip.errors import INTERRUPTED, USAGE
from mmclip.surveys import Fetched
from mmclip.surveys.demo import table
from mmclip.tasks import pretrain
from mmclip.tasks.pretrain import open_encoder
from mmclip.tasks.pretrain.autoencoder import (
    Autoencoder,
    Speculator,
    consistency,
    rest_grid,
    similarity,
)
from mmclip.tasks.pretrain.moco import MoCo, look
from tests.cli.test_cli import ask
from tests.conftest import fetch_made, made_stars
from tests.interruption import interrupted
from tests.tiny_image import SIZE


class Plain(nn.Module):
    """Features are the flattened values, times a matrix."""

    def __init__(self, length, width):
        super().__init__()
        self.matrix = nn.Linear(length, width)

    def forward(self, values, mask):
        return self.matrix(torch.where(mask, values, 0.0).flatten(1))


WHO = torch.arange(8)


def batch(count=8, length=12, seed=0):
    torch.manual_seed(seed)
    return torch.randn(count, length), torch.ones(count, length, dtype=torch.bool)


def test_keys_that_say_nothing_cost_the_logarithm_of_their_number():
    model = MoCo(Plain(12, 6), 6, keys=31)
    for module in (model.head[-1], model.key_head[-1]):
        nn.init.zeros_(module.weight)
        nn.init.ones_(module.bias)
    model.queue.copy_(functional.normalize(torch.ones_like(model.queue), dim=1))
    x = batch()
    assert model.loss(x, x, WHO).item() == pytest.approx(math.log(1 + 31), rel=1e-5)


def test_the_loss_is_infonce_over_the_queue():
    torch.manual_seed(4)
    model = MoCo(Plain(12, 6), 6, keys=16, temperature=0.5).eval()
    first, second = batch(seed=1), batch(seed=2)
    queue = model.queue.clone()
    found = model.loss(first, second, WHO, parts=1).item()
    with torch.no_grad():
        q = functional.normalize(model.head(model.encoder(*first)), dim=1).numpy()
        k = functional.normalize(model.key_head(model.key_encoder(*second)), dim=1).numpy()
    logits = np.concatenate([(q * k).sum(1, keepdims=True), q @ queue.numpy().T], 1) / 0.5
    expected = np.mean(np.log(np.exp(logits).sum(1)) - logits[:, 0])
    assert found == pytest.approx(expected, rel=1e-5)
    np.testing.assert_allclose(model.queue[:8].numpy(), k, atol=1e-6)  # each key in its own row
    np.testing.assert_array_equal(model.queue[8:].numpy(), queue[8:].numpy())
    assert int(model.pointer) == 8


def test_the_queue_forgets_the_oldest_and_wraps_around():
    model = MoCo(Plain(12, 6), 6, keys=12)
    for seed in range(2):
        model.loss(batch(seed=seed), batch(seed=seed), WHO)
    assert int(model.pointer) == 4


def test_an_objects_own_old_key_is_no_negative_of_it():
    torch.manual_seed(6)
    model = MoCo(Plain(12, 6), 6, keys=8, momentum=1.0)
    x = batch()
    model.loss(x, x, WHO, parts=1)  # now the queue holds each object's own key alone
    alone = MoCo(Plain(12, 6), 6, keys=8)
    alone.load_state_dict(model.state_dict())
    alone.owners.fill_(-1)
    own, foreign = model.loss(x, x, WHO, parts=1), alone.loss(x, x, WHO, parts=1)
    # The positive is in the queue a second time for `alone`: e^s / (2 e^s + rest).
    with torch.no_grad():
        q = functional.normalize(model.head(model.encoder(*x)), dim=1)
        s = torch.exp(q @ q.T / 0.2)
    positive, total = s.diagonal(), s.sum(1)
    torch.testing.assert_close(own, (total.log() - positive.log()).mean(), rtol=1e-4, atol=1e-5)
    expected = ((total + positive).log() - positive.log()).mean()
    torch.testing.assert_close(foreign, expected, rtol=1e-4, atol=1e-5)


def test_the_key_encoder_follows_by_its_momentum_and_gets_no_gradient():
    model = MoCo(Plain(12, 6), 6, keys=8, momentum=0.75)
    before = copy.deepcopy(model.key_encoder.matrix.weight)
    with torch.no_grad():
        model.encoder.matrix.weight.add_(1.0)
    model.loss(batch(), batch(seed=3), WHO).backward()
    torch.testing.assert_close(model.key_encoder.matrix.weight, before + 0.25)
    assert all(p.grad is None for p in model.key_encoder.parameters())
    assert model.encoder.matrix.weight.grad.any()


@pytest.mark.parametrize("size", [(40,), (30, 5), (3, 20, 20), (1, 17, 23)])
def test_a_look_keeps_shape_and_masks_and_differs_each_time(size):
    torch.manual_seed(0)
    x, mask = torch.rand(6, *size), torch.rand(6, *size) > 0.1
    torch.manual_seed(1)
    first, seen = look(torch.where(mask, x, 0.0), mask)
    assert first.shape == seen.shape == (6, *size)
    assert torch.isfinite(first).all()
    assert not first[~seen].any()
    assert seen.flatten(1).any(1).all()
    second, _ = look(torch.where(mask, x, 0.0), mask)
    assert not torch.equal(first, second)
    torch.manual_seed(1)
    again, _ = look(torch.where(mask, x, 0.0), mask)
    assert torch.equal(first, again)


def test_a_round_galaxy_stays_in_the_middle_whatever_the_turn():
    y, x = torch.meshgrid(torch.arange(41.0), torch.arange(41.0), indexing="ij")
    galaxy = torch.exp(-((x - 20) ** 2 + (y - 20) ** 2) / 50)[None, None].repeat(64, 3, 1, 1)
    torch.manual_seed(2)
    seen, _ = look(galaxy, torch.ones_like(galaxy, dtype=torch.bool))
    weight = seen.mean(1).clamp(min=0.2) - 0.2
    centre = [(weight * c).sum((1, 2)) / weight.sum((1, 2)) for c in (x, y)]
    off = torch.hypot(centre[0] - 20, centre[1] - 20)
    assert off.max() < 0.14 * 20.5 * 1.5 * 1.2  # the largest shift, along the diagonal
    assert off.median() > 0.1  # it is shifted at all


@pytest.mark.parametrize("size", [(311,), (200, 9), (3, 32, 32), (5, 64, 48)])
def test_the_small_residual_network_reads_every_shape(size):
    net = plugins.load("encoders", "resnet", "ENCODER").build(size, EncoderConfig(width=24))
    x, mask = torch.randn(3, *size), torch.rand(3, *size) > 0.2
    whole = net(x, mask)
    assert whole.shape == (3, 24)
    torch.testing.assert_close(whole[1:2], net(x[1:2], mask[1:2]), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(whole, net(torch.where(mask, x, 1e6), mask))


def test_the_activation_is_linear_for_gamma_one_and_half_for_gamma_and_beta_zero():
    it, x = Speculator(3), torch.linspace(-2, 2, 3)
    with torch.no_grad():
        it.gamma.fill_(1.0)
    torch.testing.assert_close(it(x), x)
    with torch.no_grad():
        it.gamma.zero_()
        it.beta.zero_()
    torch.testing.assert_close(it(x), x / 2)


def coder(z_max=0.5, length=200):
    axis = np.geomspace(400.0, 800.0, length)
    torch.manual_seed(0)
    return Autoencoder(Plain(length, 8), 8, 2, rest_grid(axis, z_max, length)), axis


def test_a_line_at_rest_is_observed_at_its_redshifted_wavelength():
    model, axis = coder()
    rest = np.exp(model.rest.start + model.rest.step * np.arange(model.rest.pixels))
    assert rest[0] <= 400 / 1.5 * 1.0001
    line = torch.from_numpy(np.exp(-0.5 * ((rest - 450) / 3) ** 2))[None].repeat(3, 1)
    redshift = torch.tensor([0.0, 0.2, 0.5])
    found = model.observe(line, redshift).numpy()
    np.testing.assert_allclose(axis[found.argmax(1)], 450 * (1 + redshift.numpy()), rtol=3e-3)


def test_a_spectrum_moved_to_another_redshift_has_its_lines_there():
    model, axis = coder()
    z = torch.full((50,), 0.2)
    x = torch.from_numpy(np.exp(-0.5 * ((axis - 480 * 1.2) / 4) ** 2)).float().repeat(50, 1)
    seen, sure = torch.ones_like(x, dtype=torch.bool), torch.full_like(x, 1e6)
    still, there = model.moved(x, seen, sure, torch.zeros(50), 1e-9)
    torch.testing.assert_close(still, x, rtol=0, atol=5e-3)
    assert there.float().mean() > 0.98
    moved, there = model.moved(x, seen, sure, z, 0.5)
    found = axis[moved.argmax(1).numpy()] / 480 - 1
    assert found.min() >= -0.01
    assert found.max() <= 0.51
    assert found.std() > 0.1  # uniform in 0 to 0.5: 0.144
    assert not moved[~there].any()


def test_losses_of_perfect_agreement_are_what_the_formulas_say():
    latents = torch.randn(5, 6)
    assert consistency(latents, latents).item() == 0
    same = torch.zeros(5, 6)
    expected = 2 / (1 + math.exp(2.5))
    assert similarity(same, torch.zeros(5, 9)).item() == pytest.approx(expected, rel=1e-5)
    apart = similarity(torch.randn(5, 6) * 30, torch.zeros(5, 9)).item()
    assert apart > 0.9  # far latents of equal spectra


def test_fidelity_is_half_the_weighted_chi_square_a_pixel():
    model, _ = coder(z_max=0.0)
    x, mask = batch(4, 200)
    weight = torch.rand(4, 200) * mask
    weight[:, 150:] = 0
    parts = model.losses(x, mask, weight, torch.zeros(4), 0.0)
    with torch.no_grad():
        guess = model.decode(model.encode(x, mask))
    chi = (weight * (x - guess).square()).sum(1) / 150
    assert parts["fidelity"].item() == pytest.approx(0.5 * chi.mean().item(), rel=1e-5)


def made_galaxies(count=300, seed=5):
    """Round and edge-on galaxies at any place, angle, brightness and colour; a Fetched."""
    rng = np.random.default_rng(seed)
    thin = rng.random(count) < 0.5
    angle, bright = rng.uniform(0, np.pi, count), rng.uniform(0.3, 1, count)
    images = []
    for a, t, b in zip(angle, thin, bright, strict=True):
        y, x = np.mgrid[:24, :24] - rng.uniform(8, 15, (2, 1, 1))
        u, v = x * np.cos(a) + y * np.sin(a), -x * np.sin(a) + y * np.cos(a)
        light = b * np.exp(-((u / 6) ** 2) - (v / (1.5 if t else 4)) ** 2)
        images.append(light * rng.uniform(0.5, 1, (3, 1, 1)) + 0.1 * rng.normal(size=SIZE))
    ids = np.sort(rng.choice(2**50, count, replace=False).astype(np.int64) * 6000 + 7)
    flat = np.stack(images).reshape(count, -1).astype("f4")
    ra, dec = rng.uniform(0, 360, count), rng.uniform(-60, 60, count)
    objects = {"source_id": ids, "ra": ra, "dec": dec,
               "class": np.where(thin, "edge-on", "round")}  # fmt: skip
    tables = {
        "objects": table(objects),
        "tiny_image": table({"source_id": ids, "image": flat}),
    }
    return Fetched(tables, {"tiny_image": "observed"})


@pytest.fixture(scope="module")
def galaxies(tmp_path_factory):
    """A workspace with pictures of made galaxies, and one with spectra of made stars."""
    root = tmp_path_factory.mktemp("galaxies")
    fetch_made(root, made_galaxies(), "galaxies")
    assert run(["preprocess", "--raw", "galaxies", "--name", "galaxies", "--modalities",
                "tests.tiny_image", "-w", str(root)]) == 0  # fmt: skip
    fetch_made(root, made_stars(150), "stars")
    assert run(["preprocess", "--raw", "stars", "--name", "stars", "-w", str(root)]) == 0
    return root


def moco(root, *more, epochs=12):
    return ["pretrain", "--modality", "tiny_image", "--data", "galaxies", "--epochs", epochs,
            "--batch", 30, "--force", "--name", "looks", "-w", root, *more]  # fmt: skip


def test_moco_tells_shapes_apart_better_than_pixels_do(galaxies, capsys):
    code, out, err = ask(capsys, *moco(galaxies, "--probe", "class", "-k", 5, "--json", epochs=10))
    assert code == 0, err
    rows = {json.loads(x)["features"]: json.loads(x) for x in out.splitlines()}
    assert set(rows) == {"raw tiny_image", "untrained encoder", "moco encoder"}
    assert rows["moco encoder"]["accuracy"] > rows["raw tiny_image"]["accuracy"] + 0.1
    place = galaxies / "encoders" / "looks"
    artifacts.verify(artifacts.read(place))
    losses = [json.loads(x)["loss"] for x in (place / "metrics.jsonl").read_text().splitlines()]
    assert losses[-1] < math.log(1 + 210)  # of vectors that say nothing, among 210 keys or more
    shutil.rmtree(place)


def test_an_interrupted_pretraining_ends_in_the_same_weights(galaxies, capsys, monkeypatch):
    file = galaxies / "encoders" / "looks" / "encoder.safetensors"
    asked = moco(galaxies, "--encoder", "mlp", epochs=2)
    assert ask(capsys, *asked)[0] == 0
    whole = load_file(file)
    shutil.rmtree(file.parent)
    steps = interrupted(monkeypatch, 7)
    assert ask(capsys, *asked)[0] == INTERRUPTED
    assert not file.exists()
    before = len(steps)
    assert ask(capsys, *asked)[0] == 0
    lines = (file.parent / "metrics.jsonl").read_text().splitlines()
    assert len(steps) - before == json.loads(lines[-1])["step"] - 6  # none was done twice
    again = load_file(file)
    assert all(torch.equal(again[k], v) for k, v in whole.items())
    shutil.rmtree(file.parent)


def test_the_autoencoder_learns_spectra_and_its_encoder_can_be_opened(galaxies, capsys):
    code, out, err = ask(
        capsys, "pretrain", "--modality", "xp", "--method", "autoencoder", "--encoder", "cnn",
        "--data", "stars", "--epochs", 15, "--probe", "teff", "--json", "-w", galaxies,
    )  # fmt: skip
    assert code == 0, err
    rows = {json.loads(x)["features"]: json.loads(x) for x in out.splitlines()}
    assert rows["autoencoder encoder"]["R2"] > 0.8
    place = galaxies / "encoders" / "xp-autoencoder"
    entries = [json.loads(x)["loss"] for x in (place / "metrics.jsonl").read_text().splitlines()]
    assert entries[-1] < 0.5 * entries[0]
    encoder, settings = open_encoder(artifacts.read(place))
    assert settings.method == "autoencoder"
    names = set(load_file(place / "encoder.safetensors"))
    assert names == set(encoder.state_dict())  # the encoder's own names: train can load them
    assert pq.read_table(galaxies / "data" / "stars" / "objects.parquet").num_rows == 150


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (("--method", "byol"), "method = 'byol' is not known"),
        (("--modality", "xp"), "holds no xp"),
        (("--encoder", "resnett"), "no encoder 'resnett'"),
        (("--probe", "clas", "--name", "z", "--epochs", "1"), "no column 'clas'"),
    ],
)
def test_bad_input_gets_one_clear_sentence(galaxies, capsys, more, says):
    code, _, err = ask(capsys, *moco(galaxies, *more))
    assert code == USAGE
    assert says in err
    assert "try:" in err


def test_galaxies_are_drawn_as_pictures_over_spectra(galaxies):
    from mmclip import plots
    from mmclip.datasets.build import open_dataset
    from mmclip.datasets.objects import portraits

    data = open_dataset(artifacts.read(galaxies / "data" / "galaxies"))
    ids = [int(i) for i in data.source_id[:3]]
    found = portraits(data, None, ids, "tiny_image")
    assert [p.source_id for p in found] == ids
    assert {p.kind for p in found} == {"image"}
    row = data.views["tiny_image"].values[0].reshape(SIZE)
    assert found[0].y.shape == (24, 24, 3)
    assert 0 <= found[0].y.min() < found[0].y.max() <= 1
    # Brighter in the data is brighter on the screen, pixel by pixel and colour by colour.
    order = np.corrcoef(found[0].y.transpose(2, 0, 1).ravel(), row.ravel())[0, 1]
    assert order > 0.7
    stars = open_dataset(artifacts.read(galaxies / "data" / "stars"))
    spectrum = portraits(stars, None, [int(stars.source_id[0])], "xp")[0]
    figure = plots.strips_figure([[(found[0], spectrum, "query"), (found[1], None, "cos 0.9")]])
    drawn = [axes for axes in figure.axes if axes.images or axes.lines]
    assert len(drawn) == 3  # two pictures, one spectrum
    assert plots.png_bytes(figure)[:4] == b"\x89PNG"


def test_a_pretraining_that_does_not_help_says_so():
    def rows(*values, score="accuracy"):
        names = ("raw image", "untrained encoder", "moco encoder")
        return [{"features": n, score: v} for n, v in zip(names, values, strict=True)]

    assert pretrain.verdict(rows(0.62, 0.55, 0.70)) == ""
    said = pretrain.verdict(rows(0.62, 0.55, 0.58))
    assert said.startswith("warning: the pre-training did not help: accuracy 0.580")
    assert "raw image (0.620)" in said
    assert "untrained" not in said
    assert "untrained encoder (0.300)" in pretrain.verdict(rows(0.1, 0.3, 0.3, score="R2"))
