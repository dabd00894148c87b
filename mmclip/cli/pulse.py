"""A sign of life: on a terminal, a command that has said nothing for three seconds says so.

One line that is written over, and wiped before anything else is printed; where a progress bar
runs, in a pipe, in a log and with --quiet there is none.
"""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

SILENT = 3.0  # s
WIPE = "\r\x1b[K"


class Pulse:
    """Watches how long nothing was said.

    Args:
        doing: What is said to be at work: the command.
        stream: Where to; nothing is written to one that is no terminal.
        clock: Gives seconds.
    """

    def __init__(
        self, doing: str, stream: TextIO, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.doing, self.stream, self.clock = doing, stream, clock
        self.begun = self.heard = clock()
        self.shown, self.held = False, 0
        self.lock, self.stop = threading.Lock(), threading.Event()

    def beat(self) -> None:
        """Show for how long the command works, if nothing was said for a while."""
        with self.lock:
            now = self.clock()
            if self.held or now - self.heard < SILENT or not self.stream.isatty():
                return
            self.stream.write(f"{WIPE}  {self.doing}: at work for {now - self.begun:.0f} s")
            self.stream.flush()
            self.shown = True

    def wipe(self) -> None:
        """Something is about to be said: the line goes."""
        with self.lock:
            if self.shown:
                self.stream.write(WIPE)
                self.stream.flush()
            self.shown, self.heard = False, self.clock()

    def watch(self) -> None:
        """Beat once a second until it is stopped."""
        while not self.stop.wait(1.0):
            self.beat()


_running: list[Pulse] = []


@contextmanager
def running(doing: str) -> Iterator[None]:
    """A pulse while a command runs; only the outermost one beats."""
    if _running or not sys.stderr.isatty():
        yield
        return
    pulse = Pulse(doing, sys.stderr)
    _running.append(pulse)
    threading.Thread(target=pulse.watch, daemon=True).start()
    try:
        yield
    finally:
        pulse.stop.set()
        pulse.wipe()
        _running.clear()


def wipe() -> None:
    """Call before anything is printed."""
    for pulse in _running:
        pulse.wipe()


@contextmanager
def held() -> Iterator[None]:
    """No sign of life within: a progress bar gives one."""
    wipe()
    for pulse in _running:
        pulse.held += 1
    try:
        yield
    finally:
        for pulse in _running:
            pulse.held -= 1
