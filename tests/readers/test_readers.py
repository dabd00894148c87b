"""Survey files: each reader against the file itself, its published layout, or physics."""

import io
import math

import numpy as np
import pyarrow as pa
import pytest
from astropy.io import fits
from hypothesis import given
from hypothesis import strategies as st

from mmclip import arrays, readers
from mmclip.errors import IntegrityError, UsageError
from mmclip.readers import (
    Options,
    desi,
    gaia,
    lamost,
    sdss,
    spectra,
    tables,
    wavelength,
)
from tests import made_files
from tests.shared import shared

XP = "XP_CONTINUOUS_RAW_with_missing_BP"


def first(table, name):
    """The list in the first row of a column."""
    return np.asarray(table[name][0].as_py(), float)


# Wavelengths

LINES = [  # air and vacuum, Angstrom: the line list of SDSS DR7 and later
    (4861.325, 4862.683), (4958.911, 4960.295), (5006.843, 5008.239), (6548.040, 6549.850),
    (6562.801, 6564.614), (6716.440, 6718.290), (6730.810, 6732.670),
]  # fmt: skip


@pytest.mark.parametrize(("air", "in_vacuum"), LINES)
def test_published_lines_have_their_published_vacuum_wavelengths(air, in_vacuum):
    assert wavelength.vacuum(np.array([air]))[0] == pytest.approx(in_vacuum, abs=0.012)


@given(st.floats(2100, 25000))
def test_air_to_vacuum_undoes_the_refractive_index_of_ciddor(vacuum):
    s2 = (1e4 / vacuum) ** 2  # Ciddor 1996, Appl. Opt. 35, 1566, equation 1
    index = 1 + 0.05792105 / (238.0185 - s2) + 0.00167917 / (57.362 - s2)
    assert wavelength.vacuum(np.array([vacuum / index]))[0] == pytest.approx(vacuum, abs=5e-3)


def test_far_ultraviolet_wavelengths_are_in_vacuum_already():
    assert wavelength.vacuum(np.array([1215.67]))[0] == 1215.67


@given(st.permutations(range(12)))
def test_the_order_of_pixels_does_not_matter(order):
    wave, flux = np.linspace(4000, 5000, 12), np.arange(12.0)
    order = np.array(order)
    got = spectra.spectrum(wave[order], flux[order], np.ones(12)[order])
    np.testing.assert_array_equal(got[0], wave)
    np.testing.assert_array_equal(got[1], flux)


def test_bad_pixels_are_nan_and_padding_is_gone():
    wave = np.array([4000.0, 4001, 4002, 4003, 0, 0])
    flux = np.array([1.0, np.inf, 3, 4, 0, 0])
    got = spectra.spectrum(wave, flux, np.array([1.0, 1, 0, 1, 0, 0]), np.array([0, 0, 0, 1, 0, 0]))
    np.testing.assert_array_equal(got[0], wave[:4])
    np.testing.assert_array_equal(np.isnan(got[1]), [False, True, True, True])
    np.testing.assert_array_equal(np.isnan(got[2]), [False, True, True, True])


# LAMOST


def test_both_lamost_layouts_give_one_spectrum():
    old, new = lamost.read(made_files.lamost_old()), lamost.read(made_files.lamost_new())
    for name in ("wavelength", "flux", "sigma"):
        np.testing.assert_allclose(first(old, name), first(new, name), rtol=1e-6)


def test_lamost_is_read_by_its_header_not_by_its_third_row():
    table = lamost.read(made_files.lamost_old(third=-1.0))
    flux, ivar, mask = made_files.lamost_pixels()
    np.testing.assert_allclose(
        first(table, "wavelength"), 10 ** (3.5682 + 0.0001 * np.arange(200)), rtol=1e-12
    )
    good = (ivar > 0) & (mask == 0)
    np.testing.assert_array_equal(np.isfinite(first(table, "flux")), good)
    np.testing.assert_array_equal(first(table, "flux")[good], flux[good])
    np.testing.assert_allclose(first(table, "sigma")[good] ** -2, ivar[good], rtol=1e-5)


