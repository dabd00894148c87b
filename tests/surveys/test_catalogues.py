"""Joining catalogues to Gaia, and what is read from ASAS-SN, LAMOST, DESI and APOGEE."""

import gzip
import io
import json
import pickle
import tarfile
import zipfile
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from hypothesis import given
from hypothesis import strategies as st

from mmclip import sky
from mmclip.datasets import ingest
from mmclip.errors import IntegrityError, MmclipError, RemoteError, UsageError
from mmclip.surveys import Request, apogee, asassn, catalogue, desi, gaia_dr3, lamost
from mmclip.surveys.client.http import BadAnswer, Client
from mmclip.surveys.gaia import match
from tests.loopback import Server, Stars, stars
from tests.services import archive, quick

BIG = 2**53 + 1  # the first id that a float64 cannot hold


def client_of(tmp_path, **more):
    return Client(**quick(tmp_path, **more), cache=tmp_path / "cache")


def collect(survey, tmp_path, request, client, **given):
    return ingest.collect(survey, request, tmp_path / "raw" / survey.name, False, client, **given)


# -- the join


def made(ids, snr=None, **more):
    count = len(ids)
    columns = {
        "source_id": np.array(ids, np.int64), "ra": np.linspace(10, 11, count),
        "dec": np.zeros(count), "obsid": np.arange(count) + 100,
        "snr": np.array(snr if snr is not None else np.ones(count), float), **more,
    }  # fmt: skip
    return catalogue.table_of(columns, {"ra": "deg"})


IDS = [BIG, BIG + 1, BIG, 0, BIG + 2, BIG]
SNR = [3.0, 5.0, 9.0, 1.0, float("nan"), 2.0]


@pytest.mark.parametrize(
    ("rule", "obsid"), [("snr", 102), ("first", 100), ("last", 105)]
)  # fmt: skip
def test_one_row_of_a_star_is_kept_by_the_rule(tmp_path, rule, obsid):
    found = catalogue.select(
        Request(choose=rule), client_of(tmp_path), made(IDS, SNR), "snr", "snr", "obsid"
    )
    assert found.table["source_id"].to_pylist() == [BIG, BIG + 1, BIG + 2]
    assert found.table["obsid"].to_pylist() == [obsid, 101, 104]
    notes = found.notes
    assert (notes["catalogue_rows"], notes["without_gaia_id"]) == (6, 1)
    assert (notes["matched_rows"], notes["matched"], notes["ambiguous"]) == (5, 3, 1)


def test_all_epochs_stay_and_one_is_marked(tmp_path):
    found = catalogue.select(
        Request(find="all"), client_of(tmp_path), made(IDS, SNR), "snr", "snr", "obsid"
    )
    kept = found.table.filter(found.table["chosen"])
    assert found.table.num_rows == 5
    assert kept["obsid"].to_pylist() == [102, 101, 104]


@given(st.integers(0, 2**40), st.lists(st.integers(1, 9), min_size=1, max_size=40))
def test_a_random_epoch_depends_on_the_star_and_the_seed_alone(seed, ids):
    ids = np.array(ids, np.int64)
    key = np.arange(len(ids)) + 1000
    rows = catalogue.best(ids, "random", seed, None, key)
    assert sorted(set(ids.tolist())) == ids[rows].tolist()
    chosen = dict(zip(ids[rows].tolist(), key[rows].tolist(), strict=True))
    order = np.random.default_rng(seed).permutation(len(ids))
    again = catalogue.best(ids[order], "random", seed, None, key[order])
    assert dict(zip(ids[order][again].tolist(), key[order][again].tolist())) == chosen
    one = ids == ids[0]
    alone = catalogue.best(ids[one], "random", seed, None, key[one])
    assert key[one][alone][0] == chosen[ids[0]]


def test_a_random_epoch_is_fair():
    ids = np.repeat(np.arange(1, 20001), 2)
    key = np.arange(len(ids))
    share = (catalogue.best(ids, "random", 42, None, key) % 2).mean()
    assert abs(share - 0.5) < 5 * 0.5 / np.sqrt(20000)
    other = (catalogue.best(ids, "random", 43, None, key) % 2).mean()
    assert share != other


