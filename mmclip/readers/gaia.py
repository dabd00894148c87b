"""Gaia's own products: XP coefficients, XP sampled spectra, RVS spectra, in any table format."""

import re

import numpy as np
import pyarrow as pa

from mmclip import arrays, ids
from mmclip.arrays import Row, find, is_list, need, rows
from mmclip.errors import UsageError
from mmclip.modalities import Modality, rvs, xp, xp_coefficients
from mmclip.readers import Reader, files, mmu, views, wavelength
from mmclip.readers.files import Loaded, Source
from mmclip.readers.views import AS_IS, Options

SURVEY = "gaia-dr3"
CITATIONS = {SURVEY: ("2016A&A...595A...1G", "2023A&A...674A...1G")}
NAMED = re.compile(r"Gaia[ _]DR3[ _](\d+)", re.IGNORECASE)
XP_FLUX = ("flux", "xp_flux", "xp_sampled_flux")
XP_ERROR = ("flux_error", "xp_flux_error", "xp_sampled_flux_error", "error", "sigma")
NM = ("wavelength", "wavelength_nm", "lambda")
TOLERANCE = 1e-3  # nm between a sample and its place on the grid


def read_xp(source: Source, options: Options = AS_IS) -> pa.Table:
    """XP spectra: coefficients if the file has them, else the sampled spectra."""
    return xp_table(mmu.read(source), options, files.stem(source))


def xp_table(table: pa.Table, options: Options, fallback: str) -> pa.Table:
    """`xp_coefficients` or `xp` of a table, whichever it holds; a mapped `flux` wants samples."""
    has = find(table, ["bp_coefficients", "rp_coefficients"])
    if has and "flux" not in options.columns:
        return coefficients(table, options, fallback)
    return sampled(table, options, fallback)


def coefficients(table: pa.Table, options: Options, fallback: str) -> pa.Table:
    """XP_CONTINUOUS: coefficients, errors and correlations of BP and RP as the archive has them.

    A star whose BP (or RP) is missing has null there and is kept. The number of coefficients is
    taken from the file: DR3 has 55 in each, DR4 will not. Fit statistics (`bp_chi_squared` ...)
    stay beside them in the view.
    """
    columns: dict[str, list[Row]] = {}
    used = {}
    for column in xp_coefficients.RAW:
        name = find(table, [options.columns.get(column.name, column.name)])
        if name is not None:
            used[column.name] = name
            columns[column.name] = [_filled(v) for v in rows(table, name)]
    if not used:
        raise UsageError(
            f"{fallback} has no XP coefficients (it has: {arrays.shown(table)})",
            'name them: --columns "bp_coefficients=NAME,rp_coefficients=NAME"',
        )
    reasons = [_fault(columns, i) for i in range(table.num_rows)]
    statistics = {
        n: arrays.whole(table, n)
        for n in table.column_names
        if re.match(r"[br]p_", n) and not is_list(table.schema.field(n).type)
        and n not in ("bp_rp", "bp_g", *used.values())
        and not pa.types.is_null(table.schema.field(n).type)
    }  # fmt: skip
    return views.from_table(
        xp_coefficients.MODALITY, table, columns, reasons, options, fallback,
        used={**used, **{n: n for n in statistics}}, survey=SURVEY, extra=statistics,
    )  # fmt: skip


def _filled(values: Row) -> Row:
    """None for an empty array or one of NaN alone: a photometer that did not see the star."""
    if values is None or len(values) == 0 or not np.isfinite(values).any():
        return None
    return values


