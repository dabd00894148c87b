"""Memory that a training frees and asks for again at once, kept by the C library meanwhile."""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

TRIM, MAP = -1, -3  # mallopt's names: malloc.h, M_TRIM_THRESHOLD and M_MMAP_THRESHOLD
ORDINARY = 128 * 1024  # bytes, both, unless told otherwise
MOST = 2**30


@contextmanager
def kept() -> Iterator[None]:
    """Freed memory is given back to the system at the end, and not after every tensor.

    The system clears each page that it hands out: 5 to 10 % of the time of a step of AstroM3 on a
    CPU. Does nothing where the C library is not GNU's.
    """
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    if not hasattr(libc, "mallopt") or not hasattr(libc, "malloc_trim"):
        yield
        return
    assert libc is not None
    for name in (TRIM, MAP):
        libc.mallopt(name, MOST)
    try:
        yield
    finally:
        for name in (TRIM, MAP):
            libc.mallopt(name, ORDINARY)
        libc.malloc_trim(0)
