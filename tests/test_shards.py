"""Parts of a stage, made one by one and joined, are the whole; a lost part costs only itself."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmclip import artifacts
from mmclip.cli import run
from mmclip.shards import block


@given(st.integers(1, 50), st.integers(0, 500))
def test_blocks_are_disjoint_and_cover_every_row(shards, objects):
    rows = [r for s in range(1, shards + 1) for r in range(objects)[block(s, shards, objects)]]
    assert rows == list(range(objects))


def files(path):
    return artifacts.read(path).manifest.files


def test_joined_parts_are_byte_for_byte_the_whole(trained, tmp_path, capsys):
    w = ["--workspace", str(trained)]
    assert run(["embed", "--name", "whole", *w]) == 0
    for shard in ("2/3", "1/3"):
        assert run(["embed", "--name", "joined", "--shard", shard, *w]) == 0
    capsys.readouterr()
    assert run(["embed", "--name", "joined", "--merge", "3", *w]) == 2
    assert "--shard 3/3" in capsys.readouterr().err
    assert not (trained / "vectors" / "joined").exists()
    assert run(["embed", "--name", "joined", "--shard", "3/3", *w]) == 0
    assert run(["embed", "--name", "joined", "--merge", "3", *w]) == 0
    assert files(trained / "vectors" / "joined") == files(trained / "vectors" / "whole")
    assert not list((trained / "vectors").glob(".parts-*"))


def test_a_part_is_no_vectors_artefact_for_other_commands(trained, capsys):
    w = ["--workspace", str(trained)]
    assert run(["embed", "--name", "lonely", "--shard", "1/2", *w]) == 0
    capsys.readouterr()
    assert run(["info", *w]) == 0
    assert "1-of-2" not in capsys.readouterr().out


@pytest.mark.parametrize("text", ["0/3", "4/3", "1", "a/b", "1/0", "-1/3", "1/3/3"])
def test_what_is_no_shard_is_refused(text, trained, capsys):
    assert run(["embed", "--shard", text, "--workspace", str(trained)]) == 2
    assert "is not i/n" in capsys.readouterr().err
