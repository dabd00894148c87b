"""Where the real survey data lie, when they are there."""

import os
from pathlib import Path

import pytest


def shared(*parts: str) -> Path:
    """A path under the shared data; skips the test when it is absent."""
    beside = Path(__file__).parents[2] / "shared" / "data"
    path = Path(os.environ.get("MMCLIP_SHARED_DATA", beside)).joinpath(*parts)
    if not path.exists():
        pytest.skip(f"real data absent: {path} (set MMCLIP_SHARED_DATA)")
    return path
