"""Benchmarks give the same answer as their references; nothing here looks at a clock."""

import json

import numpy as np
import pytest

from mmclip import plugins
from mmclip.cli import run
from mmclip.errors import USAGE
from mmclip.tasks.bench import compare, difference, row


@pytest.mark.parametrize("name", plugins.names("tasks.bench"))
def test_a_benchmark_says_what_it_is(name):
    it = plugins.load("tasks.bench", name, "BENCH")
    assert it.name == name
    assert it.title


def test_preprocessing_is_that_of_the_obvious_loop(capsys):
    assert run(["bench", "preprocess", "--rows", "21", "--repeats", "1", "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {r["against"] for r in rows} >= {"np.interp", "scipy.stats.median_abs_deviation"}
    for line in rows:
        assert line["difference"] < 1e-6, line["name"]
        assert line["ratio"] == pytest.approx(line["reference"] / line["ours"])


def test_an_unknown_benchmark_is_named(capsys):
    assert run(["bench", "preproces"]) == USAGE
    assert "did you mean 'preprocess'" in capsys.readouterr().err


def test_a_difference_is_relative_and_an_unknown_value_is_one():
    assert difference([1.0, 200.0], [1.0, 100.0]) == 1.0
    assert difference([1.0, np.nan], [1.0, 2.0]) == float("inf")
    assert difference([1.0, np.nan], [1.0, np.nan]) == 0
    assert row("a", "us", 2.0, 8.0, "b", 0.0)["ratio"] == 4.0
    _, _, mine, theirs = compare(lambda: 1, lambda: 2, 2)
    assert (mine, theirs) == (1, 2)
