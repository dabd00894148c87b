"""Gaia: selection, TAP jobs, DataLink chunks, shards that do not depend on what went wrong."""

import contextlib
import hashlib
import io
import json
import os
import random
import time
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmclip import artifacts
from mmclip.cli import run
from mmclip.datasets import ingest
from mmclip.errors import PARTIAL, REMOTE, USAGE, MmclipError
from mmclip.surveys import Request, gaia_dr3
from mmclip.surveys.client import tap as _tap
from mmclip.surveys.client.answers import Refused
from mmclip.surveys.client.http import Client
from mmclip.surveys.gaia import datalink, objects, query
from mmclip.surveys.gaia import settings as gaia_settings
from mmclip.surveys.gaia.dr3 import DR3
from mmclip.surveys.gaia.dr3 import PRODUCTS as KINDS
from tests.loopback import Server, Stars, stars, wait_until
from tests.services import archive, quick

IDS = tuple(r["source_id"] for r in stars())
PRODUCTS = ("xp", "rvs", "labels", "2mass")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tmp_path_factory.mktemp("archive")


@pytest.fixture
def sim(data):
    """The stand-in archive before a TAP service of invented stars; (server, URL, TAP)."""
    with Server(Stars(stars())) as tap:
        server, url = archive(data, tap.url)
        yield server, url, tap
        server.shutdown()
        server.server_close()


def client_of(tmp_path, url, **more):
    return Client(**quick(tmp_path, url, **more), cache=tmp_path / "cache")


def collect(tmp_path, url, request, name="gaia-dr3", client=None, **given):
    client = client or client_of(tmp_path, url)
    return ingest.collect(gaia_dr3.SURVEY, request, tmp_path / "raw" / name, False, client, **given)


def shards(folder):
    """SHA-256 of every shard."""
    return {
        str(p.relative_to(folder)): artifacts.sha256(p)
        for p in sorted(Path(folder).rglob("*.parquet"))
        if p.parent.name in ("objects", "metadata", "xp_coefficients", "rvs", "xp")
    }


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    """The artefact of an undisturbed fetch."""
    root = tmp_path_factory.mktemp("whole")
    with Server(Stars(stars())) as tap:
        server, url = archive(data, tap.url)
        made = collect(root, url, Request(ids=IDS, products=PRODUCTS))
        server.shutdown()
        server.server_close()
    return made


def test_every_star_comes_once_with_what_was_asked(whole, data):
    objects = ingest.read_view(whole, "objects")
    assert objects["source_id"].to_pylist() == list(IDS)
    truth = {r["source_id"]: r for r in stars()}
    assert objects["ra"].to_pylist() == [truth[i]["ra"] for i in IDS]
    assert objects.schema.field("ra").metadata[b"unit"] == b"deg"
    metadata = ingest.read_view(whole, "metadata")
    assert metadata["tmass_ambiguous"].to_pylist() == [False] * 40
    np.testing.assert_allclose(metadata["j_m"].to_numpy(), [truth[i]["j_m"] for i in IDS])
    sent = pq.read_table(data / "xp_continuous.parquet")
    xp = ingest.read_view(whole, "xp_coefficients")
    assert xp["source_id"].to_pylist() == sent["source_id"].to_pylist()
    for name in ("bp_coefficients", "rp_coefficient_errors", "rp_coefficient_correlations"):
        np.testing.assert_array_equal(
            np.array(xp[name].to_pylist()), np.array(sent[name].to_pylist())
        )
    assert xp.schema.field("bp_coefficient_correlations").type.list_size == 55 * 54 // 2
    rvs, sent = ingest.read_view(whole, "rvs"), pq.read_table(data / "rvs.parquet")
    assert rvs["source_id"].to_pylist() == sent["source_id"].to_pylist()
    np.testing.assert_array_equal(
        np.array(rvs["flux"].to_pylist()), np.array(sent["flux"].to_pylist())
    )


