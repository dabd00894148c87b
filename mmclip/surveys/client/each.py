"""Observations that are asked for one by one: who fails is listed, a dead service ends it."""

from collections.abc import Callable, Iterable
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from mmclip.errors import IntegrityError, RemoteError
from mmclip.surveys.client.http import Client, Refused, Unreachable

Key = TypeVar("Key")
Got = TypeVar("Got")
IN_A_ROW = 5  # failures after which the service is taken to be down


def each(
    client: Client, keys: Iterable[Key], get: Callable[[Key], Got]
) -> tuple[dict[Key, Got], dict[Key, str]]:
    """What `get` gives for each key, and a reason for each key without.

    Raises:
        Unreachable: If five in a row failed, or with `--offline`.
    """
    found: dict[Key, Got] = {}
    lost: dict[Key, str] = {}
    row = 0
    for key in keys:
        try:
            found[key] = get(key)
            row = 0
        except Refused as refused:
            lost[key] = f"http_{refused.status}"
            row = 0
        except Unreachable as error:
            row += 1
            if row >= IN_A_ROW or client.offline:
                raise
            lost[key] = f"service_failed: {error.message[-60:]}"
        except RemoteError:
            raise
        except IntegrityError as error:
            lost[key] = f"invalid_payload: {error.message[:60]}"
    return found, lost


def blocks(ids: NDArray[np.int64], size: int) -> list[NDArray[np.int64]]:
    """Ids in blocks of at most `size`."""
    return [ids[i : i + size] for i in range(0, len(ids), size)]
