"""Spectra of any table: wavelength, flux and error by name, one row a spectrum or a pixel."""

import json
import re
from typing import Any

import numpy as np
import pyarrow as pa
from astropy import units as u
from numpy.typing import NDArray

from mmclip import arrays, ids
from mmclip.arrays import Array, find, floats, is_list, need, rows
from mmclip.errors import UsageError
from mmclip.modalities.spectra import MODALITY as SPECTRA
from mmclip.readers import Reader, dispersion, files, mmu, units, views, wavelength
from mmclip.readers.files import Source
from mmclip.readers.views import AS_IS, Options

# Names of columns, in the order in which they are looked for.
OTHER_AXES = ("frequency", "freq", "nu", "wavenumber", "wave_number", "energy")
WAVELENGTH = (
    "wavelength", "wave", "lambda", "wavelength_a", "spectrum_wavelength", "spectrum_lambda",
    "spectrum.wavelength", "spectrum.lambda", "spec_wave", "wavelength_nm", "wavelength_um",
    "wavelength_air", "loglam", "log10_wavelength_a", "wavelengths", "lam", "wl", "wave_air",
    "air_wave", "lambda_air", "wavelength_vac", "wave_vac", "lambda_vac", "vac_wave", "log_lambda",
    "log_wave", "loglambda", "logwave", "wavelength_aa", "wavelength_angstrom", "wave_nm",
    "lambda_nm", "wave_um", "lambda_um", "spectral_axis", "spectral", "awav", *OTHER_AXES,
)  # fmt: skip
FLUX = ("flux", "spectrum_flux", "spectrum.flux", "spec_flux", "fluxes", "flux_density",
        "f_lambda", "flam", "flux_reduced")  # fmt: skip
SIGMA = ("sigma", "flux_error", "flux_err", "error", "err", "spectrum_error", "fluxerr", "err_flux",
         "errflux", "error_flux", "flux_sigma", "flux_unc", "flux_uncertainty", "uncertainty",
         "unc", "e_flux", "eflux", "sigma_flux", "sigflux", "std", "stddev", "noise", "flux_std",
         "dflux", "err_flux_reduced", "flux_stat_error", "staterror", "errors", "sig")  # fmt: skip
IVAR = ("ivar", "spectrum_ivar", "spectrum.ivar", "flux_ivar", "invvar", "inverse_variance")
VARIANCE = ("variance", "var", "flux_variance", "flux_var")
MASK = ("mask", "andmask", "and_mask", "spectrum_mask", "spectrum.mask")
FIRST, STEP = ("loglam0", "coeff0"), ("dloglam", "coeff1")
NAMED = re.compile(r"(?:wavelength|wave|lambda)_(.+)")
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
    wave = _axis(table, options)
    sigma, ivar = _chosen(table, options, SIGMA), _chosen(table, options, IVAR)
    variance = None if sigma or ivar else _chosen(table, options, VARIANCE)
    if "ivar" in options.columns and "sigma" not in options.columns:
        sigma = None
    mask = _chosen(table, options, MASK)
    roles = {"flux": flux, "wavelength": wave, "sigma": sigma or ivar or variance, "mask": mask}
    used = [n for n in (flux, wave, sigma, ivar, variance, mask) if n is not None]
    if not is_list(table.schema.field(flux).type) and not _text_array(table, flux):
        key = _key(table, options)
        table = views.gather(table, key, [n for n in used if n in table.column_names])
    grids, converted = _wavelengths(table, options, wave, flux, fallback)
    fluxes = rows(table, flux)
    sigmas = rows(table, sigma) if sigma else [None] * len(fluxes)
    scale = units.factor(_unit(table, sigma), _unit(table, flux)) if sigma else None
    if scale not in (None, 1.0):
        sigmas = [None if v is None else np.asarray(v, np.float64) * scale for v in sigmas]
    if units.factor(_unit(table, flux), "Jy") is not None:
        table = views.told(table, f"{flux}: per frequency ({_unit(table, flux)}), kept as it is")
    if units.LOGARITHM.fullmatch(_unit(table, flux)):
        raise UsageError(f"'{flux}' holds logarithms ({_unit(table, flux)})", "write the fluxes")
    if sigma is None and ivar:
        sigmas = [None if v is None else wavelength.sigma(v) for v in rows(table, ivar)]
    if variance:
        sigmas = [None if v is None else wavelength.sigma(1 / v) for v in rows(table, variance)]
    masks = rows(table, mask) if mask else [None] * len(fluxes)
    made: list[Spectrum | str] = []
    filled = 0
    for w, f, s, m in zip(grids, fluxes, sigmas, masks, strict=True):
        if f is not None and np.asarray(f).dtype.kind == "f":
            fill = views.fills(np.asarray(f, np.float64))
            filled += int(fill.sum())
            f = np.where(fill, np.nan, f) if fill.any() else f
        lengths = {len(a) for a in (w, f, s, m) if a is not None}
        if w is None or f is None:
            made.append("no spectrum")
        elif len(w) and np.nanmax(w) < SHORTEST:
            made.append(f"wavelengths end at {np.nanmax(w):g}: name their unit (wavelength_nm=...)")
        elif len(lengths) != 1:
            made.append(f"wavelength, flux and error differ in length ({sorted(lengths)})")
        else:
            made.append(spectrum(w, f, s, m))
    if filled:
        table = views.told(table, f"{flux}: {filled} pixels hold a fill value (-9999 ...), bad")
    columns, reasons = columns_of(made)
    return views.from_table(
        SPECTRA, table, columns, reasons, options, fallback, used=roles, survey=survey,
        converted={"wavelength": converted, "sigma": _error_rule(sigma, ivar, variance)},
    )  # fmt: skip


