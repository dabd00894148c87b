"""Epoch photometry as the archive sends it; what it cannot be is worth asking for again."""

import pyarrow as pa

from mmclip.errors import IntegrityError
from mmclip.readers import gaia_epochs
from mmclip.surveys.client.http import BadAnswer


def view(table: pa.Table, origin: float, scale: str) -> pa.Table:
    """`mmclip.readers.gaia_epochs.view` of an answer.

    Raises:
        BadAnswer: If it holds no epoch photometry.
    """
    try:
        return gaia_epochs.view(table, origin, scale)
    except IntegrityError as fault:
        raise BadAnswer(fault.message) from fault
