"""What strangers may put into files and names: nothing is run, followed, or shown as it stands."""

import ast
import csv
import gzip
import html.parser
import io
import json
import os
import pickle
import struct
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from astropy.io import fits

from mmclip import artifacts, cuts, plots, plugins
from mmclip.artifacts import read_limit
from mmclip.cli import output, run
from mmclip.clip.run import open_run
from mmclip.datasets.labels import read_labels
from mmclip.encoders import weights
from mmclip.encoders.tensors import read_tensors
from mmclip.errors import INTEGRITY, IntegrityError, MmclipError, UsageError, hidden, visible
from mmclip.readers import tables
from mmclip.report import Section, page, sky
from mmclip.surveys import catalogue, galaxies, id_list
from mmclip.surveys.client import cache, checks
from mmclip.surveys.client.http import BadAnswer
from mmclip.training import checkpoint
from tests import made_files
from tests.readers.test_hostile import Harm

SOURCES = sorted((Path(__file__).parents[1] / "mmclip").rglob("*.py"))
RUNS = ("pickle.load", "pickle.loads", "joblib.load", "yaml.load", "eval", "exec", "marshal.loads",
        "shelve.open", "dill.load", "os.system")  # fmt: skip
EVIL = "<img src=x onerror=alert(1)></script><script>alert(2)</script>\x1b]0;owned\x07"


@pytest.mark.parametrize("file", SOURCES, ids=lambda f: f.stem)
def test_no_code_that_could_run_a_file(file):
    for node in ast.walk(ast.parse(file.read_text())):
        if not isinstance(node, ast.Call):
            continue
        name, words = ast.unparse(node.func), {k.arg: ast.unparse(k.value) for k in node.keywords}
        assert name not in RUNS, f"{file.name}:{node.lineno} calls {name}"
        if name == "torch.load":
            assert words.get("weights_only") == "True", f"{file.name}:{node.lineno}"
        assert words.get("allow_pickle", "False") == "False", f"{file.name}:{node.lineno}"
        assert words.get("shell", "False") == "False", f"{file.name}:{node.lineno}"


@pytest.mark.parametrize("name", ["w.pt", "w.pth", "w.bin"])
def test_weights_with_a_program_in_them_are_not_loaded(tmp_path, name):
    torch.save({"state_dict": {"fc.weight": torch.ones(2)}, "x": Harm()}, tmp_path / name)
    with pytest.raises(UsageError, match="not a file of weights"):
        weights.read(tmp_path / name)


@pytest.mark.parametrize("body", [b"\x80\x02h\xff.", b"\x80\x02}K\x01s.", b"\x80\x02K\x01a."])
def test_a_damaged_file_of_weights_is_refused(tmp_path, body):
    (tmp_path / "w.pt").write_bytes(body)  # what was never kept, one value of two, no list
    with pytest.raises(UsageError, match="not a file of weights"):
        weights.read(tmp_path / "w.pt")


def test_a_catalogue_that_lost_its_beginning_is_no_text(tmp_path):
    path = tmp_path / "k.csv.gz"
    rows = "".join(f"{i},{i * 7 % 13}\n" for i in range(400))
    path.write_bytes(gzip.compress(f"source_id,teff\n{rows}".encode())[9:])
    with pytest.raises(IntegrityError, match="is no text: its first line"):
        catalogue.text_columns(path)


def test_a_checkpoint_whose_sum_is_not_there_is_not_believed(tmp_path):
    checkpoint.write(tmp_path, 3, {"w": torch.ones(2)}, {})
    body, _ = checkpoint.read(tmp_path)
    assert body["step"] == 3
    file = tmp_path / "latest.json"
    file.write_bytes(file.read_bytes().replace(b'"sum"', b'"stm"'))
    assert checkpoint.read(tmp_path) is None


@pytest.mark.parametrize("suffix", [".pt", ".parquet", ".fits", ".vot", ".ecsv", ".txt"])
def test_a_pickle_by_any_name_is_not_loaded(tmp_path, suffix):
    path = tmp_path / f"labels{suffix}"
    path.write_bytes(pickle.dumps(Harm()))
    for reader in (weights.read, read_labels, id_list.read):
        with pytest.raises(MmclipError):
            reader(path)


