"""Patience and politeness of the HTTP client, whatever the service."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Service:
    """A service as the client knows it.

    Attributes:
        name: In the cache, and in `$MMCLIP_<NAME>_TOKEN`.
        spacing: s between two requests.
        absent, again, smaller: Regular expressions: its own words for "I do not have it", "it
            passes" and "ask for less at once", whatever the status.
    """

    name: str
    spacing: float = 0.0
    absent: str = ""
    again: str = ""
    smaller: str = ""


@dataclass(frozen=True)
class Settings:
    """The table `[fetch]` of the settings file: timeouts, retries and pace of every request.

    Addresses and habits of a service are settings of its survey, in a table named after it.
    """

    connect: float = 10.0  # s
    stall: float = 120.0  # s without a byte
    floor: float = 200.0  # bytes/s over `floor_window`, below which a trickle is given up
    floor_window: float = 60.0  # s
    tries: int = 6
    backoff: float = 2.0  # s; doubles, with full jitter
    backoff_most: float = 120.0  # s
    pace: float = 1.0  # factor on the polite spacing of requests; 0 for a server of your own
    contact: str = ""  # an address for the User-Agent
    largest: int = 40_000_000_000  # bytes of one answer
    tap_chunk: int = 20000  # ids a TAP query
    tap_row_limit: int = 3_000_000  # this many rows exactly is an answer cut short
    tap_patience: float = 600.0  # s without an answer before a running job is left alone
    tap_job_limit: float = 7200.0  # s a job may take
    tap_poll: float = 2.0  # s between the first two polls; grows to 30 s
