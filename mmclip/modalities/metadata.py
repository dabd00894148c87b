"""Broad-band photometry as a view of its own: J, H, K, G and the colours between them.

BP and RP are left out on purpose: they are the same photons as the XP spectrum.
"""

import numpy as np

from mmclip.modalities import Column, Columns, Modality, Prepared

MAGNITUDES = ("j_m", "h_m", "ks_m", "phot_g_mean_mag")
COLOURS = (("j_m", "h_m"), ("h_m", "ks_m"), ("j_m", "ks_m"), ("phot_g_mean_mag", "j_m"),
           ("phot_g_mean_mag", "h_m"), ("phot_g_mean_mag", "ks_m"))  # fmt: skip
FAINTEST, BRIGHTEST = 40.0, -5.0  # outside lie the fill values of catalogues: 99.99, -9999


def labels() -> list[str]:
    """Names of the prepared values."""
    return [*MAGNITUDES, *(f"{a} - {b}" for a, b in COLOURS)]


def prepare(columns: Columns) -> Prepared:
    """Magnitudes and colours; a magnitude that is missing leaves its colours missing.

    Args:
        columns: `j_m`, `h_m`, `ks_m`, `phot_g_mean_mag` [stars], mag.

    Returns:
        [stars, 10], mag. Rejected: stars with fewer than two magnitudes.
    """
    band = {}
    for name in MAGNITUDES:
        value = np.asarray(columns[name], np.float64)
        valid = np.isfinite(value) & (value < FAINTEST) & (value > BRIGHTEST)
        band[name] = np.where(valid, value, np.nan)
    magnitudes = [band[name] for name in MAGNITUDES]
    values = np.stack([*magnitudes, *(band[a] - band[b] for a, b in COLOURS)], axis=1)
    observed = np.isfinite(values[:, : len(MAGNITUDES)]).sum(axis=1)
    reasons = np.full(len(values), "", object)
    reasons[observed < 2] = "fewer than two magnitudes"
    return Prepared(values.astype(np.float32), None, reasons)


MODALITY = Modality(
    name="metadata",
    title="2MASS and Gaia G photometry",
    columns=tuple(Column(name, "mag", "apparent magnitude") for name in MAGNITUDES),
    labels=labels,
    unit="mag",
    prepare=prepare,
    encoder="mlp",
)