@pytest.mark.parametrize(
    ("join", "kept", "missing"),
    [("1and2", [BIG], [7]), ("all1", [7, BIG], []), ("1not2", [7], [])],
)
def test_the_join_keeps_what_its_word_says(tmp_path, join, kept, missing):
    request = Request(ids=(BIG, 7), join=join)
    found = catalogue.select(request, client_of(tmp_path), made(IDS, SNR), "last")
    assert found.table["source_id"].to_pylist() == kept
    assert [i for i, _ in found.missing] == missing
    assert found.notes["unmatched"] == 1
    later = catalogue.select(
        replace(request, follows="gaia-dr3"), client_of(tmp_path), made(IDS), "last"
    )
    assert later.missing == ()
    assert [i for i, _ in later.absent] == missing


def test_cuts_and_samples_of_a_local_catalogue(tmp_path):
    ids = [(p << 43) + 5 for p in range(200)]
    table, client = made(ids, np.arange(200.0)), client_of(tmp_path)
    cone = catalogue.select(Request(cone=(10.0, 0.0, 0.1)), client, table, "last").table
    assert all(ra <= 10.1 for ra in cone["ra"].to_pylist())
    assert cone.num_rows == 20  # 0.1 deg of 1 deg in 199 steps
    pixel = catalogue.select(Request(healpix=(7, (3, 4))), client, table, "last").table
    assert [i >> 43 for i in pixel["source_id"].to_pylist()] == list(range(12, 20))
    cut = catalogue.select(Request(where="snr >= 150 and snr != 160"), client, table, "last").table
    assert cut.num_rows == 49
    one = catalogue.select(Request(sample=10), client, table, "last").table
    assert one.equals(catalogue.select(Request(sample=10), client, table, "last").table)
    assert one.num_rows == 10
    assert one["source_id"].to_pylist() == sorted(one["source_id"].to_pylist())


@pytest.mark.parametrize(
    "where", ["snr > 1 or 1", "snr", "nosuch > 1", "snr > 'x'", "snr = 1; DROP TABLE x"]
)
def test_a_cut_that_is_none_is_refused(tmp_path, where):
    with pytest.raises(MmclipError):
        catalogue.select(Request(where=where), client_of(tmp_path), made(IDS), "last")


def test_ids_as_text_and_floats():
    text = np.array(["EDR3 3714273187707121920", "", "Gaia DR2 5", "nan", " 12 "], dtype=object)
    assert catalogue.gaia_ids(text).tolist() == [3714273187707121920, 0, 0, 0, 12]
    with pytest.raises(IntegrityError, match="floats"):
        catalogue.gaia_ids(np.array([3.7e18]))


# Without a parallax ERFA takes 1e-7 arcsec, and says so.
@pytest.mark.filterwarnings("ignore:.*distance overridden:erfa.ErfaWarning")
def test_proper_motion_moves_a_star_as_astropy_moves_it():
    # Barnard's star: ICRS 2016.0, Gaia DR3.
    import astropy.units as u
    from astropy.coordinates import SkyCoord
    from astropy.time import Time

    ra, dec, pmra, pmdec = 269.44850252543836, 4.739420051112412, -801.551, 10362.394
    star = SkyCoord(
        ra * u.deg, dec * u.deg, pm_ra_cosdec=pmra * u.mas / u.yr, pm_dec=pmdec * u.mas / u.yr,
        obstime=Time(2016.0, format="jyear"),
    )  # fmt: skip
    then = star.apply_space_motion(Time(1991.25, format="jyear"))
    one = np.array([1.0])
    a, d = sky.propagate(ra * one, dec * one, pmra * one, pmdec * one, (1991.25 - 2016) * one)
    far = sky.separation(a, d, then.ra.deg, then.dec.deg)
    assert far[0] < 0.005  # arcsec, of 257 arcsec moved
    assert sky.separation(ra, dec, a, d)[0] == pytest.approx(24.75 * 10.393348, rel=1e-3)


def test_the_distance_of_two_points_is_that_of_astropy():
    from astropy.coordinates import SkyCoord

    rng = np.random.default_rng(0)
    a, b = rng.uniform(0, 360, (2, 200))
    c, d = np.degrees(np.arcsin(rng.uniform(-1, 1, (2, 200))))
    truth = SkyCoord(a, c, unit="deg").separation(SkyCoord(b, d, unit="deg")).arcsec
    np.testing.assert_allclose(sky.separation(a, c, b, d), truth, rtol=1e-9)


