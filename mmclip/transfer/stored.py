"""What an adapter's artefact says of each judged star: the pairs and planes of its pictures."""

from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mmclip.artifacts import Artifact, checked, paths
from mmclip.cuts import where
from mmclip.datasets import tables
from mmclip.datasets.build import Dataset
from mmclip.errors import NotFound
from mmclip.results import Result, from_table
from mmclip.transfer.data import METHODS
from mmclip.transfer.scores import mmd2

Figure = Literal["scan", "one-to-one", "plane", "landscape"]
Floats = NDArray[np.float64]
Stars = dict[str, dict[str, tuple[NDArray[np.int64], Floats, Floats]]]  # id, truth, prediction
SHOWN = ("pipeline", *METHODS)  # of the baselines only the survey's own labels have a panel


def scores(artifact: Artifact) -> Result:
    """The comparison table as it was made."""
    return from_table(_read(artifact, paths.SCORES), "mean and scatter over runs", {}, artifact)


def judged(artifact: Artifact, data: Dataset, regime: str = "") -> Stars:
    """Truth and prediction by label and method: the first run with the most target stars.

    Args:
        artifact: An adapter.
        data: Its target survey.
        regime: A cut; only these stars.
    """
    table = _read(artifact, paths.PREDICTIONS)
    names = ("target", "method", "size", "seed", "source_id", "truth", "predicted")
    target, method, size, seed, ids, truth, predicted = (
        table[n].to_numpy(zero_copy_only=False) for n in names
    )
    inside = np.ones(len(ids), bool)
    if regime:
        inside = np.isin(ids, data.source_id[where(data.objects, regime)])
    found: Stars = {}
    for label in dict.fromkeys(target.tolist()):
        for name in [m for m in SHOWN if m in method]:
            mine = (target == label) & (method == name)
            if not mine.any():
                continue
            rows = mine & (size == size[mine].max()) & inside
            rows &= seed == seed[mine].min()
            found.setdefault(label, {})[name] = (ids[rows], truth[rows], predicted[rows])
    return found


def plane(
    artifact: Artifact, held: Stars, seed: int
) -> tuple[tuple[str, str], Floats, dict[str, tuple[Floats, float]]]:
    """Names of the first two labels, the reference cloud, and each method's with its MMD.

    Raises:
        NotFound: If the adapter has one label only.
    """
    if len(held) < 2:
        raise NotFound(f"{artifact.path} has one label and no plane", "--target feh,alpha_fe")
    first, second = list(held)[:2]
    clouds: dict[str, Floats] = {}
    reference = np.zeros((0, 2))
    for method in [m for m in held[first] if m in held[second]]:
        truth, predicted = _both(held[first][method], held[second][method])
        known = np.isfinite(predicted).all(axis=1)
        clouds[method] = predicted[known]
        reference = truth if len(truth) >= len(reference) else reference
    if paths.REFERENCE in artifact.manifest.files:
        stored = _read(artifact, paths.REFERENCE)
        reference = np.stack([stored[n].to_numpy() for n in (first, second)], axis=1)
    measured = {m: (c, mmd2(c, reference, seed)) for m, c in clouds.items()}
    return (first, second), reference, measured


def _both(
    a: tuple[NDArray[np.int64], Floats, Floats], b: tuple[NDArray[np.int64], Floats, Floats]
) -> tuple[Floats, Floats]:
    """Truths [stars, 2] and predictions [stars, 2] of the stars in both."""
    _, i, j = np.intersect1d(a[0], b[0], return_indices=True)
    return np.stack([a[1][i], b[1][j]], axis=1), np.stack([a[2][i], b[2][j]], axis=1)


def _read(artifact: Artifact, file: str) -> pa.Table:
    return tables.read(checked(artifact, file))
