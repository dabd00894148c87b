"""The catalogue of labels as a user makes it."""

import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.table import Table
from safetensors.numpy import load_file, save_file
from sklearn.neighbors import KNeighborsRegressor

from mmclip import artifacts
from mmclip.artifacts import paths
from mmclip.artifacts.workspace import Workspace
from mmclip.datasets.build import Dataset, open_dataset
from mmclip.errors import USAGE, IntegrityError
from mmclip.modalities import photometry_features, restore
from mmclip.tasks import predict
from mmclip.tasks.circular import circular
from mmclip.tasks.classify import trees
from mmclip.tasks.predict import Question, calibrate, catalogue, features, fit, fitted
from mmclip.tasks.predict.heads import boosting, mlp_ensemble
from mmclip.tasks.predict.stars import Stars, labels, stars_of
from mmclip.vectors.store import Store
from tests.artifacts.test_absurd import sealed_again
from tests.cli.test_cli import ask
from tests.conftest import made_stars


@pytest.fixture(scope="module")
def data(trained):
    space = Workspace(trained)
    return open_dataset(space.get("data"))


def question(data, target=("teff",), only=None, seed=42):
    only = np.ones(len(data.source_id), bool) if only is None else only
    found = labels(data, target, data.of("train") & only)
    return Question(data, stars_of(data), tuple(found), ("metadata", "xp"), "view", only, seed)


def test_a_catalogue_holds_every_star_and_opens_in_astropy(trained, capsys, tmp_path):
    path = tmp_path / "labels.fits"
    code, _, err = ask(
        capsys, "predict", "--target", "teff,class", "--method", "kernel-ridge", "-o", path,
        "--name", "both", "-w", trained,
    )  # fmt: skip
    assert code == 0, err
    made = Table.read(path)
    assert len(made) == 400
    assert made["teff"].unit == "K"
    truth = pq.read_table(trained / "raw" / "made" / "objects.parquet").to_pydict()
    teff = dict(zip(truth["source_id"], truth["teff"], strict=True))
    kind = dict(zip(truth["source_id"], truth["class"], strict=True))
    expected = np.array([teff[i] for i in made["source_id"]])
    assert np.median(np.abs(made["teff"].value - expected)) < 50  # K: Planck curves to 1 %
    inside = (made["teff_lower"].value <= expected) & (expected <= made["teff_upper"].value)
    assert 0.6 < inside.mean() < 0.85
    wide = (made["teff_lower95"].value <= expected) & (expected <= made["teff_upper95"].value)
    assert wide.mean() > 0.9
    right = np.array([kind[i] for i in made["source_id"]]) == made["class"]
    assert right.mean() > 0.95
    total = made["class_p_ROT"] + made["class_p_DSCT"]
    np.testing.assert_allclose(total, 1.0, atol=1e-9)


def test_a_class_below_the_asked_probability_is_not_given_and_its_star_flagged(data):
    head, _ = fit(question(data, ("class",)), "knn", resamples=0)
    asked = catalogue.ask(head, stars_of(data), check=False)
    every, some = (pa.concat_tables(catalogue.blocks(replace(asked, abstain=a))) for a in (0, 0.9))
    chances = np.stack([every[f"class_p_{n}"].to_numpy() for n in ("ROT", "DSCT")]).max(axis=0)
    assert 0 < (chances < 0.9).sum() < len(chances)
    for low, name, flags, before in zip(
        chances < 0.9, some["class"].to_pylist(), some["flags"].to_pylist(),
        every["class"].to_pylist(), strict=True,
    ):  # fmt: skip
        assert name == (None if low else before)
        assert ("abstained" in flags) == low
    assert some["class_p_ROT"].equals(every["class_p_ROT"])


def test_apply_refuses_options_of_the_protocol(trained, capsys):
    code, _, err = ask(capsys, "classify", "--apply", "--calibrate", "-w", trained)
    assert code == 2
    assert "--calibrate has no effect beside --apply" in " ".join(err.split())


def test_labels_of_pure_noise_are_not_predicted_for_the_stars_that_have_them(data):
    """A head that saw a star's own label would know it."""
    noise = np.random.default_rng(3).normal(size=len(data.source_id))
    made = Dataset(data.artifact, data.objects.append_column("noise", pa.array(noise)), data.views)
    head, _ = fit(question(made, ("noise",)), "kernel-ridge", resamples=0)
    asked = catalogue.ask(head, stars_of(made))
    got = pa.concat_tables(catalogue.blocks(asked))["noise"].to_numpy()
    known = np.isfinite(got)
    assert abs(np.corrcoef(got[known], noise[known])[0, 1]) < 0.2


