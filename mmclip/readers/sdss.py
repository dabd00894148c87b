"""SDSS spectra: `spec` files of the optical spectrographs, apVisit and apStar of APOGEE."""

from typing import Any

import numpy as np
import pyarrow as pa

from mmclip.errors import IntegrityError
from mmclip.modalities.spectra import MODALITY as SPECTRA
from mmclip.readers import Reader, files, views, wavelength
from mmclip.readers.files import Source
from mmclip.readers.spectra import Spectrum, columns_of, spectrum

SPEC, APOGEE = "sdss", "apogee"
CITATIONS = {
    SPEC: ("2000AJ....120.1579Y", "2022ApJS..259...35A"),
    APOGEE: ("2017AJ....154...94M", "2022ApJS..259...35A"),
}
LABELS = (
    "SPECOBJID", "PLATE", "MJD", "FIBERID", "CLASS", "SUBCLASS", "Z", "Z_ERR", "ZWARNING",
    "SN_MEDIAN_ALL", "ELODIE_TEFF", "ELODIE_LOGG", "ELODIE_FEH",
)  # fmt: skip
# APOGEE_PIXMASK bits that spoil a pixel: BADPIX CRPIX SATPIX UNFIXABLE BADDARK BADFLAT BADERR
# NOSKY (0-7) and NOT_ENOUGH_PSF (14); the others warn (persistence, sky and telluric lines).
# SDSS DR17, bitmask page of APOGEE_PIXMASK.
BAD_PIXELS = sum(1 << bit for bit in (*range(8), 14))


def is_spec(units: list[Any]) -> bool:
    """True for an optical `spec` file."""
    columns = getattr(units[1], "columns", None) if len(units) > 1 else None
    names = {n.lower() for n in columns.names} if columns is not None else set()
    return {"flux", "loglam", "ivar"} <= names


def is_apogee(units: list[Any]) -> bool:
    """True for an apVisit or apStar (asPcap) file."""
    if len(units) < 4 or getattr(units[1], "data", None) is None:
        return False
    header = units[0].header
    if is_aspcap(units):
        return True
    telescope = str(header.get("TELESCOP", "")) + str(header.get("OBJID", ""))
    return "apo" in telescope or "lco" in telescope or telescope.startswith("2M")


def is_aspcap(units: list[Any]) -> bool:
    """True for an aspcapStar file: spectrum, error and best-fitting model, each [8575], a table."""
    if len(units) < 5 or getattr(units[4], "columns", None) is None:
        return False
    images = [np.shape(u.data) for u in units[1:4] if getattr(u, "columns", None) is None]
    apogee = "APOGEE_ID" in {n.upper() for n in units[4].columns.names}
    return apogee and len(images) == 3 and len({*images}) == 1 and len(images[0]) == 1


def is_plate(units: list[Any]) -> bool:
    """True for a spSpec (SDSS-I/II, one spectrum in rows) or spPlate (a row a fibre) file."""
    header, shape = units[0].header, np.shape(units[0].data)
    return len(shape) == 2 and "COEFF0" in header and "PLATEID" in header


