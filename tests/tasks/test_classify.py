"""Classification: the capping rule, fine-tuning, baselines, and honest comparison."""

import json
import re
import shutil
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from mmclip import metrics
from mmclip.artifacts.workspace import Workspace
from mmclip.clip.run import open_run
from mmclip.datasets.build import open_dataset
from mmclip.errors import UsageError
from mmclip.tasks import classify
from mmclip.tasks.classify.finetune import (
    Classifier,
    FinetuneConfig,
    finetune,
    probabilities,
    start_from,
)
from mmclip.tasks.curve_summary import summary
from mmclip.vectors.store import Store
from tests.cli.test_cli import ask


@pytest.fixture(scope="module")
def opened(trained):
    space = Workspace(trained)
    store = Store(space.get("vectors", "metadata-xp"))
    data = open_dataset(space.parent(store.artifact, "data"))
    run = open_run(space.parent(store.artifact, "run"))
    return classify.problem(data, run, store, "class", ("metadata", "xp")), run


@given(st.lists(st.integers(1, 3000), min_size=1, max_size=12), st.floats(0.05, 1.0))
@settings(max_examples=200, deadline=None)
def test_the_cap_is_the_largest_that_keeps_to_the_goal(counts, fraction):
    goal = int(sum(counts) * fraction)
    limit = classify.cap(counts, goal)
    # The rarest class counts as filled, whether it is cut or not.
    rarest, *others = sorted(counts)
    kept = rarest + sum(min(c, limit) for c in others)
    assert kept <= goal or limit in (1, max(counts))
    if limit < max(counts):
        assert kept + sum(c > limit for c in others) > goal


