"""Views redrawn within the covariance of their errors, where the data set keeps correlations."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmclip.datasets import error_correlations
from mmclip.datasets.build import Dataset, View
from mmclip.modalities import Modality, Statistics, normalise, registry, restore, restore_error


@dataclass(frozen=True)
class ErrorCorrelations:
    """The correlations [objects, length] of a view, and what undoes its normalisation."""

    modality: Modality
    statistics: Statistics
    correlations: NDArray[np.float32]

    def redraw(
        self, values: Tensor, errors: Tensor, draw: Tensor, rows: NDArray[np.int64]
    ) -> Tensor:
        """Normalised values drawn anew ([B, L]).

        Args:
            values, errors: [B, L] normalised.
            draw: [B, L] independent normal numbers, times the part of the errors wanted.
            rows: [B] of the data set.
        """
        assert self.modality.redraw is not None
        own = restore(values.cpu().numpy(), self.statistics)
        spread = restore_error(errors.cpu().numpy(), self.statistics)
        made = self.modality.redraw(own, spread, self.correlations[rows], draw.numpy())
        return torch.from_numpy(normalise(made, self.statistics)).to(values.device)


def of_views(data: Dataset, names: Iterable[str]) -> dict[str, ErrorCorrelations]:
    """The correlations of each view that has errors, a way to redraw it, and kept them."""
    found = {}
    for name in redrawable(data.views, names):
        kept = error_correlations.read(data.artifact, name, data.source_id)
        if kept is not None:
            view = data.views[name]
            found[name] = ErrorCorrelations(_modality(name, view), view.statistics, kept)
    return found


def redrawable(views: Mapping[str, View], names: Iterable[str]) -> list[str]:
    """The views that have errors whose correlations their modality can use."""
    held = [n for n in names if views[n].errors is not None]
    return [n for n in held if _modality(n, views[n]).redraw is not None]


def lacking(data: Dataset, names: Iterable[str]) -> list[str]:
    """The views that are redrawn by their errors alone because their correlations were not kept."""
    return [
        n for n in redrawable(data.views, names) if not error_correlations.held(data.artifact, n)
    ]


def _modality(name: str, view: View) -> Modality:
    return registry.of_view(name, view.statistics)
