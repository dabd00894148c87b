"""Generation: calibration against mathematics, files as other programs read them, the commands."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from astropy.io import fits
from scipy import stats

from mmclip import artifacts, papers
from mmclip.artifacts.workspace import Workspace
from mmclip.cli import run
from mmclip.clip.run import open_run
from mmclip.datasets.build import View, open_dataset
from mmclip.errors import MmclipError, NotFound, UsageError
from mmclip.modalities import Statistics
from mmclip.tasks import generate
from mmclip.tasks.generate import calibrate, dataset, files
from mmclip.tasks.generate import decoder as decode
from mmclip.tasks.generate.baselines import pca_ridge
from mmclip.training import optimisers
from mmclip.training.loop import silent
from mmclip.vectors.store import Store
from tests.conftest import fetch_made, made_stars

TOML = "[train-decoder]\nepochs = 12\nbatch = 64\ncheckpoint_seconds = 0.0\n"


@pytest.fixture(scope="module")
def decoded(tmp_path_factory):
    """A workspace of made stars, a third of which lack xp, with a decoder metadata -> xp."""
    root = tmp_path_factory.mktemp("decoded")
    fetched = made_stars(600, seed=4)
    fetched.tables["xp"] = fetched.tables["xp"].slice(0, 400)
    fetch_made(root, fetched)
    toml = root / "t.toml"
    toml.write_text(
        "[train]\nepochs = 6\ngenerator_epochs = 6\nwidth = 64\ndimension = 16\n" + TOML
    )
    w = ["--workspace", str(root), "--config", str(toml)]
    assert run(["preprocess", "--workspace", str(root)]) == 0
    assert run(["train", *w, "--batch", "64"]) == 0
    assert run(["embed", "--workspace", str(root)]) == 0
    assert run(["train-decoder", "--from", "metadata", "--to", "xp", "--decoder", "flow", *w]) == 0
    return root


def ask(capsys, *arguments):
    capsys.readouterr()
    code = run([str(a) for a in arguments])
    shown = capsys.readouterr()
    return code, shown.out, shown.err


def opened(root):
    space = Workspace(root)
    store = Store(space.get("vectors"))
    data = open_dataset(space.parent(store.artifact, "data"), tuple(store.modalities))
    return store, data, open_run(space.parent(store.artifact, "run"))


def decoder(root):
    return decode.open_decoder(Workspace(root).get("decoder"))


# calibration


@pytest.mark.parametrize("factor", [0.2, 1.0, 7.0])
@pytest.mark.parametrize("name", ["normal", "heavy tails", "skew"])
def test_coverage_is_nominal_whatever_the_law_and_the_stated_sigma(name, factor):
    law = {"normal": stats.norm(), "heavy tails": stats.t(3), "skew": stats.skewnorm(6)}[name]
    rng = np.random.default_rng(0)
    fitted, fresh = (factor * law.rvs((2000, 5), random_state=rng) for _ in range(2))
    by = calibrate.calibrate(fitted)
    for part in (0.5, 0.68, 0.95):
        assert calibrate.coverage(by, fresh / by.scale, part) == pytest.approx(part, abs=0.02)
    ranks = calibrate.pit(by, fresh / by.scale)
    assert stats.kstest(ranks.ravel(), "uniform").statistic < 0.03


def test_a_normal_residual_of_right_sigma_is_left_as_it_is():
    by = calibrate.calibrate(np.random.default_rng(1).normal(size=(5000, 8)))
    np.testing.assert_allclose(by.scale, 1.0, atol=0.04)
    low, high = calibrate.interval(by, 0.95)
    assert (low, high) == pytest.approx((-1.96, 1.96), abs=0.05)


def test_draws_are_carried_to_the_law_of_the_observations():
    rng = np.random.default_rng(2)
    z, drawn = 3 * stats.t(3).rvs((4000, 4), random_state=rng), 0.5 * rng.normal(size=20000)
    by = calibrate.calibrate(z, drawn)
    fresh = calibrate.map_draws(by, 0.5 * rng.normal(size=20000)) * by.scale.mean()
    assert stats.ks_2samp(fresh, z.ravel()).statistic < 0.03
    plain = calibrate.none(4)
    u = np.linspace(-9, 9, 37)
    np.testing.assert_allclose(calibrate.map_draws(plain, u), u, atol=1e-12)


def test_without_validation_stars_the_interval_is_the_normal_one():
    by = calibrate.calibrate(np.full((0, 4), np.nan))
    assert by.stars == 0
    assert calibrate.interval(by, 0.95) == pytest.approx((-1.95996, 1.95996), abs=1e-4)
    again = calibrate.from_dict(json.loads(json.dumps(by.to_dict())))
    np.testing.assert_array_equal(again.quantiles, by.quantiles)


# baselines and inputs


def test_pca_ridge_equals_scikit_learn():
    from sklearn.decomposition import PCA
    from sklearn.linear_model import Ridge

    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 6)).astype("f4")
    y = (np.tanh(x @ rng.normal(size=(6, 50))) + 0.1 * rng.normal(size=(300, 50))).astype("f4")
    train, checks, asked = np.arange(200), np.arange(200, 250), np.arange(250, 300)
    pca = PCA(32, svd_solver="full").fit(y[train])
    size = (x[train] - x[train].mean(0)).var(axis=0).mean() * 200
    guesses = []
    for penalty in np.logspace(-6, 2, 9) * size:
        model = Ridge(penalty).fit(x[train], pca.transform(y[train]))
        there = [pca.inverse_transform(model.predict(x[rows])) for rows in (checks, asked)]
        guesses.append((((there[0] - y[checks]) ** 2).mean(), there[1]))
    expected = min(guesses, key=lambda g: g[0])[1]
    np.testing.assert_allclose(pca_ridge(x, y, train, checks, asked), expected, atol=2e-4)


def test_fused_input_tells_a_missing_view_from_a_seen_one():
    a, b = np.eye(3, 4, dtype="f4"), np.eye(3, 4, 1, dtype="f4")
    a[1] = np.nan
    a[2], b[2] = np.nan, np.nan
    fused = decode.fuse([a, b])
    assert fused.shape == (3, 10)
    np.testing.assert_allclose(fused[0], [1, 0, 0, 0, 0, 1, 0, 0, 0.5, 0.5])
    np.testing.assert_allclose(fused[1], [0, 0, 0, 0, 0, 0, 1, 0, 0, 0.5])
    assert np.isnan(fused[2]).all()
    assert decode.fuse([b]) is b


def test_hiding_leaves_every_star_a_view_and_never_invents_one():
    rng = np.random.default_rng(0)
    one, two = rng.normal(size=(2, 500, 4)).astype("f4")
    two[:200] = np.nan
    fused = torch.from_numpy(decode.fuse([one, two]))
    pairs = decode.Pairs(fused.numpy(), None, lambda name: np.zeros(500, bool), 2, 4)
    torch.manual_seed(0)
    hidden = decode.hide(fused, pairs, 0.6)
    flags, before = hidden[:, 8:] > 0, fused[:, 8:] > 0
    assert flags.any(dim=1).all()
    assert not (flags & ~before).any()
    assert 0.3 < (before[200:] & ~flags[200:]).any(dim=1).float().mean() < 0.95
    for view in range(2):
        block = hidden[:, 4 * view : 4 * view + 4]
        assert (block.abs().sum(1) > 0).equal(flags[:, view])


def test_the_schwarz_preset_is_table_2():
    s = decode.DecodeConfig(**papers.settings("schwarz2024", "decode"))
    rates = [decode.rate(i, 1000, s) for i in range(1000)]
    assert (s.optimiser, s.weight_decay, s.epochs, s.batch) == ("lamb", 0.0, 100, 16384)
    assert max(rates) == 5e-4
    assert rates.index(5e-4) == 9  # 1 % of the steps
    assert rates[9:] == sorted(rates[9:], reverse=True)


def pairs(stars=200, errors=False):
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(stars, 8)).astype("f4")
    values = (vectors @ rng.normal(size=(8, 20))).astype("f4")
    by = Statistics(np.zeros(20), np.ones(20), "z")
    sigma = np.full_like(values, 0.1) if errors else None
    split = np.where(np.arange(stars) % 5 == 0, "validation", "train")
    return decode.Pairs(
        vectors, View(values, sigma, by, "observed", (20,)), lambda name: split == name, 1, 8
    )


def test_a_loss_that_does_not_suit_is_refused(tmp_path):
    for name, loss, says in (
        ("flow", "mse", "learns its spread"),
        ("mlp", "ivar", "no errors"),
        ("mlp", "l3", "'l3' is not known"),
    ):
        with pytest.raises(UsageError, match=says):
            decode.DecoderTraining(pairs(), decode.DecodeConfig(("a",), "b", name, loss), tmp_path)


def test_equal_errors_weigh_as_the_square_does(tmp_path):
    rows = np.arange(50)
    made = []
    for loss in ("mse", "ivar"):
        training = decode.DecoderTraining(
            pairs(errors=True), decode.DecodeConfig(("a",), "b", "mlp", loss), tmp_path
        )
        made.append(training.loss(*training.read(rows)).item())
    assert made[1] == pytest.approx(0.5 * made[0] / 0.1**2, rel=1e-4)


def test_lamb_steps_are_as_long_as_its_paper_says():
    weight = torch.nn.Parameter(torch.tensor([[3.0, 4.0]]))
    step = optimisers.make("lamb", [weight], 0.0, epsilon=1e-12)
    for group in step.param_groups:
        group["lr"] = 0.1
    (weight * torch.tensor([[1.0, -2.0]])).sum().backward()
    before = weight.detach().clone()
    step.step()
    # The first step of Adam is the sign of the gradient; LAMB gives it the length rate |w|.
    expected = before - 0.1 * 5.0 * torch.tensor([[1.0, -1.0]]) / np.sqrt(2)
    torch.testing.assert_close(weight.detach(), expected)


# the artefact


def test_intervals_hold_for_cool_and_for_hot_stars_alike():
    """The scatter grows threefold along the generated colour, which sigma does not say."""

    def stars(count, seed):
        rng = np.random.default_rng(seed)
        colour = rng.uniform(-1, 1, count)
        mean = colour[:, None] * np.linspace(-1, 1, 12) + 0.05 * rng.normal(size=(count, 12))
        return colour, mean, np.exp(0.55 * colour)[:, None] * rng.normal(size=(count, 12))

    _, mean, z = stars(1000, 0)
    by = calibrate.calibrate(z, mean=mean)
    again = calibrate.from_dict(json.loads(json.dumps(by.to_dict())))
    colour, mean, z = stars(4000, 1)
    z = z / again.widths(mean)
    quartile = np.digitize(colour, np.quantile(colour, [0.25, 0.5, 0.75]))
    for part in (0.68, 0.95):
        for q in range(4):
            assert calibrate.coverage(again, z[quartile == q], part) == pytest.approx(
                part, abs=0.03
            )


def test_sigma_is_calibrated_and_stored_with_the_decoder(decoded):
    made, (store, data, _) = decoder(decoded), opened(decoded)
    rows = np.flatnonzero((store.split == "validation") & np.isfinite(store.vectors("xp")[:, 0]))
    assert made.calibration.stars == len(rows) > 10
    mean, sigma = decode.predict(made, store.vectors("metadata")[rows])
    z = (data.views["xp"].values[generate.places(store, data)[rows]] - mean) / sigma
    assert (np.abs(z) < 1).mean() == pytest.approx(0.6827, abs=0.01)
    assert calibrate.coverage(made.calibration, z, 0.95) == pytest.approx(0.95, abs=0.01)


def test_draws_hold_the_observations_as_often_as_they_say(decoded):
    made, (store, data, _) = decoder(decoded), opened(decoded)
    rows = np.flatnonzero((store.split == "validation") & np.isfinite(store.vectors("xp")[:, 0]))
    drawn = decode.draws(made, store.vectors("metadata")[rows], store.source_id[rows], 64, 1)
    truth = data.views["xp"].values[generate.places(store, data)[rows]]
    rank = (drawn < truth[:, None]).mean(axis=1)
    assert ((rank > 0.16) & (rank < 0.84)).mean() == pytest.approx(0.68, abs=0.06)
    assert ((rank > 0.025) & (rank < 0.975)).mean() == pytest.approx(0.95, abs=0.04)


def test_generate_prefers_the_trained_decoder_and_names_the_baselines(decoded, capsys):
    asked = ("generate", "--from", "metadata", "--to", "xp", "--json", "-w", decoded)
    code, out, err = ask(capsys, *asked)
    assert code == 0
    rows = [json.loads(line) for line in out.splitlines()]
    assert [r["method"] for r in rows] == [
        "decoder", "mean of the 13 nearest observed", "PCA + ridge from the embedding",
        "PCA + ridge from the raw view", "mean of the training stars",
        "kernel ridge from the raw view",
    ]  # fmt: skip
    beaten = all(r["median fraction"] > rows[0]["median fraction"] for r in rows[1:])
    assert ("beats every baseline" in err) == beaten
    assert ("does NOT beat" in err) != beaten
    _, quick, _ = ask(capsys, *asked, "--decoder", "run")
    assert json.loads(quick.splitlines()[0])["median fraction"] != rows[0]["median fraction"]


def test_kernel_ridge_reads_the_views_beats_neighbours_and_goes_on_from_its_files(
    decoded, tmp_path
):
    store, data, loaded = opened(decoded)
    pairs = generate.pairs(store, data, ("metadata",), "xp", "kernel-ridge")
    settings = decode.DecodeConfig(start=("metadata",), to="xp", decoder="kernel-ridge")
    parents = [a.reference for a in (store.artifact, loaded.artifact, data.artifact)]
    made = decode.open_decoder(decode.train(pairs, settings, tmp_path / "d", parents, [], silent))
    scores = list(generate.compare(store, data, loaded, "metadata", "xp", trained=made))
    assert scores[0]["median fraction"] < scores[1]["median fraction"]  # 13 neighbours
    assert not [r for r in scores if "kernel" in r["method"]]  # it is no opponent of itself
    assert scores[0]["in 68 %"] == pytest.approx(0.68, abs=0.1)
    both = np.isfinite(store.vectors("xp")[:, 0])
    assert made.calibration.stars == (both & (store.split != "test")).sum()
    rows = np.arange(40)
    with pytest.raises(UsageError, match="reads metadata"):
        next(generate.stream(store, made, rows))
    whole = next(generate.stream(store, made, rows, data))
    reads = generate.read_by(made, store, data)
    todo = dataset.Completion(store, made, rows, 0, 1, 40, reads)
    dataset.complete(todo, tmp_path / "all", False, lambda *_: None)
    table = pq.read_table(tmp_path / "all" / "part-00000.parquet")
    np.testing.assert_allclose(table["generated"].to_pylist(), whole.mean, rtol=1e-4, atol=1e-5)
    _, high = whole.interval(0.95)
    np.testing.assert_allclose(table["high95"].to_pylist(), high, rtol=1e-4, atol=1e-5)


def test_a_decoder_that_loses_says_so():
    rows = [{"method": "decoder", "median |residual|": 2.0}]
    rows += [{"method": m, "median |residual|": v} for m, v in (("near", 1.0), ("mean", 3.0))]
    assert generate.verdict(rows) == (
        "the decoder (median |residual| 2) does NOT beat: near (1); "
        "it is 100.0 % worse than the best"
    )
    rows[1]["median |residual|"] = 2.5
    assert "beats every baseline" in generate.verdict(rows)


def test_draws_depend_on_seed_and_star_alone(decoded):
    store, _, _ = opened(decoded)
    made, vectors = decoder(decoded), store.vectors("metadata")
    whole = decode.draws(made, vectors[:9], store.source_id[:9], 3, 7)
    assert np.array_equal(whole, decode.draws(made, vectors[:9], store.source_id[:9], 3, 7))
    part = decode.draws(made, vectors[4:5], store.source_id[4:5], 2, 7)
    np.testing.assert_allclose(part[0], whole[4, :2], rtol=1e-3, atol=1e-3)
    other = decode.draws(made, vectors[4:5], store.source_id[4:5], 2, 8)
    assert np.abs(other - part).max() > 0.01


def test_parquet_says_that_it_is_generated_and_how_to_read_it(decoded, capsys, tmp_path):
    store, _, _ = opened(decoded)
    ids = store.source_id[np.isfinite(store.vectors("xp")[:, 0])][:3]
    (tmp_path / "ids").write_text("\n".join(str(i) for i in ids))
    file = tmp_path / "made.parquet"
    code, _, _ = ask(capsys, "generate", "--from", "metadata", "--to", "xp", "--ids",
                     tmp_path / "ids", "--draws", 4, "-o", file, "-w", decoded)  # fmt: skip
    assert code == 0
    table = pq.read_table(file)
    facts = {k.decode(): json.loads(v) for k, v in table.schema.metadata.items()}
    assert facts["mmclip.provenance"] == "generated"
    assert facts["mmclip.wavelength_nm"][:2] == [380.0, 382.0]
    assert table["source_id"].to_pylist() == ids.tolist()
    assert set(table["provenance"].to_pylist()) == {"generated"}
    assert table.schema.field("samples").type == pa.list_(pa.float32(), 4 * 311)
    # Native units: a spectrum over its median has the median one.
    flux = np.array(table["generated"].to_pylist())
    np.testing.assert_allclose(np.median(flux, axis=1), 1.0, atol=0.1)
    observed = np.array(table["observed"].to_pylist())
    raw = pq.read_table(decoded / "raw" / "made" / "xp.parquet")
    row = raw["source_id"].to_pylist().index(int(ids[0]))
    truth = np.array(raw["flux"][row].as_py())[22:333]
    np.testing.assert_allclose(observed[0], truth / np.median(truth), rtol=1e-3)


def test_fits_of_a_star_is_a_linear_spectrum_and_a_table(decoded, capsys, tmp_path):
    store, _, _ = opened(decoded)
    file = tmp_path / "star.fits"
    code, out, _ = ask(capsys, "generate", "--from", "metadata", "--to", "xp", "--query-id",
                       store.source_id[0], "--json", "-o", file, "-w", decoded)  # fmt: skip
    assert code == 0
    with fits.open(file, checksum=True) as hdus:
        assert hdus[0].header["PROVENAN"] == "generated"
        assert [h.name for h in hdus] == ["PRIMARY", "STD", str(store.source_id[0])]
        from astropy.wcs import WCS

        axis = WCS(hdus[0].header).pixel_to_world_values(np.arange(311)) * 1e9
        np.testing.assert_allclose(axis, hdus[2].data["wavelength"], rtol=1e-9)
        np.testing.assert_array_equal(hdus[0].data, hdus[2].data["flux"])
        np.testing.assert_array_equal(hdus[1].data, hdus[2].data["uncertainty"])
        assert hdus[2].columns["wavelength"].unit == "nm"
        printed = [json.loads(line)["generated"] for line in out.splitlines()]
        np.testing.assert_allclose(hdus[0].data, printed)


def test_specutils_opens_the_fits(decoded, capsys, tmp_path):
    specutils = pytest.importorskip("specutils")
    store, _, _ = opened(decoded)
    file = tmp_path / "star.fits"
    assert run(["generate", "--from", "metadata", "--to", "xp", "--query-id",
                str(store.source_id[0]), "-o", str(file), "-w", str(decoded)]) == 0  # fmt: skip
    spectrum = specutils.Spectrum.read(file)
    assert spectrum.spectral_axis[0].to_value("nm") == pytest.approx(380)
    assert spectrum.uncertainty is not None


def test_stars_without_the_view_are_completed_and_no_others(decoded, capsys):
    store, _, _ = opened(decoded)
    lacking = store.source_id[~np.isfinite(store.vectors("xp")[:, 0])]
    code, _, err = ask(capsys, "generate", "--from", "metadata", "--to", "xp", "--all",
                       "--missing-only", "--name", "full", "-w", decoded)  # fmt: skip
    assert code == 0
    assert "GENERATED" in err
    made = artifacts.verify(artifacts.read(decoded / "generated" / "full"))
    assert made.manifest.provenance == {"xp": "generated"}
    table = pq.read_table([decoded / "generated" / "full" / n for n in made.manifest.files])
    assert table["source_id"].to_pylist() == lacking.tolist()
    assert len(lacking) == 200


def test_a_completion_that_was_cut_short_goes_on(decoded, tmp_path):
    store, made = opened(decoded)[0], decoder(decoded)
    rows = dataset.lacking(store, made, False)
    todo = dataset.Completion(store, made, rows, 2, 1, 150)
    whole = dataset.complete(todo, tmp_path / "whole", False, print)

    class Stop(Exception):
        pass

    def stop(done, of):
        if done > 200:
            raise Stop

    with pytest.raises(Stop):
        dataset.complete(todo, tmp_path / "cut", False, stop)
    (partial,) = tmp_path.glob(".partial-*")
    finished = {p: p.stat().st_mtime_ns for p in partial.glob("*.parquet")}
    assert len(finished) == 2
    times = []
    cut = dataset.complete(
        todo, tmp_path / "cut", False,
        lambda *_: times.append({p: p.stat().st_mtime_ns for p in partial.glob("*.parquet")}),
    )  # fmt: skip
    assert all(times[0][p] == t for p, t in finished.items())
    assert cut.manifest.files == whole.manifest.files
    assert not list(tmp_path.glob(".partial-*"))


def test_the_chunk_does_not_change_what_is_generated(decoded):
    store, data, _ = opened(decoded)
    made, rows = decoder(decoded), np.arange(50)
    one = next(generate.stream(store, made, rows, data, 2, 3, size=50))
    many = list(generate.stream(store, made, rows, data, 2, 3, size=7))
    assert len(many) == 8
    for name in ("mean", "sigma", "samples", "observed", "distance"):
        joined = np.concatenate([getattr(m, name) for m in many])
        np.testing.assert_allclose(joined, getattr(one, name), rtol=2e-3, atol=2e-3)


def test_a_swapped_spectrum_surprises(decoded):
    """Hot stars given the spectra of cool ones: the photometry does not explain them."""
    store, data, loaded = opened(decoded)
    made = decoder(decoded)
    before = generate.surprise(store, data, loaded, "metadata", "xp", made)
    assert np.isnan(before[~np.isfinite(store.vectors("xp")[:, 0])]).all()
    teff = data.objects["teff"].to_numpy()
    here = np.flatnonzero(data.views["xp"].present)
    hot, cool = here[np.argsort(teff[here])][[-20, 20]]
    view = data.views["xp"]
    values = view.values.copy()
    values[[hot, cool]] = values[[cool, hot]]
    swapped = View(values, view.errors, view.statistics, view.provenance, view.size)
    changed = type(data)(data.artifact, data.objects, data.views | {"xp": swapped})
    after = generate.surprise(store, changed, loaded, "metadata", "xp", made)
    place = {int(s): i for i, s in enumerate(store.source_id)}
    for row in (hot, cool):
        at = place[int(data.source_id[row])]
        assert after[at] > 5 * before[at]
        assert after[at] > np.nanpercentile(before, 98)


def test_a_star_far_from_the_training_stars_is_named(decoded):
    store, _, _ = opened(decoded)
    vectors = store.vectors("metadata")
    around = generate.surroundings(store, vectors)
    train = np.flatnonzero(store.split == "train")
    inside = around.distance(vectors[train], train) > around.edge
    assert inside.mean() == pytest.approx(0.01, abs=0.01)
    away = -vectors[train].mean(axis=0, keepdims=True)
    assert around.distance(away, np.array([-1]))[0] > around.edge


def test_fused_views_generate_and_a_star_may_lack_one(decoded, capsys, tmp_path):
    code, _, err = ask(capsys, "generate", "--from", "metadata,xp", "--to", "metadata",
                         "-w", decoded)  # fmt: skip
    assert code == 2
    assert "among the views to start from" in err
    three = pairs(300)
    lacking = three.vectors.copy()
    lacking[::3] = np.nan
    fused = decode.fuse([three.vectors, lacking])
    both = decode.Pairs(fused, three.view, three.of, 2, 8)
    settings = decode.DecodeConfig(("a", "b"), "c", "gaussian", epochs=40, batch=64)
    made = decode.train(both, settings, tmp_path / "d", [], [], silent)
    trained = decode.open_decoder(made)
    mean, _ = decode.predict(trained, fused)
    left = np.square(mean - three.view.values).mean() / three.view.values.var()
    assert left < 0.2


@pytest.mark.slow
def test_a_decoder_killed_at_any_moment_ends_with_the_same_weights(forks, decoded):
    toml = decoded / "k.toml"
    toml.write_text(TOML)
    command = ["train-decoder", "--from", "metadata", "--to", "xp", "--config", str(toml),
               "--epochs", "25", "-w", str(decoded)]  # fmt: skip
    whole = forks.run(*command, "--name", "whole")
    assert whole.code == 0, whole.err
    folder = decoded / "decoders"
    forks.killed([*command, "--name", "cut"], folder / "cut", (0.0, 0.3))
    sums = [artifacts.sha256(folder / n / "model.safetensors") for n in ("whole", "cut")]
    assert sums[0] == sums[1]


def test_two_processes_do_not_train_the_same(tmp_path):
    with artifacts.locked(tmp_path / "x", "training"):
        second = artifacts.locked(tmp_path / "x", "training")
        with pytest.raises(MmclipError, match="another process"):
            second.__enter__()


BAD = [
    (("generate", "--missing-only"), "--missing-only belongs to --all", "add --all"),
    (("generate", "--ids", "nofile"), "no file nofile", "--ids"),
    (("generate", "--decoder", "nosuch"), "no decoder artefact 'nosuch'", "train-decoder"),
    (("train-decoder", "--decoder", "flaw", "--name", "z"), "no decoder 'flaw'", "did you mean"),
    (("train-decoder", "--preset", "schwartz", "--name", "z"), "no preset 'schwartz'", "schwarz"),
    (("train-decoder", "--loss", "mse", "--decoder", "flow", "--name", "z"), "its spread", "own"),
    (("train-decoder", "--from", "xq"), "no vectors of 'xq'", "xp"),
]


@pytest.mark.parametrize(("arguments", "says", "hint"), BAD, ids=lambda v: str(v)[:40])
def test_bad_input_gets_one_clear_sentence(arguments, says, hint, decoded, capsys):
    code, _, err = ask(capsys, *arguments, "-w", decoded)
    assert code == 2, err
    assert says in err
    assert hint in err
    assert "Traceback" not in err


def test_a_star_without_the_input_view_is_named(decoded):
    store, data, loaded = opened(decoded)
    lost = np.flatnonzero(~np.isfinite(store.vectors("xp")[:, 0]))[:1]
    with pytest.raises(NotFound, match=str(store.source_id[lost[0]])):
        generate.generate(store, data, loaded, "xp", "metadata", lost)


def test_a_fits_file_of_too_many_stars_is_refused(decoded, tmp_path, monkeypatch):
    monkeypatch.setattr(files, "MOST_HDUS", 3)
    store, _, _ = opened(decoded)
    chunks = generate.stream(store, decoder(decoded), np.arange(5), None)
    with pytest.raises(UsageError, match="3 stars at most"):
        files.write(chunks, tmp_path / "x.fits")
    assert list(tmp_path.iterdir()) == []


def test_bench_generate_gives_the_same_spectra_as_one_call_a_star():
    from mmclip.tasks.bench import BenchConfig
    from mmclip.tasks.bench.generate import BENCH, NAMES

    rows = BENCH.run(BenchConfig(rows=80, repeats=1, device="cpu"))
    assert [r["decoder"] for r in rows] == [n for n in NAMES for _ in range(2)]
    assert all(r["stars/s (wall)"] > 0 for r in rows)
    assert max(r["difference"] for r in rows if "difference" in r) < 1e-3
