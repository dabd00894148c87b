"""Answers as HATS catalogues: hats' own checker passes them, lsdb opens and joins them."""

import warnings

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmclip.artifacts.workspace import Workspace
from mmclip.cli import run
from mmclip.datasets import hats, tables
from mmclip.errors import UsageError
from mmclip.tasks import publish


@pytest.fixture(scope="module")
def vectors(trained, tmp_path_factory):
    """The vectors of 400 made stars as a catalogue, through the command."""
    folder = tmp_path_factory.mktemp("hats") / "embeddings"
    name = Workspace(trained).all("vectors")[0].path.name
    assert run(["publish", name, "--hats", str(folder), "-w", str(trained)]) == 0
    return folder


@pytest.fixture(scope="module")
def gaia(trained, tmp_path_factory):
    """Another catalogue of half of the stars, with a column of its own."""
    folder = tmp_path_factory.mktemp("gaia")
    objects = pq.read_table(Workspace(trained).all("data")[0].path / "objects.parquet")
    half = objects.select(["source_id", "ra", "dec", "teff"]).slice(0, 200)
    tables.write(folder / "stars.parquet", half)
    assert run(["publish", str(folder / "stars.parquet"), "--hats", str(folder / "gaia")]) == 0
    return folder / "gaia", half


def properties(folder):
    lines = (folder / "hats.properties").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines)


def test_the_rows_are_those_of_the_vectors_with_positions(vectors, trained):
    space = Workspace(trained)
    stored = pq.read_table(space.all("vectors")[0].path / "vectors.parquet")
    objects = pq.read_table(space.all("data")[0].path / "objects.parquet")
    files = sorted((vectors / "dataset").rglob("Npix=*.parquet"))
    made = pa.concat_tables([pq.read_table(f, partitioning=None) for f in files])
    assert made.num_rows == stored.num_rows == 400
    made, stored = made.sort_by("source_id"), stored.sort_by("source_id")
    assert made["xp"].to_pylist() == stored["xp"].to_pylist()
    where = {r["source_id"]: (r["ra"], r["dec"]) for r in objects.to_pylist()}
    assert [(r["ra"], r["dec"]) for r in made.select(["ra", "dec"]).to_pylist()] == [
        where[i] for i in made["source_id"].to_pylist()
    ]


def test_the_checker_of_hats_finds_no_fault(vectors, gaia):
    checker = pytest.importorskip("hats.io.validation", reason="the extra hats is not installed")
    for folder in (vectors, gaia[0]):
        assert checker.is_valid_catalog(folder, strict=True)


def test_properties_say_where_it_comes_from(vectors, trained):
    artifact = Workspace(trained).all("vectors")[0]
    about = properties(vectors)
    assert about["mmclip_fingerprint"] == artifact.manifest.fingerprint
    assert about["mmclip_provenance"] == "metadata observed; xp observed"
    assert about["prov_progenitor"] == "made 1"
    assert about["hats_nrows"] == "400"


@pytest.mark.slow
def test_lsdb_opens_it_and_joins_it_to_another_catalogue(vectors, gaia):
    lsdb = pytest.importorskip("lsdb", reason="the extra hats is not installed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of margins, which stars at one position do not need
        ours = lsdb.open_catalog(vectors)
        theirs = lsdb.open_catalog(gaia[0])
        by = {"left_on": "source_id", "right_on": "source_id", "suffixes": ("", "_gaia")}
        both = ours.join(theirs, **by, suffix_method="overlapping_columns").compute()
    assert len(ours) == 400
    wanted = dict(zip(gaia[1]["source_id"].to_pylist(), gaia[1]["teff"].to_pylist()))
    assert dict(zip(both["source_id"].tolist(), both["teff"].tolist())) == wanted
    assert np.linalg.norm(np.stack(both["xp"].to_numpy())[0]) == pytest.approx(1, abs=1e-5)


def test_wide_rows_make_smaller_pixels_and_every_row_is_there_once(tmp_path, monkeypatch):
    """Shards that are not sorted, a limit in bytes, positions from elsewhere."""
    rng = np.random.default_rng(4)
    ids = rng.choice(12 * 4**12, 6000, replace=False).astype(np.int64) * 2**35 + 8
    ra, dec = rng.uniform(0, 360, 6000), np.degrees(np.arcsin(rng.uniform(-1, 1, 6000)))
    values = rng.normal(size=(6000, 4)).astype("f4")
    for n in range(2):
        rows = np.arange(n, 6000, 2)
        lists = pa.FixedSizeListArray.from_arrays(pa.array(values[rows].reshape(-1)), 4)
        tables.write(tmp_path / f"{n}.parquet", pa.table({"source_id": ids[rows], "v": lists}))
    positions = pa.table({"source_id": ids, "ra": ra, "dec": dec})
    monkeypatch.setattr(hats, "PIXEL_BYTES", 1)  # 1,000 rows a pixel, the least
    files = sorted(tmp_path.glob("*.parquet"))
    assert hats.write(files, tmp_path / "made", "made", positions) == 6000
    found = {}
    for file in (tmp_path / "made" / "dataset").rglob("Npix=*.parquet"):
        made = pq.read_table(file, partitioning=None)
        assert made.num_rows <= 1000
        for row in made.to_pylist():
            assert row["source_id"] not in found
            found[row["source_id"]] = (row["ra"], row["dec"], row["v"])
    assert found == {
        int(i): (a, d, v.tolist()) for i, a, d, v in zip(ids, ra, dec, values, strict=True)
    }


def test_a_map_goes_back_to_its_stars_and_others_are_refused(trained, tmp_path, capsys):
    space = Workspace(trained)
    source = space.all("vectors")[0]
    assert publish.data_of(space, source).manifest.kind == "data"
    tables.write(tmp_path / "scores.parquet", pa.table({"score": [1.0]}))
    with pytest.raises(UsageError, match="no column source_id"):
        publish.publish(space, tmp_path / "scores.parquet", tmp_path / "a", "a")
    with pytest.raises(UsageError, match="run artefact"):
        publish.publish(space, space.all("run")[0], tmp_path / "b", "b")
    assert run(["publish", source.path.name, "--hats", str(tmp_path), "-w", str(trained)]) == 1
    assert "exists already" in capsys.readouterr().err