def test_what_is_not_published_is_absent_not_missing(whole):
    ledger = pq.read_table(whole.path / "ledger.parquet").to_pylist()
    gone = [r for r in ledger if r["status"] == "absent"]
    assert {(r["view"], r["reason"]) for r in gone} == {("rvs", "not_published")}
    assert sorted(r["source_id"] for r in gone) == sorted(IDS[1::2])
    assert whole.manifest.rows["missing"] == 0
    assert len(ledger) == 40 + 40 + 40 + 20 + 20


def test_the_structure_that_worked_is_in_the_manifest(whole):
    assert whole.manifest.notes["service"]["data_structure"] == "RAW"
    assert "DataLink XP_CONTINUOUS: 15 ids" in (whole.path / "queries.adql").read_text()


FAULTS = {
    "500": {"kind": "status", "status": 500, "body": "Error 500: null"},
    "503": {"kind": "status", "status": 503, "retry_after": 0},
    "429": {"kind": "status", "status": 429, "retry_after": 0},
    "rate": {"kind": "rate", "limit": 1, "window": 0.2, "retry_after": 0},
    "html": {"kind": "html200"},
    "reset": {"kind": "reset", "after": 3000},
    "short": {"kind": "short", "after": 3000},
    "truncate": {"kind": "truncate", "after": 3000},
    "corrupt": {"kind": "corrupt"},
    "badsum": {"kind": "badsum"},
    "trickle": {"kind": "trickle", "rate": 2000},
    "stall": {"kind": "stall", "seconds": 2},
}


WORST = ("html", "reset", "truncate", "corrupt", "trickle")
BOTH = [("data-server/data", f) for f in FAULTS] + [("results/result", f) for f in WORST]


@pytest.mark.parametrize(("where", "fault"), BOTH)
def test_no_fault_loses_doubles_or_poisons_a_row(sim, tmp_path, whole, fault, where):
    server, url, _ = sim
    server.faults.set([{"match": where, "skip": 1, "times": 2, **FAULTS[fault]}])
    silent = fault in ("stall", "corrupt") or (where, fault) == ("results/result", "html")
    client = client_of(tmp_path, url, stall=1.0 if silent else 10.0)
    made = collect(tmp_path, url, Request(ids=IDS, products=PRODUCTS), client=client)
    assert shards(made.path) == shards(whole.path)
    assert made.manifest.rows["missing"] == 0
    assert artifacts.faults(made) == []
    from mmclip.surveys.client import cache

    assert cache.faults(tmp_path / "cache") == []
    kept = [p for p in (tmp_path / "cache" / "parts").iterdir() if p.suffix != ".lock"]
    assert kept == []


@pytest.mark.parametrize("where", [r"async$", r"async/[^/]+/phase"])
def test_tap_survives_a_bad_moment(sim, tmp_path, whole, where):
    server, url, _ = sim
    for kind in ("503", "reset"):
        server.faults.set([{"match": where, "times": 2, **FAULTS[kind]}])
        made = collect(tmp_path / kind, url, Request(ids=IDS, products=PRODUCTS))
        assert shards(made.path) == shards(whole.path)


def test_a_chunk_that_always_fails_is_halved_and_the_rest_comes(sim, tmp_path, whole):
    server, url, _ = sim
    # Three tries of the first 15 fail for good: two halves are asked for instead.
    server.faults.set([{"match": "data-server/data", "skip": 1, "times": 4, **FAULTS["500"]}])
    made = collect(tmp_path, url, Request(ids=IDS, products=PRODUCTS))
    assert shards(made.path) == shards(whole.path)
    assert made.manifest.notes["service"]["http"]["chunks_halved"] >= 1


