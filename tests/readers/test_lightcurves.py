"""Light curves and images: points that are no measurement go, the others stay as they are."""

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from hypothesis import given
from hypothesis import strategies as st

from mmclip import readers
from mmclip.errors import UsageError
from mmclip.readers import Options, lightcurves
from tests import made_files
from tests.shared import shared


def points(table, row=0):
    """time, value, error, band of one light curve."""
    value = "magnitude" if table["magnitude"][row].is_valid else "flux"
    return [table[n][row].as_py() for n in ("time", value, "error", "band")]


@given(st.permutations(range(8)))
def test_the_order_of_epochs_does_not_matter(order):
    time, mag = np.arange(8) + 0.25, 12 + np.arange(8) / 10
    order = np.array(order)
    got = lightcurves.curve(time[order], mag[order], None, None, None, True)
    np.testing.assert_array_equal(got[0], time)
    np.testing.assert_allclose(got[1], mag)


def test_upper_limits_and_fill_values_are_no_measurements():
    text = (
        b"HJD,Camera,mag,mag_err,Filter\n"
        b"2458000.5,ba,14.2,0.02,V\n"
        b"2458001.5,ba,>14.654,99.99,V\n"
        b"2458002.5,bi,99.99,99.99,g\n"
        b"2458003.5,bi,14.4,0.03,g\n"
        b"2458004.5,bi,14.5,-1,g\n"
    )
    time, mag, error, band = points(readers.read(text, "photometry"))
    assert time == [2458000.5, 2458003.5, 2458004.5]
    np.testing.assert_allclose(mag, [14.2, 14.4, 14.5], rtol=1e-6)
    np.testing.assert_allclose(error, [0.02, 0.03, np.nan], rtol=1e-6)
    assert band == ["V", "g", "g"]


V_BAND = b"# ASAS-SN light curve\nHJD MAG MAG_ERR FLUX FLUX_ERR\n2457008.1234567 12.5 0.02 38 0.7\n"
G_BAND = b"HJD\tcamera\tmag\tmag_err\tflux\tflux_err\n2458008.1234567\tbi\t12.5\t0.02\t38\t0.7\n"


@pytest.mark.parametrize("text", [V_BAND, G_BAND])
def test_both_layouts_of_asassn_are_read_with_all_digits_of_the_time(text):
    time, mag, error, _ = points(readers.read(text, "lightcurve"))
    assert time[0] % 1000 == pytest.approx(8.1234567, abs=1e-7)
    assert mag == [12.5]
    assert error == [pytest.approx(0.02)]
    flux = readers.read(text, "photometry", Options(columns={"flux": "flux"}))
    assert points(flux)[1:3] == [[38.0], [pytest.approx(0.7)]]


def test_cameras_of_asassn_tell_the_band():
    text = b"jd,mag,mag_err,cam\n1,12,0.1,ba\n2,12,0.1,bh\n3,12,0.1,bi\n4,12,0.1,bF\n"
    assert points(readers.read(text, "photometry"))[3] == ["V", "V", "g", "g"]


def test_kepler_times_are_julian_dates_and_flagged_cadences_are_gone():
    table = readers.read(made_files.kepler(), "photometry")
    time, flux, error, _ = points(table)
    np.testing.assert_allclose(time, 2454833 + np.array([131.5, 131.52, 131.58]), rtol=1e-12)
    assert flux == [100, 101, 104]
    assert error == [0.5, 0.5, 0.5]
    assert table["object_name"].to_pylist() == ["KIC 757076"]


@pytest.mark.parametrize(("sector", "detrended"), [(11, "KSPSAP_FLUX"), (56, "DET_FLUX")])
def test_qlp_gives_aperture_fluxes_without_flagged_cadences(sector, detrended):
    # As lightkurve 2.6 reads the same file with quality_bitmask="hardest".
    table = readers.read(made_files.qlp(sector), "photometry")
    time, flux, error, _ = points(table)
    np.testing.assert_allclose(time, [2458600.1, 2458600.2], rtol=1e-12)
    np.testing.assert_allclose(flux, [1.0, 1.1], rtol=1e-6)
    np.testing.assert_allclose(error, [0.01, 0.01], rtol=1e-6)
    (row,) = table.to_pylist()
    assert (row["object_name"], row["time_system"]) == ("TIC 277554109", "TDB")
    other = readers.read(
        made_files.qlp(sector), "photometry", Options(columns={"flux": detrended})
    )  # fmt: skip
    np.testing.assert_allclose(points(other)[1], [1.0, 1.01], rtol=1e-6)


def test_a_lightkurve_table_is_read():
    text = b"time,flux,flux_err,quality\n131.5,1.0,0.1,0\n131.6,1.1,0.1,0\n131.7,9.0,0.1,128\n"
    assert points(readers.read(text, "photometry"))[:2] == [[131.5, 131.6], [1.0, np.float32(1.1)]]


def test_a_band_may_be_a_word():
    text = b"1 12.5 0.1\n2 12.6 0.1\n"
    table = readers.read(text, "photometry", Options(columns={"band": "V"}))
    assert points(table)[3] == ["V", "V"]


