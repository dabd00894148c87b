"""`mmclip adapt`: one survey's network on another's stars, compared, stored, used again."""

import json
import shutil

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmclip import artifacts
from mmclip.cli import run
from mmclip.errors import INTERRUPTED, USAGE
from mmclip.transfer import adapter
from mmclip.transfer.data import width
from mmclip.transfer.landscape import surface
from mmclip.transfer.scores import judge, mmd2, over_seeds
from tests.cli.test_cli import ask
from tests.conftest import fetch_made, made_stars

QUICK = """
[adapt]
source_epochs = 20
source_batch = 64
epochs = 10
batch = 50
seeds = 2
sizes = ["0", "30", "all"]
"""


def tilted(fetched, slope=0.5):
    """The same kind of stars seen by a spectrograph whose response falls to the red."""
    import pyarrow as pa

    xp = fetched.tables["xp"]
    flux = np.array(xp["flux"].to_pylist(), "f4") * np.linspace(1 + slope, 1 - slope, 343)
    array = pa.FixedSizeListArray.from_arrays(pa.array(flux.astype("f4").reshape(-1)), 343)
    fetched.tables["xp"] = xp.set_column(xp.column_names.index("flux"), "flux", array)
    return fetched


@pytest.fixture(scope="module")
def surveys(tmp_path_factory):
    """Two surveys of different stars with different response, and the table adapt made of them."""
    root = tmp_path_factory.mktemp("transfer")
    for name, fetched in (("one", made_stars(300, 1)), ("two", tilted(made_stars(200, 2)))):
        fetch_made(root, fetched, name)
        arguments = ["preprocess", "--raw", name, "--modalities", "xp", "-w", str(root)]
        assert run(arguments) == 0
    (root / "quick.toml").write_text(QUICK)
    assert run([*command(root), "-o", str(root / "t.json"), "--plot", str(root / "scan.png")]) == 0
    return root


def command(root, *more, source="one", target="teff"):
    return ["adapt", "--from", source, "--data", "data/two", "--target", target, "--holdout", "0.5",
            "--config", str(root / "quick.toml"), "-w", str(root), *more]  # fmt: skip


def rows_of(root):
    return [json.loads(line) for line in (root / "t.json").read_text().splitlines()]


def one(rows, method, size):
    (row,) = [
        r for r in rows if r["method"] == method and r["size"] == size and r["regime"] == "all"
    ]
    return row


