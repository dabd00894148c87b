"""Views redrawn within the covariance of their errors, where the data set keeps correlations."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmclip.datasets import error_correlations
from mmclip.datasets.build import Dataset, View
from mmclip.modalities import Modality, Statistics, registry


@dataclass(frozen=True)
class ErrorCorrelations:
    """The correlations of a view, factored once, and what undoes its normalisation.

    Attributes:
        modality: Of the view.
        statistics: Its normalisation.
        factors: [objects, length] as `Modality.factors` makes them, on the CPU: they are large.
    """

    modality: Modality
    statistics: Statistics
    factors: Tensor

    def redraw(
        self, values: Tensor, errors: Tensor, draw: Tensor, rows: NDArray[np.int64]
    ) -> Tensor:
        """Normalised values drawn anew ([B, L]), where the values are.

        Args:
            values, errors: [B, L] normalised.
            draw: [B, L] independent normal numbers, times the part of the errors wanted.
            rows: [B] of the data set.
        """
        assert self.modality.redraw is not None
        centre, scale = (
            torch.from_numpy(given).to(values) for given in (self.statistics.centre,
                                                             self.statistics.scale)
        )  # fmt: skip
        mine = self.factors[torch.from_numpy(rows)].to(values.device)
        own, spread = values * scale + centre, errors * scale
        made: Tensor = self.modality.redraw(own, spread, mine, draw.to(values.device), torch)
        return (made - centre) / scale


def of_views(data: Dataset, names: Iterable[str]) -> dict[str, ErrorCorrelations]:
    """The correlations of each view that has errors, a way to redraw it, and kept them."""
    found = {}
    for name in redrawable(data.views, names):
        kept = error_correlations.read(data.artifact, name, data.source_id)
        if kept is not None:
            statistics = data.views[name].statistics
            modality = _modality(name, data.views[name])
            assert modality.factors is not None
            factors = torch.from_numpy(modality.factors(kept))
            found[name] = ErrorCorrelations(modality, statistics, factors)
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
