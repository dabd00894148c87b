"""Parts of a stage, made one by one and joined, are the whole; a lost part costs only itself."""

import signal
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file

from mmclip import artifacts
from mmclip.artifacts.shards import block
from mmclip.cli import run
from mmclip.datasets import memmap
from mmclip.encoders.tensors import read_blocks, write_arrays
from mmclip.tasks.generate import dataset
from mmclip.tasks.generate import files as spectra


@given(st.integers(1, 50), st.integers(0, 500))
def test_blocks_are_disjoint_and_cover_every_row(shards, objects):
    rows = [r for s in range(1, shards + 1) for r in range(objects)[block(s, shards, objects)]]
    assert rows == list(range(objects))


def files(path):
    return artifacts.read(path).manifest.files


@given(st.integers(0, 9), st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_arrays_written_by_blocks_are_safetensors(tmp_path_factory, rows, width, seed):
    file = tmp_path_factory.mktemp("arrays") / "a.safetensors"
    chance = np.random.default_rng(seed)
    arrays = {n: chance.normal(size=(rows, width)).astype(np.float32) for n in ("b", "one_view")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memmap.tables, "GROUP", 2)
        patch.setattr(memmap, "BLOCK", 1)
        write_arrays(file, arrays)
        read = {n: np.concatenate([a[:0], *read_blocks(file, n)]) for n, a in arrays.items()}
    there = load_file(file)  # by the library itself
    assert sorted(there) == sorted(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(there[name], array)
        np.testing.assert_array_equal(read[name], array)


@pytest.mark.parametrize("held", ["1024", "0"])
def test_joined_parts_are_byte_for_byte_the_whole(held, trained, monkeypatch, capsys):
    monkeypatch.setenv("MMCLIP_HELD_MB", held)
    joined, w = f"joined-{held}", ["--workspace", str(trained), "--force"]
    assert run(["embed", "--name", "whole", *w]) == 0
    for shard in ("2/3", "1/3"):
        assert run(["embed", "--name", joined, "--shard", shard, *w]) == 0
    capsys.readouterr()
    assert run(["embed", "--name", joined, "--merge", "3", *w]) == 2
    assert "--shard 3/3" in capsys.readouterr().err
    assert not (trained / "vectors" / joined).exists()
    assert run(["embed", "--name", joined, "--shard", "3/3", *w]) == 0
    assert run(["embed", "--name", joined, "--merge", "3", *w]) == 0
    assert files(trained / "vectors" / joined) == files(trained / "vectors" / "whole")
    assert not list((trained / "vectors").glob(".parts-*"))


def test_a_part_is_no_vectors_artefact_for_other_commands(trained, capsys):
    w = ["--workspace", str(trained)]
    assert run(["embed", "--name", "lonely", "--shard", "1/2", *w]) == 0
    capsys.readouterr()
    assert run(["info", *w]) == 0
    assert "1-of-2" not in capsys.readouterr().out


def test_generated_shards_are_byte_for_byte_the_whole(trained, monkeypatch, capsys):
    monkeypatch.setattr(dataset, "SHARD", 60)  # seven files
    everyone = ["generate", "--from", "metadata", "--to", "xp", "--all", "--draws", "2"]
    everyone += ["--decoder", "run", "--workspace", str(trained)]
    assert run([*everyone, "--name", "whole"]) == 0
    for shard in ("3/3", "1/3"):
        assert run([*everyone, "--name", "joined", "--shard", shard]) == 0
    capsys.readouterr()
    assert run([*everyone, "--name", "joined", "--merge", "3"]) == 2
    said = capsys.readouterr().err
    assert "1 of 3 shards of 'joined' are not there yet: 2" in said
    assert "mmclip generate --all --shard 2/3" in said
    assert run([*everyone, "--name", "joined", "--shard", "2/3", "--seed", "7"]) == 0
    capsys.readouterr()
    assert run([*everyone, "--name", "joined", "--merge", "3"]) == 2
    assert "shard 2 of 3 of 'joined' was made otherwise: seed" in capsys.readouterr().err
    assert run([*everyone, "--name", "joined", "--shard", "2/3", "--force"]) == 0
    assert run([*everyone, "--name", "joined", "--merge", "3"]) == 0
    whole, joined = (artifacts.read(trained / "generated" / n) for n in ("whole", "joined"))
    assert len(whole.manifest.files) == 7
    assert joined.manifest.files == whole.manifest.files
    assert joined.manifest.fingerprint == whole.manifest.fingerprint
    assert joined.manifest.rows == whole.manifest.rows
    assert not list((trained / "generated").glob(".*"))


def test_a_killed_generation_costs_only_its_shard(trained, monkeypatch, capsys):
    monkeypatch.setattr(dataset, "SHARD", 60)
    everyone = ["generate", "--from", "metadata", "--to", "xp", "--all", "--decoder", "run"]
    everyone += ["--workspace", str(trained), "--name", "killed"]
    code = (
        "import os, signal\n"
        "from mmclip.tasks.generate import dataset, files\n"
        "dataset.SHARD = 60\n"
        "whole = files.write_parquet\n"
        "def stop(chunks, file):\n"
        "    if file.name == 'part-00005.parquet':\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    whole(chunks, file)\n"
        "files.write_parquet = stop\n"
        "from mmclip.cli import run\n"
        f"run({[*everyone, '--shard', '2/2']!r})\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=120)
    assert done.returncode == -signal.SIGKILL
    made = []
    whole = spectra.write_parquet
    monkeypatch.setattr(
        spectra, "write_parquet", lambda chunks, file: made.append(file.name) or whole(chunks, file)
    )
    assert run([*everyone, "--shard", "2/2"]) == 0
    assert made == ["part-00005.parquet", "part-00006.parquet"]  # 3 and 4 were done
    assert run([*everyone, "--shard", "1/2"]) == 0
    assert run([*everyone, "--merge", "2"]) == 0
    artifacts.verify(artifacts.read(trained / "generated" / "killed"))


def test_a_shard_of_what_is_not_all_is_refused(trained, capsys):
    assert run(["generate", "--shard", "1/2", "--workspace", str(trained)]) == 2
    assert "--shard belongs to --all" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["0/3", "4/3", "1", "a/b", "1/0", "-1/3", "1/3/3"])
def test_what_is_no_shard_is_refused(text, trained, capsys):
    assert run(["embed", "--shard", text, "--workspace", str(trained)]) == 2
    assert "is not i/n" in capsys.readouterr().err