# -- Gaia's own questions


def near(dr2, dr3, far, dmag):
    return {
        "dr2_source_id": dr2, "dr3_source_id": dr3, "angular_distance": far,
        "magnitude_difference": dmag,
    }  # fmt: skip


NEIGHBOURS = [
    near(1, 11, 0.2, 0.0),
    near(2, 12, 5.0, 1.5), near(2, 13, 60.0, 0.01),  # two within 100 mas: the magnitude decides
    near(3, 14, 5.0, 2.0), near(3, 15, 400.0, 0.0),  # the other is far: the nearest
    near(4, 16, 5.0, None), near(4, 17, 6.0, None),  # nothing decides
    near(6, 11, 90.0, 3.0),  # its neighbour is taken
]  # fmt: skip


def test_dr2_ids_go_through_the_neighbourhood(tmp_path):
    rows = [{"source_id": i, "ra": 1.0, "dec": 2.0} for i in (11, 12, 13, 14, 15, 16, 17)]
    with Server(Stars(rows, NEIGHBOURS)) as server:
        client = client_of(tmp_path, gaia_tap=f"{server.url}/tap")
        found = gaia_dr3.SURVEY.select(Request(dr2_ids=(1, 2, 3, 4, 5, 6)), client)
    assert found.table["source_id"].to_pylist() == [11, 13, 14]
    assert found.table["dr2_source_id"].to_pylist() == [1, 2, 3]
    assert found.table["dr2_n_candidates"].to_pylist() == [1, 2, 2]
    reasons = dict(found.missing)
    assert reasons[5] == "dr2 id without a DR3 neighbour"
    assert "ambiguous" in reasons[4]
    assert "another DR2 id" in reasons[6]


@pytest.mark.parametrize("release", ["dr3", "dr2"])
def test_the_release_of_an_id_column_is_found_out(tmp_path, release):
    rows = [{"source_id": 1000 + i, "ra": 10 + i / 10, "dec": 5.0, "pmra": 100.0, "pmdec": 0.0}
            for i in range(300)]  # fmt: skip
    # In DR2 every hundredth star had another number, which is of no star of DR3.
    old = {1000 + i: (5000 + i if i % 100 == 0 else 1000 + i) for i in range(300)}
    neighbours = [near(two, three, 0.1, 0.0) for three, two in old.items()]
    ids = np.array([r["source_id"] for r in rows])
    given = ids if release == "dr3" else np.array([old[i] for i in ids.tolist()])
    with Server(Stars(rows, neighbours)) as server:
        client = client_of(tmp_path, gaia_tap=f"{server.url}/tap")
        test = match.release_of(client, given, np.array([r["ra"] for r in rows]), np.full(300, 5.0))
    assert test.release == release
    assert test.tested == 300
    if release == "dr2":
        assert test.renamed_since_dr2 == 3


# -- APOGEE


def apogee_file(path):
    rows = {
        "GAIAEDR3_SOURCE_ID": np.array([BIG, BIG, BIG + 1, -1, BIG + 2], "i8"),
        "APOGEE_ID": np.array(["a", "b", "c", "d", "e"]),
        "SNR": np.array([50, 200, 100, 100, 80], "f4"),
        "STARFLAG": np.array([0, 512, 0, 0, 0], "i8"),
        "ASPCAPFLAG": np.array([0, 0, 1 << 23, 0, 0], "i8"),
        "TEFF": np.array([4000, 4100, 4200, 4300, np.nan], "f4"),
        "RA": np.arange(5.0), "DEC": np.arange(5.0),
    }  # fmt: skip
    kinds = {"i": "K", "f": "D", "U": "5A"}
    columns = [fits.Column(n, kinds[v.dtype.kind], array=v) for n, v in rows.items()]
    fits.HDUList([fits.PrimaryHDU(), fits.BinTableHDU.from_columns(columns)]).writeto(path)


