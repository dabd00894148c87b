"""An index in parts answers as one over all, is added to without rebuilding, survives a kill."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmclip import artifacts
from mmclip.artifacts.workspace import Workspace
from mmclip.cli import run
from mmclip.errors import USAGE, IntegrityError, UsageError
from mmclip.tasks.search import search
from mmclip.tasks.torch_search import Torch, on_device
from mmclip.vectors import index as indexes
from mmclip.vectors import sharded, sharded_build
from mmclip.vectors import store as stores
from mmclip.vectors.exact import Exact
from mmclip.vectors.sharded import Sharded
from mmclip.vectors.sharded_build import Plan
from mmclip.vectors.store import Store
from tests.tasks.test_search import unit_vectors

faiss = pytest.importorskip("faiss")


def signs(count, dim, seed):
    """Vectors of -1/8 and 1/8 in 64 dimensions: unit, products exact, and many of them equal."""
    rng = np.random.default_rng(seed)
    half = rng.integers(0, 2, (count, 4)).repeat(dim // 4, axis=1)
    return ((2 * half - 1) / np.sqrt(dim)).astype(np.float32)


def divided(vectors, cuts, factory, trained=None):
    """One index a part, all with the same cells and codes."""
    trained = trained or indexes.trained(vectors, factory)
    made = []
    for rows in np.split(np.arange(len(vectors)), sorted(cuts)):
        index = faiss.clone_index(trained)
        if len(rows):
            index.add(np.ascontiguousarray(vectors[rows]))
            made.append((index, rows))
    return Sharded(tuple(m[0] for m in made), tuple(m[1] for m in made))


def defined(vectors, queries, k):
    """Scores and rows by the definition: best product first, of equal ones the lowest row."""
    products = queries.astype(float) @ vectors.astype(float).T
    order = np.lexsort((np.broadcast_to(np.arange(len(vectors)), products.shape), -products))
    return np.take_along_axis(products, order[:, :k], 1), order[:, :k]


@given(
    cuts=st.lists(st.integers(0, 300), max_size=5),
    k=st.integers(1, 40),
    queries=st.integers(1, 30),
)
@settings(max_examples=30, deadline=None)
def test_merged_parts_are_the_definition_however_stars_are_divided_and_ties_too(cuts, k, queries):
    vectors, asked = signs(300, 64, 0), signs(queries, 64, 1)
    scores, rows = divided(vectors, cuts, "Flat").search(asked, k)
    expected, order = defined(vectors, asked, k)
    np.testing.assert_array_equal(scores, expected)
    np.testing.assert_array_equal(rows, order)


@pytest.mark.parametrize(
    ("factory", "make"),
    [
        ("Flat", signs),
        ("Flat", unit_vectors),
        ("IVF8,Flat;nprobe=3", signs),
        ("IVF8,Flat;nprobe=3", unit_vectors),
        # Not with ties: FAISS adds a code's entries up in an order that depends on its place.
        ("IVF8,PQ16np;nprobe=3", unit_vectors),
    ],
)
def test_parts_that_share_cells_answer_as_the_undivided_index(factory, make):
    vectors = make(2000, 64, 2)
    queries = make(15, 64, 3)
    trained = indexes.trained(vectors, factory)
    whole = divided(vectors, [], factory, trained)
    scores, rows = whole.search(queries, 7)
    for cuts in ([1000], [1, 1999], [500, 700, 1200]):
        other = divided(vectors, cuts, factory, trained).search(queries, 7)
        np.testing.assert_array_equal(rows, other[1])
        np.testing.assert_allclose(scores, other[0], rtol=1e-6 if "PQ" in factory else 0)
    if make is unit_vectors:  # no ties: FAISS itself has but one answer
        np.testing.assert_array_equal(rows, whole.parts[0].search(queries, 7)[1])


def test_fewer_vectors_than_neighbours_and_a_single_one():
    vectors = signs(3, 64, 0)
    for index in (divided(vectors, [1], "Flat"), Sharded((Torch(_t(vectors)),), (np.arange(3),))):
        scores, rows = index.search(vectors[:1], 5)
        assert sorted(rows[0, :3].tolist()) == [0, 1, 2]
        assert rows[0, 3:].tolist() == [-1, -1]
        assert np.isneginf(scores[0, 3:]).all()
    one = Exact(vectors[:1]).search(vectors, 2)
    assert one[1].tolist() == [[0, -1]] * 3
    none = Exact(vectors[:0]).search(vectors, 2)
    assert none[1].tolist() == [[-1, -1]] * 3


def _t(vectors):
    torch = pytest.importorskip("torch")
    return torch.from_numpy(vectors)


@pytest.mark.parametrize("scores_at_once", [2**28, 700])
def test_torch_on_the_cpu_answers_as_faiss(scores_at_once, monkeypatch):
    monkeypatch.setattr("mmclip.tasks.torch_search.SCORES", scores_at_once)
    vectors, queries = signs(500, 64, 4), signs(20, 64, 5)
    vectors[17] = np.nan
    index = on_device(vectors, "cpu")
    seen = np.delete(np.arange(500), 17)
    flat = faiss.IndexFlatIP(64)
    flat.add(vectors[seen])
    theirs = Sharded((flat,), (seen,)).search(queries, 13)
    ours = index.search(queries, 13)
    np.testing.assert_array_equal(ours[0], theirs[0])
    np.testing.assert_array_equal(ours[1], theirs[1])
    assert on_device(vectors, "auto") is None or _t(vectors[:1]).new_zeros(1).device.type == "cpu"


@pytest.fixture
def store(trained):
    return Store(Workspace(trained).get("vectors"))


def part_of(store, folder, keep):
    """A vectors artefact of the same run with some of the stars, as an earlier embed left it."""
    vectors = {n: store.vectors(n)[keep] for n in store.modalities}
    with artifacts.building(folder) as temporary:
        split = store.splits["split"].take(keep)
        about = stores.write(temporary, store.source_id[keep], split, vectors, "Flat")
        artifacts.seal(
            temporary, "vectors", config={}, parents=list(store.artifact.manifest.parents),
            rows={}, surveys=[], provenance=store.artifact.manifest.provenance, seed=None,
            notes={"indexes": about},
        )  # fmt: skip
    return Store(artifacts.read(folder))


def the_same_answers(store, index, view="xp"):
    """Neighbours by an index in parts are those of the exact search over the store's vectors."""
    vectors = store.vectors(view)
    rows = np.flatnonzero(np.isfinite(vectors[:, 0]))
    found = sharded.read(index, store, view).search(vectors[rows[:15]], 5)[1]
    expected = rows[defined(vectors[rows], vectors[rows[:15]], 5)[1]]
    np.testing.assert_array_equal(found, expected)


