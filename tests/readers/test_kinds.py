"""What people bring: every kind of unit, time, id, null and text, in files made here."""

import io
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.table import Table
from astropy.time import Time
from hypothesis import given, settings
from hypothesis import strategies as st

from mmclip import readers
from mmclip.errors import UsageError
from mmclip.modalities import registry
from mmclip.readers import Options, tables, views
from tests import made_files

STAR = 5937083312263887616
ANGSTROM = np.linspace(15100.0, 17000.0, 40)
VIEW = {n: registry.modality(n) for n in ("spectra", "photometry", "metadata", "xp")}


def read(body, view, id_column=None, **columns):
    if isinstance(body, str):
        body = body.encode()
    return readers.read(body, VIEW[view], Options(columns, id_column))


def parquet(table):
    out = io.BytesIO()
    pq.write_table(table, out)
    return out.getvalue()


def table_of(form, **columns):
    """The bytes of an astropy table."""
    out = io.BytesIO() if form in ("fits", "votable") else io.StringIO()
    Table(columns).write(out, format=form)
    body = out.getvalue()
    return body if isinstance(body, bytes) else body.encode()


def first(table, name):
    return np.asarray(table[name].to_pylist()[0], float)


def fits_bytes(columns, **header):
    unit = fits.BinTableHDU.from_columns(columns)
    unit.header.update(header)
    return made_files.packed([fits.PrimaryHDU(), unit])


# Units


@pytest.mark.filterwarnings("ignore::astropy.units.UnitsWarning")
@pytest.mark.parametrize("form", ["fits", "votable", "ascii.ecsv"])
@pytest.mark.parametrize("unit", ["nm", "um", "m", "Angstrom", "Hz", "GHz", "eV", "cm-1"])
def test_a_table_of_one_row_a_pixel_keeps_its_unit(form, unit):
    values = (ANGSTROM * u.AA).to(u.Unit(unit), u.spectral())
    table = read(table_of(form, wavelength=values, flux=np.ones(40)), "spectra")
    np.testing.assert_allclose(first(table, "wavelength"), ANGSTROM, rtol=1e-9)


@settings(max_examples=25, deadline=None)
@given(unit=st.sampled_from([u.nm, u.um, u.mm, u.m, u.THz, u.keV, u.J, u.um**-1]),
       listed=st.booleans(), order=st.sampled_from("<>"))  # fmt: skip
def test_any_unit_of_astropy_in_any_byte_order_is_read(unit, listed, order):
    values = (ANGSTROM * u.AA).to_value(unit, u.spectral()).astype(f"{order}f8")
    shape = (1, -1) if listed else (-1,)
    form = "40D" if listed else "D"
    columns = [fits.Column("wavelength", form, unit.to_string("fits"), array=values.reshape(shape)),
               fits.Column("flux", form, array=np.ones(40).reshape(shape))]  # fmt: skip
    table = read(fits_bytes(columns), "spectra")
    np.testing.assert_allclose(first(table, "wavelength"), ANGSTROM, rtol=1e-9)


@pytest.mark.parametrize("unit", ["nanometer", "nanometers", "nm", "Nanometre"])
def test_spellings_of_a_unit(unit):
    columns = [fits.Column("wavelength", "D", unit, array=ANGSTROM / 10),
               fits.Column("flux", "D", array=np.ones(40))]  # fmt: skip
    np.testing.assert_allclose(first(read(fits_bytes(columns), "spectra"), "wavelength"), ANGSTROM)


@pytest.mark.parametrize("unit", ["furlong", "kg"])
def test_an_unknown_unit_is_refused_by_name(unit):
    columns = [fits.Column("wavelength", "D", unit, array=ANGSTROM),
               fits.Column("flux", "D", array=np.ones(40))]  # fmt: skip
    with pytest.raises(UsageError, match=unit) as caught:
        read(fits_bytes(columns), "spectra")
    assert "--columns" in str(caught.value.hint)


def test_a_unit_in_the_name_or_by_the_user():
    text = "wavelength [nm],flux\n" + "\n".join(f"{w / 10},1" for w in ANGSTROM)
    np.testing.assert_allclose(first(read(text, "spectra"), "wavelength"), ANGSTROM)
    text = text.replace("wavelength [nm]", "x")
    table = read(text, "spectra", wavelength_nm="x")
    np.testing.assert_allclose(first(table, "wavelength"), ANGSTROM)


def test_air_is_known_by_its_ucd():
    # 6500 A in air are 6501.796 A in vacuum (Ciddor 1996).
    columns = [fits.Column("wavelength", "D", "Angstrom", array=np.array([6500.0, 6510.0])),
               fits.Column("flux", "D", array=np.ones(2))]  # fmt: skip
    body = fits_bytes(columns, TUCD1="em.wl;obs.atmos")
    assert first(read(body, "spectra"), "wavelength")[0] == pytest.approx(6501.796, abs=1e-3)


# FITS images: the FITS standard, section 8.4


