"""Patience and politeness of the HTTP client, whatever the service."""

from dataclasses import dataclass
from typing import Annotated

from mmclip.config import AtLeast0, Count, Positive, Range


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

    connect: Positive = 10.0  # s
    stall: Positive = 120.0  # s without a byte
    floor: AtLeast0 = 200.0  # bytes/s over `floor_window`, below which a trickle is given up
    floor_window: Positive = 60.0  # s
    body: Positive = 43200.0  # s for the body of one try; what can be resumed is
    tries: Count = 6
    backoff: AtLeast0 = 2.0  # s; doubles, with full jitter
    backoff_most: AtLeast0 = 120.0  # s
    pace: AtLeast0 = 1.0  # factor on the polite spacing of requests; 0 for a server of your own
    contact: str = ""  # an address for the User-Agent
    largest: Annotated[int, Range(1, 2**63 - 1)] = 40_000_000_000  # bytes of one answer
    tap_chunk: Count = 20000  # ids a TAP query
    tap_row_limit: Count = 3_000_000  # this many rows exactly is an answer cut short
    tap_patience: AtLeast0 = 600.0  # s without an answer before a running job is left alone
    tap_job_limit: Positive = 7200.0  # s a job may take
    tap_poll: Positive = 2.0  # s between the first two polls; grows to 30 s