def test_packed_and_plain_lamost_files_are_the_same():
    one, other = made_files.lamost_old(), made_files.lamost_old(compress=False)
    assert one[:2] != other[:2]
    for name in ("wavelength", "flux", "sigma"):
        np.testing.assert_array_equal(
            first(lamost.read(one), name), first(lamost.read(other), name)
        )


def test_lamost_objects_are_named_by_obsid_and_have_no_gaia_id():
    row = lamost.read(made_files.lamost_old()).to_pylist()[0]
    assert (row["object_name"], row["source_id"]) == ("101005", None)
    assert (row["ra"], row["dec"]) == (10.5, -1.25)


def test_a_sky_fibre_of_lamost_is_rejected_with_its_reason():
    table = lamost.read(made_files.lamost_old(FIBERTYP="Sky"))
    assert table["reason"][0].as_py() == "fibre type Sky is no star"


def test_a_real_lamost_file_has_the_wavelengths_that_it_states():
    file = shared("spectra", "native", "spec-57287-KP193637N444141V03_sp10-161.fits.gz")
    table = readers.read(file, "spectra")
    with fits.open(file) as units:
        stated = units[0].data[2]  # this release writes the wavelength there
        flux, ivar = units[0].data[0], units[0].data[1]
    np.testing.assert_allclose(first(table, "wavelength"), stated, rtol=4e-6)
    np.testing.assert_array_equal(first(table, "flux").astype("f4"), flux)
    np.testing.assert_allclose(first(table, "sigma"), 1 / np.sqrt(ivar), rtol=1e-5)


def test_both_arms_of_a_real_medium_resolution_file_are_kept():
    file = shared("spectra", "native", "med-58625-TD192102N424113K01_sp12-076.fits.gz")
    table = readers.read(file, "spectra")
    wave, flux = first(table, "wavelength"), first(table, "flux")
    with fits.open(file) as units:
        blue, red = units["COADD_B"].data, units["COADD_R"].data
    assert len(wave) == len(blue) + len(red) == 7956
    assert np.all(np.diff(wave) > 0)
    ours = flux[: len(blue)]
    bad = (blue["IVAR"] <= 0) | (blue["ANDMASK"] != 0)
    np.testing.assert_array_equal(np.isnan(ours), bad)
    np.testing.assert_array_equal(ours[~bad].astype("f4"), blue["FLUX"][~bad])


# DESI


def test_desi_arms_merge_to_the_published_number_of_pixels():
    table = desi.read(made_files.desi())
    wave = first(table, "wavelength")
    assert len(wave) == 7781  # desispec's combined grid, 3600 to 9824 Angstrom
    assert (wave[0], wave[-1]) == (3600.0, 9824.0)
    np.testing.assert_allclose(np.diff(wave), 0.8, atol=1e-9)


def test_overlapping_arms_are_averaged_with_inverse_variances():
    arms = made_files.desi_arms()
    table = desi.read(made_files.desi(arms))
    wave, flux, sigma = (first(table, n) for n in ("wavelength", "flux", "sigma"))
    i = np.searchsorted(wave, 5780.0 - 0.01)  # in B and R
    b, r = 5780.0, 5780.0
    jb, jr = round((b - 3600) / 0.8), round((r - 5760) / 0.8)
    wb, wr = arms["B"][2][0, jb], arms["R"][2][0, jr]
    expected = (wb * arms["B"][1][0, jb] + wr * arms["R"][1][0, jr]) / (wb + wr)
    assert flux[i] == pytest.approx(expected, rel=1e-6)
    assert sigma[i] == pytest.approx(1 / math.sqrt(wb + wr), rel=1e-6)
    assert flux[100] == pytest.approx(arms["B"][1][0, 100], rel=1e-6)  # B alone


def test_a_masked_pixel_of_one_arm_leaves_the_other():
    arms = made_files.desi_arms()
    jb, jr = round((5780 - 3600) / 0.8), round((5780 - 5760) / 0.8)
    table = desi.read(made_files.desi(arms, masked=("B", 0, jb)))
    i = np.searchsorted(first(table, "wavelength"), 5780 - 0.01)
    assert first(table, "flux")[i] == pytest.approx(arms["R"][1][0, jr], rel=1e-6)
    alone = desi.read(made_files.desi(arms, masked=("B", 0, 100)))
    assert math.isnan(first(alone, "flux")[100])


