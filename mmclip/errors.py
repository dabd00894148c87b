"""What a user can mend: one sentence with the value, the next thing to type, an exit code."""

import re

OK, FAILED, USAGE, PARTIAL, REMOTE, INTEGRITY, DIFFERS, INTERRUPTED = 0, 1, 2, 3, 4, 5, 6, 130


class MmclipError(Exception):
    """A fault the user can mend.

    Args:
        message: One sentence that says what is wrong, with the value.
        hint: The next thing to type or to do; may be empty.
    """

    exit_code = FAILED

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(MmclipError, ValueError):
    """An option or a value that cannot be meant."""

    exit_code = USAGE


class NotFound(MmclipError, LookupError):
    """An id, a file, a class or an artefact that is not there."""

    exit_code = USAGE


class MissingExtra(MmclipError, ImportError):
    """An optional package that this command needs."""

    exit_code = USAGE


class PartialResult(MmclipError):
    """Something was delivered, not all; what is missing has been written down."""

    exit_code = PARTIAL


class RemoteError(MmclipError, ConnectionError):
    """A survey's service refused, failed or was out of reach."""

    exit_code = REMOTE


class IntegrityError(MmclipError, OSError):
    """A file that is not what its manifest or its checksum says."""

    exit_code = INTEGRITY

    def __str__(self) -> str:
        return self.message


class Differs(MmclipError):
    """What was made again is not what was there."""

    exit_code = DIFFERS


SECRET = re.compile(
    r"([?&][^=&#\s]*(?:token|passw|pwd|secret|key|auth|signature|credential)[^=&#\s]*=)[^&#\s]+",
    re.IGNORECASE,
)


USER = re.compile(r"(?<=:)(//?)[^/@\s]+@")


def nameless(text: str) -> str:
    """Text whose URLs are without user and password.

    >>> nameless("https://me:pw@host/x?a=1")
    'https://host/x?a=1'
    """
    return USER.sub(r"\1", text)


def hidden(text: str) -> str:
    """Text whose URLs are without user, password, and the values of parameters that name a secret.

    >>> hidden("see https://me:pw@host/x?a=1&api_key=abc")
    'see https://host/x?a=1&api_key=***'
    """
    return SECRET.sub(r"\1***", nameless(text))


def visible(text: str) -> str:
    """Text that a terminal only shows: control and direction characters as escapes (`\\x1b`).

    Names come from files and services; an escape sequence in one could move the cursor, change the
    window's title, or hide what stands beside it. Line ends and tabs stay; secrets in URLs go.
    """
    return "".join(c if c in "\n\t" or not _controls(c) else ascii(c)[1:-1] for c in hidden(text))


def _controls(c: str) -> bool:
    # C0, delete, C1; marks that turn the direction of writing (Unicode Technical Report 36).
    return (
        c < " "
        or "\x7f" <= c <= "\x9f"
        or c in "\u061c\u200e\u200f"
        or ("\u202a" <= c <= "\u202e" or "\u2066" <= c <= "\u2069")
    )


def nearest(word: str, known: list[str]) -> str:
    """A phrase naming the known word most like `word`, or all of them if none is close."""
    import difflib

    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    if close:
        return f"did you mean '{close[0]}'?"
    return "known: " + ", ".join(sorted(known))