def test_a_table_of_many_stars_is_cut_by_their_ids():
    text = b"source_id,time,mag\n4295806720,2,11\n34361129088,1,12\n4295806720,1,13\n"
    table = readers.read(text, "photometry")
    assert table["source_id"].to_pylist() == [4295806720, 34361129088]
    assert points(table, 0)[:2] == [[1, 2], [13, 11]]
    assert points(table, 1)[:2] == [[1], [12]]


def test_a_curve_without_a_good_point_is_rejected_by_reason():
    table = pa.table({"id": ["a", "b", "c"], "time": [[1.0], [1.0], None],
                      "mag": [[99.99], [12.0], None]})  # fmt: skip
    made = lightcurves.from_table(table, Options(), "made")
    assert made["reason"].to_pylist() == ["no good point", None, "no light curve"]


def test_merged_curves_are_in_order_and_keep_their_bands():
    made = [
        lightcurves.from_table(
            pa.table({"id": ["a"], "time": [t], "mag": [m], "band": [b]}), Options(), "made"
        )
        for t, m, b in (([1.0, 3.0], [10.0, 11.0], ["V", "V"]), ([2.0], [12.0], ["g"]))
    ]
    time, mag, _, band = points(lightcurves.merge(made))
    assert (time, mag, band) == ([1, 2, 3], [10, 12, 11], ["V", "g", "V"])


def test_magnitudes_and_fluxes_are_not_merged():
    made = [
        lightcurves.from_table(pa.table({"id": ["a"], "time": [[1.0]], n: [[1.0]]}), Options(), "m")
        for n in ("mag", "flux")
    ]
    with pytest.raises(UsageError, match="not merged"):
        lightcurves.merge(made)


def test_asas_times_keep_the_digits_that_float32_would_lose():
    file = shared("variables", "native", "asas_152335.xml")
    time, mag, _, band = points(readers.read(file, "photometry"))
    assert time[0] == 2451869.53043  # declared `float` in the file, written with 12 digits
    assert mag[0] == pytest.approx(9.59, abs=1e-6)
    assert set(band) == {"V"}


def test_a_vosource_table_given_twice_counts_once():
    table = (
        b'<TABLE name="V:1"><FIELD name="t"/><FIELD name="m"/><FIELD name="m_err"/>'
        b"<DATA><TABLEDATA><TR><TD>2451869.53043</TD><TD>9.5</TD><TD>0.1</TD></TR>"
        b"</TABLEDATA></DATA></TABLE>"
    )
    once = b"<?xml version='1.0'?><VOSOURCE>" + table + b"</VOSOURCE>"
    twice = b"<?xml version='1.0'?><VOSOURCE>" + table + table + b"</VOSOURCE>"
    assert points(readers.read(once, "photometry")) == points(readers.read(twice, "photometry"))


def test_sky_patrol_gives_a_dr2_id_that_is_kept_apart():
    table = readers.read(shared("variables", "native", "skypatrol_example.csv"), "photometry")
    assert table["source_id"].null_count == 1
    assert table["gaia_dr2_source_id"].to_pylist() == ["5211052415435948544"]
    assert table["name"].to_pylist() == ["VX Men"]


def test_stripe_82_has_five_bands():
    file = shared("variables", "native", "sesar_s82_1013184.dat")
    table = readers.read(file, "photometry")
    raw = np.loadtxt(file)
    time, mag, _, band = points(table)
    for i, name in enumerate("ugriz"):
        here = np.array(band) == name
        good = np.abs(raw[:, 3 + 3 * i]) < 40
        np.testing.assert_allclose(np.array(time)[here], np.sort(raw[good, 2 + 3 * i]))
        assert np.mean(np.array(mag)[here]) == pytest.approx(raw[good, 3 + 3 * i].mean(), rel=1e-6)
    assert table["ra"].to_pylist() == [pytest.approx(23.201735)]


@pytest.mark.parametrize(
    ("file", "count"),
    [
        ("asassn_J000414_38_592525_5.csv", 730), ("catalina_css_3025001014168.dat", 145),
        ("gaia_dr3_epoch_1003078204548479872.parquet", 39), ("macho_1.4418.1930.fits", 1536),
        ("ptf_tw_lyn.csv", 128),
    ],
)  # fmt: skip
def test_native_light_curves_are_whole(file, count):
    time, mag, _, _ = points(readers.read(shared("variables", "native", file), "photometry"))
    assert len(time) == len(mag) == count
    assert np.all(np.diff(time) >= 0)


SETS = [
    ("css_southern", "css_southern", 20213), ("asas_acvs", "asas_acvs", 6016),
    ("gaia_dr3_epoch", "gaia_dr3_epoch", 2500), ("debosscher_hip_ogle", "debosscher", 1392),
    ("asas_training", "asas_training", 810), ("sdss_s82_rrlyrae", "sdss_s82_rrlyrae", 483),
    ("supernovae_osc", "supernovae_osc", 459), ("rrlyrae_mcdonald", "lightcurves", 34),
]  # fmt: skip


