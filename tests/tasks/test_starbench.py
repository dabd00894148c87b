"""StarBench: what it measures is what it says, and reports stand beside each other."""

import json

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from mmclip.artifacts.workspace import Workspace
from mmclip.cli import run
from mmclip.tasks import starbench

FAST = {"vectors": ("ridge",), "view": ("ridge",)}


@pytest.fixture(scope="module")
def report(trained, tmp_path_factory):
    """The report of the made stars, by the quickest head."""
    file = tmp_path_factory.mktemp("starbench") / "mine.json"
    name = Workspace(trained).all("vectors")[0].path.name
    words = ["evaluate", "--benchmark", "stars", "--vectors", name, "-o", str(file)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(starbench, "READERS", FAST)
        assert run([*words, "-w", str(trained)]) == 0
    return file


def rows_of(file, **wanted):
    rows = json.loads(file.read_text())["rows"]
    return [r for r in rows if all(r[k] == v for k, v in wanted.items())]


def test_average_precision_is_that_of_scikit_learn():
    rng = np.random.default_rng(3)
    right, score = rng.random(200) < 0.2, rng.normal(size=200)
    ours = starbench.average_precision(right, score)
    assert ours == pytest.approx(average_precision_score(right, score))


def test_the_temperature_is_read_from_the_spectrum_and_not_from_a_label_of_chance(report):
    """The made spectra are Planck's: temperature is all they hold."""
    for on in ("vectors", "view"):
        (r2,) = rows_of(report, task="labels", label="teff", view="xp", on=on, metric="R2")
        assert r2["value"] > 0.95
        assert r2["low"] <= r2["value"] <= r2["high"]
    (chance, *_) = rows_of(report, task="retrieval", label="teff", on="vectors")
    assert chance["value"] > 3 * chance["chance"]
    assert chance["chance"] == pytest.approx(0.1, abs=0.01)


def test_every_task_that_the_data_allow_has_rows(report):
    tasks = {r["task"] for r in json.loads(report.read_text())["rows"]}
    assert tasks == {"retrieval", "labels", "few labels", "calibration"}  # no magnitude, no halves
    for row in rows_of(report, task="calibration", metric="coverage"):
        assert 0.3 < row["value"] <= 1


def test_a_label_that_the_view_was_made_of_is_not_asked_of_it(trained):
    space = Workspace(trained)
    from mmclip.datasets.build import open_dataset
    from mmclip.tasks.circular import circular
    from mmclip.vectors.store import Store

    store = Store(space.all("vectors")[0])
    data = open_dataset(space.all("data")[0], tuple(store.modalities))
    assert not circular(data, "xp", "teff")
    assert circular(data, "metadata", "teff")  # teff is linear in the made colours


def test_reports_stand_beside_each_other(report, tmp_path, capsys):
    other = json.loads(report.read_text())
    for row in other["rows"]:
        row["value"] += 1
    (tmp_path / "other.json").write_text(json.dumps(other))
    capsys.readouterr()
    assert run(["evaluate", "--compare", f"{report},{tmp_path / 'other.json'}", "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    (r2,) = [r for r in lines if r["task"] == "labels" and r["metric"] == "R2"]
    assert r2["other"] == pytest.approx(r2["mine"] + 1)
    (plain,) = rows_of(report, task="labels", label="teff", on="view", metric="R2")
    assert r2["without vectors"] == pytest.approx(plain["value"])


def test_other_files_and_other_data_are_told(report, tmp_path, capsys):
    (tmp_path / "x.json").write_text("{}")
    assert run(["evaluate", "--compare", str(tmp_path / "x.json")]) == 2
    assert run(["evaluate", "--compare", str(tmp_path / "none.json")]) == 2
    other = json.loads(report.read_text())
    other["data"]["fingerprint"] = "0"
    (tmp_path / "other.json").write_text(json.dumps(other))
    capsys.readouterr()
    assert run(["evaluate", "--compare", f"{report},{tmp_path / 'other.json'}"]) == 0
    assert "different data" in capsys.readouterr().err
