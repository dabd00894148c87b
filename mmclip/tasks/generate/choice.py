"""Which views and which decoder a question about generated views means."""

from typing import TYPE_CHECKING

from mmclip.artifacts.workspace import Workspace
from mmclip.datasets.build import Dataset
from mmclip.errors import UsageError
from mmclip.tasks.generate import find, quick, split_views, surprise
from mmclip.tasks.generate.decoder import Trained, open_decoder
from mmclip.vectors.store import Store

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mmclip.clip.run import Run


def views(store: Store, start: str | None, to: str | None) -> tuple[tuple[str, ...], str]:
    """The views to start from and the one to generate, with sensible defaults.

    Raises:
        UsageError: If the view to generate is among those to start from.
    """
    names = tuple(store.modality(n) for n in split_views(start or store.modalities[0]))
    others = [m for m in store.modalities if m not in names]
    if to is None and len(store.modalities) == 1:
        raise UsageError(
            f"{names[0]} is the only view of {store.artifact.path}: there is none to generate",
            "mmclip preprocess with two views or more, then train and embed",
        )
    if to is None and not others:
        raise UsageError("no view is left to generate", "--to, and fewer views in --from")
    target = store.modality(to or ("xp" if "xp" in others else others[0]))
    if target in names and len(names) > 1:
        raise UsageError(f"{target} is among the views to start from", "leave it out of --from")
    return names, target


def decoder_for(
    space: Workspace, run: "Run", data: Dataset, names: tuple[str, ...], to: str,
    named: str | None = None,
) -> Trained:  # fmt: skip
    """The decoder named; else the newest trained for these vectors; else the run's own.

    Args:
        space: Where decoders are.
        run: Which made the vectors.
        data: The data set behind them.
        names, to: Views to start from, and the one to generate.
        named: A decoder artefact, or `run` for the quick one of the run.

    Raises:
        UsageError: If the decoder named is of other views or of another run.
    """
    if named == "run":
        return quick(run, data, names, to)
    if named is None:
        found = find(space.all("decoder"), run.artifact, names, to)
        return found or quick(run, data, names, to)
    artifact = space.get("decoder", named)
    made = open_decoder(artifact)
    if made.start != names or made.to != to:
        raise UsageError(
            f"{artifact.path} goes from {'+'.join(made.start)} to {made.to}",
            f"--from {','.join(made.start)} --to {made.to}",
        )
    if not any(p["fingerprint"] == run.artifact.manifest.fingerprint
               for p in artifact.manifest.parents):  # fmt: skip
        raise UsageError(f"{artifact.path} belongs to vectors of another run", "--vectors")
    return made


def surprise_of(
    space: Workspace, store: Store, data: Dataset, run: "Run", text: str
) -> "dict[str, NDArray[np.float64]]":
    """The surprise of every star in `FROM:TO`, under its name as a measure of outliers.

    Raises:
        UsageError: If the text is not FROM:TO.
    """
    start, colon, to = text.partition(":")
    if not (start and colon and to):
        raise UsageError(f"--surprise '{text}' is not FROM:TO", "--surprise metadata:xp")
    names, target = views(store, start, to)
    trained = decoder_for(space, run, data, names, target)
    found = surprise(store, data, run, names, target, trained)
    return {f"surprise {'+'.join(names)}->{target}": found}
