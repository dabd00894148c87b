"""What services really answer: the cases of an audit against public evidence, each on loopback.

Every test serves what the service was seen to send, not what its documentation promises.
"""

import gzip
import hashlib
import io
import json
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.io import fits

from mmclip.datasets import ingest
from mmclip.errors import RemoteError, UsageError
from mmclip.surveys import Request, asassn, desi, gaia_dr3, lamost, legacy
from mmclip.surveys.asassn import skypatrol
from mmclip.surveys.asassn.settings import Settings as Asassn
from mmclip.surveys.client import answers, tap
from mmclip.surveys.client.answers import Meaning, NeedsToken
from mmclip.surveys.client.each import each
from mmclip.surveys.client.http import Client, Unreachable
from mmclip.surveys.client.settings import Service
from mmclip.surveys.gaia import datalink, selection
from mmclip.surveys.gaia.dr3 import DR3, PRODUCTS
from tests.loopback import Server, Stars, stars
from tests.services import quick
from tests.surveys.test_catalogues import BIG, collect, mws_file, near

ANY = Service("any")
LOGIN = (
    b'<html><head><meta http-equiv="refresh" content="0;url=https://x/user/login"></head></html>'
)
PAGE = b"<html><body><h1>Scheduled maintenance</h1></body></html>"


def client_of(tmp_path, **more):
    return Client(**quick(tmp_path, **more), cache=tmp_path / "cache")


def ledger(artifact, status):
    rows = pq.read_table(artifact.path / "ledger.parquet").to_pylist()
    return {r["source_id"]: r["reason"] for r in rows if r["status"] == status}


# -- one classifier


@pytest.mark.parametrize(
    ("service", "status", "text", "meaning"),
    [
        (ANY, 404, "no such file", Meaning.ABSENT),
        (ANY, 503, "busy", Meaning.AGAIN),
        (ANY, 500, "Error 500: null", Meaning.AGAIN),
        (ANY, 500, "Maximum number of Source Ids reached (max: 5000)", Meaning.SMALLER),
        (ANY, 413, "", Meaning.SMALLER),
        (ANY, 500, "Invalid Data Structure parameter: valid ones are: RAW", Meaning.REFUSED),
        (ANY, 400, "syntax error", Meaning.REFUSED),
        (ANY, 200, "current transaction is aborted, commands ignored", Meaning.AGAIN),
        (ANY, 401, "please check your token", Meaning.TOKEN),
        (ANY, 403, "forbidden", Meaning.REFUSED),
        (legacy.SERVICE, 500, "NoOverlapError", Meaning.ABSENT),
        (tap.JOB, 200, "canceling statement due to statement timeout", Meaning.SMALLER),
    ],
)  # fmt: skip
def test_one_table_says_what_an_answer_means(service, status, text, meaning):
    assert answers.classify(service, status, text).meaning is meaning


@pytest.mark.parametrize(
    ("body", "meaning"),
    [
        (b"\x1f\x8b packed", Meaning.GOOD), (b"hjd,camera\n", Meaning.GOOD),
        (b'{"data": [1]}', Meaning.GOOD), (b"[1, 2]", Meaning.GOOD),
        (LOGIN, Meaning.TOKEN), (PAGE, Meaning.AGAIN),
        (b'{"error": "lightcurve servers temporarily unavailable"}', Meaning.AGAIN),
        (b'{"error": "x", "description": "please check your token"}', Meaning.TOKEN),
        (b'{"error": null, "rows": []}', Meaning.GOOD),
    ],
)  # fmt: skip
def test_a_body_with_status_200_may_be_no_data(body, meaning):
    assert answers.of_body(ANY, body).meaning is meaning


def test_the_services_own_words_reach_the_user(tmp_path):
    said = b"<p>Unknown column 'teff_gspfot'</p>"
    with (
        Server(routes=[("/x", (400, {}, said))]) as server,
        pytest.raises(RemoteError, match="Unknown column 'teff_gspfot'"),
    ):
        client_of(tmp_path).download(ANY, f"{server.url}/x")