def _unit(table: pa.Table, name: str | None) -> str:
    return units.of(table.schema.field(name)) if name in table.column_names else ""


def _error_rule(sigma: str | None, ivar: str | None, variance: str | None) -> str:
    """How errors were made of what the file has."""
    if sigma or not (ivar or variance):
        return ""
    return "1 / sqrt(ivar)" if ivar else "sqrt(variance)"


def _text_array(table: pa.Table, name: str) -> bool:
    """Whether a column holds arrays in text.

    Raises:
        UsageError: If it holds other text, where numbers should be.
    """
    if not pa.types.is_string(table.schema.field(name).type):
        return False
    words = [v.strip() for v in table[name].drop_null().to_pylist()]
    if all(v[:1] in ("(", "[", "{") for v in words if v):
        return True
    odd = next((v for v in words if not np.isfinite(arrays.number(v))), words[0])
    raise UsageError(f"the column '{name}' holds text that is no number: '{odd[:40]}'", "mend it")


def _key(table: pa.Table, options: Options) -> str | None:
    """The id column that cuts a table of one row a pixel into objects."""
    gaia, own = ids.columns(table, options.id_column)
    return gaia or own


def _axis(table: pa.Table, options: Options) -> str | None:
    """The column of wavelengths, frequencies or energies: as the user says, by name, or by UCD."""
    for target, column in options.columns.items():
        if _is_axis(target):
            return None if ":" in column else need(table, column, f"--columns {target}=")
    mapped = set(options.columns.values())
    here = [f for f in table.schema if f.name not in mapped]
    found = find(table.select([f.name for f in here]), WAVELENGTH)
    if found is not None:
        return found
    for field in here:  # a unit in the name: `Wavelength [nm]`
        split = units.SUFFIX.match(field.name)
        named = split is not None and split[1].strip().lower() in WAVELENGTH
        if split and named and units.is_spectral(split[2]):
            return str(field.name)
    axes = ("em.wl", "em.freq", "em.energy")
    return next((f.name for f in here if units.ucd(f).startswith(axes)), None)


def _is_axis(target: str) -> bool:
    return target.startswith(("wavelength", "loglam")) or target in OTHER_AXES