def safetensors(header, body=b""):
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


@pytest.mark.parametrize(
    "body",
    [
        struct.pack("<Q", 2**60) + b"{}",
        safetensors({"w": {"dtype": "F32", "shape": [10**12], "data_offsets": [0, 4]}}, bytes(4)),
        safetensors({"w": {"dtype": "F32", "shape": [2**62, 4], "data_offsets": [0, 8]}}, bytes(8)),
        safetensors({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 10**12]}}, bytes(4)),
        safetensors({"w": {"dtype": "F32", "shape": [1], "data_offsets": [-4, 0]}}, bytes(4)),
    ],
)
def test_safetensors_that_state_absurdly_much_are_refused(tmp_path, body):
    path = tmp_path / "w.safetensors"
    path.write_bytes(body)
    with pytest.raises(IntegrityError, match="not a whole safetensors"):
        read_tensors(path)


def resealed(folder, name, body):
    """Put other content into an artefact and a manifest that fits it."""
    (folder / name).write_bytes(body)
    m = artifacts.read(folder).manifest
    return artifacts.seal(
        folder, m.kind, config=m.config, parents=m.parents, rows=m.rows, surveys=m.surveys,
        provenance=m.provenance, seed=m.seed, notes=m.notes,
    )  # fmt: skip


@pytest.fixture
def copied(trained, tmp_path):
    """The trained workspace, to be spoilt."""
    import shutil

    shutil.copytree(trained, tmp_path / "work")
    return tmp_path / "work"


def only(folder):
    """The one artefact of a folder."""
    return next(p for p in folder.iterdir() if (p / "manifest.json").is_file())


def test_an_index_that_states_absurdly_many_vectors_takes_no_memory(copied, capsys):
    faiss = pytest.importorskip("faiss")
    flat = faiss.IndexFlatIP(8)
    flat.add(np.ones((4, 8), "f4"))
    body = bytearray(faiss.serialize_index(flat).tobytes())
    size = struct.pack("<Q", 4 * 8 * 4 // 4)
    place = max(body.rfind(size), body.rfind(struct.pack("<Q", 4 * 8 * 4)))
    body[place : place + 8] = struct.pack("<Q", 2**36)  # floats or bytes: 64 GiB or more
    store = only(copied / "vectors")
    name = next(n for n in artifacts.read(store).manifest.files if n.endswith(".faiss"))
    resealed(store, name, bytes(body))
    view = Path(name).stem
    some = str(pq.read_table(store / "vectors.parquet")["source_id"][0])
    code = run(["search", "--query-id", some, "--from", view, "--to", view, "-w", str(copied)])
    assert code == INTEGRITY
    assert "FAISS" in capsys.readouterr().err


def test_the_memory_limit_holds_and_goes():
    with pytest.raises(MemoryError), read_limit.memory(1 << 26):
        np.ones(1 << 28)
    assert np.ones(1 << 26).sum() == 1 << 26


def test_a_run_whose_shape_is_absurd_takes_no_memory(copied):
    place = only(copied / "runs")
    shape = json.loads((place / "shape.json").read_bytes())
    shape["shape"]["encoder"]["width"] = 10**9
    with pytest.raises(IntegrityError):
        open_run(resealed(place, "shape.json", json.dumps(shape).encode()))


def test_a_module_inside_an_artefact_is_not_imported(copied, monkeypatch):
    place = only(copied / "runs")
    place = place.rename(place.with_name("sent"))
    (place / "evil.py").write_text("raise SystemExit('the artefact was run')\n")
    monkeypatch.syspath_prepend(str(copied))
    for name in ("runs.sent.evil", "runs.sent"):
        with pytest.raises(IntegrityError, match="is data and is not run"):
            plugins.load("encoders", name, "ENCODER")
    shape = json.loads((place / "shape.json").read_bytes())
    shape["shape"]["encoders"] = dict.fromkeys(shape["shape"]["encoders"], "runs.sent.evil")
    with pytest.raises(IntegrityError, match="is data and is not run"):
        open_run(resealed(place, "shape.json", json.dumps(shape).encode()))


# Links and names that lead out


def test_a_link_out_of_an_artefact_is_not_followed(copied, capsys):
    place = only(copied / "runs")
    outside = copied / "elsewhere"
    (place / "model.safetensors").rename(outside)
    (place / "model.safetensors").symlink_to(outside)
    with pytest.raises(IntegrityError, match="leads out"):
        open_run(artifacts.read(place))
    assert run(["verify", str(place)]) == INTEGRITY
    assert "leads out" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["../../x", "/etc/passwd", "shards/../../x"])
