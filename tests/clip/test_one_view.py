"""One view is enough: it is trained by self-supervision, embedded, searched and learned from."""

import json

import numpy as np
import pytest

from mmclip.cli import run
from mmclip.errors import USAGE
from tests.cli.test_cli import ask
from tests.conftest import fetch_made, made_stars


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """A workspace that went through every stage with XP spectra alone."""
    root = tmp_path_factory.mktemp("alone")
    fetch_made(root, made_stars(100))
    w = ["-w", str(root)]
    assert run(["preprocess", "--modalities", "xp", *w]) == 0
    assert run(["train", "--epochs", "4", "--batch", "32", *w]) == 0
    assert run(["embed", *w]) == 0
    return root


def test_the_loss_of_one_view_falls(alone):
    lines = (alone / "runs" / "xp" / "metrics.jsonl").read_text().splitlines()
    rows = [row for row in map(json.loads, lines) if row["stage"] == "align"]
    losses = [row.get("loss", row.get("validation loss")) for row in rows]
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0]


def test_one_view_is_searched_and_neighbours_are_alike(alone, capsys):
    code, out, _ = ask(capsys, "search", "--query-id", "-k", "3", "--json", "-w", alone)
    assert code == 0
    assert {(r["from"], r["to"]) for r in map(json.loads, out.splitlines())} == {("xp", "xp")}
    code, out, _ = ask(capsys, "knn", "--target", "teff", "--bootstrap", "0", "--json", "-w", alone)
    assert code == 0
    by = {r["method"].split(",")[0]: r["R2"] for r in map(json.loads, out.splitlines())}
    assert by["k-NN"] > by["mean of the training stars"]


def test_what_needs_a_second_view_says_so(alone, capsys):
    code, _, err = ask(capsys, "generate", "-w", alone)
    assert code == USAGE
    assert "xp is the only view" in err


def test_a_view_with_nothing_to_learn_from_is_refused(alone, capsys):
    off = ["--set", "self_contrast=0", "--set", "reconstruction=0", "--name", "off"]
    code, _, err = ask(capsys, "train", *off, "-w", alone)
    assert code == USAGE
    assert "try: mmclip train --set reconstruction=1" in err
