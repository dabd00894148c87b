"""The small model that travels with mmclip: a run and a head, learned from all bundled stars.

`bundled` names both wherever a run or a head is asked for; the workspace gets a copy, verified.
`examples/demo_model.py` makes them; `card.md` beside them says of what, and how good they are.
"""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from mmclip.artifacts import paths
from mmclip.artifacts.build import assembling
from mmclip.artifacts.manifest import Artifact, read, verify
from mmclip.errors import NotFound

NAME = "bundled"
KINDS = ("run", "head")
FOLDER = Path(__file__).parent / "model"
CARD = FOLDER / "card.md"


def vectors_name(data: str) -> str:
    """Of the vectors that the bundled run made of a data set."""
    return f"{data}-{NAME}"


def artefact(kind: str, place: Callable[[str], Path]) -> Artifact:
    """The bundled run or head as an artefact of a workspace, copied there when first asked for.

    Args:
        kind: `run` or `head`.
        place: Name in the workspace -> its directory.

    Raises:
        NotFound: If this installation holds none.
        IntegrityError: If a file is not what the manifest says.
    """
    final, source = place(NAME), FOLDER / kind
    if (final / paths.MANIFEST).is_file():
        return read(final)
    if not (source / paths.MANIFEST).is_file():
        raise NotFound(f"this installation of mmclip holds no bundled {kind}", "install it again")
    with assembling(final) as temporary:
        for name in (*read(source).manifest.files, paths.MANIFEST):
            shutil.copyfile(source / name, temporary / name)
        verify(read(temporary))
        os.utime(temporary / paths.MANIFEST, (0, 0))  # never the newest beside one's own
    return read(final)