def test_desi_never_takes_the_dr2_reference_for_a_source_id():
    table = desi.read(made_files.desi())
    assert table["source_id"].null_count == 3
    assert table["object_name"][0].as_py() == "39633300968442591"


def test_desi_sky_fibres_and_bad_fibres_are_rejected_with_reasons():
    reasons = desi.read(made_files.desi(status=(0, 512, 0)))["reason"].to_pylist()
    assert reasons == [None, "COADD_FIBERSTATUS is 512", "OBJTYPE is SKY, no target"]


def test_a_real_coadd_has_the_flux_of_its_blue_arm():
    file = shared("spectra", "native", "desi_coadd-5-169-thru20210419.fits")
    table = readers.read(file, "spectra")
    with fits.open(file) as units:
        good = (units["B_IVAR"].data > 0).sum(axis=1) > 0
        blue, ids = units["B_FLUX"].data, units["FIBERMAP"].data["TARGETID"]
        wave = units["B_WAVELENGTH"].data
    assert table["object_name"].to_pylist() == [str(i) for i in ids]
    flux = table["flux"].to_pylist()[int(np.flatnonzero(good)[0])]
    alone = wave < 5759  # before the R arm begins
    np.testing.assert_allclose(np.array(flux)[: alone.sum()], blue[good][0][alone], rtol=1e-5)


# SDSS and APOGEE


@pytest.mark.parametrize(
    ("place", "name"),
    [
        (("spectra", "native", "spec-0266-51602-0031.fits"), "1237648721216405598"),
        (("galaxies", "native", "spec-0266-51630-0168.fits"), "1237650795683184714"),
    ],
)
def test_real_sdss_spectra_are_what_the_file_holds(place, name):
    file = shared(*place)
    table = readers.read(file, "spectra")
    with fits.open(file) as units:
        data = units[1].data
        good = (data["ivar"] > 0) & (data["and_mask"] == 0)
    assert table["object_name"][0].as_py() == name
    np.testing.assert_allclose(
        first(table, "wavelength"), 10 ** data["loglam"].astype(float), rtol=1e-12
    )
    np.testing.assert_array_equal(np.isfinite(first(table, "flux")), good)
    np.testing.assert_allclose(first(table, "sigma")[good] ** -2, data["ivar"][good], rtol=1e-5)


@pytest.mark.parametrize(("bits", "bad"), [(1, 5), (1 << 14, 5), (1 << 9, 0), (1 << 12, 0)])
def test_only_spoiling_bits_of_apogee_mask_a_pixel(bits, bad):
    table = sdss.read_apogee(made_files.apogee(bits))
    assert np.isnan(first(table, "flux")).sum() == bad
    assert np.all(np.diff(first(table, "wavelength")) > 0)


def test_a_real_apogee_visit_covers_its_three_chips():
    table = readers.read(shared("spectra", "native", "apVisit-r13-5095-55844-128.fits"), "spectra")
    wave = first(table, "wavelength")
    assert len(wave) == 3 * 4096
    assert wave[0] == pytest.approx(15142.685, abs=1e-3)
    assert wave[-1] == pytest.approx(16954.791, abs=1e-3)
    assert table["object_name"][0].as_py() == "2M01183798+8403419"


# Gaia


@pytest.mark.parametrize("ending", ["csv", "ecsv", "xml", "fits"])
def test_xp_coefficients_are_the_same_in_every_format(ending):
    table = readers.read(shared("spectra", "native", f"{XP}.{ending}"), "xp")
    with fits.open(shared("spectra", "native", f"{XP}.fits")) as units:
        data = units[1].data
    assert table["source_id"].to_pylist() == data["source_id"].tolist()
    assert table["bp_coefficients"].is_valid().to_pylist() == [True, False, True]
    assert table["reason"].null_count == 3
    for name in ("bp_coefficients", "rp_coefficients", "rp_coefficient_errors"):
        for row in (0, 2):
            got = np.array(table[name][row].as_py())
            np.testing.assert_allclose(got, data[name][row], rtol=1e-6)
    assert len(table["rp_coefficient_correlations"][1].as_py()) == 55 * 54 // 2