def test_a_manifest_cannot_name_files_outside(copied, name):
    place = only(copied / "raw")
    body = json.loads((place / "manifest.json").read_bytes())
    body["files"][name] = {"sha256": "0" * 64, "bytes": 1}
    keys = ("kind", "format_version", "config", "parents", "files")
    text = json.dumps({k: body[k] for k in keys}, sort_keys=True, separators=(",", ":"))
    body["fingerprint"] = artifacts.sha256_bytes(text.encode())
    (place / "manifest.json").write_text(json.dumps(artifacts.summed(body)))
    with pytest.raises(IntegrityError, match="leads out"):
        artifacts.read(place)


@pytest.mark.parametrize(
    ("field", "value"),
    [("files", []), ("files", {"a": 3}), ("provenance", "observed"), ("parents", [{}]),
     ("rows", None), ("command", 7), ("surveys", [[]]), ("config", [1]), ("seed", "x")],
)  # fmt: skip
def test_a_manifest_of_other_types_is_refused(copied, field, value):
    place = only(copied / "raw")
    body = json.loads((place / "manifest.json").read_bytes()) | {field: value}
    keys = ("kind", "format_version", "config", "parents", "files")
    text = json.dumps({k: body[k] for k in keys}, sort_keys=True, separators=(",", ":"))
    body["fingerprint"] = artifacts.sha256_bytes(text.encode())
    (place / "manifest.json").write_text(json.dumps(artifacts.summed(body)))
    with pytest.raises(IntegrityError):
        artifacts.read(place)


def test_every_field_of_a_manifest_is_under_its_sum(copied):
    place = only(copied / "data")
    whole = json.loads((place / "manifest.json").read_bytes())
    for field in set(whole) - {"sum"}:
        body = dict(whole)
        body[field] = "modelled" if isinstance(body[field], str) else {"x": "modelled"}
        (place / "manifest.json").write_text(json.dumps(body))
        with pytest.raises(IntegrityError):
            artifacts.read(place)
    old = {k: v for k, v in whole.items() if k != "sum"}  # as an older mmclip wrote it
    (place / "manifest.json").write_text(json.dumps(old))
    assert artifacts.read(place).manifest.kind == "data"


@pytest.mark.parametrize("sha256", ["../../../victim", "/etc/passwd", 7, None, "A" * 64])
def test_a_cache_entry_that_names_a_path_removes_nothing(tmp_path, sha256):
    victim = tmp_path / "victim"
    victim.write_text("keep me")
    name = "a" * 64
    (tmp_path / "cache" / "index").mkdir(parents=True)
    entry = {"key": name, "service": "tap", "url": "u", "sha256": sha256, "bytes": 1,
             "fetched": "now", "etag": ""}  # fmt: skip
    (tmp_path / "cache" / "index" / f"{name}.json").write_text(json.dumps(entry))
    assert cache.find(tmp_path / "cache", name) is None
    cache.drop(tmp_path / "cache", name)
    cache.clear(tmp_path / "cache")
    assert victim.read_text() == "keep me"


# Bombs


def test_a_tile_compressed_cutout_is_not_unpacked(tmp_path):
    image = fits.CompImageHDU(np.zeros((2000, 2000), "f4"), compression_type="GZIP_1")
    (tmp_path / "x.fits").write_bytes(made_files.packed([fits.PrimaryHDU(), image]))
    with pytest.raises((BadAnswer, IntegrityError), match="tile-compressed"):
        checks.fits(tmp_path / "x.fits")