def test_ids_that_never_come_are_listed_and_asked_for_again_later(sim, tmp_path, whole):
    server, url, _ = sim
    gone = IDS[::4]
    held = server.store.dl["XP_CONTINUOUS"]
    kept = {i: held.pop(i) for i in gone}
    request = Request(ids=IDS, products=PRODUCTS)
    made = collect(tmp_path, url, request)
    assert made.manifest.rows["missing"] == len(gone)
    ledger = pq.read_table(made.path / "ledger.parquet").to_pylist()
    lost = {r["source_id"]: r["reason"] for r in ledger if r["status"] == "missing"}
    assert lost == dict.fromkeys(gone, "not_returned")
    held.update(kept)
    again = collect(tmp_path, url, request, retry=True)
    assert again.manifest.rows["missing"] == 0
    xp = ingest.read_view(again, "xp_coefficients")
    assert sorted(xp["source_id"].to_pylist()) == list(IDS)
    assert ingest.read_view(again, "objects")["source_id"].to_pylist() == list(IDS)
    with pytest.raises(MmclipError, match="lacks nothing"):
        collect(tmp_path, url, request, retry=True)


def test_an_id_of_no_star_is_missing_and_the_exit_code_says_partial(sim, tmp_path, monkeypatch):
    _, url, _ = sim
    monkeypatch.setenv("MMCLIP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MMCLIP_GAIA_TAP", f"{url}/tap-server/tap")
    listed = tmp_path / "ids.txt"
    listed.write_text(f"source_id\nGaia DR3 {IDS[0]}\n{IDS[0]}\nEDR3 {IDS[5]}\n12345\n")
    command = ["fetch", "--survey", "gaia-dr3", "--ids", str(listed), "-w", str(tmp_path)]
    config = tmp_path / "c.toml"
    config.write_text("[fetch]\ntap_poll = 0.02\n")
    assert run([*command, "--config", str(config)]) == PARTIAL
    made = artifacts.read(tmp_path / "raw" / "gaia-dr3")
    assert made.manifest.rows["objects"] == 2
    ledger = pq.read_table(made.path / "ledger.parquet").to_pylist()
    assert [r["reason"] for r in ledger if r["status"] == "missing"] == ["not in gaia_source"]
    stamp = (made.path / artifacts.MANIFEST).stat().st_mtime_ns
    assert run([*command, "--config", str(config)]) == PARTIAL  # the same again: nothing to do
    assert (made.path / artifacts.MANIFEST).stat().st_mtime_ns == stamp
    assert run([*command[:-4], "--sample", "3", "-w", str(tmp_path)]) != 0  # another selection


def test_the_sun_does_not_rise_twice_offline(sim, tmp_path, whole):
    _, url, _ = sim
    request = Request(ids=IDS, products=PRODUCTS)
    collect(tmp_path, url, request)
    away = client_of(tmp_path, url)
    away.offline = True
    made = collect(tmp_path, url, request, name="again", client=away)
    assert shards(made.path) == shards(whole.path)
    with pytest.raises(MmclipError, match="--offline"):
        collect(tmp_path, url, Request(sample=3), name="other", client=away)


def test_a_job_outlives_its_client(sim, tmp_path):
    server, url, tap = sim
    server.faults.set([{"match": "phase", "method": "GET", "times": -1, **FAULTS["500"]}])
    text = query.uploaded(DR3, Request(ids=IDS))
    ids = ("source_id", np.array(IDS))
    first = client_of(tmp_path, url, tap_patience=0.5)
    first.jobs = tmp_path / "jobs"
    with pytest.raises(MmclipError, match="did not answer"):
        _tap.run(first, gaia_settings.of(first).tap, text, ids)
    kept = json.loads(next((tmp_path / "jobs").iterdir()).read_bytes())
    assert kept["url"].endswith("/async/j1")
    server.faults.set([])
    second = client_of(tmp_path, url)
    second.jobs = tmp_path / "jobs"
    assert _tap.run(second, gaia_settings.of(second).tap, text, ids).num_rows == 40
    assert second.learned["http"]["tap_reattached"] == 1
    assert len(tap.queries()) == 1
    assert list((tmp_path / "jobs").iterdir()) == []


