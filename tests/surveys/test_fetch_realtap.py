"""Gaia's questions to a real TAP server (GAVO DaCHS on PostgreSQL): the ADQL is parsed and run.

`docs/contributing.md` says how to have these run; without the packages they are skipped.
"""

import shutil
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from mmclip import sky
from mmclip.datasets import ingest
from mmclip.surveys import Request, gaia_dr3
from mmclip.surveys.client import tap
from mmclip.surveys.client.answers import Refused
from mmclip.surveys.client.http import Client
from mmclip.surveys.gaia import match
from mmclip.surveys.gaia import settings as gaia
from mmclip.surveys.gaia.dr3 import DR3
from mmclip.surveys.gaia.query import uploaded
from tests import tap_tables
from tests.loopback import stars
from tests.services import quick, services

pytestmark = [pytest.mark.realtap, pytest.mark.slow]
ROWS = stars(tap_tables.COUNT)
IDS = tuple(r["source_id"] for r in ROWS)
PORT = 18977


class Real:
    """The server: its URL, and ways to stop and start it."""

    def __init__(self, folder, config):
        self.folder, self.config, self.state = folder, config, Path(tempfile.mkdtemp(prefix="mtap"))

    def start(self):
        command = [
            str(self.folder / "start"), "--config", str(self.config), "--state", str(self.state),
            "--port", str(PORT), "--no-install",
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        if "missing packages" in done.stderr:
            pytest.skip(f"no TAP server on this machine: {done.stderr.strip()[-200:]}")
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout.strip().splitlines()[-1]

    def stop(self, *how):
        command = [str(self.folder / "stop"), "--state", str(self.state), *how]
        subprocess.run(command, check=True, capture_output=True, timeout=60)


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    if shutil.which("setpriv") is None:
        pytest.skip("no setpriv on this machine")
    services("tap")
    folder = tmp_path_factory.mktemp("tap")
    # A copy: the scripts write beside themselves.
    shutil.copytree(services("tap"), folder / "service")
    made = Real(folder / "service", tap_tables.write(folder))
    made.url = made.start()
    yield made
    made.stop("--purge")
    shutil.rmtree(made.state, ignore_errors=True)


def client_of(tmp_path, real, **more):
    given = {"gaia_tap": f"{real.url}/tap", "tap_poll": 0.1, "tap_patience": 60.0, "stall": 20.0}
    made = Client(**quick(tmp_path, **(given | more)), cache=tmp_path / "cache")
    made.jobs = tmp_path / "jobs"
    return made


def collect(tmp_path, real, request, **more):
    client = client_of(tmp_path, real, **more)
    return ingest.collect(gaia_dr3.SURVEY, request, tmp_path / "raw" / "gaia", False, client)


def test_uploaded_ids_bring_every_column(real, tmp_path):
    request = Request(ids=(*IDS[:200], 12345), products=("labels", "astrometry", "2mass", "wise"))
    made = collect(tmp_path, real, request, tap_chunk=150, gaia_chunk=150)
    objects, metadata = ingest.read_view(made, "objects"), ingest.read_view(made, "metadata")
    assert objects["source_id"].to_pylist() == list(IDS[:200])
    np.testing.assert_array_equal(objects["ra"].to_numpy(), [r["ra"] for r in ROWS[:200]])
    assert objects["pseudocolour"].null_count == 100
    assert objects["teff_gspspec"].null_count == 50  # stars 150 to 199 have none
    assert made.manifest.rows["missing"] == 1
    by_id = {r["source_id"]: r for r in metadata.to_pylist()}
    # Star 0: AAA wins over UUU; star 1: AAA over BAA; both are marked.
    assert [by_id[i]["j_m"] for i in IDS[:3]] == [10.0, 10.01, 10.02]
    assert [by_id[i]["tmass_ambiguous"] for i in IDS[:3]] == [True, True, False]
    assert by_id[IDS[199]]["w1mpro"] is None
    assert by_id[IDS[3]]["w2mpro"] == 11.0
    assert made.manifest.notes["service"]["http"]["catalogue_rows_repeated"] == 2


@pytest.mark.parametrize(
    ("request_", "wanted"),
    [
        (Request(where="phot_g_mean_mag < 10 and has_rvs = true"),
         lambda r: r["phot_g_mean_mag"] < 10 and r["has_rvs"] == "t"),
        (Request(healpix=(12, tuple(i >> 35 for i in IDS[5:9]))),
         lambda r: r["source_id"] in IDS[5:9]),
        (Request(adql="SELECT TOP 500 SOURCE_ID FROM gaiadr3.gaia_source WHERE ruwe > 1 "
                      "AND phot_g_mean_mag > 14 ORDER BY source_id"),
         lambda r: r["phot_g_mean_mag"] > 14),
        (Request(cone=(46.0, 1.5, 0.4)),
         lambda r: sky.separation(46.0, 1.5, r["ra"], r["dec"]) < 0.4 * 3600),
    ],
    ids=["where", "healpix", "adql", "cone"],
)  # fmt: skip
def test_selections_are_what_they_say(real, tmp_path, request_, wanted):
    made = collect(tmp_path, real, request_)
    truth = [r["source_id"] for r in ROWS if wanted(r)]
    assert 0 < len(truth) < len(ROWS)
    assert ingest.read_view(made, "objects")["source_id"].to_pylist() == truth


def test_a_sample_with_spectra_has_them(real, tmp_path):
    request = Request(sample=20, products=("rvs",), where="ruwe > 0")
    found = gaia_dr3.SURVEY.select(request, client_of(tmp_path, real))
    truth = [r["source_id"] for r in ROWS if r["has_rvs"] == "t"][:20]
    assert found.table["source_id"].to_pylist() == truth


def test_dr2_and_positions(real, tmp_path):
    client = client_of(tmp_path, real)
    found = gaia_dr3.SURVEY.select(Request(dr2_ids=(IDS[0] + 7, IDS[1], IDS[50])), client)
    assert found.table["source_id"].to_pylist() == [IDS[0], IDS[1]]
    assert [i for i, _ in found.missing] == [IDS[50]]  # the number of another release
    years = 10.0
    moved = sky.propagate(
        *(np.array([r[c] for r in ROWS[:30]]) for c in ("ra", "dec", "pmra", "pmdec")),
        np.full(30, years),
    )
    ids, far, rivals = match.by_position(client, *moved, np.full(30, 2016.0 + years))
    assert ids.tolist() == list(IDS[:30])
    assert far.max() < 1e-3
    assert rivals.tolist() == [1] * 30
    ra, dec = (np.array([r[c] for r in ROWS]) for c in ("ra", "dec"))
    test = match.release_of(client, np.array(IDS), ra, dec, 2016.0)
    assert test["release"] == "dr3"


def test_an_overflow_is_noticed_and_a_wrong_query_told(real, tmp_path):
    client = client_of(tmp_path, real)
    asked = "SELECT source_id FROM gaiadr3.gaia_source"
    client = Client(
        **quick(tmp_path, gaia_tap=f"{real.url}/tap", tap_row_limit=len(ROWS)),
        cache=tmp_path / "cut",
    )
    with pytest.raises(tap.CutShort):
        tap.run(client, gaia.of(client).tap, asked)
    with pytest.raises(Refused, match="nosuch"):
        tap.run(client, gaia.of(client).tap, "SELECT nosuch FROM gaiadr3.gaia_source")


def test_overflow_marked_by_the_server_itself(real, tmp_path):
    # MAXREC reaches the server through pyvo; the mark QUERY_STATUS=OVERFLOW is DaCHS' own.
    import pyvo

    body = tmp_path / "x.xml"
    query = pyvo.dal.TAPQuery(
        f"{real.url}/tap", "SELECT source_id FROM gaiadr3.gaia_source", maxrec=10
    )
    body.write_bytes(query.execute_raw())
    from mmclip.surveys.client import votable

    table, status, _ = votable.read(body)
    assert (table.num_rows, status) == (10, "OVERFLOW")


def test_a_server_restarted_meanwhile_does_not_lose_the_fetch(real, tmp_path):
    client = client_of(tmp_path, real)
    query = uploaded(DR3, Request(ids=IDS, products=("rvs",)))
    ids = ("source_id", np.array(IDS))
    job = tap._attach(client, gaia.of(client).tap, "k" * 40, query, ids)
    assert tap._start(client, job).status_code in (200, 303)
    real.stop("--server-only")
    begun = time.monotonic()
    back = threading.Timer(2.0, real.start)
    back.start()
    name = tap._cache.key("TAP", gaia.of(client).tap, [query, tap._digest(ids)])
    (client.jobs / f"{'k' * 32}.json").rename(client.jobs / f"{name[:32]}.json")
    table = tap.run(client, gaia.of(client).tap, query, ids)
    back.join()
    assert time.monotonic() - begun > 1.0
    assert sorted(table["source_id"].to_pylist()) == list(IDS)
    assert client.learned["http"]["tap_reattached"] >= 1
