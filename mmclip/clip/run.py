"""A run on disk: `config.toml`, `model.safetensors`, `metrics.jsonl`, `card.md`, checkpoints."""

import dataclasses
from dataclasses import dataclass

from mmclip import artifacts
from mmclip.artifacts import Artifact, paths
from mmclip.clip.model import ClipModel, Shape
from mmclip.config import Json
from mmclip.encoders import EncoderConfig
from mmclip.encoders.tensors import built, read_weights
from mmclip.errors import IntegrityError
from mmclip.modalities import Statistics


@dataclass(frozen=True)
class Run:
    """A trained model with the normalisation it was trained under."""

    artifact: Artifact
    model: ClipModel
    shape: Shape
    statistics: dict[str, Statistics]


def shape_to_dict(shape: Shape) -> Json:
    """A model's shape as JSON values."""
    body = {f.name: getattr(shape, f.name) for f in dataclasses.fields(shape)}
    return body | {
        "sizes": {n: list(s) for n, s in shape.sizes.items()},
        "encoder": vars(shape.encoder),
        "views": {n: vars(c) for n, c in shape.views.items()},
    }


def shape_from_dict(body: Json) -> Shape:
    """The inverse of `shape_to_dict`; what an older run lacks has its default."""
    if "lengths" in body:  # before views had more than one axis
        body = body | {"sizes": {n: (length,) for n, length in body["lengths"].items()}}
        body = {k: v for k, v in body.items() if k != "lengths"}
    sizes = {n: tuple(s) for n, s in body["sizes"].items()}
    views = {n: EncoderConfig(**c) for n, c in body.get("views", {}).items()}
    encoder = EncoderConfig(**body["encoder"])
    return Shape(**{**body, "sizes": sizes, "encoder": encoder, "views": views})


@artifacts.opener
def open_run(artifact: Artifact) -> Run:
    """Load a run in evaluation mode; files are checked against the manifest first."""
    body = artifacts.json_of(artifact, paths.SHAPE)
    shape = shape_from_dict(body["shape"])
    kept = {name: Statistics.from_dict(s) for name, s in body["statistics"].items()}
    tensors = read_weights(artifact, paths.MODEL)
    model = built(lambda: ClipModel(shape), tensors)
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise IntegrityError(f"{artifact.path}: the weights do not fit the shape") from error
    return Run(artifacts.check_unreplaced(artifact), model.eval(), shape, kept)
