"""Optimisers and schedules against other implementations; presets; the loop on made data."""

import contextlib
import json
import math
import os
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from mmclip import artifacts, papers
from mmclip.cli import run
from mmclip.clip.model import ClipModel
from mmclip.clip.settings import TrainConfig, model_shape, resolve_settings
from mmclip.config import assignments, resolve, to_toml
from mmclip.datasets.build import View
from mmclip.errors import NotFound, UsageError
from mmclip.modalities import Statistics
from mmclip.training import precision
from mmclip.training.augment import augment
from mmclip.training.batches import Batches
from mmclip.training.distributed import Group
from mmclip.training.optimisers import Lamb, make
from mmclip.training.schedule import Plan, cosine, plateau, restarts, stopped
from tests.conftest import fetch_made, made_stars


def plain_lamb(w, gradients, rate, first, second, epsilon, decay):
    """LAMB of arXiv:1904.00962, algorithm 2, with bias correction, on one tensor in float64."""
    m, v = np.zeros_like(w), np.zeros_like(w)
    for t, g in enumerate(gradients, 1):
        m = first * m + (1 - first) * g
        v = second * v + (1 - second) * g**2
        r = (m / (1 - first**t)) / (np.sqrt(v / (1 - second**t)) + epsilon) + decay * w
        size, length = np.sqrt((w**2).sum()), np.sqrt((r**2).sum())
        phi = size / length if size > 0 and length > 0 else 1.0
        w = w - rate * phi * r
        yield w


def test_lamb_is_step_for_step_an_independent_implementation():
    rng = np.random.default_rng(0)
    starts = [rng.normal(size=(5, 3)), np.zeros(4), rng.normal(size=())]
    gradients = [[rng.normal(size=s.shape) for _ in range(12)] for s in starts]
    gradients[2][3] = np.zeros(())
    parameters = [torch.nn.Parameter(torch.tensor(s)) for s in starts]
    optimiser = Lamb(parameters, lr=0.01, betas=(0.9, 0.999), eps=1e-6, weight_decay=5e-5)
    truths = [
        list(plain_lamb(s, g, 0.01, 0.9, 0.999, 1e-6, 5e-5))
        for s, g in zip(starts, gradients, strict=True)
    ]
    for step in range(12):
        for parameter, given in zip(parameters, gradients, strict=True):
            parameter.grad = torch.tensor(given[step])
        optimiser.step()
        for parameter, truth in zip(parameters, truths, strict=True):
            np.testing.assert_allclose(parameter.detach().numpy(), truth[step], rtol=1e-12)


def test_adam_adds_the_decay_to_the_gradient_and_adamw_does_not():
    moved = {}
    for kind in ("adam", "adamw"):
        weight = torch.nn.Parameter(torch.ones(2, 2))
        optimiser = make(kind, [weight], weight_decay=0.5)
        optimiser.param_groups[0]["lr"] = 0.1
        weight.grad = torch.zeros(2, 2)
        optimiser.step()
        moved[kind] = 1 - weight[0, 0].item()
    # Coupled: a gradient of 0.5, normalised to 1, times the rate. Decoupled: rate x decay x w.
    assert moved["adam"] == pytest.approx(0.1, rel=1e-4)
    assert moved["adamw"] == pytest.approx(0.05, rel=1e-4)


def test_decay_spares_biases_unless_told_and_frozen_weights_are_left_out():
    matrix, bias, frozen = (torch.nn.Parameter(torch.ones(s)) for s in ((2, 2), (2,), (3, 3)))
    frozen.requires_grad_(False)
    groups = make("adamw", [matrix, bias, frozen], 0.1).param_groups
    assert [(len(g["params"]), g["weight_decay"]) for g in groups] == [(1, 0.1), (1, 0.0)]
    groups = make("lamb", [matrix, bias, frozen], 0.1, decay_all=True).param_groups
    assert [(len(g["params"]), g["weight_decay"]) for g in groups] == [(2, 0.1)]


