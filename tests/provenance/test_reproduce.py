"""An artefact made again is the same, byte by byte; what was tampered with is not."""

import hashlib
import json
import shutil

import numpy as np
import pytest
import torch

from mmclip import artifacts
from mmclip.artifacts import environment
from mmclip.artifacts.workspace import Workspace
from mmclip.cli import run
from mmclip.errors import DIFFERS, FAILED, INTEGRITY, USAGE
from mmclip.provenance import reproduce
from tests.conftest import fetch_made, made_stars


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Every kind of artefact that is made from parents, on a few made stars."""
    root = tmp_path_factory.mktemp("again")
    fetched = made_stars(240)
    fetch_made(root, fetched)
    labels = root / "mine.csv"
    ids = fetched.tables["objects"]["source_id"].to_pylist()
    rows = [f"{s},{'RR' if i % 3 else 'EA'},{0.1 * i}" for i, s in enumerate(ids[:200])]
    labels.write_text("\n".join(["source_id,class,mine", *rows]))
    w = ["--workspace", str(root)]
    small = ["--epochs", "2", "--batch", "64", "--set", "generator_epochs=1", "--set", "width=32",
             "--set", "dimension=16"]  # fmt: skip
    assert run(["preprocess", "--labels", str(labels), "--name", "stars", *w]) == 0
    labels.unlink()
    assert run(["train", *small, "--name", "model", *w]) == 0
    assert run(["embed", "--name", "model", *w]) == 0
    decoder = ["train-decoder", "--from", "metadata", "--to", "xp", "--decoder", "mlp"]
    assert run([*decoder, "--epochs", "2", "--name", "mlp", *w]) == 0
    assert run(["generate", "--from", "metadata", "--to", "xp", "--all", "--name", "spectra",
                "--draws", "2", *w]) == 0  # fmt: skip
    assert run(["map", "--leave-out", "EA", "--neighbours", "10", "--name", "flat",
                "--plot", str(root / "map.png"), *w]) == 0  # fmt: skip
    assert run(["adapt", "--from", "data/stars", "--data", "stars", "--target", "teff", "--seeds",
                "1", "--view", "metadata", "--sizes", "0,20", "--method", "lora,zero-shot",
                "--config", _few(root), "--name", "carried", *w]) == 0  # fmt: skip
    assert run(["pretrain", "--modality", "xp", "--method", "autoencoder", "--epochs", "1",
                "--encoder", "mlp", "--name", "self", *w]) == 0  # fmt: skip
    return root


def _few(root):
    file = root / "adapt.toml"
    file.write_text("[adapt]\nsource_epochs = 2\nepochs = 2\nbaselines = false\n")
    return str(file)


@pytest.fixture
def space(made, tmp_path):
    shutil.copytree(made, tmp_path / "w")
    return Workspace(tmp_path / "w")


def again(space, name, *options):
    return run(["reproduce", name, *options, "--workspace", str(space.root)])


def tamper(artifact, **changes):
    """Rewrite a manifest so that it is whole in itself: the fingerprint fits the changed body."""
    file = artifact.path / artifacts.MANIFEST
    body = json.loads(file.read_text()) | changes
    parts = ("kind", "format_version", "config", "parents", "files")
    canonical = json.dumps({k: body[k] for k in parts}, sort_keys=True, separators=(",", ":"))
    body["fingerprint"] = hashlib.sha256(canonical.encode()).hexdigest()
    file.write_text(json.dumps(artifacts.summed(body)))


@pytest.mark.parametrize(
    "name",
    ["data/stars", "runs/model", "vectors/model", "decoders/mlp", "generated/spectra", "maps/flat",
     "adapters/carried", "encoders/self"],
)  # fmt: skip
def test_every_kind_is_reproduced_byte_by_byte(space, name, capsys):
    assert again(space, name, "--json") == 0, capsys.readouterr().err
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    held = artifacts.read(space.root / name).manifest.files
    assert {r["file"] for r in rows} == set(held)
    assert {r["verdict"] for r in rows} == {"identical"}
    assert all(r["largest difference"] == 0 for r in rows if r["file"].endswith(".parquet"))
    assert not list(space.root.glob(".reproduce-*"))


def test_deep_goes_back_to_the_raw_data(space, capsys):
    before = sorted(p for p in space.root.rglob("*"))
    assert again(space, "vectors/model", "--deep", "--json") == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    order = list(dict.fromkeys(r["artefact"] for r in rows))
    assert order == ["raw made", "data stars", "run model", "vectors model"]
    assert {r["verdict"] for r in rows if r["artefact"] == "raw made"} == {"read again"}
    assert {r["verdict"] for r in rows if r["artefact"] != "raw made"} == {"identical"}
    assert sorted(p for p in space.root.rglob("*")) == before


def test_raw_data_are_read_again_and_a_changed_byte_is_found(space, capsys):
    assert again(space, "raw/made") == 0
    file = space.get("raw").path / "xp.parquet"
    body = bytearray(file.read_bytes())
    body[len(body) // 2] ^= 1
    file.write_bytes(bytes(body))
    assert again(space, "raw/made") == INTEGRITY
    assert again(space, "vectors/model", "--deep") == INTEGRITY
    assert "xp.parquet" in capsys.readouterr().err


def test_another_seed_in_the_manifest_gives_other_weights(space, capsys):
    artifact = space.get("run")
    tamper(artifact, config=artifact.manifest.config | {"seed": 43}, seed=43)
    assert again(space, "runs/model", "--json") == DIFFERS
    rows = {r["file"]: r for r in map(json.loads, capsys.readouterr().out.splitlines())}
    weights = rows["model.safetensors"]
    assert weights["verdict"] == "differs"
    assert weights["largest difference"] > 1e-3
    assert rows["shape.json"]["verdict"] == "identical"


def test_another_setting_in_the_manifest_is_found(space):
    artifact = space.get("run")
    tamper(artifact, config=artifact.manifest.config | {"learning_rate": 0.1})
    assert again(space, "runs/model") == DIFFERS


def test_a_manifest_edited_by_hand_is_refused(space, capsys):
    file = space.get("run").path / artifacts.MANIFEST
    body = json.loads(file.read_text())
    body["config"]["seed"] = 43
    file.write_text(json.dumps(body))
    assert again(space, "runs/model") == INTEGRITY
    assert "changed after it was written" in capsys.readouterr().err


def test_a_seed_that_is_not_that_of_the_settings_is_refused(space, capsys):
    tamper(space.get("run"), seed=7)
    assert again(space, "runs/model") == INTEGRITY
    assert "the seed 7" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("key", "value"),
    [("code", "0" * 16), ("mmclip", "0.0.9"), ("instructions", "SSE"), ("processes", 4)],
)
def test_another_environment_is_refused_and_named(space, capsys, key, value):
    artifact = space.get("decoder")
    notes = artifact.manifest.notes
    tamper(artifact, notes=notes | {"environment": notes["environment"] | {key: value}})
    assert again(space, "decoders/mlp") == FAILED
    assert f"{key} {value}" in capsys.readouterr().err
    assert again(space, "decoders/mlp", "--anyway") == 0
    assert f"note: {artifact.path}: {key} {value}" in capsys.readouterr().err


def test_another_torch_is_refused_and_named(space, capsys):
    artifact = space.get("run")
    notes = artifact.manifest.notes
    libraries = notes["environment"]["libraries"] | {"torch": "1.0.0"}
    environment = notes["environment"] | {"libraries": libraries}
    tamper(artifact, notes=notes | {"environment": environment})
    assert again(space, "runs/model") == FAILED
    assert "torch 1.0.0" in capsys.readouterr().err


def test_a_manifest_of_before_the_environment_was_recorded_needs_anyway(space, capsys):
    artifact = space.get("run")
    notes = dict(artifact.manifest.notes)
    threads = notes.pop("environment")["threads"]
    tamper(artifact, notes=notes)
    assert again(space, "runs/model") == FAILED
    assert "not recorded" in capsys.readouterr().err
    here = torch.get_num_threads()
    torch.set_num_threads(threads)  # UMAP's numba may have set another number in this process
    assert again(space, "runs/model", "--anyway") == 0
    torch.set_num_threads(here)


def test_the_recorded_number_of_threads_is_taken_up(space):
    artifact = space.get("run")
    notes = artifact.manifest.notes
    here = torch.get_num_threads()
    more = notes["environment"] | {"threads": here + 1}
    tamper(artifact, notes=notes | {"environment": more})
    assert reproduce.obstacles(artifacts.read(artifact.path)) == []
    assert torch.get_num_threads() == here + 1
    torch.set_num_threads(here)


def test_a_parent_that_is_gone_is_named(space, capsys):
    shutil.rmtree(space.get("data").path)
    assert again(space, "runs/model") == USAGE
    assert "the data artefact 'stars'" in capsys.readouterr().err


def test_what_was_made_can_be_kept(space):
    assert again(space, "runs/model", "--keep", "twin") == 0
    twin = artifacts.verify(space.get("run", "twin"))
    assert twin.manifest.fingerprint == space.get("run", "model").manifest.fingerprint
    assert again(space, "runs/model", "--keep", "twin") == FAILED


def test_a_renamed_parent_serves_under_its_recorded_name(space):
    data = space.get("data").path
    data.rename(data.with_name("elsewhere"))
    assert again(space, "runs/model") == 0


def test_the_largest_difference_is_that_of_the_numbers(tmp_path, space):
    was = space.get("vectors")
    shutil.copytree(was.path, tmp_path / "other")
    import pyarrow.parquet as pq

    file = tmp_path / "other" / "vectors.parquet"
    table = pq.read_table(file)
    column = table["xp"].combine_chunks()
    values = column.flatten().to_numpy().copy()
    values[17] += np.float32(0.25)
    moved = type(column).from_arrays(values, column.type.list_size)
    pq.write_table(table.set_column(table.column_names.index("xp"), "xp", moved), file)
    entry = was.manifest.files | {"vectors.parquet": {"bytes": 1, "sha256": "0" * 64}}
    other = artifacts.Artifact(tmp_path / "other", was.manifest)
    other.manifest.files.clear()
    other.manifest.files.update(entry)
    found = {c.file: c for c in reproduce.compare(artifacts.read(was.path), other)}
    assert found["vectors.parquet"].verdict == "differs"
    assert found["vectors.parquet"].difference == pytest.approx(0.25, abs=1e-6)


def test_the_code_is_named_by_its_content():
    mark = environment.code()
    assert len(mark) == 16
    assert environment.now()["code"] == mark
    assert environment.differences(environment.now()) == []
