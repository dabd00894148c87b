"""Which stars: lists of ids in every form, cuts that stay cuts, dry runs; cite and cache."""

import io
import json
import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.table import Table
from hypothesis import given
from hypothesis import strategies as st

from mmclip import cuts, plugins
from mmclip.cli import run
from mmclip.errors import INTEGRITY, USAGE, MmclipError, NotFound, UsageError
from mmclip.surveys import Request, gaia_dr3, id_list, references
from mmclip.surveys.gaia.dr3 import DR3
from mmclip.surveys.gaia.query import selecting
from mmclip.surveys.gaia.settings import Settings
from tests.conftest import fetch_made, made_stars

BIG = 2**53 + 1
IDS = (BIG, 4295806720, 5937083312263887616)


@pytest.mark.parametrize(
    "kind", ["txt", "csv", "csv.gz", "ecsv", "fits", "vot", "parquet", "stdin"]
)
def test_a_list_in_any_form_holds_the_same_ids(tmp_path, kind, monkeypatch):
    path = tmp_path / f"ids.{kind}"
    if kind == "txt":
        path.write_text(
            f"# mine\nsource_id\n{IDS[0]}\nGaia DR3 {IDS[1]}\n\n EDR3 {IDS[2]}\n{IDS[0]}\n"
        )
    elif kind == "stdin":
        text = "\n".join(f"Gaia EDR3 {i}" for i in (*IDS, IDS[0]))
        monkeypatch.setattr("sys.stdin", io.StringIO(text))
        path = "-"
    elif kind == "parquet":
        pq.write_table(pa.table({"x": [1] * 4, "source_id": [*IDS, IDS[0]]}), path)
    else:
        table = Table({"x": [1.0] * 4, "SOURCE_ID": np.array([*IDS, IDS[0]])})
        form = {"fits": "fits", "vot": "votable", "ecsv": "ascii.ecsv"}.get(kind, "ascii.csv")
        if kind == "csv.gz":
            import gzip

            out = io.StringIO()
            table.write(out, format="ascii.csv")
            path.write_bytes(gzip.compress(out.getvalue().encode()))
        else:
            table.write(path, format=form)
    from pathlib import Path

    found = id_list.read(Path(path))
    assert found.dr3 == IDS
    assert found.repeated == 1