# -- 1: DataLink answers with nothing, or with less


def rvs_zip(ids):
    flux = "(" + ",".join(["1.0"] * 2401) + ")"
    rows = "".join(f'{i},"{flux}","{flux}"\n' for i in ids)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("RVS_RAW.csv", "source_id,flux,flux_error\n" + rows)
    return out.getvalue()


def test_an_empty_or_short_datalink_answer_does_not_end_the_fetch(tmp_path):
    rows = [{**r, "has_rvs": "t"} for r in stars()[:12]]
    ids = [r["source_id"] for r in rows]
    asked = []

    def data(request, body):
        wanted = [int(i) for i in request.fields(body)[0]["ID"].split(",")]
        asked.append(len(wanted))
        have = [i for i in wanted if i not in (ids[3], ids[7])]
        if len(wanted) == 12:
            have = have[:9]  # a short answer; what was left out comes when it is asked for again
        return rvs_zip(have) if have else b""

    with Server(Stars(rows), [("/data", data)]) as server:
        client = client_of(tmp_path, gaia_tap=f"{server.url}/tap", gaia_data=server.url)
        found = collect(
            gaia_dr3.SURVEY, tmp_path, Request(ids=tuple(ids), products=("rvs",)), client
        )
    assert found.manifest.rows["rvs"] == 10
    assert ledger(found, "absent") == dict.fromkeys((ids[3], ids[7]), "empty_answer")
    assert found.manifest.rows["missing"] == 0
    assert max(asked) == 12


def test_a_product_that_no_star_has_is_absent(tmp_path):
    rows = [{**r, "has_rvs": "t"} for r in stars()[:3]]
    ids = [r["source_id"] for r in rows]
    with Server(Stars(rows), [("/data", b"")]) as server:
        client = client_of(tmp_path, gaia_tap=f"{server.url}/tap", gaia_data=server.url)
        found = collect(
            gaia_dr3.SURVEY, tmp_path, Request(ids=tuple(ids), products=("rvs",)), client
        )
    assert set(ledger(found, "absent")) == set(ids)


# -- 2: cutouts outside the footprint


def cutout_bytes(pixels):
    out = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(pixels.astype("f4"))]).writeto(out)
    return out.getvalue()


def followed(count):
    known = tuple((BIG + i, 10.0 + i, 5.0, 0) for i in range(count))
    return Request(ids=tuple(k[0] for k in known), known=known, follows="gaia-dr3")


def test_outside_the_footprint_is_absent_and_never_ends_the_fetch(tmp_path):
    def cutout(request, body):
        ra = float(request.path.split("ra=")[1].split("&")[0])
        if ra < 18:  # eight in a row, as sky-sorted ids come
            return 500, {}, b"Traceback: raise NoOverlapError('No overlap with image')"
        return cutout_bytes(np.ones((3, 8, 8)))

    with Server(routes=[("/cutout", cutout)]) as server:
        client = client_of(
            tmp_path, legacy_size=8, legacy_cutout=server.url + "/cutout?ra={ra}&dec={dec}"
        )
        found = collect(legacy.SURVEY, tmp_path, followed(10), client)
        assert len(server.log) == 10  # no answer was asked for twice
    assert found.manifest.rows["image"] == 2
    assert found.manifest.rows["missing"] == 0
    assert "outside the footprint" in ledger(found, "absent")[BIG]


def test_one_band_is_an_image_and_not_a_cube(tmp_path):
    path = tmp_path / "x.fits"
    path.write_bytes(cutout_bytes(np.arange(64.0).reshape(8, 8)))
    assert legacy.cutout(path, 1, 8).shape == (1, 8, 8)
    with pytest.raises(UsageError, match="dr10-north"):
        legacy.layer(Request(release="dr10-north"))


# -- 3: the case of a camera's letters is its band


