"""Commands in processes of their own without the seconds that importing takes in each.

`Forks` starts one process that imports the libraries, starts no thread, and forks at every command;
what it runs may be killed like any other process.
"""

import json
import math
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HEAVY = (
    "torch", "torch._dynamo", "faiss", "matplotlib.pyplot", "sklearn.linear_model",
    "sklearn.ensemble", "scipy.stats", "pandas", "pyarrow.compute", "pyarrow.dataset",
    "astropy.table", "astropy.io.votable", "pyvo", "requests", "pydantic.main", "typer.main",
    "rich.progress", "mmclip.plots", "mmclip.clip.stages", "mmclip.tasks.classify",
    "mmclip.surveys.gaia", "mmclip.datasets.ingest", "tests.services",
)  # fmt: skip


@dataclass
class Child:
    """A running command."""

    forks: "Forks"
    pid: int
    folder: Path
    code: int | None = None

    def poll(self) -> int | None:
        """Its exit code, -9 if it was killed so; None while it runs."""
        if self.code is None:
            self.code = self.forks.ask({"poll": self.pid})
        return self.code

    def wait(self, most: float = 300) -> int:
        """Its exit code, once it has ended."""
        until = time.monotonic() + most
        while self.poll() is None:
            assert time.monotonic() < until, f"still running after {most} s"
            time.sleep(0.005)
        return self.poll()

    def kill(self) -> None:
        """kill -9, and wait."""
        if self.poll() is None:
            os.kill(self.pid, 9)
        self.wait()

    @property
    def out(self) -> str:
        """What it printed so far."""
        return (self.folder / "out").read_text()

    @property
    def err(self) -> str:
        """What it said so far."""
        return (self.folder / "err").read_text()


class Forks:
    """The process that forks; closed by leaving the `with`."""

    def __enter__(self) -> "Forks":
        alone = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        alone["MALLOC_ARENA_MAX"] = "2"
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.forks"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            text=True, cwd=Path(__file__).parents[1], env=os.environ | alone,
        )  # fmt: skip
        self.folder = tempfile.TemporaryDirectory(prefix="mmclip-forks-")
        self.count = 0
        return self

    def __exit__(self, *error: object) -> None:
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()
        self.folder.cleanup()

    def ask(self, what: dict[str, Any]) -> Any:
        """One question to the process, one answer."""
        self.process.stdin.write(json.dumps(what) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def start(self, *command: object, code: str = "") -> Child:
        """Start `mmclip COMMAND`, or Python code."""
        self.count += 1
        folder = Path(self.folder.name) / str(self.count)
        folder.mkdir()
        what = {"command": [*map(str, command)], "code": code, "folder": str(folder)}
        return Child(self, self.ask(what), folder)

    def killed(self, command: list[str], made: Path, moments: tuple[float, ...]) -> None:
        """Run a command that makes `made` to its end, killed so long after each checkpoint."""
        cut = 0
        for moment in moments:
            child, until = self.start(*command), time.monotonic() + 120
            while child.poll() is None and time.monotonic() < until:
                if list(made.parent.glob(".partial-*/latest.json")):
                    time.sleep(moment)
                    break
                time.sleep(0.01)
            cut += child.poll() is None
            child.kill()
            if made.exists():
                break
        assert cut >= 1
        if not made.exists():
            assert self.run(*command).code == 0
        assert not list(made.parent.glob(".partial-*"))

    def run(self, *command: object, code: str = "") -> Child:
        """The same, waited for."""
        child = self.start(*command, code=code)
        child.wait()
        return child

    def main(self, module: str, *arguments: object) -> Child:
        """`python -m MODULE ARGUMENTS`, waited for as long as it takes."""
        words = [module, *map(str, arguments)]
        told = f"import sys, {module} as run; sys.argv = {words!r}"
        child = self.start(code=f"{told}; raise SystemExit(run.main() or 0)")
        child.wait(math.inf)
        return child


def _child(asked: dict[str, Any]) -> int:
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(f"{asked['folder']}/{name}", os.O_WRONLY | os.O_CREAT), number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    if asked["code"]:
        exec(compile(asked["code"], "<code>", "exec"), {"__name__": "__main__"})
        return 0
    from mmclip.cli import run

    sys.argv = ["mmclip", *asked["command"]]
    return run(asked["command"])


def _forked(asked: dict[str, Any]) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        code = _child(asked)
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _ended(pid: int) -> int | None:
    found, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if found else None


def main() -> None:
    """Answer one question a line."""
    import importlib

    for name in HEAVY:
        importlib.import_module(name)
    import torch

    torch.set_num_threads(1)
    answers = os.fdopen(os.dup(1), "w")
    for line in iter(sys.stdin.readline, ""):
        asked = json.loads(line)
        answer = _ended(asked["poll"]) if "poll" in asked else _forked(asked)
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
