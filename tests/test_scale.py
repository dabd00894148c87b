"""Data that do not fit into memory give the answers of data that do, in memory that stays small."""

import itertools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmclip import artifacts
from mmclip.cli import run
from mmclip.datasets import memmap
from mmclip.datasets.build import open_dataset
from mmclip.errors import IntegrityError
from mmclip.tasks.generate import decoder
from mmclip.vectors.exact import Exact
from mmclip.vectors.store import Store, unit
from tests.benchmarks import measure_scale
from tests.conftest import fetch_made, made_stars


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 60), st.integers(1, 9), st.integers(1, 70), st.integers(0, 2**32 - 1))
def test_search_by_blocks_finds_what_sorting_all_scores_finds(count, asked, k, seed):
    chance = np.random.default_rng(seed)
    vectors = unit(chance.normal(size=(count, 5)).astype(np.float32))
    vectors[chance.random(count) < 0.2] = np.nan
    queries = unit(chance.normal(size=(asked, 5)).astype(np.float32))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memmap.tables, "GROUP", 7)
        patch.setattr(memmap, "BLOCK", 1)
        scores, rows = Exact(vectors).search(queries, k)
    truth = np.nan_to_num(queries @ vectors.T, nan=-np.inf)
    best = -np.sort(-truth, axis=1)[:, :k]
    seen = min(k, int(np.isfinite(vectors[:, 0]).sum()))
    np.testing.assert_allclose(scores[:, :seen], best[:, :seen], rtol=1e-6, atol=1e-6)
    assert (rows[:, seen:] == -1).all()
    assert all(len(set(r[:seen])) == seen for r in rows.tolist())
    found = np.take_along_axis(truth, np.maximum(rows, 0), 1)
    np.testing.assert_allclose(found[:, :seen], scores[:, :seen], rtol=1e-6, atol=1e-6)


@given(st.integers(0, 10**6), st.integers(1, 20_000))
def test_blocks_cover_all_rows_once_and_begin_at_row_groups(rows, width):
    parts = list(memmap.blocks(rows, width))
    assert sum(p.stop - p.start for p in parts) == rows
    assert all(p.start % memmap.tables.GROUP == 0 for p in parts)
    assert all(a.stop == b.start for a, b in itertools.pairwise(parts))


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """Stars of which some lack a view, and rows of a view in another order than the objects."""
    made = made_stars(300)
    mixed = np.random.default_rng(1).permutation(300)
    made.tables["xp"] = made.tables["xp"].take(mixed[:250])
    root = tmp_path_factory.mktemp("scale")
    fetch_made(root, made)
    assert run(["preprocess", "--workspace", str(root)]) == 0
    return root


def data(root):
    return artifacts.read(root / "data" / "made")


def mappings(root, kind="data"):
    return sorted(p.name for p in (root / kind).glob(".mapped/made/*/*.npy"))


def test_mapped_views_are_those_held_bit_for_bit(workspace, monkeypatch):
    held = open_dataset(data(workspace))
    assert not mappings(workspace)
    monkeypatch.setenv("MMCLIP_HELD_MB", "0")
    for _ in range(2):  # written, then found
        there = open_dataset(data(workspace))
        assert list(there.views) == list(held.views)
        for name, view in held.views.items():
            assert there.views[name].mapped
            assert not view.mapped
            for ours, theirs in ((there.views[name].values, view.values),
                                 (there.views[name].errors, view.errors)):  # fmt: skip
                np.testing.assert_array_equal(ours, theirs)
            np.testing.assert_array_equal(there.views[name].present, view.present)
    assert np.isnan(held.views["xp"].values).all(axis=1).sum() == 50
    assert mappings(workspace) == ["metadata.values.npy", "xp.errors.npy", "xp.values.npy"]
    assert artifacts.verify(data(workspace))