@pytest.mark.parametrize(
    ("cards", "ends"),
    [
        ({"CTYPE1": "WAVE", "CUNIT1": "nm", "CRVAL1": 994.0, "CDELT1": 0.99}, (9940, 24780.1)),
        ({"CTYPE1": "WAVE", "CUNIT1": "m", "CRVAL1": 4e-7, "CDELT1": 1e-10}, (4000, 5499)),
        ({"CTYPE1": "AWAV", "CUNIT1": "Angstrom", "CRVAL1": 6562.8, "CDELT1": 0.5},
         (6564.61, 7314.31)),
        ({"CTYPE1": "FREQ", "CUNIT1": "Hz", "CRVAL1": 4e14, "CDELT1": 1e11}, (5451.76, 7494.81)),
        ({"CTYPE1": "WAVE-LOG", "CUNIT1": "Angstrom", "CRVAL1": 3621.6, "CDELT1": 0.83},
         (3621.6, 3621.6 * np.exp(0.83 / 3621.6 * 1499))),
        ({"DC-FLAG": 1, "CRVAL1": 3.6, "CDELT1": 1e-4}, (10**3.6, 10 ** (3.6 + 0.1499))),
        ({"CRVAL1": 5000.0, "CDELT1": 0.5}, (5000, 5749.5)),
    ],
)  # fmt: skip
def test_the_spectral_axis_of_an_image(cards, ends):
    unit = fits.PrimaryHDU(np.ones(1500))
    unit.header.update({"CRPIX1": 1, **cards})
    wave = first(read(made_files.packed([unit]), "spectra"), "wavelength")
    assert (wave[0], wave[-1]) == pytest.approx(ends, rel=2e-6)


def test_an_iraf_multispec_image_is_a_spectrum_a_row():
    unit = fits.PrimaryHDU(np.ones((2, 300)) * [[1], [2]])
    unit.header.update(
        {"CTYPE1": "MULTISPE", "CTYPE2": "MULTISPE", "WCSDIM": 2,
         "WAT1_001": "wtype=multispec label=Wavelength units=angstroms",
         "WAT2_001": 'wtype=multispec spec1 = "1 113 0 4955.4 0.0561 300 0. 20. 24." sp',
         "WAT2_002": 'ec2 = "2 112 1 3.7 0.0001 300 0. 30. 34."'}
    )  # fmt: skip
    table = read(made_files.packed([unit]), "spectra")
    assert table.num_rows == 2
    np.testing.assert_allclose(first(table, "wavelength"), 4955.4 + 0.0561 * np.arange(300))
    second = np.asarray(table["wavelength"].to_pylist()[1])
    np.testing.assert_allclose(second, 10 ** (3.7 + 1e-4 * np.arange(300)))


def test_a_plate_is_a_spectrum_a_fibre_and_spspec_has_errors():
    card = {"COEFF0": 3.58, "COEFF1": 1e-4, "PLATEID": 266, "MJD": 51630}
    plate = fits.PrimaryHDU(np.ones((5, 90)))
    plate.header.update(card)
    table = read(made_files.packed([plate, fits.ImageHDU(np.full((5, 90), 4.0))]), "spectra")
    assert table.num_rows == 5
    assert first(table, "sigma")[0] == 0.5
    rows = np.ones((5, 90)) * [[7], [0], [0.25], [0], [1]]
    rows[3, :3] = 1
    one = fits.PrimaryHDU(rows)
    one.header.update({**card, "FIBERID": 17, "RAOBJ": 146.7, "DECOBJ": -0.6})
    table = read(made_files.packed([one]), "spectra")
    assert table["ra"].to_pylist() == [146.7]
    assert np.isnan(first(table, "flux")).sum() == 3
    assert first(table, "sigma")[50] == 0.25


def test_the_model_of_an_aspcapstar_is_no_mask():
    head = {"CRVAL1": 4.179, "CDELT1": 6e-6, "CRPIX1": 1, "CTYPE1": "LOG-LINEAR"}
    images = [fits.ImageHDU(np.full(8575, v, "f4")) for v in (1.0, 0.01, 0.99)]
    for image in images:
        image.header.update(head)
    about = fits.BinTableHDU.from_columns(
        [fits.Column("APOGEE_ID", "18A", array=np.array(["2M21353892+4229507"])),
         fits.Column("RA", "D", array=np.array([323.9]))]
    )  # fmt: skip
    table = read(made_files.packed([fits.PrimaryHDU(), *images, about]), "spectra")
    assert np.isfinite(first(table, "flux")).sum() == 8575
    assert table["object_name"].to_pylist() == ["2M21353892+4229507"]


@pytest.mark.parametrize("name", ["ERR_FLUX", "flux_err", "Uncertainty", "e_flux", "STDDEV"])
def test_errors_under_usual_names(name):
    columns = [fits.Column(n, "D", array=np.full(3, v)) for n, v in (("flux", 1.0), (name, 0.02))]
    columns.append(fits.Column("wavelength", "D", "Angstrom", array=np.array([5e3, 5001, 5002])))
    assert first(read(fits_bytes(columns), "spectra"), "sigma") == pytest.approx(0.02)


# Nulls of FITS: the FITS standard, section 7.3.2


