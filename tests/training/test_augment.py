"""What training changes of the data: XP redrawn within its covariance, light curves cropped."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from mmclip import artifacts
from mmclip.arrays import lists
from mmclip.cli import run
from mmclip.datasets import error_correlations
from mmclip.datasets.build import open_dataset
from mmclip.errors import INTERRUPTED, UsageError
from mmclip.modalities import restore, xp_coefficients
from mmclip.modalities.settings import configured
from mmclip.surveys import Fetched
from mmclip.surveys.demo import table
from mmclip.training.augment import augment, check
from mmclip.training.batches import Batches
from mmclip.training.correlations import lacking, of_views
from mmclip.training.distributed import Group
from tests.conftest import fetch_made
from tests.interruption import interrupted
from tests.shared import shared

BASES = 6


def tied_errors(rng, rows, size=BASES):
    """Errors [rows, size] and correlations as the archive lays them out, of made covariances."""
    root = rng.normal(size=(rows, size, size))
    covariance = np.einsum("rij,rkj->rik", root, root)
    error = np.sqrt(np.einsum("rii->ri", covariance))
    full = covariance / error[:, :, None] / error[:, None, :]
    i, j = np.tril_indices(size, -1)
    return error / error.max(), full[:, i, j]


def archive(rng, rows):
    """Raw columns of made stars; the first coefficient is 100 to 400 times the largest error."""
    columns = {}
    for band in ("bp", "rp"):
        error, correlation = tied_errors(rng, rows)
        values = rng.normal(size=(rows, BASES)) * 20
        values[:, 0] = rng.uniform(100, 400, rows)
        columns |= {
            f"{band}_coefficients": values,
            f"{band}_coefficient_errors": error,
            f"{band}_coefficient_correlations": correlation,
        }
    return columns


def modality(**settings):
    return configured(xp_coefficients.MODALITY, {"bases": BASES, "correlations": True, **settings})


class Given:
    """Stands for a generator whose normal numbers are known."""

    def __init__(self, draw):
        self.draw = draw

    def standard_normal(self, shape):
        assert self.draw.shape == shape
        return self.draw


@pytest.mark.parametrize("divide", ["own", "bp", "none"])
@pytest.mark.parametrize("first", ["log10", "raw"])
def test_redrawing_what_was_prepared_is_preparing_what_was_redrawn(divide, first):
    rng = np.random.default_rng(0)
    it, columns = modality(divide=divide, first=first), archive(rng, 50)
    made, draw = it.prepare(columns), rng.normal(size=(50, 2 * BASES))
    again = dict(columns)
    for i, band in enumerate(("bp", "rp")):
        again[f"{band}_coefficients"] = xp_coefficients.redraw(
            columns[f"{band}_coefficients"], columns[f"{band}_coefficient_errors"],
            columns[f"{band}_coefficient_correlations"],
            Given(draw[:, i * BASES : (i + 1) * BASES]),
        )  # fmt: skip
    wanted = it.prepare(again).values
    found = it.redraw(made.values, made.errors, it.factors(made.correlations), draw, np)
    np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=2e-6)
    assert np.abs(found - made.values).max() > 1e-3


def test_pytorch_redraws_as_numpy_does():
    rng = np.random.default_rng(5)
    it = modality()
    made = it.prepare(archive(rng, 30))
    given = [made.values, made.errors, it.factors(made.correlations), rng.normal(size=(30, 12))]
    wanted = it.redraw(*(g.astype(float) for g in given), np)
    found = it.redraw(*(torch.from_numpy(g.astype(float)) for g in given), torch)
    np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-12)


def test_a_matrix_that_rounding_left_indefinite_gets_the_factor_of_the_nearest_one():
    tied = np.array([[1.0, 1.0, 0.9999]])  # two numbers equal to a third, yet not to each other
    lower = xp_coefficients.packed(tied, 3)[0]
    factor = np.zeros((3, 3))
    factor[np.tril_indices(3)] = lower
    full = xp_coefficients.correlation_matrix(tied, 3)[0]
    assert np.linalg.eigvalsh(full)[0] < 0
    np.testing.assert_allclose(factor @ factor.T, full, atol=1e-4)


def test_many_redraws_have_the_covariance_of_the_archive():
    rng = np.random.default_rng(1)
    one, draws = archive(rng, 1), 40000
    it = modality()
    made = it.prepare(one)
    given = (made.values, made.errors, it.factors(made.correlations))
    many = [np.repeat(a, draws, 0) for a in given]
    drawn = it.redraw(*many, rng.normal(size=(draws, 2 * BASES)), np)
    for i, band in enumerate(("bp", "rp")):
        mine = drawn[:, i * BASES : (i + 1) * BASES]
        scale = 10 ** mine[:, :1]  # back to the archive's own coefficients
        raw = np.concatenate([scale, mine[:, 1:] * scale], axis=1)
        error = one[f"{band}_coefficient_errors"][0]
        tie = xp_coefficients.correlation_matrix(
            one[f"{band}_coefficient_correlations"].astype("f4"), BASES
        )[0]
        # The standard deviation of a covariance of n draws is at most sqrt(2 / n) of the variances.
        off = np.cov(raw.T) / np.outer(error, error) - tie
        assert np.abs(off).max() < 5 * np.sqrt(2 / draws)
        np.testing.assert_allclose(
            raw.mean(0), one[f"{band}_coefficients"][0], atol=5 * error.max() / draws**0.5
        )


def test_a_star_without_correlations_is_redrawn_by_its_errors_alone():
    rng = np.random.default_rng(2)
    columns = archive(rng, 2)
    ties_ = [c[:, :0] if "corr" in n else c for n, c in columns.items()]
    rows = [lists([a[0], b[1]]) for a, b in zip(columns.values(), ties_, strict=True)]
    it = modality(first="raw", divide="none")
    made = it.prepare(dict(zip(columns, rows, strict=True)))
    assert made.reasons.tolist() == ["", ""]
    draw = rng.normal(size=(2, 2 * BASES))
    found = it.redraw(made.values, made.errors, it.factors(made.correlations), draw, np)
    np.testing.assert_allclose(found[1], made.values[1] + made.errors[1] * draw[1], rtol=1e-6)
    assert not np.allclose(found[0], made.values[0] + made.errors[0] * draw[0], rtol=1e-3)


def test_kept_coefficients_have_the_correlations_of_the_first_ones():
    columns = archive(np.random.default_rng(3), 4)
    few, all_ = modality(keep=4).prepare(columns), modality().prepare(columns)
    pairs, whole = 4 * 3 // 2, BASES * (BASES - 1) // 2
    for i in (0, 1):
        mine = few.correlations[:, i * pairs : (i + 1) * pairs]
        theirs = all_.correlations[:, i * whole : (i + 1) * whole]
        full = xp_coefficients.correlation_matrix(theirs, BASES)[:, :4, :4]
        np.testing.assert_array_equal(xp_coefficients.correlation_matrix(mine, 4), full)
    assert xp_coefficients.MODALITY.prepare(
        {n: c for n, c in columns.items() if "corr" not in n}
    ).correlations is None  # fmt: skip


def made_sky(count, seed):
    """Made stars whose colour is in both views; every second one has coefficients."""
    rng = np.random.default_rng(seed)
    columns = archive(rng, count)
    columns["rp_coefficients"][:, 1] = 20 * rng.normal(size=count)
    colour = columns["rp_coefficients"][:, 1] / columns["rp_coefficients"][:, 0]
    ids = np.sort(rng.choice(2**50, count, replace=False).astype(np.int64) * 6000 + 7)
    g = rng.uniform(9, 14, count)
    magnitudes = {"phot_g_mean_mag": g, "j_m": g - colour, "h_m": g - 2 * colour, "ks_m": g}
    flat = {n: c.astype("f4") for n, c in columns.items()}
    made = {
        "objects": table({"source_id": ids, "ra": rng.uniform(0, 360, count)}),
        "metadata": table({"source_id": ids, **magnitudes}),
        "xp_coefficients": table({"source_id": ids[::2], **{n: c[::2] for n, c in flat.items()}}),
    }
    return Fetched(made, {"metadata": "observed", "xp_coefficients": "observed"})


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """Data sets `tied` and `untied` of the same made stars."""
    root = tmp_path_factory.mktemp("augment")
    fetch_made(root, made_sky(200, 0))
    for name, more in (("untied", []), ("tied", ["--set", "xp_coefficients.correlations=true"])):
        assert run(["preprocess", "--name", name, *more, "-w", str(root)]) == 0
    return root


def opened(workspace, name="tied"):
    return open_dataset(artifacts.read(workspace / "data" / name))


def test_preprocessing_keeps_the_correlations_of_each_star(workspace):
    data = opened(workspace)
    raw = pq.read_table(workspace / "raw" / "made" / "xp_coefficients.parquet")
    given = {i: k for k, i in enumerate(raw["source_id"].to_pylist())}
    wanted = [np.array(raw[f"{b}_coefficient_correlations"].to_pylist()) for b in ("bp", "rp")]
    kept = error_correlations.read(data.artifact, "xp_coefficients", data.source_id)
    seen = data.views["xp_coefficients"].present
    assert seen.sum() == 100
    rows = [given[i] for i in data.source_id[seen].tolist()]
    np.testing.assert_array_equal(kept[seen], np.concatenate([w[rows] for w in wanted], axis=1))
    assert np.isnan(kept[~seen]).all()
    assert lacking(data, data.views) == []
    assert of_views(opened(workspace, "untied"), data.views) == {}
    assert lacking(opened(workspace, "untied"), data.views) == ["xp_coefficients"]


def test_stars_that_are_added_bring_their_correlations(workspace):
    fetch_made(workspace, made_sky(60, 1), "later")
    w = ["-w", str(workspace)]
    assert run(["preprocess", "--add-to", "tied", "--raw", "later", "--name", "both", *w]) == 0
    old, both = opened(workspace), opened(workspace, "both")
    before, now = (
        error_correlations.read(d.artifact, "xp_coefficients", d.source_id) for d in (old, both)
    )
    assert now[:200].tobytes() == before.tobytes()
    raw = pq.read_table(workspace / "raw" / "later" / "xp_coefficients.parquet")
    place = {i: k for k, i in enumerate(both.source_id.tolist())}
    rows = [place[i] for i in raw["source_id"].to_pylist()]
    wanted = [np.array(raw[f"{b}_coefficient_correlations"].to_pylist()) for b in ("bp", "rp")]
    np.testing.assert_array_equal(now[rows], np.concatenate(wanted, axis=1))
    assert len(rows) == 30
    assert np.isfinite(now).any(1).sum() == 130


def feed(data, resident="yes"):
    return Batches(
        data.views, torch.device("cpu"), resident, correlations=of_views(data, data.views)
    )


def test_a_redrawn_batch_is_a_function_of_seed_and_step_alone(workspace):
    data, rows = opened(workspace), np.arange(40, 80)
    whole = feed(data).batch(rows, 1.0, 7)[0]["xp_coefficients"]
    gathered = feed(data, "no").batch(rows, 1.0, 7)[0]["xp_coefficients"]
    parts = [feed(data).batch(rows, 1.0, 7, group=Group(r, 2))[0] for r in (0, 1)]
    shares = torch.cat([p["xp_coefficients"][0] for p in parts])
    assert torch.equal(whole[0], gathered[0])
    assert torch.equal(whole[0], shares)
    assert not torch.equal(whole[0], feed(data).batch(rows, 1.0, 8)[0]["xp_coefficients"][0])
    still = feed(data).batch(rows)[0]["xp_coefficients"]  # as validation and embedding read it
    assert torch.equal(still[1], whole[1])
    absent = ~still[1].any(1)
    assert absent.any()
    assert not torch.equal(still[0][~absent], whole[0][~absent])
    torch.testing.assert_close(whole[0][absent], still[0][absent])


def test_batches_of_training_are_drawn_within_the_covariance(workspace):
    data = opened(workspace)
    view, it = data.views["xp_coefficients"], feed(data)
    row = np.flatnonzero(view.present)[0]
    drawn = [it.batch(np.full(512, row), 1.0, s)[0]["xp_coefficients"][0] for s in range(40)]
    raw = restore(torch.cat(drawn).numpy(), view.statistics)[:, BASES:]
    raw = np.concatenate([10 ** raw[:, :1], raw[:, 1:] * 10 ** raw[:, :1]], axis=1)
    # Of the archive, RP of this star.
    table_ = pq.read_table(workspace / "raw" / "made" / "xp_coefficients.parquet")
    at = table_["source_id"].to_pylist().index(int(data.source_id[row]))
    error = np.array(table_["rp_coefficient_errors"][at].as_py())
    tie = np.array([table_["rp_coefficient_correlations"][at].as_py()])
    off = np.cov(raw.T) / np.outer(error, error) - xp_coefficients.correlation_matrix(tie, BASES)[0]
    assert np.abs(off).max() < 5 * np.sqrt(2 / len(raw))


def train(workspace, name, data, *more):
    small = ["--set", "width=16", "--set", "dimension=8", "--set", "generator_epochs=1"]
    return run(
        ["train", "--data", data, "--name", name, "--batch", "32", "--epochs", "3", *small, *more,
         "-w", str(workspace)]
    )  # fmt: skip


WAYS = {
    "redrawn": (5, ()),
    "restarts": (9, ("optimiser=lamb", "learning_rates=[1e-2,1e-3]", "cycles=2")),
    "plateau": (8, ("schedule=plateau", "loss=sigmoid", "optimiser=adam", "encode_chunk=8",
                    "precision=bfloat16", "early_stop=1")),
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_training_resumes_bit_for_bit(workspace, monkeypatch, way):
    monkeypatch.setattr("mmclip.training.precision.imitation", lambda: 1.0)  # on any processor
    call, words = WAYS[way]
    more = [x for w in words for x in ("--set", w)]
    assert train(workspace, f"{way}-whole", "tied", *more) == 0
    steps = interrupted(monkeypatch, call)
    assert train(workspace, f"{way}-cut", "tied", *more) == INTERRUPTED
    assert train(workspace, f"{way}-cut", "tied", *more) == 0
    lines = (workspace / "runs" / f"{way}-cut" / "metrics.jsonl").read_text().splitlines()
    last = max(e["step"] for e in map(json.loads, lines) if e["stage"] == "align")
    assert steps.count("align") == last + 1  # the one that was cut off was done again, no other
    files = [workspace / "runs" / f"{way}-{n}" / "model.safetensors" for n in ("whole", "cut")]
    assert artifacts.sha256(files[0]) == artifacts.sha256(files[1])


def test_training_says_when_it_redraws_by_the_errors_alone(workspace, capsys):
    capsys.readouterr()
    assert train(workspace, "with", "tied") == 0
    assert "by its errors alone" not in " ".join("".join(capsys.readouterr()).split())
    assert train(workspace, "alone", "untied") == 0
    said = " ".join("".join(capsys.readouterr()).split())
    assert "xp_coefficients is redrawn by its errors alone" in said
    files = [workspace / "runs" / n / "model.safetensors" for n in ("with", "alone")]
    assert artifacts.sha256(files[0]) != artifacts.sha256(files[1])


def test_validation_reads_the_data_as_they_are(workspace, monkeypatch):
    data, calls, real = opened(workspace), [], Batches.batch

    def seen(self, rows, *given, **named):
        made = real(self, rows, *given, **named)
        calls.append((rows, made[0]["xp_coefficients"][0]))
        return made

    monkeypatch.setattr(Batches, "batch", seen)
    assert train(workspace, "watched", "tied", "--set", "generator_epochs=0") == 0
    values = torch.from_numpy(np.nan_to_num(data.views["xp_coefficients"].values))
    held_out = [(r, x) for r, x in calls if (data.split[r] == "validation").all()]
    assert held_out
    assert all(torch.equal(x, values[r]) for r, x in held_out)
    assert not any(torch.equal(x, values[r]) for r, x in calls if (data.split[r] == "train").all())


def test_real_coefficients_are_redrawn_as_the_archive_correlates_them():
    table_ = pq.read_table(shared("spectra", "gaia_xp", "xp_symbiotic_pn.parquet")).slice(0, 60)
    columns = {n: lists(table_[n].to_pylist()) for n in table_.column_names if "coeff" in n}
    it = configured(xp_coefficients.MODALITY, {"correlations": True})
    made = it.prepare(columns)
    rows = np.repeat(np.flatnonzero(made.reasons == "")[:1], 20000)
    draw = np.random.default_rng(0).normal(size=(len(rows), 110))
    own = it.factors(made.correlations[rows[:1]])
    factors = np.broadcast_to(own, (len(rows), own.shape[1]))
    drawn = it.redraw(made.values[rows], made.errors[rows], factors, draw, np)
    raw = drawn[:, 1:55] * 10 ** drawn[:, :1]
    found = np.corrcoef(raw.T)
    full = np.array(table_["bp_coefficient_correlations"].to_pylist())[rows[:1]]
    wanted = xp_coefficients.correlation_matrix(full, 55)[0][1:, 1:]
    assert np.abs(found - wanted).max() < 5 / np.sqrt(len(rows)) + 1e-3
    assert np.abs(wanted - np.eye(54)).max() > 0.3  # errors alone would not do


def cropped(x, mask, kind, seed):
    chance = torch.Generator().manual_seed(seed)
    size = tuple(x.shape[1:])
    out, kept = augment(x.flatten(1), mask.flatten(1), size, (kind,), chance, len(x), slice(None))
    return out.unflatten(1, size), kept.unflatten(1, size)


def test_a_crop_of_n_points_is_a_window_anywhere_in_the_curve():
    lengths = torch.tensor([50, 20, 10, 30])
    time = torch.arange(50.0).view(1, 50, 1).expand(4, -1, 2)
    mask = (torch.arange(50) < lengths[:, None]).unsqueeze(-1).expand(-1, -1, 2)
    starts = set()
    for seed in range(300):
        cut, kept = cropped(torch.where(mask, time, 0.0), mask, "crop:20", seed)
        assert kept[:, :, 0].sum(1).tolist() == [20, 20, 10, 20]
        for row, n in zip(cut, (20, 20, 10, 20), strict=True):
            assert torch.equal(row[:n, 0], row[0, 0] + torch.arange(float(n)))  # in order, no gap
            assert not row[n:].any()
            assert torch.equal(row[:, 0], row[:, 1])
        assert torch.equal(cut[1:3, :20], torch.where(mask, time, 0.0)[1:3, :20])
        assert cut[0].max() < 50
        assert cut[3].max() < 30
        starts.add(int(cut[0, 0, 0]))
    assert starts == set(range(31))  # n - length is included


def test_a_crop_that_cannot_be_is_refused():
    check(("crop:20", "crop"), (50, 9))
    for word in ("crop:0", "crop:x", "flip:3", "crop:"):
        with pytest.raises(UsageError, match=word):
            check((word,), (50, 9) if "crop" in word else (3, 8, 8))
    with pytest.raises(UsageError, match="2 axes"):
        check(("crop:20",), (50,))


def picture(kind, x, draw=0.5):
    """One image or batch changed by an augmentation whose chance is known."""
    from mmclip.training import augment as module

    mask = torch.isfinite(x)
    draws = torch.full((len(x), 2), draw)
    return getattr(module, kind)(torch.nan_to_num(x), mask, draws)


def test_a_blurred_point_is_a_gaussian_and_a_constant_stays_constant():
    x = torch.zeros(2, 3, 33, 33)
    x[:, :, 16, 16] = 1.0
    made, _ = picture("blur", x)
    place = torch.arange(33.0) - 16
    # sigma = 2 x 0.5 = 1 pixel
    line = torch.exp(-(place**2) / 2)
    line = line / line.sum()
    torch.testing.assert_close(made[0, 0, 16], line * line[16], atol=1e-5, rtol=1e-3)
    same, mask = picture("blur", torch.full((1, 3, 20, 24), 5.0))
    torch.testing.assert_close(same, torch.full((1, 3, 20, 24), 5.0))
    hole = torch.full((1, 3, 20, 20), 5.0)
    hole[0, :, 4, 4] = float("nan")
    made, mask = picture("blur", hole)
    assert not mask[0, :, 4, 4].any()
    torch.testing.assert_close(made[mask], torch.full((3 * 399,), 5.0))


def test_noise_has_the_deviation_that_was_drawn_and_is_the_same_again():
    x = torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 7 + 100
    made, _ = picture("noise", x)
    added = made - x
    # 0.2 x 0.5 of the image's own deviation of 7
    assert added.std().item() == pytest.approx(0.7, rel=0.05)
    assert torch.equal(made, picture("noise", x)[0])
    check(("blur", "noise", "flip"), (3, 64, 64))
    with pytest.raises(UsageError, match="needs a view of 3 axes"):
        check(("blur",), (3, 64))
