"""How much is said (--quiet, -v), and the log file of the workspace, `mmclip.log`.

A line a statement, without secrets; at a megabyte it becomes `mmclip.log.1`. A log that cannot be
written is no reason to stop.
"""

import contextlib
import logging
import shlex
import sys
from contextvars import ContextVar
from logging.handlers import RotatingFileHandler
from pathlib import Path

from mmclip.errors import visible

NAME = "mmclip.log"
MOST, KEPT = 1_000_000, 2  # bytes of a file; files besides the one that is written
QUIET, NORMAL, VERBOSE = -1, 0, 1
WORDS = {"-q": QUIET, "--quiet": QUIET, "-v": VERBOSE, "--verbose": VERBOSE}
WARNINGS = ("note:", "warning")  # are said even when quiet
LOG = logging.getLogger("mmclip")
level: ContextVar[int] = ContextVar("level", default=NORMAL)


class _Line(logging.Formatter):
    """One line without control characters or secrets."""

    def format(self, record: logging.LogRecord) -> str:
        return visible(super().format(record)).replace("\n", " | ")


class _File(RotatingFileHandler):
    def handleError(self, record: logging.LogRecord) -> None:
        """A full or read-only disk is no fault of the command."""


class WorkspaceLog(logging.Handler):
    """Keeps records until the workspace is known and there, then writes them to its log file."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.root: Path | None = None
        self.waiting: list[logging.LogRecord] = []
        self.file: _File | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record, or keep it."""
        self.waiting.append(record)
        if self.root is None or not self.root.is_dir():
            return
        if self.file is None:
            self.file = _File(self.root / NAME, maxBytes=MOST, backupCount=KEPT, encoding="utf-8",
                              delay=True)  # fmt: skip
            self.file.setFormatter(_Line("%(asctime)s %(process)d %(levelname)s %(message)s"))
        for one in self.waiting:
            self.file.handle(one)
        self.waiting.clear()

    def close(self) -> None:
        """Close the file."""
        if self.file is not None:
            with contextlib.suppress(OSError):
                self.file.close()
        super().close()


def manners(arguments: list[str]) -> tuple[list[str], int]:
    """The arguments without -v and --quiet, which may stand anywhere, and how much is to be said.

    >>> manners(["search", "-q", "--query-id", "5"])
    (['search', '--query-id', '5'], -1)
    """
    end = arguments.index("--") if "--" in arguments else len(arguments)
    said = [WORDS[word] for word in arguments[:end] if word in WORDS]
    kept = [word for i, word in enumerate(arguments) if i >= end or word not in WORDS]
    return kept, said[-1] if said else NORMAL


def start(arguments: list[str]) -> WorkspaceLog:
    """Begin to log a command line."""
    from mmclip import __version__

    made = WorkspaceLog()
    LOG.addHandler(made)
    LOG.setLevel(logging.DEBUG)
    LOG.propagate = False
    LOG.info("mmclip %s: %s", __version__, shlex.join(arguments))
    return made


def loud() -> logging.Handler:
    """Show what is opened, made and asked on standard error, with the seconds since the start."""
    made = logging.StreamHandler(sys.stderr)
    made.setFormatter(_Line("  [%(relativeCreated)7.0f ms] %(message)s"))
    made.setLevel(logging.DEBUG)
    made.addFilter(lambda record: record.levelno == logging.DEBUG)
    LOG.addHandler(made)
    LOG.setLevel(logging.DEBUG)
    return made


def into(root: Path) -> None:
    """Say which workspace is asked."""
    for handler in LOG.handlers:
        if isinstance(handler, WorkspaceLog):
            handler.root = root
