"""Stars fetched later join data, vectors and indexes; what stood before stays bit for bit."""

import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from mmclip import arrays, artifacts
from mmclip.artifacts.workspace import Workspace
from mmclip.cli import run
from mmclip.datasets import split, tables
from mmclip.datasets.append import plan_addition, together
from mmclip.datasets.build import open_dataset
from mmclip.datasets.ingest import read_view
from mmclip.errors import UsageError
from mmclip.modalities import xp
from mmclip.surveys import Fetched
from mmclip.vectors import index
from mmclip.vectors.index import have_faiss
from mmclip.vectors.store import Store
from tests.conftest import fetch_made, made_stars

NEW, KNOWN = 60, 25


def second_release(seed=9):
    """New stars, and some of the first release again with magnitudes that were revised."""
    first, new = made_stars(), made_stars(NEW, seed=seed)
    both = {}
    for name, table in new.tables.items():
        known = first.tables[name].slice(100, KNOWN)
        if name == "metadata":
            at = known.column_names.index("j_m")
            known = known.set_column(at, "j_m", pc.add(known["j_m"], 3.0))
        both[name] = pa.concat_tables([known, table])
    return Fetched(both, new.provenance)


def test_new_stars_are_split_as_the_user_says(grown):
    """Nothing is written: the plan alone."""
    space, data = grown
    raw = space.get("raw", "second")
    ids = plan_addition(data, [raw]).todo.objects["source_id"]
    fold = ["test" if i % 3 else "train" for i in range(len(ids))]
    own = pa.table({"source_id": ids, "fold": fold})
    made = plan_addition(data, [raw], own, rule="column fold").todo
    said = dict(zip(ids.to_pylist(), fold, strict=True))
    sides = [split.SPLITS[p] for p in made.parts]
    assert sides == [said[i] for i in made.objects["source_id"].to_pylist()]
    assert set(sides) == {"train", "test"}


@pytest.fixture(scope="module")
def grown(trained, tmp_path_factory):
    """The trained workspace after a second release was added; newest are `more` and `more`."""
    root = tmp_path_factory.mktemp("grown") / "w"
    shutil.copytree(trained, root)
    for folder in ("data", "vectors"):
        for path in (root / folder).iterdir():
            if path.name != "made" and not path.name.startswith("clip"):
                shutil.rmtree(path)
    space = Workspace(root)
    run_ = space.get("run")
    data = space.parent(run_, "data")
    w = ["--workspace", str(root)]
    assert run(["embed", "--name", "before", *w]) == 0
    fetch_made(root, second_release(), "second")
    assert run(["preprocess", "--add-to", data.path.name, "--raw", "second",
                "--name", "more", *w]) == 0  # fmt: skip
    assert run(["embed", "--add-to", "before", "--name", "more", *w]) == 0
    return space, data


def test_rows_that_stood_and_their_statistics_are_as_they_were(grown):
    space, data = grown
    more = artifacts.verify(space.get("data", "more"))
    old, new = open_dataset(data), open_dataset(more)
    stood = len(old.source_id)
    notes = more.manifest.notes
    assert (notes["added"], notes["already there"]) == (NEW, KNOWN)
    assert len(new.source_id) == stood + NEW
    assert new.objects.slice(0, stood).equals(old.objects)
    for name, view in old.views.items():
        assert new.views[name].values[:stood].tobytes() == view.values.tobytes()
        if view.errors is not None:
            assert new.views[name].errors[:stood].tobytes() == view.errors.tobytes()
        file = f"{name}.statistics.json"
        assert more.manifest.files[file] == data.manifest.files[file]
    rows = more.manifest.rows
    assert rows["train"] + rows["validation"] + rows["test"] == rows["objects"] == stood + NEW


def test_new_rows_are_normalised_by_the_statistics_that_stand(grown):
    space, data = grown
    new = open_dataset(space.get("data", "more"), ("xp",))
    raw = read_view(space.get("raw", "second"), "xp").slice(KNOWN)
    prepared = xp.MODALITY.prepare({n: arrays.column(raw, n) for n in ("flux", "flux_error")})
    about = json.loads((data.path / "xp.statistics.json").read_text())
    expected = (prepared.values - np.array(about["centre"])) / np.array(about["scale"])
    ids = raw["source_id"].to_pylist()
    rows = [ids.index(int(i)) for i in new.source_id[-NEW:]]
    expected = np.clip(expected[rows], -10, 10)
    np.testing.assert_allclose(new.views["xp"].values[-NEW:], expected, rtol=1e-6)