def test_preprocess_writes_the_same_files_whatever_it_holds(workspace, monkeypatch):
    w = ["--workspace", str(workspace)]
    for name, held in (("held", "1024"), ("apart", "0")):
        monkeypatch.setenv("MMCLIP_HELD_MB", held)
        assert run(["preprocess", "--name", name, *w]) == 0
    files = [artifacts.read(workspace / "data" / n).manifest.files for n in ("held", "apart")]
    assert files[0] == files[1]
    assert mappings(workspace, "raw") == []  # those are arrays: a table of objects is one file
    assert list((workspace / "raw").glob(".mapped/made/*/objects.arrow"))


def test_a_table_of_objects_is_the_same_mapped_and_not_believed_when_damaged(
    workspace, monkeypatch, capsys
):
    held = open_dataset(data(workspace))
    monkeypatch.setenv("MMCLIP_HELD_MB", "0")
    there = open_dataset(data(workspace))
    assert there.objects.equals(held.objects)
    assert there.objects.schema.equals(held.objects.schema, check_metadata=True)  # units
    np.testing.assert_array_equal(there.source_id, held.source_id)
    for part in ("train", "validation", "test"):
        np.testing.assert_array_equal(there.of(part), held.split == part)
    file = memmap.place(data(workspace)) / "objects.arrow"
    file.write_bytes(file.read_bytes()[:-200])
    w = ["--workspace", str(workspace)]
    assert run(["train", "--data", "made", "--epochs", "1", "--name", "no", *w]) != 0
    assert f"{file} is damaged" in " ".join(capsys.readouterr().err.split()).replace("- ", "-")
    file.unlink()
    assert open_dataset(data(workspace)).objects.equals(held.objects)


def test_a_damaged_mapping_is_named_and_a_lost_one_made_again(workspace, monkeypatch, capsys):
    monkeypatch.setenv("MMCLIP_HELD_MB", "0")
    before = open_dataset(data(workspace)).views["xp"].values.copy()
    file = memmap.place(data(workspace)) / "xp.values.npy"
    file.write_bytes(file.read_bytes()[:1000])
    w = ["--workspace", str(workspace)]
    assert run(["train", "--data", "made", "--epochs", "1", "--name", "no", *w]) != 0
    assert "remove" in capsys.readouterr().err
    file.unlink()
    np.testing.assert_array_equal(open_dataset(data(workspace)).views["xp"].values, before)


def test_one_flipped_bit_of_a_mapping_is_noticed(workspace, monkeypatch):
    monkeypatch.setenv("MMCLIP_HELD_MB", "0")
    open_dataset(data(workspace))
    file = memmap.place(data(workspace)) / "xp.values.npy"
    body = bytearray(file.read_bytes())
    body[-3000] ^= 1
    file.write_bytes(body)
    with pytest.raises(IntegrityError, match="is damaged"):
        open_dataset(data(workspace))
    file.unlink()
    open_dataset(data(workspace))


def test_the_mapping_in_a_workspace_from_elsewhere_is_not_read(workspace, monkeypatch, tmp_path):
    held = open_dataset(data(workspace))
    monkeypatch.setenv("MMCLIP_HELD_MB", "0")
    monkeypatch.setenv("MMCLIP_CACHE", str(tmp_path / "theirs"))
    open_dataset(data(workspace))
    theirs = memmap.place(data(workspace))
    for name in ("xp.values.npy", "objects.arrow"):  # prepared: other numbers, sealed by them
        file = theirs / name
        body = bytearray(file.read_bytes())
        body[-3000] ^= 64
        file.write_bytes(body)
        memmap._sign(data(workspace), [file])
    monkeypatch.setenv("MMCLIP_CACHE", str(tmp_path / "ours"))
    shutil.copytree(theirs, memmap.place(data(workspace)))  # even under our own name
    now = open_dataset(data(workspace))
    np.testing.assert_array_equal(now.views["xp"].values, held.views["xp"].values)
    assert now.objects.equals(held.objects)
    assert (tmp_path / "ours" / f"key-{os.getuid()}").stat().st_mode & 0o077 == 0


def test_what_is_no_number_of_megabytes_is_refused(workspace, monkeypatch, capsys):
    monkeypatch.setenv("MMCLIP_HELD_MB", "lots")
    assert run(["train", "--workspace", str(workspace)]) == 2
    assert "MMCLIP_HELD_MB = 'lots'" in capsys.readouterr().err


