"""The command line as a user types it: answers, refusals, exit codes."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmclip.cli import COMMANDS, run
from mmclip.errors import INTEGRITY, REMOTE, USAGE
from tests.conftest import fetch_made, made_stars

DOCS = Path(__file__).parents[2] / "docs"


def ask(capsys, *arguments):
    """Exit code, standard output and standard error of one command line."""
    capsys.readouterr()
    code = run([str(a) for a in arguments])
    shown = capsys.readouterr()
    return code, shown.out, shown.err


def first_id(root):
    table = pq.read_table(root / "vectors" / "metadata-xp" / "vectors.parquet")
    return table["source_id"][0].as_py()


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_and_a_page_that_names_its_options(name, capsys):
    code, out, _ = ask(capsys, name, "--help")
    assert code == 0
    page = (DOCS / "commands" / f"{name}.md").read_text()
    for option in set(re.findall(r"--[a-z][a-z-]+", out)):
        assert option in page, f"{option} is not in docs/commands/{name}.md"


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from mmclip.cli import run; run(['--help']);"
        "heavy = {'torch', 'umap', 'datasets', 'astropy', 'faiss', 'matplotlib', 'sklearn',"
        " 'pyarrow', 'numpy'};"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_search_over_stored_vectors_imports_no_torch(trained):
    code = (
        "import sys; from mmclip.cli import run;"
        f"assert run(['search', '--query-id', '{first_id(trained)}', '-w', {str(trained)!r}]) == 0;"
        "sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_search_answers_as_brute_force_does(trained, capsys):
    table = pq.read_table(trained / "vectors" / "metadata-xp" / "vectors.parquet")
    ids = table["source_id"].to_numpy()
    vectors = np.array(table["xp"].to_pylist())
    query = 17
    cosine = vectors @ vectors[query]
    cosine[query] = -np.inf
    truth = ids[np.argsort(-cosine)[:5]].tolist()
    code, out, _ = ask(
        capsys, "search", "--query-id", ids[query], "--from", "xp", "-k", 5, "--json", "-w", trained
    )
    assert code == 0
    assert [int(json.loads(line)["source_id"]) for line in out.splitlines()] == truth


def test_the_exact_backend_answers_as_faiss_does(trained, capsys, monkeypatch):
    pytest.importorskip("faiss")
    command = ("search", "--query-id", first_id(trained), "--from", "metadata", "--to", "xp",
               "--json", "-w", trained)  # fmt: skip
    _, with_faiss, _ = ask(capsys, *command)
    monkeypatch.setattr("mmclip.vectors.index.have_faiss", lambda: False)
    _, without, _ = ask(capsys, *command)
    assert [json.loads(x)["source_id"] for x in with_faiss.splitlines()] == [
        json.loads(x)["source_id"] for x in without.splitlines()
    ]


def test_knn_finds_the_temperature_of_planck_stars(trained, capsys):
    code, out, _ = ask(
        capsys, "knn", "--target", "teff", "--modality", "xp", "--json", "-w", trained
    )
    assert code == 0
    rows = {json.loads(x)["method"].split(",")[0]: json.loads(x) for x in out.splitlines()}
    assert rows["k-NN"]["R2"] > 0.9
    assert rows["mean of the training stars"]["R2"] < 0.1


def test_outliers_of_a_class_are_of_that_class(trained, capsys):
    code, out, _ = ask(capsys, "outliers", "--class", "ROT", "--json", "--top", 400, "-w", trained)
    assert code == 0
    objects = pq.read_table(trained / "data" / "made" / "objects.parquet")
    kind = dict(zip(objects["source_id"].to_pylist(), objects["class"].to_pylist(), strict=True))
    listed = [int(json.loads(line)["source_id"]) for line in out.splitlines()]
    assert {kind[i] for i in listed} == {"ROT"}
    assert len(listed) == sum(c == "ROT" for c in kind.values())


def test_generate_compares_with_baselines_and_writes_a_star(trained, capsys, tmp_path):
    code, out, _ = ask(
        capsys, "generate", "--from", "metadata", "--to", "xp", "--json", "-w", trained
    )
    assert code == 0
    rows = {json.loads(x)["method"]: json.loads(x)["median fraction"] for x in out.splitlines()}
    assert rows["decoder"] < rows["mean of the training stars"]
    file, picture = tmp_path / "star.fits", tmp_path / "star.png"
    code, _, _ = ask(
        capsys, "generate", "--from", "metadata", "--to", "xp", "--query-id", first_id(trained),
        "-o", file, "--plot", picture, "-w", trained,
    )  # fmt: skip
    assert code == 0
    from astropy.table import Table

    made = Table.read(file)
    assert len(made) == 311
    assert int(made.meta["SOURCEID"]) == first_id(trained)
    assert picture.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


@pytest.mark.parametrize("suffix", ["csv", "parquet", "fits", "vot", "ecsv"])
def test_ids_survive_every_output_format(trained, capsys, tmp_path, suffix):
    file = tmp_path / f"out.{suffix}"
    assert ask(capsys, "search", "--query-id", first_id(trained), "-o", file, "-w", trained)[0] == 0
    from astropy.table import Table

    table = pq.read_table(file).to_pandas() if suffix == "parquet" else None
    got = table["query_id"] if table is not None else Table.read(file)["query_id"]
    assert {int(i) for i in got} == {first_id(trained)}
    assert not list(tmp_path.glob(".tmp-*"))


def test_verify_finds_and_names_a_flipped_byte(trained, capsys, tmp_path):
    import shutil

    assert ask(capsys, "verify", "-w", trained)[0] == 0
    shutil.copytree(trained, tmp_path / "w")
    # What begins with a dot is unfinished work, of other tests too.
    for file in sorted((tmp_path / "w").glob("*/[!.]*/**/*")):
        if not file.is_file() or file.name == "manifest.json":
            continue
        body = file.read_bytes()
        if not body:
            continue
        file.write_bytes(body[:-1] + bytes([body[-1] ^ 1]))
        code, out, err = ask(capsys, "verify", "-w", tmp_path / "w")
        assert code == INTEGRITY
        assert file.name in out
        assert re.search(r"1 of \d+", err)
        file.write_bytes(body)


def test_a_damaged_file_stops_every_command_that_reads_it(trained, capsys, tmp_path):
    import shutil

    shutil.copytree(trained, tmp_path / "w")
    file = tmp_path / "w" / "vectors" / "metadata-xp" / "vectors.parquet"
    body = bytearray(file.read_bytes())
    body[len(body) // 2] ^= 1
    file.write_bytes(bytes(body))
    code, _, err = ask(capsys, "outliers", "--vectors", "metadata-xp", "-w", tmp_path / "w")
    assert code == INTEGRITY
    assert "vectors.parquet" in err


def test_info_describes_every_artefact(trained, capsys):
    code, out, _ = ask(capsys, "info", "-w", trained)
    assert code == 0
    assert all(kind in out for kind in ("raw", "data", "run", "vectors"))
    for place in trained.glob("*/[!.]*"):
        code, out, _ = ask(capsys, "info", place, "--json")
        assert code == 0
        assert json.loads(out)["files"]


BAD = [
    (("train", "--modalities", "xp,rvx"), USAGE, "no modality 'rvx'", "rvs"),
    (("train", "--modalities", "rvs,xp"), USAGE, "holds no rvs", "mmclip preprocess"),
    (("preprocess", "--modalities", "xq", "--force"), USAGE, "'xq'", "xp"),
    (("search",), USAGE, "a star to start from", "--query-id"),
    (("search", "--query-id", "12"), USAGE, "12 is not among", "an id that is there"),
    (("search", "--query-id", "4.2958067e9"), USAGE, "float", "int64"),
    (("search", "--query-id", "Gaia DR2 4295806720"), USAGE, "DR2", "dr2_neighbourhood"),
    (("search", "--query-id", "Vega"), USAGE, "'Vega' is not a Gaia source_id", "digits"),
    (("search", "--query-id", "1", "--from", "xpp"), USAGE, "no vectors of 'xpp'", "xp"),
    (("knn", "--target", "tef"), USAGE, "'tef'", "teff"),
    (("knn", "--weights", "cubic"), USAGE, "cubic", "uniform"),
    (("outliers", "--class", "ROTT"), USAGE, "no star of class 'ROTT'", "ROT"),
    (("generate", "--from", "metadata", "--to", "rvs"), USAGE, "no vectors of 'rvs'", "xp"),
    (("fetch", "--survey", "gaia-dr9"), USAGE, "no survey 'gaia-dr9'", "gaia-dr4"),
    (("fetch", "--survey", "gaia-dr3", "--cone", "1,2"), USAGE, "--cone '1,2'", "56.75"),
    (("fetch", "--survey", "demo", "--ids", "nofile"), USAGE, "no file nofile", "--ids"),
    (("train", "--config", "nofile.toml"), USAGE, "nofile.toml", ""),
    (("info", "/"), USAGE, "not an artefact", "mmclip info"),
    (("embed", "--run", "nosuch"), USAGE, "no run artefact 'nosuch'", "mmclip train"),
    (("train", "--device", "abacus", "--name", "x"), USAGE, "abacus", "cpu"),
    (("demo", "--starz", "3"), USAGE, "starz", ""),
]


@pytest.mark.parametrize(("arguments", "code", "says", "hint"), BAD, ids=lambda v: str(v)[:40])
def test_bad_input_gets_one_clear_sentence(arguments, code, says, hint, trained, capsys):
    before = sorted(p for p in trained.rglob("*") if ".partial" not in str(p))
    where = [] if arguments[0] in ("info",) else ["-w", trained]
    got, _, err = ask(capsys, *arguments, *where)
    assert got == code, err
    assert says in err
    assert hint in err
    assert "Traceback" not in err
    assert sorted(p for p in trained.rglob("*") if ".partial" not in str(p)) == before


@pytest.mark.parametrize(
    "arguments",
    [
        ("train", "--modalities", "rvs,xp"),
        ("search", "--query-id", "4295806720"),
        ("outliers", "--class", "ROT"),
        ("preprocess",),
        ("embed",),
        ("verify",),
    ],
)
def test_an_empty_workspace_names_the_command_that_fills_it(arguments, tmp_path, capsys):
    code, _, err = ask(capsys, *arguments, "-w", tmp_path)
    assert code == USAGE
    assert "mmclip " in err.split("try:")[1]
    assert list(tmp_path.iterdir()) == []


def test_fetch_from_gaia_out_of_reach_is_a_remote_error(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("MMCLIP_GAIA_TAP", "http://127.0.0.1:9/tap")
    code, _, err = ask(capsys, "fetch", "--survey", "gaia-dr3", "-w", tmp_path)
    assert code == REMOTE
    assert "did not answer" in err
    assert list((tmp_path / "raw").iterdir()) == []


def test_dry_run_prints_the_query_and_sends_nothing(capsys):
    code, out, _ = ask(
        capsys, "fetch", "--survey", "gaia-dr3", "--sample", 50, "--products", "labels", "--dry-run"
    )  # fmt: skip
    assert code == 0
    low, high = map(int, re.search(r"random_index BETWEEN (\d+) AND (\d+)", out).groups())
    assert high - low == 49


def test_a_plain_sample_of_gaia_has_the_spectra_that_training_needs(capsys):
    code, out, _ = ask(capsys, "fetch", "--survey", "gaia-dr3", "--dry-run")
    assert code == 0
    for flag in ("has_xp_continuous", "has_rvs"):
        assert f"g.{flag} = 't'" in out
    for kind in ("XP_CONTINUOUS", "RVS"):
        assert f"RETRIEVAL_TYPE={kind}" in out


def test_an_unknown_key_of_a_configuration_names_the_nearest(trained, capsys, tmp_path):
    toml = tmp_path / "c.toml"
    toml.write_text("[train]\nepoch = 3\n")
    code, _, err = ask(capsys, "train", "--config", toml, "--name", "x", "-w", trained)
    assert code == USAGE
    assert "did you mean 'epochs'" in err


def test_nan_rows_are_counted_and_skipped(tmp_path, capsys):
    fetched = made_stars(60)
    flux = np.array(fetched.tables["xp"]["flux"].to_pylist(), "f4")
    flux[:7] = np.nan
    xp = fetched.tables["xp"]
    place = xp.column_names.index("flux")
    array = pa.FixedSizeListArray.from_arrays(pa.array(flux.reshape(-1)), 343)
    fetched.tables["xp"] = xp.set_column(place, "flux", array)
    fetch_made(tmp_path, fetched)
    code, out, _ = ask(capsys, "preprocess", "-w", tmp_path)
    assert code == 0
    assert re.search(r"rejected xp: fewer than half of the pixels are good\D+7\b", out)
    rejects = pq.read_table(tmp_path / "data" / "made" / "rejects.parquet")
    assert rejects.num_rows == 7
    assert pq.read_table(tmp_path / "data" / "made" / "xp.parquet").num_rows == 53


def test_a_table_of_only_bad_rows_is_refused(tmp_path, capsys):
    fetched = made_stars(5)
    for view in ("xp", "metadata"):
        table = fetched.tables[view]
        for name in table.column_names[1:]:
            values = np.full(np.array(table[name].to_pylist()).shape, np.nan, "f4")
            array = pa.array(values.reshape(-1))
            if values.ndim == 2:
                array = pa.FixedSizeListArray.from_arrays(array, values.shape[1])
            table = table.set_column(table.column_names.index(name), name, array)
        fetched.tables[view] = table
    fetch_made(tmp_path, fetched)
    code, _, err = ask(capsys, "preprocess", "-w", tmp_path)
    assert code == USAGE
    assert "no object" in err
    assert not (tmp_path / "data" / "made").exists()


def test_labels_give_classes(trained, capsys, tmp_path):
    ids = pq.read_table(trained / "data" / "made" / "objects.parquet")["source_id"].to_pylist()
    file = tmp_path / "mine.csv"
    file.write_text("source_id,class\n" + "".join(f"{i},RRAB\n" for i in ids[:9]))
    code, _, _ = ask(capsys, "preprocess", "--labels", file, "--name", "labelled", "-w", trained)
    assert code == 0
    place = trained / "data" / "labelled"
    classes = pq.read_table(place / "objects.parquet")["class"].to_pylist()
    assert classes.count("RRAB") == 9
    import shutil

    shutil.rmtree(place)


def test_labels_whose_ids_went_through_a_float_are_refused(trained, capsys, tmp_path):
    file = tmp_path / "mine.csv"
    file.write_text("source_id,class\n4.611686018427388e18,ROT\n")
    code, _, err = ask(capsys, "preprocess", "--labels", file, "--name", "y", "-w", trained)
    assert code == USAGE
    assert "float" in err
    assert not (trained / "data" / "y").exists()