def test_a_star_that_lacks_a_view_is_predicted_without_it_and_one_that_lacks_all_is_not(data):
    head, _ = fit(question(data), "ridge", resamples=0)
    stars = stars_of(data)
    none = np.zeros(len(stars), bool)
    one, both = none.copy(), none.copy()
    one[:50], both[50:60] = True, True
    present = {"metadata": ~(one | both), "xp": ~both}
    got = catalogue.table(
        catalogue.ask(head, Stars(stars.source_id, stars.split, present, stars.read)),
        np.arange(100),
    )
    flags = got["flags"].to_pylist()
    assert all("views missing" in f for f in flags[:60])
    assert not any("views missing" in f for f in flags[60:])
    assert all("abstained" in f for f in flags[50:60])
    value = got["teff"].to_pylist()
    assert None not in value[:50]
    assert value[50:60] == [None] * 10


def shifted(stars, rows, change):
    """Stars with other ids, whose spectra are changed."""

    def read(name):
        inner = stars.read[name]

        def changed(asked):
            seen = inner(rows[asked])
            return type(seen)(change(seen.values) if name == "xp" else seen.values, seen.noise)

        return changed

    present = {n: p[rows] for n, p in stars.present.items()}
    split = np.full(len(rows), "new")
    return Stars(np.arange(len(rows)), split, present, {n: read(n) for n in stars.read})


def test_hot_stars_asked_of_a_head_that_learned_from_cool_ones_are_not_answered(data):
    teff = data.objects["teff"].to_numpy()
    head, _ = fit(question(data, only=teff < 5000), "kernel-ridge", resamples=0)
    hot = np.flatnonzero(teff > 6500)
    got = pa.concat_tables(
        catalogue.blocks(catalogue.ask(head, shifted(stars_of(data), hot, lambda v: v)))
    )
    truth, low, high = teff[hot], got["teff_lower95"].to_numpy(), got["teff_upper95"].to_numpy()
    silent = np.array(["abstained" in f for f in got["flags"].to_pylist()])
    held = ~(truth < low) & ~(truth > high)  # an end that is null is no promise
    assert (silent | held).mean() > 0.9
    assert all("shifted" in f for f in got["flags"].to_pylist())


def test_blurred_spectra_are_noticed_and_the_intervals_hold_or_are_withdrawn(data):
    head, _ = fit(question(data), "kernel-ridge", resamples=0)
    rows = np.flatnonzero(~data.of("train"))

    def blur(values):
        kernel = np.ones(41) / 41
        return np.apply_along_axis(lambda v: np.convolve(v, kernel, "same"), 1, values)

    asked = catalogue.ask(head, shifted(stars_of(data), np.tile(rows, 3), blur))
    assert any("not like the training stars" in note for note in asked.notes)
    got = pa.concat_tables(catalogue.blocks(asked))
    teff = np.tile(data.objects["teff"].to_numpy()[rows], 3)
    low, high = (got[f"teff_{end}95"].to_numpy() for end in ("lower", "upper"))
    held = ~(teff < low) & ~(teff > high)
    assert held.mean() > 0.9


def test_new_stars_of_a_file_are_predicted_by_a_stored_head_and_shards_join(
    trained, capsys, tmp_path
):
    head = ["--name", "later", "--target", "teff", "--method", "ridge", "-w", trained]
    assert ask(capsys, "predict", *head)[0] == 0
    fresh = made_stars(60, seed=8).tables
    file = tmp_path / "new.parquet"
    pq.write_table(fresh["xp"], file)
    whole = tmp_path / "whole.parquet"
    asked = ["predict", "--head", "later", "--file", file, "-w", trained]
    code, _, err = ask(capsys, *asked, "-o", whole)
    assert code == 0, err
    got = pq.read_table(whole)
    order = np.argsort(fresh["objects"]["source_id"].to_numpy())
    truth = fresh["objects"]["teff"].to_numpy()[order]
    made = got.sort_by("source_id")
    assert np.median(np.abs(made["teff"].to_numpy() - truth)) < 100
    assert set(got["split"].to_pylist()) == {"new"}
    parts = tmp_path / "parts.parquet"
    for shard in (1, 2, 3):
        assert ask(capsys, *asked, "-o", parts, "--shard", f"{shard}/3")[0] == 0
    assert ask(capsys, *asked, "-o", parts, "--merge", "3")[0] == 0
    joined = pq.read_table(parts)
    assert joined["source_id"].equals(got["source_id"])
    for name in ("teff", "teff_lower", "teff_upper", "teff_lower95", "teff_upper95", "outside"):
        # Products of float32 matrices differ in their last bits with the number of rows.
        np.testing.assert_allclose(joined[name].to_numpy(), got[name].to_numpy(), rtol=1e-4)