def test_additions_prepared_in_shards_are_byte_for_byte_the_whole(
    trained, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(tables, "GROUP", 10)  # nine blocks a view
    for folder in ("data", "raw"):
        shutil.copytree(trained / folder / "made", tmp_path / folder / "made")
    fetch_made(tmp_path, second_release(), "second")
    to = ["preprocess", "--raw", "second", "--workspace", str(tmp_path)]
    assert run([*to, "--add-to", "made", "--name", "whole"]) == 0
    assert run([*to, "--name", "joined", "--shard", "2/3"]) == 0  # of a data set of its own
    to += ["--add-to", "made", "--name", "joined"]
    for shard in ("3/3", "1/3"):
        assert run([*to, "--shard", shard]) == 0
    capsys.readouterr()
    assert run([*to, "--merge", "3"]) == 2
    said = capsys.readouterr().err
    assert "shard 2 of 3 of 'joined' was made otherwise: from second" in said
    assert "mmclip preprocess --add-to made --shard 2/3 --force" in said
    assert run([*to, "--shard", "2/3", "--force"]) == 0
    assert run([*to, "--merge", "3"]) == 0
    whole, joined = (
        artifacts.verify(artifacts.read(tmp_path / "data" / n)).manifest
        for n in ("whole", "joined")
    )
    assert joined.files == whole.files
    assert joined.fingerprint == whole.fingerprint
    assert (joined.rows, joined.parents, joined.notes) == (whole.rows, whole.parents, whole.notes)
    assert whole.notes["added"] == NEW
    assert not list((tmp_path / "data").glob(".parts-*"))


@pytest.mark.parametrize("held", ["1024", "0"])
def test_additions_embedded_in_shards_are_byte_for_byte_the_whole(grown, held, monkeypatch, capsys):
    space, _ = grown
    monkeypatch.setenv("MMCLIP_HELD_MB", held)
    to = ["embed", "--add-to", "before", "--data", "more", "--workspace", str(space.root)]
    assert run([*to, "--name", "at-once", "--force"]) == 0
    to += ["--name", "joined", "--force"]
    for shard in ("3/3", "1/3"):
        assert run([*to, "--shard", shard]) == 0
    capsys.readouterr()
    assert run([*to, "--merge", "3"]) == 2
    assert "mmclip embed --add-to before --shard 2/3" in capsys.readouterr().err
    assert run([*to, "--shard", "2/3"]) == 0
    assert run([*to, "--merge", "3"]) == 0
    whole, joined = (space.get("vectors", n).manifest for n in ("at-once", "joined"))
    assert joined.files == whole.files
    assert (joined.rows, joined.parents, joined.notes) == (whole.rows, whole.parents, whole.notes)
    more = space.get("vectors", "more").manifest
    assert joined.files["vectors.parquet"] == more.files["vectors.parquet"]


def test_vectors_that_stood_are_bit_identical_and_new_ones_are_those_of_the_run(grown):
    space, _ = grown
    before, more = (Store(artifacts.verify(space.get("vectors", n))) for n in ("before", "more"))
    stood = len(before.source_id)
    assert more.artifact.manifest.notes["added"] == NEW
    assert run(["embed", "--data", "more", "--name", "anew", "-w", str(space.root)]) == 0
    anew = Store(space.get("vectors", "anew"))
    np.testing.assert_array_equal(more.source_id, anew.source_id)
    np.testing.assert_array_equal(more.split, anew.split)
    for name in before.modalities:
        assert more.vectors(name)[:stood].tobytes() == before.vectors(name).tobytes()
        np.testing.assert_allclose(more.vectors(name), anew.vectors(name), atol=2e-6)
    shutil.rmtree(anew.artifact.path)


def test_the_index_that_was_added_to_finds_every_star_itself(grown):
    more = Store(grown[0].get("vectors", "more"))
    for name in more.modalities:
        made, rows = more.index(name)
        vectors = more.vectors(name)[rows]
        scores, found = made.search(vectors, 1)
        best = (vectors @ vectors.T).max(axis=1)
        np.testing.assert_allclose(scores[:, 0], best, atol=1e-6)
        np.testing.assert_allclose(np.sum(vectors[found[:, 0]] * vectors, axis=1), 1, atol=1e-6)


@pytest.mark.skipif(not have_faiss(), reason="no FAISS here")
def test_cells_of_an_index_are_kept_and_searched_for_new_stars_too(grown):
    space, _ = grown
    w = ["--workspace", str(space.root)]
    assert run(["embed", "--name", "cells", "--factory", "IVF4,Flat;nprobe=4", *w]) == 0
    assert run(["embed", "--add-to", "cells", "--data", "more", "--name", "cells2", *w]) == 0
    more = Store(space.get("vectors", "cells2"))
    about = more.artifact.manifest.notes["indexes"]["xp"]
    assert about["factory"] == "IVF4,Flat;nprobe=4"
    assert (about["vectors"], about["measured over"]) == (460, 400)
    made, rows = more.index("xp")
    vectors = more.vectors("xp")[rows]
    exact = np.sort(vectors @ vectors.T, axis=1)[:, ::-1][:, :5]
    scores, found = made.search(vectors, 5)  # every cell is visited: exact
    np.testing.assert_allclose(scores, exact, atol=1e-5)
    np.testing.assert_allclose(np.einsum("qkd,qd->qk", vectors[found], vectors), scores, atol=1e-5)
    for name in ("cells", "cells2"):
        shutil.rmtree(space.get("vectors", name).path)


def test_without_faiss_the_vectors_themselves_are_searched(grown, monkeypatch, capsys):
    space, _ = grown
    w = ["--workspace", str(space.root), "--data", "more"]
    monkeypatch.setattr(index, "have_faiss", lambda: False)
    assert run(["embed", "--name", "bare", *w[:2]]) == 0
    assert run(["embed", "--add-to", "bare", "--name", "bare2", *w]) == 0
    made = Store(space.get("vectors", "bare2"))
    found, _ = made.index("xp")
    assert isinstance(found, index.Exact)
    assert len(found.vectors) == 460
    if "index/xp.faiss" in space.get("vectors", "before").manifest.files:
        capsys.readouterr()
        assert run(["embed", "--add-to", "before", "--name", "bare3", *w]) == 2
        assert "needs FAISS" in capsys.readouterr().err
    for name in ("bare", "bare2"):
        shutil.rmtree(space.get("vectors", name).path)


@pytest.mark.skipif(not have_faiss(), reason="no FAISS here")
def test_an_index_in_parts_takes_the_new_stars_alone(grown, capsys):
    space, _ = grown
    w = ["--workspace", str(space.root)]
    assert run(["index", "--add", "--index", "all", "--vectors", "before", *w]) == 0
    first = space.get("index", "all")
    assert run(["index", "--add", "--index", "all", "--vectors", "more", *w]) == 0
    now, more = space.get("index", "all"), Store(space.get("vectors", "more"))
    for name in more.modalities:
        assert now.manifest.rows[name] - first.manifest.rows[name] == NEW
    kept = {n: f for n, f in first.manifest.files.items() if n.endswith(".faiss")}
    assert all(now.manifest.files[n]["sha256"] == f["sha256"] for n, f in kept.items())
    new = str(more.source_id[-1])
    capsys.readouterr()
    answers = []
    for how in ([], ["--index", "all"]):
        assert run(["search", "--query-id", new, "--vectors", "more", "--json", *how, *w]) == 0
        rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        answers.append([r["source_id"] for r in rows])
    assert answers[0] == answers[1]


def test_questions_are_answered_over_both_releases(grown, capsys):
    space, _ = grown
    w = ["--workspace", str(space.root), "--vectors", "more"]
    star = str(made_stars(NEW, seed=9).tables["objects"]["source_id"][0].as_py())
    capsys.readouterr()
    assert run(["search", "--query-id", star, "--json", *w]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 10
    assert run(["knn", "--target", "teff", *w]) == 0
    assert run(["outliers", "--top", "460", "--json", *w]) == 0
    listed = [
        json.loads(x)["source_id"] for x in capsys.readouterr().out.splitlines() if x[0] == "{"
    ]
    assert star in listed
    assert run(["generate", "--from", "metadata", "--to", "xp", "--query-id", star, "--decoder",
                "run", *w]) == 0  # fmt: skip
    path = str(space.get("vectors", "more").path)
    assert run(["info", path, "--lineage", "--json", "--workspace", str(space.root)]) == 0
    steps = [json.loads(x)["artefact"].strip() for x in capsys.readouterr().out.splitlines()[-7:]]
    assert {"vectors more", "vectors before", "data more", "raw made", "raw second"} < set(steps)


def test_what_was_added_is_added_once(grown, capsys):
    space, _ = grown
    w = ["--workspace", str(space.root)]
    again = ["preprocess", "--add-to", "more", "--raw", "second", "--name", "again", *w]
    capsys.readouterr()
    assert run(again) == 2
    assert f"all {NEW + KNOWN} stars" in capsys.readouterr().err
    assert run(["embed", "--add-to", "more", "--data", "more", "--name", "again", *w]) == 2
    assert "all 460 stars" in capsys.readouterr().err


def test_a_third_release_that_has_one_view_only(grown, capsys):
    space, _ = grown
    w = ["--workspace", str(space.root)]
    third = made_stars(20, seed=11)
    some = {n: t for n, t in third.tables.items() if n != "metadata"}
    fetch_made(space.root, Fetched(some, {"xp": "observed"}), "third")
    assert run(["preprocess", "--add-to", "more", "--raw", "third", "--name", "most", *w]) == 0
    rows = space.get("data", "most").manifest.rows
    assert (rows["objects"], rows["xp"], rows["metadata"]) == (480, 480, 460)
    assert run(["embed", "--add-to", "more", "--data", "most", "--name", "most", *w]) == 0
    store = Store(space.get("vectors", "most"))
    assert np.isfinite(store.vectors("metadata")[:, 0]).sum() == 460
    assert np.isfinite(store.vectors("xp")[:, 0]).sum() == 480
    made, places = store.index("xp")
    assert (places[made.search(store.vectors("xp")[470:], 1)[1][:, 0]] == range(470, 480)).all()
    for kind in ("data", "vectors"):
        shutil.rmtree(space.get(kind, "most").path)


def test_what_cannot_be_added_is_refused(grown, capsys):
    space, _ = grown
    w = ["--workspace", str(space.root)]
    to = ["preprocess", "--add-to", "more", "--raw", "second", *w]
    for flag in (["--normalisation", "mad"], ["--set", "xp.x=1"], ["--like", "more"]):
        assert run([*to, *flag]) == 2
        assert f"{flag[0]} cannot go with --add-to" in capsys.readouterr().err
    assert run(["preprocess", "--raw", "second", "--name", "alone", *w]) == 0
    capsys.readouterr()
    assert run(["embed", "--add-to", "before", "--data", "alone", "--name", "x", *w]) == 2
    said = capsys.readouterr().err
    assert "does not begin with the 400 stars" in said
    assert "mmclip preprocess --add-to" in said
    assert run(["embed", "--add-to", "before", "--factory", "IVF9,Flat", "--name", "x", *w]) == 2
    assert not (space.root / "vectors" / "x").exists()
    shutil.rmtree(space.get("data", "alone").path)


def test_columns_that_do_not_fit_are_named_and_new_ones_are_null_before():
    old = pa.table({"source_id": [1, 2], "n": [1, 2]})
    with pytest.raises(UsageError, match="column 'n'"):
        together(old, pa.table({"source_id": [3], "n": ["many"]}))
    made = together(old, pa.table({"source_id": [3], "n": [7.0], "feh": [0.1]}))
    assert made.to_pylist() == [
        {"source_id": 1, "n": 1, "feh": None},
        {"source_id": 2, "n": 2, "feh": None},
        {"source_id": 3, "n": 7, "feh": 0.1},
    ]