SMALL = ("--set", "width=32", "--set", "dimension=16", "--set", "generator_epochs=1",
         "--batch", "64", "--epochs", "2")  # fmt: skip


def test_training_embedding_and_answers_from_disk_are_those_from_memory(
    workspace, monkeypatch, capsys
):
    w = ["--workspace", str(workspace)]
    query = str(int(open_dataset(data(workspace)).source_id[0]))
    lines = {}
    for name, held in (("memory", "1024"), ("disk", "0")):
        monkeypatch.setenv("MMCLIP_HELD_MB", held)
        assert run(["train", "--name", name, *SMALL, *w]) == 0
        assert run(["embed", "--run", name, *w]) == 0
        capsys.readouterr()
        ask = ["search", "--query-id", query, "--vectors", name, "--from", "metadata", "--json"]
        assert run([*ask, "--to", "xp", *w]) == 0
        assert run([*ask, "--to", "mean", *w]) == 0
        lines[name] = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    sums = {n: artifacts.read(workspace / "runs" / n).manifest.files for n in lines}
    assert sums["disk"]["model.safetensors"] == sums["memory"]["model.safetensors"]
    files = {n: artifacts.read(workspace / "vectors" / n).manifest.files for n in lines}
    assert files["disk"]["vectors.parquet"] == files["memory"]["vectors.parquet"]
    assert not [n for n in files["disk"] if n.endswith(".faiss") or "scratch" in n]
    assert [r["source_id"] for r in lines["disk"]] == [r["source_id"] for r in lines["memory"]]
    cosines = [[r["cosine"] for r in lines[n]] for n in ("disk", "memory")]
    np.testing.assert_allclose(cosines[0], cosines[1], atol=1e-6)
    assert Store(artifacts.read(workspace / "vectors" / "disk")).mapped


@given(st.integers(1, 20), st.integers(1, 3), st.integers(0, 2**32 - 1))
def test_views_fused_by_rows_are_rows_of_the_fused_views(count, views, seed):
    chance = np.random.default_rng(seed)
    many = [chance.normal(size=(count, 4)).astype(np.float32) for _ in range(views)]
    for one in many:
        one[chance.random(count) < 0.4] = np.nan
    whole, fused = decoder.fuse(many), decoder.Fused(tuple(many))
    rows = chance.integers(0, count, 7)
    np.testing.assert_array_equal(fused[rows], whole[rows])
    assert fused.shape == whole.shape
    known = np.array([any(np.isfinite(v[i, 0]) for v in many) for i in range(count)])
    np.testing.assert_array_equal(decoder.observed(fused), known)
    np.testing.assert_array_equal(decoder.observed(whole, rows), known[rows])


@given(st.integers(0, 500), st.integers(1, 100))
def test_stars_that_stand_for_many_are_spread_and_none_is_twice(count, most):
    rows = np.arange(count) * 3
    kept = decoder.spread(rows, most)
    assert len(kept) == min(count, most)
    assert set(kept) <= set(rows)
    assert (np.diff(kept) > 0).all()
    assert count == 0 or most == 1 or (kept[0], kept[-1]) == (rows[0], rows[-1])


