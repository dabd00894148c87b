"""ASAS-SN Sky Patrol v2: DR3 ids to DR2, blocks of light curves, times."""

import base64
import io
import json
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmclip.datasets import ingest
from mmclip.errors import IntegrityError, RemoteError, UsageError
from mmclip.surveys import Request, asassn
from mmclip.surveys.asassn import skypatrol
from mmclip.surveys.asassn.settings import Settings
from tests.loopback import Server, Stars, stars
from tests.services import archive
from tests.surveys.test_catalogues import client_of, collect, near

FIRST = 17_179_869_184


def parquet(**columns):
    out = io.BytesIO()
    pq.write_table(pa.table(columns), out)
    return out.getvalue()


def settings_of(tap, url, **more):
    return {
        "gaia_tap": f"{tap}/tap", "skypatrol": url, "skypatrol_block": url,
        "skypatrol_id": "asas_sn_id",
    } | more  # fmt: skip


def test_light_curves_of_the_stand_in_come_through_dr2(tmp_path):
    """Its catalogue knows asas_sn_id alone, so those stand for DR2 ids here."""
    server, url = archive(tmp_path / "archive")
    rows = stars()[:6]
    ids = [r["source_id"] for r in rows]
    old = [FIRST + i for i in (4, 3, 2, 1, 0)]
    neighbours = [near(o, i, 1.0, 0.0) for o, i in zip(old, ids, strict=False)]
    neighbours.append(near(FIRST + 9, ids[0], 80.0, 0.0))  # farther: not taken
    neighbours.append(near(5, ids[5], 1.0, 0.0))  # the service does not have it
    table = server.store.t["asassn"].to_pylist()
    try:
        with Server(Stars(rows, neighbours)) as tap:
            for kind in ("none", "status", "truncate", "html200", "reset"):
                if kind != "none":
                    server.faults.set(
                        [{"kind": kind, "status": 503, "match": m} for m in ("lookup", "get_block")]
                    )
                client = client_of(tmp_path / kind, **settings_of(tap.url, url))
                request = Request(ids=tuple(ids), release="skypatrol")
                found = collect(asassn.SURVEY, tmp_path / kind, request, client)
                curves = ingest.read_view(found, "photometry").to_pylist()
                assert [c["source_id"] for c in curves] == ids[:5]
                for curve, star in zip(curves, old, strict=True):
                    sent = sorted(
                        (r["jd"], r["mag"], r["phot_filter"])
                        for r in table if r["asas_sn_id"] == star
                    )  # fmt: skip
                    assert curve["time"] == [s[0] for s in sent]
                    np.testing.assert_allclose(curve["magnitude"], [s[1] for s in sent], rtol=1e-6)
                    assert curve["band"] == [s[2] for s in sent]
                    assert curve["time_system"] == "JD"
                assert found.manifest.rows["missing"] == 0
    finally:
        server.shutdown()
        server.server_close()
    ledger = pq.read_table(found.path / "ledger.parquet").to_pylist()
    assert [r["source_id"] for r in ledger if r["status"] == "absent"] == [ids[5]]
    assert found.manifest.notes["several_dr2_ids"] == 1


