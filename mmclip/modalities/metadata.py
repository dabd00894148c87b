"""Broad-band photometry as a view of its own: J, H, K, G and the colours between them.

BP and RP are left out on purpose: they are the same photons as the XP spectrum. With
`--set metadata.columns=a,b` the columns are the user's own, each as it stands.
"""

from dataclasses import dataclass
from functools import partial

import numpy as np

from mmclip.modalities import Column, Columns, Modality, Prepared

MAGNITUDES = ("j_m", "h_m", "ks_m", "phot_g_mean_mag")
COLOURS = (("j_m", "h_m"), ("h_m", "ks_m"), ("j_m", "ks_m"), ("phot_g_mean_mag", "j_m"),
           ("phot_g_mean_mag", "h_m"), ("phot_g_mean_mag", "ks_m"))  # fmt: skip
FAINTEST, BRIGHTEST = 40.0, -5.0  # outside lie the fill values of catalogues: 99.99, -9999


@dataclass(frozen=True)
class MetadataSettings:
    """Which columns make the view."""

    columns: tuple[str, ...] = ()  # your own numeric columns; empty: J, H, K, G and their colours


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


def prepare_own(columns: Columns, names: tuple[str, ...]) -> Prepared:
    """The user's columns side by side ([rows, columns]); a missing value is masked.

    Rejected: objects for which none of them is known.
    """
    values = np.stack([np.asarray(columns[n], np.float64) for n in names], axis=1)
    values = np.where(np.isfinite(values), values, np.nan)
    reasons = np.full(len(values), "", object)
    reasons[np.isnan(values).all(axis=1)] = "none of the columns is known"
    return Prepared(values.astype(np.float32), None, reasons)


def configure(settings: MetadataSettings) -> Modality:
    """The modality of these columns."""
    own = settings.columns
    if own:
        named = tuple(Column(name, "", "a column of the user's") for name in own)
        title, unit = "Columns of a catalogue", "as given"
    else:
        named = tuple(Column(name, "mag", "apparent magnitude") for name in MAGNITUDES)
        title, unit = "2MASS and Gaia G photometry", "mag"
    return Modality(
        name="metadata",
        title=title,
        columns=named,
        labels=partial(list, own) if own else labels,
        unit=unit,
        prepare=partial(prepare_own, names=own) if own else prepare,
        encoder="mlp",
        kind="table",
        settings=settings,
        configure=configure,
    )


MODALITY = configure(MetadataSettings())
