"""Encoders of a run as ONNX files, checked against torch, with what a caller must know inside.

Shapes: B objects, L entries of a view, D embedding dimension.
"""

import importlib
import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mmclip import artifacts
from mmclip.clip.run import Run
from mmclip.errors import MissingExtra, MmclipError, NotFound, nearest
from mmclip.modalities import Modality, Statistics, registry

INPUT, OUTPUT = "values", "vectors"
TOLERANCE = 1e-5  # of an entry of a unit vector
PREFIX = "mmclip."  # of the keys in the file's metadata


@dataclass(frozen=True)
class Written:
    """One file: the view it embeds, and the largest difference of a vector from torch's."""

    path: Path
    view: str
    difference: float


class Encoder(nn.Module):
    """Prepared values [B, L] in the view's own unit -> unit vectors [B, D].

    NaN marks what was not observed; a row without any observed value gives NaN.
    """

    centre: Tensor
    scale: Tensor

    def __init__(self, run: Run, view: str) -> None:
        super().__init__()
        self.model, self.view = run.model, view
        by = run.statistics[view]
        self.register_buffer("centre", torch.tensor(by.centre, dtype=torch.float64))
        self.register_buffer("scale", torch.tensor(by.scale, dtype=torch.float64))
        self.eval()

    def forward(self, values: Tensor) -> Tensor:
        mask = ~torch.isnan(values)
        normal = ((values.double() - self.centre) / self.scale).float()
        vectors = self.model.embed(self.view, torch.where(mask, normal, 0.0), mask)
        return torch.where(mask.any(1, keepdim=True), vectors, torch.nan)


def export(run: Run, folder: Path, views: tuple[str, ...] = ()) -> list[Written]:
    """Write `VIEW.onnx` for each view of a run (or some of them) into `folder`.

    Raises:
        MissingExtra: If onnx or onnxruntime is not installed.
        NotFound: If the run has not embedded such a view.
        MmclipError: If an encoder cannot be written, or its answers differ from torch's.
    """
    _installed()
    held = sorted(run.shape.sizes)
    unknown = [v for v in views if v not in held]
    if unknown:
        raise NotFound(
            f"{run.artifact.path} has no view '{unknown[0]}'; {nearest(unknown[0], held)}",
            f"--view one of: {', '.join(held)}",
        )
    folder.mkdir(parents=True, exist_ok=True)
    return [_write(run, view, folder / f"{view}.onnx") for view in views or held]


def metadata(run: Run, view: str) -> dict[str, str]:
    """What stands in the file beside the network, by key; lists and objects are JSON."""
    by, manifest = run.statistics[view], run.artifact.manifest
    modality = registry.of_view(view, by)
    facts: dict[str, Any] = {
        "view": view, "title": modality.title, "unit": modality.unit,
        "labels": _labels(modality), "axis": None if modality.axis is None
        else np.asarray(modality.axis()).tolist(), "axis_unit": modality.axis_unit,
        "preparation": (modality.prepare.__doc__ or "").partition("\n")[0] or modality.title,
        "reads": [{"column": c.name, "unit": c.unit, "meaning": c.meaning, "length": c.length}
                  for c in modality.columns],
        "settings": dict(by.settings), "normalisation": by.method,
        "centre": by.centre.tolist(), "scale": by.scale.tolist(),
        "shape": list(run.shape.sizes[view]), "encoder": run.shape.encoders[view],
        "dimension": run.shape.dimension, "run": manifest.fingerprint,
        "provenance": manifest.provenance.get(view, ""), "surveys": manifest.surveys,
        "mmclip_version": manifest.mmclip_version,
    }  # fmt: skip
    return {PREFIX + n: v if isinstance(v, str) else json.dumps(v) for n, v in facts.items()}


def _labels(modality: Modality) -> list[str]:
    names = modality.labels()
    return names if len(names) <= 10_000 else []


def _installed() -> None:
    for name in ("onnx", "onnxruntime"):
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise MissingExtra(
                f"--onnx needs {name}, which is not installed", "pip install 'mmclip[onnx]'"
            ) from error


def _write(run: Run, view: str, path: Path) -> Written:
    import onnx

    encoder = Encoder(run, view).cpu()
    with artifacts.whole(path) as unfinished:
        difference = _traced(encoder, run.statistics[view], unfinished)
        made = onnx.load(str(unfinished))
        onnx.helper.set_model_props(made, metadata(run, view))
        made.producer_name = "mmclip"
        onnx.save(made, str(unfinished))
    return Written(path, view, difference)


def _traced(encoder: Encoder, by: Statistics, path: Path) -> float:
    """Write the graph; the largest difference of its answers.

    A trace takes a second and serves most encoders. What depends on the number of objects (the
    transformers) goes through `torch.export`, which takes ten times as long.
    """
    failed = ""
    for write in (_by_trace, _by_export):
        try:
            write(encoder, by, path)
            difference = check(encoder, by, path)
        except Exception as error:  # whatever the exporters raise: the other one is tried
            failed = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            continue
        if difference <= TOLERANCE:
            return difference
        failed = f"its vectors differ from torch's by {difference:.1g}"
    raise MmclipError(
        f"the encoder of {encoder.view} cannot be written as ONNX: {failed}", "--view, without it"
    )


def _by_trace(encoder: Encoder, by: Statistics, path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer's own; what it made is compared with torch
        torch.onnx.export(
            encoder, (torch.from_numpy(examples(by, 3, 0)),), str(path),
            input_names=[INPUT], output_names=[OUTPUT], dynamo=False,
            dynamic_axes={INPUT: {0: "objects"}, OUTPUT: {0: "objects"}},
        )  # fmt: skip


def _by_export(encoder: Encoder, by: Statistics, path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            encoder, (torch.from_numpy(examples(by, 3, 0)),), str(path),
            input_names=[INPUT], output_names=[OUTPUT], dynamo=True, external_data=False,
            verbose=False, dynamic_shapes={INPUT: {0: torch.export.Dim.DYNAMIC}},
        )  # fmt: skip


def examples(by: Statistics, count: int, seed: int) -> NDArray[np.float32]:
    """[count, L] values as the training stars had them: all observed, most, and half."""
    draw = np.random.default_rng(seed)
    made = by.centre + by.scale * draw.normal(size=(count, len(by.centre)))
    for row in range(1, count):
        made[row, draw.random(len(by.centre)) < (0.1, 0.5)[row % 2]] = np.nan
        made[row, 0] = by.centre[0]
    return made.astype(np.float32)


def check(encoder: nn.Module, by: Statistics, path: Path) -> float:
    """Largest difference of onnxruntime's vectors from torch's, over three numbers of objects."""
    session = open_session(path)
    largest = 0.0
    for count, seed in ((1, 1), (3, 2), (8, 3)):
        values = examples(by, count, seed)
        if count > 3:
            values[-1] = np.nan
        found = session.run([OUTPUT], {INPUT: values})[0]
        with torch.no_grad():
            wanted = encoder(torch.from_numpy(values)).numpy()
        if not np.array_equal(np.isnan(found), np.isnan(wanted)):
            return float("inf")
        largest = max(largest, float(np.nanmax(np.abs(found - wanted))))
    return largest


def open_session(path: Path) -> Any:
    """An onnxruntime session on the CPU; its warnings are left out."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