def test_apogee_keeps_clean_rows_and_no_bad_labels(tmp_path):
    apogee_file(tmp_path / "allStar.fits")
    client = client_of(tmp_path, apogee_catalogue=str(tmp_path / "allStar.fits"))
    found = collect(apogee.SURVEY, tmp_path, Request(), client)
    objects = ingest.read_view(found, "objects")
    assert objects["source_id"].to_pylist() == [BIG, BIG + 1, BIG + 2]
    assert objects["apogee_id"].to_pylist() == ["a", "c", "e"]  # a: clean, though of lower S/N
    assert objects["teff"].to_pylist() == [4000.0, None, None]  # c: STAR_BAD; e: not measured
    assert found.manifest.notes["ambiguous"] == 1


# -- LAMOST


def lamost_catalogue(path, count=12, first=101_005_001):
    rows = stars()
    lines = ["obsid|gaia_source_id|ra|dec|snrg|class|teff|mjd"]
    for i in range(count):
        r = rows[i % 10]
        teff = -9999.0 if i == 3 else 5000 + i
        lines.append(f"{first + i}|{r['source_id']}|{r['ra']}|{r['dec']}|{i}|STAR|{teff}|57388")
    path.write_bytes(gzip.compress(("\ufeff" + "\n".join(lines) + "\n").encode()))


@pytest.fixture
def sim(tmp_path_factory):
    server, url = archive(tmp_path_factory.mktemp("archive"))
    yield server, url
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("dr", ["dr10", "dr6"])
def test_lamost_spectra_of_both_layouts_come_with_their_stars(sim, tmp_path, dr):
    server, url = sim
    lamost_catalogue(tmp_path / "lrs.csv.gz")
    with Server(Stars(stars())) as tap:
        client = client_of(
            tmp_path, gaia_tap=f"{tap.url}/tap", lamost_url=url,
            lamost_catalogue=str(tmp_path / "lrs.csv.gz"),
            lamost_spectrum="{base}/openapi/{dr}/{version}/lrs/spectrum/fits?obsid={obsid}"
            if dr == "dr10" else "{base}/{dr}/{version}/spectrum/fits/{obsid}",
        )  # fmt: skip
        for kind in ("status", "reset", "truncate", "corrupt", "html200"):
            server.faults.set([{"kind": kind, "match": "fits", "status": 503, "skip": 2}])
            client.fresh = True
            found = collect(lamost.SURVEY, tmp_path / kind, Request(release=dr, find="all"), client)
            assert found.manifest.rows["missing"] == 0
    spectra = ingest.read_view(found, "spectra")
    epochs = ingest.read_view(found, "spectra_epochs")
    assert (spectra.num_rows, epochs.num_rows) == (10, 12)
    # obsid + 10 and + 11 are second epochs of the first two stars, of higher S/N.
    assert spectra["obsid"].to_pylist()[:3] == [101_005_011, 101_005_012, 101_005_003]
    sent = {r["obsid"]: r for r in server.store.t["lamost"].to_pylist()}
    row = spectra.to_pylist()[0]
    np.testing.assert_allclose(row["wavelength"], sent[101_005_011]["wavelength"], rtol=1e-6)
    np.testing.assert_allclose(row["flux"], np.float32(sent[101_005_011]["flux"]))
    np.testing.assert_allclose(
        row["sigma"], 1 / np.sqrt(np.float32(sent[101_005_011]["ivar"])), rtol=1e-6
    )
    objects = ingest.read_view(found, "objects").to_pylist()
    assert objects[3]["teff"] is None
    assert found.manifest.notes["release_test"]["release"] == "dr3"
    assert found.manifest.notes["lamost_release"] == f"{dr}/v2.0"


def test_a_spectrum_that_does_not_exist_is_listed(sim, tmp_path):
    _, url = sim
    lamost_catalogue(tmp_path / "lrs.csv.gz", 3, 101_005_039)
    client = client_of(
        tmp_path, lamost_url=url, lamost_catalogue=str(tmp_path / "lrs.csv.gz"),
        lamost_id_release="dr3",
    )  # fmt: skip
    found = collect(lamost.SURVEY, tmp_path, Request(), client)
    assert found.manifest.rows["spectra"] == 2
    ledger = pq.read_table(found.path / "ledger.parquet").to_pylist()
    assert [r["reason"] for r in ledger if r["status"] == "missing"] == ["http_404"]


