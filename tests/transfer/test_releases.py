"""Gaia DR3 and DR4 side by side: bases and lengths of spectra come with the data."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmclip.cli import run
from mmclip.datasets import ingest
from mmclip.errors import USAGE
from mmclip.surveys import Fetched, Request, Survey
from mmclip.surveys.demo import table
from tests.cli.test_cli import ask

SIZES = {"dr3": (55, 55, 2401), "dr4": (48, 44, 1201)}
STARS = 60
QUICK = """
[adapt]
source_epochs = 2
source_batch = 32
epochs = 1
batch = 16
seeds = 1
sizes = ["all"]
"""


def lists(values):
    return pa.array([list(v) for v in values])


def observed(release):
    """Stars as a release gives them: coefficients of its bases, RVS on its grid."""
    bp, rp, samples = SIZES[release]
    rng = np.random.default_rng(samples)
    teff = rng.uniform(4000, 8000, STARS)
    ids = np.sort(rng.choice(2**50, STARS, replace=False).astype(np.int64) * 6000 + 7)
    coefficients = {"source_id": ids}
    for band, count in (("bp", bp), ("rp", rp)):
        values = np.exp(-np.arange(count) / 10) * (1 + np.outer(teff, rng.normal(size=count)) / 1e5)
        values[:, 0] = rng.uniform(1, 2, STARS)
        coefficients[f"{band}_coefficients"] = lists(values)
        coefficients[f"{band}_coefficient_errors"] = lists(0.01 * np.abs(values).astype("f4"))
    grid = np.linspace(846, 870, samples)
    flux = 1 - teff[:, None] / 3e4 * np.exp(-((grid - 858) ** 2))
    flux = (flux + 0.01 * rng.normal(size=flux.shape)).astype("f4")
    if release == "dr3":
        rvs = table({"source_id": ids, "flux": flux, "flux_error": np.full_like(flux, 0.01)})
    else:
        columns = {"flux": flux, "flux_error": np.full_like(flux, 0.01)}
        rvs = pa.table({"source_id": ids} | {n: lists(v) for n, v in columns.items()})
        rvs = rvs.append_column("wavelength", lists(np.tile(grid, (STARS, 1))))
    objects = table({"source_id": ids, "ra": rng.uniform(0, 360, STARS), "dec": np.zeros(STARS),
                     "teff": teff})  # fmt: skip
    views = {"objects": objects, "xp_coefficients": pa.table(coefficients), "rvs": rvs}
    return Fetched(views, {"xp_coefficients": "observed", "rvs": "observed"})


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("releases")
    for release in SIZES:
        survey = Survey(f"gaia-{release}", release, release, (), lambda _, r=release: observed(r))
        ingest.collect(survey, Request(), root / "raw" / release, True)
        words = ["preprocess", "--raw", release, "--name", release, "--preset", "schwarz2024"]
        assert run([*words, "--split", "cells", "-w", str(root)]) == 0
    words = ["train", "--preset", "schwarz2024", "--data", "dr4", "--name", "dr4", "--epochs", "1"]
    assert run([*words, "--batch", "32", "-w", str(root)]) == 0
    (root / "quick.toml").write_text(QUICK)
    return root


@pytest.mark.parametrize("release", SIZES)
def test_the_preset_takes_bases_and_samples_from_the_data(root, release):
    bp, rp, samples = SIZES[release]
    for view, size in (("xp_coefficients", bp + rp), ("rvs", samples)):
        values = pq.read_schema(root / "data" / release / f"{view}.parquet").field("values")
        assert values.type.list_size == size


def test_a_run_of_dr4_is_as_wide_as_its_data_and_embeds_them(root):
    shape = json.loads((root / "runs" / "dr4" / "shape.json").read_bytes())["shape"]
    assert shape["sizes"] == {"rvs": [1201], "xp_coefficients": [92]}
    assert run(["embed", "--run", "dr4", "--name", "dr4", "-w", str(root)]) == 0
    stored = pq.read_table(root / "vectors" / "dr4" / "vectors.parquet")
    assert len(stored) == STARS


def test_a_run_of_one_release_refuses_data_of_the_other(root, capsys):
    code, _, err = ask(capsys, "embed", "--run", "dr4", "--data", "dr3", "--name", "x", "-w", root)
    assert code == USAGE
    assert "holds for gaia-dr4" in err
    assert "mmclip adapt" in err


def adapt(capsys, root, source, target, *more):
    return ask(capsys, "adapt", "--from", f"data/{source}", "--data", f"data/{target}", "--target",
               "teff", "--view", "xp_coefficients", "--holdout", "0.4", "--config",
               root / "quick.toml", "-w", root, *more)  # fmt: skip


def test_adapt_says_how_two_releases_of_other_bases_are_made_alike(root, capsys):
    code, _, err = adapt(capsys, root, "dr3", "dr4")
    assert code == USAGE
    assert "has 92 values a star, the source 110" in err
    assert "--set xp_coefficients.keep=44" in err


def test_adapt_goes_from_dr3_to_dr4_on_as_many_coefficients_of_both(root, capsys):
    for release in SIZES:
        words = ["preprocess", "--raw", release, "--name", f"{release}-44", "--modalities",
                 "xp_coefficients", "--set", "xp_coefficients.keep=44"]  # fmt: skip
        assert run([*words, "-w", str(root)]) == 0
    code, out, err = adapt(capsys, root, "dr3-44", "dr4-44", "--json")
    assert code == 0, err
    scored = [json.loads(line) for line in out.splitlines()]
    assert {row["target"] for row in scored} == {"teff"}


def test_rvs_of_other_wavelengths_or_lengths_is_rejected_by_reason():
    from mmclip.modalities.rvs import RvsSettings, prepare

    grid = np.linspace(846, 870, 961)
    flux, error = np.ones((3, 961), "f4"), np.full((3, 961), 0.01, "f4")
    waves = np.stack([grid, grid + 5, grid])
    made = prepare({"flux": flux, "flux_error": error, "wavelength": waves}, RvsSettings(961))
    assert made.reasons.tolist() == ["", "wavelengths are not even steps from 846 to 870 nm", ""]
    several = [flux[0], flux[1, :900], flux[2]]
    made = prepare({"flux": several, "flux_error": [error[0], error[1, :900], error[2]]},
                   RvsSettings(961))  # fmt: skip
    assert made.reasons.tolist() == ["", "900 samples, not 961", ""]
    assert made.values.shape == (3, 961)
