"""Is a label predicted from itself?"""

import numpy as np
from numpy.typing import NDArray

from mmclip import arrays
from mmclip.artifacts import Manifest
from mmclip.datasets.build import Dataset
from mmclip.modalities import restore
from mmclip.plugins import base
from mmclip.surveys import labels_from

SAMPLE = 4000  # stars that are looked at
SAME = 0.9999  # R2 of a linear fit of a label to columns, from which it is made from them


def modelled_from(manifest: Manifest, view: str, target: str) -> bool:
    """True if the view was modelled from the very label that is to be predicted."""
    modelled = manifest.provenance.get(view) == "modelled"
    return modelled and target in labels_from(manifest.surveys, base(view))


def input_column(data: Dataset, view: str, target: str) -> bool:
    """True if a label is a column of a view, or a linear combination of its columns.

    Only tables are looked at: a spectrum has no columns, and that a label can be read from it is
    the point.
    """
    if view not in data.views or data.modality(view).kind != "table":
        return False
    modality, shown = data.modality(view), data.views[view]
    if target in {c.name for c in modality.columns} | set(modality.labels()):
        return True
    field = data.objects.schema.field(target) if target in data.objects.column_names else None
    if field is None or str(field.type) not in ("float", "double", "int64", "int32"):
        return False
    truth = arrays.column(data.objects, target).astype(np.float64)
    rows = np.flatnonzero(np.isfinite(truth) & shown.present)[:SAMPLE]
    values: NDArray[np.float64] = restore(np.asarray(shown.values[rows]), shown.statistics)
    whole = np.isfinite(values).all(axis=1)
    values, y = values[whole], truth[rows[whole]]
    if len(y) < 2 * values.shape[1] + 10 or y.std() == 0:
        return False
    x = np.column_stack([values, np.ones(len(y))])
    solved = np.linalg.lstsq(x, y, rcond=None)[0]
    return float(1 - ((y - x @ solved) ** 2).sum() / ((y - y.mean()) ** 2).sum()) > SAME


def circular(data: Dataset, view: str, target: str) -> bool:
    """True if a label is predicted from itself: from a view that was modelled from it, or from a
    table that holds it or what it follows from.
    """
    return modelled_from(data.artifact.manifest, view, target) or input_column(data, view, target)