def test_fine_tuning_mends_what_the_instrument_did(surveys):
    rows = rows_of(surveys)
    most = max(r["size"] for r in rows)
    zero = one(rows, "zero-shot", 0)["R2"]
    assert zero < 0.9  # the response really differs
    for method in ("residual", "lora", "full"):
        assert one(rows, method, most)["R2"] > zero
    assert {r["method"] for r in rows} >= {"mean", "ridge", "ridge zero-shot", "scratch"}
    assert one(rows, "lora", 30)["runs"] == 2
    assert (surveys / "scan.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_no_judged_star_is_ever_learned_from(surveys):
    place = surveys / "adapters" / "one-to-two"
    body = artifacts.verify(artifacts.read(place)).manifest
    table = pq.read_table(place / "predictions.parquet").to_pandas()
    judged = set(table["source_id"])
    assert len(judged) == body.rows["teff: target judged"]
    assert body.rows["teff: target pool"] + len(judged) == 200
    assert body.kind == "adapter"
    assert {p["kind"] for p in body.parents} == {"data"}


def test_stored_scores_follow_from_the_stored_predictions(surveys):
    place = surveys / "adapters" / "one-to-two"
    table = pq.read_table(place / "predictions.parquet").to_pandas()
    lora = table[(table.method == "lora") & (table["size"] == 30)]
    found = [
        1 - ((g.predicted - g.truth) ** 2).sum() / ((g.truth - g.truth.mean()) ** 2).sum()
        for _, g in lora.groupby("seed")
    ]
    row = one(rows_of(surveys), "lora", 30)
    assert row["R2"] == pytest.approx(np.mean(found))
    assert row["R2 +-"] == pytest.approx(np.std(found))


def test_a_stored_adapter_gives_the_predictions_it_was_scored_with(surveys, tmp_path, capsys):
    table = pq.read_table(surveys / "adapters" / "one-to-two" / "predictions.parquet").to_pandas()
    table = table[table.seed == 42]
    for method in ("zero-shot", "residual", "lora", "full", "scratch"):
        mine = table[table.method == method]
        mine = mine[mine["size"] == mine["size"].max()].set_index("source_id")["predicted"]
        out = tmp_path / f"{method}.csv"
        code, _, _ = ask(capsys, "adapt", "--from", "one-to-two", "--data", "two", "--method",
                         method, "-o", out, "-w", surveys)  # fmt: skip
        assert code == 0
        got = pd.read_csv(out).set_index("source_id")["teff"]
        np.testing.assert_allclose(got[mine.index], mine, rtol=1e-4)


def test_an_interrupted_comparison_goes_on_and_ends_the_same(surveys, tmp_path, monkeypatch):
    from mmclip.transfer import scan

    whole = pq.read_table(surveys / "adapters" / "one-to-two" / "predictions.parquet")
    root = tmp_path / "w"
    shutil.copytree(surveys, root)
    shutil.rmtree(root / "adapters")
    real, done = scan.tune, []

    def killed(*arguments):
        if len(done) == 9:
            raise KeyboardInterrupt
        done.append(1)
        return real(*arguments)

    monkeypatch.setattr(scan, "tune", killed)
    assert run(command(root)) == INTERRUPTED
    assert not (root / "adapters" / "one-to-two").exists()
    monkeypatch.setattr(scan, "tune", lambda *a: done.append(2) or real(*a))
    assert run(command(root)) == 0
    assert done.count(1) + done.count(2) == 2 * 2 * 4  # seeds x sizes x methods: none done twice
    again = pq.read_table(root / "adapters" / "one-to-two" / "predictions.parquet")
    pd.testing.assert_frame_equal(again.to_pandas(), whole.to_pandas())
    assert not list((root / "adapters").glob(".partial-*"))


@pytest.mark.slow
@pytest.mark.parametrize("reach", ["head", "both"])
def test_the_encoder_of_a_run_stands_in_front(
    trained, surveys, tmp_path, capsys, monkeypatch, reach
):
    monkeypatch.setattr(
        adapter, "surface", lambda net, loss, steps, *how: surface(net, loss, 5, *how)
    )
    root = tmp_path / "w"
    shutil.copytree(trained, root)
    shutil.copytree(surveys / "data" / "two", root / "data" / "two")
    (root / "quick.toml").write_text(QUICK + f'reach = "{reach}"\nheteroscedastic = true\n')
    code, out, err = ask(
        capsys, *command(root, "--json", "--view", "xp", "--seeds", "1", "--sizes", "0,all",
                         "--method", "zero-shot,lora" + (",residual" if reach == "head" else ""),
                         *(["--landscape", root / "l.png"] if reach == "head" else []),
                         source="metadata-xp")
    )  # fmt: skip
    assert code == 0, err
    rows = [json.loads(line) for line in out.splitlines()]
    assert 0 <= one(rows, "zero-shot", 0)["within 1 sigma"] <= 1
    most = max(r["size"] for r in rows)
    assert one(rows, "lora", most)["R2"] > one(rows, "zero-shot", 0)["R2"]
    assert reach == "both" or (root / "l.png").stat().st_size > 10_000
    place = root / "adapters" / "metadata-xp-to-two"
    assert [p["kind"] for p in artifacts.read(place).manifest.parents] == ["run", "data", "data"]
    shutil.rmtree(root / "runs")  # an adapter stands by itself
    code, out, _ = ask(capsys, "adapt", "--from", place, "--data", "two", "--json", "-w", root)
    assert code == 0
    answer = json.loads(out.splitlines()[0])
    assert answer["teff_sigma"] > 0
    table = pq.read_table(place / "predictions.parquet").to_pandas()
    table = table[(table.method == "lora")].set_index("source_id")["predicted"]
    got = {int(r["source_id"]): r["teff"] for r in map(json.loads, out.splitlines())}
    np.testing.assert_allclose([got[i] for i in table.index], table, rtol=1e-4)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (("--method", "lorra"), "'lorra' is not a method"),
        (("--sizes", "ten"), "'ten' is no number"),
        (("--view", "rvs"), "holds no rvs"),
        (("--regime", "tef < 3"), "no column 'tef'"),
        (("--match-resolution", "fine"), "SOURCE,TARGET"),
        (("--match-resolution", "fine,1800"), "'fine' is no resolution"),
        (("--target", "tef"), "no numeric column 'tef'"),
        (("--from", "nosuch"), "is no run, data set, adapter or encoder"),
        (("--name", "one-to-two"), "exists already"),
    ],
)
def test_bad_input_gets_one_clear_sentence(surveys, capsys, more, says):
    arguments = command(surveys, *([] if "--name" in more else ["--name", "x"]), *more)
    code, _, err = ask(capsys, *arguments)
    assert code in (USAGE, 1)
    assert says in err
    assert "try:" in err
    assert not (surveys / "adapters" / "x").exists()