def _wavelengths(
    table: pa.Table, options: Options, column: str | None, flux: str, fallback: str
) -> tuple[list[arrays.Row], str]:
    """Wavelength of each row in Angstrom and vacuum, and how it was made from the column."""
    count, unit = table.num_rows, "Angstrom"
    named = next((n for n in options.columns if _is_axis(n)), None)
    first, step = find(table, FIRST), find(table, STEP)
    given: list[arrays.Row]
    air = options.air
    if named and ":" in options.columns[named]:
        given = [wavelength.parse_grid(options.columns[named])] * count
        given, unit = _in_unit(given, named.lower(), "", named, fallback)
        air |= named == "wavelength_air"
    elif column is not None:
        field = table.schema.field(column)
        given, unit = _in_unit(
            rows(table, column), (named or column).lower(),
            units.of(field), column, fallback, bool(named),
        )  # fmt: skip
        air |= _in_air(table, column, named)
    elif first and step:
        lengths = [None if f is None else len(f) for f in rows(table, flux)]
        starts, steps = floats(table, first), floats(table, step)
        given = [
            None if n is None else 10 ** wavelength.grid(a, b, n)
            for a, b, n in zip(starts, steps, lengths, strict=True)
        ]
    else:
        grid = wavelength.stated(table.schema.metadata)
        if grid is None:
            raise UsageError(
                f"{fallback} does not say its wavelengths",
                'name them: --columns "wavelength=NAME" or "wavelength=START:STEP:COUNT"',
            )
        given = [grid] * count
    made = [None if w is None else wavelength.vacuum(w) if air else w for w in given]
    done = [f"{unit} -> Angstrom"] if units.known(unit) != u.AA else []
    return made, ", ".join(done + ["air -> vacuum"] * air)


def _in_unit(
    given: list[arrays.Row],
    target: str,
    stated: str,
    column: str,
    fallback: str,
    asked: bool = False,
) -> tuple[list[arrays.Row], str]:
    """Wavelengths in Angstrom, and their unit before: the user's, else the file's, else the name's.

    Raises:
        UsageError: If the unit is unknown, or a frequency, wave number or energy has none.
    """
    split, match = units.SUFFIX.match(target), NAMED.fullmatch(target)
    logarithm = target.startswith("log") and "(" not in target
    unit = stated
    if match and units.is_spectral(match[1]) and (asked or not stated):
        unit = match[1]
    elif not stated and split and units.is_spectral(split[2]):
        unit = split[2]
    elif not stated and target in OTHER_AXES:
        raise UsageError(
            f"{column} of {fallback} has no unit",
            f'say it: --columns "wavelength_Hz={column}" (or _eV, _cm-1)',
        )
    if logarithm:
        bare = units.LOGARITHM.fullmatch(unit)
        inner = bare[1] if bare else unit
        plain = inner.lower() in (*units.NONE, "dex") or units.known(inner) == u.one
        unit = f"log({'Angstrom' if plain else inner})"
    if unit.lower() in units.NONE:
        unit = "Angstrom"
    made: list[arrays.Row] = [
        None if g is None else units.angstrom(np.asarray(g, float), unit, column) for g in given
    ]
    return made, unit


def _in_air(table: pa.Table, column: str, named: str | None) -> bool:
    """Whether the file says that its wavelengths are in air: by name, UCD, header or comment."""
    name = column.lower()
    if named == "wavelength_air" or name.endswith("_air") or name in ("awav", "air_wave"):
        return True
    if "vac" in name:
        return False
    if "obs.atmos" in units.ucd(table.schema.field(column)):
        return True
    metadata = table.schema.metadata or {}
    said = units.described(json.loads(metadata.get(b"header") or b"{}"))
    if said is None:
        said = units.in_air(metadata.get(b"notes", b"").decode(errors="replace"))
    return bool(said)


def image_spectra(
    hdus: list[Any], options: Options
) -> tuple[list[Spectrum | str], list[str], dict[str, Any]] | None:
    """The spectra of FITS images: one a row, the name of each ("" for the only one), the header.

    The first image with a wavelength axis is the flux; an image of the same shape that is called
    ERR, ERROR, SIGMA, STAT, VAR, IVAR or MASK gives errors and bad pixels.
    """
    images = [u for u in hdus if _is_image(u)]
    found = next((u for u in images if _has_axis(u.header)), None)
    if found is None:
        found = images[0] if images and _grid(options) is not None else None
    if found is None:
        return None
    data = np.atleast_2d(np.asarray(found.data, np.float64))
    header = dict(hdus[0].header) | dict(found.header)
    if dispersion.is_multispec(header):
        if data.ndim == 3:  # bands of IRAF: the spectrum, the raw one, the sky, the error
            bands = data
            data = bands[0]
            errors = bands[3] if len(bands) > 3 else None
        else:
            errors = None
        waves = dispersion.multispec(header, len(data), data.shape[-1])
        air = bool(units.described(header))
    else:
        errors = None
        data = data.reshape(-1, data.shape[-1])
        grid = _grid(options)
        wave, air = dispersion.axis(header, data.shape[-1]) if grid is None else (grid, False)
        waves = [wave] * len(data)
    air = air or options.air
    sigma, bad = _beside(hdus, found, data.shape)
    sigma = errors if sigma is None else sigma
    made: list[Spectrum | str] = []
    for row, w in enumerate(waves):
        if isinstance(w, str):
            made.append(w)
            continue
        if len(w) != data.shape[-1]:
            made.append(f"{len(w)} wavelengths for {data.shape[-1]} pixels")
            continue
        if np.nanmax(w) < SHORTEST:
            made.append(f"wavelengths end at {np.nanmax(w):g}: name their unit "
                        "(--columns wavelength_nm=START:STEP:COUNT)")  # fmt: skip
            continue
        made.append(
            spectrum(
                wavelength.vacuum(w) if air else w,
                data[row],
                None if sigma is None else sigma[row],
                None if bad is None else bad[row],
            )
        )
    names = [""] if len(data) == 1 else [f":{i + 1}" for i in range(len(data))]
    return made, names, header


