"""`mmclip bench train` measures what it says it measures."""

import pytest

from mmclip.cli import run
from mmclip.tasks.bench.train import PRESETS, WAYS, Asked, preset


@pytest.mark.parametrize("way", list(WAYS))
@pytest.mark.parametrize("name", PRESETS)
def test_a_line_of_the_benchmark_is_the_published_network(name, way):
    made = preset(Asked(name, 2, way, steps=1, seed=0, device="cpu"))
    if name == "astrom3":
        assert made["parameters"] == 15_869_827
    assert made["samples per CPU second"] > 0
    assert made["CPU s a step"] == pytest.approx(2 / made["samples per CPU second"])
    assert made["peak GiB"] >= made["of it before"]


@pytest.mark.slow
def test_the_loss_alone_is_measured_naive_and_in_chunks(capsys):
    import json

    assert run(["bench", "train", "--rows", "2", "--repeats", "1", "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(r["preset"], r["batch"], r["way"]) for r in rows] == [
        ("loss", 4096, "naive"), ("loss", 4096, "chunked")
    ]  # fmt: skip
    naive, chunked = (r["peak GiB"] - r["of it before"] for r in rows)
    # The naive logits are 4096^2 x 4 bytes, held more than once.
    assert naive > 4096**2 * 4 / 2**30
    assert chunked < naive / 2
