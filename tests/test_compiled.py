"""What loops are compiled to is kept between processes, and a damaged copy does no harm."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from mmclip import compiled

LOOPS = """
import numba

@numba.njit
def half(x):
    return x / 2

@numba.njit
def applied(x, dist):
    return dist(x)
"""
ASKED = """
import sys
from pathlib import Path
import loops
from mmclip import compiled
compiled.keep(Path(sys.argv[1]), "loops")
print(loops.half(3.0), loops.applied(5.0, loops.half))
print(*(sum(it.stats.cache_hits.values()) for it in (loops.half, loops.applied)))
"""


@pytest.fixture
def answer(tmp_path):
    """Two answers, and how often a kept loop was taken for each."""
    (tmp_path / "loops.py").write_text(LOOPS)

    def ask(folder):
        root = Path(__file__).parents[1]
        code = f"import sys; sys.path[:0] = [{str(tmp_path)!r}, {str(root)!r}]\n{ASKED}"
        done = subprocess.run(
            [sys.executable, "-c", code, str(folder)], text=True, capture_output=True, check=True
        )
        return done.stdout.split()

    return ask


@pytest.mark.slow
def test_a_second_process_takes_what_the_first_has_compiled(tmp_path, answer):
    kept = tmp_path / "kept"
    assert answer(kept) == ["1.5", "2.5", "0", "0"]
    files = sorted(kept.rglob("*.nbc"))
    assert answer(kept) == ["1.5", "2.5", "1", "0"]  # one that is given a function is not kept
    assert sorted(kept.rglob("*.nbc")) == files
    for file in files:
        file.write_bytes(file.read_bytes()[:100])
    assert answer(kept) == ["1.5", "2.5", "0", "0"]


def test_without_a_place_to_keep_them_loops_are_compiled(tmp_path, answer):
    (tmp_path / "file").touch()
    assert answer(tmp_path / "file" / "kept")[:2] == ["1.5", "2.5"]


def test_distances_of_all_pairs_are_not_asked_for_pair_by_pair():
    def asked(a, b):
        raise AssertionError("one pair at a time")

    metrics = SimpleNamespace(cosine=asked, euclidean=lambda a, b: asked(a, b))
    distances = compiled.distances_of(metrics)
    x, y = np.random.default_rng(0).normal(size=(2, 6, 5)).astype("f4")
    length = [np.linalg.norm(a.astype(float), axis=1) for a in (x, y)]
    cosine = x.astype(float) @ y.T / np.outer(*length)
    np.testing.assert_allclose(distances(x, y, metric=metrics.cosine), 1 - cosine, atol=1e-12)
    apart = np.linalg.norm(x[:, None].astype(float) - x, axis=2)
    np.testing.assert_allclose(distances(x, metric=metrics.euclidean), apart, atol=1e-7)
    own = distances(x, y, metric=lambda a, b: abs(a - b).sum())
    np.testing.assert_allclose(own, np.abs(x[:, None] - y).sum(axis=2), rtol=1e-5)