OAUTH = b'<meta http-equiv="refresh" content="0;url=https://oauth.china-vo.org/user/login">'
TOKEN = b'{"error": "x", "description":"please check your token"}'


@pytest.mark.parametrize(
    ("body", "says"), [(OAUTH, "needs a token"), (TOKEN, "token"), (b"oops", "neither")]
)
def test_lamosts_refusals_with_status_200_are_seen(tmp_path, body, says):
    with Server(routes=[("/.*fits", body)]) as server:
        client = client_of(tmp_path, lamost_url=server.url)
        url = lamost.address(client.of(lamost.Settings), "dr10", "v2.0", 5)
        with pytest.raises(MmclipError, match=says):
            client.download(lamost.SERVICE, url, check=lamost._is_spectrum)


def test_lamost_masks_and_wavelengths(tmp_path):
    flux = np.arange(1.0, 7.0)
    data = np.array([flux, [4, 0, 4, 4, -1, 4], np.zeros(6), [0, 0, 1, 0, 0, 0], np.zeros(6)], "f4")
    unit = fits.PrimaryHDU(data)
    unit.header["COEFF0"], unit.header["COEFF1"] = 3.5682, 1e-4
    out = io.BytesIO()
    unit.writeto(out)
    wave, got, sigma = lamost.spectrum(gzip.compress(out.getvalue()))
    np.testing.assert_allclose(wave, 10 ** (3.5682 + 1e-4 * np.arange(6)))
    assert np.isnan(got).tolist() == [False, True, True, False, True, False]
    assert sigma[[0, 3, 5]].tolist() == [0.5, 0.5, 0.5]
    out = io.BytesIO()
    fits.PrimaryHDU(np.zeros((2, 6), "f4")).writeto(out)
    with pytest.raises(BadAnswer):
        lamost.spectrum(out.getvalue())


# -- DESI


def mws_file(path, targets, ids, programs=None):
    count = len(targets)
    columns = {
        "TARGETID": ("K", np.array(targets)), "SURVEY": ("7A", np.array(["main"] * count)),
        "PROGRAM": ("6A", np.array(programs or ["bright"] * count)),
        "HEALPIX": ("J", np.full(count, 12345)), "PRIMARY": ("L", np.arange(count) != 1),
        "SN_R": ("E", np.arange(count) + 1.0), "TEFF": ("D", np.arange(count) + 5000.0),
        "RR_SPECTYPE": ("6A", np.array(["STAR"] * count)),
    }  # fmt: skip
    rv = [fits.Column(n, k, array=v) for n, (k, v) in columns.items()]
    ra = np.linspace(10, 11, count)
    gaia = [
        fits.Column("SOURCE_ID", "K", array=np.array(ids)),
        fits.Column("RA", "D", array=np.where(np.array(ids) > 0, ra, np.nan)),
        fits.Column("DEC", "D", array=ra),
    ]
    sp = [
        fits.Column("SUCCESS", "K", array=np.arange(count) != 2),
        fits.Column("FEH", "D", array=-0.1 * np.arange(count)),
    ]
    units = [
        fits.PrimaryHDU(),
        fits.BinTableHDU.from_columns(sp, name="SPTAB"),
        fits.BinTableHDU.from_columns(gaia, name="GAIA"),
        fits.BinTableHDU.from_columns(rv, name="RVTAB"),
    ]
    fits.HDUList(units).writeto(path)


FIRST = 39_627_000_000_000_000