def test_the_cosine_warms_up_peaks_once_and_ends_at_zero():
    plan = Plan(learning_rate=1.0, warm_up=0.1)
    rates = [cosine(s, 100, plan) for s in range(100)]
    assert max(rates) == 1.0
    assert rates[:10] == sorted(rates[:10])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] < 1e-3


def test_the_four_runs_of_schwarz_and_buck():
    """51 steps an epoch (841,300 // 16,384), 4 runs of 100 epochs, 10 cycles each, 1 % warm-up."""
    assert 841_300 // 16_384 == 51
    settings = resolve(TrainConfig, "train", None, {}, papers.settings("schwarz2024", "train"))
    steps = 400 * 51
    rates = np.array([cosine(s, steps, settings.plan()) for s in range(steps)])
    assert restarts(steps, settings.plan()) == [5100, 10200, 15300]
    by_cycle = rates.reshape(40, 510)
    peaks = by_cycle.max(1).reshape(4, 10)
    np.testing.assert_allclose(peaks, np.repeat([[5e-3], [5e-4], [5e-5], [5e-6]], 10, 1))
    assert (by_cycle[:, 0] == 0).all()
    assert (by_cycle.argmax(1) == 5).all()  # 1 % of 510 steps
    assert (by_cycle[:, -1] < 1e-4 * by_cycle.max(1)).all()


def test_the_plateau_gives_the_rates_of_pytorch():
    rng = np.random.default_rng(1)
    losses = np.concatenate([np.linspace(5, 3, 15), 3 + 0.01 * rng.normal(size=45)]).tolist()
    plan = Plan("plateau", 1e-2, warm_up_epochs=10, plateau_factor=0.3, plateau_patience=3)
    weight = torch.nn.Parameter(torch.ones(1))
    optimiser = torch.optim.Adam([weight], lr=1e-2)
    after = torch.optim.lr_scheduler.ReduceLROnPlateau(optimiser, "min", 0.3, patience=3)
    warm = torch.optim.lr_scheduler.LinearLR(optimiser, 1e-5, 1.0, 10)
    for epoch, loss in enumerate(losses):
        truth = optimiser.param_groups[0]["lr"]
        assert plateau(epoch, losses[:epoch], plan) == pytest.approx(truth, rel=1e-6), epoch
        optimiser.step()
        if epoch < 10:
            warm.step()
        else:
            after.step(loss)


def test_stopping_after_epochs_without_a_lower_loss():
    assert not stopped([3, 2, 1, 1, 1], 3)
    assert stopped([3, 2, 1, 1, 1, 1], 3)
    assert not stopped([1, 2, 3, 4], 0)
    # A counter that starts at 1 stops one epoch sooner if the first epoch was the best.
    assert stopped([1, 2, 2], 3, first=1)
    assert not stopped([1, 2, 2], 3)


def test_a_setting_is_flag_over_file_over_preset_over_default(tmp_path):
    file = tmp_path / "c.toml"
    file.write_text("[train]\nbatch = 99\nepochs = 7\n[train.views.spectra]\ndropout = 0.5\n")
    made = resolve_settings("astrom3", file, ["views.spectra.kernel=5"], {"epochs": 3})
    assert (made.epochs, made.batch, made.learning_rate) == (3, 99, 3.921e-3)
    assert made.views["spectra"]["dropout"] == 0.5
    assert made.views["spectra"]["kernel"] == 5
    assert made.views["spectra"]["encoder"] == "galspecnet"
    assert (made.seed, made.preset) == (42, "astrom3")
    again = tmp_path / "again.toml"
    again.write_text(to_toml("train", made))
    assert resolve_settings(None, again, [], {}) == made


def test_unknown_names_are_told_the_nearest():
    with pytest.raises(NotFound, match="did you mean 'astrom3'"):
        resolve_settings("astrom", None, [], {})
    with pytest.raises(UsageError, match="did you mean 'warm_up'"):
        resolve_settings(None, None, ["warmup=0.1"], {})
    with pytest.raises(UsageError, match="keep = 'best' is not known"):
        TrainConfig(keep="best")
    with pytest.raises(UsageError, match="'batch' sets nothing"):
        assignments(["batch"])


