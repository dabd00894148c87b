"""Damage to files, measured: `python -m tests.benchmarks.mutations --count 5000 --seed 1`.

Every trial changes one file in one way, reads it in a forked process under a time limit and a
memory limit, and says what became of it. A long run is 5,000 trials; the tests take a sample.
"""

import argparse
import collections
import faulthandler
import json
import os
import resource
import select
import signal
import struct
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

SECONDS = 20.0  # of one read, on a machine that does other things too
MEMORY = 1 << 30  # bytes that reading one of these files (all below 5 MB) may take
CRASH, HANG, WRONG = "crash", "hang", "silently wrong"
FAULTS = (CRASH, HANG, WRONG)
REFUSED, SAME, OTHER = "refused", "as whole", "other values"
OUTCOMES = (REFUSED, SAME, OTHER, *FAULTS)


@dataclass(frozen=True)
class Kind:
    """A kind of file that can be damaged.

    Attributes:
        name: Of the row in the table.
        files: The files, one of which a trial damages.
        read: From the path to what was read; what can be compared by `digest`.
        summed: Under a checksum, so that other values would be silently wrong.
        blind: Ways of damage that the sum cannot see, by its definition.
        prepare: Done to the damaged file before it is read, for example a new manifest.
    """

    name: str
    files: tuple[Path, ...]
    read: object
    summed: bool = False
    prepare: object = None
    blind: tuple = ()  # ways of damage that its sum cannot see


# One way each to damage bytes; `rng` decides where.


def flip_bit(body, rng):
    """One bit."""
    body[int(rng.integers(len(body)))] ^= 1 << int(rng.integers(8))
    return body


def run_of_bytes(body, rng):
    """Up to 64 bytes in a row, of chance."""
    start, stop = _span(body, rng, 64)
    body[start:stop] = rng.bytes(stop - start)
    return body


def zeroes(body, rng):
    """Up to 4096 bytes of zero, as a disk that lost a block gives."""
    start, stop = _span(body, rng, 4096)
    body[start:stop] = bytes(stop - start)
    return body


def cut(body, rng):
    """The end is missing."""
    return body[: int(rng.integers(len(body)))]


def doubled(body, rng):
    """A block stands twice."""
    start, stop = _span(body, rng, 4096)
    return body[:stop] + body[start:stop] + body[stop:]


def lost(body, rng):
    """A block is missing."""
    start, stop = _span(body, rng, 4096)
    return body[:start] + body[stop:]