def read_plate(source: Source) -> pa.Table:
    """A spSpec file as one row, or a spPlate file as one row a fibre.

    spSpec: the rows of the image are flux, flux without continuum, error, mask and sky. spPlate:
    HDU 1 is the inverse variance, 2 the AND mask, 5 (PLUGMAP) the positions. Vacuum wavelengths.

    Raises:
        IntegrityError: If it is not a whole file of either kind.

    Source:
        The SDSS data model (spSpec of DR7, spPlate of DR17).
    """
    name = files.label(source)
    with files.fits_units(source) as units, files.reading(name, "SDSS"):
        header, data = units[0].header, np.asarray(units[0].data, np.float64)
        wave = 10 ** wavelength.grid(
            float(header["COEFF0"]), float(header["COEFF1"]), data.shape[1]
        )
        plate = f"{header['PLATEID']}-{header.get('MJD', '?')}"
        ivar = next((u for u in units[1:] if _image_like(u, data.shape)), None)
        if ivar is None and len(data) >= 4 and "FIBERID" in header:
            found: list[Spectrum | str] = [spectrum(wave, data[0], data[2], data[3])]
            names = [f"{plate}-{header['FIBERID']}"]
            ra, dec = [header.get("RAOBJ")], [header.get("DECOBJ")]
        else:
            masks = [u for u in units[1:] if u is not ivar and _image_like(u, data.shape)]
            bad = None if not masks else np.asarray(masks[0].data, np.float64)
            sigma = None if ivar is None else wavelength.sigma(ivar.data)
            found = [
                spectrum(wave, data[i], None if sigma is None else sigma[i],
                         None if bad is None else bad[i])
                for i in range(len(data))
            ]  # fmt: skip
            names = [f"{plate}-{i + 1}" for i in range(len(data))]
            ra, dec = _plugged(units, len(data))
        columns, reasons = columns_of(found)
        return views.observations(
            SPECTRA,
            columns,
            source_id=pa.nulls(len(names), pa.int64()),
            object_name=pa.array(names),
            reasons=reasons,
            ra=pa.array(ra, pa.float64()),
            dec=pa.array(dec, pa.float64()),
            survey=SPEC,
        )


def _image_like(unit: Any, shape: tuple[int, ...]) -> bool:
    return getattr(unit, "columns", None) is None and np.shape(unit.data) == shape


def _plugged(units: list[Any], count: int) -> tuple[list[Any], list[Any]]:
    for unit in units:
        if getattr(unit, "columns", None) is not None and len(unit.data) == count:
            names = {n.upper(): n for n in unit.columns.names}
            if "RA" in names and "DEC" in names:
                ra, dec = (np.asarray(unit.data[names[n]], float) for n in ("RA", "DEC"))
                return ra.tolist(), dec.tolist()
    return [None] * count, [None] * count


def read(source: Source) -> pa.Table:
    """A `spec` file, a spSpec or spPlate file, or one of APOGEE."""
    with files.fits_units(source) as units:
        if is_plate(units):
            return read_plate(source)
        optical = is_spec(units)
    return read_spec(source) if optical else read_apogee(source)


def read_spec(source: Source) -> pa.Table:
    """An optical spectrum as a view table `spectra` of one row.

    Wavelengths 10^loglam in Angstrom, vacuum, heliocentric, observed frame; flux in 1e-17 erg
    s-1 cm-2 A-1. Pixels with an inverse variance of zero or a set AND mask are NaN. The object is
    named by BESTOBJID, as SDSS images are, else by SPECOBJID.

    Raises:
        IntegrityError: If it is not a whole `spec` file.
    """
    name = files.label(source)
    with files.fits_units(source) as units, files.reading(name, "SDSS spec"):
        if not is_spec(units):
            raise IntegrityError(f"{name} is not a spec file of SDSS", "--as spectra reads others")
        data = units[1].data
        values = {n.lower(): np.asarray(data[n], np.float64) for n in units[1].columns.names}
        mask = values.get("and_mask")
        found = spectrum(
            10 ** values["loglam"], values["flux"], wavelength.sigma(values["ivar"]), mask
        )
        about = units[2].data if len(units) > 2 else None
        header = units[0].header
        facts = {n: _scalar(about[n]) for n in about.names if n in LABELS or n.endswith("OBJID")
                 or n in ("CATALOGID", "SDSS_ID")
                 or n in ("PLUG_RA", "PLUG_DEC")} if about is not None else {}  # fmt: skip
        best = next(
            (d for n in ("BESTOBJID", "SPECOBJID", "CATALOGID", "SDSS_ID")
             if (d := _digits(facts.get(n)))), None,
        )  # fmt: skip
        field = header.get("PLATEID", header.get("FIELDID", "?"))
        plate = f"{field}-{header.get('MJD', '?')}-{header.get('FIBERID', '?')}"
        labels = {n.lower(): pa.array([facts[n]]) for n in LABELS if n in facts}
        return _row(
            found,
            best or plate,
            labels,
            facts.get("PLUG_RA", header.get("PLUG_RA", header.get("RA"))),
            facts.get("PLUG_DEC", header.get("PLUG_DEC", header.get("DEC"))),
            SPEC,
        )


