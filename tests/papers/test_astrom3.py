"""AstroM3 from its released tables to its table of accuracies, on made stars."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from mmclip.artifacts.workspace import Workspace
from mmclip.clip.run import open_run
from mmclip.datasets.build import open_dataset
from mmclip.modalities import restore
from tests.cli.test_cli import ask
from tests.papers import made_astrom3

VIEWS = ("--as", "photometry", "--as", "spectra", "--as", "metadata")
SMALL = [
    "--set", "views.photometry.layers=1", "--set", "views.photometry.features=16",
    "--set", "views.photometry.heads=2", "--set", "views.photometry.hidden=16",
]  # fmt: skip


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    """A workspace with one configuration of each layout, prepared under the preset."""
    from mmclip.cli import run

    root = tmp_path_factory.mktemp("astrom3")
    for name, make in (("raw", made_astrom3.raw), ("processed", made_astrom3.processed)):
        folder = made_astrom3.release(root / name / "sub10_42", make)
        where = ["-w", str(root / "work"), "--name", name]
        assert run(["import", str(folder), *VIEWS, *where]) == 0
        assert run(["preprocess", "--preset", "astrom3", "--raw", name, *where]) == 0
    return root / "work"


def test_both_layouts_are_imported_with_their_split_and_classes(imported):
    for name in ("raw", "processed"):
        data = open_dataset(Workspace(imported).get("data", name))
        rows = data.artifact.manifest.rows
        assert (rows["train"], rows["validation"], rows["test"]) == (90, 30, 30)
        assert data.artifact.manifest.notes["split"] == "as given in the column split"
        assert set(data.objects["class"].to_pylist()) == {"DSCT", "EA", "EB"}
        sizes = {n: v.size for n, v in data.views.items()}
        assert sizes == {
            "photometry": (1000, 9), "spectra": (3, 2575), "metadata_astrom3": (34,)
        }  # fmt: skip
        for view in data.views.values():
            assert view.present.all()


def test_raw_tables_are_prepared_as_published(imported):
    data = open_dataset(Workspace(imported).get("data", "raw"))
    objects = data.objects["object_name"].to_pylist()
    made = made_astrom3.stars(90)[1]
    row = objects.index("train-00000-of-00001:7")
    curve, measures, spectrum, _ = made[7]
    curve = curve.astype(np.float32).astype(float)  # as the release stores it
    view = data.views["photometry"]
    found = restore(view.values[row].astype(float), view.statistics).reshape(1000, 9)
    known = np.isfinite(found[:, 0])
    assert known.sum() == len(np.unique(curve, axis=0))  # the whole curve, not 200 points of it
    ours = found[known]
    expected = made_astrom3.channels(np.unique(curve, axis=0), measures)
    np.testing.assert_allclose(ours[:, 1:3], expected[:, 1:3], rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(ours[0, 3:], expected[0, 3:], rtol=1e-3, atol=1e-3)
    flux, error, level = data.views["spectra"].values[row].reshape(3, 2575)
    f = np.interp(made_astrom3.GRID, spectrum[:, 0], spectrum[:, 1])
    mad = np.median(np.abs(f - np.median(f)))
    np.testing.assert_allclose(flux, (f - f.mean()) / mad, rtol=1e-3, atol=2e-3)
    np.testing.assert_allclose(error, 100 / mad, rtol=1e-3)  # inverse variance over MAD, its quirk
    np.testing.assert_allclose(level, np.log10(mad), rtol=1e-3)


def test_processed_tables_are_taken_as_they_are(imported):
    data = open_dataset(Workspace(imported).get("data", "processed"))
    table = made_astrom3.processed(90)
    row = data.objects["object_name"].to_pylist().index("train-00000-of-00001:5")
    given = np.array(table["photometry"][5].as_py())
    view = data.views["photometry"]
    found = view.values[row].reshape(1000, 9)
    known = np.isfinite(found[:, 0])
    # Standardised by the training stars already: doing it again changes nothing.
    np.testing.assert_allclose(found[known], given, rtol=1e-4, atol=1e-4)
    spectra = np.array(table["spectra"][5].as_py())
    np.testing.assert_allclose(data.views["spectra"].values[row].reshape(3, 2575), spectra)
    metadata = np.array(table["metadata"][5].as_py())
    np.testing.assert_allclose(data.views["metadata_astrom3"].values[row], metadata, atol=1e-4)


@pytest.mark.slow
def test_the_paper_goes_from_the_released_table_to_its_table_of_accuracies(
    imported, capsys, tmp_path
):
    where = ("-w", imported)
    train = (
        "train",
        "--preset",
        "astrom3",
        "--data",
        "processed",
        "--epochs",
        "1",
        "--batch",
        "32",
    )
    code, _, err = ask(capsys, *train, "--device", "cpu", *SMALL, "--name", "am3", *where)
    assert code == 0, err
    run = open_run(Workspace(imported).get("run", "am3"))
    assert run.model.encoders["photometry"].width == 200 * 16  # 200 points, at random in training
    assert ask(capsys, "embed", "--run", "am3", "--name", "am3", *where)[0] == 0
    code, out, err = ask(
        capsys, "evaluate", "--preset", "astrom3", "--fraction", "0.5", "--seeds", "42", "--epochs",
        "1", "--json", *where,
    )  # fmt: skip
    assert code == 0, err
    rows = [json.loads(line) for line in out.splitlines()]
    assert len(rows) == 32 + 10
    measured = [r for r in rows if r["ours"] is not None]
    assert (
        len(measured) == 4 * 2 + 7 + 2
    )  # half of the stars; mean recalls, EA, EB; there is no RRC
    for row in measured:
        assert row["comparison"].startswith("refused: other data (150 objects instead of 21,440")
        assert "split" not in row["comparison"]  # it is the paper's


def test_a_view_that_no_training_star_has_is_refused(imported, capsys, tmp_path):
    import shutil

    root = tmp_path / "w"
    shutil.copytree(imported, root)
    raw = Workspace(root).get("raw", "raw").path / "photometry.parquet"
    assert pq.read_table(raw).num_rows == 150
    code, _, err = ask(
        capsys, "preprocess", "--preset", "astrom3", "--raw", "raw", "--name", "none", "--set",
        "photometry.least=2000", "-w", root,
    )  # fmt: skip
    assert code == 0, err
    code, _, err = ask(capsys, "train", "--preset", "astrom3", "--data", "none", "-w", root)
    assert code == 2
    assert "no training star has photometry" in err
    assert "--modalities metadata_astrom3,spectra" in err
