"""Nested lists of raw views in the schemas of the Multimodal Universe.

Source: the builders and schemas in MultimodalUniverse/MultimodalUniverse, `scripts/{gaia,desi,
apogee,foundation}`.
"""

import numpy as np
import pyarrow as pa

from mmclip import arrays
from mmclip.arrays import rows
from mmclip.errors import UsageError

SPECTRUM = {
    "flux": pa.float32(), "ivar": pa.float32(), "lsf_sigma": pa.float32(), "lambda": pa.float32(),
    "mask": pa.bool_(),
}  # fmt: skip
LIGHT_CURVE = {
    "band": pa.string(), "time": pa.float64(), "flux": pa.float32(), "flux_err": pa.float32(),
}  # fmt: skip


def coefficients(view: pa.Table) -> dict[str, pa.Array]:
    """XP coefficients as in `gaia`: BP then RP in one list, and their errors likewise.

    Args:
        view: Raw `xp_coefficients` of stars that have both bands.
    """
    made = {}
    for title, suffix in (("coeff", "s"), ("coeff_error", "_errors")):
        names = [f"{band}p_coefficient{suffix}" for band in "br"]
        if not set(names) <= set(view.column_names):
            continue
        both = [rows(view, n) for n in names]
        joined = [
            np.concatenate([b, r])
            for b, r in zip(*both, strict=True)
            if b is not None and r is not None
        ]
        made[title] = arrays.list_array(joined, pa.float32())
    return made


def spectra(view: pa.Table) -> dict[str, pa.Array]:
    """Spectra as in `desi` and `apogee`: `mask` is True for a bad pixel.

    Args:
        view: Raw `spectra` with a wavelength and a flux in every row; `sigma` may be absent.
    """
    waves, fluxes = rows(view, "wavelength"), rows(view, "flux")
    known = "sigma" in view.column_names
    sigmas = rows(view, "sigma") if known else [None] * view.num_rows
    made: dict[str, list[arrays.Row]] = {n: [] for n in SPECTRUM}
    for w, f, s in zip(waves, fluxes, sigmas, strict=True):
        if w is None or f is None:
            raise UsageError("a spectrum is missing", "leave that object out")
        error = np.full(len(f), np.nan) if s is None else s
        bad = ~np.isfinite(f) | (~np.isfinite(error) if s is not None else False)
        with np.errstate(invalid="ignore", divide="ignore"):
            ivar = np.where(bad | ~np.isfinite(error), 0.0, 1 / error**2)
        made["flux"].append(np.where(bad, 0.0, f))
        made["ivar"].append(ivar)
        made["lsf_sigma"].append(np.full(len(f), np.nan))
        made["lambda"].append(w)
        made["mask"].append(bad)
    return {n: arrays.list_array(made[n], kind) for n, kind in SPECTRUM.items()}


def images(view: pa.Table) -> dict[str, pa.Array]:
    """Images as in `legacysurvey`: of each band its name and its pixels, row by row.

    Args:
        view: Raw `image` with pixels and a shape in every row.
    """
    bands, pixels = [], []
    for flat, shape in zip(rows(view, "image"), rows(view, "shape"), strict=True):
        if flat is None or shape is None:
            raise UsageError("an image is missing", "leave that object out")
        cube = np.asarray(flat, np.float32).reshape([int(n) for n in shape])
        names = "grz" if len(cube) == 3 else [str(i) for i in range(len(cube))]
        bands.append([f"des-{n}" for n in names] if len(cube) == 3 else list(names))
        pixels.append(cube.tolist())
    deep = pa.list_(pa.list_(pa.list_(pa.float32())))
    return {"band": pa.array(bands, pa.list_(pa.string())), "flux": pa.array(pixels, deep)}


def light_curves(view: pa.Table) -> dict[str, pa.Array]:
    """Light curves as in the time-series sets: points by band, then time.

    Args:
        view: Raw `photometry` with time, flux and error in every row.

    Raises:
        UsageError: If the view is in magnitudes; the schema has fluxes alone.
    """
    if "flux" not in view.column_names:
        raise UsageError(
            "the Multimodal Universe has light curves in flux; these are magnitudes",
            'import them with --columns "flux=NAME"',
        )
    made: dict[str, list[arrays.Row]] = {n: [] for n in LIGHT_CURVE}
    bands = rows(view, "band") if "band" in view.column_names else [None] * view.num_rows
    parts = [rows(view, n) for n in ("time", "flux", "error")]
    for t, f, e, b in zip(*parts, bands, strict=True):
        if t is None or f is None or e is None:
            raise UsageError("a light curve is missing", "leave that object out")
        names = np.full(len(t), "") if b is None else b.astype(str)
        order = np.lexsort((t, names))
        for key, values in zip(LIGHT_CURVE, (names, t, f, e), strict=True):
            made[key].append(values[order])
    return {n: arrays.list_array(made[n], kind) for n, kind in LIGHT_CURVE.items()}
