"""Tensors on disk as safetensors, on a device, and networks built to hold them."""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save
from torch import Tensor, nn

from mmclip import artifacts
from mmclip.artifacts import Artifact, read_limit, write_atomic
from mmclip.datasets import memmap
from mmclip.encoders import Encoder
from mmclip.errors import IntegrityError, UsageError

M = TypeVar("M", bound=nn.Module)
SPARE = 1 << 30  # bytes beyond 8 times its weights that building a network may take
FITTED = 10_000  # training objects that an encoder is fitted to
Batch = dict[str, tuple[Tensor, Tensor]]  # of each view: values [B, L] with zeros for NaN, mask


class Observation(NamedTuple):
    """A view of some objects, [B, L] each: values with zeros for NaN, mask, 1-sigma errors."""

    values: Tensor
    mask: Tensor
    errors: Tensor | None


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


def read_weights(artifact: Artifact, file: str) -> dict[str, Tensor]:
    """The weights of an artefact, after their sum was found right.

    Raises:
        IntegrityError: If the file is damaged, or a weight is not finite.
    """
    path = artifacts.checked(artifact, file)
    found = read_tensors(path)
    if wrong := not_finite(found):
        raise IntegrityError(f"{path}: {wrong}", f"make it again with: {artifact.manifest.command}")
    return found


def not_finite(weights: Mapping[str, Tensor]) -> str:
    """Which weights are no numbers, and how many; empty if all are."""
    for name, tensor in weights.items():
        bad = int(tensor.numel() - torch.isfinite(tensor).sum())
        if bad:
            return f"{bad} of the {tensor.numel()} weights of '{name}' are not finite"
    return ""


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
            for part in memmap.blocks(*array.shape):
                file.write(np.ascontiguousarray(array[part], "<f4").data)


def read_blocks(path: Path, name: str) -> Iterator[NDArray[np.float32]]:
    """The rows of one array of `write_arrays`, a block at a time.

    Raises:
        IntegrityError: If the file is damaged.
    """
    try:
        with safe_open(path, "numpy") as file:
            held = file.get_slice(name)
            for part in memmap.blocks(*held.get_shape()):
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
        with read_limit.memory(8 * held + SPARE):
            return make()
    except (RuntimeError, MemoryError) as error:
        raise IntegrityError(
            f"the stored shape cannot be that of {held} bytes of weights: {error}", "mmclip verify"
        ) from error


def fit_encoder(
    encoder: nn.Module, plugin: Encoder, size: tuple[int, ...], values: NDArray[np.float32],
    rows: NDArray[np.integer],
) -> None:  # fmt: skip
    """What an encoder takes from training objects at once, if it does: `Encoder.fit`.

    Args:
        values: [objects, L] of the view, NaN where not observed.
        rows: The training objects that have it; `FITTED` of them, evenly spread, if they are more.
    """
    if plugin.fit is not None:
        chosen = rows[np.linspace(0, len(rows) - 1, min(FITTED, len(rows))).astype(int)]
        known, mask = tensors(np.asarray(values[chosen]), torch.device("cpu"))
        plugin.fit(encoder, known.unflatten(1, size), mask.unflatten(1, size))


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


def observation(
    values: NDArray[np.float32], errors: NDArray[np.float32] | None, where: torch.device
) -> Observation:
    """A view and its errors on a device; an error that is not finite is large or 0."""
    known = None if errors is None else torch.from_numpy(np.nan_to_num(errors)).to(where)
    return Observation(*tensors(values, where), known)


def tensors(values: NDArray[np.float32], where: torch.device) -> tuple[Tensor, Tensor]:
    """A view as (values with zeros for NaN, mask) on a device; [objects, length] each."""
    mask = np.isfinite(values)
    filled = np.where(mask, values, np.float32(0))
    return torch.from_numpy(filled).to(where), torch.from_numpy(mask).to(where)