def test_desi_by_sparcl(sim, tmp_path):
    server, url = sim
    targets = [FIRST + 7 * k for k in (0, 0, 1, 2, 99)]
    mws_file(tmp_path / "mws.fits", targets, [BIG, BIG, BIG + 1, 0, BIG + 3])
    client = client_of(
        tmp_path,
        desi_catalogue=str(tmp_path / "mws.fits"),
        desi_sparcl=f"{url}/api",
        desi_sparcl_chunk=2,
    )  # fmt: skip
    server.faults.set(
        [{"kind": "truncate", "match": "spectras"}, {"kind": "html200", "match": "find"}]
    )
    found = collect(desi.SURVEY, tmp_path, Request(), client)
    spectra = ingest.read_view(found, "spectra")
    assert spectra["source_id"].to_pylist() == [BIG, BIG + 1]
    sent = {r["specid"]: r for r in server.store.sparcl}
    np.testing.assert_allclose(
        spectra["flux"].to_pylist()[1], np.float32(sent[FIRST + 7]["flux"]), rtol=1e-6
    )
    ledger = pq.read_table(found.path / "ledger.parquet").to_pylist()
    lost = {r["source_id"]: r["reason"] for r in ledger if r["status"] == "missing"}
    assert lost == {BIG + 3: "not_returned"}
    assert found.manifest.notes["without_gaia_id"] == 1
    objects = ingest.read_view(found, "objects")
    assert objects["teff"].to_pylist()[0] == 5000.0  # the PRIMARY row
    # The row of BIG + 1 is the third, on which the SP pipeline had no success.
    sp = dict(zip(objects["source_id"].to_pylist(), objects["sp_feh"].to_pylist(), strict=True))
    assert sp[BIG] == 0.0
    assert not np.isfinite(sp[BIG + 1] if sp[BIG + 1] is not None else np.nan)


def test_a_pickle_of_sparcl_is_refused_unopened(tmp_path):
    opened = []

    class Bomb:
        def __reduce__(self):
            return (opened.append, (1,))

    path = tmp_path / "x"
    path.write_bytes(pickle.dumps([Bomb()]))
    with pytest.raises(IntegrityError, match="pickle"):
        desi._records(path)
    assert opened == []


def coadd_file(targets, seed=0):
    """A coadd with its HDUs in disorder; each arm has the counts that DESI documents."""
    rng = np.random.default_rng(seed)
    units, held = [], {}
    for arm, (start, count) in {"B": (3600, 2751), "R": (5760, 2326), "Z": (7520, 2881)}.items():
        wave = start + 0.8 * np.arange(count)
        flux = rng.normal(10, 1, (len(targets), count)).astype("f4")
        ivar = rng.uniform(0.5, 2, flux.shape).astype("f4")
        mask = np.zeros(flux.shape, "i4")
        mask[0, 5] = 1
        held[arm] = (wave, flux, ivar, mask)
        for part, values in zip(("IVAR", "MASK", "WAVELENGTH", "FLUX"), (ivar, mask, wave, flux)):
            units.append(fits.ImageHDU(values, name=f"{arm}_{part}"))
    table = fits.BinTableHDU.from_columns(
        [fits.Column("TARGETID", "K", array=np.array(targets))], name="FIBERMAP"
    )
    out = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), *units[::-1], table]).writeto(out)
    return out.getvalue(), held


def test_desi_by_coadd_files(tmp_path):
    targets = [FIRST, FIRST + 7, FIRST + 14]
    mws_file(
        tmp_path / "mws.fits", targets, [BIG, BIG + 1, BIG + 2], ["bright", "bright", "backup"]
    )
    body, held = coadd_file(targets[:1] + targets[1:2])
    path = "/dr1/spectro/redux/iron/healpix/main/bright/123/12345/coadd-main-bright-12345.fits"
    with Server(routes=[(path, body)]) as server:
        client = client_of(
            tmp_path,
            desi_catalogue=str(tmp_path / "mws.fits"),
            desi_url=server.url,
            desi_via="coadd",
        )
        found = collect(desi.SURVEY, tmp_path, Request(), client)
    spectra = ingest.read_view(found, "spectra").to_pylist()
    assert [r["source_id"] for r in spectra] == [BIG, BIG + 1]
    wave = np.array(spectra[0]["wavelength"])
    assert len(wave) == 7781  # 3600 to 9824 A in steps of 0.8 A
    assert (wave[0], wave[-1]) == (3600.0, 9824.0)
    # Of an overlap the inverse-variance mean, and its variance.
    at = round((5780.0 - 3600) / 0.8)
    (_, fb, vb, _), (wr, fr, vr, _) = held["B"], held["R"]
    i, j = at, round((5780.0 - wr[0]) / 0.8)
    mean = (fb[0, i] * vb[0, i] + fr[0, j] * vr[0, j]) / (vb[0, i] + vr[0, j])
    assert spectra[0]["flux"][at] == pytest.approx(mean, rel=1e-5)
    assert spectra[0]["sigma"][at] == pytest.approx((vb[0, i] + vr[0, j]) ** -0.5, rel=1e-5)
    assert np.isnan(spectra[0]["flux"][5])  # masked
    ledger = pq.read_table(found.path / "ledger.parquet").to_pylist()
    assert [r["reason"] for r in ledger if r["status"] == "missing"] == ["http_404"]


