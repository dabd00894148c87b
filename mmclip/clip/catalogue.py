"""Published weights of others (`catalogue.toml`): licence, layout, input; checked on load."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

from mmclip import plugins
from mmclip.clip.onnx_export import open_session
from mmclip.encoders import EncoderConfig, weights
from mmclip.errors import MissingExtra, NotFound, UsageError, nearest

ONNX = "onnx"


@dataclass(frozen=True)
class Model:
    """One set of weights.

    Attributes:
        name, title, source, where, licence: What it is, the paper, the place, the licence.
        view: The view of mmclip that is most like its input.
        layout: Encoder that reads the file, or `onnx`.
        shape: Of one object, as the network takes it.
        unit, grid, time: What it expects; `time` of light curves only.
        preset: Preset whose preparation fits it.
        prefix: Of the keys of this encoder in a file of several.
        width, options: Settings of the encoder; inputs: names and shapes of an ONNX file.
    """

    name: str
    title: str
    source: str
    where: str
    licence: str
    view: str
    layout: str
    shape: tuple[int, ...]
    unit: str
    grid: str
    time: str = ""
    preset: str = ""
    prefix: str = ""
    width: int = 512
    options: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, list[int]] = field(default_factory=dict)


def models() -> dict[str, Model]:
    """Every model of the catalogue, by name."""
    body = tomllib.loads((files("mmclip.clip") / "catalogue.toml").read_text(encoding="utf-8"))
    return {name: Model(**{**made, "name": name, "shape": tuple(made["shape"])})
            for name, made in body.items()}  # fmt: skip


def model(name: str) -> Model:
    """The model of a name.

    Raises:
        NotFound: If there is none.
    """
    known = models()
    if name not in known:
        raise NotFound(f"no model '{name}'; {nearest(name, list(known))}", "mmclip models")
    return known[name]


def check(of: Model, file: Path) -> str:
    """What was found in a file of these weights; nothing in it is executed.

    Raises:
        UsageError: If it is not a file of this layout.
        MissingExtra: If an ONNX file is to be read without onnxruntime.
    """
    if not file.is_file():
        raise UsageError(f"there is no file {file}", f"it is published at {of.where}")
    return _check_onnx(of, file) if of.layout == ONNX else _check_weights(of, file)


def _check_weights(of: Model, file: Path) -> str:
    plugin = plugins.load("encoders", of.layout, "ENCODER")
    config = EncoderConfig(width=of.width, options=of.options)
    plugin.check(of.shape, config)
    network = plugin.build(of.shape, config)
    count = weights.load_into(network, plugin, file, of.prefix)
    return f"{count} of {len(network.state_dict())} tensors of the encoder {of.layout} are set"


def _check_onnx(of: Model, file: Path) -> str:
    try:
        session = open_session(file)
    except ImportError as error:
        raise MissingExtra(
            "an ONNX file needs onnxruntime", "pip install 'mmclip[onnx]'"
        ) from error
    except Exception as error:  # onnxruntime has no class for a file that is none
        raise UsageError(f"{file} is no ONNX file: {' '.join(str(error).split())[:120]}") from error
    held = {i.name: i.shape[1:] for i in session.get_inputs()}
    for name, shape in of.inputs.items():
        fits = name in held and all(
            not isinstance(a, int) or a == b for a, b in zip(held[name], shape, strict=False)
        )
        if not fits:
            shown = ", ".join(f"{n} {s}" for n, s in held.items())
            raise UsageError(f"{file} has not the input {name} {shape} (it has: {shown})")
    return f"inputs {', '.join(held)}; outputs {', '.join(o.name for o in session.get_outputs())}"
