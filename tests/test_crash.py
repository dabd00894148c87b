"""Broken off at random moments, run again: nothing half, nothing lost, nothing different."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mmclip import artifacts
from mmclip.cli import run
from mmclip.errors import FAILED, INTERRUPTED
from tests.artifacts.test_artifacts import make
from tests.benchmarks import crash
from tests.cli.test_cli import ask
from tests.conftest import fetch_made, made_stars

ROOT = Path(__file__).parents[1]
QUICK = "fetch demo,import,preprocess,preprocess --force,embed,export,index"


def matrix(*arguments):
    """Run the harness in a process of its own, which has no threads; its code and output."""
    command = [sys.executable, "-m", "tests.benchmarks.crash", *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


linux = pytest.mark.skipif(sys.platform != "linux", reason="the harness needs Linux")


@linux
@pytest.mark.slow
def test_a_sample_of_the_crash_matrix_and_two_commands_on_one_workspace():
    pairs = ("--pair", "import,export,preprocess")
    code, said = matrix("--trials", 10, *pairs, "--seed", 9, "--stages", QUICK)
    assert code == 0, said
    of_two = sum(a.startswith(("import", "export", "preprocess")) for a, *_ in crash.PAIRS)
    assert of_two >= 4
    assert f"{10 + of_two} trials, 0 with a fault of ours" in said


@linux
@pytest.mark.long
def test_the_whole_crash_matrix():
    """MMCLIP_CRASH_TRIALS (240) and MMCLIP_CRASH_SEED (1) say how many and which."""
    trials = os.environ.get("MMCLIP_CRASH_TRIALS", "240")
    seed = os.environ.get("MMCLIP_CRASH_SEED", "1")
    code, said = matrix("--trials", trials, "--seed", seed)
    assert code == 0, said


def test_the_harness_sees_what_it_is_to_see(tmp_path):
    made = make(tmp_path / "work" / "raw" / "a")
    assert crash.unsound(tmp_path) == []
    assert crash.strays(tmp_path) == []
    before = crash.picture(tmp_path)
    (made.path / "a.txt").write_text("other")
    (tmp_path / "work" / "raw" / ".partial-1").mkdir()
    (tmp_path / "work" / "raw" / ".partial-1" / "lock").write_text("")
    assert crash.strays(tmp_path) == ["work/raw/.partial-1"]
    assert len(crash.unsound(tmp_path)) == 1
    after = crash.picture(tmp_path)
    assert {k for k in after if after[k] != before.get(k)} == {
        "work/raw/a/a.txt", "work/raw/.partial-1/lock",
    }  # fmt: skip
    full = crash.Fault("ENOSPC", "event", 3)

    def ended(code, err):
        return crash.Ended(code, 0.1, 3, "", err, False)

    assert crash._manners(full, ended(1, "mmclip: the disk is full: x was not written")) == []
    assert crash._manners(full, ended(1, "mmclip: x cannot be written"))
    assert crash._manners(full, ended(1, "Traceback (most recent call last):\nOSError: 28"))
    term = crash.Fault("SIGTERM", "event", 3)
    assert crash._manners(term, ended(-15, ""))
    assert crash._manners(term, ended(130, "mmclip: interrupted; the same command resumes")) == []


@pytest.mark.parametrize(
    ("number", "says"),
    [
        (errno.ENOSPC, "the disk is full: there was not written"),
        (errno.EDQUOT, "the disk is full: there was not written"),
        (errno.EIO, "the disk failed at there"),
        (errno.EFBIG, "there cannot be written: File too large"),
        (errno.EROFS, "there cannot be written: Read-only file system"),
    ],
)
def test_a_bad_disk_is_one_sentence_wherever_it_is_met(capsys, monkeypatch, number, says):
    def failing(*a, **k):
        raise OSError(number, os.strerror(number), "there")

    monkeypatch.setattr("mmclip.cli.output.open_workspace", failing)
    code, _, err = ask(capsys, "info")
    assert code == FAILED
    assert says in err
    assert "try:" in err


def test_a_bad_disk_under_another_error_is_found(capsys, monkeypatch):
    def failing(*a, **k):
        try:
            raise OSError(errno.ENOSPC, "full", "there")
        except OSError:
            raise RuntimeError("did not possess lock") from None

    monkeypatch.setattr("mmclip.cli.output.open_workspace", failing)
    code, _, err = ask(capsys, "info")
    assert (code, "the disk is full: there" in err) == (FAILED, True)


def test_another_oserror_is_still_a_fault_of_ours(monkeypatch):
    def failing(*a, **k):
        raise OSError(errno.EBADF, "not a user's fault")

    monkeypatch.setattr("mmclip.cli.output.open_workspace", failing)
    with pytest.raises(OSError, match="not a user's fault"):
        run(["info"])


def test_a_batch_systems_signal_is_answered_as_an_interrupt(tmp_path):
    code = (
        "import os, signal, sys; from mmclip.cli import main, output\n"
        "output.open_workspace = lambda root: os.kill(os.getpid(), signal.SIGTERM) or pause()\n"
        "import time; pause = lambda: time.sleep(10)\n"
        "sys.argv = ['mmclip', 'info']; main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == INTERRUPTED
    assert done.stderr == "mmclip: interrupted; the same command resumes\n"


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs /proc")
def test_workers_do_not_outlive_a_killed_parent(tmp_path):
    fetch_made(tmp_path, made_stars(60))
    code = (
        "import sys, time; from mmclip.datasets import prepare\n"
        "from concurrent.futures import ProcessPoolExecutor; from multiprocessing import "
        "get_context\n"
        "if __name__ == '__main__':\n"
        "    pool = ProcessPoolExecutor(1, get_context('spawn'), prepare._follow)\n"
        "    print(pool.submit(__import__('os').getpid).result(), flush=True); time.sleep(60)\n"
    )
    (tmp_path / "main.py").write_text(code)
    parent = subprocess.Popen(
        [sys.executable, str(tmp_path / "main.py")], stdout=subprocess.PIPE, text=True,
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    worker = int(parent.stdout.readline())
    assert Path(f"/proc/{worker}").exists()
    parent.send_signal(signal.SIGKILL)
    parent.communicate()
    ends = time.monotonic() + 20
    while _lives(worker) and time.monotonic() < ends:
        time.sleep(0.05)
    assert not _lives(worker)


def _lives(process):
    try:
        return Path(f"/proc/{process}/stat").read_text().split(")")[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_resumed_fetch_remembers_every_job_in_its_manifest(tmp_path):
    from mmclip.datasets import ingest
    from mmclip.surveys.client.http import Client

    client = Client(cache=tmp_path / "cache")
    client.learned["jobs"] = ["one", "two"]
    ingest._remember(tmp_path, client)
    assert json.loads((tmp_path / "learned.json").read_bytes())["jobs"] == ["one", "two"]


def test_room_for_a_part_is_taken_before_it_is_mapped(tmp_path):
    from mmclip.datasets import prepare

    made = prepare._map(tmp_path / "a.npy", (1000, 100))
    made[:] = 1
    if hasattr(os, "posix_fallocate"):
        assert (tmp_path / "a.npy").stat().st_blocks * 512 >= 400_000
    assert artifacts.sha256(tmp_path / "a.npy")