def test_a_catalogue_that_leads_elsewhere_is_refused(tmp_path):
    settings = desi.Settings()
    with pytest.raises(IntegrityError):
        desi.address(settings, "dr1", "../../etc", "bright", 5)
    with pytest.raises(UsageError, match="dr3"):
        desi.release(Request(release="dr3"))
    with pytest.raises(UsageError, match="no release"):
        lamost.release(Request(release="../dr10"))


# -- ASAS-SN

V = "id,source_id,asassn_name,edr3_source_id,raj2000,dej2000,variable_type,period,mean_vmag\n"
G = "ID,EDR3_source_id,RAJ2000,DEJ2000,ML_classification,Period,Mean_gmag\n"


def asassn_catalogues(tmp_path, first=17_179_869_184):
    rows = [
        f"{first},99,ASASSN-V J000000.00+000000.0,EDR3 {BIG},10,1,EW,0.5,12.1",
        f"{first + 1},98,ASASSN-V J000001.00+000000.0,,10,1,RRAB,0.6,12.2",
        f"{first + 2},97,ASASSN-V J000002.00+000000.0,EDR3 {BIG + 1},10,1,SR,,12.3",
        f"{first + 3},96,ASASSN-V J000003.00+000000.0,EDR3 {BIG},10,1,EA,0.7,12.4",
    ]
    (tmp_path / "v.csv").write_text(V + "\n".join(rows) + "\n")
    more = [
        f"ASASSN-V J000002.00+000000.0,EDR3 {BIG + 1},10,1,L,11,13.3",
        f"ASASSN-V J000009.00+000000.0,EDR3 {BIG + 9},10,1,ROT,12,13.4",
    ]
    (tmp_path / "g.csv").write_text(G + "\n".join(more) + "\n")
    return {
        "asassn_catalogue_v": str(tmp_path / "v.csv"), "asassn_catalogue_g": str(tmp_path / "g.csv")
    }  # fmt: skip


DAT_V = """# ASAS-SN
HJD MAG MAG_ERR FLUX FLUX_ERR
2457420.6452312 12.5 0.02 9.1 0.1
2457419.5 12.6 99.99 9 1
"""
DAT_G = """HJD camera mag mag_err flux flux_err
2458420.25 bi 13.1 0.03 8 1
2458421.25 bj >14.654 99.99 8 1
""".replace(" ", "\t")


def test_asassn_from_archives(tmp_path):
    settings = asassn_catalogues(tmp_path)
    with zipfile.ZipFile(tmp_path / "v.zip", "w") as packed:
        packed.writestr("vardb_files/ASASSN-VJ000003.00+000000.0.dat", DAT_V)
        packed.writestr("vardb_files/ASASSN-VJ000002.00+000000.0.dat", DAT_V)
    with tarfile.open(tmp_path / "g.tar", "w") as packed:
        info = tarfile.TarInfo("g_band_lcs/ASASSN-V_J000002.00+000000.0.dat")
        info.size = len(DAT_G)
        packed.addfile(info, io.BytesIO(DAT_G.encode()))
    settings |= {
        "asassn_archive_v": str(tmp_path / "v.zip"), "asassn_archive_g": str(tmp_path / "g.tar")
    }  # fmt: skip
    found = collect(asassn.SURVEY, tmp_path, Request(), client_of(tmp_path, **settings))
    objects = ingest.read_view(found, "objects").to_pylist()
    assert [(r["source_id"], r["class"]) for r in objects] == [
        (BIG, "EA"), (BIG + 1, "SR"), (BIG + 9, "ROT"),  # EA: the last of two rows
    ]  # fmt: skip
    curves = {r["source_id"]: r for r in ingest.read_view(found, "photometry").to_pylist()}
    assert set(curves) == {BIG, BIG + 1}
    both = curves[BIG + 1]
    assert both["time"] == [2457419.5, 2457420.6452312, 2458420.25, 2458421.25]
    assert both["band"] == ["V", "V", "g", "g"]
    assert both["camera"][2:] == ["bi", "bj"]
    assert both["is_upper_limit"] == [False, False, False, True]
    assert np.isnan(both["magnitude"]).tolist() == [True, False, False, True]
    assert both["time_system"] == "HJD"
    assert curves[BIG]["period"] == 0.7
    ledger = pq.read_table(found.path / "ledger.parquet").to_pylist()
    lost = [(r["source_id"], r["reason"]) for r in ledger if r["status"] == "missing"]
    assert lost == [(BIG + 9, "g: not_in_archive")]