def test_a_job_that_the_service_forgot_is_asked_again(sim, tmp_path):
    _, url, tap = sim
    client = client_of(tmp_path, url)
    client.jobs = tmp_path / "jobs"
    tap.polls = 10**6
    impatient = client_of(tmp_path, url, tap_job_limit=0.2)
    impatient.jobs = tmp_path / "jobs"
    text = "SELECT g.source_id FROM gaiadr3.gaia_source AS g"
    with pytest.raises(MmclipError, match="still runs"):
        _tap.run(impatient, gaia_settings.of(client).tap, text)
    tap.polls = 0
    tap.jobs.clear()
    assert _tap.run(client, gaia_settings.of(client).tap, text).num_rows == 40
    assert client.learned["http"]["tap_resubmitted"] == 1


def test_an_answer_cut_short_is_asked_in_ranges(sim, tmp_path):
    _, url, tap = sim
    tap.stars.most = 15
    made = collect(tmp_path, url, Request(healpix=(0, (5,))))
    assert ingest.read_view(made, "objects")["source_id"].to_pylist() == list(IDS)
    client = client_of(tmp_path, url)
    with pytest.raises(_tap.CutShort, match="15 rows"):
        _tap.run(client, gaia_settings.of(client).tap, "SELECT g.source_id FROM t AS g")
    tap.stars.most = 10**9
    limit = client_of(tmp_path / "2", url, tap_row_limit=40)
    with pytest.raises(_tap.CutShort):  # exactly the row limit is no coincidence
        _tap.run(limit, gaia_settings.of(limit).tap, "SELECT g.source_id FROM t AS g")


def test_nothing_is_left_behind_by_a_service_out_of_reach(tmp_path):
    settings = quick(tmp_path)
    with pytest.raises(MmclipError) as caught:
        collect(tmp_path, "", Request(), client=Client(**settings, cache=tmp_path / "c"))
    assert caught.value.exit_code == REMOTE
    assert list((tmp_path / "raw").iterdir()) == []


def test_two_processes_do_not_write_one_artefact(tmp_path):
    again = artifacts.locked(tmp_path / "x", "fetch")
    with (
        artifacts.locked(tmp_path / "x", "fetch"),
        pytest.raises(MmclipError, match="another process"),
        again,
    ):
        pass


SCRIPT = """
import sys
sys.path.insert(0, {root!r})
from pathlib import Path
from mmclip.datasets import ingest
from mmclip.surveys import Request, gaia_dr3
from mmclip.surveys.client.http import Client
from tests.services import quick
import json
client = Client(**quick(None, {url!r}, gaia_chunk=5), cache=Path({cache!r}))
request = Request(ids=tuple(json.loads({ids!r})), products={products!r})
ingest.collect(gaia_dr3.SURVEY, request, Path({final!r}), False, client)
"""


@pytest.mark.slow
def test_killed_at_any_moment_the_shards_are_the_same(forks, sim, tmp_path, whole):
    """kill -9 at 4 random moments (MMCLIP_KILLS=20 for the full proof), then the same command."""
    _, url, _ = sim

    def script(root):
        return SCRIPT.format(
            root=str(Path(__file__).parents[2]), ids=json.dumps(IDS), products=PRODUCTS,
            url=url, cache=str(root / "cache"),
            final=str(root / "raw" / "gaia"),
        )  # fmt: skip

    def finish(root):
        done = forks.run(code=script(root))
        assert done.code == 0, done.err
        assert [p.name for p in (root / "raw").iterdir()] == ["gaia"]
        return artifacts.verify(artifacts.read(root / "raw" / "gaia"))

    undisturbed = shards(finish(tmp_path / "undisturbed").path)
    assert len(undisturbed) == 2 + 2 + 8 + 4
    rng = random.Random(3)
    for n in range(int(os.environ.get("MMCLIP_KILLS", "4"))):
        root = tmp_path / str(n)
        child = forks.start(code=script(root))
        with contextlib.suppress(AssertionError):
            wait_until(lambda: (root / "raw").exists() or child.poll() is not None)  # noqa: B023
        time.sleep(rng.uniform(0, 0.7))
        child.kill()
        assert shards(finish(root).path) == undisturbed