def test_decoders_and_generated_views_from_disk_are_those_from_memory(workspace, monkeypatch):
    w = ["--workspace", str(workspace)]
    assert run(["train", "--name", "start", *SMALL, "--epochs", "1", *w]) == 0
    assert run(["embed", "--run", "start", "--name", "start", *w]) == 0
    ids = workspace / "ids.txt"
    ids.write_text("\n".join(str(i) for i in open_dataset(data(workspace)).source_id[:40]))
    read = []
    gather = decoder.Batches.gather
    monkeypatch.setattr(
        decoder.Batches, "gather", lambda feed, rows: read.append(len(rows)) or gather(feed, rows)
    )
    made = {}
    for name, held in (("memory", "1024"), ("disk", "0")):
        monkeypatch.setenv("MMCLIP_HELD_MB", held)
        to = ["--from", "metadata", "--to", "xp", "--vectors", "start"]
        train = ["train-decoder", "--epochs", "2", "--batch", "64", *w]
        assert run([*train, *to, "--name", name]) == 0
        weighed = [*to, "--decoder", "mlp", "--loss", "ivar"]
        assert run([*train, *weighed, "--name", f"{name}-weighed"]) == 0
        assert bool(read) == (held == "0")
        ask = ["generate", *to, "--draws", "2", "--decoder", name, *w]
        assert run([*ask, "--all", "--name", name]) == 0
        assert run([*ask, "--ids", str(ids), "-o", str(workspace / f"{name}.parquet")]) == 0
        kinds = {"decoders": (name, f"{name}-weighed"), "generated": (name,)}
        made[name] = [
            artifacts.read(workspace / kind / one).manifest.files
            for kind, names in kinds.items()
            for one in names
        ] + [artifacts.sha256(workspace / f"{name}.parquet")]
    assert made["disk"] == made["memory"]
    assert max(read) <= 300


def test_a_data_set_made_again_drops_the_old_mapping(workspace, monkeypatch):
    monkeypatch.setenv("MMCLIP_HELD_MB", "0")
    open_dataset(data(workspace))
    old = memmap.place(data(workspace))
    w = ["--workspace", str(workspace)]
    assert run(["preprocess", "--name", "made", "--seed", "7", "--force", *w]) == 0
    open_dataset(data(workspace))
    assert not old.exists()
    assert memmap.place(data(workspace)).is_dir()


STAGES = """
import sys
from pathlib import Path
from mmclip.cli import run
from mmclip.clip import retrieval_metrics
from mmclip.tasks.generate import decoder
from mmclip.tasks import generate, knn
from mmclip.tasks.outliers import detectors
from mmclip.tasks.predict.heads import kernel_ridge
from tests.benchmarks import measure_scale
# What grows with the stars up to a fixed number (80,000 in validation), and by other laws: a matrix
# of kernels is their square. Both sizes are beyond these numbers, so that what is left is the data.
retrieval_metrics.MOST = 256
decoder.MOST = generate.MOST = generate.COMPARED = generate.REFERENCES = 1000
knn.MOST = detectors.DRAWN = detectors.GROWN = kernel_ridge.MOST = 2000
SMALL = {"IVF4096,Flat": "IVF64,Flat", "500000": "8000", "200000": "5000"}  # an index's parts too
workspace = Path(sys.argv[1])
watch = measure_scale.Watch("self", every=0.005)  # a peak may be short
for words in measure_scale.commands(workspace).values():
    words = [SMALL.get(word, word) for word in words]
    assert run([*words, *(["--batch", "256"] if words[0] == "train" else [])]) == 0, words
print("peak", watch.stop())
"""


def peak(root, rows):
    """Largest private memory of one process that goes through all stages."""
    measure_scale.make(root / str(rows) / "raw" / "sky", rows)
    environment = {**os.environ, **measure_scale.PLAIN, "MMCLIP_HELD_MB": "4"}
    done = subprocess.run(
        [sys.executable, "-c", STAGES, str(root / str(rows))], text=True,
        capture_output=True, env=environment, cwd=Path(__file__).parents[1],
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return int(done.stdout.splitlines()[-1].split()[1])


@pytest.mark.slow
def test_memory_grows_by_a_fraction_of_the_data(tmp_path):
    few, many = (peak(tmp_path, n) for n in (8_000, 48_000))
    one = 4 * (2 * 110 + 10)  # bytes of one star's views in memory
    # Less than one copy of the views (37 MB); the forests' own peak differs by up to 25 MB.
    assert many - few < one * 40_000, (few, many)
    assert many < 1.3 * few


@pytest.mark.long
def test_two_million_stars_within_800_mb(tmp_path):
    lines = list(measure_scale.measure(tmp_path, 2_000_000, 800))
    assert [line["stage"] for line in lines[1:]] == list(measure_scale.commands(tmp_path))
    whole = sum(lines[-1]["bytes"].values())
    assert whole > 10 * 800 * 2**20
