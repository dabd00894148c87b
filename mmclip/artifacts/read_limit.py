"""A limit on the memory that one read may take, where a format states sizes in its midst."""

import contextlib
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def memory(most: int) -> Iterator[None]:
    """Let this process take at most so many more bytes of data; more is a MemoryError.

    For formats whose counts cannot be checked before they are believed, as those of FAISS. On
    systems other than Linux nothing is limited.

    Args:
        most: Bytes.
    """
    import resource

    try:
        text = Path("/proc/self/status").read_text()
        now = int(text.split("VmData:")[1].split()[0]) << 10
    except (OSError, IndexError, ValueError):
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = now + most
    if soft != resource.RLIM_INFINITY:
        wanted = min(wanted, soft)
    resource.setrlimit(resource.RLIMIT_DATA, (wanted, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))
