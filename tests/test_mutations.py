"""Damage by chance to every kind of file: a sample here, 5,000 trials with `-m long`."""

import json
import os

import numpy as np
import pytest

from tests.benchmarks import mutations
from tests.benchmarks.mutations import (
    CRASH,
    FAULTS,
    HANG,
    OTHER,
    REFUSED,
    SAME,
    WRONG,
    Kind,
    damaged,
    measure,
)


def trials(forks, count, seed):
    """The rows and faults of so many trials in a process of their own."""
    done = forks.main("tests.benchmarks.mutations", "--json", "--count", count, "--seed", seed)
    assert done.code == 0, done.err[-2000:]
    return json.loads(done.out.splitlines()[-1])


def judge(made, count):
    """Every trial was done, and none was a fault."""
    assert sum(r["trials"] for r in made["rows"]) == count
    assert made["faults"] == []
    for row in made["rows"]:
        # The ones' complement sum of FITS does not see words that change places.
        blind = row["kind"] == "FITS with CHECKSUM and DATASUM"
        assert blind or not (row["summed"] and row[OTHER]), row["kind"]


def test_a_sample_of_damaged_files_is_refused_or_read(forks):
    judge(trials(forks, 80, 1), 80)


@pytest.mark.long
def test_many_damaged_files_are_refused_or_read(forks):
    count = int(os.environ.get("MMCLIP_MUTATIONS", "5000"))
    judge(trials(forks, count, int(os.environ.get("MMCLIP_SEED", "1"))), count)


# The harness itself sees what it is there to see.


def crashes(path):
    os.abort()


def hangs(path):
    while True:
        pass


def eats(path):
    return bytearray(2 << 30)


def raises(path):
    raise ZeroDivisionError


def believes(path):
    return path.read_bytes()


def refuses(path):
    from mmclip.errors import IntegrityError

    if path.read_bytes() != b"whole " * 50:
        raise IntegrityError("damaged")


def ignores(path):
    return None


@pytest.mark.parametrize(
    ("reader", "summed", "outcome"),
    [(crashes, False, CRASH), (hangs, False, HANG), (eats, False, CRASH), (raises, False, CRASH),
     (believes, True, WRONG), (believes, False, OTHER), (refuses, True, REFUSED),
     (ignores, True, SAME)],
)  # fmt: skip
def test_the_harness_sees_each_outcome(tmp_path, reader, summed, outcome):
    path = tmp_path / "x"
    path.write_bytes(b"whole " * 50)

    def read(path):
        return None if path.read_bytes() == b"whole " * 50 else reader(path)

    rows, faults = measure([Kind("made", (path,), read, summed)], 2, 1, seconds=2.0)
    assert rows[0][outcome] >= 1
    assert sum(rows[0][o] for o in mutations.OUTCOMES) == 2
    assert bool(faults) is (outcome in FAULTS)
    assert path.read_bytes() == b"whole " * 50


@pytest.mark.parametrize("way", mutations.WAYS)
def test_each_way_changes_some_files_and_leaves_the_original(way):
    body = bytes(np.random.default_rng(0).integers(0, 256, 3000, dtype="u1"))
    kept = bytes(body)
    made = [bytes(way(bytearray(body), np.random.default_rng(s))) for s in range(30)]
    assert body == kept
    assert sum(m != body for m in made) > 20
    for tiny in (b"x", b"ab"):
        way(bytearray(tiny), np.random.default_rng(0))


def test_a_damaged_file_is_another_file():
    for seed in range(200):
        rng = np.random.default_rng(seed)
        for body in (b"", b"7", b"aaaa", bytes(500)):
            assert damaged(body, rng)[0] != body
