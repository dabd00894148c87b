"""What ordinary spectra do not explain of a spectrum: emission lines, whatever an embedding keeps.

n stars, L pixels, K components.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmclip.datasets.build import Dataset
from mmclip.tasks.predict.features import FEW as FEW_WIDE
from mmclip.tasks.predict.features import SAMPLE, WIDE, components, reader, some

Floats = NDArray[np.float64]
COMPONENTS = 20  # of ordinary spectra, at most
A_COMPONENT = 20  # ordinary spectra, at least
BLOCK = 4096  # stars at a time
KINDS = ("residual", "line")


@dataclass(frozen=True)
class Ordinary:
    """Principal components of arcsinh(flux) of ordinary stars, and what these leave over.

    Attributes:
        centre, deviation: [L] mean, and standard deviation of what is left over.
        basis: [L, K] orthonormal.
    """

    centre: Floats
    basis: Floats
    deviation: Floats

    def left(self, values: NDArray[np.floating]) -> Floats:
        """[n, L] what the components leave of spectra in their own unit; 0 where not observed."""
        away = np.nan_to_num(np.arcsinh(values) - self.centre)
        return np.asarray(away - away @ self.basis @ self.basis.T)


def spectra(data: Dataset) -> list[str]:
    """The opened views that are spectra along an axis."""
    return [n for n in sorted(data.views) if data.modality(n).kind == "spectrum"
            and data.modality(n).axis is not None]  # fmt: skip


def learn(data: Dataset, view: str, rows: NDArray[np.int64]) -> Ordinary | None:
    """The ordinary spectra of a view from some rows of a data set; None of fewer than 20."""
    held = data.views[view]
    size = held.values.shape[1]
    chosen = some(rows[held.present[rows]], SAMPLE if size <= WIDE else FEW_WIDE)
    if len(chosen) < A_COMPONENT:
        return None
    values = reader(held)(chosen).values
    most = min(COMPONENTS, len(chosen) // A_COMPONENT)
    shape = components(view, "flux", held.size, values, most)
    basis = shape.axes / np.linalg.norm(shape.axes, axis=0)
    made = Ordinary(np.asarray(shape.centre), basis, np.ones(size))
    spread = np.sqrt((made.left(values) ** 2).mean(axis=0))
    floor = float(np.median(spread)) or 1.0
    return Ordinary(made.centre, basis, np.maximum(spread, 0.1 * floor))


def measures(
    ordinary: Ordinary, data: Dataset, view: str, rows: NDArray[np.int64]
) -> dict[str, Floats]:
    """[rows] `residual VIEW` and `line VIEW` of rows of a data set; NaN without the view.

    The root mean square of what is left over, and its largest pixel in units of the deviation of
    that pixel among ordinary stars.
    """
    held = data.views[view]
    found = {kind: np.full(len(rows), np.nan) for kind in KINDS}
    present = np.flatnonzero(held.present[rows])
    for start in range(0, len(present), BLOCK):
        part = present[start : start + BLOCK]
        left = ordinary.left(reader(held)(rows[part]).values)
        found["residual"][part] = np.sqrt((left**2).mean(axis=1))
        found["line"][part] = np.abs(left / ordinary.deviation).max(axis=1)
    return {f"{kind} {view}": value for kind, value in found.items()}