@pytest.mark.parametrize(
    ("cameras", "band"),
    [(["ba", "be", "bh"], "V"), (["bA", "bB", "cB", "bC", "bH", "bi", "bt"], "g"),
     (["zz", "bz", ""], "")],
)  # fmt: skip
def test_cameras_of_v_and_g_are_told_by_case(cameras, band):
    block = pa.table(
        {"asas_sn_id": [7] * len(cameras), "jd": np.arange(float(len(cameras))),
         "mag": [12.0] * len(cameras), "mag_err": [0.1] * len(cameras), "camera": cameras,
         "quality": ["G"] * len(cameras)}
    )  # fmt: skip
    made = skypatrol.split(block, {7: {"ra": 1.0, "dec": 2.0}}, {"V", "g"}, Asassn())[7]
    assert set(made["band"]) == {band}


# -- 4 and 5: SPARCL


def sparcl_routes(root, records, asked):
    def find(request, body):
        posted = json.loads(body)
        asked.append(posted["outfields"])
        wanted = next(s[1:] for s in posted["search"] if s[0] == "specid")
        rows = [{n: r[n] for n in posted["outfields"]} for r in records if r["specid"] in wanted]
        return json.dumps([{"status": {}}, *rows]).encode()

    def spectra(request, body):
        wanted = json.loads(body)
        rows = [
            {"sparcl_id": r["sparcl_id"], "specid": r["specid"], "wavelength": [4000.0, 4001.0],
             "flux": [r["level"]] * 2, "ivar": [1.0] * 2, "mask": [0, 0]}
            for r in records if r["sparcl_id"] in wanted
        ]  # fmt: skip
        return json.dumps([{"status": {}}, *rows]).encode()

    return [(f"{root}/find/", find), (f"{root}/spectras/", spectra)]


def record(name, specid, survey, program, primary, level):
    return {
        "sparcl_id": name, "specid": specid, "data_release": "DESI-DR1", "survey": survey,
        "program": program, "specprimary": primary, "level": level,
    }  # fmt: skip


@pytest.mark.parametrize("root", ["/api", "/sparc"])
def test_of_several_records_of_a_target_the_catalogues_own_is_taken(tmp_path, root):
    records = [
        record("a", 5, "sv3", "bright", False, 1.0), record("b", 5, "main", "dark", True, 2.0),
        record("c", 5, "main", "bright", False, 3.0), record("d", 6, "main", "bright", True, 4.0),
        record("e", 7, "sv1", "dark", False, 5.0), record("f", 7, "sv1", "other", True, 6.0),
    ]  # fmt: skip
    mws_file(tmp_path / "mws.fits", [5, 6, 7], [BIG, BIG + 1, BIG + 2])  # main, bright
    asked = []
    with Server(routes=sparcl_routes(root, records, asked)) as server:
        client = client_of(
            tmp_path, desi_catalogue=str(tmp_path / "mws.fits"), desi_sparcl=f"{server.url}/api"
        )
        found = collect(desi.SURVEY, tmp_path, Request(), client)
    flux = {r["source_id"]: r["flux"][0] for r in ingest.read_view(found, "spectra").to_pylist()}
    assert flux == {BIG: 3.0, BIG + 1: 4.0, BIG + 2: 6.0}  # of 7 no record is the row's: primary
    assert client.learned["sparcl_root"].endswith(root)


# -- 6: words of DATA_STRUCTURE


@pytest.mark.parametrize("status", [400, 500])
@pytest.mark.parametrize("takes", ["RAW", "DATAMODEL_GAIA"])
def test_either_vocabulary_of_structures_is_found_and_remembered(tmp_path, status, takes):
    seen = []

    def data(request, body):
        given = request.fields(body)[0]
        seen.append(given["DATA_STRUCTURE"])
        if given["DATA_STRUCTURE"] != takes:
            return status, {}, b"Error 500: null" if status == 500 else b"bad request"
        return rvs_zip([int(i) for i in given["ID"].split(",")])

    with Server(routes=[("/data", data)]) as server:
        client = client_of(tmp_path, gaia_data=server.url, tries=2)
        datalink.ask(client, PRODUCTS["rvs"], [1], DR3)
        datalink.ask(client, PRODUCTS["rvs"], [2], DR3)
    assert seen[0] == "RAW"
    assert seen[-2:] == [takes, takes]
    assert client.learned["data_structure"] == takes


