"""Weights that somebody else trained, read into an encoder; nothing in a file is executed."""

import pickle
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from mmclip.encoders import Encoder
from mmclip.encoders.tensors import not_finite, read_tensors
from mmclip.errors import UsageError

PREFIXES = (
    *("photometry_encoder.", "spectra_encoder.", "metadata_encoder."),  # of AstroM3
    *("image_encoder.", "spectrum_encoder."),  # of AstroCLIP
)


UNREADABLE = (  # what a damaged pickle raises
    pickle.UnpicklingError, RuntimeError, EOFError, ValueError, LookupError, TypeError,
    AttributeError, ArithmeticError, AssertionError, MemoryError,
)  # fmt: skip


def read(path: Path) -> dict[str, Tensor]:
    """The tensors of a `.safetensors` file, or of a PyTorch file by its weights-only reader.

    Raises:
        UsageError: If the file holds anything but tensors.
    """
    if path.suffix == ".safetensors":
        return read_tensors(path)
    try:
        with warnings.catch_warnings():  # of the protocol of a pickle, which is refused anyway
            warnings.filterwarnings("ignore", "Detected pickle protocol", UserWarning)
            body = torch.load(path, map_location="cpu", weights_only=True)
    except UNREADABLE as error:
        raise UsageError(
            f"{path} is not a file of weights: {error}", "save its tensors as .safetensors"
        ) from error
    while isinstance(body, dict) and isinstance(body.get("state_dict", body.get("model")), dict):
        body = body.get("state_dict", body.get("model"))
    tensors = {k: v for k, v in body.items() if isinstance(v, Tensor)}
    if not tensors:
        raise UsageError(f"{path} holds no tensors")
    return tensors


def load_into(encoder: nn.Module, plugin: Encoder, path: Path, prefix: str = "") -> int:
    """Read published weights into an encoder; returns how many tensors were set.

    Args:
        prefix: Of the keys that belong to this encoder; empty takes a known one, or all.

    Raises:
        UsageError: If nothing fits, a tensor has another shape, or the trunk stays unset.
    """
    given = read(path)
    own = encoder.state_dict()
    if set(own) - _counters(own) <= set(given):
        fitting = {k: given[k] for k in own if k in given}
    else:
        fitting = _translated(given, plugin, own, prefix)
    wrong = [k for k, v in fitting.items() if v.shape != own[k].shape]
    if wrong:
        raise UsageError(
            f"{path}: '{wrong[0]}' has the shape {tuple(fitting[wrong[0]].shape)}, the encoder "
            f"{plugin.name} needs {tuple(own[wrong[0]].shape)}"
        )
    unset = sorted(set(own) - set(fitting) - _counters(own))
    unset = [k for k in unset if k.split(".")[0] not in ("fc", "head")]
    if not fitting or unset:
        raise UsageError(
            f"{path} lacks weights of the encoder {plugin.name}: {', '.join(unset[:3])}"
        )
    if none := not_finite(fitting):
        raise UsageError(f"{path}: {none}", "another copy of it")
    encoder.load_state_dict(fitting, strict=False)
    return len(fitting)


def _counters(own: dict[str, Tensor]) -> set[str]:
    return {k for k in own if k.endswith("num_batches_tracked")}


def _translated(
    given: dict[str, Tensor], plugin: Encoder, own: dict[str, Tensor], prefix: str
) -> dict[str, Tensor]:
    best: dict[str, Tensor] = {}
    for start in (prefix,) if prefix else ("", *PREFIXES):
        part = {k.removeprefix(start): v for k, v in given.items() if k.startswith(start)}
        try:
            made = plugin.translate(part) if plugin.translate else part
        except KeyError:
            continue
        made = {k: v for k, v in made.items() if k in own}
        # Heads of another width are trained anew.
        made = {
            k: v
            for k, v in made.items()
            if v.shape == own[k].shape or k.split(".")[0] not in ("fc", "head")
        }
        best = made if len(made) > len(best) else best
    return best
