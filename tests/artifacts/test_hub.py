"""Runs and data sets on a hub: pushed, pulled, pinned and checked, by the hub's own client."""

import errno
import json

import pyarrow.parquet as pq
import pytest

from mmclip import artifacts
from mmclip.artifacts import hub
from mmclip.artifacts.workspace import Workspace
from mmclip.cli import run
from mmclip.errors import INTEGRITY, REMOTE, USAGE, MmclipError
from tests.hub import Hub

library = pytest.importorskip("huggingface_hub", reason="the extra hub is not installed")
constants = pytest.importorskip("huggingface_hub.constants")
LICENCE = ["--licence", "cc-by-4.0"]


@pytest.fixture(scope="module")
def shared(trained, tmp_path_factory):
    """A stand-in hub with a run and its data set; (hub, server, addresses by kind)."""
    standin, found = Hub(), {}
    with standin.server() as server, pytest.MonkeyPatch.context() as patch:
        connect(patch, server, tmp_path_factory.mktemp("cache"))
        from mmclip.cli import push

        for kind in ("run", "data"):
            artifact = Workspace(trained).all(kind)[0]
            found[kind] = push.command(
                str(artifact.path), f"lab/{kind}", licence="cc-by-4.0", workspace=trained
            )
        yield standin, server, found


def connect(patch, server, cache):
    patch.setenv("HF_ENDPOINT", server.url)
    patch.setenv("HF_TOKEN", "hf_made")
    patch.setattr(constants, "HF_HUB_CACHE", str(cache))
    patch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)


@pytest.fixture
def online(shared, tmp_path, monkeypatch):
    standin, server, found = shared
    connect(monkeypatch, server, tmp_path / "cache")
    monkeypatch.setattr(standin, "fault", None)
    return standin, server, found


@pytest.mark.parametrize("kind", ["run", "data"])
def test_what_is_pulled_is_what_was_pushed(online, trained, tmp_path, kind):
    mine = Workspace(trained).all(kind)[0]
    assert online[2][kind].startswith("hf://datasets/lab/" if kind == "data" else "hf://lab/")
    assert run(["pull", online[2][kind], "-w", str(tmp_path / "w")]) == 0
    (pulled,) = Workspace(tmp_path / "w").all(kind)
    assert pulled.manifest == mine.manifest
    assert artifacts.faults(pulled) == []
    assert pulled.path.name == f"lab--{kind}@{online[2][kind].partition('@')[2][:12]}"


def test_a_run_is_named_by_its_address_wherever_a_run_is(online, trained, tmp_path, capsys):
    words = ["embed", "--run", online[2]["run"], "--name", "remote", "-w", str(tmp_path / "w")]
    data = Workspace(trained).all("data")[0].path
    assert run([*words, "--data", str(data)]) == 0
    made = pq.read_table(tmp_path / "w" / "vectors" / "remote" / "vectors.parquet")
    local = pq.read_table(Workspace(trained).all("vectors")[0].path / "vectors.parquet")
    assert made.equals(local)


def test_what_the_workspace_has_is_not_asked_for_again(online, tmp_path, monkeypatch):
    space = Workspace(tmp_path / "w")
    first = space.get("run", online[2]["run"])
    asked = len(online[1].log)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert space.get("run", online[2]["run"]).path == first.path
    assert len(online[1].log) == asked


def test_the_newest_revision_is_taken_where_none_is_named(online, tmp_path):
    found = Workspace(tmp_path / "w").find("hf://lab/run", ("run",))
    assert online[2]["run"].partition("@")[2].startswith(found.path.name.partition("@")[2])


def test_datasets_loads_it_without_mmclip(online, trained, tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")
    folder = library.snapshot_download(
        "lab/data", repo_type="dataset", endpoint=online[1].url, ignore_patterns="artifact/*"
    )
    loaded = datasets.load_dataset(folder, cache_dir=str(tmp_path / "made"))
    objects = pq.read_table(Workspace(trained).all("data")[0].path / "objects.parquet")
    wanted = {s: objects["split"].to_pylist().count(s) for s in ("train", "validation", "test")}
    assert {name: part.num_rows for name, part in loaded.items()} == wanted
    assert len(loaded["test"][0]["xp"]) == 311


def test_the_card_says_what_it_is_and_no_code_is_shared(online, trained):
    held = online[0].repositories["models", "lab/run"][-1][1]
    card = held["README.md"].decode()
    for word in ("license: \"cc-by-4.0\"", "recall@1", "chance", "made 1", "`xp`: observed",
                 "mmclip embed --run hf://lab/run@COMMIT", "## Limits"):  # fmt: skip
        assert word in card, word
    about = json.loads(held["config.json"])
    assert about["views"]["xp"]["unit"] == "flux / median"
    assert about["fingerprint"] == Workspace(trained).all("run")[0].manifest.fingerprint
    assert not [n for n in held if n.endswith((".py", ".pkl", ".pt", ".bin"))]


def test_a_file_that_was_changed_on_the_hub_is_refused(online, tmp_path, capsys):
    content = online[0].repositories["models", "lab/run"][-1][1]["model.safetensors"]
    online[0].fault = {"model.safetensors": content[:-4] + b"evil"}
    assert run(["pull", online[2]["run"], "-w", str(tmp_path / "w")]) == INTEGRITY
    assert "model.safetensors" in capsys.readouterr().err
    assert not list((tmp_path / "w").rglob("manifest.json"))


@pytest.mark.parametrize(
    ("address", "code", "words"),
    [
        ("hf://lab/nothing", USAGE, "no repository lab/nothing"),
        (f"hf://lab/run@{'0' * 40}", USAGE, "no revision"),
        ("hf://lab", USAGE, "names no repository"),
        ("hf://lab/../run", USAGE, "names no repository"),
        ("lab/run", USAGE, "hf://lab/run"),
    ],
)
def test_an_address_that_leads_nowhere_says_so(online, tmp_path, capsys, address, code, words):
    assert run(["pull", address, "-w", str(tmp_path / "w")]) == code
    assert words in capsys.readouterr().err


def test_offline_mode_is_honoured(online, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    asked = len(online[1].log)
    assert run(["pull", "hf://lab/run", "-w", str(tmp_path / "w")]) == REMOTE
    assert "HF_HUB_OFFLINE" in capsys.readouterr().err
    assert len(online[1].log) == asked


def test_a_folder_can_be_written_without_sending_it(trained, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    name = f"runs/{Workspace(trained).all('run')[0].path.name}"
    words = ["push", name, "lab/run", *LICENCE, "-o", str(tmp_path / "out"), "-w", str(trained)]
    assert run(words) == 0
    assert (tmp_path / "out" / "config.json").is_file()
    assert run(words) == 1


def test_an_address_has_one_owner_and_one_name():
    assert str(hub.parse("hf://datasets/lab/stars@v1")) == "hf://lab/stars@v1"


def test_a_full_disk_is_not_taken_for_a_hub_that_is_away(online, tmp_path, monkeypatch):
    def full(*a, **k):
        raise OSError(errno.ENOSPC, "full", "the lock")

    monkeypatch.setattr(library, "snapshot_download", full)
    with pytest.raises(MmclipError, match="the disk is full: the lock was not written"):
        hub.pull("hf://lab/run", "run", lambda name: tmp_path / name)