# -- 7 and 8: LAMOST's catalogue


def lamost_table():
    r = stars()[0]
    columns = [
        fits.Column("obsid", "K", array=[101]), fits.Column("ra", "D", array=[r["ra"]]),
        fits.Column("dec", "D", array=[r["dec"]]), fits.Column("snrg", "E", array=[9.0]),
        fits.Column("gaia_source_id", "20A", array=[str(r["source_id"])]),
    ]  # fmt: skip
    out = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), fits.BinTableHDU.from_columns(columns)]).writeto(out)
    return gzip.compress(out.getvalue())


@pytest.mark.parametrize("how", ["page", "redirect", "json"])
def test_an_internal_release_asks_for_a_token_at_once(tmp_path, monkeypatch, how):
    monkeypatch.delenv("MMCLIP_LAMOST_TOKEN", raising=False)

    def catalogue(request, body):
        if "token=s3cret" in request.path:
            return lamost_table()
        if how == "json":
            return b'{"error": "x", "description": "please check your token"}'
        return (302, {"Location": "/user/login"}, b"") if how == "redirect" else LOGIN

    routes = [("/dr12/v1.0/catdl", catalogue), ("/user/login", LOGIN)]
    with Server(routes=routes) as server:
        client = client_of(tmp_path, lamost_url=server.url, lamost_id_release="dr3")
        with pytest.raises(NeedsToken) as caught:
            lamost.select(Request(release="dr12/v1.0"), client)
        assert len([p for _, p, *_ in server.log if "catdl" in p]) == 1
        monkeypatch.setenv("MMCLIP_LAMOST_TOKEN", "s3cret")
        found = lamost.catalogue(client, "dr12", "v1.0")
    assert "MMCLIP_LAMOST_TOKEN" in caught.value.hint
    assert found["obsid"].tolist() == [101]


def test_the_catalogue_of_older_releases_has_another_name(tmp_path):
    def catalogue(request, body):
        return lamost_table() if "dr8_v1.0_stellar_LRS" in request.path else (404, {}, b"nothing")

    with Server(routes=[("/dr8/v1.0/catdl", catalogue)]) as server:
        client = client_of(tmp_path, lamost_url=server.url)
        assert lamost.catalogue(client, "dr8", "v1.0")["obsid"].tolist() == [101]


# -- 9: a TAP job that fails in passing


class Failing(Server):
    """A TAP service whose jobs end in an error as long as `fail(query)` says so."""

    def __init__(self, stars, fail):
        def job(request, body):
            name = request.path.split("/")[-2]
            held = request.server.jobs.get(name)
            words = held and held["phase"] == "EXECUTING" and fail(held["query"])
            if not words:
                return request.tap(request.path, body)
            if request.path.endswith("/phase"):
                return b"ERROR"
            told = f'<INFO name="QUERY_STATUS" value="ERROR">{words}</INFO>'
            return f"<VOTABLE>{told}</VOTABLE>".encode()

        super().__init__(stars, [(r"/tap/async/\w+/(phase|error)", job)])


