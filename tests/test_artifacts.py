"""Artefacts are whole or absent, and every changed byte is found."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmclip import artifacts
from mmclip.errors import IntegrityError, MmclipError, NotFound, UsageError
from mmclip.workspace import Workspace


def make(place, text="stars"):
    with artifacts.building(place, replace=True) as folder:
        (folder / "a.txt").write_text(text)
        (folder / "deep").mkdir()
        (folder / "deep" / "b.bin").write_bytes(bytes(range(256)))
        artifacts.seal(
            folder, "raw", config={"k": 1}, parents=[], rows={"objects": 1}, surveys=[],
            provenance={"xp": "observed"}, seed=1,
        )  # fmt: skip
    return artifacts.read(place)


def test_a_whole_artefact_verifies(tmp_path):
    assert artifacts.faults(make(tmp_path / "a")) == []


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_any_flipped_bit_of_any_file_is_found_and_named(tmp_path, data):
    place = tmp_path / "a"
    make(place)
    name = data.draw(st.sampled_from(["a.txt", "deep/b.bin"]))
    body = bytearray((place / name).read_bytes())
    where = data.draw(st.integers(0, len(body) - 1))
    body[where] ^= 1 << data.draw(st.integers(0, 7))
    (place / name).write_bytes(bytes(body))
    with pytest.raises(IntegrityError, match=name):
        artifacts.verify(artifacts.read(place))


@pytest.mark.parametrize("key", ["config", "files", "parents", "kind"])
def test_a_changed_manifest_is_refused(tmp_path, key):
    place = tmp_path / "a"
    make(place)
    body = json.loads((place / "manifest.json").read_text())
    body[key] = "other" if key == "kind" else [] if key == "parents" and body[key] else {"x": 1}
    (place / "manifest.json").write_text(json.dumps(body))
    with pytest.raises(MmclipError):
        artifacts.verify(artifacts.read(place))


@pytest.mark.parametrize("body", ["", "{", "[]", "null", '{"kind": "raw"}', "\x00\x01"])
def test_a_damaged_manifest_is_one_clear_error(tmp_path, body):
    place = tmp_path / "a"
    make(place)
    (place / "manifest.json").write_text(body)
    with pytest.raises(IntegrityError, match="damaged"):
        artifacts.read(place)


def test_missing_and_added_files_are_named(tmp_path):
    made = make(tmp_path / "a")
    (made.path / "a.txt").unlink()
    (made.path / "new.txt").write_text("")
    assert artifacts.faults(made) == ["a.txt: missing", "new.txt: not in the manifest"]


def test_the_fingerprint_depends_on_the_content_alone(tmp_path):
    one, two = make(tmp_path / "a"), make(tmp_path / "b")
    assert one.manifest.fingerprint == two.manifest.fingerprint
    assert make(tmp_path / "c", "other").manifest.fingerprint != one.manifest.fingerprint


def fail(place):
    with artifacts.building(place, replace=True) as folder:
        (folder / "half").write_text("half")
        raise ZeroDivisionError


def test_a_failure_leaves_nothing_and_the_old_artefact_stands(tmp_path):
    old = make(tmp_path / "a").manifest.fingerprint
    with pytest.raises(ZeroDivisionError):
        fail(tmp_path / "a")
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
    assert artifacts.read(tmp_path / "a").manifest.fingerprint == old


def test_a_killed_build_leaves_no_artefact_and_is_swept(tmp_path):
    code = (
        "import os, signal, sys; from pathlib import Path; from mmclip import artifacts\n"
        "with artifacts.building(Path(sys.argv[1])) as folder:\n"
        "    (folder / 'half').write_text('half'); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    place = tmp_path / "a"
    assert subprocess.run([sys.executable, "-c", code, str(place)]).returncode == -9
    assert not place.exists()
    make(place)
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_a_foreign_directory_is_never_replaced(tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1").write_text("years of work")
    with pytest.raises(MmclipError, match="not an artefact"):
        make(tmp_path / "thesis")
    assert (tmp_path / "thesis" / "chapter1").read_text() == "years of work"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_directory_is_one_clear_error(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(MmclipError, match="cannot be written"):
        make(tmp_path / "a")


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs /proc, where nobody may write")
def test_where_nobody_may_write_is_one_clear_error():
    with pytest.raises(MmclipError, match="cannot be written"):
        make(Path("/proc/self/mmclip/a"))


def test_a_file_in_the_place_of_a_directory_is_one_clear_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(MmclipError, match="cannot be written"):
        make(tmp_path / "file" / "a")


def test_the_newest_artefact_is_taken_and_absence_names_the_maker(tmp_path):
    space = Workspace(tmp_path)
    with pytest.raises(NotFound) as caught:
        space.get("raw")
    assert "mmclip fetch" in caught.value.hint
    make(tmp_path / "raw" / "one")
    make(tmp_path / "raw" / "two", "later")
    assert space.get("raw").path.name == "two"
    assert space.get("raw", "one").path.name == "one"
    with pytest.raises(NotFound, match="there: one, two"):
        space.get("raw", "three")
    with pytest.raises(UsageError, match="raw artefact"):
        space.get("run", str(tmp_path / "raw" / "one"))


@pytest.mark.parametrize("name", ["", ".", "..", "../up", "a/b", ".hidden"])
def test_a_name_cannot_lead_out_of_the_workspace(tmp_path, name):
    with pytest.raises(UsageError):
        Workspace(tmp_path).place("raw", name)