def test_coefficients_and_errors_that_do_not_fit_are_rejected():
    table = pa.table(
        {
            "source_id": [4295806721, 4295806722, 4295806723],
            "bp_coefficients": [[1.0] * 51, [1.0] * 51, [1.0] * 51],
            "bp_coefficient_errors": [[1.0] * 51, [1.0] * 50, [1.0] * 51],
            "bp_coefficient_correlations": [[0.0] * 1275, [0.0] * 1275, [0.0] * 1485],
        }
    )
    reasons = gaia.coefficients(table, Options(), "made")["reason"].to_pylist()
    assert reasons == [
        None, "50 bp errors for 51 coefficients", "1485 bp correlations for 51 coefficients"
    ]  # fmt: skip


def rvs_csv(order):
    """One star, a row a pixel, in any order, as DataLink writes it."""
    lines = ["source_id,ra,dec,wavelength,flux,flux_error"]
    for i in order:
        nm = 846 + 0.01 * i
        lines.append(f"2052747119115620352,291.4,38.7,{nm:.2f},{1 - i / 1e4},0.01")
    return "\n".join(lines).encode()


@pytest.mark.parametrize("seed", range(3))
def test_rvs_pixels_find_their_place_in_any_order(seed):
    order = np.random.default_rng(seed).permutation(2401)
    table = gaia.read_rvs(rvs_csv(order[:2000]))
    flux = first(table, "flux")
    expected = np.full(2401, np.nan)
    expected[order[:2000]] = 1 - order[:2000] / 1e4
    np.testing.assert_allclose(flux, expected, rtol=1e-6)


def test_a_real_rvs_file_keeps_its_nan_edges():
    table = readers.read(shared("spectra", "native", "gaia_dr3_rvs_Kepler-93.csv"), "rvs")
    flux = first(table, "flux")
    assert table["source_id"].to_pylist() == [2052747119115620352]
    assert len(flux) == 2401
    assert np.isnan(flux).sum() == 7
    assert flux[0] == np.float32(0.9942193)


def test_a_datalink_product_is_named_by_its_file():
    made = b"wavelength,flux,flux_error\n" + b"".join(
        b"%d,1e-17,1e-19\n" % nm for nm in range(336, 1021, 2)
    )
    source = io.BytesIO(made)
    source.name = "XP_SAMPLED-Gaia DR3 5937083312263887616.csv"
    table = readers.read(source, "xp")
    assert table["source_id"].to_pylist() == [5937083312263887616]
    assert len(first(table, "flux")) == 343


# Any table


@pytest.mark.parametrize(
    ("names", "values"),
    [
        ({"wavelength": "w"}, [5000.0, 5001.0]),
        ({"wavelength_nm": "w"}, [500.0, 500.1]),
        ({"wavelength_um": "w"}, [0.5, 0.5001]),
        ({"loglam": "w"}, [math.log10(5000), math.log10(5001)]),
    ],
)
def test_wavelengths_of_any_unit_become_angstrom(names, values):
    table = pa.table({"id": ["a"], "w": [values], "f": [[1.0, 2.0]]})
    made = spectra.from_table(table, Options(columns={**names, "flux": "f"}), "made")
    np.testing.assert_allclose(first(made, "wavelength"), [5000, 5001], rtol=1e-12)


def test_a_unit_in_the_file_is_obeyed():
    units = [fits.Column("wavelength", "2D", unit="nm", array=np.array([[500.0, 500.1]])),
             fits.Column("flux", "2E", array=np.ones((1, 2)))]  # fmt: skip
    body = made_files.packed([fits.PrimaryHDU(), fits.BinTableHDU.from_columns(units)])
    made = readers.read(body, "spectra")
    np.testing.assert_allclose(first(made, "wavelength"), [5000, 5001])