def test_tnull_is_of_the_stored_value():
    stored = np.array([10000, -32768, 11000], "i2")
    columns = [fits.Column("name", "1A", array=np.array(["a", "b", "c"])),
               fits.Column("J_M", "I", array=stored), fits.Column("N", "I", array=stored),
               fits.Column("V", "2I", array=np.stack([stored, stored[::-1]], 1))]  # fmt: skip
    body = bytearray(fits_bytes(columns))
    unit = fits.BinTableHDU.from_columns(columns)
    unit.header.update({"TSCAL2": 0.001, "TNULL2": -32768, "TZERO3": 32768, "TNULL3": -32768,
                        "TNULL4": -32768})  # fmt: skip
    size = len(stored) * (1 + 2 + 2 + 4)
    start = len(body) - 2880
    raw = bytes(body[start : start + size]).ljust(2880, b"\0")
    head = fits.PrimaryHDU()
    whole = made_files.packed([head]) + unit.header.tostring().encode() + raw
    table = tables.read(whole)
    assert table["J_M"].to_pylist() == [10.0, None, 11.0]
    assert table["N"].to_pylist() == [42768, None, 43768]
    assert np.isnan(table["V"].to_pylist()[1]).tolist() == [True, True]


def test_unsigned_arrays_of_any_length_keep_their_values():
    values = np.empty(2, object)
    values[:] = [np.array([7232, 7233], "i2"), np.array([32767], "i2")]
    column = fits.Column("flux", "PI()", array=values)
    table = tables.read(fits_bytes([column], TZERO1=32768))
    assert table["flux"].to_pylist() == [[40000, 40001], [65535]]


@settings(max_examples=20, deadline=None)
@given(values=st.lists(st.one_of(st.none(), st.integers(-(2**62), 2**62)), min_size=1, max_size=9))
def test_nulls_and_integers_of_every_container_are_the_same(values):
    made = pa.table(
        {"id": [f"n{i}" for i in range(len(values))], "x": pa.array(values, pa.int64())}
    )
    out = io.BytesIO()
    with pa.ipc.new_stream(out, made.schema) as stream:
        stream.write_table(made)
    text = "id,x\n" + "".join(f"n{i},{'' if v is None else v}\n" for i, v in enumerate(values))
    for body in (parquet(made), out.getvalue(), text.encode()):
        assert tables.read(body)["x"].to_pylist() == values


# Types of Arrow


def test_every_type_of_text_and_number_is_kept():
    made = pa.table({
        "source_id": pa.array([Decimal(STAR)], pa.decimal128(20, 0)),
        "class": pa.array(["RRAB"]).dictionary_encode(),
        "large": pa.array(["EW"], pa.large_string()),
        "teff": pa.array([Decimal("5012.5")], pa.decimal128(5, 1)),
        "big": pa.array([2**64 - 1], pa.uint64()),
    })  # fmt: skip
    table = read(parquet(made), "metadata", t="teff")
    row = table.to_pylist()[0]
    assert (row["source_id"], row["class"], row["large"]) == (STAR, "RRAB", "EW")
    assert row["t"] == 5012.5
    assert row["big"] == str(2**64 - 1)


def test_upper_limits_of_pandas_text_are_left_out():
    made = pa.table({"name": pa.array(["A"] * 3, pa.large_string()), "time": [1.0, 2.0, 3.0],
                     "mag": pa.array(["12.1", ">14.5", "12.3"], pa.large_string())})  # fmt: skip
    table = read(parquet(made), "photometry")
    np.testing.assert_allclose(first(table, "magnitude"), [12.1, 12.3], rtol=1e-6)


# Light curves


def test_curves_are_cut_by_the_survey_s_own_object_column():
    rows = "".join(
        f"{oid},{58000 + i},{15 + k},{0.01},{32768 if i == 2 else 0},zg,{10 + k},{5}\n"
        for k, oid in enumerate((686103400034440, 686103400106565))
        for i in range(4)
    )
    table = read("oid,mjd,mag,magerr,catflags,filtercode,ra,dec\n" + rows, "photometry")
    assert table["object_name"].to_pylist() == ["686103400034440", "686103400106565"]
    assert [len(t) for t in table["time"].to_pylist()] == [3, 3]
    assert set(table["band"].to_pylist()[0]) == {"zg"}


def test_rows_of_several_positions_are_not_one_star():
    with pytest.raises(UsageError, match="arcsec apart") as caught:
        read("mjd,mag,ra,dec\n58000,12,10,5\n58001,12,10.01,5\n", "photometry")
    assert "--id-column" in str(caught.value.hint)


@pytest.mark.parametrize("day", ["2020-09-21T22:31:33.250", "2020-09-21 22:31:33.25Z"])
def test_iso_text_is_a_julian_date(day):
    table = read(f"time,flux,flux_err\n{day},1,0.1\n", "photometry")
    expected = Time("2020-09-21T22:31:33.250", scale="utc").jd
    assert first(table, "time")[0] == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize("kind", ["s", "ms", "us", "ns"])
def test_timestamps_are_julian_dates(kind):
    made = pa.table({"time": pa.array([1600000000], pa.timestamp("s")).cast(pa.timestamp(kind)),
                     "flux": [1.0]})  # fmt: skip
    jd = Time(1600000000, format="unix").jd
    assert first(read(parquet(made), "photometry"), "time")[0] == pytest.approx(jd, abs=1e-8)