def _fault(columns: dict[str, list[Row]], i: int) -> str:
    found = 0
    for band in ("bp", "rp"):
        values = columns.get(f"{band}_coefficients", [None] * (i + 1))[i]
        if values is None:
            continue
        found += 1
        n = len(values)
        for what, length in (("errors", n), ("correlations", n * (n - 1) // 2)):
            given = columns.get(f"{band}_coefficient_{what}", [None] * (i + 1))[i]
            if given is not None and len(given) != length:
                return f"{len(given)} {band} {what} for {n} coefficients"
        if not np.isfinite(values).all():
            return f"a {band} coefficient is not finite"
    return "" if found else "no coefficients"


def sampled(table: pa.Table, options: Options, fallback: str) -> pa.Table:
    """XP_SAMPLED: 343 samples from 336 to 1020 nm, one row a star or one row a sample."""
    return _on_grid(table, options, fallback, xp.MODALITY, xp.SAMPLED)


def read_rvs(source: Source, options: Options = AS_IS) -> pa.Table:
    """RVS mean spectra: 2401 samples from 846 to 870 nm; NaN where the archive has none."""
    return rvs_table(mmu.read(source), options, files.stem(source))


def rvs_table(table: pa.Table, options: Options, fallback: str) -> pa.Table:
    """RVS spectra of a table, one row a star or one row a sample."""
    return _on_grid(table, options, fallback, rvs.MODALITY, rvs.wavelength())


def _on_grid(
    table: pa.Table, options: Options, fallback: str, modality: Modality, grid: np.ndarray
) -> pa.Table:
    flux = _column(table, options, "flux", XP_FLUX)
    if flux is None:
        raise UsageError(
            f"{fallback} has no flux column (it has: {arrays.shown(table)})",
            'name it: --columns "flux=NAME,flux_error=NAME"',
        )
    error = _column(table, options, "flux_error", XP_ERROR)
    nm = _column(table, options, "wavelength", NM)
    used = {"flux": flux, "flux_error": error, "wavelength": nm}
    kind = table.schema.field(flux).type
    if not is_list(kind) and not pa.types.is_string(kind):
        table = views.gather(table, _gaia_key(table, options), [c for c in used.values() if c])
    table = _named_by_file(table, fallback, options)
    waves = rows(table, nm) if nm else [None] * table.num_rows
    stated = wavelength.stated(table.schema.metadata)
    fluxes = rows(table, flux)
    errors = rows(table, error) if error else [None] * table.num_rows
    made = [
        _place(w if w is not None else None if stated is None else stated / 10, f, e, grid)
        for w, f, e in zip(waves, fluxes, errors, strict=True)
    ]
    columns: dict[str, list[Row]] = {
        "flux": [m[0] for m in made],
        "flux_error": [m[1] for m in made],
    }
    return views.from_table(
        modality, table, columns, [m[2] for m in made], options, fallback, used=used, survey=SURVEY
    )


def _column(table: pa.Table, options: Options, name: str, known: tuple[str, ...]) -> str | None:
    if name in options.columns:
        return need(table, options.columns[name], f"--columns {name}=")
    return find(table, known)


def _gaia_key(table: pa.Table, options: Options) -> str | None:
    gaia, own = ids.columns(table, options.id_column)
    return gaia or own


def _named_by_file(table: pa.Table, fallback: str, options: Options) -> pa.Table:
    """A product of DataLink that names its star only in the file's name gets the id from there."""
    match = NAMED.search(fallback)
    if match and _gaia_key(table, options) is None and table.num_rows == 1:
        ids = pa.array([int(match[1])], pa.int64())
        metadata = table.schema.metadata
        return table.append_column("source_id", ids).replace_schema_metadata(metadata)
    return table


def _place(wave: Row, flux: Row, error: Row, grid: np.ndarray) -> tuple[Row, Row, str]:
    """Flux and error on a fixed grid (nm), NaN where there is no sample; a reason if they fail."""
    if flux is None:
        return None, None, "no spectrum"
    if error is not None and len(error) != len(flux):
        return None, None, f"{len(error)} errors for {len(flux)} fluxes"
    if any(v is not None and np.asarray(v).dtype.kind not in "fiu" for v in (wave, flux, error)):
        return None, None, "text where numbers should be"
    if not np.isfinite(flux).any():
        return None, None, "no spectrum"
    values = np.full(len(grid), np.nan)
    sigmas = np.full(len(grid), np.nan)
    if wave is None:
        if len(flux) != len(grid):
            return None, None, f"{len(flux)} samples instead of {len(grid)}"
        place = np.arange(len(grid))
    else:
        step = grid[1] - grid[0]
        place = np.rint((np.asarray(wave, float) - grid[0]) / step).astype(np.int64)
        if len(wave) != len(flux) or place.min() < 0 or place.max() >= len(grid):
            return None, None, f"wavelengths are not {grid[0]:g}-{grid[-1]:g} nm"
        if np.abs(grid[place] - wave).max() > TOLERANCE:
            return None, None, f"wavelengths are not in steps of {step:.2g} nm"
        if len(np.unique(place)) < len(place):
            return None, None, "a wavelength appears twice"
    values[place] = flux
    if error is not None:
        sigmas[place] = error
    return values, sigmas, ""


def read(source: Loaded, modality: Modality, options: Options) -> pa.Table:
    """XP coefficients, sampled XP spectra or RVS spectra of any table; `xp` is whichever it has."""
    if modality.name == "rvs":
        return read_rvs(source, options)
    if modality.name == "xp":
        return read_xp(source, options)
    return coefficients(mmu.read(source), options, files.stem(source))


READER = Reader("gaia", None, read, ("xp", "xp_coefficients", "rvs"), CITATIONS)
