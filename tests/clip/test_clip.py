"""The loss against mathematics; the loop against itself interrupted."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from mmclip import artifacts, papers
from mmclip.cli import run
from mmclip.clip.loss import clip_loss, gaussian_loss
from mmclip.clip.model import ClipModel, Shape
from mmclip.clip.objective import Objective, alignment_loss, embed_batch
from mmclip.clip.settings import TrainConfig, sizes_shape
from mmclip.encoders import EncoderConfig
from mmclip.training import checkpoint
from tests.conftest import fetch_made, made_stars


@pytest.mark.parametrize("stars", [2, 7, 64])
def test_vectors_without_information_cost_log_of_the_batch(stars):
    same = normalize(torch.ones(stars, 8), dim=-1)
    assert clip_loss(same, same, torch.tensor(2.0)).item() == pytest.approx(math.log(stars))
    both = clip_loss(same, same, torch.tensor(2.0), "sum").item()
    assert both == pytest.approx(2 * math.log(stars))


def test_the_loss_equals_its_definition_in_float64():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 9, 5))
    a /= np.linalg.norm(a, axis=1, keepdims=True)
    b /= np.linalg.norm(b, axis=1, keepdims=True)
    p = np.exp(10 * a @ b.T)
    rows = -np.log(np.diag(p) / p.sum(1)).mean()
    columns = -np.log(np.diag(p) / p.sum(0)).mean()
    found = clip_loss(torch.tensor(a), torch.tensor(b), torch.tensor(10.0)).item()
    assert found == pytest.approx((rows + columns) / 2, rel=1e-5)


def test_the_order_of_the_stars_does_not_matter():
    torch.manual_seed(0)
    a, b = normalize(torch.randn(2, 30, 8), dim=-1)
    order = torch.randperm(30)
    one, two = (clip_loss(x, y, torch.tensor(7.0)) for x, y in ((a, b), (a[order], b[order])))
    assert one.item() == pytest.approx(two.item(), rel=1e-5)


def test_the_gaussian_loss_is_least_at_the_true_variance():
    torch.manual_seed(0)
    values = 3.0 * torch.randn(20000, 1)
    mask = torch.ones_like(values, dtype=torch.bool)
    losses = [
        gaussian_loss(torch.zeros_like(values), torch.full_like(values, lv), values, mask).item()
        for lv in (math.log(9) - 0.3, math.log(9), math.log(9) + 0.3)
    ]
    assert min(losses) == losses[1]


def small(names=("a", "b", "c"), private=0):
    torch.manual_seed(0)
    sizes = dict.fromkeys(names, (6,))
    shape = Shape(sizes, dict.fromkeys(names, "mlp"), 8, EncoderConfig(16, 1, 0.0), 10.0,
                  private=private)  # fmt: skip
    return ClipModel(shape).eval()


def test_what_is_private_is_at_right_angles_to_every_other_view():
    model = small(private=2)
    assert model.shape.shared == 8 - 3 * 2
    full = torch.ones(5, 6, dtype=torch.bool)
    vectors = {n: model.embed(n, torch.randn(5, 6), full).detach() for n in "abc"}
    for i, (n, v) in enumerate(vectors.items()):
        torch.testing.assert_close(v.norm(dim=1), torch.ones(5))
        torch.testing.assert_close(v[:, :2].norm(dim=1) ** 2, torch.full((5,), 0.5))
        own = v[:, 2 + 2 * i : 4 + 2 * i]
        torch.testing.assert_close(own.norm(dim=1) ** 2, torch.full((5,), 0.5))
        for other in set("abc") - {n}:
            cosine = v @ vectors[other].T
            torch.testing.assert_close(cosine, v[:, :2] @ vectors[other][:, :2].T)
            assert cosine.abs().max() <= 0.5 + 1e-6


def test_contrast_is_of_the_shared_parts_as_if_they_were_all():
    model = small(("a", "b"), private=2)
    batch = {n: (torch.randn(7, 6), torch.ones(7, 6, dtype=torch.bool)) for n in "ab"}
    a, b = (normalize(model.embed(n, *batch[n])[:, :4], dim=1) for n in "ab")
    expected = clip_loss(a, b, torch.tensor(10.0)).item()
    assert loss_parts(model, batch)["clip a-b"] == pytest.approx(expected, rel=1e-5)


def test_each_view_gets_its_share_of_a_vector_where_there_are_two():
    settings = TrainConfig(dimension=90, private=0.5)
    sizes = {"xp": (12,), "metadata": (4,), "rvs": (60,)}
    made = sizes_shape(sizes, settings)
    assert (made.private, made.shared) == (15, 45)
    assert sizes_shape({"xp": (12,)}, settings).private == 0
    assert sizes_shape(sizes, replace(settings, private=0.0)).shared == 90


@pytest.mark.parametrize("name", ["astroclip", "astrom3", "schwarz2024", "vrakkis"])
def test_the_papers_share_all_of_a_vector(name):
    assert papers.settings(name, "train")["private"] == 0


def loss_parts(model, batch):
    _, parts = alignment_loss(model, embed_batch(model, batch), batch, Objective())
    return {n: p.item() for n, p in parts.items()}


def test_a_star_without_a_view_takes_part_in_the_pairs_it_has():
    model = small()
    values = {n: torch.randn(10, 6) for n in "abc"}
    full = torch.ones(10, 6, dtype=torch.bool)
    lacking = full.clone()
    lacking[4:] = False
    batch = {"a": (values["a"], full), "b": (values["b"], full), "c": (values["c"], lacking)}
    parts = loss_parts(model, batch)
    cut = {n: (v[:4], m[:4]) for n, (v, m) in batch.items()}
    assert parts["clip a-c"] == pytest.approx(loss_parts(model, cut)["clip a-c"], rel=1e-5)
    pair = {n: batch[n] for n in "ab"}
    assert parts["clip a-b"] == pytest.approx(loss_parts(model, pair)["clip a-b"], rel=1e-5)


def twin_parts(model, batch, twin, weight=0.5):
    vectors, twins = embed_batch(model, batch), embed_batch(model, twin)
    _, parts = alignment_loss(model, vectors, batch, Objective(self_contrast=weight), twins)
    return {n: p.item() for n, p in parts.items()}


def test_a_twin_is_told_apart_by_the_loss_of_its_own_view_alone():
    model = small(("a", "b"))
    batch = {n: (torch.randn(5, 6), torch.ones(5, 6, dtype=torch.bool)) for n in "ab"}
    without = loss_parts(model, batch)
    parts = twin_parts(model, batch, {"a": batch["a"]})
    vectors = model.embed("a", *batch["a"]).detach().double().numpy()
    logits = 10.0 * vectors @ vectors.T
    expected = np.mean(np.log(np.exp(logits).sum(axis=1)) - np.diag(logits))
    assert parts["self a"] == pytest.approx(expected, rel=1e-5)
    assert parts["loss"] == pytest.approx(without["loss"] + 0.5 * expected, rel=1e-5)
    assert "self b" not in parts


def test_a_star_without_the_view_has_no_twin():
    model = small(("a", "b"))
    batch = {n: (torch.randn(6, 6), torch.ones(6, 6, dtype=torch.bool)) for n in "ab"}
    batch["a"][1][4:] = False
    four = {n: (v[:4], m[:4]) for n, (v, m) in batch.items()}
    whole, cut = (
        twin_parts(model, batch, {"a": batch["a"]}),
        twin_parts(model, four, {"a": four["a"]}),
    )
    assert whole["self a"] == pytest.approx(cut["self a"], rel=1e-5)


def test_scales_are_held_between_1_and_100():
    model = small(("a", "b"))
    with torch.no_grad():
        model.log_scales["a__b"].fill_(50.0)
    model.clamp_scales()
    assert model.log_scales["a__b"].exp().item() == pytest.approx(100.0, rel=1e-5)


def test_a_checkpoint_gives_back_equal_tensors_in_memory_like_that_of_new_ones(tmp_path):
    made = {f"t{n}": torch.randn(n) for n in range(1, 30)}
    checkpoint.write(tmp_path, 7, made, {"best": None})
    body, found = checkpoint.read(tmp_path)
    assert body["step"] == 7
    assert all(torch.equal(found[k], v) for k, v in made.items())
    # PyTorch begins every tensor of its own on a border of 64 bytes.
    assert {t.data_ptr() % 64 for t in made.values()} == {0}
    assert {t.data_ptr() % 64 for t in found.values()} == {0}


def weights(root, name):
    return artifacts.sha256(root / "runs" / name / "model.safetensors")


@pytest.mark.slow
def test_a_training_killed_at_any_moment_ends_with_the_same_weights(forks, tmp_path):
    fetch_made(tmp_path, made_stars(300))
    w = ["--workspace", str(tmp_path)]
    assert run(["preprocess", *w]) == 0
    toml = tmp_path / "t.toml"
    toml.write_text(
        "[train]\nepochs = 12\ngenerator_epochs = 6\nbatch = 64\nwidth = 64\ndimension = 16\n"
        "checkpoint_seconds = 0.0\n"
    )
    command = ["train", "--config", str(toml), *w]
    whole = forks.run(*command, "--name", "whole")
    assert whole.code == 0, whole.err
    cut = tmp_path / "runs" / "cut"
    forks.killed([*command, "--name", "cut"], cut, (0.0, 0.15, 0.4, 0.8))
    assert weights(tmp_path, "cut") == weights(tmp_path, "whole")


def test_a_run_says_what_it_was_made_of(trained):
    made = artifacts.read(next((trained / "runs").glob("metadata-xp")))
    assert made.manifest.config["epochs"] == 8
    assert made.manifest.parents[0]["kind"] == "data"
    lines = (made.path / "metrics.jsonl").read_text().splitlines()
    entries = [json.loads(line) for line in lines]
    aligned = [e["loss"] for e in entries if e["stage"] == "align"]
    assert aligned[-1] < aligned[0]
