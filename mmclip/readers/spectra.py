"""Spectra of any table: wavelength, flux and error by name, one row a spectrum or a pixel."""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mmclip import arrays, ids
from mmclip.arrays import Array, find, floats, is_list, need, rows
from mmclip.errors import UsageError
from mmclip.modalities.spectra import MODALITY as SPECTRA
from mmclip.readers import Reader, files, mmu, views, wavelength
from mmclip.readers.files import Source
from mmclip.readers.views import AS_IS, Options

# Names of columns, in the order in which they are looked for.
WAVELENGTH = (
    "wavelength", "wave", "lambda", "wavelength_a", "spectrum_wavelength", "spectrum_lambda",
    "spectrum.wavelength", "spectrum.lambda", "spec_wave", "wavelength_nm", "wavelength_um",
    "wavelength_air", "loglam", "log10_wavelength_a",
)  # fmt: skip
FLUX = ("flux", "spectrum_flux", "spectrum.flux", "spec_flux", "fluxes")
SIGMA = ("sigma", "flux_error", "flux_err", "error", "err", "spectrum_error", "fluxerr")
IVAR = ("ivar", "spectrum_ivar", "spectrum.ivar", "flux_ivar")
MASK = ("mask", "andmask", "and_mask", "spectrum_mask", "spectrum.mask")
FIRST, STEP = ("loglam0", "coeff0"), ("dloglam", "coeff1")
SCALE = {"wavelength_nm": 10.0, "wavelength_um": 1e4}
SHORTEST = 1100.0  # Angstrom; wavelengths that end below are in another unit, left unnamed

Spectrum = tuple[Array, Array, Array | None]


def spectrum(wave: Array, flux: Array, sigma: Array | None, bad: Array | None = None) -> Spectrum:
    """One spectrum in order of wavelength, its bad pixels NaN in flux and sigma.

    Args:
        wave: Angstrom; a value that is not positive is padding and is dropped.
        flux: The same length, any unit.
        sigma: 1-sigma errors, None if unknown; not finite or not positive marks a bad pixel.
        bad: True (or not 0) marks a bad pixel.
    """
    flux = np.asarray(flux, np.float64).copy()
    wrong = ~np.isfinite(flux)
    if bad is not None:
        wrong |= np.nan_to_num(np.asarray(bad, np.float64), nan=1.0) != 0
    if sigma is None:
        flux[wrong] = np.nan
        wave, flux = wavelength.order(np.asarray(wave, np.float64), flux)
        return wave, flux, None
    sigma = np.asarray(sigma, np.float64).copy()
    wrong |= ~(np.isfinite(sigma) & (sigma > 0))
    flux[wrong] = sigma[wrong] = np.nan
    wave, flux, sigma = wavelength.order(np.asarray(wave, np.float64), flux, sigma)
    return wave, flux, sigma


def columns_of(spectra: list[Spectrum | str]) -> tuple[dict[str, list[arrays.Row]], list[str]]:
    """Columns of the view `spectra` and the reason of each row; a string is a reason."""
    reasons = []
    for item in spectra:
        if isinstance(item, str):
            reasons.append(item)
        elif not np.isfinite(item[1]).any():
            reasons.append("no good pixel")
        else:
            reasons.append("")
    good = [None if r or isinstance(s, str) else s for s, r in zip(spectra, reasons, strict=True)]
    parts: dict[str, list[arrays.Row]] = {
        name: [None if s is None else s[i] for s in good]
        for i, name in enumerate(("wavelength", "flux", "sigma"))
    }
    return parts, reasons


def _chosen(table: pa.Table, options: Options, target: tuple[str, ...]) -> str | None:
    for name in target:
        if name in options.columns and ":" not in options.columns[name]:
            return need(table, options.columns[name], f"--columns {name}=")
    mapped = set(options.columns.values())
    return find(table.select([n for n in table.column_names if n not in mapped]), target)


def from_table(table: pa.Table, options: Options, fallback: str, survey: str = "") -> pa.Table:
    """Spectra of a table, as a view table (see `views`).

    The wavelength is a column (Angstrom, or as its name says: `wavelength_nm`, `wavelength_um`,
    `loglam`, `wavelength_air`), or `loglam0` and `dloglam`, or a grid that the schema states, or
    one that the user gives. Errors are a column or an inverse variance.

    Raises:
        UsageError: If there is no flux or no wavelength.
    """
    flux = _chosen(table, options, FLUX)
    if flux is None:
        raise UsageError(
            f"{fallback} has no flux column (it has: {arrays.shown(table)})",
            'name it: --columns "flux=NAME,wavelength=NAME,sigma=NAME"',
        )
    wave = _chosen(table, options, WAVELENGTH)
    sigma, ivar = _chosen(table, options, SIGMA), _chosen(table, options, IVAR)
    if "ivar" in options.columns and "sigma" not in options.columns:
        sigma = None
    mask = _chosen(table, options, MASK)
    used = [n for n in (flux, wave, sigma, ivar, mask) if n is not None]
    if not is_list(table.schema.field(flux).type) and not _text_array(table, flux):
        key = _key(table, options)
        table = views.gather(table, key, [n for n in used if n in table.column_names])
    grids = _wavelengths(table, options, wave, flux, fallback)
    fluxes = rows(table, flux)
    sigmas = rows(table, sigma) if sigma else [None] * len(fluxes)
    if sigma is None and ivar:
        sigmas = [None if v is None else wavelength.sigma(v) for v in rows(table, ivar)]
    masks = rows(table, mask) if mask else [None] * len(fluxes)
    made: list[Spectrum | str] = []
    for w, f, s, m in zip(grids, fluxes, sigmas, masks, strict=True):
        lengths = {len(a) for a in (w, f, s, m) if a is not None}
        if w is None or f is None:
            made.append("no spectrum")
        elif len(w) and np.nanmax(w) < SHORTEST:
            made.append(f"wavelengths end at {np.nanmax(w):g}: name their unit (wavelength_nm=...)")
        elif len(lengths) != 1:
            made.append(f"wavelength, flux and error differ in length ({sorted(lengths)})")
        else:
            made.append(spectrum(w, f, s, m))
    columns, reasons = columns_of(made)
    return views.from_table(
        SPECTRA, table, columns, reasons, options, fallback, used=used, survey=survey
    )