def test_a_gzip_bomb_in_place_of_a_spectrum_is_refused(tmp_path):
    import gzip

    (tmp_path / "x.fits.gz").write_bytes(gzip.compress(b"SIMPLE  =" + bytes(80 << 20), 9))
    with pytest.raises(IntegrityError, match=r"unpacks from|bomb"):
        checks.fits(tmp_path / "x.fits.gz")


def test_hdf5_chunks_that_unpack_to_absurdly_much_are_refused(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "x.hdf5", "w") as file:
        file.create_dataset("TARGETID", (2**33,), "i8", chunks=(2**20,), compression="gzip")
    with pytest.raises(IntegrityError, match="states"):
        galaxies.hdf5_columns(tmp_path / "x.hdf5", {"id": "TARGETID"})


def test_parquet_with_a_thousand_million_values_is_refused(tmp_path):
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"source_id": pa.nulls(1_200_000, pa.int64())}), path,
                   row_group_size=1_200_000)  # fmt: skip
    body, one, many = path.read_bytes(), pq.read_metadata(path), pq.read_metadata(path)
    for _ in range(999):
        many.append_row_groups(one)  # all row groups share the same pages
    many.write_metadata_file(tmp_path / "footer")
    path.write_bytes(body + (tmp_path / "footer").read_bytes()[4:])
    assert path.stat().st_size < 400_000
    assert pq.read_metadata(path).num_rows == 1_200_000_000
    for reader in (tables.read, read_labels, id_list.read):
        with pytest.raises(IntegrityError, match="states 1200000000 rows"):
            reader(path)


ENTITIES = b"""<?xml version="1.0"?><!DOCTYPE VOTABLE [<!ENTITY a SYSTEM "file:///etc/passwd">]>
<VOTABLE><RESOURCE><TABLE><FIELD name="source_id" datatype="char" arraysize="*"/><DATA><TABLEDATA>
<TR><TD>&a;</TD></TR></TABLEDATA></DATA></TABLE></RESOURCE></VOTABLE>"""


@pytest.mark.parametrize("suffix", [".vot", ".xml"])
def test_entities_in_a_users_table_are_not_expanded(tmp_path, suffix):
    path = tmp_path / f"x{suffix}"
    path.write_bytes(ENTITIES)
    for reader in (read_labels, id_list.read, tables.read):
        with pytest.raises(MmclipError, match="entities"):
            reader(path)


# Names that mean harm to what shows them


