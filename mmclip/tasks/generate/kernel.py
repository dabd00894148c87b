"""A view from the others by the heads of `mmclip predict`: the strongest opponents of a decoder.

The target is 30 principal components of arcsinh(flux / 0.3); the ridge of a training star grows
with its noise, max(1, 120 / S/N)^2. Of photometry G - J, J - H, H - K and G are read.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmclip.datasets.build import Dataset
from mmclip.decoders.kernel_ridge import FAINT, LEAST, RIDGE, SOFT
from mmclip.tasks.predict import form_of, gain_of, learn_blocks, read_features
from mmclip.tasks.predict import heads as known
from mmclip.tasks.predict.heads import Sample, kernel_ridge
from mmclip.tasks.predict.stars import Stars, stars_of

COMPONENTS = 30


def guess(
    data: Dataset, start: tuple[str, ...], to: str, train: NDArray[np.int64],
    asked: NDArray[np.int64], method: str = "kernel-ridge",
) -> NDArray[np.float64]:  # fmt: skip
    """[asked, L] the view `to`, in its own unit, of rows of the data set from those of training.

    Args:
        data: Both views of all these rows.
        start: Views to start from.
        to: View to guess.
        train, asked: Rows of the data set.
        method: A head of `mmclip predict`, for the components of the view.
    """
    stars: Stars = stars_of(data)
    blocks = learn_blocks(data, stars, start)
    seen, shown = stars.read[to](train), data.views[to]
    flux = data.modality(to).kind == "spectrum"
    y = np.arcsinh(seen.values / SOFT) if flux else seen.values / shown.statistics.scale
    mean = np.nan_to_num(np.nanmean(y, axis=0))
    y = np.nan_to_num(y - mean)
    basis = np.linalg.eigh(y.T @ y)[1][:, ::-1][:, :COMPONENTS]
    target = y @ basis
    size = float(target.std()) or 1.0
    noise = np.where(np.isfinite(seen.noise), 10.0**seen.noise, FAINT)
    weight = 1 / np.maximum(1.0, FAINT / np.maximum(noise, LEAST)) ** 2
    x, _ = read_features(stars, train, start, blocks)
    unit = float(np.median(kernel_ridge.distances(x[:300], x[:300]))) or 1.0
    every = np.ones(target.shape[1])
    like: dict[str, NDArray[Any]] = {"length": unit * every, "ridge": RIDGE * every}
    sample = Sample(x, target / size, weight, gain_of(start, blocks), form_of(start, blocks))
    head = known.head(method)
    assert head.fit is not None
    assert head.open is not None
    state = head.fit(sample, 42, like if method == "kernel-ridge" else None)
    asked_x, _ = read_features(stars, asked, start, blocks)
    made = head.open(state)(asked_x) * size @ basis.T + mean
    return np.asarray(np.sinh(made) * SOFT if flux else made * shown.statistics.scale)