def test_settings_of_a_view_that_is_not_trained_are_refused():
    views = {"metadata": made_view((4,)), "xp": made_view((9,))}
    with pytest.raises(UsageError, match="did you mean 'xp'"):
        model_shape(views, TrainConfig(views={"xpp": {"encoder": "mlp"}}))
    assert model_shape(views, TrainConfig(views={"xp": {"width": 9}})).views["xp"].width == 9


def made_view(size, objects=24, errors=False, seed=0, missing=()):
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(objects, math.prod(size))).astype("f4")
    values[list(missing)] = np.nan
    length = values.shape[1]
    return View(
        values, np.full_like(values, 0.1) if errors else None,
        Statistics(np.zeros(length), np.ones(length), "none"), "observed", size,
    )  # fmt: skip


PUBLISHED = {
    "schwarz2024": {"rvs": (2401,), "xp_coefficients": (110,)},
    "astrom3": {"photometry": (200, 9), "spectra": (3, 2575), "metadata_astrom3": (34,)},
    "astroclip": {"image": (3, 152, 152), "spectra": (7781,)},
    "vrakkis": {"image": (3, 152, 152), "spectra": (7781,)},
}


def preset_model(name, **changes):
    settings = resolve(
        TrainConfig,
        "train",
        None,
        {"generator_epochs": 0, **changes},
        papers.settings(name, "train"),
    )
    views = {n: made_view(size, 4) for n, size in PUBLISHED[name].items()}
    return ClipModel(model_shape(views, settings))


def test_every_preset_is_tested():
    assert set(PUBLISHED) == set(papers.names("train"))


def test_astrom3_has_the_published_number_of_parameters():
    net = preset_model("astrom3")
    assert sum(p.numel() for p in net.parameters()) == 15_869_827
    right = preset_model(
        "astrom3", views={"photometry": {"attention": "full", "mask_padding": True}}
    )
    assert sum(p.numel() for p in right.parameters()) == 15_869_827


def test_the_heads_of_astroclip_are_what_is_trained():
    net = preset_model("vrakkis")
    trained = sum(p.numel() for p in net.encoders["image"].parameters() if p.requires_grad)
    assert trained == 4_458_624
    prelu = 3 * 256 + 128  # the published count is of the linear layers alone
    trained = sum(p.numel() for p in net.encoders["spectra"].parameters() if p.requires_grad)
    assert trained == 230_272 + prelu


def test_the_scales_of_astrom3_have_no_gradient_at_the_start_and_the_fixed_ones_never():
    from mmclip.clip.objective import Objective, backward

    torch.manual_seed(0)
    net = preset_model("astrom3")
    batch = {
        n: (torch.randn(3, math.prod(s)), torch.ones(3, math.prod(s), dtype=torch.bool))
        for n, s in PUBLISHED["astrom3"].items()
    }
    backward(net, batch, {}, Objective("sum", "sum"))
    assert all(p.grad.item() == 0.0 for p in net.log_scales.values())
    assert not any(p.requires_grad for p in preset_model("schwarz2024").log_scales.values())


def feed_of(resident, augmentations=None):
    views = {"a": made_view((6,), errors=True), "b": made_view((1, 4, 4), seed=1, missing=(3,))}
    return Batches(views, torch.device("cpu"), resident, augmentations)


def test_a_gathered_batch_is_the_resident_one_and_shares_make_the_whole():
    rows = np.array([3, 17, 5, 8])
    whole, twin = feed_of("yes").batch(rows, 1.0, 9, True)
    gathered = feed_of("no")
    gathered.prefetch(rows)
    again, _ = gathered.batch(rows, 1.0, 9, True)
    shares = [feed_of("yes").batch(rows, 1.0, 9, True, group=Group(r, 2))[0] for r in (0, 1)]
    for name in "ab":
        for i in (0, 1):
            assert torch.equal(whole[name][i], again[name][i])
            assert torch.equal(whole[name][i], torch.cat([s[name][i] for s in shares]))
    assert not whole["b"][1][0].any()
    assert set(twin) == {"a"}
    assert not torch.equal(twin["a"][0], whole["a"][0])
    spread = (whole["a"][0] - feed_of("yes").batch(rows)[0]["a"][0]).std()
    assert 0.05 < spread < 0.2  # errors of 0.1