@pytest.mark.parametrize(
    ("header", "jd"),
    [
        ({"MJDREFI": 56658, "MJDREFF": 0.5, "TIMEUNIT": "s"}, 2456659.0 + 1),
        ({"MJDREF": 51544.5, "TIMEUNIT": "s"}, 2451545.0 + 1),
        ({"JDREF": 2451545.0, "TIMEUNIT": "s"}, 2451545.0 + 1),
        ({"DATEREF": "2000-01-01T12:00:00", "TIMEUNIT": "s"}, 2451545.0 + 1),
        ({"JDREFI": 2455197, "JDREFF": 0.5, "TIMEUNIT": "d"}, 2455197.5 + 86400),
    ],
)
def test_the_zero_of_time_of_a_fits_header(header, jd):
    columns = [fits.Column("TIME", "D", array=np.array([86400.0])),
               fits.Column("FLUX", "D", array=np.ones(1))]  # fmt: skip
    assert first(read(fits_bytes(columns, **header), "photometry"), "time")[0] == jd


def test_offsets_in_the_unit_of_gaia():
    columns = [fits.Column("time", "D", array=np.array([1700.0])), fits.Column("flux", "D",
               array=np.ones(1))]  # fmt: skip
    body = fits_bytes(columns, TUNIT1="Barycentric JD in TCB - 2455197.5 (day)")
    assert first(read(body, "photometry"), "time")[0] == 2456897.5


def test_nanoseconds_are_never_days():
    with pytest.raises(UsageError, match="no days"):
        read("time,flux\n1600000000000000000,1\n", "photometry")


def test_an_empty_column_of_a_better_name_is_passed_over():
    table = read("JD,Magnitude,Uncertainty,HJD\n2459000.5,12.1,0.02,\n2459001.5,<15.2,,\n",
                 "photometry")  # fmt: skip
    assert first(table, "time").tolist() == [2459000.5]
    np.testing.assert_allclose(first(table, "error"), 0.02, rtol=1e-6)


# Objects


@pytest.mark.parametrize(
    ("name", "value"),
    [("Source", STAR), ("DR3Name", f"Gaia DR3 {STAR}"), ("designation", f"Gaia DR3 {STAR}"),
     ("GaiaDR3", STAR)],
)  # fmt: skip
def test_gaia_ids_under_the_names_of_catalogues(name, value):
    assert read(f"{name},g\n{value},12\n", "metadata")["source_id"].to_pylist() == [STAR]


def test_a_source_that_is_no_gaia_id_stays_a_name():
    assert read("Source,name,g\n17,a,12\n", "metadata")["source_id"].to_pylist() == [None]


@pytest.mark.parametrize("separator", [",", "\t", " ", ";", "|"])
@pytest.mark.parametrize("own", ["0000110101", "12898264892817410048", "19", "1.5e3"])
def test_ids_survive_every_delimiter(separator, own):
    text = f"obsid,g\n{own},1.5\n".replace(",", separator)
    assert read(text, "metadata", "obsid")["object_name"].to_pylist() in ([own], ["1500"])
    if own != "1.5e3":
        assert read(text, "metadata", "obsid")["object_name"].to_pylist() == [own]


@pytest.mark.parametrize(
    ("unit", "ra", "expected"),
    [("h", 16.2535, 243.8025), ("rad", np.pi, 180.0), ("deg", 370.0, 10.0), ("deg", -10.0, 350.0),
     ("", 12.0, 12.0), ("arcsec", 3600.0, 1.0)],
)  # fmt: skip
def test_units_of_positions(unit, ra, expected):
    columns = [fits.Column("name", "1A", array=np.array(["a"])),
               fits.Column("_RAJ2000", "D", unit or None, array=np.array([ra])),
               fits.Column("_DEJ2000", "D", "deg", array=np.array([5.0])),
               fits.Column("g", "D", array=np.array([5.0]))]  # fmt: skip
    table = read(fits_bytes(columns), "metadata", g="g")
    assert table["ra"].to_pylist()[0] == pytest.approx(expected)


def test_sexagesimal_positions_south_of_the_equator():
    table = read("name,ra,dec,g\na,16:15:12.69,-00:12:34.4,1\nb,12h34m39.9s,+79d21m32s,1\n",
                 "metadata", g="g")  # fmt: skip
    np.testing.assert_allclose(table["ra"].to_pylist(), [243.802875, 188.66625])
    np.testing.assert_allclose(table["dec"].to_pylist(), [-0.2095556, 79.358889], rtol=1e-6)


def test_a_mapped_position_is_used():
    table = read("name,x,y,g\na,243.8,-68.9,1\n", "metadata", ra="x", dec="y", g="g")
    assert table["ra"].to_pylist() == [243.8]


# Values


def test_fill_values_are_unknown_and_told():
    text = "name,teff\n" + "".join(f"s{i},{4000 + i}\n" for i in range(20)) + "x,-9999\ny,999999\n"
    table = read(text, "metadata", teff="teff")
    assert table["teff"].null_count + np.isnan(table["teff"].to_pylist()).sum() == 2
    assert b"exactly -9999" in table.schema.metadata[b"faults"]


def test_a_value_within_the_range_of_others_is_kept():
    values = np.linspace(-2000.0, 2000.0, 41)
    values[3] = -999.0
    assert views.known(values, "x")[0][3] == -999.0


# Text