@pytest.fixture
def quick(monkeypatch):
    """Fewer steps and trees, where it is not how well a head fits that is asked."""
    monkeypatch.setattr(mlp_ensemble, "SHORTEST", 60)
    monkeypatch.setattr(mlp_ensemble, "EPOCHS", 10)
    monkeypatch.setattr(boosting, "TREES", 20)


@pytest.mark.parametrize("method", ["blend", "boosting", "knn"])
def test_a_stored_head_answers_as_it_did(method, data, tmp_path, quick):
    some = np.arange(len(data.source_id)) % 3 == 0
    head, _ = fit(question(data, ("teff", "class"), some), method, resamples=0)
    again = fitted.read(artifacts.verify(stored(head, data, tmp_path / "head")))
    rows = np.arange(30)
    first, second = (catalogue.table(catalogue.ask(h, stars_of(data)), rows) for h in (head, again))
    assert first.equals(second)


def stored(head, data, place):
    with artifacts.building(place) as folder:
        fitted.write(head, folder, data, {}, [], {}, 42)
    return artifacts.read(place)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_stored_head_with_weights_that_are_no_numbers_is_refused_by_name(data, tmp_path, value):
    """Labels that are unknown are NaN in it: those it may hold."""
    truth = question(data).labels[0]
    lacks = replace(truth, truth=np.where(np.arange(len(truth.truth)) % 4, truth.truth, np.nan))
    asked = replace(
        question(data, ("teff", "class")), labels=(lacks, *question(data, ("class",)).labels)
    )
    place = stored(fit(asked, "knn", resamples=0)[0], data, tmp_path / "head").path
    fitted.read(artifacts.read(place))
    held = load_file(place / paths.HEAD_ARRAYS)
    name = "part0/head/knn/x"
    held[name] = held[name].copy()
    held[name][3, 0] = value
    save_file(held, place / paths.HEAD_ARRAYS)
    sealed_again(place)
    with pytest.raises(IntegrityError, match=f"1 of the .* values of '{name}' are not finite"):
        fitted.read(artifacts.read(place))


def test_knn_applied_gives_every_star_the_mean_of_its_nearest(trained, data, capsys, tmp_path):
    path = tmp_path / "all.parquet"
    code, _, err = ask(capsys, "knn", "--apply", "--target", "teff", "--modality", "xp",
                       "-o", path, "-w", trained)  # fmt: skip
    assert code == 0, err
    got = pq.read_table(path)
    assert len(got) == len(data.source_id)
    assert got["teff"].null_count < 4
    store = Store(Workspace(trained).get("vectors"))
    train, test = store.of("train"), np.flatnonzero(store.of("test"))
    labels = dict(zip(data.source_id.tolist(), data.objects["teff"].to_pylist(), strict=True))
    teff = np.log10([labels[int(i)] for i in store.source_id])
    model = KNeighborsRegressor(13).fit(store.vectors("xp")[train], teff[train])
    expected = 10 ** model.predict(store.vectors("xp")[test])
    made = dict(zip(got["source_id"].to_pylist(), got["teff"].to_numpy(), strict=True))
    mine = np.array([made[int(i)] for i in store.source_id[test]])
    known = np.isfinite(mine)
    assert np.median(np.abs(mine[known] / expected[known] - 1)) < 1e-4
    code, _, err = ask(capsys, "knn", "--apply", "-k", "5", "-w", trained)
    assert code == USAGE
    assert "-k" in err


def test_every_head_is_compared_in_the_unit_of_the_label(trained, capsys, quick):
    code, out, err = ask(
        capsys, "predict", "--compare", "--target", "teff", "--bootstrap", "20", "--json",
        "-w", trained,
    )  # fmt: skip
    assert code == 0, err
    rows = [json.loads(line) for line in out.splitlines()]
    names = {r["method"] for r in rows if r["on"] == "view"}
    assert len(names) == 8  # six heads, the plain network, neighbours by white components
    assert {r["on"] for r in rows} == {"view", "vectors"}
    best = min(r["NMAD"] for r in rows)
    assert 1 < best < 100  # K
    assert all(r["R2_low"] <= r["R2"] <= r["R2_high"] for r in rows)


def test_several_methods_are_compared_and_only_compared(trained, capsys):
    asked = ["predict", "--method", "ridge,knn-white", "--target", "teff", "-w", trained]
    code, out, err = ask(capsys, *asked, "--compare", "--bootstrap", "0", "--json")
    assert code == 0, err
    rows = [json.loads(line) for line in out.splitlines()]
    names = [r["method"] for r in rows if r["on"] == "view"]
    assert names == ["ridge regression", "13 nearest neighbours, white components"]
    code, _, err = ask(capsys, *asked)
    assert code == USAGE
    assert "--compare" in err