def test_new_stars_are_added_and_what_stands_is_not_touched(store, tmp_path):
    rng = np.random.default_rng(0)
    early = np.sort(rng.permutation(len(store.source_id))[:250])
    first = sharded_build.add(
        part_of(store, tmp_path / "early", early), Plan(rows=100), tmp_path / "i"
    )
    assert sharded.files(first, "xp")[-1] == "xp/part-00002.faiss"
    before = {f: (first.path / f).stat().st_ino for f in first.manifest.files}
    second = sharded_build.add(store, sharded_build.plan_of(first), tmp_path / "i", first)
    for file, sums in first.manifest.files.items():
        assert second.manifest.files[file] == sums
        assert (second.path / file).stat().st_ino == before[file]
    seen = int(np.isfinite(store.vectors("xp")[:, 0]).sum())
    assert second.manifest.notes["indexes"]["xp"]["vectors"] == seen
    assert artifacts.faults(second) == []
    the_same_answers(store, second)
    assert sharded_build.add(store, sharded_build.plan_of(second), tmp_path / "i", second) is second
    assert [p["kind"] for p in second.manifest.parents] == ["vectors", "vectors"]


def test_a_killed_addition_leaves_what_stood_and_goes_on_with_the_next_part(
    store, tmp_path, monkeypatch
):
    written = []
    write = sharded_build._write

    def dying(index, path):
        if len(written) == 3:
            raise KeyboardInterrupt
        written.append(path.name)
        write(index, path)

    monkeypatch.setattr(sharded_build, "_write", dying)
    with pytest.raises(KeyboardInterrupt):
        sharded_build.add(store, Plan(rows=100), tmp_path / "i")
    assert not (tmp_path / "i").exists()
    assert written == ["trained.faiss", "part-00000.faiss", "part-00001.faiss"]
    again = []
    monkeypatch.setattr(sharded_build, "_write", lambda i, p: (again.append(p.name), write(i, p)))
    made = sharded_build.add(store, Plan(rows=100), tmp_path / "i")
    view = store.modalities[0]
    assert again[: len(sharded.files(made, view)) - 2] == [
        f.split("/")[1] for f in sharded.files(made, view)[2:]
    ]
    the_same_answers(store, made)
    assert [p.name for p in tmp_path.iterdir()] == ["i"]