def test_the_rules_and_units_of_vizier_are_no_rows():
    text = (
        "#\n#   VizieR Astronomical Server\nRA_ICRS\tDE_ICRS\tSource\tGmag\ndeg\tdeg\t \tmag\n"
        f"-------\t-------\t-------------------\t----\n243.8\t-68.9\t{STAR}\t12.3\n"
    )
    table = read(text, "metadata", g="Gmag")
    assert table["source_id"].to_pylist() == [STAR]
    assert table["ra"].to_pylist() == [243.8]


@pytest.mark.parametrize("form", ["ascii.ipac", "ascii.mrt", "ascii.ecsv", "ascii.csv"])
def test_text_tables_of_astropy(form):
    body = table_of(form, name=["a", "b"], jd=np.array([2459000.5, 2459001.5]) * u.d,
                    mag=np.array([12.5, 12.25]))  # fmt: skip
    table = tables.read(body)
    assert table["jd"].to_pylist() == [2459000.5, 2459001.5]
    assert table["name"].to_pylist() == ["a", "b"]


def test_semicolons_decimal_commas_comments_and_latin_1():
    text = "hjd;mag;mag_err\n2459000,5;12,5;0,01\n# fin\n2459001,5;12,25;0,01\n"
    table = read(text, "photometry")
    assert first(table, "magnitude").tolist() == [12.5, 12.25]
    body = "name,g\nLa Cañada,1.5\n".encode("latin-1")
    assert read(body, "metadata")["object_name"].to_pylist() == ["La Cañada"]
    assert tables.read(b"\xef\xbb\xbfname,g\nx,1\n").column_names == ["name", "g"]


def test_two_columns_of_one_name_are_refused():
    with pytest.raises(UsageError, match="two columns are called 'g'"):
        tables.read(b"name,g,g\na,1,2\n")


def test_an_integer_that_its_declared_type_cannot_hold_is_refused():
    text = (
        '<?xml version="1.0"?><VOTABLE version="1.3" xmlns="http://www.ivoa.net/xml/VOTable/v1.3">'
        '<RESOURCE><TABLE><FIELD name="KIC" datatype="short"/><DATA><TABLEDATA><TR><TD>3403340'
        "</TD></TR></TABLEDATA></DATA></TABLE></RESOURCE></VOTABLE>"
    )
    with pytest.raises(UsageError, match="3403340"):
        tables.read(text.encode())


def test_a_photometer_that_saw_nothing_is_null_in_text_too():
    body = f'source_id,bp_coefficients,rp_coefficients\n{STAR},,"(1.0, 2.0)"\n'
    table = read(body, "xp")
    assert table["bp_coefficients"].to_pylist() == [None]
    assert table["rp_coefficients"].to_pylist() == [[1.0, 2.0]]


def test_tables_of_a_fits_file_are_matched_by_their_ids():
    def unit(name, **columns):
        made = [fits.Column(n, "K" if a.dtype.kind == "i" else "D", array=a)
                for n, a in columns.items()]  # fmt: skip
        return fits.BinTableHDU.from_columns(made, name=name)

    ids = np.array([39627000000000001, 39627000000000002])
    gaia = np.array([STAR, STAR + 1000])
    body = made_files.packed([
        fits.PrimaryHDU(), unit("RVTAB", TARGETID=ids, TEFF=np.array([5000.0, 6000.0])),
        unit("GAIA", TARGETID=ids[::-1], SOURCE_ID=gaia),
    ])  # fmt: skip
    table = read(body, "metadata")
    assert table["source_id"].to_pylist() == gaia[::-1].tolist()
    views_ = [f.name for f in table.schema if (f.metadata or {}).get(b"role") == b"view"]
    assert views_ == ["TEFF"]


# Limits


def notes_of(table):
    return table.schema.metadata[b"faults"].decode()


def test_limits_in_text_are_kept_apart_from_values():
    text = "source_id,teff,jmag,class\n" + "\n".join(
        f"{STAR + i},5{i}00,{m},M" for i, m in enumerate(["12.1", "<15.2", "", ">14.5", "13"])
    )
    table = tables.read(text.encode())
    assert table["jmag"].to_pylist() == [12.1, None, None, None, 13.0]
    assert table["jmag_limit"].to_pylist() == [None, "<15.2", None, ">14.5", None]
    made = read(text, "metadata", j_m="jmag")
    np.testing.assert_array_equal(made["j_m"].to_pylist(), [12.1, np.nan, np.nan, np.nan, 13.0])


def test_limit_flags_of_vizier_part_a_column_of_numbers():
    table = tables.read(b"name,l_Li,Li\na,,2.1\nb,<,1.5\nc, ,3.0\n")
    assert table["Li"].to_pylist() == [2.1, None, 3.0]
    assert table["Li_limit"].to_pylist() == [None, "<1.5", None]


def test_words_between_angles_are_no_limits():
    table = tables.read(b"name,type\na,<unknown>\nb,RR\n")
    assert table["type"].to_pylist() == ["<unknown>", "RR"]


@pytest.mark.parametrize("name", ["upper_limit", "fainterThan", "ULIM", "l_mag"])
@pytest.mark.parametrize("mark", ["true", "1", "<"])
def test_points_flagged_as_limits_are_no_measurements(name, mark):
    none = {"true": "false", "1": "0", "<": ""}[mark]
    lines = [f"{2459000 + i},{12 + i / 10},0.01,{mark if i == 2 else none}" for i in range(6)]
    table = read(f"jd,mag,magerr,{name}\n" + "\n".join(lines), "photometry")
    assert 12.2 not in np.round(first(table, "magnitude"), 3)
    assert len(first(table, "magnitude")) == 5


