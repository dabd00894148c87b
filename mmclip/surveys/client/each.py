"""Observations that are asked for one by one: who fails is listed, a dead service ends it."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from mmclip.errors import IntegrityError, RemoteError
from mmclip.surveys.client.answers import Absent, Refused
from mmclip.surveys.client.http import Client, Unreachable

Key = TypeVar("Key")
Got = TypeVar("Got")
IN_A_ROW = 5  # failures after which the service is taken to be down, unless a good one still comes


@dataclass(frozen=True)
class Outcome(Generic[Key, Got]):
    """What came, and a reason for each key that did not.

    `absent` holds what the service says it does not have; a file that its catalogue promised and
    that is not there (404) is `missing`.
    """

    found: dict[Key, Got] = field(default_factory=dict)
    missing: dict[Key, str] = field(default_factory=dict)
    absent: dict[Key, str] = field(default_factory=dict)


def each(client: Client, keys: Iterable[Key], get: Callable[[Key], Got]) -> Outcome[Key, Got]:
    """What `get` gives for each key.

    Raises:
        Unreachable: If five in a row failed and one that came before fails too, or with
            `--offline`.
    """
    out: Outcome[Key, Got] = Outcome()
    row, good = 0, None
    for key in keys:
        try:
            out.found[key] = get(key)
            row, good = 0, (key,)
        except Absent as absent:
            row = 0
            if absent.words:
                out.absent[key] = absent.words
            else:
                out.missing[key] = f"http_{absent.status}"
        except Refused as refused:
            out.missing[key] = f"http_{refused.status}"
            row = 0
        except Unreachable as error:
            row += 1
            if client.offline or (row >= IN_A_ROW and not (good and _alive(client, get, good[0]))):
                raise
            row %= IN_A_ROW
            out.missing[key] = f"service_failed: {error.message[-60:]}"
        except RemoteError:
            raise
        except IntegrityError as error:
            out.missing[key] = f"invalid_payload: {error.message[:60]}"
    return out


def _alive(client: Client, get: Callable[[Key], Got], key: Key) -> bool:
    """Whether the service still gives what it gave before: the last failures are the stars' own."""
    fresh, client.fresh = client.fresh, True
    try:
        get(key)
    except RemoteError:
        return False
    finally:
        client.fresh = fresh
    return True


def blocks(ids: NDArray[np.int64], size: int) -> list[NDArray[np.int64]]:
    """Ids in blocks of at most `size`."""
    return [ids[i : i + size] for i in range(0, len(ids), size)]