@pytest.mark.parametrize(
    ("objects", "rarest", "limit"), [(17_063, 206, 166), (2_152, 25, 21), (2_225, 22, 22)]
)
def test_the_cap_of_a_tenth_is_that_of_astrom3s_table_3(objects, rarest, limit):
    """Training, validation and test at seed 42: ten classes, the rarest with so many stars."""
    others = objects - rarest
    counts = [rarest] + [others // 9 + (i < others % 9) for i in range(9)]
    assert classify.cap(counts, objects // 10) == limit


def test_the_subsets_have_the_shape_of_astrom3s_table_of_classes():
    """Of 21,440 stars in its ten classes (section 2.4) a tenth keeps the rarest whole longest."""
    counts = [6168, 4590, 2916, 2351, 1976, 1839, 796, 281, 268, 255]
    labels = np.repeat(np.arange(10), counts)
    for fraction in (0.5, 0.25, 0.1):
        kept = np.bincount(labels[classify.subset(labels, fraction, 42)], minlength=10)
        assert -55 <= kept.sum() - 21440 * fraction <= 10
        assert len({int(k) for k, c in zip(kept, counts, strict=True) if k < c}) == 1
    # (2144 - 255) // 9: the rarest class counts as filled, and is cut as the others are.
    assert kept.max() == kept.min() == 209


def test_a_subset_is_the_same_for_the_same_seed_and_another_for_another():
    labels = np.repeat([0, 1], [900, 100])
    one, again, other = (classify.subset(labels, 0.25, s) for s in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one, other)
    assert set(np.flatnonzero(labels == 1)) <= set(one)  # the rare class is whole


def test_every_method_tells_hot_from_cool_planck_stars(opened):
    asked, run = opened
    config = FinetuneConfig(epochs=12, batch=128, warm_up=2, least_steps=24)
    made = classify.classify(
        asked, run, ("metadata", "xp"), ("clip", "scratch", "head", "zero-shot", "forest"),
        (1.0,), (42,), config,
    )  # fmt: skip
    found = {r["method"]: r for r in made.rows}
    assert set(found) == {"clip", "scratch", "head", "nearest centroid", "1-NN", "forest"}
    assert found["clip"]["micro"] > 0.9
    assert found["head"]["micro"] > 0.9
    assert found["forest"]["micro"] > 0.9
    for row in made.rows:
        counts = made.confusions[f"{row['method']} 1"]
        assert counts.sum() == row["stars"]
        assert np.diag(counts).sum() / counts.sum() == pytest.approx(row["micro"])
    at_test = {r["at test"] for r in made.importance}
    assert at_test == {"metadata", "xp", "metadata+xp"}
    whole = [r for r in made.importance if r["at test"] == "metadata+xp"]
    assert {r["micro"] for r in whole} == {found["clip"]["micro"], found["scratch"]["micro"]}


def test_without_vectors_what_reads_them_says_so(trained, opened):
    data = open_dataset(Workspace(trained).get("data", None))
    alone = classify.problem(data, None, None, "class", ("metadata",))
    np.testing.assert_array_equal(alone.labels >= 0, opened[0].labels >= 0)
    with pytest.raises(UsageError, match="head reads vectors"):
        classify.classify(alone, None, ("metadata",), ("head",), seeds=(42,))


def test_the_command_takes_data_without_vectors_for_trees(trained, tmp_path, capsys):
    shutil.copytree(trained / "data", tmp_path / "data")
    told = ("classify", "--modalities", "metadata", "--seeds", "42", "-w", tmp_path, "--json")
    code, out, err = ask(capsys, *told, "--method", "forest")
    assert code == 0, err
    assert "without vectors" in err
    assert json.loads(out.splitlines()[0])["micro mean"] > 0.9
    code, _, err = ask(capsys, *told, "--method", "forest,head")
    assert (code, "mmclip embed" in err) == (2, True)
    code, _, err = ask(capsys, *told, "--method", "forest", "--modalities", "rvs")
    assert code == 2
    assert "has no view 'rvs'" in " ".join(err.split())


def test_several_views_are_averaged_over_those_that_are_there(opened):
    asked, run = opened
    made = start_from(run.model, run.shape, ("metadata", "xp"), 2, 0).eval()
    row = np.arange(3)
    both = {v: asked.values[v][:3] for v in ("metadata", "xp")}
    lacking = {**both, "xp": np.full_like(both["xp"], np.nan)}
    np.testing.assert_allclose(
        probabilities(made, lacking, row), probabilities(made, both, row, ("metadata",)), atol=1e-6
    )
    vectors = (asked.vectors["metadata"][:3] + asked.vectors["xp"][:3]) / 2
    logits = made.head(torch.from_numpy(vectors * vectors.shape[1] ** 0.5)).detach().double()
    np.testing.assert_allclose(
        probabilities(made, both, row), torch.softmax(logits, 1).numpy(), atol=1e-5
    )


def test_the_head_alone_sees_the_features_of_a_single_view(opened):
    _, run = opened
    made = start_from(run.model, run.shape, ("xp",), 3, 0)
    assert isinstance(made, Classifier)
    assert made.head.in_features == run.shape.encoder.width
    assert made.head.out_features == 3


def test_fine_tuning_leaves_the_run_as_it_was_and_repeats_exactly(opened):
    asked, run = opened
    before = {k: v.clone() for k, v in run.model.state_dict().items()}
    rows = classify.split_rows(asked, 0.25, 7, False)
    config = FinetuneConfig(epochs=2, least_steps=2, seed=7)
    found = []
    for _ in range(2):
        made = start_from(run.model, run.shape, ("xp",), 2, 7)
        made = finetune(made, asked.values, asked.labels, rows, config)
        found.append(probabilities(made, asked.values, rows["test"]))
    np.testing.assert_array_equal(found[0], found[1])
    assert all(torch.equal(v, before[k]) for k, v in run.model.state_dict().items())


def test_pre_trained_weights_are_the_runs_and_those_from_scratch_are_not(opened):
    _, run = opened
    name = next(n for n, _ in run.model.encoders["xp"].named_parameters())
    mine = dict(run.model.encoders["xp"].named_parameters())[name]
    for model, same in ((run.model, True), (None, False)):
        made = start_from(model, run.shape, ("xp",), 2, 3)
        theirs = dict(made.model.encoders["xp"].named_parameters())[name]
        assert torch.equal(mine, theirs) == same


def test_no_test_star_is_ever_trained_on(opened):
    asked, _ = opened
    for fraction in (1.0, 0.25):
        rows = classify.split_rows(asked, fraction, 42, True)
        assert not set(rows["train"]) & set(rows["test"])
        assert (asked.split[rows["test"]] == "test").all()


def test_light_curves_become_features_that_know_about_order():
    rng = np.random.default_rng(0)
    smooth = np.sin(np.linspace(0, 6, 200))
    noise = rng.permutation(smooth)
    series = np.stack([smooth, noise])[:, :, None].astype("f4").reshape(2, -1)
    made = summary(series, (200, 1))
    assert np.allclose(made[0, :-1], made[1, :-1], atol=1e-5)  # the same values
    assert made[0, -1] < 0.01  # von Neumann: 0 if smooth, 2 if white
    assert made[1, -1] == pytest.approx(2.0, abs=0.3)


def test_measures_of_a_curve_are_those_of_scipy_and_numpy_without_missing_points():
    rng = np.random.default_rng(1)
    series = rng.gamma(2, size=(7, 40, 3)).astype("f4")
    series[rng.random(series.shape) < 0.2] = np.nan
    series[2, :, 1], series[3, :, 0] = np.nan, 1.5  # nothing observed; constant
    made = summary(series.reshape(7, -1), (40, 3)).reshape(7, 10, 3)
    for i, channel in np.ndindex(7, 3):
        one = series[i, :, channel].astype(float)
        one = one[np.isfinite(one)]
        if not len(one):
            assert np.isnan(made[i, :, channel]).all()
            continue
        assert made[i, 4:9, channel] == pytest.approx(np.percentile(one, [5, 25, 50, 75, 95]))
        expected = [stats.skew(one), stats.kurtosis(one)] if one.std() else [np.nan, np.nan]
        assert made[i, 2:4, channel] == pytest.approx(expected, rel=1e-4, nan_ok=True)


def test_the_table_has_population_deviations_over_seeds():
    rows = [
        {"views": "xp", "method": "clip", "fraction": 1.0, "seed": s, "train": 9, "stars": 5,
         "micro": m, "macro": m}
        for s, m in enumerate([0.8, 0.9])
    ]  # fmt: skip
    (row,) = classify.over_seeds(rows)
    assert row["micro mean"] == pytest.approx(0.85)
    assert row["micro std"] == pytest.approx(0.05)  # ddof 0


def test_the_command_compares_and_tests_significance(trained, capsys, tmp_path):
    code, out, err = ask(
        capsys, "classify", "--method", "zero-shot,forest", "--modalities", "xp;metadata",
        "--seeds", "42,66", "--fraction", "0.5", "--plot", tmp_path / "c.png", "--json",
        "--every", tmp_path / "e.csv", "-w", trained,
    )  # fmt: skip
    assert code == 0, err
    rows = [json.loads(line) for line in out.splitlines()]
    assert len(rows) == 2 * 3
    assert {r["seeds"] for r in rows} == {2}
    assert len((tmp_path / "e.csv").read_text().splitlines()) == 1 + 2 * 2 * 3
    assert list(tmp_path.glob("c-*.png"))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [(("--method", "magic"), "magic"), (("--fraction", "2"), "between 0 and 1"),
     (("--column", "kind"), "no column 'kind'"), (("--modalities", "xq"), "xq"),
     (("--column", "ra"), "ra")],
)  # fmt: skip
def test_what_cannot_be_classified_is_said(arguments, says, trained, capsys):
    code, _, err = ask(capsys, "classify", *arguments, "--seeds", "1", "-w", trained)
    assert code == UsageError.exit_code
    assert says in err
    assert "Traceback" not in err


def test_a_killed_study_goes_on_where_it_stopped_and_gives_the_same_table(forks, trained, tmp_path):
    leave = shutil.ignore_patterns(".answers-*")
    whole, killed = (shutil.copytree(trained, tmp_path / n, ignore=leave) for n in "ab")
    flags = ["classify", "--method", "scratch,forest", "--modalities", "xp;metadata", "--seeds",
             "42,66", "--fraction", "0.5", "--config", tmp_path / "few.toml", "-w"]  # fmt: skip
    (tmp_path / "few.toml").write_text("[classify]\nepochs = 2\nleast_steps = 2\n")
    done = forks.run(*flags, whole, "--json")
    assert done.code == 0, done.err
    assert "kept" not in done.err
    process = forks.start(*flags, killed)
    try:
        while process.poll() is None and len(list(killed.glob("vectors/.answers-*/*.npz"))) < 2:
            time.sleep(0.005)
        assert process.poll() is None, "ended before it could be killed"
    finally:
        process.kill()
    before = {f: f.stat().st_mtime_ns for f in killed.glob("vectors/.answers-*/*.npz")}
    assert 2 <= len(before) < 8
    again = forks.run(*flags, killed, "--json")
    assert again.code == 0, again.err
    assert again.out == done.out
    kept = re.findall(r"(\d+) of \d+ rows were kept", again.err)
    assert sum(map(int, kept)) == len(before)
    after = list(killed.glob("vectors/.answers-*/*.npz"))
    assert len(after) == 8  # two sets, two seeds, two methods
    assert all(f.stat().st_mtime_ns == when for f, when in before.items())


def test_a_damaged_answer_is_made_again_and_another_question_is_not_answered_by_it(
    opened, tmp_path
):
    asked = replace(opened[0], kept=tmp_path)
    first = classify.classify(asked, opened[1], ("xp",), ("head",), (0.5,), (1,))
    (file,) = tmp_path.glob("*.npz")
    file.write_bytes(file.read_bytes()[:-40])
    again = classify.classify(asked, opened[1], ("xp",), ("head",), (0.5,), (1,))
    assert (again.rows, again.taken) == (first.rows, [])
    taken = classify.classify(asked, opened[1], ("xp",), ("head",), (0.5,), (1,))
    assert taken.taken == taken.rows == first.rows
    np.testing.assert_array_equal(taken.confusions["head 0.5"], first.confusions["head 0.5"])
    for other in ({"seeds": (2,)}, {"fractions": (1.0,)}, {"cap_test": True}, {"fresh": True}):
        given = {"fractions": (0.5,), "seeds": (1,), **other}
        assert not classify.classify(asked, opened[1], ("xp",), ("head",), **given).taken


def test_differences_are_paired_over_methods_and_over_sets_of_views():
    rows = [
        {"views": v, "method": m, "fraction": 1.0, "seed": s, "micro": micro + 0.01 * s}
        for v, m, micro in (("a", "clip", 0.6), ("a", "forest", 0.7), ("a+b", "clip", 0.65))
        for s in range(3)
    ]
    found = {(r["views"], r["compare"]): r for r in classify.significance(rows)}
    assert set(found) == {("a", "clip - forest"), ("a+b", "clip: a+b - a")}
    assert found["a", "clip - forest"]["difference"] == pytest.approx(-0.1)
    assert found["a+b", "clip: a+b - a"]["difference"] == pytest.approx(0.05)


def test_seeds_that_change_nothing_prove_nothing():
    row = metrics.paired([0.7] * 5, [0.6] * 5)
    assert row["difference"] == pytest.approx(0.1)
    assert np.isnan(row["p"])
    assert np.isnan(row["t p"])
    assert metrics.paired([0.7] * 5, [0.7] * 5)["p"] == 1.0
