"""Small files in the layouts of surveys, made from the published descriptions of each format."""

import gzip
import io

import numpy as np
from astropy.io import fits

PIXELS = 200


def packed(units, compress=False):
    """The bytes of a FITS file."""
    body = io.BytesIO()
    fits.HDUList(units).writeto(body)
    return gzip.compress(body.getvalue()) if compress else body.getvalue()


def lamost_pixels(seed=0):
    """Flux, inverse variance and AND mask of a spectrum with four bad pixels of each kind."""
    rng = np.random.default_rng(seed)
    flux = (1000 + 50 * rng.normal(size=PIXELS)).astype("f4")
    ivar = rng.uniform(0.001, 0.01, PIXELS).astype("f4")
    mask = np.zeros(PIXELS, "f4")
    ivar[:4], mask[10:14] = 0, 1
    return flux, ivar, mask


def lamost_header(unit):
    """The keywords that a reader needs."""
    for key, value in {
        "TELESCOP": "LAMOST", "OBSID": 101005, "DESIG": "LAMOST J000000.00+000000.0",
        "RA": 10.5, "DEC": -1.25, "COEFF0": 3.5682, "COEFF1": 0.0001, "FIBERTYP": "Obj",
        "SNRG": 55.5, "Z": -0.0002, "DATA_V": "LAMOST DR9", "VACUUM": True,
    }.items():  # fmt: skip
        unit.header[key] = value
    return unit


def lamost_old(third=7.0, compress=True, **header):
    """LRS, one image of five rows; the third row is no wavelength in old releases."""
    flux, ivar, mask = lamost_pixels()
    unit = lamost_header(fits.PrimaryHDU(np.stack([flux, ivar, np.full(PIXELS, third), mask, mask])
                                         .astype("f4")))  # fmt: skip
    unit.header.update(header)
    return packed([unit], compress)


def lamost_new():
    """LRS since DR8: a table of one row of arrays."""
    flux, ivar, mask = lamost_pixels()
    wave = 10 ** (3.5682 + 0.0001 * np.arange(PIXELS))
    columns = [
        fits.Column(n, f"{PIXELS}{f}", array=a[None])
        for n, f, a in (
            ("FLUX", "E", flux), ("IVAR", "E", ivar), ("WAVELENGTH", "D", wave),
            ("ANDMASK", "I", mask), ("ORMASK", "I", mask),
        )
    ]  # fmt: skip
    table = fits.BinTableHDU.from_columns(columns, name="COADD")
    return packed([lamost_header(fits.PrimaryHDU()), table], True)


def desi_arms(count=3, seed=0):
    """Wavelength, flux and inverse variance of the three arms, on DESI's own lattice."""
    rng = np.random.default_rng(seed)
    arms = {}
    for arm, first, pixels in (("B", 3600.0, 2751), ("R", 5760.0, 2326), ("Z", 7520.0, 2881)):
        wave = first + 0.8 * np.arange(pixels)
        flux = rng.normal(10, 1, (count, pixels)).astype("f4")
        arms[arm] = (wave, flux, rng.uniform(0.5, 2, (count, pixels)).astype("f4"))
    return arms


def desi(arms=None, *, status=(0, 0, 0), kind=("TGT", "TGT", "SKY"), masked=None):
    """A coadd, its HDUs in an order that is not the usual one."""
    arms = arms or desi_arms()
    count = len(arms["B"][1])
    ids = 39633300968442591 + np.arange(count)
    fibermap = fits.BinTableHDU.from_columns(
        [
            fits.Column("TARGETID", "K", array=ids),
            fits.Column("TARGET_RA", "D", array=np.linspace(10, 11, count)),
            fits.Column("TARGET_DEC", "D", array=np.linspace(-1, 1, count)),
            fits.Column("OBJTYPE", "3A", array=np.array(kind)),
            fits.Column("COADD_FIBERSTATUS", "J", array=np.array(status)),
            fits.Column("REF_ID", "K", array=ids + 7),
            fits.Column("REF_CAT", "2A", array=np.array(["G2"] * count)),
        ],
        name="FIBERMAP",
    )
    units = [fits.PrimaryHDU()]
    for arm in "ZBR":
        wave, flux, ivar = arms[arm]
        mask = np.zeros(flux.shape, np.uint32)
        if masked is not None and arm == masked[0]:
            mask[masked[1:]] = 1
        units += [
            fits.ImageHDU(mask, name=f"{arm}_MASK"),
            fits.ImageHDU(flux, name=f"{arm}_FLUX"),
            fits.ImageHDU(wave, name=f"{arm}_WAVELENGTH"),
            fits.ImageHDU(ivar, name=f"{arm}_IVAR"),
        ]
    return packed([*units, fibermap])


