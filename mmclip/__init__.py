"""mmclip: one embedding space for every view of a star or a galaxy.

>>> import mmclip
>>> mmclip.open_workspace("mmclip-work").root.name
'mmclip-work'

`mmclip.search(...)`, `mmclip.knn(...)` and the other methods of `mmclip.Workspace` by themselves
ask the workspace of `$MMCLIP_WORKSPACE`, or `mmclip-work`. Nothing heavy is imported before.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmclip.api import Artifact, Result, Workspace, open_workspace

__version__ = "0.2.0.dev0"
__all__ = ["Artifact", "Result", "Workspace", "open_workspace"]
METHODS = (
    "adapt", "cite", "classify", "cluster", "embed", "evaluate", "export", "fetch", "generate",
    "import_files", "index", "info", "knn", "map", "models", "outliers", "predict",
    "preprocess", "pretrain", "publish", "pull", "push", "reproduce", "search", "train",
    "train_decoder", "tune", "verify",
)  # fmt: skip


def __getattr__(name: str) -> Any:
    """A name of the API, imported when it is asked for."""
    if name not in __all__ and name not in METHODS:
        raise AttributeError(f"module 'mmclip' has no attribute '{name}'")
    from mmclip import api

    return getattr(api if name in __all__ else api.open_workspace(), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__, *METHODS])
