"""`mmclip preprocess`: joining, splitting, statistics, resuming, in one process and in several."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmclip import arrays
from mmclip.artifacts.workspace import Workspace
from mmclip.cli import run
from mmclip.datasets import join, prepare, split, tables
from mmclip.datasets.build import PreprocessConfig, open_dataset, plan, read_statistics
from mmclip.errors import USAGE
from mmclip.surveys import Fetched
from mmclip.surveys.demo import table
from tests.conftest import fetch_made, made_stars
from tests.shared import shared


def ask(capsys, *arguments):
    capsys.readouterr()
    code = run([str(a) for a in arguments])
    shown = capsys.readouterr()
    return code, shown.out, shown.err


def list_column(rows, kind=None):
    return pa.array([np.asarray(r) for r in rows], kind or pa.list_(pa.float64()))


def made_curves(ids, seed=0, points=60):
    rng = np.random.default_rng(seed)
    time = [np.sort(rng.uniform(0, 500, points)) for _ in ids]
    flux = [1 + 0.3 * np.sin(2 * np.pi * t / 0.7) + rng.normal(0, 0.01, points) for t in time]
    return pa.table(
        {
            "source_id": pa.array(ids, pa.int64()),
            "time": list_column(time),
            "flux": list_column(flux),
            "error": list_column([np.full(points, 0.01)] * len(ids)),
            "period": pa.array(rng.uniform(0.3, 30, len(ids))),
        }
    )


def made_spectra(ids, seed=0):
    rng = np.random.default_rng(seed)
    waves = 10 ** (3.5 + 1e-3 * np.arange(600))
    return pa.table(
        {
            "source_id": pa.array(ids, pa.int64()),
            "wavelength": list_column([waves] * len(ids)),
            "flux": list_column(rng.normal(5, 1, (len(ids), 600))),
            "sigma": list_column(np.ones((len(ids), 600))),
        }
    )


def second_survey(first, extra=50, seed=5):
    """Light curves and spectra of some stars of the first survey and of some of its own."""
    ids = first.tables["objects"]["source_id"].to_numpy()
    rng = np.random.default_rng(seed)
    own = np.sort(rng.choice(2**50, extra, replace=False).astype(np.int64) * 6000 + 11)
    here = np.concatenate([ids[::4], own])
    objects = table(
        {"source_id": here, "ra": rng.uniform(0, 360, len(here)), "dec": np.zeros(len(here)),
         "v_mag": rng.uniform(8, 15, len(here)), "teff": np.full(len(here), np.nan)}
    )  # fmt: skip
    tables_ = {
        "objects": objects,
        "photometry": made_curves(here),
        "spectra": made_spectra(here[:9]),
    }
    return Fetched(tables_, {"photometry": "observed", "spectra": "modelled"})


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    root = tmp_path_factory.mktemp("two")
    first = made_stars(200)
    fetch_made(root, first, "stars")
    fetch_made(root, second_survey(first), "curves")
    return root, first


def test_raw_artefacts_are_joined_and_absent_views_are_flagged(two, capsys):
    root, first = two
    code, _, err = ask(capsys, "preprocess", "-w", root, "--name", "all")
    assert code == 0, err
    assert "spectra is MODELLED" in err
    data = open_dataset(Workspace(root).get("data", "all"))
    assert sorted(data.views) == ["metadata", "photometry", "spectra", "xp"]
    assert len(data.source_id) == len(np.unique(data.source_id)) == 250
    has = {n: arrays.column(data.objects, f"has_{n}") for n in data.views}
    assert {n: int(v.sum()) for n, v in has.items()} == {
        "metadata": 200, "photometry": 100, "spectra": 9, "xp": 200,
    }  # fmt: skip
    assert (has["xp"] & has["photometry"]).sum() == 50
    for name, view in data.views.items():
        np.testing.assert_array_equal(view.present, has[name])
    # A column of both is taken where it is known; one of one alone is unknown elsewhere.
    teff = dict(zip(data.source_id.tolist(), data.objects["teff"].to_pylist(), strict=True))
    truth = first.tables["objects"]
    for i, t in zip(truth["source_id"].to_pylist(), truth["teff"].to_pylist(), strict=True):
        assert teff[i] == t
    assert sum(t is None or np.isnan(t) for t in teff.values()) == 50
    assert data.views["photometry"].size == (200, 9)
    assert len(data.artifact.manifest.parents) == 2


def labelled(root, name, columns):
    """A raw artefact of one survey with labels, and a view so that it can be prepared."""
    objects = pa.table({"ra": [10.0] * 3, "dec": [0.0] * 3} | columns)
    xp = pa.table({"source_id": objects["source_id"], "flux": [np.linspace(1, 2, 343)] * 3})
    fetch_made(root, Fetched({"objects": objects, "xp": xp}, {"xp": "observed"}), name)


def test_a_label_of_two_surveys_is_the_firsts_and_the_other_is_kept(tmp_path):
    labelled(tmp_path, "gaia", {
        "source_id": [1, 2, 3], "phot_g_mean_mag": [12.0, None, 14.0], "j_m": [9.0, 9.5, 10.0],
        "class": ["a", "b", "c"], "ra": [10.0, 11.0, 12.0],
    })  # fmt: skip
    labelled(tmp_path, "asas-sn", {
        "source_id": [2, 3, 4], "phot_g_mean_mag": [13.1, 14.1, 15.1], "j_m": [9.5, 10.0, 11.0],
        "class": [7, 8, 9], "ra": [11.1, 12.1, 13.1],
    })  # fmt: skip
    raws = [Workspace(tmp_path).get("raw", n) for n in ("gaia", "asas-sn")]
    made = {r["source_id"]: r for r in join.objects(raws).to_pylist()}
    assert {i: r["phot_g_mean_mag"] for i, r in made.items()} == {
        1: 12.0,
        2: 13.1,
        3: 14.0,
        4: 15.1,
    }
    other = {i: r["phot_g_mean_mag_asas_sn"] for i, r in made.items()}
    assert other == {1: None, 2: 13.1, 3: 14.1, 4: 15.1}
    assert {i: r["ra"] for i, r in made.items()} == {1: 10.0, 2: 11.0, 3: 12.0, 4: 13.1}
    assert not {"j_m_asas_sn", "ra_asas_sn", "dec_asas_sn"} & set(made[1])  # nothing differs
    assert {i: r["class"] for i, r in made.items()} == {1: "a", 2: "b", 3: "c", 4: "9"}
    turned = {r["source_id"]: r for r in join.objects(raws[::-1]).to_pylist()}
    assert turned[3]["phot_g_mean_mag"] == 14.1
    assert turned[3]["phot_g_mean_mag_gaia"] == 14.0
    assert turned[3]["class"] == 8  # text does not fit among numbers: it is kept beside
    assert turned[3]["class_gaia"] == "c"


def test_only_the_raw_artefacts_that_hold_what_is_asked_are_used(two, capsys):
    root, _ = two
    code, _, _ = ask(capsys, "preprocess", "-w", root, "--modalities", "xp,metadata", "--name", "x")
    assert code == 0
    manifest = Workspace(root).get("data", "x").manifest
    assert [p["name"] for p in manifest.parents] == ["stars"]
    assert manifest.rows["objects"] == 200


def test_statistics_are_of_the_training_split_alone(two, capsys):
    root, first = two
    for method in ("z", "mad"):
        assert ask(capsys, "preprocess", "-w", root, "--raw", "stars", "--modalities", "metadata",
                   "--normalisation", method, "--name", method)[0] == 0  # fmt: skip
        data = open_dataset(Workspace(root).get("data", method))
        j = np.array(first.tables["metadata"]["j_m"].to_pylist(), "f4").astype(float)
        rows = dict(zip(first.tables["objects"]["source_id"].to_pylist(), j, strict=True))
        train = np.array([rows[i] for i in data.source_id[data.split == "train"].tolist()])
        by = data.views["metadata"].statistics
        if method == "z":
            wanted = train.mean(), train.std()
        else:
            middle = np.median(train)
            wanted = middle, 1.4826 * np.median(np.abs(train - middle))
        assert (by.centre[0], by.scale[0]) == pytest.approx(wanted, rel=1e-6)
        everyone = np.array(list(rows.values()))
        assert by.centre[0] != pytest.approx(everyone.mean(), rel=1e-9)


def test_measures_of_a_curve_are_standardised_once_a_star_and_the_points_kept(two, capsys):
    root, _ = two
    assert ask(capsys, "preprocess", "-w", root, "--raw", "curves", "--modalities", "photometry",
               "--name", "lc")[0] == 0  # fmt: skip
    data = open_dataset(Workspace(root).get("data", "lc"))
    values = data.views["photometry"].values.reshape(-1, 200, 9)[data.split == "train"]
    seen = np.isfinite(values[:, 0, 0])
    first = values[seen, 0, 3:7].astype(float)
    np.testing.assert_allclose(first.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(first.std(axis=0), 1, rtol=1e-4)
    assert values[seen][:, :60, 0].min() == 0
    assert values[seen][:, :60, 0].max() == 1
    by = data.views["photometry"].statistics
    assert set(by.scale.reshape(200, 9)[:, [0, 1, 2, 7, 8]].ravel()) == {1.0}


def test_settings_reach_the_data_from_flag_file_preset_and_an_earlier_data_set(
    two, capsys, tmp_path
):
    root, _ = two
    toml = tmp_path / "c.toml"
    toml.write_text("[preprocess]\nmodalities = 'spectra'\n[spectra]\nstep = 10.0\npixels = 100\n")
    common = ("preprocess", "-w", root, "--raw", "curves")
    flag = "spectra.resampling=linear"
    assert ask(capsys, *common, "--config", toml, "--set", flag, "--name", "s1")[0] == 0
    first = Workspace(root).get("data", "s1")
    kept = read_statistics(first, "spectra").settings
    assert (kept["step"], kept["pixels"], kept["resampling"]) == (10.0, 100, "linear")
    assert first.manifest.config["settings"]["spectra"] == kept
    assert open_dataset(first).views["spectra"].size == (100,)
    assert ask(capsys, *common, "--like", "s1", "--name", "s2")[0] == 0
    assert read_statistics(Workspace(root).get("data", "s2"), "spectra").settings == kept
    asked = ("--modalities", "spectra,photometry", "--set", "photometry.length=50")
    code, _, err = ask(capsys, *common, "--preset", "astrom3", *asked, "--name", "s3")
    assert code == 0, err
    data = open_dataset(Workspace(root).get("data", "s3"))
    assert data.views["spectra"].size == (3, 2575)
    assert data.views["photometry"].size == (50, 9)
    assert data.artifact.manifest.config["settings"]["spectra"]["error"] == "ivar"


BAD = [
    (("--set", "spectra.resampling"), "not NAME.KEY=VALUE", "spectra.resampling=linear"),
    (("--set", "spectra.resamplin=linear"), "did you mean 'resampling'", "--set spectra"),
    (("--set", "spectra.resampling=cubic"), "'cubic' is not known", "flux or linear"),
    (("--set", "spectrum.step=2"), "spectrum is not prepared", "--modalities"),
    (("--preset", "astrom4"), "no preset 'astrom4'", "schwarz2024"),
    (("--modalities", "image"), "holds no image", "mmclip fetch"),
    (("--modalities", "metadata", "--columns", "colour"), "no column colour", "--set"),
    (("--normalisation", "l2"), "'l2' is not known", "z, mad"),
    (("--raw", "nowhere"), "no raw artefact 'nowhere'", ""),
    (("--config", "nofile.toml"), "nofile.toml", ""),
]


@pytest.mark.parametrize(("arguments", "says", "hint"), BAD, ids=lambda v: str(v)[:40])
def test_bad_settings_get_one_clear_sentence_and_write_nothing(two, capsys, arguments, says, hint):
    root, _ = two
    code, _, err = ask(capsys, "preprocess", "-w", root, "--name", "bad", *arguments)
    assert code == USAGE
    assert says in err
    assert hint in err
    assert not (root / "data" / "bad").exists()


def test_dry_run_says_what_would_be_read_and_writes_nothing(two, capsys):
    root, _ = two
    before = sorted(root.rglob("*"))
    code, out, _ = ask(capsys, "preprocess", "-w", root, "--name", "never", "--dry-run")
    assert code == 0
    assert "photometry" in out
    assert "200x9" in out
    assert sorted(root.rglob("*")) == before


def test_a_star_that_two_surveys_hold_is_taken_from_the_first_named(tmp_path, capsys):
    first = made_stars(30)
    other = made_stars(30, seed=0)
    xp = other.tables["xp"]
    flipped = np.array(xp["flux"].to_pylist(), "f4")[:, ::-1]
    place = xp.column_names.index("flux")
    other.tables["xp"] = xp.set_column(place, "flux", arrays.fixed(np.ascontiguousarray(flipped)))
    fetch_made(tmp_path, first, "a")
    fetch_made(tmp_path, other, "b")
    for names in (("a", "b"), ("b", "a")):
        both = [x for n in names for x in ("--raw", n)]
        code, _, err = ask(capsys, "preprocess", "-w", tmp_path, *both, "--modalities", "xp",
                           "--name", "".join(names))  # fmt: skip
        assert code == 0, err
        assert ask(capsys, "preprocess", "-w", tmp_path, "--raw", names[0], "--modalities", "xp",
                   "--name", names[0])[0] == 0  # fmt: skip
        joined_, alone = (
            open_dataset(Workspace(tmp_path).get("data", n)) for n in ("".join(names), names[0])
        )
        np.testing.assert_array_equal(joined_.views["xp"].values, alone.views["xp"].values)
        assert joined_.artifact.manifest.rows["objects"] == 30


def test_blocks_and_processes_do_not_change_the_result(two, capsys, monkeypatch):
    root, _ = two
    one = ("preprocess", "-w", root, "--raw", "curves", "--workers")
    assert ask(capsys, *one, 1, "--name", "one")[0] == 0
    monkeypatch.setattr(prepare, "ROWS", 7)
    assert ask(capsys, *one, 1, "--name", "seven")[0] == 0
    monkeypatch.undo()
    assert ask(capsys, *one, 2, "--name", "processes")[0] == 0
    reference, seven, processes = (
        open_dataset(Workspace(root).get("data", n)) for n in ("one", "seven", "processes")
    )
    for other in (seven, processes):
        for name, view in reference.views.items():
            np.testing.assert_allclose(other.views[name].values, view.values, atol=1e-6)
    assert not list((root / "data").glob(".partial*"))


def test_a_killed_run_goes_on_from_its_blocks(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(tables, "GROUP", 10)  # row groups of ten: twenty blocks
    first = made_stars(200)
    raw = fetch_made(tmp_path, first)
    todo = plan([raw], PreprocessConfig(modalities=("xp",)))
    assert len(todo.views[0][1]) == 20
    code = (
        "import os, signal\n"
        "from pathlib import Path\n"
        "from mmclip.datasets import prepare\n"
        "whole = prepare.prepare_block\n"
        "def stop(modality, block, folder, number):\n"
        "    if number == 7:\n"
        "        (Path(folder) / 'xp-00007.values.npy').write_bytes(b'half')\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    whole(modality, block, folder, number)\n"
        "prepare.prepare_block = stop\n"
        "from mmclip.cli import run\n"
        f"run(['preprocess', '--modalities', 'xp', '-w', {str(tmp_path)!r}])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True)
    assert done.returncode == -signal.SIGKILL
    assert not (tmp_path / "data" / "made").exists()
    made = []
    whole = prepare.prepare_block
    monkeypatch.setattr(prepare, "prepare_block", lambda *a: made.append(a[3]) or whole(*a))
    code, _, err = ask(capsys, "preprocess", "--modalities", "xp", "-w", tmp_path)
    assert code == 0
    assert "7 of 20 blocks are there already" in err
    assert made == list(range(7, 20))
    assert ask(capsys, "preprocess", "--modalities", "xp", "-w", tmp_path, "--name", "anew")[0] == 0
    a, b = (open_dataset(Workspace(tmp_path).get("data", n)) for n in ("made", "anew"))
    np.testing.assert_array_equal(a.views["xp"].values, b.views["xp"].values)
    assert not list((tmp_path / "data").glob(".*"))


def test_a_sharded_view_is_read_as_one(tmp_path):
    from mmclip import artifacts

    stars = made_stars(40)
    raw = fetch_made(tmp_path, stars)
    whole = plan([raw], PreprocessConfig(modalities=("xp",)))
    folder = tmp_path / "raw" / "sharded"
    (folder / "xp").mkdir(parents=True)
    xp = stars.tables["xp"]
    tables.write(folder / "objects.parquet", stars.tables["objects"])
    tables.write(folder / "xp" / "0.parquet", xp.slice(0, 15))
    tables.write(folder / "xp" / "1.parquet", xp.slice(15))
    sharded = artifacts.seal(folder, "raw", config={}, parents=[], rows={}, surveys=[],
                             provenance={"xp": "observed"}, seed=0)  # fmt: skip
    todo = plan([sharded], PreprocessConfig(modalities=("xp",)))
    found = np.concatenate([b.source_id for b in todo.views[0][1]])
    np.testing.assert_array_equal(found, whole.views[0][1][0].source_id)
    assert [f.name for f in join.files(sharded, "xp")] == ["0.parquet", "1.parquet"]


def test_cells_of_positions_are_those_that_gaia_wrote_into_its_ids():
    found = pq.read_table(shared("spectra", "gaia_xp", "xp_bright_labelled.parquet"))
    ids, ra, dec = (found[n].to_numpy() for n in ("source_id", "ra", "dec"))
    np.testing.assert_array_equal(split.cells_at(ra, dec), split.cells(ids))
    # Gaia's own cells are of an early position: a few sources have moved.
    wide = pq.read_table(shared("variables", "asassn_gaia", "gaia_dr3_variables_20k.parquet"))
    ids, ra, dec = (wide[n].to_numpy() for n in ("source_id", "ra_deg", "dec_deg"))
    assert (split.cells_at(ra, dec) == split.cells(ids)).mean() > 0.999
    assert (split.cells_at(ra, dec, 12) == ids >> 35).mean() > 0.98


def test_positions_at_poles_seams_and_nowhere_have_cells():
    ra = np.array([0.0, 360.0, 45.0, 10.0, 10.0, np.nan, -90.0, 270.0])
    dec = np.array([0.0, 0.0, 90.0, -90.0, 100.0, 0.0, 12.0, 12.0])
    got = split.cells_at(ra, dec)
    assert got[0] == got[1]
    assert got[6] == got[7]
    assert got[4] == got[5] == -1
    assert ((got[:4] >= 0) & (got[:4] < 12 * 4**8)).all()
    # Cells have equal areas: a uniform sky fills the twelve base cells alike.
    rng = np.random.default_rng(0)
    cells = split.cells_at(
        rng.uniform(0, 360, 60000), np.degrees(np.arcsin(rng.uniform(-1, 1, 60000)))
    )
    share = np.bincount(cells >> 16, minlength=12) / 60000
    np.testing.assert_allclose(share, 1 / 12, atol=0.006)


def test_gaia_ids_keep_their_split_and_other_ids_have_theirs_by_position():
    found = pq.read_table(shared("spectra", "gaia_xp", "xp_bright_labelled.parquet"))
    ids, ra, dec = (found[n].to_numpy() for n in ("source_id", "ra", "dec"))
    np.testing.assert_array_equal(split.places(ids, ra, dec), split.cells(ids))
    np.testing.assert_array_equal(split.places(ids), split.cells(ids))
    np.testing.assert_array_equal(split.assign_by(split.places(ids, ra, dec)), split.assign(ids))
    own = np.arange(1, len(ids) + 1)
    np.testing.assert_array_equal(split.places(own, ra, dec), split.cells_at(ra, dec))
    many = split.assign_by(split.places(np.arange(1, 4001)))
    assert (many == "train").mean() == pytest.approx(0.8, abs=0.03)


@pytest.mark.slow
def test_two_processes_do_not_build_the_same_thing_at_once(tmp_path, capsys):
    raw = fetch_made(tmp_path, made_stars(50))
    todo = plan([raw], PreprocessConfig(modalities=("xp",)))
    partial = tmp_path / "data" / f".partial-{todo.mark}"
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom mmclip import artifacts\n"
        f"with artifacts.locked(Path({str(partial)!r}), 'preprocessing'):\n"
        "    print('held', flush=True)\n    time.sleep(60)\n"
    )
    other = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    try:
        assert other.stdout.readline() == b"held\n"
        code, _, err = ask(capsys, "preprocess", "--modalities", "xp", "-w", tmp_path)
        assert code == 1
        assert "running in another process" in err
    finally:
        os.kill(other.pid, signal.SIGKILL)
        other.wait()
        other.stdout.close()
    time.sleep(0)
    assert ask(capsys, "preprocess", "--modalities", "xp", "-w", tmp_path)[0] == 0


def test_statistics_of_parts_are_those_of_the_whole(tmp_path):
    from mmclip import plugins
    from mmclip.modalities import statistics

    it = plugins.load("modalities", "metadata", "MODALITY")
    rng = np.random.default_rng(0)
    values = (1e4 + rng.normal(0, 3, (500, 10))).astype(np.float32)
    values[rng.random(values.shape) < 0.2] = np.nan
    values[:, 3] = 7.0
    values[:, 4] = np.nan
    made, training = [], []
    for k, at in enumerate((slice(0, 1), slice(1, 300), slice(300, 500))):
        file = tmp_path / f"{k}.npy"
        np.save(file, values[at])
        rows = len(values[at])
        made.append(prepare.Part(file, None, tmp_path / "unread"))
        training.append(rng.random(rows) < 0.7)
    kept = values[np.concatenate(training)]
    for method in ("z", "mad", "none"):
        got, wanted = prepare.statistics_of(it, made, training, method), statistics(kept, method)
        np.testing.assert_allclose(got.centre, wanted.centre, rtol=1e-12)
        np.testing.assert_allclose(got.scale, wanted.scale, rtol=1e-9)


def test_a_view_that_is_empty_or_wholly_bad_leaves_the_others(tmp_path, capsys):
    stars = made_stars(40)
    ids = stars.tables["objects"]["source_id"].to_numpy()
    bad = made_curves(ids, points=3)
    empty = made_spectra(ids[:0])
    provenance = {**stars.provenance, "photometry": "observed", "spectra": "observed"}
    views = {**stars.tables, "photometry": bad, "spectra": empty}
    fetch_made(tmp_path, Fetched(views, provenance))
    for method in ("z", "mad"):
        code, out, err = ask(capsys, "preprocess", "-w", tmp_path, "--normalisation", method,
                             "--name", method)  # fmt: skip
        assert code == 0, err
        assert "rejected photometry: fewer than 5 points" in out
        data = open_dataset(Workspace(tmp_path).get("data", method))
        present = {n: int(v.present.sum()) for n, v in data.views.items()}
        assert present == {"metadata": 40, "photometry": 0, "spectra": 0, "xp": 40}


def test_every_setting_of_every_modality_is_documented():
    from pathlib import Path

    from mmclip import plugins
    from mmclip.modalities.settings import plain

    page = (Path(__file__).parents[2] / "docs" / "commands" / "preprocess.md").read_text()
    for name in plugins.names("modalities"):
        it = plugins.load("modalities", name, "MODALITY")
        for key in json.loads(json.dumps(plain(it))):
            assert f"`{name}.{key}`" in page
