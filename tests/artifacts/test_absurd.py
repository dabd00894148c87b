"""Manifests, weights and indexes that are sealed well and yet cannot be are refused by name."""

import json
import shutil

import numpy as np
import pytest

from mmclip import artifacts
from mmclip.artifacts import manifest as manifests
from mmclip.artifacts import paths
from mmclip.clip.run import open_run
from mmclip.encoders.tensors import read_tensors, write_tensors
from mmclip.errors import IntegrityError
from mmclip.vectors import index as indexes
from mmclip.vectors.store import Store


def sealed_again(folder, **changes):
    """Give a folder its manifest anew, over its files as they are, with some values changed."""
    body = json.loads((folder / paths.MANIFEST).read_bytes())
    kept = {k: body[k] for k in ("config", "parents", "rows", "surveys", "provenance", "seed")}
    artifacts.seal(folder, body["kind"], **kept, notes=body["notes"])
    body = json.loads((folder / paths.MANIFEST).read_bytes()) | changes
    names = ("kind", "format_version", "config", "parents", "files")
    body["fingerprint"] = manifests.canonical({k: body[k] for k in names})
    (folder / paths.MANIFEST).write_text(json.dumps(artifacts.summed(body)))
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("m") / "a"
    folder.mkdir()
    (folder / "x.txt").write_text("x")
    artifacts.seal(
        folder, "raw", config={}, parents=[], rows={"objects": 1}, surveys=[], provenance={}, seed=1
    )
    return folder


SUM = "0" * 64


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"rows": {"xp": -1}}, "-1 rows of 'xp'"),
        ({"rows": {"xp": 2**63}}, "9223372036854775808 rows"),
        ({"rows": {"xp": 1e300}}, "1e.300 rows"),
        ({"rows": {"xp": True}}, "True rows"),
        ({"rows": {"xp": "many"}}, "many rows"),
        ({"seed": -1}, "the seed -1"),
        ({"seed": 2**32}, "the seed 4294967296"),
        ({"seed": True}, "the seed True"),
        ({"kind": "rubbish"}, "the kind 'rubbish'"),
        ({"files": {"x": {"sha256": SUM, "bytes": -1}}}, "-1 bytes of 'x'"),
        ({"files": {"x": {"sha256": SUM, "bytes": 0.5}}}, "0.5 bytes of 'x'"),
        ({"files": {"x": {"sha256": "../../etc", "bytes": 1}}}, "the SHA-256 of 'x'"),
        ({"files": {"x": {"sha256": None, "bytes": 1}}}, "the SHA-256 of 'x'"),
        ({"files": {"x": 7}}, "'files' is not of its type"),
        ({"provenance": {"xp": ["observed"]}}, "provenance of 'xp'"),
        ({"parents": [{"kind": 1, "name": "a", "fingerprint": "b"}]}, "the parent"),
        ({"surveys": [{"name": 5}]}, "the survey"),
        ({"surveys": [{"name": "gaia", "citations": [1]}]}, "the survey"),
        ({"surveys": "gaia"}, "'surveys' is not of its type"),
        ({"format_version": True}, "format_version|format version"),
    ],
)
def test_a_manifest_whose_values_cannot_be_is_refused_by_name(made, tmp_path, changes, named):
    copy = tmp_path / "a"
    shutil.copytree(made, copy)
    sealed_again(copy, **changes)
    with pytest.raises(IntegrityError, match=named) as caught:
        artifacts.read(copy)
    assert "\n" not in caught.value.message


def test_a_manifest_sealed_again_as_it_was_is_read(made, tmp_path):
    copy = tmp_path / "a"
    shutil.copytree(made, copy)
    assert artifacts.read(sealed_again(copy)).manifest.rows == {"objects": 1}


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_no_numbers_are_named(trained, tmp_path, value):
    copy = tmp_path / "run"
    shutil.copytree(next((trained / "runs").glob("[a-z]*")), copy)
    tensors = {k: v.clone() for k, v in read_tensors(copy / paths.MODEL).items()}
    name = max(tensors, key=lambda k: tensors[k].numel())
    tensors[name].view(-1)[3] = value
    write_tensors(copy / paths.MODEL, tensors)
    sealed_again(copy)
    with pytest.raises(IntegrityError, match=f"1 of the .* weights of '{name}' are not finite"):
        open_run(artifacts.read(copy))


def shuffled(vectors):
    """Other unit vectors, as many and as long."""
    made = np.random.default_rng(9).normal(size=vectors.shape).astype("f4")
    return made / np.linalg.norm(made, axis=1, keepdims=True)


@pytest.mark.parametrize("told", ["as it was written", "without the sum", "with the sum forged"])
def test_an_index_over_other_vectors_of_equal_size_is_refused(trained, tmp_path, told):
    pytest.importorskip("faiss")
    copy = tmp_path / "v"
    shutil.copytree(next((trained / "vectors").glob("[a-z]*")), copy)
    store = Store(artifacts.read(copy))
    view = store.modalities[0]
    seen = store.vectors(view)[np.isfinite(store.vectors(view)[:, 0])]
    indexes.write(copy, view, shuffled(seen), "Flat")
    notes = json.loads((copy / paths.index_notes(view)).read_bytes())
    if told == "without the sum":
        del notes["of"]
    elif told == "with the sum forged":
        notes["of"] = indexes.fingerprint(seen)
    (copy / paths.index_notes(view)).write_text(json.dumps(notes))
    sealed_again(copy)
    with pytest.raises(IntegrityError, match="an index over other vectors"):
        Store(artifacts.read(copy)).index(view)


@pytest.mark.parametrize("factory", ["Flat", "IVF8,Flat;nprobe=1", "HNSW8,Flat", "IVF4,SQ4"])
def test_every_index_finds_the_vectors_that_it_is_over(factory):
    pytest.importorskip("faiss")
    vectors = shuffled(np.empty((400, 16)))
    index, about = indexes.measured(vectors, factory)
    indexes.check_belongs(index, vectors, paths.MANIFEST, about["recall@10"])
    with pytest.raises(IntegrityError, match="over other vectors"):
        indexes.check_belongs(index, -vectors, paths.MANIFEST, about["recall@10"])