def test_a_job_that_fails_in_passing_is_sent_again_and_then_in_tiles(tmp_path):
    failures = []

    def fail(query):
        failures.append(query)
        return "current transaction is aborted" if len(failures) < 3 else ""

    with Failing(Stars(stars()), fail) as server:
        client = client_of(tmp_path, gaia_tap=f"{server.url}/tap")
        table = tap.run(client, f"{server.url}/tap", "SELECT g.source_id FROM t AS g")
        assert table.num_rows == 40
        assert client.learned["http"]["tap_resubmitted"] >= 1

    def whole(query):
        return (
            "" if "BETWEEN 0" in query or "BETWEEN 3" in query else "current transaction is aborted"
        )

    with Failing(Stars(stars()), whole) as server:
        client = client_of(tmp_path / "2", gaia_tap=f"{server.url}/tap")
        found = selection.select(DR3, Request(where="ruwe < 2"), client)
        assert found.table.num_rows == 40
        assert client.learned["http"]["tap_ranges_split"] >= 1


# -- 10: Sky Patrol's servers do not answer for some


def parquet(**columns):
    out = io.BytesIO()
    pq.write_table(pa.table(columns), out)
    return out.getvalue()


def test_a_block_with_an_unlucky_star_is_split_and_the_words_are_shown(tmp_path):
    rows = stars()[:9]
    neighbours = [near(70 + i, r["source_id"], 1.0, 0.0) for i, r in enumerate(rows)]
    asked = []

    def lookup(request, body):
        posted = json.loads(body)
        asked.append(posted["tar_ids"])
        ids = [t - 70 if posted["id_col"] == "gaia_id" else t for t in posted["tar_ids"]]
        return parquet(
            asas_sn_id=ids, ra_deg=[1.0] * len(ids), dec_deg=[2.0] * len(ids),
            gaia_id=[70 + i for i in ids],
        )  # fmt: skip

    def block(request, body):
        ids = asked[-1]
        if 4 in ids:
            return b'{"error": "lightcurve servers temporarily unavailable"}'
        return parquet(
            asas_sn_id=ids, jd=[2.0] * len(ids), mag=[12.0] * len(ids), mag_err=[0.1] * len(ids),
            camera=["ba"] * len(ids), quality=["G"] * len(ids),
        )  # fmt: skip

    routes = [
        ("/lookup_targets/catalog_list", lookup), ("/get_block_servers", b'["dead", "live"]'),
        ("/live/get_block.*", block),
        ("/dead/.*", "drop"),
    ]  # fmt: skip
    with Server(Stars(rows, neighbours), routes) as server:
        client = client_of(
            tmp_path, gaia_tap=f"{server.url}/tap", skypatrol=server.url,
            skypatrol_block=server.url + "/{server}", tries=1,
        )  # fmt: skip
        ids = tuple(r["source_id"] for r in rows)
        found = collect(asassn.SURVEY, tmp_path, Request(ids=ids, release="skypatrol"), client)
    assert found.manifest.rows["photometry"] == 8
    lost = ledger(found, "missing")
    assert list(lost) == [ids[4]]
    assert "temporarily unavailable" in lost[ids[4]]


# -- 11: the fill value of DESI's SOURCE_ID


def test_desis_fill_value_is_no_star(tmp_path):
    mws_file(tmp_path / "mws.fits", [1, 2, 3], [BIG, 999_999, BIG + 1])
    client = client_of(tmp_path, desi_catalogue=str(tmp_path / "mws.fits"))
    found = desi.select(Request(), client)
    assert found.table["source_id"].to_pylist() == [BIG, BIG + 1]
    assert found.notes["without_gaia_id"] == 1


# -- 12: ASAS-SN by itself