def test_a_number_is_flagged_where_its_interval_is_wide_or_no_label_was_like_it(data):
    head, _ = fit(question(data), "ridge", resamples=0)
    got = catalogue.table(catalogue.ask(head, stars_of(data)), np.arange(len(data.source_id)))
    target, part = head.targets[0], head.parts[0]
    low, high = (target.standard(got[f"teff_{end}"].to_numpy()) for end in ("lower", "upper"))
    known = np.isfinite(low) & np.all([stars_of(data).present[v] for v in part.views], axis=0)
    wide = (high - low) / 2 > 3 * part.ordinary[0]
    flagged = np.array(["uncertain teff" in f for f in got["flags"].to_pylist()])
    np.testing.assert_array_equal(flagged[known], wide[known])
    assert np.median((high - low)[known] / 2) == pytest.approx(part.ordinary[0], rel=0.3)
    none = replace(head, parts=tuple(replace(p, ranges=((9.0, 9.0),)) for p in head.parts))
    got = catalogue.table(catalogue.ask(none, stars_of(data)), np.flatnonzero(known)[:20])
    assert all("outside training set" in f for f in got["flags"].to_pylist())


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("--target", "tef"), "teff"),
        (("--target", "teff", "--method", "kernel"), "kernel-ridge"),
        (("--target", "teff", "--on", "sky"), "view, vectors, both"),
        (("--target", "teff", "--shard", "1/2"), "--head"),
    ],
)
def test_bad_input_names_what_works(trained, capsys, arguments, word):
    code, _, err = ask(capsys, "predict", *arguments, "-w", trained)
    assert code == USAGE
    assert word in err


def test_a_label_that_is_a_column_of_the_view_or_follows_from_it_is_circular(data):
    shown = data.views["metadata"]
    values = restore(shown.values, shown.statistics)
    colour = 2 * values[:, 0] - values[:, 2] + 1
    objects = data.objects.append_column("made", pa.array(colour))
    made = Dataset(data.artifact, objects, data.views)
    assert circular(made, "metadata", "made")
    assert circular(made, "metadata", "j_m")
    assert not circular(made, "metadata", "ra")
    assert not circular(made, "xp", "teff")


def test_a_table_of_measures_is_read_draw_by_draw():
    settings = photometry_features.FeatureSettings(draws=2)
    modality = photometry_features.configure(settings)
    values = np.random.default_rng(5).normal(size=(20, len(modality.labels())))
    block = features.learn("photometry_features", modality, values, values.shape[1:])
    again = features.block_of(vars(block), block.arrays())
    alone = replace(block, draws=0)
    for number, one in enumerate(np.split(values, 3, axis=1)):
        np.testing.assert_array_equal(again(values, number), alone(one))
    np.testing.assert_array_equal(again(values, 7), again(values, 2))  # beyond the last


def test_a_stored_head_answers_with_the_mean_over_the_draws_of_a_star(
    data, tmp_path, quick, monkeypatch
):
    """The second draw is another star's photometry: both halves have a say in every answer."""
    monkeypatch.setattr(trees, "ROUNDS", 20)
    some = np.arange(len(data.source_id)) % 2 == 0
    asked = question(data, ("class",), some)
    whole, whole_blocks = asked.stars, predict.learn_blocks
    turn = np.roll(np.arange(len(whole)), 1)

    def both(rows):
        seen = whole.read["metadata"](rows)
        other = whole.read["metadata"](turn[rows]).values
        return replace(seen, values=np.concatenate([seen.values, other], axis=1))

    def blocks(*of):
        (one,) = whole_blocks(data, whole, ["metadata"])["metadata"]
        return {"metadata": (replace(one, draws=1),)}

    monkeypatch.setattr(predict, "learn_blocks", blocks)
    stars = Stars(whole.source_id, whole.split, whole.present, {"metadata": both})
    head, _ = fit(replace(asked, stars=stars, views=("metadata",)), "boosting", resamples=0)
    again = fitted.read(stored(head, data, tmp_path / "head"))
    part, (block,) = again.parts[0], again.blocks["metadata"]
    rows = np.flatnonzero(data.of("test"))
    alone = {"metadata": (replace(block, draws=0),)}
    opened = boosting.load(part.states["boosting"])
    logs = np.mean([opened(predict.read_features(whole, r, ["metadata"], alone)[0])
                    for r in (rows, turn[rows])], axis=0)  # fmt: skip
    chance = calibrate.softmax(logs / part.temperatures[0])
    made = catalogue.table(catalogue.ask(again, stars, check=False), rows)
    found = np.stack([made[f"class_p_{n}"] for n in again.targets[0].classes], axis=1)
    np.testing.assert_allclose(found, chance, atol=1e-9)