def augmented(x, mask, kind, seed=0):
    chance = torch.Generator().manual_seed(seed)
    size = tuple(x.shape[1:])
    out, kept = augment(x.flatten(1), mask.flatten(1), size, (kind,), chance, len(x), slice(None))
    return out.unflatten(1, size), kept.unflatten(1, size)


def test_a_turned_round_image_stays_round_and_a_flip_keeps_its_pixels():
    y, x = torch.meshgrid(torch.linspace(-1, 1, 41), torch.linspace(-1, 1, 41), indexing="ij")
    disc = torch.exp(-8 * (x**2 + y**2)).expand(5, 2, -1, -1)
    mask = torch.ones_like(disc, dtype=torch.bool)
    turned, _ = augmented(disc, mask, "rotate")
    torch.testing.assert_close(turned, disc, atol=0.01, rtol=0)
    bar = torch.exp(-30 * (x - 0.3) ** 2 - 3 * y**2).expand(20, 1, -1, -1)
    turned, _ = augmented(bar, mask[:1, :1].expand(20, 1, -1, -1), "rotate")
    assert (turned - bar).abs().amax((1, 2, 3)).max() > 0.1
    noise = torch.randn(40, 1, 4, 4)
    flipped, _ = augmented(noise, torch.ones_like(noise, dtype=torch.bool), "flip")
    assert torch.equal(flipped.flatten(1).sort()[0], noise.flatten(1).sort()[0])
    assert 5 < (flipped == noise).flatten(1).all(1).sum() < 18  # a quarter of 40 is untouched


def test_a_cropped_curve_is_a_run_of_its_steps():
    curve = torch.arange(1.0, 31).view(1, 30, 1).expand(50, -1, 2).clone()
    mask = torch.ones_like(curve, dtype=torch.bool)
    mask[:, 20:] = False
    cut, kept = augmented(curve, mask, "crop")
    lengths = kept[:, :, 0].sum(1)
    assert lengths.min() >= 10
    assert lengths.max() <= 20
    assert len(set(lengths.tolist())) > 5
    for row, n in zip(cut[:, :, 0], lengths.tolist(), strict=True):
        assert torch.equal(row[:n], torch.arange(row[0].item(), row[0].item() + n))
        assert row[n:].abs().sum() == 0


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    root = tmp_path_factory.mktemp("train")
    fetch_made(root, made_stars(300))
    assert run(["preprocess", "--workspace", str(root)]) == 0
    return root


SMALL = ("--set", "width=32", "--set", "dimension=16", "--set", "generator_epochs=0",
         "--batch", "64", "--epochs", "4")  # fmt: skip


