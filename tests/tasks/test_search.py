"""Search: filters, radius, contrast, averages, new objects, approximate indexes, SAMP."""

import io
import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmclip.artifacts.workspace import Workspace
from mmclip.cli import run
from mmclip.errors import REMOTE, USAGE, NotFound
from mmclip.ids import reorder, rows_of
from mmclip.tasks.search import answers, search, stored
from mmclip.vectors import index as indexes
from mmclip.vectors.exact import Exact
from mmclip.vectors.store import Store, unit
from tests.cli.test_cli import ask


def unit_vectors(count, dim, seed=0, groups=20):
    """Unit vectors in clumps, as embeddings are."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(groups, dim))
    return unit(centres[rng.integers(0, groups, count)] + 0.5 * rng.normal(size=(count, dim)))


@pytest.fixture(scope="module")
def store(trained):
    return Store(Workspace(trained).get("vectors"))


@pytest.fixture(scope="module")
def objects(trained):
    return pq.read_table(trained / "data" / "made" / "objects.parquet")


def lines(out):
    return [json.loads(line) for line in out.splitlines()]


@given(st.lists(st.integers(0, 40), unique=True), st.lists(st.integers(0, 40), unique=True))
def test_ids_are_located_among_others(ids, among):
    found = reorder(np.array(among, np.int64), np.array(ids, np.int64))
    if among == ids:
        assert found is None
    else:
        assert found.tolist() == [among.index(i) if i in among else -1 for i in ids]
    twice = np.array([*ids, *ids], np.int64)
    found = rows_of(np.array(among, np.int64), twice)
    assert found.tolist() == [among.index(i) if i in among else -1 for i in twice]


def test_a_filter_leaves_only_such_stars_and_their_true_order(trained, store, objects, capsys):
    teff = dict(zip(objects["source_id"].to_pylist(), objects["teff"].to_pylist(), strict=True))
    query = int(store.source_id[3])
    code, out, _ = ask(
        capsys, "search", "--query-id", query, "--where", "teff > 6000", "-k", 7, "--json",
        "-w", trained,
    )  # fmt: skip
    assert code == 0
    vectors = store.vectors("xp")
    hot = np.array([teff[int(s)] > 6000 for s in store.source_id])
    hot[3] = False
    order = np.argsort(np.where(hot, -(vectors @ vectors[3]), np.inf))[:7]
    assert [int(r["source_id"]) for r in lines(out)] == store.source_id[order].tolist()


@given(radius=st.floats(0.0, 2.0))
@settings(max_examples=20, deadline=None)
def test_a_radius_holds_exactly_the_stars_within_it(store, radius):
    found = search(store, [int(store.source_id[5])], "xp", "xp", None, radius)
    distance = 1 - store.vectors("xp") @ store.vectors("xp")[5]
    distance[5] = np.inf
    clear = np.abs(distance - radius) > 1e-5  # rounding decides at the very edge
    inside = {int(s) for s in store.source_id[(distance <= radius) & clear]}
    listed = {r["source_id"] for r in found}
    assert inside <= listed <= inside | {int(s) for s in store.source_id[~clear]}
    assert [r["cosine"] for r in found] == sorted((r["cosine"] for r in found), reverse=True)


def test_contrast_orders_the_nearest_by_how_unlike_they_are_in_the_other_view(store):
    query = int(store.source_id[11])
    plain = search(store, [query], "xp", "xp", 10)
    contrast = search(store, [query], "xp", "xp", 10, contrast="metadata")
    assert {r["source_id"] for r in plain} == {r["source_id"] for r in contrast}
    unlike = [r["cosine metadata"] for r in contrast]
    assert unlike == sorted(unlike)
    row = store.rows([contrast[0]["source_id"]])[0]
    assert unlike[0] == pytest.approx(
        float(store.vectors("metadata")[row] @ store.vectors("metadata")[11]), abs=1e-6
    )


def test_the_mean_of_views_is_the_average_of_those_present(store):
    both = np.stack([store.vectors("xp"), store.vectors("metadata")]).astype(float)
    np.testing.assert_allclose(store.average(), both.mean(axis=0), atol=1e-6)
    lengths = np.linalg.norm(store.vectors("mean"), axis=1)
    np.testing.assert_allclose(lengths, 1.0, atol=1e-5)
    found = search(store, [int(store.source_id[0])], "mean", "mean", 3)
    assert len(found) == 3


def test_ids_come_by_commas_and_from_standard_input(trained, store, capsys, monkeypatch):
    three = [int(s) for s in store.source_id[:3]]
    _, by_comma, _ = ask(
        capsys, "search", "--query-id", ",".join(map(str, three)), "--json", "-w", trained
    )
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(map(str, three))))
    _, by_stdin, _ = ask(capsys, "search", "--query-id", "-", "--json", "-w", trained)
    assert by_comma == by_stdin
    assert {int(r["query_id"]) for r in lines(by_comma)} == set(three)


def new_file(trained, tmp_path, row, suffix):
    """One raw star of the workspace as a file of its own."""
    table = pq.read_table(trained / "raw" / "made" / "xp.parquet").slice(row, 1)
    file = tmp_path / f"new{suffix}"
    if suffix == ".parquet":
        pq.write_table(table, file)
    elif suffix == ".csv":  # in long form: one pixel a line
        flux, error = table["flux"][0].as_py(), table["flux_error"][0].as_py()
        lines = [f"{f!r},{e!r}" for f, e in zip(flux, error, strict=True)]
        file.write_text("flux,flux_error\n" + "\n".join(lines))
    else:
        from astropy.table import Table

        Table({n: np.array(table[n].to_pylist()) for n in table.column_names}).write(file)
    return file, table["source_id"][0].as_py()


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".fits"])
def test_a_new_objects_file_finds_the_same_star_in_the_store(trained, tmp_path, capsys, suffix):
    file, source_id = new_file(trained, tmp_path, 29, suffix)
    code, out, err = ask(
        capsys, "search", "--query-file", file, "--from", "xp", "-k", 1, "--json", "-w", trained
    )
    assert code == 0, err
    assert int(lines(out)[0]["source_id"]) == source_id
    assert lines(out)[0]["cosine"] == pytest.approx(1.0, abs=1e-4)


def test_a_file_without_the_columns_of_the_view_names_them(trained, tmp_path, capsys):
    file = tmp_path / "other.csv"
    file.write_text("wavelength,counts\n400,1\n")
    code, _, err = ask(capsys, "search", "--query-file", file, "--from", "xp", "-w", trained)
    assert code == USAGE
    assert "flux [relative]" in err
    assert "wavelength, counts" in err


@pytest.mark.parametrize(("bad", "reason"), [(0.6, "fewer than half"), (1.0, "no spectrum")])
def test_a_rejected_new_object_is_counted_by_its_reason(trained, tmp_path, capsys, bad, reason):
    table = pq.read_table(trained / "raw" / "made" / "xp.parquet").slice(0, 2)
    flux = np.array(table["flux"].to_pylist())
    flux[0, : int(bad * flux.shape[1])] = np.nan
    table = table.set_column(1, "flux", [list(map(list, flux))])
    pq.write_table(table, tmp_path / "two.parquet")
    code, out, err = ask(
        capsys, "search", "--query-file", tmp_path / "two.parquet", "-k", 1, "--json", "-w", trained
    )
    assert code == 0
    assert "left out 1" in err
    assert reason in err
    assert len(lines(out)) == 1


def test_an_unobserved_view_is_refused_by_name(store):
    class Half(Store):
        def vectors(self, name):
            made = super().vectors(name).copy()
            made[0] = np.nan
            return made

    with pytest.raises(NotFound, match="was not observed in xp"):
        stored(Half(store.artifact), [int(store.source_id[0])], "xp")


def test_a_query_that_is_not_in_the_store_may_have_any_star_as_answer(store):
    queries = stored(store, [int(store.source_id[0])], "xp")
    foreign = type(queries)(["new"], queries.vectors, np.array([-1]))
    assert answers(store, foreign, "xp", "xp", 1)[0]["source_id"] == int(store.source_id[0])


FACTORIES = ["Flat", "IVF16,Flat", "HNSW16,Flat", "IVF16,PQ8x4,RFlat", "IVF16,Flat;nprobe=16"]


@pytest.mark.parametrize("factory", FACTORIES)
def test_measured_recall_is_that_of_brute_force_on_vectors_outside_the_index(factory):
    pytest.importorskip("faiss")
    vectors = unit_vectors(4000, 32)
    index, about = indexes.measured(vectors, factory)
    asked = indexes.held_out(len(vectors))
    assert about["held out"] == 200
    # The finished index against brute force, entry by entry: the star itself must be found now.
    _, found = index.search(vectors[asked], 10)
    exact = factory in ("Flat", "IVF16,Flat;nprobe=16")
    assert (found == asked[:, None]).any(axis=1).mean() >= (1.0 if exact else 0.9)
    assert about["recall@10"] == 1.0 if exact else about["recall@10"] >= 0.9


def test_recall_counts_what_is_missed():
    vectors = unit_vectors(500, 8)
    queries = unit_vectors(50, 8, seed=1)

    class Half:
        """Finds only the even rows."""

        def search(self, queries, k):
            _, rows = Exact(vectors).search(queries, len(vectors))
            even = rows[:, :] % 2 == 0
            kept = np.array([r[e][:k] for r, e in zip(rows, even, strict=True)])
            return None, kept

    truth = Exact(vectors).search(queries, 10)[1]
    expected = (truth % 2 == 0).mean()
    assert indexes.recall(Half(), vectors, queries) == pytest.approx(expected)
    assert indexes.recall(Exact(vectors), vectors, queries) == 1.0


def test_an_approximate_store_says_its_recall_and_reads_back_the_same(trained, tmp_path, capsys):
    pytest.importorskip("faiss")
    code, out, _ = ask(
        capsys, "embed", "--factory", "HNSW8,Flat", "--name", "approximate", "-w", trained
    )
    assert code == 0
    assert "recall@10" in out
    space = Workspace(trained)
    made, exact = (Store(space.get("vectors", n)) for n in ("approximate", "metadata-xp"))
    ids = [int(i) for i in exact.source_id[:40]]
    found = [[r["source_id"] for r in search(s, ids, "xp", "xp", 5)] for s in (made, exact)]
    assert np.mean(np.array(found[0]) == np.array(found[1])) > 0.9
    import shutil

    shutil.rmtree(trained / "vectors" / "approximate")


def test_the_picture_of_a_search_is_written(trained, store, capsys, tmp_path):
    code, _, _ = ask(
        capsys, "search", "--query-id", int(store.source_id[0]), "--from", "metadata", "--to", "xp",
        "--plot", tmp_path / "s.png", "-w", trained,
    )  # fmt: skip
    assert code == 0
    assert (tmp_path / "s.png").read_bytes()[:4] == b"\x89PNG"


def test_without_a_hub_samp_is_a_remote_error(trained, store, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("SAMP_HUB", f"std-lockurl:{(tmp_path / 'none').as_uri()}")
    code, _, err = ask(
        capsys, "search", "--query-id", int(store.source_id[0]), "--samp", "topcat", "-w", trained
    )
    assert code == REMOTE
    assert "TOPCAT" in err


def test_a_listening_program_gets_the_table_over_samp(trained, store, monkeypatch, tmp_path):
    samp = pytest.importorskip("pyvo.samp")
    monkeypatch.setenv("SAMP_HUB", f"std-lockurl:{(tmp_path / 'lock').as_uri()}")
    from pyvo.samp import conf

    monkeypatch.setattr(conf, "use_internet", False)
    hub = samp.SAMPHubServer(
        web_profile=False, mode="multiple", lockfile=str(tmp_path / "lock"), addr="127.0.0.1"
    )
    hub.start()
    topcat = samp.SAMPIntegratedClient(name="topcat", addr="127.0.0.1")
    got = []
    try:
        topcat.connect(hub_params=hub.params)
        topcat.bind_receive_notification(
            "table.load.votable", lambda key, sender, mtype, params, extra: got.append(params)
        )
        code = run(
            ["search", "--query-id", str(store.source_id[0]), "--samp", "topcat", "-w",
             str(trained)]
        )  # fmt: skip
        import time

        for _ in range(50):
            if got:
                break
            time.sleep(0.1)
    finally:
        topcat.disconnect()
        hub.stop()
    assert code == 0
    from astropy.table import Table

    assert len(Table.read(got[0]["url"].removeprefix("file://"))) == 10


@pytest.mark.parametrize("more", [[], ["-k", "3"], ["--to", "metadata", "--json"]])
def test_a_query_id_without_an_id_answers_for_a_test_star_and_says_which(
    trained, store, capsys, more
):
    code, out, err = ask(capsys, "search", "--json", "-w", trained, "--query-id", *more)
    assert code == 0, err
    rows = lines(out)
    seen = np.isfinite(store.vectors("xp")[:, 0])
    first = int(store.source_id[seen & (store.split == "test")][0])
    assert {r["query_id"] for r in rows} == {str(first)}
    assert len(rows) == (3 if "-k" in more else 10)
    assert f"for example {first}" in err
    code, _, err = ask(capsys, "search", "--query-id", "-5", "-w", trained)
    assert code == 2
    assert "a star of the test split" not in err