def _text_array(table: pa.Table, name: str) -> bool:
    return bool(pa.types.is_string(table.schema.field(name).type))


def _key(table: pa.Table, options: Options) -> str | None:
    """The id column that cuts a table of one row a pixel into objects."""
    gaia, own = ids.columns(table, options.id_column)
    return gaia or own


def _wavelengths(
    table: pa.Table, options: Options, column: str | None, flux: str, fallback: str
) -> list[arrays.Row]:
    """Wavelength of each row in Angstrom and vacuum."""
    count = table.num_rows
    named = next((n for n in options.columns if n.startswith(("wavelength", "loglam"))), None)
    target = named or (column or "").lower()
    first, step = find(table, FIRST), find(table, STEP)
    given: list[arrays.Row]
    if named and ":" in options.columns[named]:
        given = [wavelength.parse_grid(options.columns[named])] * count
    elif column is not None:
        given = rows(table, column)
        unit = (table.schema.field(column).metadata or {}).get(b"unit", b"").decode().lower()
        if target not in SCALE and unit in wavelength.ANGSTROM:
            given = [None if g is None else g * wavelength.ANGSTROM[unit] for g in given]
    elif first and step:
        lengths = [None if f is None else len(f) for f in rows(table, flux)]
        starts, steps = floats(table, first), floats(table, step)
        target = "loglam"
        given = [
            None if n is None else wavelength.grid(a, b, n)
            for a, b, n in zip(starts, steps, lengths, strict=True)
        ]
    else:
        grid = wavelength.stated(table.schema.metadata)
        if grid is None:
            raise UsageError(
                f"{fallback} does not say its wavelengths",
                'name them: --columns "wavelength=NAME" or "wavelength=START:STEP:COUNT"',
            )
        given, target = [grid] * count, "wavelength"
    air = options.air or target == "wavelength_air"
    return [None if w is None else _angstrom(np.asarray(w, float), target, air) for w in given]


def _angstrom(values: NDArray[np.float64], target: str, air: bool) -> NDArray[np.float64]:
    if target.startswith("log"):
        values = np.where(np.abs(values) < 30, 10.0**values, np.nan)
    values = values * SCALE.get(target, 1.0)
    return wavelength.vacuum(values) if air else values


def image_spectrum(unit: object) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Wavelength (Angstrom) and flux of a FITS image of one spectrum: CRVAL1, CDELT1, CRPIX1.

    `DC-FLAG` 1 (IRAF) or a CTYPE1 of `LOG` means that the axis is log10 of the wavelength.
    """
    header, data = unit.header, np.asarray(unit.data, np.float64)  # type: ignore[attr-defined]
    flux = data.reshape(-1, data.shape[-1])[0]
    step = header.get("CDELT1", header.get("CD1_1", header.get("COEFF1")))
    first = header.get("CRVAL1", header.get("COEFF0"))
    if step is None or first is None:
        raise UsageError("the image states no wavelengths (CRVAL1, CDELT1)", "--as image?")
    start = float(first) + float(step) * (1 - float(header.get("CRPIX1", 1)))
    wave = wavelength.grid(start, float(step), len(flux))
    logarithmic = header.get("DC-FLAG") == 1 or "LOG" in str(header.get("CTYPE1", "")).upper()
    return (10**wave if logarithmic else wave), flux


def read(source: Source, options: Options = AS_IS) -> pa.Table:
    """Spectra of any file that `tables` reads, or of a FITS image with a wavelength axis."""
    data = files.body(source)
    name = files.stem(data)
    if files.kind(data, name) == "fits":
        with files.fits_units(data) as units:
            plain = getattr(units[0], "data", None) is not None
            if plain and not any(getattr(u, "columns", None) is not None for u in units):
                wave, flux = image_spectrum(units[0])
                wave = wavelength.vacuum(wave) if options.air else wave
                columns, reasons = columns_of([spectrum(wave, flux, None)])
                one = pa.table({"object_name": [name]})
                return views.from_table(SPECTRA, one, columns, reasons, Options(), name)
    return from_table(mmu.read(data), options, name)


READER = Reader(
    "spectra", None, lambda source, modality, options: read(source, options), ("spectra",)
)