def test_of_two_2mass_rows_the_better_measured_stays_and_is_marked():
    import pyarrow as pa

    answer = pa.table(
        {"source_id": [7, 5, 5, 9, 9], "tmass_ph_qual": ["AAA", "UUB", "AAB", None, "EEE"],
         "j_m": [1.0, 2.0, 3.0, 4.0, 5.0]}
    )  # fmt: skip
    kept, more = objects.best_photometry(answer)
    assert kept["source_id"].to_pylist() == [5, 7, 9]
    assert kept["j_m"].to_pylist() == [3.0, 1.0, 5.0]
    assert kept["tmass_ambiguous"].to_pylist() == [True, False, True]
    assert more == 2


# -- DataLink answers

ASTROQUERY = "gaia_dr3_source_id_5937083312263887616_dl_products_{}.zip"


def recorded(kind):
    """An answer of the archive as recorded by astroquery's own tests."""
    import importlib.util

    spec = importlib.util.find_spec("astroquery")
    path = Path(spec.origin).parent / "gaia" / "tests" / "data" / ASTROQUERY.format(kind)
    if not path.exists():
        pytest.skip("astroquery is installed without its test data")
    return path


@pytest.mark.parametrize("name", ["xp", "sampled"])
def test_recorded_answers_in_four_formats_are_the_same_spectrum(name):
    product = KINDS[name]
    column = "bp_coefficients" if name == "xp" else "flux"
    found = {}
    for kind in ("csv", "ecsv", "fits", "vot"):
        table, bad = datalink.finish(datalink.parse(recorded(kind), product, DR3), product)
        assert bad == {}
        assert table["source_id"].to_pylist() == [5937083312263887616]
        found[kind] = np.array(table[column].to_pylist())
        assert found[kind].shape == (1, 55 if name == "xp" else 343)
    for kind in ("csv", "ecsv", "fits"):
        np.testing.assert_allclose(found[kind], found["vot"], rtol=2e-7)


def zip_of(name, body):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        file.writestr(name, body)
    return out.getvalue()


def test_a_star_seen_by_rp_alone_keeps_a_null_half(tmp_path):
    # The one such source of DR3 (5405570973190252288); its BP half is empty in every format.
    head = "source_id,bp_basis_function_id,bp_coefficients,bp_coefficient_errors,rp_coefficients\n"
    for written in ("", "null", '"[]"', '"()"'):
        rows = f'5405570973190252288,null,{written},{written},"(1.0, null, 3.0)"\n'
        path = tmp_path / "x.zip"
        path.write_bytes(zip_of("XP_CONTINUOUS_RAW.csv", head + rows))
        product = KINDS["xp"]
        table, _ = datalink.finish(datalink.parse(path, product, DR3), product)
        row = table.to_pylist()[0]
        assert row["source_id"] == 5405570973190252288
        assert row["bp_coefficients"] is None
        assert row["rp_coefficients"][::2] == [1.0, 3.0]
        assert np.isnan(row["rp_coefficients"][1])
        assert table.schema.field("rp_coefficients").type.list_size == 3


