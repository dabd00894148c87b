"""Memory that is kept during a training is given back afterwards, also when it fails."""

import sys

import pytest

from mmclip.training import memory


class Library:
    def __init__(self):
        self.said = []

    def mallopt(self, name, value):
        self.said.append((name, value))

    def malloc_trim(self, pad):
        self.said.append("trimmed")


@pytest.mark.skipif(sys.platform != "linux", reason="GNU's C library alone has these switches")
def test_freed_memory_is_kept_and_then_given_back(monkeypatch):
    library = Library()
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: library)

    def fail():
        with memory.kept():
            assert library.said == [(memory.TRIM, memory.MOST), (memory.MAP, memory.MOST)]
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        fail()
    assert library.said[2:] == [(-1, 131_072), (-3, 131_072), "trimmed"]


def test_another_system_is_left_alone(monkeypatch):
    monkeypatch.setattr(memory.sys, "platform", "darwin")
    with memory.kept():
        pass
