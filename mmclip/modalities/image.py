"""Galaxy cutouts in g, r, z: the centre, on an arcsinh scale.

Sources: Parker et al. 2024 (arXiv:2310.03024) for the stretch, which is that of Lupton et al. 2004
(PASP 116, 133) as the Legacy Survey viewer uses it; the Cambridge reproduction of AstroCLIP for
the crop of 96 pixels and for linear fluxes (`stretch = "none"`).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from mmclip.arrays import Array, lists
from mmclip.config import Json, Size
from mmclip.errors import UsageError
from mmclip.modalities import Column, Columns, Export, Modality, Prepared, multimodal
from mmclip.modalities.robust import padded
from mmclip.modalities.settings import one_of

RAW = (
    Column("image", "nanomaggies", "pixels [bands, rows, columns], row-major; NaN where bad", 0),
    Column("shape", "", "bands, rows, columns", 3, True, number="int32"),
)
SCALES = (6.0, 3.4, 2.2)  # of g, r, z
SOFTENING, Q = 0.03, 20.0


@dataclass(frozen=True)
class ImageSettings:
    """How cutouts are prepared."""

    height: Size = 152  # of the raw image, pixels; taken from the data unless given
    width: Size = 152
    channels: Size = 3
    crop: Size = 96  # side of the centre that is kept
    stretch: str = "arcsinh"  # arcsinh (g, r, z -> B, G, R in 0-1) | none


def prepare(columns: Columns, settings: ImageSettings) -> Prepared:
    """Cut the centre out and stretch it.

    Args:
        columns: `image` [rows, channels, height, width] (or flat), nanomaggies a pixel for the
            arcsinh stretch; NaN marks a bad pixel.

    Returns:
        [rows, channels x crop x crop]; with arcsinh the order is R, G, B (z, r, g). Rejected: an
        image of another size, or with fewer than half of its pixels finite.
    """
    given = lists(columns["image"])
    size = settings.channels * settings.height * settings.width
    reasons = np.full(len(given), "", object)
    shape = (settings.channels, settings.height, settings.width)
    other = given.lengths != size
    reasons[other] = [f"{n} values, not {'x'.join(map(str, shape))}" for n in given.lengths[other]]
    image = padded(given, np.arange(len(given)), size).reshape(len(given), *shape)
    top, left = (settings.height - settings.crop) // 2, (settings.width - settings.crop) // 2
    image = image[:, :, top : top + settings.crop, left : left + settings.crop]
    image = np.where(np.isfinite(image), image, np.nan)
    few = np.isfinite(image).mean(axis=(1, 2, 3)) < 0.5
    reasons[(reasons == "") & few] = "fewer than half of the pixels are finite"
    made = stretched(image) if settings.stretch == "arcsinh" else image
    return Prepared(
        made.reshape(len(given), math.prod(made.shape[1:])).astype(np.float32), None, reasons
    )


def stretched(image: Array) -> Array:
    """g, r, z fluxes -> R, G, B from 0 to 1 ([rows, 3, h, w]).

    c = max(0, flux x scale + m), I = mean of c, colour = c arcsinh(Q I) / (sqrt(Q) I).
    """
    scaled = image * np.array(SCALES)[:, None, None] + SOFTENING
    scaled = np.where(np.isnan(scaled), np.nan, np.maximum(scaled, 0.0))
    mean = np.maximum(scaled.mean(axis=1, keepdims=True), 1e-6)
    colour = scaled * np.arcsinh(Q * mean) / (np.sqrt(Q) * mean)
    return np.asarray(np.clip(colour, 0.0, 1.0)[:, ::-1])


def labels(settings: ImageSettings) -> list[str]:
    """Names of the prepared values."""
    side = range(settings.crop)
    names = ["R", "G", "B"] if settings.stretch == "arcsinh" else ["g", "r", "z"]
    if settings.channels != 3:
        names = [str(k) for k in range(settings.channels)]
    return [f"{c} {y} {x}" for c in names for y in side for x in side]


def detect(columns: Columns, given: Mapping[str, Any]) -> Json:
    """Height and width from the data: three axes as stored, or a flat square."""
    image = columns["image"]
    if given.keys() & {"height", "width"} or len(image) == 0:
        return {}
    if isinstance(image, np.ndarray) and image.ndim == 4:
        return {"channels": image.shape[1], "height": image.shape[2], "width": image.shape[3]}
    channels = int(given.get("channels", 3))
    side = math.isqrt(int(lists(image).lengths.max()) // channels)
    return {"height": side, "width": side} if side else {}


def configure(settings: ImageSettings) -> Modality:
    """The modality under these settings.

    Raises:
        UsageError: If the crop is larger than the image, or a setting is unknown.
    """
    one_of("image.stretch", settings.stretch, ("arcsinh", "none"))
    if not 0 < settings.crop <= min(settings.height, settings.width):
        raise UsageError(
            f"an image of {settings.height} x {settings.width} pixels has no centre of "
            f"{settings.crop}",
            f"--set image.crop={min(settings.height, settings.width)}",
        )
    if settings.stretch == "arcsinh" and settings.channels != 3:
        raise UsageError(
            f"the arcsinh stretch takes g, r, z, not {settings.channels} channels",
            "--set image.stretch=none",
        )
    return Modality(
        name="image",
        title="Galaxy image",
        columns=(
            replace(RAW[0], length=settings.channels * settings.height * settings.width),
        ),
        labels=partial(labels, settings),
        unit="0-1, arcsinh stretch" if settings.stretch == "arcsinh" else "flux",
        prepare=partial(prepare, settings=settings),
        encoder="resnet",
        kind="image",
        shape=(settings.channels, settings.crop, settings.crop),
        normalisation="none",
        raw=RAW,
        export=Export("image", ("image", "shape"), multimodal.images),
        settings=settings,
        configure=configure,
        detect=detect,
    )  # fmt: skip


MODALITY = configure(ImageSettings())