def read_apogee(source: Source) -> pa.Table:
    """An apVisit (three chips) or apStar (combined, first row) as a view table `spectra`.

    Wavelengths are in vacuum; an apVisit is in the frame of the observatory, its barycentric
    correction stands in the label `bc` (km/s), an apStar is at rest. Errors of spoiled pixels and
    pixels with a spoiling bit of APOGEE_PIXMASK are NaN.

    Raises:
        IntegrityError: If it is not a whole file of APOGEE.
    """
    name = files.label(source)
    with files.fits_units(source) as units, files.reading(name, "APOGEE"):
        if not is_apogee(units):
            raise IntegrityError(f"{name} is not a spectrum of APOGEE", "--as spectra reads others")
        header = units[0].header
        flux, error, mask = (np.asarray(units[i].data, np.float64) for i in (1, 2, 3))
        if is_aspcap(units):
            mask = np.zeros(flux.shape)  # HDU 3 is the best-fitting model
        visit = len(units) > 4 and np.shape(units[4].data) == flux.shape and flux.ndim == 2
        if visit and len(flux) == 3:
            wave = np.asarray(units[4].data, np.float64).ravel()
            flux, error, mask = flux.ravel(), error.ravel(), mask.ravel()
        else:
            flux, error, mask = (np.atleast_2d(a)[0] for a in (flux, error, mask))
            axis = units[1].header if "CRVAL1" in units[1].header else header
            first, step = float(axis["CRVAL1"]), float(axis["CDELT1"])
            wave = 10 ** wavelength.grid(first, step, len(flux))
        facts = _facts(units)
        bad = (mask.astype(np.int64) & BAD_PIXELS) != 0
        labels = {
            n.lower(): pa.array([facts[n]])
            for n in ("TELESCOPE", "FIELD", "MJD", "SNR", "J", "H", "K", "VHELIO", "BC", "STARFLAG")
            if n in facts
        }
        kind = pa.array(["aspcapStar" if is_aspcap(units) else "apVisit" if visit else "apStar"])
        return _row(
            spectrum(wave, flux, error, bad),
            str(header.get("OBJID", facts.get("APOGEE_ID", files.stem(source)))).strip(),
            labels | {"product": kind},
            header.get("RA", facts.get("RA")),
            header.get("DEC", facts.get("DEC")),
            APOGEE,
        )


def _facts(units: list[Any]) -> dict[str, Any]:
    for unit in units[4:]:
        if getattr(unit, "columns", None) is not None and len(unit.data) >= 1:
            return {n: _scalar(unit.data[n]) for n in unit.columns.names}
    return {}


def _scalar(values: Any) -> Any:
    value = np.asarray(values).ravel()[0]
    value = value.item() if hasattr(value, "item") else value
    return value.strip() if isinstance(value, str) else value


def _digits(value: object) -> str | None:
    text = str(value or "").strip()
    return text if text.isdigit() and int(text) > 0 else None


def _row(
    found: Spectrum, name: str, labels: dict[str, pa.Array], ra: Any, dec: Any, survey: str
) -> pa.Table:
    columns, reasons = columns_of([found])
    return views.observations(
        SPECTRA,
        columns,
        source_id=pa.array([None], pa.int64()),
        object_name=pa.array([name]),
        reasons=reasons,
        labels=labels,
        ra=pa.array([None if ra is None else float(ra)], pa.float64()),
        dec=pa.array([None if dec is None else float(dec)], pa.float64()),
        survey=survey,
    )


READER = Reader(
    "sdss",
    lambda source, units: bool(units) and (is_spec(units) or is_plate(units) or is_apogee(units)),
    lambda source, modality, options: read(source),
    ("spectra",),
    CITATIONS,
)