def test_a_coefficient_count_of_another_release_is_taken_as_it_comes(tmp_path):
    cells = ",".join(f'"({", ".join(["1.5"] * n)})"' for n in (51, 51, 51 * 50 // 2, 55))
    names = "bp_coefficients,bp_coefficient_errors,bp_coefficient_correlations,rp_coefficients"
    path = tmp_path / "x.zip"
    path.write_bytes(zip_of("XP_CONTINUOUS_RAW.csv", f"source_id,{names}\n7,{cells}\n"))
    product = KINDS["xp"]
    table, _ = datalink.finish(datalink.parse(path, product, DR3), product)
    sizes = [table.schema.field(n).type.list_size for n in names.split(",")]
    assert sizes == [51, 51, 1275, 55]


def test_ids_not_asked_for_and_doubles_are_dropped_and_counted(tmp_path):
    body = 'source_id,flux,flux_error\n3,"(1)","(1)"\n1,"(1)","(1)"\n3,"(1)","(1)"\n9,"(1)","(1)"\n'
    with Server(routes=[("/data", zip_of("RVS_RAW.csv", body))]) as server:
        settings = quick(tmp_path, gaia_data=server.url)
        client = Client(**settings, cache=tmp_path)
        product = KINDS["rvs"]
        got = datalink.gather(client, product, [1, 2, 3], DR3)
        table, lost = got.table, got.missing
    assert table["source_id"].to_pylist() == [1, 3]
    assert lost == {2: "not_returned"}
    assert client.learned["http"]["repeated_in_answers"] >= 1
    assert client.learned["http"]["not_asked_for"] >= 1
    _, bad = datalink.finish(table, product)
    assert bad == dict.fromkeys([1, 3], "invalid_payload")  # one sample instead of 2401


def test_a_refusal_of_the_structure_tries_its_synonym_once(tmp_path):
    seen = []

    def handler(request, body):
        given = request.fields(body)[0]
        seen.append(given["DATA_STRUCTURE"])
        if given["DATA_STRUCTURE"] != "RAW":
            text = "Invalid Data Structure parameter: valid ones are: RAW, INDIVIDUAL"
            return 500, {}, text.encode()
        return zip_of("RVS_RAW.csv", 'source_id,flux,flux_error\n1,"(1)","(1)"\n')

    with Server(routes=[("/data", handler)]) as server:
        client = Client(
            **quick(tmp_path, gaia_data=server.url, gaia_data_structure="DATAMODEL_GAIA"),
            cache=tmp_path,
        )
        datalink.ask(client, KINDS["rvs"], [1], DR3)
        datalink.ask(client, KINDS["rvs"], [2], DR3)
        assert seen == ["DATAMODEL_GAIA", "RAW", "RAW"]
        client.learned.clear()
        client.own = quick(
            tmp_path, gaia_data=server.url, gaia_data_structure="DATAMODEL_STANDARD"
        )["own"]
        with pytest.raises(Refused):
            datalink.ask(client, KINDS["rvs"], [3], DR3)


# -- bulk files


def test_bulk_files_by_pixel_give_the_wanted_stars_and_a_wrong_sum_is_refused(tmp_path):
    import gzip
    import hashlib

    ids = [5 << 43, (5 << 43) + 9, 700 << 43, (9000 << 43) + 1]
    head = "# %ECSV 1.0\n# ---\nsource_id,solution_id,ra,dec,flux,flux_error\n"
    flux = ",".join(["1.0"] * 2400 + ["null"])

    def packed(rows):
        lines = [f'{i},1,2.0,3.0,"[{flux}]","[{flux}]"' for i in rows]
        return gzip.compress((head + "\n".join(lines) + "\n").encode())

    files = {
        "RvsMeanSpectrum_000000-003111.csv.gz": packed([ids[0], ids[1] + 1, ids[2]]),
        "RvsMeanSpectrum_003112-010000.csv.gz": packed([ids[3]]),
    }
    listing = "".join(f"{hashlib.md5(b).hexdigest()}  {n}\n" for n, b in files.items()).encode()
    base = "/Spectroscopy/rvs_mean_spectrum/"
    broken = [True]

    def first(request, body):
        good = files["RvsMeanSpectrum_000000-003111.csv.gz"]
        if broken.pop() if broken else False:
            return good[:-20] + bytes(20)
        return good

    routes = [
        (base + "_MD5SUM.txt", listing),
        (base + "RvsMeanSpectrum_000000-003111.csv.gz", first),
        (
            base + "RvsMeanSpectrum_003112-010000.csv.gz",
            files["RvsMeanSpectrum_003112-010000.csv.gz"],
        ),
    ]
    rows = [{"source_id": i, "ra": 1.0, "dec": 2.0, "has_rvs": "t"} for i in ids]
    with Server(Stars(rows), routes=routes) as server:
        settings = quick(tmp_path, gaia_tap=f"{server.url}/tap", gaia_bulk=server.url)
        client = Client(**settings, cache=tmp_path / "cache")
        request = Request(ids=tuple(ids), products=("rvs",), bulk=True)
        made = collect(tmp_path, "", request, client=client)
    rvs = ingest.read_view(made, "rvs")
    assert rvs["source_id"].to_pylist() == [ids[0], ids[2], ids[3]]
    assert np.isnan(rvs["flux"].to_pylist()[0][-1])
    ledger = pq.read_table(made.path / "ledger.parquet").to_pylist()
    assert [r["source_id"] for r in ledger if r["status"] == "missing"] == [ids[1]]


def test_usage_faults_are_told_before_anything_is_asked(capsys, tmp_path):
    for arguments, says in [
        (["--products", "xpp"], "did you mean 'xp'"),
        (["--healpix", "4:99999"], "pixels 0 to 3071"),
        (["--healpix", "13:1"], "order is 0 to 12"),
        (["--healpix", "x"], "ORDER:PIXEL"),
        (["--find", "bets"], "best"),
        (["--adql", "DROP TABLE x"], "neither a SELECT nor a file"),
        (["--adql", "select 1", "--cone", "1,2,3"], "--adql and --cone"),
        (["--where", "ruwe < 1.4; DROP TABLE x"], "not COLUMN OPERATOR VALUE"),
    ]:
        code = run(["fetch", "--survey", "gaia-dr3", *arguments, "-w", str(tmp_path), "--dry-run"])
        err = capsys.readouterr().err
        assert code == USAGE, arguments
        assert says in err


def test_hats_beside_the_shards(sim, tmp_path):
    _, url, _ = sim
    made = collect(tmp_path, url, Request(ids=IDS, products=("rvs",)), hats=True)
    files = sorted((made.path / "hats" / "rvs" / "dataset").rglob("Npix=*.parquet"))
    # RA 45 to 47, Dec 0.5 to 2.5, on both sides of the corner of base pixels 0, 4 and 5.
    assert {f.name for f in files} <= {"Npix=0.parquet", "Npix=4.parquet", "Npix=5.parquet"}
    table = pa.concat_tables([pq.read_table(f, partitioning=None) for f in files])
    table = table.sort_by("source_id")
    assert table["source_id"].to_pylist() == list(IDS[::2])
    truth = {r["source_id"]: r["ra"] for r in stars()}
    assert table["ra"].to_pylist() == [truth[i] for i in IDS[::2]]
    assert artifacts.faults(made) == []


def content_sum(folder):
    """SHA-256 of names, types and bits of all columns of a view, whatever its files are like."""
    total = hashlib.sha256()
    for file in sorted(folder.glob("*.parquet")):
        table = pq.read_table(file)
        for name in sorted(table.column_names):
            column = table[name].combine_chunks()
            total.update(f"{name} {column.type}".encode())
            while pa.types.is_list(column.type) or pa.types.is_fixed_size_list(column.type):
                column = column.flatten()
            total.update(json.dumps(column.to_pylist()).encode())
    return total.hexdigest()[:16]


def test_a_fetch_gives_what_it_gave_before_releases_were_described(sim, tmp_path):
    """Sums of what commit ac7fe48 fetched from the same stand-in, before `gaia-dr4` was there."""
    _, url, _ = sim
    products = ("xp", "rvs", "labels", "astrometry", "2mass")
    collect(tmp_path, url, Request(ids=IDS, products=products))
    raw = tmp_path / "raw" / "gaia-dr3"
    found = {n: content_sum(raw / n) for n in ("objects", "metadata", "xp_coefficients", "rvs")}
    assert found == {
        "objects": "df1db45b6c134fb3", "metadata": "4a5f51cacc1a8a93",
        "xp_coefficients": "3c0413c1390db4bc", "rvs": "786abed958162821",
    }  # fmt: skip