def kepler():
    """A Kepler light curve: BKJD, quality flags, one NaN time."""
    time = np.array([131.5, 131.52, np.nan, 131.56, 131.58])
    columns = [
        fits.Column("TIME", "D", array=time),
        fits.Column("SAP_FLUX", "E", array=np.full(5, 7.0)),
        fits.Column("PDCSAP_FLUX", "E", array=np.arange(100, 105)),
        fits.Column("PDCSAP_FLUX_ERR", "E", array=np.full(5, 0.5)),
        fits.Column("SAP_QUALITY", "J", array=np.array([0, 0, 0, 16, 0])),
    ]
    table = fits.BinTableHDU.from_columns(columns, name="LIGHTCURVE")
    table.header["BJDREFI"], table.header["BJDREFF"] = 2454833, 0.0
    primary = fits.PrimaryHDU()
    primary.header["OBJECT"], primary.header["RA_OBJ"] = "KIC 757076", 291.0
    primary.header["DEC_OBJ"] = 36.6
    return packed([primary, table])


def qlp(sector=11):
    """A light curve of TESS's Quick-Look Pipeline: names and flags change at sector 56."""
    detrended, low_precision = ("KSPSAP", 2**12) if sector < 56 else ("DET", 2**30)
    names = {"TIME": [1600.1, 1600.2, 1600.3, 1600.4], "SAP_FLUX": [1.0, 1.1, 1.2, 0.9],
             f"{detrended}_FLUX": [1.0, 1.01, 1.02, 0.99],
             f"{detrended}_FLUX_ERR": [0.01, 0.01, 0.01, 0.01],
             "SAP_BKG": [5.0, 5.0, 5.0, 5.0]}  # fmt: skip
    columns = [fits.Column(n, "D" if n == "TIME" else "E", array=np.array(v))
               for n, v in names.items()]  # fmt: skip
    flags = np.array([0, 0, low_precision, 128])
    cadences = np.arange(4)
    columns += [fits.Column("CADENCENO", "J", array=cadences),
                fits.Column("QUALITY", "J", array=flags)]  # fmt: skip
    table = fits.BinTableHDU.from_columns(columns, name="LIGHTCURVE")
    table.header["BJDREFI"], table.header["BJDREFF"] = 2457000, 0.0
    table.header["TIMESYS"] = "TDB"
    primary = fits.PrimaryHDU()
    about = {"ORIGIN": "MIT/QLP", "TELESCOP": "TESS", "SECTOR": sector, "TICID": "277554109",
             "OBJECT": "TIC 277554109", "RA_OBJ": 203.1, "DEC_OBJ": -42.5}  # fmt: skip
    primary.header.update(about)
    return packed([primary, table])


def apogee(bits=0):
    """An apVisit: three chips, red first, wavelengths falling."""
    wave = np.stack([np.linspace(a, b, 4096) for a, b in
                     ((16950, 16480), (16430, 15860), (15810, 15150))])  # fmt: skip
    flux = np.ones((3, 4096), "f4")
    mask = np.zeros((3, 4096), "i2")
    mask[0, :5] = bits
    primary = fits.PrimaryHDU()
    for key, value in {"TELESCOP": "apo25m", "OBJID": "2M01183798+8403419", "RA": 19.65,
                       "DEC": 84.06}.items():  # fmt: skip
        primary.header[key] = value
    return packed([primary, *(fits.ImageHDU(a) for a in (flux, flux * 0.1, mask, wave))])
