"""Artefacts are whole or absent, and every changed byte is found."""

import errno
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmclip import artifacts
from mmclip.artifacts import work
from mmclip.artifacts.workspace import Workspace
from mmclip.errors import IntegrityError, MmclipError, NotFound, UsageError


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


def test_shards_whose_removal_was_killed_are_swept_and_not_put_back(tmp_path):
    make(tmp_path / ".parts-m" / "1-of-2")
    child = os.fork()
    if child == 0:
        work.remove = lambda path: os._exit(9)
        artifacts.discard(tmp_path / ".parts-m")
    os.waitpid(child, 0)
    assert [p.name.startswith(".tmp-") for p in tmp_path.iterdir()] == [True]
    artifacts.sweep(tmp_path)
    assert not [*tmp_path.iterdir()]


def test_a_scratch_directory_of_a_killed_process_is_gone_with_the_next(tmp_path):
    child = os.fork()
    if child == 0:
        with artifacts.scratch(tmp_path):
            os._exit(9)
    os.waitpid(child, 0)
    assert len([*tmp_path.iterdir()]) == 1
    with artifacts.scratch(tmp_path) as made:
        assert [*tmp_path.iterdir()] == [made]
    assert not [*tmp_path.iterdir()]


def test_a_file_or_directory_that_a_killed_process_was_writing_is_swept(tmp_path):
    code = (
        "import os, signal, sys; from pathlib import Path; from mmclip import artifacts\n"
        "with artifacts.whole(Path(sys.argv[1])) as part:\n"
        "    part.write_text('half'); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    place = tmp_path / "answer.csv"
    assert subprocess.run([sys.executable, "-c", code, str(place)]).returncode == -9
    assert [p.name[:5] for p in tmp_path.iterdir()] == [".tmp-"]
    with artifacts.whole(place) as part:
        part.write_text("all")
    assert [p.name for p in tmp_path.iterdir()] == ["answer.csv"]
    assert place.read_text() == "all"


REPLACED = """
import os, signal, sys
from pathlib import Path
from mmclip import artifacts
from tests.artifacts.test_artifacts import make

place, when = Path(sys.argv[1]), int(sys.argv[2])
if sys.argv[3] == "plain":  # a file system that cannot exchange
    artifacts.build._exchange = lambda one, other: False
moved = os.replace
def replace(one, other):
    global when
    if os.path.basename(str(one)) == "a" or os.path.basename(str(other)) == "a":
        when -= 1
        if when == 0:
            os.kill(os.getpid(), signal.SIGKILL)
    moved(one, other)
os.replace = replace
make(place, "new")
"""


@pytest.mark.parametrize("how", ["exchange", "plain"])
@pytest.mark.parametrize("when", [1, 2, 3])
def test_killed_while_it_is_replaced_an_artefact_is_the_old_or_the_new_one(tmp_path, how, when):
    place = tmp_path / "a"
    old = make(place, "old").manifest.fingerprint
    new = make(tmp_path / "b", "new").manifest.fingerprint
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", REPLACED, str(place), str(when), how]
    ended = subprocess.run(command, cwd=root, env={**os.environ, "PYTHONPATH": str(root)})
    assert ended.returncode == -9 or how == "exchange"
    if how == "exchange":
        assert place.is_dir()  # at no time is the name absent
    artifacts.sweep(tmp_path)
    assert artifacts.verify(artifacts.read(place)).manifest.fingerprint in (old, new)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b"]


def seal_after(place, meanwhile):
    """Build an artefact, and let something happen before it is in its place."""
    with artifacts.building(place) as folder:
        meanwhile()
        artifacts.seal(
            folder, "raw", config={}, parents=[], rows={}, surveys=[], provenance={}, seed=None
        )


def test_two_that_make_the_same_artefact_do_not_replace_each_other(tmp_path):
    place = tmp_path / "a"
    with pytest.raises(MmclipError, match="made it meanwhile"):
        seal_after(place, lambda: make(place, "first"))
    other = artifacts.read(place)
    assert (place / "a.txt").read_text() == "first"
    assert artifacts.verify(artifacts.read(tmp_path / "a")) == other
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_an_artefact_replaced_while_it_is_read_is_not_called_damaged(tmp_path):
    old = make(tmp_path / "a", "old")
    assert artifacts.check_unreplaced(old) is old
    make(tmp_path / "a", "new")
    with pytest.raises(MmclipError, match="another process replaced") as caught:
        artifacts.checked(old, "a.txt")
    assert not isinstance(caught.value, IntegrityError)
    with pytest.raises(MmclipError, match="another process replaced"):
        artifacts.check_unreplaced(old)


def test_work_is_kept_when_broken_off_and_gone_when_done(tmp_path):
    work = tmp_path / ".partial-1"
    with pytest.raises(ZeroDivisionError), artifacts.locked(work, "work"):
        raise ZeroDivisionError
    assert not work.exists()  # there was nothing to keep
    with pytest.raises(FileNotFoundError), artifacts.locked(work, "work"):
        Path(work / "step").write_text("done") and (work / "none").read_text()
    with artifacts.locked(work, "work"):
        assert (work / "step").read_text() == "done"
        with pytest.raises(MmclipError, match="another process"), artifacts.locked(work, "work"):
            pass
    assert list(tmp_path.iterdir()) == []


def test_work_left_by_a_process_killed_at_its_very_end_is_swept(tmp_path):
    work = tmp_path / ".partial-1"
    work.mkdir()
    with artifacts.building(tmp_path / "a", work=work) as folder:
        artifacts.seal(
            folder, "raw", config={}, parents=[], rows={}, surveys=[], provenance={}, seed=None
        )
    other = tmp_path / ".partial-2"
    other.mkdir()
    (other / "done.json").write_text('["a", "of another making"]')
    with pytest.raises(MmclipError, match="exists already"):
        artifacts.check_free(tmp_path / "a", replace=False)
    assert sorted(p.name for p in tmp_path.iterdir()) == [".partial-2", "a"]


def test_a_lock_on_a_directory_that_was_just_removed_is_taken_anew(tmp_path, monkeypatch):
    import shutil

    work, locks = tmp_path / "work", []
    take = artifacts.locks.fcntl.flock

    def late(lock, how):
        take(lock, how)
        if not locks:
            shutil.rmtree(work)  # its former owner has ended between our opening and our locking
        locks.append(lock)

    monkeypatch.setattr(artifacts.locks.fcntl, "flock", late)
    with artifacts.locked(work, "work"):
        assert (work / "lock").is_file()
        assert os.path.samestat(os.fstat(locks[-1].fileno()), (work / "lock").stat())
    assert len(locks) == 2


def test_a_full_disk_names_the_file_that_was_not_written(tmp_path, monkeypatch):
    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="state") as caught:
        artifacts.write_atomic(tmp_path / "state.json", b"{}")
    assert caught.value.filename == str(tmp_path / "state.json")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(params=[errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def unlocking(request, monkeypatch):
    """A file system without locks."""

    def none(lock, how):
        raise OSError(request.param, os.strerror(request.param))

    monkeypatch.setattr("fcntl.flock", none)


@pytest.mark.usefixtures("unlocking")
def test_where_a_file_system_has_no_locks_a_file_that_is_touched_holds(tmp_path, monkeypatch):
    from mmclip.surveys.client import cache

    monkeypatch.setattr(artifacts.locks, "BEAT", 0.01)
    with artifacts.locked(tmp_path / "w", "fetch"):
        held = tmp_path / "w" / "lock.held"
        with pytest.raises(MmclipError, match="the same fetch is running"):
            artifacts.locked(tmp_path / "w", "fetch").__enter__()
        os.utime(held, (0, 0))
        for _ in range(500):
            if held.stat().st_mtime > 0:
                break
            time.sleep(0.01)
        assert held.stat().st_mtime > 0
    assert list(tmp_path.iterdir()) == []
    with cache.locked(tmp_path, "k"):
        assert (tmp_path / "parts" / "k.lock.held").is_file()
    assert not (tmp_path / "parts" / "k.lock.held").exists()


@pytest.mark.usefixtures("unlocking")
@pytest.mark.parametrize(
    ("who", "age", "gone"),
    [
        ("{here} 4194305 ab", 0, True),  # a process of this machine that is not: beyond pid_max
        ("{here} {me} ab", 1000, False),
        ("01234567 1 ab", 1000, True),  # of another machine, and not touched for long
        ("01234567 1 ab", 10, False),
        ("\udc80 damaged", 1000, True),  # bytes that are no text
    ],
)
def test_a_lock_file_is_taken_over_where_its_holder_is_gone(tmp_path, who, age, gone):
    work = tmp_path / "w"
    work.mkdir()
    held = work / "lock.held"
    said = who.format(here=artifacts.locks.machine(), me=os.getpid())
    held.write_bytes(said.encode(errors="surrogateescape"))
    os.utime(held, (time.time() - age,) * 2)
    if gone:
        with artifacts.locked(work, "fetch"):
            assert str(os.getpid()) in held.read_text()
        return
    with pytest.raises(MmclipError, match="the same fetch is running"):
        artifacts.locked(work, "fetch").__enter__()
    assert held.exists()


@pytest.mark.parametrize(
    ("machine", "process", "age", "swept"),
    [
        ("here", 4194305, 0, True),
        ("here", "mine", 99999, False),
        ("01234567", 4194305, 0, False),  # such a process may live in another PID namespace
        ("01234567", 4194305, 99999, True),
    ],
)
def test_work_of_a_process_that_cannot_be_seen_is_not_swept(tmp_path, machine, process, age, swept):
    mine = artifacts.locks.temporary_prefix()
    process = os.getpid() if process == "mine" else process
    known = mine.replace(f"-{os.getpid()}-", f"-{process}-")
    if machine != "here":
        known = known.replace(artifacts.locks.machine(), machine)
    left = tmp_path / f"{known}x"
    left.mkdir()
    os.utime(left, (time.time() - age,) * 2)
    with artifacts.locks.marked(left):
        artifacts.sweep(tmp_path)
        assert left.exists() != (swept and machine == "here")
    artifacts.sweep(tmp_path)
    assert left.exists() != swept


@pytest.mark.parametrize("name", ["{p}12", "{p}12x-y", "{p}-1-y", "{p}99999999999-y", ".tmp-x-7-y"])
def test_only_names_as_they_are_made_are_swept(tmp_path, name):
    mine = artifacts.locks.temporary_prefix()
    left = tmp_path / name.format(p=mine[: mine.index(str(os.getpid()) + "-")])
    left.mkdir()
    artifacts.sweep(tmp_path)
    assert left.exists()