def _grid(options: Options) -> NDArray[np.float64] | None:
    named = next((k for k, v in options.columns.items() if _is_axis(k) and ":" in v), None)
    if named is None:
        return None
    grid = wavelength.parse_grid(options.columns[named])
    made = _in_unit([grid], named.lower(), "", named, "the grid", True)[0][0]
    return wavelength.vacuum(np.asarray(made)) if named == "wavelength_air" else made


def _is_image(unit: Any) -> bool:
    return getattr(unit, "columns", None) is None and np.ndim(unit.data) >= 1


def _has_axis(header: Any) -> bool:
    kind = str(header.get("CTYPE1", "")).upper()
    if kind.startswith(("RA--", "DEC-", "GLON", "GLAT")):
        return False
    first = header.get("CRVAL1", header.get("COEFF0"))
    step = header.get("CDELT1", header.get("CD1_1", header.get("COEFF1")))
    return dispersion.is_multispec(header) or (first is not None and step is not None)


ERRORS = ("ERR", "ERROR", "ERRS", "ERRORS", "SIGMA", "UNCERT", "UNCERTAINTY", "STD", "NOISE")
VARIANCES = ("STAT", "VAR", "VARIANCE")
INVERSES = ("IVAR", "INVVAR")


def _beside(hdus: list[Any], flux: Any, shape: tuple[int, ...]) -> tuple[Any, Any]:
    sigma = bad = None
    for unit in hdus:
        if unit is flux or not _is_image(unit) or np.size(unit.data) != int(np.prod(shape)):
            continue
        name, values = unit.name.upper(), np.asarray(unit.data, np.float64).reshape(shape)
        with np.errstate(invalid="ignore"):
            if name in ERRORS:
                sigma = values
            elif name in VARIANCES:
                sigma = np.sqrt(values)
            elif name in INVERSES:
                sigma = wavelength.sigma(values)
            elif name in ("MASK", "AND_MASK", "ANDMASK", "DQ", "QUAL"):
                bad = values
    return sigma, bad


def read(source: Source, options: Options = AS_IS) -> pa.Table:
    """Spectra of any file that `tables` reads, or of FITS images with a wavelength axis."""
    data = files.body(source)
    name = files.stem(data)
    if files.kind(data, name) == "fits":
        with files.fits_units(data) as hdus, files.reading(name, "FITS"):
            tabled = any(getattr(u, "columns", None) is not None for u in hdus)
            found = None if tabled and not _is_image(hdus[0]) else image_spectra(hdus, options)
            if found is not None:
                made, names, header = found
                columns, reasons = columns_of(made)
                about: dict[str, Any] = {"object_name": [name + n for n in names]}
                own = str(header.get("OBJECT", "") or "").strip()
                if own and len(names) == 1:
                    about["target_name"] = [own]
                ra, dec = header.get("RA"), header.get("DEC")
                if isinstance(ra, int | float) and isinstance(dec, int | float):
                    about |= {"ra": [float(ra)] * len(names), "dec": [float(dec)] * len(names)}
                return views.from_table(SPECTRA, pa.table(about), columns, reasons, Options(), name)
    return from_table(mmu.read(data), options, name)


READER = Reader(
    "spectra", None, lambda source, modality, options: read(source, options), ("spectra",)
)