def swapped(body, rng):
    """Two blocks of one length changed places."""
    size = int(rng.integers(1, max(2, min(2048, len(body) // 2 + 1))))
    first = int(rng.integers(max(1, len(body) - 2 * size + 1)))
    second = int(rng.integers(first + size, max(first + size + 1, len(body) - size + 1)))
    one, two = body[first : first + size], body[second : second + size]
    body[first : first + size], body[second : second + size] = two, one
    return body


def header(body, rng):
    """A number in the head or the foot becomes absurd: large, negative, all ones."""
    place = int(rng.integers(min(len(body), 512)))
    place = place if rng.random() < 0.6 else len(body) - 1 - place
    kind, absurd = [
        ("<q", -1), ("<q", 2**62), (">i", 2**31 - 1), ("<i", -(2**31)), ("<I", 10**9), ("B", 255),
    ][int(rng.integers(6))]  # fmt: skip
    new = struct.pack(kind, absurd)[: len(body) - place]
    body[place : place + len(new)] = new
    return body


def digits(body, rng):
    """A number written in figures gets other figures: counts, axes, lengths, ids."""
    places = np.flatnonzero((np.frombuffer(bytes(body), "u1") - 48) < 10)
    if not len(places):
        return flip_bit(body, rng)
    place = int(rng.choice(places))
    body[place] = 48 + (body[place] - 48 + int(rng.integers(1, 10))) % 10
    if rng.random() < 0.3:
        body[place:place] = b"9999999999"
    return body


def _span(body, rng, longest):
    start = int(rng.integers(len(body)))
    return start, min(len(body), start + int(rng.integers(1, longest + 1)))


WAYS = (flip_bit, run_of_bytes, zeroes, cut, doubled, lost, swapped, header, digits)


def damaged(body, rng):
    """The bytes of a file after one change, and the name of that change."""
    if not body:
        return rng.bytes(9), "grown"
    for _ in range(20):
        way = WAYS[int(rng.integers(len(WAYS)))]
        made = bytes(way(bytearray(body), rng))
        if made != body:
            return made, way.__name__
    return body[:-1], "cut"


def digest(value):
    """Anything that a reader returns, as bytes that can be compared; NaN equals NaN."""
    import hashlib

    found = hashlib.sha256()
    _feed(found, value)
    return found.hexdigest()


def _feed(found, value):
    import dataclasses

    import pyarrow as pa

    if isinstance(value, pa.Table):
        for name in value.column_names:
            kind = value.schema.field(name).type
            found.update(f"{name} {kind} {value[name].to_pylist()!r}".encode())
    elif isinstance(value, np.ndarray) and value.dtype != object:
        found.update(f"{value.dtype}{value.shape}".encode() + np.ascontiguousarray(value).tobytes())
    elif isinstance(value, np.ndarray):
        _feed(found, value.tolist())
    elif hasattr(value, "detach"):
        _feed(found, value.detach().cpu().numpy())
    elif hasattr(value, "state_dict") and not isinstance(value, type):
        _feed(found, dict(value.state_dict()))
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        _feed(found, {f.name: getattr(value, f.name) for f in dataclasses.fields(value)})
    elif isinstance(value, dict):
        for key in sorted(value, key=repr):
            _feed(found, (repr(key), value[key]))
    elif isinstance(value, list | tuple):
        found.update(f"{len(value)}[".encode())
        for part in value:
            _feed(found, part)
    elif callable(value):
        found.update(getattr(value, "__name__", type(value).__name__).encode())
    else:
        found.update(repr(value).encode())


# The trials


def trial(kind, whole, seed, known):
    """Damage a file of a kind, read it, put it back: (file, way, outcome, what was said)."""
    from mmclip.errors import MmclipError
    from mmclip.surveys.client.http import BadAnswer

    rng = np.random.default_rng(seed)
    path = kind.files[int(rng.integers(len(kind.files)))]
    body, way = damaged(whole[path], rng)
    try:
        path.write_bytes(body)
        if kind.prepare is not None:
            kind.prepare(path)
        made = kind.read(path)
        same = digest(made) == known[path]
        believed = kind.summed and way not in kind.blind
        outcome, said = (SAME if same else WRONG if believed else OTHER), ""
    except (MmclipError, BadAnswer) as error:
        outcome, said = REFUSED, str(error)
        if _of_memory(error):
            outcome, said = CRASH, f"stopped by the memory limit alone: {said}"
    except BaseException as error:
        outcome = CRASH
        place = traceback.extract_tb(error.__traceback__)
        own = [f"{Path(f.filename).name}:{f.lineno}" for f in place if "mmclip" in f.filename]
        said = f"{type(error).__name__}: {error} at {' '.join(own[-3:])}"
    return path.name, way, outcome, said[:400]


def _of_memory(error):
    while error is not None:
        if isinstance(error, MemoryError):
            return True
        error = error.__cause__ or error.__context__
    return False


def restored(kind, whole, kept):
    """Every file of a kind (and its manifest) as it was."""
    for path in kind.files:
        path.write_bytes(whole[path])
    for path, body in kept.items():
        path.write_bytes(body)


def measure(kinds, count, seed, seconds=SECONDS, memory=MEMORY):
    """`count` trials spread evenly over the kinds; a row a kind, and every fault."""
    tally = {k.name: collections.Counter() for k in kinds}
    faults = []
    for n, kind in enumerate(kinds):
        share = count // len(kinds) + (n < count % len(kinds))
        seeds = [(seed, n, i) for i in range(share)]
        for at, (file, way, outcome, said) in _trials(kind, seeds, seconds, memory):
            tally[kind.name][outcome] += 1
            if outcome in FAULTS:
                faults.append(
                    {"kind": kind.name, "seed": seeds[at], "file": file, "way": way,
                     "outcome": outcome, "said": said}
                )  # fmt: skip
    rows = [
        {"kind": k.name, "trials": sum(tally[k.name].values()), "summed": k.summed}
        | {o: tally[k.name][o] for o in OUTCOMES}
        for k in kinds
    ]
    return rows, faults


def _trials(kind, seeds, seconds, memory):
    """(place in seeds, result) of every trial; a child that dies or stalls is replaced."""
    whole = {p: p.read_bytes() for p in kind.files}
    kept = _manifests(kind)
    at = 0
    while at < len(seeds):
        child, pipe = _child(kind, whole, kept, seeds, at, memory)
        with os.fdopen(pipe) as lines:
            select.select([lines], [], [], 20 * seconds)  # it reads every whole file first
            if lines.readline() != "ready\n":
                raise RuntimeError(f"{kind.name}: a whole file cannot be read")
            while at < len(seeds):
                ready, _, _ = select.select([lines], [], [], seconds)
                line = lines.readline() if ready else ""
                if not line:
                    if not ready:
                        os.kill(child, signal.SIGKILL)
                    yield at, ("?", "?", CRASH if ready else HANG, "the process ended or stalled")
                    at += 1
                    break
                yield at, json.loads(line)
                at += 1
        os.waitpid(child, 0)
        restored(kind, whole, kept)


def _manifests(kind):
    kept = {}
    for path in kind.files:
        for folder in path.parents:
            file = folder / "manifest.json"
            if file.is_file():
                kept[file] = file.read_bytes()
    return kept


def _child(kind, whole, kept, seeds, start, memory):
    """Fork a process that does trials from `start` on and writes a line a trial."""
    reading, writing = os.pipe()
    sys.stdout.flush()
    child = os.fork()
    if child:
        os.close(writing)
        return child, reading
    os.close(reading)
    try:
        faulthandler.disable()  # a crash is an outcome here, and is told as one
        torch.set_num_threads(1)  # a pool of threads does not outlive a fork: it would wait for it
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # C libraries complain there
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        known = {}
        for path in kind.files:
            if kind.prepare is not None:
                kind.prepare(path)
            known[path] = digest(kind.read(path))
            restored(kind, whole, kept)
        limit = _data() + memory
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
        with os.fdopen(writing, "w", buffering=1) as out:
            out.write("ready\n")
            for seed in seeds[start:]:
                done = trial(kind, whole, seed, known)
                restored(kind, whole, kept)
                out.write(json.dumps(done) + "\n")
    except BaseException:
        os.write(writing, f"{traceback.format_exc()}\n".encode())
    finally:
        os._exit(0)


def _data():
    """Bytes of private data that this process has now."""
    text = Path("/proc/self/status").read_text()
    return int(text.split("VmData:")[1].split()[0]) << 10


def markdown(rows):
    """The table of docs/reliability.md."""
    head = ("file", "mutations", "under a sum", *OUTCOMES)
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for row in rows:
        cells = [row["kind"], row["trials"], "yes" if row["summed"] else "no"]
        lines.append("| " + " | ".join(map(str, [*cells, *(row[o] for o in OUTCOMES)])) + " |")
    sums = [sum(r[o] for r in rows) for o in ("trials", *OUTCOMES)]
    lines.append("| " + " | ".join(["all", str(sums[0]), "", *map(str, sums[1:])]) + " |")
    return "\n".join(lines)


def main():
    from tests.benchmarks import mutation_kinds

    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--count", type=int, default=200)
    asked.add_argument("--seed", type=int, default=1)
    asked.add_argument("--only", default="", help="kinds whose name holds this text")
    asked.add_argument("--json", action="store_true")
    asked.add_argument("--folder", type=Path, help="where the whole files are made, and kept")
    given = asked.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        begun = time.monotonic()
        kinds = mutation_kinds.every(given.folder or Path(scratch), given.only)
        built = time.monotonic() - begun
        rows, faults = measure(kinds, given.count, given.seed)
    body = {"rows": rows, "faults": faults, "seconds to make the files": round(built, 1),
            "seconds": round(time.monotonic() - begun, 1)}  # fmt: skip
    if given.json:
        print(json.dumps(body))
        return
    print(markdown(rows))
    print(f"{body['seconds']} s, of which {body['seconds to make the files']} to make the files")
    for fault in faults:
        print(json.dumps(fault))


if __name__ == "__main__":
    main()