def test_asassn_alone_starts_from_gaias_variables(tmp_path):
    rows = stars()[:3]
    kinds = ["RR", "ECL", "LPV"]
    table = [
        {**r, "best_class_name": k, "best_class_score": 0.9}
        for r, k in zip(rows, kinds, strict=True)
    ]
    neighbours = [near(70 + i, r["source_id"], 1.0, 0.0) for i, r in enumerate(rows)]

    def lookup(request, body):
        ids = [0, 1, 2]
        return parquet(
            asas_sn_id=ids, ra_deg=[1.0] * 3, dec_deg=[2.0] * 3, gaia_id=[70 + i for i in ids]
        )

    block = parquet(
        asas_sn_id=[0, 1, 2], jd=[2.0] * 3, mag=[12.0] * 3, mag_err=[0.1] * 3,
        camera=["ba", "bi", "bA"], quality=["G"] * 3,
    )  # fmt: skip
    routes = [("/lookup_targets/catalog_list", lookup), ("/get_block/.*", block)]
    with Server(Stars(table, neighbours), routes) as server:
        client = client_of(
            tmp_path, gaia_tap=f"{server.url}/tap", skypatrol=server.url, skypatrol_block=server.url
        )
        found = collect(asassn.SURVEY, tmp_path, Request(sample=3), client)
        assert any(b"vari_classifier_result" in b for _, _, b, _ in server.log)
    assert ingest.read_view(found, "objects")["class"].to_pylist() == kinds
    bands = {b for r in ingest.read_view(found, "photometry")["band"].to_pylist() for b in r}
    assert bands == {"V", "g"}


def test_a_light_curve_is_asked_for_by_either_number_of_the_catalogue(tmp_path):
    head = "id,source_id,asassn_name,edr3_source_id,raj2000,dej2000,variable_type,mean_vmag\n"
    lines = "".join(f"uuid{i},{900 + i},N{i},EDR3 {BIG + i},10,1,EW,12\n" for i in range(3))
    (tmp_path / "v.csv").write_text(head + lines)
    asked = []

    def curve(request, body):
        asked.append(request.path)
        if "uuid" in request.path:
            return 404, {}, b"no such star"
        return b"hjd,camera,mag,mag_err,flux,flux_err\n2457420.5,ba,12.5,0.02,9.1,0.1\n"

    with Server(routes=[("/variables/.*", curve)]) as server:
        client = client_of(
            tmp_path, asassn_catalogue_v=str(tmp_path / "v.csv"),
            asassn_curve=server.url + "/variables/{id}.csv",
        )  # fmt: skip
        found = collect(asassn.SURVEY, tmp_path, Request(), client)
    assert found.manifest.rows["photometry"] == 3
    assert len([p for p in asked if "uuid" in p]) == 1  # then the other number comes first


# -- 13: how HTTP is spoken


def test_a_packed_file_that_is_labelled_as_packed_stays_packed(tmp_path):
    body = gzip.compress(b"a,b\n1,2\n" * 100)
    label = {"Content-Encoding": "gzip", "Content-Type": "text/csv"}
    with Server(routes=[("/t.csv.gz", (200, label, body))]) as server:
        path = client_of(tmp_path).download(ANY, f"{server.url}/t.csv.gz")
    assert path.read_bytes() == body
    with Server(routes=[("/t.csv", (200, label, body))]) as server:
        path = client_of(tmp_path).download(ANY, f"{server.url}/t.csv")
    assert path.read_bytes() == gzip.decompress(body)


def test_a_download_goes_on_by_its_date_and_length_where_there_is_no_etag(tmp_path):
    body = np.random.default_rng(0).bytes(400_000)
    seen = []

    def file(request, _):
        date = {"Last-Modified": "Wed, 01 Jan 2025 00:00:00 GMT", "Accept-Ranges": "bytes"}
        asked = request.headers.get("Range")
        seen.append((asked, request.headers.get("If-Range")))
        if asked is None:
            head = {**date, "Content-Length": str(len(body))}
            request.send_response(200)
            for k, v in head.items():
                request.send_header(k, v)
            request.end_headers()
            request.wfile.write(body[:150_000])
            request.wfile.flush()
            return "drop"
        start = int(asked[6:-1])
        span = {"Content-Range": f"bytes {start}-{len(body) - 1}/{len(body)}"}
        return 206, date | span, body[start:]

    with Server(routes=[("/big", file)]) as server:
        path = client_of(tmp_path).download(ANY, f"{server.url}/big")
    assert hashlib.sha256(path.read_bytes()).digest() == hashlib.sha256(body).digest()
    assert len(seen) == 2
    assert seen[1][0].startswith("bytes=")
    assert seen[1][1] == "Wed, 01 Jan 2025 00:00:00 GMT"


