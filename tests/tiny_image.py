"""A modality of 3 x 24 x 24 pictures, for tests of what takes images."""

import numpy as np

from mmclip.modalities import Column, Modality, Prepared

SIZE = (3, 24, 24)


def prepare(columns):
    """Pictures as they are."""
    values = np.asarray(columns["image"], np.float32)
    return Prepared(values, None, np.full(len(values), "", object))


MODALITY = Modality(
    name="tiny_image",
    title="Small pictures",
    columns=(Column("image", "", "pixels", 3 * 24 * 24),),
    labels=lambda: [str(i) for i in range(3 * 24 * 24)],
    unit="",
    prepare=prepare,
    encoder="resnet",
    kind="image",
    shape=SIZE,
    normalisation="none",
)