@pytest.mark.parametrize(("folder", "file", "count"), SETS)
def test_every_set_of_light_curves_is_read_point_by_point(folder, file, count):
    path = shared("variables", folder, f"{file}.parquet")
    table = readers.read(path, "photometry")
    raw = pq.read_table(path, columns=["time", "mag"])
    assert table.num_rows == raw.num_rows == count
    assert table["reason"].null_count == count
    for row in (0, count // 2, count - 1):
        time, mag = (np.array(raw[n][row].as_py(), float) for n in ("time", "mag"))
        good = np.isfinite(mag) & (np.abs(mag) < 40)
        np.testing.assert_array_equal(points(table, row)[0], np.sort(time[good]))
        assert sorted(points(table, row)[1]) == sorted(mag[good].tolist())


def test_stars_without_a_light_curve_are_counted():
    table = readers.read(shared("variables", "asassn_gaia", "asassn_gaia.parquet"), "photometry")
    reasons = table["reason"].to_pylist()
    assert reasons.count(None) == 95
    assert reasons.count("no light curve") == 961 - 95
    assert table["source_id"].null_count == 0


# Images


def picture(kind="PNG"):
    """A picture of 4 x 6 pixels, red growing to the right."""
    from PIL import Image

    pixels = np.zeros((4, 6, 3), np.uint8)
    pixels[..., 0] = np.arange(6) * 51
    body = io.BytesIO()
    Image.fromarray(pixels).save(body, kind)
    return body.getvalue(), pixels


def test_a_png_is_bands_rows_columns_from_0_to_1():
    body, pixels = picture()
    table = readers.read(body, "image")
    shape = table["shape"][0].as_py()
    assert shape == [3, 4, 6]
    got = np.reshape(table["image"][0].as_py(), shape)
    np.testing.assert_allclose(got, pixels.transpose(2, 0, 1) / 255, rtol=1e-6)


def test_a_fits_cube_keeps_its_fluxes():
    cube = np.arange(24, dtype="f4").reshape(3, 2, 4) - 5
    table = readers.read(made_files.packed([fits.PrimaryHDU(cube)]), "image")
    got = np.reshape(table["image"][0].as_py(), table["shape"][0].as_py())
    np.testing.assert_array_equal(got, cube)


@pytest.mark.parametrize(("value", "reason"), [(0.0, "every pixel is zero"), (np.nan, "no finite")])
def test_a_cutout_outside_the_footprint_is_rejected(value, reason):
    body = made_files.packed([fits.PrimaryHDU(np.full((3, 2, 2), value, "f4"))])
    assert readers.read(body, "image")["reason"][0].as_py().startswith(reason)


@pytest.mark.parametrize("last", [True, False])
def test_images_as_nested_lists_are_read_with_bands_first_or_last(last, tmp_path):
    pixels = np.random.default_rng(0).normal(size=(2, 3, 32, 40)).astype(np.float32)
    given = pixels.transpose(0, 2, 3, 1) if last else pixels
    kind = pa.list_(pa.list_(pa.list_(pa.float32())))
    rows = pa.table({"object_id": ["a", "b"], "image": pa.array(given.tolist(), kind)})
    pq.write_table(rows, tmp_path / "cutouts.parquet")
    table = readers.read(tmp_path / "cutouts.parquet", "image")
    assert table["shape"].to_pylist() == [[3, 32, 40]] * 2
    np.testing.assert_array_equal(np.array(table["image"].to_pylist()), pixels.reshape(2, -1))


def test_an_image_of_rows_of_different_lengths_is_left_out(tmp_path):
    rows = pa.table({"object_id": ["a"], "image": [[[1.0, 2.0], [3.0]]]})
    pq.write_table(rows, tmp_path / "bad.parquet")
    table = readers.read(tmp_path / "bad.parquet", "image")
    assert table["reason"].to_pylist() == ["rows of different lengths"]


def test_real_galaxies_have_images_and_spectra_of_one_name():
    path = shared("galaxies", "sdss_legacy_pairs", "sdss_legacy_pairs.parquet")
    images, spectra = readers.read(path, "image"), readers.read(path, "spectra")
    assert images["object_name"].to_pylist() == spectra["object_name"].to_pylist()
    assert {tuple(s) for s in images["shape"].to_pylist()} == {(3, 256, 256)}
    native = shared("galaxies", "native", "1237650795683184714.jpeg")
    alone = readers.read(native, "image")
    row = images["object_name"].to_pylist().index("1237650795683184714")
    assert alone["object_name"].to_pylist() == ["1237650795683184714"]
    assert images["image"][row].as_py() == alone["image"][0].as_py()


@pytest.mark.slow
def test_every_galaxy_of_the_zoo_is_read():
    path = shared("galaxies", "galaxy_zoo_spiral", "galaxy_zoo_spiral.parquet")
    table = readers.read(path, "image")
    assert table.num_rows == 1500
    assert table["reason"].null_count == 1500
    assert {tuple(s) for s in table["shape"].to_pylist()} == {(3, 69, 69)}