# Times without a zero, small ids, cameras, warnings


def test_a_time_without_a_zero_is_told_and_can_be_said():
    text = "time,flux\n" + "\n".join(f"{131.5 + i},{1 + i % 3}" for i in range(6))
    said = notes_of(read(text, "photometry"))
    assert "zero that is not stated (median 134, said by --columns time_zero=2454833)" in said
    told = read(text, "photometry", time_zero="2454833")
    np.testing.assert_allclose(first(told, "time"), 2454833 + 131.5 + np.arange(6))
    assert "not stated" not in notes_of(told)
    with pytest.raises(UsageError, match="no Julian date"):
        read(text, "photometry", time_zero="kepler")


def test_numbers_below_the_smallest_gaia_id_are_refused_or_own():
    text = "source_id,g\n757076,12\n3403340,13\n"
    refused = read(text, "metadata", g="g")
    assert refused["source_id"].null_count == 2
    assert all("4295806720" in r and "--id-column" in r for r in refused["reason"].to_pylist())
    own = read(text, "metadata", "source_id", g="g")
    assert own["object_name"].to_pylist() == ["757076", "3403340"]
    assert own["reason"].null_count == 2


def test_the_case_of_a_camera_s_letters_is_its_band():
    cameras = {"V": "ba bb bc bd be bf bg bh", "g": "bA bB cB bC bD bE bF bG bH bi bk bt", "": "zz"}
    for band, names in cameras.items():
        lines = [f"{2459000 + i},12.{i},0.1,{c}" for i, c in enumerate(names.split())]
        table = read("jd,mag,mag_err,camera\n" + "\n".join(lines), "photometry")
        assert set(table["band"].to_pylist()[0]) == {band}


def test_what_a_library_warns_of_is_told_in_our_words():
    body = table_of("votable", source_id=np.array([STAR]), g=np.array([1.0]))
    body = body.replace(b'name="g"', b'name="g" ucd="not a ucd!"')
    assert "departs from its standard (W06" in notes_of(read(body, "metadata"))
    plain = table_of("votable", source_id=np.array([STAR]), g=np.array([1.0]))
    assert notes_of(read(plain, "metadata")) == ""


# Large texts


@pytest.mark.parametrize("how", ["plain", "comment at the end", "latin-1", "no names", "crlf"])
def test_a_large_text_is_read_as_a_small_one(how):
    """Texts above 1 MB go another way; ids with zeros, large ones, nulls and truths survive."""
    rows = 22000
    lines = ["obsid,big,g,n,flag,word"] if how != "no names" else []
    lines += [
        f"{i:06d},{12898264892817410048 + i},{'null' if i == 3 else i / 7},{i},"
        f"{'True' if i % 2 else 'False'},w{i % 5}{'é' if how == 'latin-1' else ''}"
        for i in range(rows)
    ]
    if how == "no names":
        lines = [f"{i / 7},{i},{i * 2}" for i in range(60000)]
    lines += ["# the end"] if how == "comment at the end" else []
    body = ("\r\n" if how == "crlf" else "\n").join(lines)
    table = tables.read(body.encode("latin-1" if how == "latin-1" else "utf-8"))
    if how == "no names":
        assert table.num_rows == 60000
        assert table["col2"].type == pa.int64()
        return
    assert table.num_rows == rows
    assert table["obsid"].to_pylist()[:2] == ["000000", "000001"]
    assert table["big"].to_pylist()[1] == "12898264892817410049"
    assert table["g"].type == pa.float64()
    assert table["g"].to_pylist()[2:4] == [pytest.approx(2 / 7), None]
    assert (table["n"].type, table["flag"].type) == (pa.int64(), pa.bool_())
    assert table["word"].to_pylist()[0] == ("w0é" if how == "latin-1" else "w0")


# More kinds of times, ids and fill values


def curve_of(times, unit=None, name="time", **header):
    columns = [fits.Column(name, "D", unit, array=np.asarray(times, float)),
               fits.Column("mag", "D", array=np.linspace(12, 13, len(times)))]  # fmt: skip
    return read(fits_bytes(columns, **header), "photometry")


def test_decimal_years_are_dates_not_spans():
    years = np.array([2014.0, 2014.5, 2015.25])
    expected = Time(years, format="decimalyear").jd
    np.testing.assert_allclose(first(curve_of(years, "yr"), "time"), expected)
    with pytest.raises(UsageError, match="look like years") as caught:
        curve_of(years, name="epoch")
    assert "time_yr=epoch" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("unit", "zero"),
    [("days since 2014-10-24", 2456954.5), ("d since J2000", 2451545.0),
     ("BJD - 2454833, days", 2454833.0)],
)  # fmt: skip
def test_the_zero_of_time_in_the_words_of_a_unit(unit, zero):
    np.testing.assert_allclose(first(curve_of([100.0, 101, 103], unit), "time"),
                               zero + np.array([100, 101, 103]))  # fmt: skip