def trained(root, name, *more):
    code = run(["train", "--workspace", str(root), "--name", name, *SMALL, *more])
    assert code == 0
    lines = (root / "runs" / name / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_a_run_reports_recall_and_has_pictures(workspace):
    entries = trained(workspace, "plain")
    last = entries[-1]
    wanted = (
        "loss", "train_loss", "recall@1", "recall@5 metadata->xp", "median rank xp->metadata",
        "alignment metadata-xp", "uniformity xp", "gap metadata-xp", "accuracy",
    )  # fmt: skip
    for key in wanted:
        assert math.isfinite(last[key]), key
    assert last["candidates metadata-xp"] == last["validation_objects"]
    assert last["recall@1"] <= last["recall@5"] <= last["recall@10"]
    for file in ("loss.png", "recall.png"):
        assert (workspace / "runs" / "plain" / file).read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize("keep", ["loss", "recall", "accuracy", "last"])
def test_the_weights_that_are_kept_are_those_of_the_rule(workspace, keep):
    entries = trained(workspace, f"keep-{keep}", "--set", f"keep={keep}")
    kept = [e for e in entries if e.get("kept")][-1]
    if keep == "loss":
        assert kept["loss"] == min(e["loss"] for e in entries)
    elif keep == "last":
        assert kept is entries[-1]
    else:
        key = {"recall": "recall@1"}.get(keep, keep)
        assert kept[key] == max(e[key] for e in entries)


def test_chunked_encoding_and_gathered_rows_train_as_the_plain_loop_does(workspace):
    plain = trained(workspace, "whole", "--set", "dropout=0.0")
    other = trained(
        workspace, "chunked", "--set", "dropout=0.0", "--encode-chunk", "10",
        "--set", "resident=no", "--set", "loss_rows=7",
    )  # fmt: skip
    assert other[-1]["loss"] == pytest.approx(plain[-1]["loss"], rel=1e-3)


@pytest.mark.parametrize(
    "more",
    [
        ("--set", "loss=sigmoid"),
        ("--set", "optimiser=lamb", "--set", "learning_rates=[1e-2,1e-3]", "--set", "cycles=2"),
        ("--precision", "bfloat16"),
        ("--set", "schedule=plateau", "--set", "warm_up_epochs=1", "--set", "optimiser=adam"),
        ("--set", "labels=teff"),
    ],
)
def test_other_losses_optimisers_and_precisions_learn_too(workspace, monkeypatch, more):
    monkeypatch.setattr(precision, "imitation", lambda: 1.0)  # on any processor
    entries = trained(workspace, f"other{abs(hash(more))}", *more)
    assert entries[-1]["train_loss"] < entries[0]["train_loss"]


@pytest.mark.parametrize(("label", "said"), [("tef", "did you mean 'teff'"), ("class", "number")])
def test_a_label_that_is_no_number_of_the_catalogue_is_refused(workspace, capsys, label, said):
    code = run(["train", "--workspace", str(workspace), "--name", "no", "--set", f"labels={label}"])
    assert code != 0
    assert said in capsys.readouterr().err
    assert not (workspace / "runs" / "no").exists()


def test_bfloat16_is_refused_where_the_processor_only_imitates_it(monkeypatch):
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    monkeypatch.setattr(precision, "imitation", lambda: 9.7)
    with pytest.raises(UsageError, match="10 times as long as in float32"):
        precision.in_bfloat16("bfloat16", cpu)
    assert not precision.in_bfloat16("auto", cpu)
    assert precision.in_bfloat16("auto", gpu)
    assert not precision.in_bfloat16("float32", gpu)
    monkeypatch.setattr(precision, "imitation", lambda: 0.6)
    assert precision.in_bfloat16("bfloat16", cpu)


# What torch.compile warns of while it traces is its own.
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize("mode", [None, "reduce-overhead"])
def test_compiled_encoders_train_as_plain_ones_do_under_the_same_names(
    workspace, monkeypatch, mode
):
    real = torch.nn.Module.compile
    compiled = []

    def eager(self, mode):
        compiled.append(mode)
        real(self, backend="eager")  # the tracing alone: no C++ compiler is needed

    monkeypatch.setattr(torch.nn.Module, "compile", eager)
    names = [f"{n}-{mode}" for n in ("not-compiled", "compiled")]
    graphs = ["--set", "graphs=true"] if mode else []
    plain = trained(workspace, names[0], "--epochs", "2")
    assert not compiled
    made = trained(workspace, names[1], "--compile", *graphs, "--epochs", "2")
    assert compiled == [mode, mode]
    assert made[-1]["loss"] == pytest.approx(plain[-1]["loss"], rel=1e-3)
    files = [workspace / "runs" / n / "model.safetensors" for n in names]
    assert load_file(files[0]).keys() == load_file(files[1]).keys()


def test_training_stops_early_and_says_so_in_the_metrics(workspace):
    entries = trained(
        workspace, "early", "--set", "early_stop=1", "--learning-rate", "3.0", "--epochs", "30",
        "--set", "gradient_clip=0",
    )  # fmt: skip
    assert len(entries) < 30
    assert entries[-1]["loss"] >= min(e["loss"] for e in entries)


def test_a_frozen_encoder_keeps_its_weights(workspace, capsys):
    start = workspace / "runs" / "plain-xp.safetensors"
    from mmclip.encoders.tensors import read_tensors, write_tensors

    if not (workspace / "runs" / "plain").exists():
        trained(workspace, "plain")
    whole = read_tensors(workspace / "runs" / "plain" / "model.safetensors")
    own = {k.removeprefix("encoders.xp."): v for k, v in whole.items() if "encoders.xp." in k}
    write_tensors(start, own)
    more = ("--set", f"views.xp.weights={start}", "--set", "views.xp.freeze=true")
    trained(workspace, "frozen", *more)
    after = read_tensors(workspace / "runs" / "frozen" / "model.safetensors")
    for key, value in own.items():
        assert torch.equal(after[f"encoders.xp.{key}"], value)
    manifest = artifacts.read(workspace / "runs" / "frozen").manifest
    assert manifest.notes["weights"] == {"xp": artifacts.sha256(start)}
    w = ["train", "--workspace", str(workspace), "--name", "no"]
    assert run([*w, "--set", "views.xp.freeze=true"]) == 2
    assert "has no weights" in capsys.readouterr().err


def of_two(workspace, name):
    """`mmclip train` for two processes: 20 steps, or 5 epochs."""
    return ["train", "--set", "dropout=0.0", *SMALL, "--workspace", str(workspace), "--name", name,
            "--set", "keep=last", "--batch", "58", "--epochs", "5"]  # fmt: skip


@pytest.fixture(scope="module")
def two(workspace):
    """The weights of a training that torchrun ran undisturbed in two processes."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2",
              "--monitor-interval", "0.1", "--standalone", "--local-addr", "127.0.0.1",
              "-m", "mmclip"]  # fmt: skip
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    alone = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([*launch, *of_two(workspace, "two")], check=True, env=alone, **quiet)
    return workspace / "runs" / "two" / "model.safetensors"


def ranks(forks, *command):
    """The same as torchrun starts, without its watching process: two started ranks."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    code = "import os; from mmclip.cli import run; os.environ |= {}; raise SystemExit(run({}))"
    given = [
        where | {"WORLD_SIZE": "2", "RANK": rank, "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": "2"}
        for rank in "01"
    ]
    return [forks.start(code=code.format(one, list(command))) for one in given]


def steps_saved(runs):
    """The step of the checkpoint of an unfinished training, if it has one."""
    return [json.loads(f.read_bytes())["step"] for f in runs.glob(".partial-*/latest.json")]


@pytest.mark.slow
def test_a_killed_rank_costs_the_steps_since_the_last_checkpoint_alone(workspace, two, forks):
    more = [*of_two(workspace, "cut"), "--set", "checkpoint_seconds=0"]
    runs = workspace / "runs"
    first, second = ranks(forks, *more)
    while not any(n >= 10 for n in steps_saved(runs)):
        assert second.poll() is None, "ended before a rank could be killed"
        time.sleep(0.005)
    second.kill()
    assert first.wait(120) != 0
    assert not (runs / "cut").exists()
    again, saved = ranks(forks, *more), steps_saved(runs)
    assert saved[0] >= 10
    while any(one.poll() is None for one in again):
        with contextlib.suppress(FileNotFoundError):  # it has become the run
            saved += steps_saved(runs)
        time.sleep(0.005)
    assert [one.code for one in again] == [0, 0]
    assert min(saved) == saved[0]
    assert artifacts.sha256(runs / "cut" / "model.safetensors") == artifacts.sha256(two)
    assert not list(runs.glob(".partial-*"))


@pytest.mark.slow
def test_two_processes_of_torchrun_have_the_weights_of_one_after_20_steps(workspace, two):
    assert run(of_two(workspace, "one")) == 0
    one = load_file(workspace / "runs" / "one" / "model.safetensors")
    lines = (workspace / "runs" / "one" / "metrics.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["step"] == 20
    both = load_file(two)
    for name, weight in one.items():
        torch.testing.assert_close(both[name], weight, rtol=0, atol=1e-6, msg=name)
