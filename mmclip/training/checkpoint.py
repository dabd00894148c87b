"""The checkpoint of a training in progress: one file of tensors and the small file that names it.

A training lives in a directory of its own, named by the hash of what determines its result, and
is removed when the result is written. Encoders and decoders are trained by loops that share this.
"""

import json
from pathlib import Path

import torch
from torch import Tensor

from mmclip import artifacts
from mmclip.artifacts import paths, write_atomic
from mmclip.config import Json
from mmclip.encoders.tensors import read_tensors, write_tensors
from mmclip.errors import MmclipError


def write(folder: Path, step: int, tensors: dict[str, Tensor], body: Json) -> None:
    """Write the whole state: tensors first, then the small file that names them.

    The number of threads is a part of it: sums in another order differ in their last bits.
    """
    file = folder / paths.state(step)
    write_tensors(file, tensors)
    whole = body | {"file": file.name, "sha256": artifacts.sha256(file), "step": step}
    whole["threads"] = torch.get_num_threads()
    write_atomic(folder / paths.LATEST, json.dumps(artifacts.summed(whole)).encode())
    for old in folder.glob(paths.state("*")):
        if old != file:
            old.unlink()


def pin_threads() -> None:
    """Make the number of threads in use exact, before anything is trained.

    A library may else take fewer on a busy machine, or another one (UMAP's numba) may have changed
    it, and sums in another order differ.
    """
    torch.set_num_threads(torch.get_num_threads())


def read(folder: Path) -> tuple[Json, dict[str, Tensor]] | None:
    """The last state that was written whole, or None; its number of threads is taken up again."""
    pin_threads()
    try:
        body = json.loads((folder / paths.LATEST).read_bytes())
        if not body["sum"] or not artifacts.sum_fits(body):
            return None
        file = folder / body["file"]
        if artifacts.sha256(file) != body["sha256"]:
            return None
        # In memory of torch's own: an optimiser keeps the tensors that it is given.
        state = {k: t.clone() for k, t in read_tensors(file).items()}
        torch.set_num_threads(int(body.get("threads", torch.get_num_threads())))
        return body, state
    except (OSError, ValueError, KeyError, TypeError, RecursionError, MmclipError):
        return None


def moments(label: str, optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """An optimiser's state as tensors under `label.`; what it has not begun yet is left out."""
    state = optimiser.state_dict()["state"]
    return {
        f"{label}.{i}.{k}": torch.as_tensor(v)
        for i, m in state.items()
        for k, v in m.items()
        if v is not None
    }


def restore_moments(label: str, optimiser: torch.optim.Optimizer, state: dict[str, Tensor]) -> None:
    """Put back what `moments` took."""
    whole = optimiser.state_dict()
    for key, value in under(state, f"{label}.").items():
        index, name = key.split(".", 1)
        whole["state"].setdefault(int(index), {})[name] = value
    optimiser.load_state_dict(whole)


def under(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The entries whose key begins with `prefix`, without it."""
    return {k[len(prefix) :]: v for k, v in state.items() if k.startswith(prefix)}