def test_an_empty_cell_does_not_turn_ids_into_floats(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text(f"name,source_id\na,{BIG}\nb,\nc,{BIG + 1}\n")
    assert id_list.read(path).dr3 == (BIG, BIG + 1)
    pq.write_table(pa.table({"source_id": [float(BIG)]}), tmp_path / "x.parquet")
    with pytest.raises(UsageError, match="floats"):
        id_list.read(tmp_path / "x.parquet")


def test_dr2_ids_are_kept_apart(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("dr2_source_id\n12\n13\n")
    assert id_list.read(path) == id_list.Ids((), (12, 13), 0)
    assert id_list.parse(["Gaia DR2 5", "DR2 5", "7"]) == id_list.Ids((7,), (5,), 1)


@pytest.mark.parametrize("text", ["", "Vega\n", "../../etc\n", "1.5e18\n", "DR1 5\n", "DR2 x\n"])
def test_what_holds_no_ids_is_refused(tmp_path, text):
    path = tmp_path / "x.txt"
    path.write_text(text)
    with pytest.raises(MmclipError):
        id_list.read(path)


def test_a_cut_becomes_adql():
    made = cuts.adql("ruwe < 1.4 and has_rvs = true AND parallax>=1e1", DR3.columns.cuttable)
    assert made == "g.ruwe < 1.4 AND g.has_rvs = 't' AND g.parallax >= 10.0"
    made = cuts.adql("phot_variable_flag != 'NOT_AVAILABLE'", DR3.columns.cuttable)
    assert made == "g.phot_variable_flag <> 'NOT_AVAILABLE'"


@pytest.mark.parametrize(
    "text",
    ["ruwe < 1 OR 1=1", "ruwe = '1' --", "ruwe = 'a''; DROP TABLE x'", "ruwe = 1/**/", "1 = 1",
     "phot_variable_flag = \"x' OR '1'='1\"", "(select 1) = 1", "ruwe IN (1,2)", "nosuch = 1",
     "ruwe = '--'", "ruwe = 1;", "ruwe", ""],
)  # fmt: skip
def test_nothing_else_gets_through(text):
    with pytest.raises((UsageError, NotFound)):
        cuts.adql(text, DR3.columns.cuttable)


@given(st.text(max_size=60))
def test_no_text_leaves_its_quotes(text):
    """Whatever is typed: what is sent is a list of comparisons of known columns."""
    import re

    try:
        made = cuts.adql(f"ruwe = {text}", DR3.columns.cuttable)
    except MmclipError:
        return
    for part in made.split(" AND "):
        assert re.fullmatch(
            r"g\.\w+ (<=|>=|<>|=|<|>) ('[\w .,:+*/()-]*'|-?[\d.]+(e[+-]?\d+)?)", part
        )
        assert "--" not in part
        assert "/*" not in part


def test_a_pixel_is_a_range_of_ids():
    # Level 4, pixel 100: source_id // 2^51 is the level-4 pixel (Gaia DR3 documentation).
    text = selecting(DR3, Request(healpix=(4, (100,))), Settings())
    assert "BETWEEN 225179981368524800 AND 227431781182210047" in text


def test_a_sample_with_spectra_asks_for_stars_that_have_them():
    text = selecting(DR3, Request(sample=50, products=("xp", "rvs")), Settings())
    assert "TOP 50" in text
    assert "g.has_xp_continuous = 't' AND g.has_rvs = 't'" in text
    assert text == selecting(DR3, Request(sample=50, products=("xp", "rvs")), Settings())


@pytest.mark.parametrize(
    ("arguments", "rows"),
    [(["--sample", "50"], "50"), (["--healpix", "0:1"], "about 150,975,814"),
     (["--where", "ruwe < 1.4"], "about "), (["--adql", "select source_id from t"], "unknown")],
)  # fmt: skip
def test_a_dry_run_tells_queries_rows_and_bytes(capsys, arguments, rows):
    code = run(
        ["fetch", "--survey", "gaia-dr3", *arguments, "--products", "rvs,2mass", "--dry-run"]
    )
    out = capsys.readouterr().out
    assert code == 0
    assert f"rows to expect: {rows}" in out
    assert "gaiadr1.tmass_original_valid" in out
    assert "RETRIEVAL_TYPE=RVS" in out


def test_a_dry_run_of_other_surveys(capsys, tmp_path):
    config = tmp_path / "c.toml"
    config.write_text('[asassn]\ncatalogue_v = "v.csv"\n')
    surveys = ["asassn", "lamost:dr9", "desi:edr", "apogee", "demo"]
    options = [o for s in surveys for o in ("--survey", s)]
    assert run(["fetch", *options, "--dry-run", "--config", str(config)]) == 0
    out = capsys.readouterr().out
    assert "v.csv" in out
    assert "dr9_v2.0_LRS_stellar" in out
    assert "mwsall-pix-fuji" in out
    config.write_text("[fetch]\nchnuk = 3\n")
    assert run(["fetch", "--survey", "gaia-dr3", "--dry-run", "--config", str(config)]) == USAGE
    assert "did you mean 'chunk'" in capsys.readouterr().err


# -- cite and cache


@pytest.mark.parametrize("name", plugins.names("surveys"))
def test_every_citation_of_a_survey_is_known(name):
    it = plugins.load("surveys", name, "SURVEY")
    keys = {*it.citations, *(c for more in it.products.values() for c in more)}
    for bibcode in keys:
        entry = references.read(it.references)[references.key(bibcode)]
        known = dict(re.findall(r"^  (\w+) = \{(.*)\},?$", entry, re.MULTILINE))
        assert bibcode.startswith(known["year"])
        assert known.get("volume", "") in bibcode
        assert references.entries([bibcode]) == [entry]
        assert entry.count("{") == entry.count("}")
    assert references.thanks([name], [])


def test_cite_names_what_was_fetched_and_nothing_else(tmp_path, capsys):
    fetch_made(tmp_path, made_stars(10))
    path = tmp_path / "raw" / "made" / "manifest.json"
    assert run(["cite", "-w", str(tmp_path)]) == 0  # a survey without citations
    assert "@" not in capsys.readouterr().out
    del path
    assert run(["cite", "-w", str(tmp_path / "none")]) == USAGE
    named = gaia_dr3.SURVEY
    from mmclip.datasets import ingest

    with_rvs = ingest._named(named, Request(products=("rvs",)))[0]["citations"]
    assert "2023A&A...674A...5K" in with_rvs
    assert "2010AJ....140.1868W" not in with_rvs
    assert (
        "2010AJ....140.1868W" in ingest._named(named, Request(products=("wise",)))[0]["citations"]
    )


def test_the_cache_is_listed_verified_and_cleared(tmp_path, capsys):
    from mmclip.surveys.client import cache

    part = tmp_path / "part"
    for n, service in enumerate(("tap", "datalink", "datalink")):
        part.write_bytes(b"body %d" % n)
        key = cache.key("GET", f"http://x/{n}", None)
        sum_ = cache.artifacts.sha256(part)
        cache.store(tmp_path, part, cache.Entry(key, service, f"http://x/{n}", sum_, 6, "2026"))
    where = ["--cache", str(tmp_path)]
    assert run(["cache", "ls", "--json", *where]) == 0
    lines = [json.loads(x) for x in capsys.readouterr().out.splitlines()]
    assert sorted(x["service"] for x in lines) == ["datalink", "datalink", "tap"]
    assert run(["cache", "verify", *where]) == 0
    body = next((tmp_path / "objects").rglob("*/*"))
    body.write_bytes(b"poison")
    assert run(["cache", "verify", *where]) == INTEGRITY
    assert run(["cache", "clear", "--service", "datalink", *where]) == 0
    assert len(list(cache.entries(tmp_path))) == 1
    assert run(["cache", "clear", *where]) == 0
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]
    assert run(["cache", "celar", *where]) == USAGE
    assert "did you mean 'clear'" in capsys.readouterr().err