def test_pages_as_phase_or_as_the_answer_to_a_new_job_are_asked_again(tmp_path):
    posts, phases = [], []

    def submit(request, body):
        posts.append(1)
        return PAGE if len(posts) == 1 else request.tap(request.path, body)

    def phase(request, body):
        phases.append(request.command)
        return PAGE if phases.count("GET") == 2 else request.tap(request.path, body)

    routes = [("/tap/async", submit), (r"/tap/async/\w+/phase", phase)]
    with Server(Stars(stars()), routes) as server:
        client = client_of(tmp_path, gaia_tap=f"{server.url}/tap")
        assert tap.run(client, f"{server.url}/tap", "SELECT g.source_id FROM t AS g").num_rows == 40


def test_a_move_from_http_to_https_starts_the_job_where_it_went(tmp_path):
    assert (
        tap._located("https://a.b/tap/async", "http://a.b/tap/async/7") == "https://a.b/tap/async/7"
    )
    with pytest.raises(RemoteError, match="another host"):
        tap._located("https://a.b/tap", "http://c.d/7")

    def phase(request, body):
        if request.command == "POST":
            where = request.path.replace("/tap/", "/moved/")
            return 301, {"Location": f"http://{request.headers['Host']}{where}"}, b""
        return request.tap(request.path, body)

    def moved(request, body):
        return request.tap(request.path.replace("/moved/", "/tap/"), body)

    routes = [(r"/tap/async/\w+/phase", phase), (r"/moved/async/\w+/phase", moved)]
    with Server(Stars(stars()), routes) as server:
        client = client_of(tmp_path, gaia_tap=f"{server.url}/tap")
        assert tap.run(client, f"{server.url}/tap", "SELECT g.source_id FROM t AS g").num_rows == 40


# -- one bad object never ends a fetch of many


def test_many_bad_objects_in_a_row_do_not_end_a_fetch_while_the_service_lives(tmp_path):
    dead = []

    def file(request, body):
        bad = 3 <= int(request.path[1:]) < 20 or dead
        return (500, {}, b"null") if bad else b"data"

    with Server(routes=[(r"/\d+", file)]) as server:
        client = client_of(tmp_path, tries=1)

        def get(key):
            return client.download(ANY, f"{server.url}/{key}").read_bytes()

        out = each(client, range(30), get)
        assert sorted(out.found) == [0, 1, 2, *range(20, 30)]
        assert sorted(out.missing) == list(range(3, 20))
        dead.append(True)
        with pytest.raises(Unreachable):
            each(client, range(100, 130), get)


# -- what came of everything that was asked for


def test_every_star_is_accounted_for_once_a_view():
    rows = [
        (1, "rvs", "received", None), (1, "rvs", "missing", "g: lost"), (2, "rvs", "absent", "x"),
        (3, "rvs", "missing", "http_404"), (4, "rvs", "missing", "ambiguous_id: 2"),
        (4, "objects", "received", None),
    ]  # fmt: skip
    columns = list(zip(*rows, strict=True))
    table = pa.table([pa.array(c) for c in columns], schema=ingest.LEDGER)
    assert ingest.reconcile(table) == {
        "objects": {"requested": 1, "received": 1, "absent": 0, "missing": 0, "ambiguous": 0},
        "rvs": {"requested": 4, "received": 1, "absent": 1, "missing": 1, "ambiguous": 1},
    }