def test_timezero_is_added():
    made = curve_of([1500.0, 1501, 1502], "d", MJDREFI=56999, MJDREFF=0.5, TIMEZERO=10.0)
    np.testing.assert_allclose(first(made, "time"), 2400000.5 + 56999.5 + 1510 + np.arange(3))


@pytest.mark.parametrize("name", ["Gaia ID", "gaia dr3 source id", "dr3_id", "gaia_source"])
def test_a_name_that_speaks_of_gaia_over_gaia_ids(name):
    assert read(f"{name},g\n{STAR},12\n{STAR + 2},13\n", "metadata", g="g")[
        "source_id"
    ].to_pylist() == [STAR, STAR + 2]


def test_ids_of_another_release_are_neither_ids_nor_numbers():
    table = read(f"DR2Name,g\n{STAR},12\n{STAR + 2},13\n", "metadata")
    assert table["source_id"].null_count == 2
    assert "DR2Name" not in table.column_names or table["DR2Name"].type == pa.int64()


@pytest.mark.parametrize("fill", [-999.25, -32767, 1e35, 2147483647, -99999.9, 99.0])
def test_fill_values_of_other_programs(fill):
    values, note = views.known(np.array([5000.0, 5100, 5200, 5300, fill]), "teff")
    assert np.isnan(values[-1])
    assert "read as unknown" in note


@pytest.mark.parametrize("odd", [-1.0, 0.0, 9.999])
def test_a_value_that_may_be_a_fill_value_is_told_and_kept(odd):
    values, note = views.known(np.array([5000.0, 5100, 5200, 5300, 5400, odd]), "teff")
    assert values[-1] == odd
    assert "far from the others" in note
    assert views.known(np.array([1.0, 2, 3, 4, 5, 0]), "n")[1] == ""


def test_fill_values_are_bad_pixels_and_no_points():
    flux = np.ones(40)
    flux[3] = -9999
    body = parquet(pa.table({"wavelength": [ANGSTROM.tolist()], "flux": [flux.tolist()]}))
    made = read(body, "spectra")
    assert np.isnan(first(made, "flux")).tolist() == [i == 3 for i in range(40)]
    assert "1 pixels hold a fill value" in notes_of(made)
    lines = [f"{t},{f},0.1" for t, f in zip([2459000, -9999, 2459002, 2459003, 2459004],
                                            [10, 11, 12, -9999, 13], strict=True)]  # fmt: skip
    made = read("jd,flux,flux_err\n" + "\n".join(lines), "photometry")
    assert first(made, "flux").tolist() == [10, 12, 13]


def test_a_decimal_comma_between_tabs():
    text = "jd\tmag\n" + "\n".join(f"2459000,{i}\t12,{i}" for i in range(6))
    np.testing.assert_allclose(first(read(text, "photometry"), "time"), 2459000 + np.arange(6) / 10)


# Units of values and errors; frames; words of Fortran and IRAF


@pytest.mark.parametrize(("unit", "factor"), [("mmag", 1e-3), ("mag", 1.0), (None, 1.0)])
def test_errors_of_magnitudes_in_another_unit(unit, factor):
    columns = [fits.Column("time", "D", "d", array=2459000.0 + np.arange(5)),
               fits.Column("mag", "D", "mag", array=12.0 + np.arange(5) / 10),
               fits.Column("mag_err", "D", unit, array=np.full(5, 5.0))]  # fmt: skip
    np.testing.assert_allclose(first(read(fits_bytes(columns), "photometry"), "error"), 5 * factor)


def test_magnitudes_in_a_unit_of_fluxes_are_refused():
    columns = [fits.Column("time", "D", "d", array=2459000.0 + np.arange(5)),
               fits.Column("mag", "D", "Jy", array=12.0 + np.arange(5))]  # fmt: skip
    with pytest.raises(UsageError, match="none of magnitudes") as caught:
        read(fits_bytes(columns), "photometry")
    assert "flux=mag" in str(caught.value.hint)


def test_errors_of_a_spectrum_in_another_unit_than_its_flux():
    columns = [fits.Column("wavelength", "D", "Angstrom", array=ANGSTROM),
               fits.Column("flux", "D", "mJy", array=np.ones(40)),
               fits.Column("flux_err", "D", "uJy", array=np.full(40, 5.0))]  # fmt: skip
    np.testing.assert_allclose(first(read(fits_bytes(columns), "spectra"), "sigma"), 0.005)
    columns[1] = fits.Column("flux", "D", "log(erg/s/cm2/Angstrom)", array=np.full(40, -14.0))
    with pytest.raises(UsageError, match="logarithms"):
        read(fits_bytes(columns), "spectra")


def image_of(**cards):
    unit = fits.PrimaryHDU(np.ones(30, "f4"))
    unit.header.update(cards)
    return made_files.packed([unit])


@pytest.mark.parametrize(
    "cards",
    [{"CRVAL1": 400.0, "CDELT1": 1.0}, {"CRVAL1": 3.6, "CDELT1": 0.001},
     {"CRVAL1": 8.29, "CDELT1": 0.001, "CTYPE1": "LN-WAVE", "CUNIT1": "Angstrom"},
     {"CRVAL1": 0.4, "CDELT1": 0.001, "CTYPE1": "WAVELENGTH"}],
)  # fmt: skip
def test_an_axis_that_can_be_no_angstroms_is_refused_and_can_be_said(cards):
    assert "name their unit" in read(image_of(**cards), "spectra")["reason"].to_pylist()[0]
    made = read(image_of(**cards), "spectra", wavelength_nm="400:1:30")
    np.testing.assert_allclose(first(made, "wavelength"), 4000 + 10 * np.arange(30))