class Parsed(html.parser.HTMLParser):
    """Every tag and attribute of a page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.events = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.events += [name for name, _ in attrs if name.startswith("on")]


def test_names_cannot_become_elements_of_the_report():
    rows = [{EVIL: EVIL, "source_id": 1}]
    made = Section(EVIL, EVIL, rows, [(b"\x89PNG", EVIL)])
    plain = Section("t", "x", [{"a": "b", "source_id": 1}], [(b"\x89PNG", "c")])
    evil, good = Parsed(page(EVIL, EVIL, [made], EVIL)), Parsed(page("t", "s", [plain], "f"))
    assert evil.tags == good.tags
    assert not evil.events


def test_names_cannot_become_elements_of_the_map():
    def drawn(name, title):
        columns = [sky.Column(name, np.array([name, "b"])), sky.Column("n", [1.0, 2.0], name)]
        cards = [sky.Cards(name, name, name, [0], [np.arange(3.0)], [np.arange(3.0)])]
        return sky.page(title, [1, 2], [0, 1], [0, 1], columns, cards, ["#000000"], name)

    evil, good = Parsed(drawn(EVIL, EVIL)), Parsed(drawn("a", "t"))
    assert evil.tags == good.tags
    assert not evil.events
    assert drawn("a", "@DATA@ @FOOTER@").count("<h1>@DATA@ @FOOTER@</h1>") == 1


def test_the_maps_program_never_writes_html():
    folder = Path(sky.__file__).parent
    text = (folder / "map.html").read_text() + (folder / "map.js").read_text()
    assert not any(w in text for w in ("innerHTML", "outerHTML", "insertAdjacentHTML", "eval("))


def test_escape_sequences_do_not_reach_the_terminal(capsys):
    title = "\x1b[2J\x9b31m\u202eabc"
    output.rows([{"name\x1b[1m": title, "source_id": 3}], title, False, None)
    output.say(title)
    shown = "".join(capsys.readouterr())
    assert not any(c in shown for c in "\x1b\x9b\u202e\x07")
    assert "\\x1b[2J" in shown


def test_an_error_about_a_hostile_name_shows_it_escaped(tmp_path, capsys):
    assert run(["info", str(tmp_path / "\x1b]0;owned\x07")]) == 2
    shown = capsys.readouterr().err
    assert "\x1b" not in shown
    assert "\\x1b]0;owned\\x07" in shown


def test_what_is_visible_of_plain_text_is_all_of_it():
    text = "α Cen, Müller–Kemmler, 星, 1.2 × 10⁻¹⁷ W m⁻² nm⁻¹\n\tend"
    assert visible(text) == text


@pytest.mark.parametrize("word", ["=1+1", "+cmd", "-2+3", "@SUM(A1)", "\t=1", "\r=1"])
def test_formulae_are_text_in_a_csv(tmp_path, word):
    path = tmp_path / "x.csv"
    output.write([{word: word, "z": -1.5, "name": "-1.5", "plain": "RR Lyr"}], path)
    head, row = csv.reader(io.StringIO(path.read_bytes().decode(), newline=""))
    assert head[0] == "'" + word
    assert row == ["'" + word, "-1.5", "-1.5", "RR Lyr"]


@pytest.mark.parametrize("name", ["$", "$\\frac$", "a$b$c", "$$", "\\", "$\\input{x}$"])
def test_any_name_can_be_drawn(name):
    figure = plots.map_figure([0, 1], [0, 1], [0, 1], name, name)
    assert plots.png_bytes(figure).startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "text",
    ["ruwe < 1.4; DROP TABLE x", "ruwe < 1 OR 1=1", "ruwe < (SELECT 1)", "a.b = 1", "'a' = 'a'",
     "phot_g_mean_mag < 1 -- x", "phot_g_mean_mag = 'a'' OR 1=1'", "phot_g_mean_mag = \"x' or 'y\"",
     "phot_g_mean_mag < 1 UNION SELECT *", "ruwe<1/**/or/**/1=1"],
)  # fmt: skip
def test_a_condition_cannot_leave_its_place_in_the_query(text):
    with pytest.raises(MmclipError):
        cuts.adql(text, {"ruwe": "g", "phot_g_mean_mag": "g"})


# Secrets


@pytest.mark.parametrize(
    "url",
    ["https://me:s3cret@host/x", "https://host/x?token=s3cret&a=1", "https://host/x?api_key=s3cret",
     "https://host/x?a=1&X-Amz-Signature=s3cret", "ftp://s3cret@host/", "https://h/?PASSWORD=s3cret"],
)  # fmt: skip
def test_secrets_of_a_url_are_shown_nowhere(url, tmp_path, capsys, monkeypatch):
    assert "s3cret" not in hidden(url)
    assert "s3cret" not in cache.redact(url)
    assert run(["info", url]) != 0
    assert "s3cret" not in capsys.readouterr().err
    monkeypatch.setattr("sys.argv", ["mmclip", "fetch", "--x", url])
    made = artifacts.seal(tmp_path, "raw", config={}, parents=[], rows={}, surveys=[],
                          provenance={}, seed=None)  # fmt: skip
    assert "s3cret" not in (made.path / "manifest.json").read_text()


def test_an_address_without_secrets_stays_as_it_is():
    url = "https://gea.esac.esa.int/tap-server/tap?REQUEST=doQuery&QUERY=SELECT+key#a"
    assert hidden(url) == url


def test_variables_of_the_environment_are_in_no_manifest(copied, monkeypatch):
    monkeypatch.setenv("MMCLIP_LAMOST_TOKEN", "s3cret-token")
    assert run(["preprocess", "--name", "again", "-w", str(copied)]) == 0
    for file in (copied / "data" / "again").rglob("*"):
        assert not file.is_file() or b"s3cret-token" not in file.read_bytes()
    assert os.environ["MMCLIP_LAMOST_TOKEN"] == "s3cret-token"