def test_a_dead_block_server_is_passed_over_and_names_are_those_of_the_client(tmp_path):
    rows = stars()[:2]
    ids = [r["source_id"] for r in rows]
    found = parquet(asas_sn_id=[7, 8], ra_deg=[1.0, 2.0], dec_deg=[3.0, 4.0], gaia_id=[70, 80])
    block = parquet(
        asas_sn_id=[8, 7, 7, 7], jd=[2.0, 3.0, 1.0, 2.0], mag=[14.0, 13.0, 12.0, 15.5],
        mag_err=[0.1, 0.1, 0.1, 99.99], camera=["bi", "ba", "zz", "bs"],
        quality=["G", "B", "G", "G"],
    )  # fmt: skip
    asked = []

    def lookup(it, body):
        asked.append(json.loads(body))
        return found

    def blocks(it, body):
        return (500, {}, b"down") if it.path.startswith("/dead") else block

    routes = [
        ("/lookup_targets/catalog_list", lookup), ("/get_block_servers", b'["dead", "live"]'),
        ("/.*get_block/.*", blocks),
    ]  # fmt: skip
    neighbours = [near(70, ids[0], 1.0, 0.0), near(80, ids[1], 1.0, 0.0)]
    with Server(Stars(rows, neighbours), routes) as server:
        client = client_of(
            tmp_path, **settings_of(server.url, server.url, skypatrol_id="gaia_id",
                                    skypatrol_block=server.url + "/{server}"),
        )  # fmt: skip
        request = Request(ids=tuple(ids), release="skypatrol")
        made = collect(asassn.SURVEY, tmp_path, request, client)
        path = next(p for _, p, *_ in server.log if "/live/get_block" in p)
    assert [a["download"] for a in asked] == [False, True]
    assert (asked[0]["id_col"], asked[0]["tar_ids"]) == ("gaia_id", [70, 80])
    name = unquote(path.split("query_hash-")[1].split("-block_idx")[0])
    assert base64.b64decode(name).decode() == (
        "listlen-2_listfirst-7_listend-8|catalog-stellar_main|id_col-asas_sn_id"
        "|cols-asas_sn_id/ra_deg/dec_deg"
    )
    seven, eight = ingest.read_view(made, "photometry").to_pylist()
    assert seven["band"] == ["", "g", "V"]  # an unknown camera stays, without a band
    assert seven["is_upper_limit"] == [False, True, False]
    assert np.isnan(seven["magnitude"]).tolist() == [False, True, True]  # a limit; bad quality
    assert eight["time"] == [2.0]
    only = skypatrol.split(pq.read_table(io.BytesIO(block)), {8: {}, 7: {}}, {"V"}, Settings())
    assert {i: c["band"].tolist() for i, c in only.items()} == {7: ["", "V"]}


def test_servers_that_lead_elsewhere_and_dead_ones_are_errors(tmp_path):
    routes = [("/get_block_servers", b'["../evil/x"]')]
    with Server(routes=routes) as server:
        client = client_of(tmp_path, skypatrol=server.url, skypatrol_block="http://{server}:9006")
        with pytest.raises(IntegrityError, match="cannot be the id"):
            skypatrol.servers(client)
        client = client_of(tmp_path / "b", skypatrol=server.url, skypatrol_block=server.url)
        with pytest.raises(RemoteError):
            skypatrol._curves(client, [{"asas_sn_id": 5, "ra": 0.0, "dec": 0.0}], {"V"})
    with pytest.raises(UsageError, match="no release"):
        asassn.patrolled(Request(release="sky"), Settings())


def test_the_heliocentric_time_is_that_of_the_equinox():
    # 2020-03-20 03:50 UT: the Sun at RA 0, Dec 0, 0.9960 au away (Astronomical Almanac).
    jd = np.array([2458928.65972])
    for ra, sign in ((180.0, 1.0), (0.0, -1.0)):
        seconds = skypatrol.heliocentric(jd, ra, 0.0)[0] * 86400
        assert seconds == pytest.approx(sign * 499.005 * 0.9960, abs=0.2)
    # In ICRS that Sun is at longitude -980 arcsec: 1017 of precession since 2000, less 21 of
    # aberration and 16 of nutation.
    off = 499.005 * 0.9960 * np.sin(np.radians(980 / 3600)) * np.cos(np.radians(23.44))
    assert skypatrol.heliocentric(jd, 90.0, 0.0)[0] * 86400 == pytest.approx(off, abs=0.05)


def test_over_a_year_the_light_time_is_that_of_the_earths_orbit():
    jd = 2458849.5 + np.arange(0, 365.25, 0.25)
    along = skypatrol.heliocentric(jd, 90.0, 23.4393) * 86400  # the solstice
    assert along.max() == pytest.approx(499.005 * 0.983, abs=0.5)  # December, perihelion
    assert along.min() == pytest.approx(-499.005 * 1.0163, abs=0.5)  # June, near aphelion
    pole = skypatrol.heliocentric(jd, 270.0, 66.5607) * 86400
    assert np.abs(pole).max() < 0.05


def test_times_become_heliocentric_where_it_is_asked(tmp_path):
    block = pa.table({"asas_sn_id": [7], "jd": [2458928.65972], "mag": [1.0], "mag_err": [0.1],
                      "camera": ["ba"]})  # fmt: skip
    star = {7: {"ra": 180.0, "dec": 0.0}}
    made = skypatrol.split(block, star, {"V"}, Settings(heliocentric=True))[7]
    assert made["system"].tolist() == ["HJD"]
    assert (made["time"][0] - 2458928.65972) * 86400 == pytest.approx(497.0, abs=0.3)
