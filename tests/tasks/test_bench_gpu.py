"""The device benchmark: its counts are those of arithmetic, and it runs on a CPU as on a GPU."""

import json

import pytest
import torch

from mmclip.cli import run
from mmclip.errors import USAGE
from mmclip.tasks.bench import gpu


def test_flops_and_kept_bytes_are_those_of_a_linear_layer():
    x, weight = torch.randn(8, 16), torch.randn(16, 32, requires_grad=True)
    flops, kept = gpu.counted(lambda: (x @ weight).sum().backward())
    # Forward and the weight's gradient, 2 m n k each; x needs none. Kept: x alone.
    assert flops == 2 * 2 * 8 * 16 * 32
    assert kept == x.nbytes


def test_the_chunked_loss_multiplies_three_times_and_once_again():
    # Logits forward, logits again, and two products for the gradients.
    n, d = 64, gpu.VECTOR
    a, b = (torch.randn(n, d, requires_grad=True) for _ in "ab")
    scale = torch.tensor(1.0, requires_grad=True)
    flops, _ = gpu.counted(lambda: gpu.chunked_clip_loss(a, b, scale).backward())
    assert flops == 4 * 2 * n * n * d


def test_the_roof_is_the_slower_of_the_two_limits():
    found = gpu.roof(flops=50, moved=30, taken=10, matrix=10, memory=10)
    assert found["of the matrix limit"] == pytest.approx(0.5)
    assert found["of the memory limit"] == pytest.approx(0.3)
    assert found["of the roof"] == pytest.approx(0.5)


def test_it_runs_on_a_cpu(capsys, monkeypatch):
    small = gpu.Sizes(2**16, 64, (("schwarz2024", 8),), (64,), (500, 16, 20))
    monkeypatch.setattr(gpu, "SMALL", small)
    assert run(["bench", "gpu", "--device", "cpu", "--repeats", "1", "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [r["what"].split(",")[0] for r in rows] == [
        "copy", "float32", "bfloat16", "train schwarz2024", "chunked loss",
        "exact search 500 x 16", "exact search 500 x 16",
    ]  # fmt: skip
    assert all(r["rate"] > 0 and r["device"].startswith("cpu") for r in rows)
    train = rows[3]
    assert train["epoch, s"] == pytest.approx(gpu.SURVEY / train["rate"])
    assert train["of the roof"] == max(train["of the matrix limit"], train["of the memory limit"])
    assert all(r["difference"] < 1e-5 for r in rows[5:])


def test_without_a_gpu_it_says_so(capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert run(["bench", "gpu", "--device", "cuda"]) == USAGE
    assert "there is no CUDA device here" in capsys.readouterr().err
