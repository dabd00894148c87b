"""`mmclip doctor --services`: assumptions against answers of loopback services."""

import json
import tomllib

import pytest

from mmclip import plugins
from mmclip.cli import run
from mmclip.errors import REMOTE
from mmclip.surveys import settings
from mmclip.surveys.gaia.probe import STAR
from tests.loopback import Server, Stars, stars, tables
from tests.surveys.test_gaia_releases import REAL, service


@pytest.fixture
def live():
    row = {**stars()[0], "source_id": STAR}
    seen = []
    routes = [
        ("/data", service("dr3", seen)),
        ("/tap/tables", tables(gaiadr4_1={"gaia_source": REAL})),
        ("/api/version/", (404, {}, b"")), ("/sparc/version/", b"14.2"),
        ("/mws.fits", (200, {"X-Y": "1"}, b"x" * 10)),
        ("/openapi/dr_versions", json.dumps(
            [{"dr_version": "dr10", "sub_version": "v2.0", "public_status": "public"}]).encode()),
        ("/get_block_servers", b'["a", "b"]'),
    ]  # fmt: skip
    with Server(Stars([row]), routes) as server:
        yield server


def config_of(tmp_path, url):
    path = tmp_path / "c.toml"
    path.write_text(
        f"[fetch]\npace = 0.0\ntap_poll = 0.02\nbackoff = 0.01\nconnect = 1.0\n"
        f'[gaia-dr3]\ntap = "{url}/tap"\ndata = "{url}"\ndata_structure = "DATAMODEL_GAIA"\n'
        f'[gaia-dr4]\ntap = "{url}/tap"\n[lamost]\nurl = "{url}"\n[desi]\nsparcl = "{url}/api"\n'
        f'catalogue = "{url}/mws.fits"\n[asassn]\nskypatrol = "{url}"\n'
    )
    return path


SURVEYS = ("gaia-dr3", "gaia-dr4", "lamost", "desi", "asassn")


def test_each_assumption_is_compared_and_what_differs_is_written_down(
    live, tmp_path, capsys, monkeypatch
):
    monkeypatch.setenv("MMCLIP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MMCLIP_LAMOST_TOKEN", "s3cret")
    chosen = [o for s in SURVEYS for o in ("--survey", s)]
    command = ["doctor", "--services", *chosen, "--config", str(config_of(tmp_path, live.url)),
               "--write-settings", str(tmp_path / "learned.toml"),
               "--record", str(tmp_path / "answers.json"), "--json"]  # fmt: skip
    assert run(command) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    verdicts = {(r["survey"], r["assumption"].split(" http")[0]): r["verdict"] for r in rows}
    assert verdicts["gaia-dr3", "DataLink takes DATA_STRUCTURE=DATAMODEL_GAIA"] == "differs"
    assert verdicts["gaia-dr4", "its tables lie in gaiadr4"] == "differs"
    assert verdicts["lamost", "dr10/v2.0 is public (no token)"] == "holds"
    assert verdicts["desi", "SPARCL answers at"] == "differs"
    assert verdicts["asassn", "Sky Patrol answers at"] == "holds"
    learned = tomllib.loads((tmp_path / "learned.toml").read_text())
    assert learned == {
        "gaia-dr3": {"data_structure": "RAW"}, "gaia-dr4": {"schema": "gaiadr4_1"},
        "desi": {"sparcl": f"{live.url}/sparc"},
    }  # fmt: skip
    settings.read(tmp_path / "learned.toml")  # a file that --config takes
    record = (tmp_path / "answers.json").read_text()
    assert "s3cret" not in record
    told = json.loads(record)
    assert {a["status"] for a in told["answers"]} >= {200, 404}
    assert len(told["findings"]) == len(rows)


def test_a_service_out_of_reach_leaves_everything_unknown(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("MMCLIP_CACHE", str(tmp_path / "cache"))
    config = config_of(tmp_path, "http://127.0.0.1:9")
    command = ["doctor", "--services", "--survey", "lamost", "--survey", "desi", "--config",
               str(config), "--json"]  # fmt: skip
    assert run(command) == REMOTE
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {r["verdict"] for r in rows} == {"unknown"}


@pytest.mark.parametrize("name", [n for n in plugins.names("surveys") if n != "demo"])
def test_every_survey_of_the_network_can_be_asked(name):
    it = plugins.load("surveys", name, "SURVEY")
    assert it.probe is not None or name == "desi-galaxies"