def test_wavelengths_without_a_unit_that_cannot_be_angstrom_are_rejected():
    table = pa.table({"id": ["a"], "wavelength": [[846.0, 870.0]], "flux": [[1.0, 1.0]]})
    made = spectra.from_table(table, Options(), "made")
    assert "wavelength_nm" in made["reason"][0].as_py()


def test_big_endian_columns_and_inverse_variances_are_read():
    data = np.array([[1.5, -2.5, 3.5]], ">f4")
    units = [fits.Column("flux", "3E", array=data), fits.Column("ivar", "3E", array=[[4, 0, 25]])]
    body = made_files.packed([fits.PrimaryHDU(), fits.BinTableHDU.from_columns(units)])
    made = readers.read(body, "spectra", Options(columns={"wavelength": "5000:1:3"}))
    np.testing.assert_allclose(first(made, "flux"), [1.5, np.nan, 3.5])
    np.testing.assert_allclose(first(made, "sigma"), [0.5, np.nan, 0.2])


def test_an_image_spectrum_is_read_by_its_world_coordinates():
    unit = fits.PrimaryHDU(np.arange(5, dtype="f4"))
    unit.header.update({"CRVAL1": 5000.0, "CDELT1": 2.0, "CRPIX1": 2.0})
    made = readers.read(made_files.packed([unit]), "spectra")
    np.testing.assert_allclose(first(made, "wavelength"), [4998, 5000, 5002, 5004, 5006])


@pytest.mark.parametrize("text", ["(1.0, 2.0, nan)", "[1.0,2.0,null]", "{1.0 2.0 NaN}"])
def test_arrays_in_text_are_read_with_either_bracket(text):
    np.testing.assert_array_equal(arrays.parse(text), [1, 2, np.nan])


def test_lists_survive_the_way_to_arrow_and_back():
    rows = [np.array([1.0, 2.0]), None, np.array([]), np.array([3.0])]
    back = arrays.rows(pa.table({"a": arrays.list_array(rows, pa.float64())}), "a")
    assert back[1] is None
    for ours, theirs in zip(rows, back, strict=True):
        if ours is not None:
            np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(
    "text",
    [
        b"source_id,mag\n4295806720,1.5\n6917529027641081855,2.5\n",
        b"\xef\xbb\xbfsource_id,mag\n4295806720,1.5\n6917529027641081855,2.5\n",
        b"# a comment\nsource_id\tmag\n4295806720\t1.5\n6917529027641081855\t2.5\n",
        b"source_id mag\n4295806720 1.5\n6917529027641081855 2.5\n",
        b"# source_id mag\n4295806720 1.5\n6917529027641081855 2.5\n",
        b"source_id,mag\n4295806720,1.5\n6917529027641081855,2.5\n,\n",
    ],
)
def test_ids_survive_every_kind_of_text(text):
    table = tables.read(text)
    assert table["source_id"].to_pylist()[:2] == [4295806720, 6917529027641081855]
    assert table["mag"].to_pylist()[:2] == [1.5, 2.5]


def test_an_ecsv_with_blanks_in_words_is_read():
    from astropy.table import Table

    body = io.StringIO()
    Table({"name": ["RR Lyr", "V 1"], "source_id": [2125982599341232896, 7]}).write(
        body, format="ascii.ecsv"
    )
    table = tables.read(body.getvalue().encode())
    assert table["name"].to_pylist() == ["RR Lyr", "V 1"]
    assert table["source_id"].to_pylist() == [2125982599341232896, 7]


def test_a_view_that_does_not_exist_names_the_nearest():
    with pytest.raises(UsageError, match="did you mean 'spectra'"):
        readers.read(b"a,b\n1,2\n", "spectrra")


def test_a_file_that_lacks_the_view_says_what_it_has():
    with pytest.raises(UsageError, match=r"no flux column \(it has: a, b\)"):
        readers.read(b"a,b\n1,2\n", "spectra")


def test_a_lamost_reader_refuses_another_survey():
    with pytest.raises(IntegrityError, match="not a spectrum of LAMOST"):
        lamost.read(made_files.apogee())
