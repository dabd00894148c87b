"""Two surveys' views of one modality, `xp@one` and `xp@two`, through every stage."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from mmclip import artifacts, plugins
from mmclip.cli import run
from mmclip.clip.settings import TrainConfig, sizes_shape, view_settings
from mmclip.datasets.build import open_dataset, typed
from mmclip.datasets.settings import resolve
from mmclip.errors import NotFound, UsageError
from mmclip.modalities import restore, xp, xp_coefficients
from mmclip.modalities.settings import configured
from mmclip.surveys import Fetched
from mmclip.surveys.demo import table
from mmclip.vectors.store import Store
from tests.conftest import fetch_made, made_stars


def of_survey(stars, seed, keep):
    """The same stars seen by another instrument: half as bright, noise of its own, some of them."""
    rng = np.random.default_rng(seed)
    xp = stars.tables["xp"].slice(*keep)
    flux = np.array(xp["flux"].to_pylist()) * (0.5 + 0.5 * seed)
    noisy = (flux * (1 + 0.02 * rng.normal(size=flux.shape))).astype("f4")
    columns = {"flux": noisy, "flux_error": 0.02 * np.abs(noisy)}
    made = table({"source_id": xp["source_id"].to_numpy(), **columns})
    objects = stars.tables["objects"].slice(*keep)
    return Fetched({"objects": objects, "xp": made}, {"xp": "observed"})


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """240 stars: survey `one` has the first 220, survey `two` the last 220."""
    root, stars = tmp_path_factory.mktemp("two"), made_stars(240)
    for seed, (name, keep) in enumerate((("one", (0, 220)), ("two", (20, 220)))):
        fetch_made(root, of_survey(stars, seed, keep), name)
    w = ["-w", str(root)]
    assert run(["preprocess", "--modalities", "xp@one,xp@two", "--name", "pair", *w]) == 0
    small = ["--set", "width=32", "--set", "dimension=16", "--set", "generator_epochs=2"]
    small += ["--set", "views.xp.depth=1", "--set", "views.xp@two.width=24"]
    assert run(["train", "--batch", "64", "--epochs", "60", *small, *w]) == 0
    assert run(["embed", *w]) == 0
    return root


def test_each_view_is_of_its_survey_alone(workspace):
    data = open_dataset(artifacts.read(workspace / "data" / "pair"))
    assert set(data.views) == {"xp@one", "xp@two"}
    assert len(data.source_id) == 240
    held = {n: v.present for n, v in data.views.items()}
    assert {n: int(p.sum()) for n, p in held.items()} == {"xp@one": 220, "xp@two": 220}
    for name, view in data.views.items():
        raw = pq.read_table(workspace / "raw" / name.partition("@")[2] / "xp.parquet")
        flux = dict(zip(raw["source_id"].to_pylist(), raw["flux"].to_pylist(), strict=True))
        row = np.flatnonzero(view.present)[5]
        theirs = np.array(flux[int(data.source_id[row])])[xp.INSIDE]
        ours = restore(view.values[row], view.statistics)
        # The view is the spectrum over some scale, with the noise of this survey.
        shape = np.corrcoef(ours / ours.mean(), theirs / theirs.mean())[0, 1]
        assert shape > 0.99999


def test_a_star_of_one_survey_is_found_in_the_other(workspace, capsys):
    store = Store(artifacts.read(next((workspace / "vectors").glob("[!.]*"))))
    one, two = (store.vectors(n) for n in ("xp@one", "xp@two"))
    asked = np.flatnonzero(np.isfinite(one[:, 0] + two[:, 0]) & (store.split == "test"))
    assert len(asked) > 10
    cosines = one[asked] @ np.nan_to_num(two).T
    own = cosines[np.arange(len(asked)), asked]
    # Twenty of 240 stars by chance hold the star itself in 8 % of the cases.
    assert ((cosines >= own[:, None]).sum(1) <= 20).mean() > 0.5
    star = str(store.source_id[asked[0]])
    command = ["search", "--query-id", star, "--from", "xp@one", "--to", "xp@two", "--json"]
    capsys.readouterr()
    assert run([*command, "-k", "3", "-w", str(workspace)]) == 0
    found = [json.loads(x) for x in capsys.readouterr().out.splitlines()]
    others = np.delete(cosines[0], asked[0])  # the star itself is left out
    np.testing.assert_allclose([r["cosine"] for r in found], np.sort(others)[:-4:-1], atol=1e-4)


def test_one_survey_is_generated_from_the_other(workspace):
    data = open_dataset(artifacts.read(workspace / "data" / "pair"))
    lacking = ~data.views["xp@one"].present
    assert lacking.sum() == 20
    out = workspace / "made.parquet"
    star = str(data.source_id[lacking][0])
    command = ["generate", "--from", "xp@two", "--to", "xp@one", "--query-id", star]
    assert run([*command, "-o", str(out), "-w", str(workspace)]) == 0
    made = pq.read_table(out)
    generated = np.array(made["generated"].to_pylist(), float).reshape(-1)
    assert len(generated) == 311
    assert np.isfinite(generated).all()
    assert run(["knn", "--target", "teff", "--modality", "xp@two", "-w", str(workspace)]) == 0


def test_settings_of_a_modality_hold_for_its_views_unless_theirs_say_otherwise(tmp_path):
    names = ["spectra@a", "spectra@b"]
    made = typed(["spectra.step=4", "spectra@b.step=6"], {"spectra": {"pixels": 9}}, names)
    assert made == {
        "spectra@a": {"pixels": 9, "step": "4"}, "spectra@b": {"pixels": 9, "step": "6"}
    }  # fmt: skip
    with pytest.raises(NotFound, match="spectra@c"):
        typed(["spectra@c.step=4"], {}, names)
    file = tmp_path / "p.toml"
    file.write_text('[spectra]\nstep = 4.0\n["spectra@b"]\nstep = 6.0\n')
    assert resolve(file, {})[1] == {"spectra": {"step": 4.0}, "spectra@b": {"step": 6.0}}
    settings = TrainConfig(views={"xp": {"width": 9, "depth": 1}, "xp@b": {"width": 7}})
    assert view_settings(settings, "xp@a") == {"width": 9, "depth": 1}
    assert view_settings(settings, "xp@b") == {"width": 7, "depth": 1}
    shape = sizes_shape({"xp@a": (11,), "xp@b": (11,)}, settings)
    assert {n: c.width for n, c in shape.views.items()} == {"xp@a": 9, "xp@b": 7}
    with pytest.raises(UsageError, match="xp@c"):
        sizes_shape({"xp@a": (11,), "xp@b": (11,)}, TrainConfig(views={"xp@c": {}}))


def test_a_view_of_a_survey_is_the_modality_under_another_name():
    it = plugins.load("modalities", "xp_coefficients@gaia", "MODALITY")
    assert (it.name, it.source) == ("xp_coefficients@gaia", "xp_coefficients")
    other = configured(it, {"bases": 30})
    assert (other.name, other.source, other.size) == (it.name, it.source, (60,))
    assert xp_coefficients.MODALITY.name == "xp_coefficients"
    lrs = plugins.load("modalities", "lrs@miles", "MODALITY")
    assert lrs.source == "spectra"
    with pytest.raises(NotFound, match="spectrra"):
        plugins.load("modalities", "spectrra@miles", "MODALITY")


def test_a_survey_that_is_not_there_is_named(workspace, capsys):
    command = ["preprocess", "--modalities", "xp@onne,xp@two", "--name", "no", "-w", str(workspace)]
    assert run(command) != 0
    said = " ".join("".join(capsys.readouterr()).split())
    assert "'onne'" in said
    assert "did you mean 'one'" in said