def test_a_standard_axis_without_a_unit_is_in_metres():
    made = read(image_of(CRVAL1=4e-7, CDELT1=1e-10, CTYPE1="WAVE"), "spectra")
    np.testing.assert_allclose(first(made, "wavelength"), 4000 + np.arange(30))


def test_numbers_of_fortran_and_iraf():
    text = "wavelength,flux,sigma\n4000,1.5D-16,1d-17\n4001,*****,1D-17\n4002,INDEF,1D-17\n"
    made = read(text, "spectra")
    flux = first(made, "flux")
    assert flux[0] == pytest.approx(1.5e-16)
    assert np.isnan(flux[1:]).all()
    with pytest.raises(UsageError, match="text that is no number"):
        read(text.replace("*****", "saturated"), "spectra")


def votable_of(system, ucd="pos.eq"):
    axes = {"ra": ("ra", "lon"), "dec": ("dec", "lat")}
    fields = "".join(
        f'<FIELD name="{n}" datatype="double" unit="deg" ref="c" '
        f'ucd="{ucd}.{eq if ucd == "pos.eq" else other}"/>' for n, (eq, other) in axes.items()
    )  # fmt: skip
    return (
        '<?xml version="1.0"?><VOTABLE version="1.4" xmlns="http://www.ivoa.net/xml/VOTable/v1.3">'
        f'<RESOURCE><COOSYS ID="c" {system}/><TABLE><FIELD name="name" datatype="char" '
        f'arraysize="*"/>{fields}<FIELD name="g" datatype="double"/><DATA><TABLEDATA><TR>'
        "<TD>a</TD><TD>180</TD><TD>10</TD><TD>1</TD></TR></TABLEDATA></DATA></TABLE></RESOURCE>"
        "</VOTABLE>"
    )


def test_positions_of_b1950_are_turned_and_galactic_ones_are_no_right_ascension():
    made = read(votable_of('system="eq_FK4" equinox="B1950"'), "metadata", g="g")
    # Fifty years of precession at 12 h: 50 x 3.0734 s in right ascension, -50 x 20.04 arcsec.
    assert made["ra"][0].as_py() == pytest.approx(180 + 50 * 3.0734 * 15 / 3600, abs=2e-3)
    assert made["dec"][0].as_py() == pytest.approx(10 - 50 * 20.04 / 3600, abs=2e-3)
    plain = read(votable_of('system="ICRS"'), "metadata", g="g")
    assert plain["ra"].to_pylist() == [180.0]
    assert read(votable_of('system="galactic"', "pos.galactic"), "metadata", g="g")[
        "ra"
    ].to_pylist() == [None]


# Conformance: every container gives the same of the same values


CONTAINERS = ("fits", "votable", "ascii.ecsv", "ascii.csv", "parquet", "arrow", "npz")


def contained(form, columns, order):
    if form in ("fits", "votable", "ascii.ecsv", "ascii.csv"):
        return table_of(form, **columns)
    plain = {n: np.ma.filled(np.ma.asarray(c).astype(float), np.nan) if n != "source_id" else c
             for n, c in columns.items()}  # fmt: skip
    out = io.BytesIO()
    if form == "npz":
        np.savez(out, **{n: np.asarray(c).astype(np.asarray(c).dtype.newbyteorder(order))
                         for n, c in plain.items()})  # fmt: skip
        return out.getvalue()
    table = pa.table({n: pa.array(np.asarray(c)) for n, c in plain.items()})
    if form == "parquet":
        return parquet(table)
    with pa.ipc.new_stream(out, table.schema) as writer:
        writer.write_table(table)
    return out.getvalue()


@settings(max_examples=25, deadline=None)
@given(
    form=st.sampled_from(CONTAINERS), order=st.sampled_from("<>"),
    ids_=st.lists(st.integers(4295806720, 3 * 2**61 - 1), min_size=2, max_size=6, unique=True),
    data=st.data(),
)  # fmt: skip
def test_ids_and_nulls_are_the_same_from_every_container(form, order, ids_, data):
    unknown = data.draw(st.lists(st.booleans(), min_size=len(ids_), max_size=len(ids_)))
    values = data.draw(st.lists(st.floats(1, 90, width=32), min_size=len(ids_), max_size=len(ids_)))
    columns = {"source_id": np.array(ids_, np.int64),
               "g": np.ma.masked_array(np.array(values), unknown)}  # fmt: skip
    if form == "ascii.csv" and all(unknown):
        return
    made = read(contained(form, columns, order), "metadata", g="g")
    assert made["source_id"].to_pylist() == ids_
    expected = [None if m else v for v, m in zip(values, unknown, strict=True)]
    got = [None if v is None or v != v else v for v in made["g"].to_pylist()]
    assert got == pytest.approx(expected, rel=1e-6) if None not in expected else True
    assert [v is None for v in got] == unknown
