"""A run on disk: `config.toml`, `model.safetensors`, `metrics.jsonl`, `card.md`, checkpoints."""

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save
from torch import Tensor, nn

from mmclip import artifacts
from mmclip.artifacts import Artifact, write_atomic
from mmclip.clip.model import ClipModel, Shape
from mmclip.datasets import mapped
from mmclip.encoders import EncoderConfig
from mmclip.errors import IntegrityError, UsageError
from mmclip.modalities import Statistics
from mmclip.readers import limits

M = TypeVar("M", bound=nn.Module)
SPARE = 1 << 30  # bytes beyond 8 times its weights that building a network may take


@dataclass(frozen=True)
class Run:
    """A trained model with the normalisation it was trained under."""

    artifact: Artifact
    model: ClipModel
    shape: Shape
    statistics: dict[str, Statistics]


def shape_to_dict(shape: Shape) -> dict[str, Any]:
    """A model's shape as JSON values."""
    body = {f.name: getattr(shape, f.name) for f in dataclasses.fields(shape)}
    return body | {
        "sizes": {n: list(s) for n, s in shape.sizes.items()},
        "encoder": vars(shape.encoder),
        "views": {n: vars(c) for n, c in shape.views.items()},
    }


def shape_from_dict(body: dict[str, Any]) -> Shape:
    """The inverse of `shape_to_dict`; what an older run lacks has its default."""
    if "lengths" in body:  # before views had more than one axis
        body = body | {"sizes": {n: (length,) for n, length in body["lengths"].items()}}
        body = {k: v for k, v in body.items() if k != "lengths"}
    sizes = {n: tuple(s) for n, s in body["sizes"].items()}
    views = {n: EncoderConfig(**c) for n, c in body.get("views", {}).items()}
    encoder = EncoderConfig(**body["encoder"])
    return Shape(**{**body, "sizes": sizes, "encoder": encoder, "views": views})


def write_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write tensors as safetensors, atomically."""
    write_atomic(path, save({k: t.detach().cpu().contiguous() for k, t in tensors.items()}))


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read safetensors; nothing in such a file is executed.

    Raises:
        IntegrityError: If the file is damaged.
    """
    try:
        return load(path.read_bytes())
    except (SafetensorError, ValueError, KeyError) as error:
        raise IntegrityError(f"{path} is not a whole safetensors file: {error}") from error


def write_arrays(path: Path, arrays: Mapping[str, NDArray[np.float32]]) -> None:
    """Write float32 arrays [rows, D] as safetensors, atomically and without a copy of them.

    Source:
        The format: 8 bytes that give the length of a JSON header, the header, the numbers.
    """
    header, end = dict[str, Any](), 0
    for name, array in arrays.items():
        begin, end = end, end + array.nbytes
        header[name] = {"dtype": "F32", "shape": array.shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with artifacts.writing(path) as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for array in arrays.values():
            for part in mapped.blocks(*array.shape):
                file.write(np.ascontiguousarray(array[part], "<f4").data)


def read_blocks(path: Path, name: str) -> Iterator[NDArray[np.float32]]:
    """The rows of one array of `write_arrays`, a block at a time.

    Raises:
        IntegrityError: If the file is damaged.
    """
    try:
        with safe_open(path, "numpy") as file:
            held = file.get_slice(name)
            for part in mapped.blocks(*held.get_shape()):
                yield held[part.start : part.stop]
    except SafetensorError as error:
        raise IntegrityError(f"{path} is not a whole safetensors file: {error}") from error


def built(make: Callable[[], M], tensors: dict[str, Tensor]) -> M:
    """A network that is to hold these tensors, built within the memory that they justify.

    Raises:
        IntegrityError: If the stored shape asks for far more.
    """
    held = sum(t.numel() * t.element_size() for t in tensors.values())
    try:
        with limits.memory(8 * held + SPARE):
            return make()
    except (RuntimeError, MemoryError) as error:
        raise IntegrityError(
            f"the stored shape cannot be that of {held} bytes of weights: {error}", "mmclip verify"
        ) from error


@artifacts.opener
def open_run(artifact: Artifact) -> Run:
    """Load a run in evaluation mode; files are checked against the manifest first."""
    body = artifacts.json_of(artifact, "shape.json")
    shape = shape_from_dict(body["shape"])
    kept = {name: Statistics.from_dict(s) for name, s in body["statistics"].items()}
    tensors = read_tensors(artifacts.checked(artifact, "model.safetensors"))
    model = built(lambda: ClipModel(shape), tensors)
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise IntegrityError(f"{artifact.path}: the weights do not fit the shape") from error
    return Run(artifacts.still(artifact), model.eval(), shape, kept)


def device(wanted: str) -> torch.device:
    """`auto` takes a GPU when there is one.

    Raises:
        UsageError: If the device is unknown or not there.
    """
    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(wanted)
    except RuntimeError as error:
        raise UsageError(f"'{wanted}' is not a device", "--device auto, cpu or cuda") from error
    if found.type == "cuda" and not torch.cuda.is_available():
        raise UsageError("there is no CUDA device here", "--device cpu")
    return found


def tensors(values: NDArray[np.float32], where: torch.device) -> tuple[Tensor, Tensor]:
    """A view as (values with zeros for NaN, mask) on a device; [objects, length] each."""
    mask = np.isfinite(values)
    filled = np.where(mask, values, np.float32(0))
    return torch.from_numpy(filled).to(where), torch.from_numpy(mask).to(where)