def test_asassn_one_by_one(sim, tmp_path):
    server, url = sim
    settings = asassn_catalogues(tmp_path) | {"asassn_curve": url + "/variables/{id}.csv"}
    for kind in ("status", "short", "truncate", "corrupt", "badsum"):
        server.faults.set([{"kind": kind, "status": 503, "match": "csv", "times": 2}])
        client = client_of(tmp_path / kind, **settings)
        found = collect(asassn.SURVEY, tmp_path / kind, Request(products=("lightcurve-v",)), client)
        curves = ingest.read_view(found, "photometry").to_pylist()
        assert [r["source_id"] for r in curves] == [BIG, BIG + 1]
        table = server.store.t["asassn"].to_pylist()
        sent = sorted(r["jd"] for r in table if r["asas_sn_id"] == 17_179_869_187)
        np.testing.assert_allclose(curves[0]["time"], sent, atol=1e-5)
        assert found.manifest.rows["missing"] == 0


def test_asassn_without_a_catalogue_or_a_service_says_what_to_set(tmp_path):
    with pytest.raises(RemoteError) as caught:
        collect(asassn.SURVEY, tmp_path, Request(), client_of(tmp_path))
    assert "catalogue_v or catalogue_g (path or URL) under [asassn]" in caught.value.hint
    asked = Request(products=("lightcurve-g",))
    with pytest.raises(UsageError, match="that band's catalogue"):
        asassn.bands(asked, asassn.Settings(catalogue_v="v.csv"))


def test_a_name_that_leads_out_of_the_archive_is_refused():
    for band, name in (("v", "../../etc/passwd"), ("g", "/etc/passwd")):
        with pytest.raises(IntegrityError, match="cannot be the id"):
            asassn.member(band, name)


# -- several surveys in one command


def test_the_first_survey_selects_and_the_others_follow(tmp_path, monkeypatch):
    from mmclip.cli import run

    rows = stars()
    monkeypatch.setenv("MMCLIP_CACHE", str(tmp_path / "cache"))
    lines = [f"{i},9,N{i},EDR3 {r['source_id']},45,1,EW,1,12" for i, r in enumerate(rows[:5])]
    (tmp_path / "v.csv").write_text(V + "\n".join(lines) + "\n")
    with Server(Stars(rows[1:])) as tap:
        config = tmp_path / "c.toml"
        config.write_text(
            f'[fetch]\ntap_poll = 0.02\n[gaia-dr3]\ntap = "{tap.url}/tap"\n'
            f"[asassn]\ncatalogue_v = {json.dumps(str(tmp_path / 'v.csv'))}\n"
        )
        code = run(
            ["fetch", "--survey", "asassn", "--survey", "gaia-dr3", "--products", "labels",
             "--config", str(config), "-w", str(tmp_path)]
        )  # fmt: skip
    assert code == 0
    gaia = pq.read_table(tmp_path / "raw" / "gaia-dr3" / "objects")
    assert gaia["source_id"].to_pylist() == [r["source_id"] for r in rows[1:5]]
    ledger = pq.read_table(tmp_path / "raw" / "gaia-dr3" / "ledger.parquet").to_pylist()
    assert [r["source_id"] for r in ledger if r["status"] == "absent"] == [rows[0]["source_id"]]


def test_unions_of_shards_take_the_type_of_the_shard_that_knows():
    one = pa.table({"source_id": [1], "a": pa.array([None], pa.list_(pa.float32(), 55))})
    two = pa.table({"source_id": [2], "a": pa.array([[1.0] * 3], pa.list_(pa.float32(), 3))})
    made_ = pa.concat_tables(ingest._alike([one, two]))
    assert made_["a"].to_pylist() == [None, [1.0] * 3]
