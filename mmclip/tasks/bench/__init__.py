"""Speed against a reference that gives the same answer: one file a benchmark.

A benchmark is a file that defines `BENCH`; its `run(settings)` returns rows. Time is CPU time of
this process, ours and the reference's in turns, the best of several: another process on the
machine slows both, and does not choose the winner.
"""

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from mmclip import plugins
from mmclip.config import Count, Seed, Size, Whole
from mmclip.errors import MmclipError
from mmclip.results import Value

Line: TypeAlias = dict[str, Value]  # a row of a benchmark's table


@dataclass(frozen=True)
class BenchConfig:
    """Settings of `mmclip bench`."""

    rows: Count = 2000  # objects that ours is measured on
    repeats: Count = 5  # of each measurement; the best counts
    seed: Seed = 42
    device: str = "auto"  # where the benchmark has a choice
    dimension: Size = 512  # of vectors, where they are made
    preset: str = ""  # of `train`: one alone
    batch: Whole = 0  # of `train`: one alone; 0: all


@dataclass(frozen=True)
class Bench:
    """The contract of a benchmark: what it is called, what it says, and what it does."""

    name: str
    title: str
    run: Callable[[BenchConfig], list[Line]]


def row(
    name: str, unit: str, ours: float, reference: float, against: str, difference: float
) -> Line:
    """One line of the answer.

    Args:
        name: What was measured.
        unit: Of `ours` and `reference`, per object: lower is better.
        ours, reference: The two measurements.
        against: What the reference is.
        difference: Largest |ours - reference| of the answers, relative to the largest answer.
    """
    return {
        "name": name,
        "unit": unit,
        "ours": ours,
        "reference": reference,
        "ratio": reference / ours,
        "against": against,
        "difference": difference,
    }


def compare(
    ours: Callable[[], Any], reference: Callable[[], Any], repeats: int
) -> tuple[float, float, Any, Any]:
    """CPU seconds of both, the best of `repeats` in turns, and their answers."""
    best = [float("inf"), float("inf")]
    answers: list[Any] = [None, None]
    for _ in range(repeats):
        for k, work in enumerate((ours, reference)):
            start = time.process_time()
            answers[k] = work()
            best[k] = min(best[k], time.process_time() - start)
    return best[0], best[1], answers[0], answers[1]


def difference(ours: Any, reference: Any) -> float:
    """Largest |ours - reference| over the largest |reference|; infinite where one is unknown."""
    a, b = np.asarray(ours, np.float64), np.asarray(reference, np.float64)
    if not np.array_equal(np.isfinite(a), np.isfinite(b)):
        return float("inf")
    known = np.isfinite(b)
    return float(np.abs(a[known] - b[known]).max() / np.abs(b[known]).max())


def apart(name: str, asked: Mapping[str, Value]) -> Line:
    """What `measure(**asked)` of a benchmark says in its own process, and the load before it.

    Raises:
        MmclipError: If it failed, with the end of what it said.
    """
    code = "import sys; from mmclip.tasks.bench import child; child(*sys.argv[1:])"
    before = os.getloadavg()[0]
    done = subprocess.run(
        [sys.executable, "-c", code, name, json.dumps(asked)], capture_output=True, text=True
    )
    if done.returncode != 0:
        raise MmclipError(f"the benchmark {name} of {asked} failed: {done.stderr[-300:]}")
    line: Line = json.loads(done.stdout.splitlines()[-1])
    return line | {"load": round(before, 1)}


def child(name: str, text: str) -> None:
    """Measure one line of a benchmark and print it as JSON; run in a process of its own."""
    print(json.dumps(plugins.load("tasks.bench", name, "measure")(**json.loads(text))))


def peak() -> float:
    """Largest resident memory of this process so far, GiB.

    From /proc where there is one: getrusage counts what the parent held before the process began.
    """
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 2**20
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