@pytest.mark.parametrize("factory", ["IVF4,Flat", "HNSW8,Flat", "IVF4,PQ8np,RFlat;nprobe=4"])
def test_an_approximate_index_says_the_recall_that_it_has(store, tmp_path, factory):
    made = sharded_build.add(store, Plan(factory, rows=150), tmp_path / "i")
    about = made.manifest.notes["indexes"]["xp"]
    vectors = store.vectors("xp")
    rows = np.flatnonzero(np.isfinite(vectors[:, 0]))
    asked = rows[indexes.held_out(len(rows))]
    products = vectors[asked] @ vectors[rows].T
    products[asked[:, None] == rows] = -np.inf
    tenth = -np.sort(-products, axis=1)[:, 9]
    _, found = sharded.read(made, store, "xp").search(vectors[asked], 11)
    hits = [
        sum(bool(v @ vectors[r] >= t - 1e-6) for r in f if r not in (-1, q))
        for v, t, f, q in zip(vectors[asked], tenth, found, asked, strict=True)
    ]
    assert about["asked"] == len(asked)
    assert about["recall@10"] == pytest.approx(np.minimum(hits, 10).mean() / 10, abs=0.01)
    assert about["recall@10"] > 0.5


def test_an_index_of_another_run_or_of_unknown_stars_is_refused(store, tmp_path, monkeypatch):
    made = sharded_build.add(store, Plan(), tmp_path / "i")
    few = part_of(store, tmp_path / "few", np.arange(50))
    with pytest.raises(UsageError, match=r"holds \d+ stars that"):
        sharded.read(made, few, "xp")
    monkeypatch.setattr(sharded, "run_of", lambda store: "another")
    with pytest.raises(UsageError, match="another run"):
        sharded.read(made, store, "xp")
    with pytest.raises(UsageError, match="another run"):
        sharded_build.add(store, Plan(), tmp_path / "i", made)


def test_a_damaged_part_is_found(store, tmp_path):
    made = sharded_build.add(store, Plan(), tmp_path / "i")
    file = made.path / "xp/part-00000.faiss"
    body = bytearray(file.read_bytes())
    body[-1] ^= 1
    file.write_bytes(body)
    with pytest.raises(IntegrityError, match="SHA-256"):
        sharded.read(made, store, "xp")


def test_the_command_adds_lists_and_is_searched(trained, store, capsys):
    w = ["--workspace", str(trained)]
    query = str(store.source_id[np.argmax(np.isfinite(store.vectors("xp")[:, 0]))])
    plain = ["search", "--query-id", query, "--from", "xp", "-k", "4", "--json", *w]
    add = ["index", "--add", "--index", "p", "--part-rows", "90", "--json", *w]
    try:
        assert run(add) == 0
        assert json.loads(capsys.readouterr().out.splitlines()[0])["parts"] > 1
        assert run(["index", "--add", "--index", "p", "--factory", "HNSW8,Flat", *w]) == USAGE
        assert "stands with factory Flat" in capsys.readouterr().err
        answers = []
        for more in ([], ["--index", "p"], ["--device", "cpu"]):
            assert run([*plain, *more]) == 0
            answers.append([json.loads(x) for x in capsys.readouterr().out.splitlines()])
        for other in answers[1:]:
            assert [r["source_id"] for r in other] == [r["source_id"] for r in answers[0]]
            assert [r["cosine"] for r in other] == pytest.approx([r["cosine"] for r in answers[0]])
        assert run(["index", *w]) == 0
        assert "index in parts" in capsys.readouterr().out
        assert run(["search", "--query-id", query, "--index", "no", *w]) == USAGE
        assert run(["index", "--factory", "Flat", *w]) == USAGE
    finally:
        import shutil

        shutil.rmtree(trained / "indexes", ignore_errors=True)


def test_neighbours_of_a_star_never_name_itself(store):
    ids = [int(s) for s in store.source_id[:5]]
    views = [v for v in store.modalities if np.isfinite(store.vectors(v)[:5, 0]).all()]
    found = search(store, ids, views[0], views[0], 3)
    assert all(r["query_id"] != int(r["source_id"]) for r in found)
    assert [r["rank"] for r in found] == [1, 2, 3] * 5


def test_the_store_is_as_it_was(trained):
    # Other tests share this workspace.
    assert not (trained / "indexes").exists()
    assert (
        "index"
        not in pq.read_schema(Workspace(trained).get("vectors").path / "vectors.parquet").names
    )