def test_the_balance_is_in_the_ledger_and_the_manifest(tmp_path):
    rows = [{**r, "has_rvs": "t" if i else "f"} for i, r in enumerate(stars()[:4])]
    ids = [r["source_id"] for r in rows]
    with Server(Stars(rows), [("/data", rvs_zip(ids[1:3]))]) as server:
        client = client_of(tmp_path, gaia_tap=f"{server.url}/tap", gaia_data=server.url)
        request = Request(ids=(*ids, 7), products=("rvs",))
        found = collect(gaia_dr3.SURVEY, tmp_path, request, client)
    balance = found.manifest.notes["balance"]
    assert balance["rvs"] == {
        "requested": 4, "received": 2, "absent": 1, "missing": 1, "ambiguous": 0
    }  # fmt: skip
    assert balance["objects"]["requested"] == 5
    kept = pq.read_schema(found.path / "ledger.parquet").metadata[b"balance"]
    assert json.loads(kept) == balance


# -- the metadata of AstroM3 from ASAS-SN's catalogue


def test_three_surveys_give_complete_metadata_of_astrom3(tmp_path, monkeypatch):
    from mmclip.cli import run
    from mmclip.modalities.metadata_astrom3 import COLUMNS

    monkeypatch.setenv("MMCLIP_CACHE", str(tmp_path / "cache"))
    rows = stars()[:6]
    names = [n for n in COLUMNS if n != "parallax"]
    head = ["id", "source_id", "asassn_name", "edr3_source_id", "raj2000", "dej2000",
            "variable_type", "period", "amplitude", "lksl_statistic", "rfr_score", "parallax",
            *names]  # fmt: skip
    lines = [
        [i, 9, f"N{i}", f"EDR3 {r['source_id']}", 45 + i, 1, "EW", 0.5, 0.3, 0.2, 0.1, 2.5,
         *(f"{10 + i + n / 100:.2f}" for n in range(len(names)))]
        for i, r in enumerate(rows)
    ]  # fmt: skip
    text = "\n".join(",".join(map(str, line)) for line in [head, *lines]) + "\n"
    (tmp_path / "v.csv").write_text(text)
    rng = np.random.default_rng(0)
    curve = "hjd,camera,mag,mag_err,flux,flux_err\n" + "".join(
        f"{2457420 + 0.31 * k},ba,{12 + rng.normal(0, 0.1):.3f},0.02,9.1,0.1\n" for k in range(250)
    )
    grid = np.arange(3700.0, 9100.0)
    spectrum = np.array(
        [np.sin(grid / 300) + 5, np.full(len(grid), 400.0), *np.zeros((3, len(grid)))]
    )
    unit = fits.PrimaryHDU(spectrum.astype("f4"))
    unit.header["COEFF0"], unit.header["COEFF1"] = np.log10(3700.0), 7.2e-5
    out = io.BytesIO()
    unit.writeto(out)
    (tmp_path / "lrs.csv").write_text(
        "obsid|gaia_source_id|ra|dec|snrg|z\n"
        + "".join(f"{100 + i}|{r['source_id']}|45|1|30|0\n" for i, r in enumerate(rows))
    )
    routes = [
        ("/variables/.*", curve.encode()),
        ("/.*/spectrum/fits", gzip.compress(out.getvalue())),
    ]
    with Server(Stars(rows), routes) as server:
        config = tmp_path / "c.toml"
        config.write_text(
            f'[fetch]\npace = 0.0\ntap_poll = 0.02\n[gaia-dr3]\ntap = "{server.url}/tap"\n'
            f'[asassn]\ncatalogue_v = "{tmp_path / "v.csv"}"\n'
            f'curve = "{server.url}/variables/{{id}}.csv"\n'
            f'[lamost]\ncatalogue = "{tmp_path / "lrs.csv"}"\nurl = "{server.url}"\n'
            'id_release = "dr3"\n'
        )
        command = ["fetch", "--survey", "asassn", "--survey", "lamost", "--survey", "gaia-dr3",
                   "--config", str(config), "-w", str(tmp_path)]  # fmt: skip
        assert run(command) == 0
    assert run(["preprocess", "--preset", "astrom3", "--name", "m3", "-w", str(tmp_path)]) == 0
    objects = pq.read_table(tmp_path / "data" / "m3" / "objects.parquet")
    assert objects["has_metadata_astrom3"].to_pylist() == [True] * 6
