"""What an object looks like in a view: a spectrum, a light curve, or a row of values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mmclip import arrays, artifacts
from mmclip.artifacts import Artifact, paths
from mmclip.artifacts.workspace import Workspace
from mmclip.datasets.build import Dataset
from mmclip.datasets.ingest import read_view
from mmclip.errors import NotFound
from mmclip.ids import rows_of
from mmclip.modalities import Modality, restore

BRIGHTNESS = {"magnitude": "magnitude [mag]", "flux": "flux"}  # columns and labels of an axis
PERIODS = ("period", "period_d")  # days
ZERO = 2_450_000.0  # d, taken off Julian dates on an axis
SCALES = {"TCB": "BJD (TCB)", "TDB": "BJD (TDB)", "UTC": "JD (UTC)"}  # of Julian dates
MANY = 1_000_000  # objects, beyond which raw tables are not read for a magnitude
HARMONICS = 4  # of the Fourier series that places phase 0


@dataclass(frozen=True)
class Portrait:
    """One view of one object, ready to be drawn.

    Attributes:
        source_id: Whose.
        view: Its name; of a light curve that of the raw view, whatever was made of it.
        kind: `spectrum`, `light curve`, `image`, `coefficients` or `values`.
        x, y, error: [points]; error may be None. Of an image y is [height, width, 1 or 3], 0-1.
        xlabel, ylabel: With units.
        inverted: True for magnitudes, where bright is up.
        modelled: True if nobody observed it.
    """

    source_id: int
    view: str
    kind: str
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    error: NDArray[np.float64] | None
    xlabel: str
    ylabel: str
    inverted: bool = False
    modelled: bool = False


def raw_views(space: Workspace, data: Artifact) -> Artifact | None:
    """The raw artefact behind a data artefact, if it is still there."""
    try:
        return space.parent(data, "raw")
    except NotFound:
        return None


def of_curves(modality: Modality) -> bool:
    """Whether a view is made of light curves: in order of time, folded, or measured."""
    return any(c.name == "time" and c.is_list for c in modality.columns)


def observations(data: Dataset, views: Sequence[str]) -> list[str]:
    """Of views that are made of the same raw light curves the first alone: they look alike."""
    seen: set[str] = set()
    kept = []
    for view in views:
        modality = data.modality(view)
        if not (of_curves(modality) and modality.source in seen):
            kept.append(view)
        seen.add(modality.source)
    return kept


def portraits(data: Dataset, raw: Artifact | None, ids: list[int], view: str) -> list[Portrait]:
    """Portraits of the objects of `ids` that have the view, in that order.

    A light curve is drawn from the raw table (all its epochs, in its own unit), whatever the view
    makes of it; a spectrum from the prepared values, taken back to their unit.
    """
    modality = data.modality(view)
    if raw is not None and of_curves(modality):
        table = read_view(raw, modality.source)
        column = next((n for n in BRIGHTNESS if n in table.column_names), None)
        if column is not None:
            provenance = raw.manifest.provenance.get(modality.source, "")
            systems = _systems(table if "time_system" in table.column_names else data.objects)
            return _curves(table, column, ids, modality.source, provenance, systems)
    return _prepared(data, ids, view)


def _curves(
    table: pa.Table, value: str, ids: list[int], view: str, provenance: str,
    systems: Mapping[int, str],
) -> list[Portrait]:  # fmt: skip
    rows = rows_of(arrays.column(table, "source_id"), np.array(ids, np.int64))
    made = []
    for source_id, row in zip(ids, rows.tolist(), strict=True):
        if row < 0:
            continue
        time = np.asarray(table["time"][row].as_py(), float)
        x, label = time_axis(time, systems.get(source_id, ""))
        y = np.asarray(table[value][row].as_py(), float)
        error = None
        if "error" in table.column_names:
            error = np.asarray(table["error"][row].as_py(), float)
        made.append(
            Portrait(
                source_id, view, "light curve", x, y, error, label, BRIGHTNESS[value],
                value == "magnitude", provenance == "modelled",
            )
        )  # fmt: skip
    return made


def _systems(table: pa.Table) -> dict[int, str]:
    """Time system by source_id, where one is stated."""
    if not {"source_id", "time_system"} <= set(table.column_names):
        return {}
    pairs = zip(table["source_id"].to_pylist(), table["time_system"].to_pylist(), strict=True)
    return {int(i): str(s) for i, s in pairs if s}


def time_axis(time: NDArray[np.float64], system: str = "") -> tuple[NDArray[np.float64], str]:
    """Times as an axis shows them, and its label with the time system.

    Args:
        time: d, as stored.
        system: As the archive or the file states it (`HJD`, `UTC`, `TCB`; several by `+`); empty:
            the range of the times tells Julian from modified Julian dates.

    Returns:
        Julian dates less 2,450,000, others as they are; `HJD - 2450000 [d]`, `MJD [d]`, `time [d]`.
    """
    middle = float(np.nanmedian(time)) if np.isfinite(time).any() else np.nan
    stated = [s for s in system.split("+") if s]
    if middle > 2_300_000:
        named = "/".join(SCALES.get(s, s) for s in stated) or "JD"
        return time - ZERO, f"{named} − {ZERO:.0f} [d]"
    named = "/".join(stated)
    if 30_000 < middle < 100_000:
        named = f"MJD ({named})" if named and named != "MJD" else "MJD"
    return time, f"{named or 'time'} [d]"


def _prepared(data: Dataset, ids: list[int], view: str) -> list[Portrait]:
    shown, modality = data.views[view], data.modality(view)
    found = rows_of(data.source_id, np.array(ids, np.int64)).tolist()
    seen = shown.present
    rows = [(i, row) for i, row in zip(ids, found, strict=True) if row >= 0 and seen[row]]
    image = modality.kind == "image" and shown.size[0] in (1, 3)  # grey or three colours
    flat = modality.kind == "spectrum" and modality.axis is not None
    alone = modality.kind == "spectrum" and modality.axis is None and len(shown.size) == 1
    kind = "image" if image else "spectrum" if flat else "coefficients" if alone else "values"
    made = []
    for source_id, row in rows:
        values = shown.values[row].astype(float)
        if image:
            y = _colours(restore(values, shown.statistics).reshape(shown.size))
            x, xlabel, ylabel = np.arange(y.shape[1], dtype=float), "", ""
        elif flat and modality.axis is not None:
            y, x = restore(values, shown.statistics), np.asarray(modality.axis(), float)
            xlabel, ylabel = f"wavelength [{modality.axis_unit}]", modality.unit
        elif alone:
            y, x = restore(values, shown.statistics), np.arange(len(values), dtype=float)
            xlabel, ylabel = f"entry of {view}", modality.unit.split(" (")[0] or "coefficient"
        else:
            y, x = values, np.arange(len(values), dtype=float)
            xlabel, ylabel = f"entry of {view}", "normalised value"
        made.append(
            Portrait(
                source_id, view, kind, x, y, None, xlabel, ylabel,
                modelled=shown.provenance == "modelled",
            )
        )  # fmt: skip
    return made


def _colours(image: NDArray[np.float64]) -> NDArray[np.float64]:
    """[channels, height, width] -> [height, width, channels], 0 to 1 as a screen shows it.

    Linear fluxes (values outside 0 to 1) are stretched between their 1st and 99.5th percentile.
    """
    shown = np.nan_to_num(image).transpose(1, 2, 0)
    if shown.min() < -0.01 or shown.max() > 1.01:
        low, high = np.percentile(shown, [1, 99.5])
        shown = np.arcsinh(10 * (shown - low) / max(high - low, 1e-12)) / np.arcsinh(10)
    return np.clip(shown, 0.0, 1.0)


def periods(data: Dataset, raw: Artifact | None) -> dict[int, float]:
    """Period in days of the objects of which one is known."""
    sources = [data.objects]
    if raw is not None:
        held = [n for n in raw.manifest.provenance if paths.table(n) in raw.manifest.files]
        sources += [read_view(raw, n) for n in held if _scalars(raw, n)]
    found: dict[int, float] = {}
    for table in sources:
        name = next((n for n in PERIODS if n in table.column_names), None)
        if name is None or "source_id" not in table.column_names:
            continue
        values = np.asarray(table[name].to_pylist(), float)
        for source_id, period in zip(arrays.column(table, "source_id"), values, strict=True):
            if np.isfinite(period) and period > 0:
                found.setdefault(int(source_id), float(period))
    return found


def dips(curve: Portrait, period: float | None = None) -> bool:
    """Whether an object is bright most of the time, as an eclipsing binary is.

    Its faint side then reaches farther from the median than its bright side, in percentiles 2
    and 98: of the Fourier series where a period is known (d), since the errors of faint points
    are larger, else of the points.
    """
    up = -curve.y if curve.inverted else curve.y
    series = np.zeros(0) if period is None else _series(curve.x / period, curve)[1]
    low, middle, high = np.nanpercentile(series if len(series) else up, [2, 50, 98])
    return bool(middle - low > high - middle)


def folded(curve: Portrait, period: float, faint: bool = False) -> Portrait:
    """A light curve against phase, two cycles.

    Args:
        curve: In order of time.
        period: d.
        faint: Phase 0 is where the Fourier series of the curve is faintest, else brightest.
    """
    turns = curve.x / period
    phase = (turns - _zero(turns, curve, faint)) % 1.0
    twice = np.concatenate([phase, phase + 1])
    error = None if curve.error is None else np.tile(curve.error, 2)
    where = "faintest" if faint else "brightest"
    return Portrait(
        curve.source_id, curve.view, "folded light curve", twice, np.tile(curve.y, 2), error,
        f"phase, P = {period:.6g} d (0: {where})", curve.ylabel, curve.inverted, curve.modelled,
    )  # fmt: skip


def _zero(turns: NDArray[np.float64], curve: Portrait, faint: bool) -> float:
    """Phase at which the Fourier series, by least squares, is faintest or brightest."""
    at, series = _series(turns, curve)
    if not len(series):
        return 0.0
    return float(at[series.argmin() if faint else series.argmax()])


def _series(
    turns: NDArray[np.float64], curve: Portrait
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Turns of the observed points, and the Fourier series there, bright is up.

    At the points alone: in a gap of phases the series is anything. Few points carry few harmonics;
    with none the points themselves are the series.
    """
    good = np.isfinite(turns) & np.isfinite(curve.y)
    at, up = turns[good], (-curve.y if curve.inverted else curve.y)[good]
    harmonics = min(HARMONICS, (len(up) - 1) // 6)
    if harmonics < 1:
        return at, up
    waves = _waves(at, harmonics)
    return at, waves @ np.linalg.lstsq(waves, up, rcond=None)[0]


def _waves(turns: NDArray[np.float64], harmonics: int) -> NDArray[np.float64]:
    angle = 2 * np.pi * np.outer(turns, np.arange(harmonics + 1))
    return np.hstack([np.cos(angle), np.sin(angle[:, 1:])])


def with_phases(curves: list[Portrait], known: Mapping[int, float]) -> list[Portrait]:
    """Folded light curves where a period is known, all alike: the first says where phase 0 lies.

    Args:
        curves: Portraits; those that are no light curves stay.
        known: Period in days by source_id.
    """
    mine = [c for c in curves if c.kind == "light curve" and c.source_id in known]
    if not mine:
        return curves
    faint = dips(mine[0], known[mine[0].source_id])
    return [folded(c, known[c.source_id], faint)
            if c.kind == "light curve" and c.source_id in known else c for c in curves]  # fmt: skip


@dataclass(frozen=True)
class Diagram:
    """A colour-magnitude diagram of all objects, row by row of the objects table."""

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    xlabel: str
    ylabel: str


def colour_magnitude(data: Dataset, raw: Artifact | None) -> Diagram | None:
    """Colour against magnitude, absolute where parallaxes are known; None without any colour.

    M_G = G - 10 + 5 log10(parallax / mas), for positive parallaxes.
    """
    columns = _numbers(data, raw)
    magnitude = next((n for n in ("phot_g_mean_mag", "g_mag") if n in columns), None)
    pairs = (("bp_rp",), ("phot_bp_mean_mag", "phot_rp_mean_mag"), ("j_m", "ks_m"), ("j_k",))
    pair = next((p for p in pairs if set(p) <= set(columns)), None)
    if magnitude is None or pair is None:
        return None
    x = columns[pair[0]] if len(pair) == 1 else columns[pair[0]] - columns[pair[1]]
    y, ylabel = columns[magnitude], "G [mag]"
    parallax = columns.get("parallax")
    if parallax is not None and np.isfinite(parallax).any():
        with np.errstate(invalid="ignore", divide="ignore"):
            y = np.where(parallax > 0, y - 10 + 5 * np.log10(parallax), np.nan)
        ylabel = "absolute G [mag]"
    names = {"bp_rp": "BP − RP", "phot_bp_mean_mag": "BP − RP", "j_m": "J − Ks", "j_k": "J − K"}
    return Diagram(x, y, f"{names[pair[0]]} [mag]", ylabel)


def with_magnitude(objects: pa.Table, raw: Artifact | None) -> pa.Table:
    """The table of objects with `phot_g_mean_mag` of the raw tables, where it has none itself.

    Of more than `MANY` objects, or without it anywhere, the table as it is.
    """
    name = "phot_g_mean_mag"
    if raw is None or name in objects.column_names or len(objects) > MANY:
        return objects
    for view in raw.manifest.provenance:
        if paths.table(view) not in raw.manifest.files or not _scalars(raw, view):
            continue
        schema = pq.read_schema(artifacts.checked(raw, paths.table(view)))
        if name in schema.names:
            table = pq.read_table(raw.path / paths.table(view), columns=["source_id", name])
            rows = rows_of(arrays.column(table, "source_id"), arrays.column(objects, "source_id"))
            return objects.append_column(schema.field(name), arrays.taken(table[name], rows))
    return objects


def _numbers(data: Dataset, raw: Artifact | None) -> dict[str, NDArray[np.float64]]:
    """Every numeric column of the objects and of the raw tables that are no lists."""
    found: dict[str, NDArray[np.float64]] = {}
    sources = [data.objects]
    if raw is not None:
        held = [n for n in raw.manifest.provenance if paths.table(n) in raw.manifest.files]
        sources += [read_view(raw, n) for n in held if _scalars(raw, n)]
    for table in sources:
        rows = rows_of(arrays.column(table, "source_id"), data.source_id)
        for f in table.schema:
            if f.name not in found and (pa.types.is_floating(f.type)):
                values = arrays.column(table, f.name).astype(float)
                found[f.name] = np.where(rows >= 0, values[rows], np.nan)
    return found


def _scalars(raw: Artifact, view: str) -> bool:
    """True for a raw table without lists."""
    schema = pq.read_schema(artifacts.checked(raw, f"{view}.parquet"))
    return not any(arrays.is_list(f.type) for f in schema)