def test_matching_resolution_blurs_the_sharper_survey(surveys, capsys):
    code, out, _ = ask(
        capsys, *command(surveys, "--name", "blurred", "--method", "zero-shot", "--sizes", "0",
                         "--match-resolution", "8nm,3nm", "--json")
    )  # fmt: skip
    assert code == 0
    assert one([json.loads(line) for line in out.splitlines()], "zero-shot", 0)["stars"] > 50
    shutil.rmtree(surveys / "adapters" / "blurred")


@pytest.fixture(scope="module")
def plane(surveys):
    """An adapter of two labels beside those of a pipeline, and what it printed."""
    more = ["--name", "plane", "--method", "zero-shot,residual", "--sizes", "0,30", "--seeds", "1",
            "--pipeline", "ra=dec", "--reference", "one",
            "-o", str(surveys / "plane.json")]  # fmt: skip
    assert run([*command(surveys, *more, target="teff,ra"), "--regime", "teff < 5500"]) == 0
    return [json.loads(line) for line in (surveys / "plane.json").read_text().splitlines()]


def test_two_labels_give_their_plane(plane):
    rows = [r for r in plane if r["target"] == "teff x ra"]
    assert {r["method"] for r in rows} == {
        "zero-shot", "ridge zero-shot", "residual", "mean", "ridge",
    }  # fmt: skip


def test_labels_of_the_survey_itself_are_a_baseline(plane, surveys):
    # A made "pipeline": the declination, scored as it stands against the right ascension.
    (row,) = [r for r in plane if r["method"] == "pipeline" and r["regime"] == "all"]
    stored = pq.read_table(surveys / "adapters" / "plane" / "predictions.parquet").to_pandas()
    mine = stored[stored.method == "pipeline"]
    objects = pq.read_table(surveys / "data" / "two" / "objects.parquet").to_pandas()
    dec = objects.set_index("source_id")["dec"][mine.source_id].to_numpy()
    np.testing.assert_allclose(mine.predicted, dec)
    off = ((dec - mine.truth) ** 2).sum() / ((mine.truth - mine.truth.mean()) ** 2).sum()
    assert row["R2"] == pytest.approx(1 - off)


def test_mmd_is_to_the_reference_that_was_named(plane, surveys):
    place = surveys / "adapters" / "plane"
    cloud = pq.read_table(place / "reference.parquet").to_pandas()
    one = pq.read_table(surveys / "data" / "one" / "objects.parquet").to_pandas()
    np.testing.assert_allclose(np.sort(cloud["teff"]), np.sort(one["teff"]))
    table = pq.read_table(place / "predictions.parquet").to_pandas()
    table = table[table.method == "zero-shot"].pivot_table("predicted", "source_id", "target")
    expected = mmd2(table[["teff", "ra"]].to_numpy(), cloud[["teff", "ra"]].to_numpy())
    (row,) = [r for r in plane if r["target"] == "teff x ra" and r["method"] == "zero-shot"]
    assert row["MMD2"] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("figure", "more"),
    [("scan", ()), ("one-to-one", ("--regime", "teff < 5500")), ("plane", ())],
)  # fmt: skip
def test_a_stored_adapter_is_drawn_without_training(plane, surveys, tmp_path, capsys, figure, more):
    file = tmp_path / "x.png"
    code, _, err = ask(capsys, "adapt", "--from", "plane", "--data", "two", "--figure", figure,
                       "--plot", file, *more, "-w", surveys)  # fmt: skip
    assert code == 0, err
    assert file.read_bytes()[:4] == b"\x89PNG"


