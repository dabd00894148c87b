"""Preprocessing in shards: byte for byte the whole; a lost shard costs its own work alone."""

import signal
import subprocess
import sys

import pytest

from mmclip import artifacts
from mmclip.cli import run
from mmclip.datasets import prepare, tables
from tests.conftest import fetch_made, made_stars


@pytest.fixture
def stars(tmp_path, monkeypatch):
    """200 made stars in row groups of ten: twenty blocks a view."""
    monkeypatch.setattr(tables, "GROUP", 10)
    fetch_made(tmp_path, made_stars(200))
    return tmp_path


def preprocess(root, *more):
    return run(["preprocess", "--workspace", str(root), *more])


def manifest(root, name):
    return artifacts.verify(artifacts.read(root / "data" / name)).manifest


@pytest.mark.parametrize(("method", "shards"), [("z", 1), ("mad", 3), ("z", 23)])
def test_joined_shards_are_byte_for_byte_the_whole(stars, method, shards):
    how = ["--normalisation", method]
    assert preprocess(stars, "--name", "whole", *how) == 0
    for shard in range(shards, 0, -1):
        assert preprocess(stars, "--name", "joined", "--shard", f"{shard}/{shards}") == 0
    assert preprocess(stars, "--name", "joined", "--merge", str(shards), *how) == 0
    whole, joined = manifest(stars, "whole"), manifest(stars, "joined")
    assert joined.files == whole.files
    assert joined.fingerprint == whole.fingerprint
    assert (joined.rows, joined.parents) == (whole.rows, whole.parents)
    assert not list((stars / "data").glob(".*"))


def test_every_missing_shard_is_named(stars, capsys):
    assert preprocess(stars, "--name", "lost", "--shard", "2/4") == 0
    capsys.readouterr()
    assert preprocess(stars, "--name", "lost", "--merge", "4") == 2
    said = capsys.readouterr().err
    assert "3 of 4 shards" in said
    assert "1,3,4" in said
    assert "mmclip preprocess --shard 1/4" in said
    assert preprocess(stars, "--name", "lost", "--merge", "2") == 2
    assert "shards of 4 lie there" in capsys.readouterr().err
    assert not (stars / "data" / "lost").exists()


def test_shards_made_otherwise_are_refused(stars, capsys):
    both = ["--modalities", "metadata,xp"]
    assert preprocess(stars, "--name", "mixed", "--shard", "1/2", *both) == 0
    assert preprocess(stars, "--name", "mixed", "--shard", "2/2", "--modalities", "xp") == 0
    capsys.readouterr()
    assert preprocess(stars, "--name", "mixed", "--merge", "2", *both) == 2
    said = capsys.readouterr().err
    assert "shard 2 of 2" in said
    assert "settings" in said
    assert "--shard 2/2 --force" in said
    assert preprocess(stars, "--name", "mixed", "--shard", "2/2", *both) == 2
    fetch_made(stars, made_stars(210, seed=3))  # the raw data are fetched anew
    capsys.readouterr()
    assert preprocess(stars, "--name", "mixed", "--merge", "2", *both) == 2
    assert "shard 1 of 2 of 'mixed' was made otherwise: from made" in capsys.readouterr().err


def test_a_damaged_shard_is_not_joined(stars, capsys):
    for shard in ("1/2", "2/2"):
        assert preprocess(stars, "--name", "torn", "--shard", shard) == 0
    file = stars / "data" / ".parts-torn" / "2-of-2" / "xp-00000.values.npy"
    body = bytearray(file.read_bytes())
    body[-1] ^= 1
    file.write_bytes(body)
    capsys.readouterr()
    assert preprocess(stars, "--name", "torn", "--merge", "2") == 5
    assert "xp-00000.values.npy" in capsys.readouterr().err


def test_a_killed_shard_costs_only_its_own_work(stars, capsys, monkeypatch):
    only = ["--modalities", "xp", "--name", "killed"]
    assert preprocess(stars, *only, "--shard", "1/2") == 0
    code = (
        "import os, signal\n"
        "from mmclip.datasets import prepare\n"
        "whole = prepare.prepare_block\n"
        "def stop(modality, block, folder, number):\n"
        "    if number == 6:\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    whole(modality, block, folder, number)\n"
        "prepare.prepare_block = stop\n"
        "from mmclip.cli import run\n"
        f"run(['preprocess', '-w', {str(stars)!r}, '--shard', '2/2', *{only!r}])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60)
    assert done.returncode == -signal.SIGKILL
    capsys.readouterr()
    assert preprocess(stars, *only, "--merge", "2") == 2
    assert "1 of 2 shards of 'killed' are not there yet: 2" in capsys.readouterr().err
    made = []
    whole = prepare.prepare_block
    monkeypatch.setattr(prepare, "prepare_block", lambda *a: made.append(a[3]) or whole(*a))
    for shard in ("1/2", "2/2"):  # the whole array once more
        assert preprocess(stars, *only, "--shard", shard) == 0
    said = capsys.readouterr().err
    assert "1-of-2 is there already" in said
    assert "6 of 10 blocks are there already" in said
    assert made == [6, 7, 8, 9]
    assert preprocess(stars, *only, "--merge", "2") == 0
    assert preprocess(stars, "--modalities", "xp", "--name", "anew") == 0
    assert manifest(stars, "killed").files == manifest(stars, "anew").files


def test_shard_and_merge_do_not_go_together(stars, capsys):
    assert preprocess(stars, "--shard", "1/2", "--merge", "2") == 2
    assert "--merge" in capsys.readouterr().err
