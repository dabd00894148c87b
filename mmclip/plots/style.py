"""What all figures share: colours, axes, sizes, and writing them to a file."""

import io
import warnings
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.mathtext import MathTextParser
from matplotlib.text import Text
from numpy.typing import NDArray

from mmclip.artifacts import whole
from mmclip.errors import UsageError, visible

# Okabe & Ito 2008: blue, vermillion, green, orange, purple, sky.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7", "#56B4E9")
GREY = "#8a8f98"
Floats = NDArray[np.float64]


class _Shown(Figure):
    """A figure that a notebook shows as it is, without a window or a magic command."""

    def _repr_png_(self) -> bytes:
        return png_bytes(self)


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of so many inches, drawn without a window."""
    figure = _Shown(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def tidy(axes: Axes, title: str = "") -> None:
    """A light grid, two grey spines, and the title at the left."""
    axes.grid(True, color="#d9dce1", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GREY)
    axes.tick_params(color=GREY, labelsize=9)
    if title:
        axes.set_title(title, loc="left", fontsize=12)


def marker_of(number: int) -> str:
    """The mark of a class or group; the first have the plain one, and share no colour."""
    return "o^sDvP*X"[number // len(COLOURS) % 8]


def symmetric_logarithm(axes: Axes, values: Floats) -> None:
    """A logarithmic y axis of both signs, linear below the least quarter of the sizes."""
    size = np.abs(values[np.isfinite(values) & (values != 0)])
    axes.set_yscale("symlog", linthresh=float(np.quantile(size, 0.25)) if len(size) else 1.0)


def short(name: str, most: int = 40) -> str:
    """A name for a legend, where one that begins with `_` would be left out."""
    cut = name if len(name) <= most else f"{name[: most - 3]}..."
    return f" {cut}" if cut.startswith("_") else cut


def ramp(steps: int = 64) -> list[str]:
    """The sequential colours of every figure here (cividis), from low to high, as `#rrggbb`."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    return [to_hex(c) for c in colormaps["cividis"](np.linspace(0, 1, steps))]


def value_range(values: Floats) -> tuple[float, float]:
    """Least and greatest finite value, never equal."""
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def png_bytes(figure: Figure, dpi: int = 110) -> bytes:
    """The figure as PNG."""
    return _bytes(figure, "png", dpi)


def _bytes(figure: Figure, kind: str, dpi: int) -> bytes:
    body = io.BytesIO()
    for text in figure.findobj(Text):
        text.set_text(visible(text.get_text()))
        _literal(text)
    with rc_context({"svg.fonttype": "none"}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
        figure.savefig(body, format=kind, dpi=dpi)
    return body.getvalue()


def _literal(text: Text) -> None:
    """A name with dollar signs that is no formula is drawn as it stands."""
    if "$" not in text.get_text():
        return
    try:
        for line in text.get_text().splitlines():  # as matplotlib does
            MathTextParser("path").parse(line)
    except ValueError:
        text.set_parse_math(False)


def save(figure: Figure, path: Path) -> None:
    """Write a figure by its suffix (.png .pdf .svg), whole or not at all.

    Raises:
        UsageError: On another suffix, or in a directory that is not there.
        MmclipError: If it cannot be written.
    """
    kind = path.suffix.lower().removeprefix(".")
    if kind not in ("png", "pdf", "svg"):
        raise UsageError(f"'{path.suffix}' of {path} is no picture format", ".png .pdf .svg")
    body = _bytes(figure, kind, 150)
    if not path.parent.is_dir():
        raise UsageError(
            f"{path} cannot be written: {path.parent} is no directory", "another --plot"
        )
    with whole(path) as part:
        part.write_bytes(body)