def test_the_landscape_of_a_regime_is_of_its_stars_alone(plane, surveys):
    from mmclip.datasets.build import open_dataset
    from mmclip.transfer.adapter import landscapes, open_adapter

    adapter = open_adapter(artifacts.read(surveys / "adapters" / "plane"))
    data = open_dataset(artifacts.read(surveys / "data" / "two"))
    table = pq.read_table(surveys / "adapters" / "plane" / "predictions.parquet").to_pandas()
    mine = table[(table.method == "zero-shot") & (table.target == "teff") & (table.truth < 5500)]
    found = landscapes(adapter, data, "teff", "teff < 5500", steps=3)
    assert set(found) == {"zero-shot, teff", "residual, teff"}
    _, losses = found["zero-shot, teff"]
    scale = adapter.fitted["teff", "zero-shot"][0].scale
    expected = np.log10((((mine.predicted - mine.truth) / scale) ** 2).mean())
    assert losses[1, 1] == pytest.approx(expected, abs=1e-3)  # the middle is the network itself


def test_a_regime_without_a_judged_star_is_refused(plane, surveys, tmp_path, capsys):
    code, _, err = ask(capsys, "adapt", "--from", "plane", "--data", "two", "--landscape",
                       tmp_path / "x.png", "--regime", "teff < 1", "-w", surveys)  # fmt: skip
    assert code == USAGE
    assert "no judged star" in err


def test_mmd_of_two_points_is_what_the_formula_says():
    # Two points a distance 1 apart in each cloud, clouds equal: k(x1, x2) = exp(-1/2) within,
    # and the cross mean is (1 + exp(-1/2)) / 2, with the median distance 1 as the width.
    cloud = np.array([[0.0], [1.0]])
    within = np.exp(-0.5)
    assert mmd2(cloud, cloud) == pytest.approx(2 * within - (1 + within))


@given(shift=st.floats(-5, 5), scale=st.floats(0.01, 100))
@settings(max_examples=20, deadline=None)
def test_units_and_zero_points_do_not_change_mmd(shift, scale):
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(60, 2)), rng.normal(0.3, 1, size=(70, 2))
    changed = mmd2(a * [scale, 1] + shift, b * [scale, 1] + shift)
    assert changed == pytest.approx(mmd2(a, b), rel=1e-6)


def test_mmd_grows_with_the_distance_and_is_about_zero_without_one():
    rng = np.random.default_rng(1)
    reference = rng.normal(size=(800, 2))
    found = [mmd2(rng.normal(d, 1, size=(800, 2)), reference) for d in (0.0, 0.5, 2.0)]
    assert abs(found[0]) < 0.003
    assert found[0] < found[1] < found[2] <= 2


def test_regimes_are_scored_on_their_own_stars():
    truth = np.array([0.0, 0.0, 1.0, 3.0])
    predicted = np.array([1.0, 1.0, 1.0, 3.0])
    rows = judge(truth, predicted, np.full(4, 0.5), {"high": truth > 0.5, "one": truth > 2})
    assert [r["regime"] for r in rows] == ["all", "high"]
    assert rows[1]["R2"] == 1.0
    assert rows[0]["within 1 sigma"] == 0.5


def test_error_bars_are_population_standard_deviations():
    rows = [{"m": "a", "R2": v} for v in (1.0, 2.0, 3.0)]
    (row,) = over_seeds(rows, ("m",), ("R2",))
    assert (row["R2"], row["R2 +-"], row["runs"]) == (2.0, pytest.approx((2 / 3) ** 0.5), 3)


def test_widths_are_read_as_resolving_power_nm_or_angstrom():
    w = np.array([4000.0, 5000.0])
    np.testing.assert_allclose(width("2000", w), [2.0, 2.5])
    np.testing.assert_allclose(width("2.5A", w), 2.5)
    np.testing.assert_allclose(width("0.3nm", w), 3.0)


def test_all_of_two_labels_with_different_counts_have_a_place_in_their_plane():
    # 300 stars have the first label, 290 the second: both runs are those of "all".
    from mmclip.transfer import scan
    from mmclip.transfer.data import AdaptConfig

    columns = {n: [] for n in ("target", "method", "size", "seed", "source_id", "truth",
                               "predicted")}  # fmt: skip
    rng = np.random.default_rng(0)
    for label, sizes in (("teff", (100, 300)), ("logg", (100, 290))):
        for size in sizes:
            for star in range(50):
                value = float(rng.normal())
                row = (label, "full", size, 1, star, value, value)
                for name, cell in zip(columns, row, strict=True):
                    columns[name].append(cell)
    rows = scan._plane(AdaptConfig(targets=("teff", "logg")), columns)
    assert sorted(r["size"] for r in rows) == [100, 290]
    assert all(r["stars"] == 50 and r["MMD2"] < 0.02 for r in rows)
