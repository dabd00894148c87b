"""The 34 catalogue columns of AstroM3: magnitudes made absolute, galactic angles as cos and sin.

Source: Rizhko & Bloom 2025 (arXiv:2411.08842), section 2, and its public code: the order of the
columns, M = m - 10 + 5 log10(parallax / mas) for eleven magnitudes, cos l, sin b.
"""

from dataclasses import dataclass
from functools import partial

import numpy as np

from mmclip.arrays import Array
from mmclip.modalities import Column, Columns, Modality, Prepared
from mmclip.modalities.settings import one_of

COLUMNS = (
    "mean_vmag", "phot_g_mean_mag", "e_phot_g_mean_mag", "phot_bp_mean_mag", "e_phot_bp_mean_mag",
    "phot_rp_mean_mag", "e_phot_rp_mean_mag", "bp_rp", "parallax", "parallax_error",
    "parallax_over_error", "pmra", "pmra_error", "pmdec", "pmdec_error", "j_mag", "e_j_mag",
    "h_mag", "e_h_mag", "k_mag", "e_k_mag", "w1_mag", "e_w1_mag", "w2_mag", "e_w2_mag",
    "w3_mag", "w4_mag", "j_k", "w1_w2", "w3_w4", "pm", "ruwe", "l", "b",
)  # fmt: skip
ABSOLUTE = (
    "mean_vmag", "phot_g_mean_mag", "phot_bp_mean_mag", "phot_rp_mean_mag", "j_mag", "h_mag",
    "k_mag", "w1_mag", "w2_mag", "w3_mag", "w4_mag",
)  # fmt: skip
# The names of the same columns in Gaia's, 2MASS's and AllWISE's own tables.
ALSO = {
    "j_mag": "j_m", "h_mag": "h_m", "k_mag": "ks_m", "e_j_mag": "j_msigcom", "e_h_mag": "h_msigcom",
    "e_k_mag": "ks_msigcom", "w1_mag": "w1mpro", "w2_mag": "w2mpro", "w3_mag": "w3mpro",
    "w4_mag": "w4mpro", "e_w1_mag": "w1mpro_error", "e_w2_mag": "w2mpro_error",
}  # fmt: skip
DIFFERENCE = {
    "bp_rp": ("phot_bp_mean_mag", "phot_rp_mean_mag"), "j_k": ("j_mag", "k_mag"),
    "w1_w2": ("w1_mag", "w2_mag"), "w3_w4": ("w3_mag", "w4_mag"),
}  # fmt: skip
PREPARED = "prepared"
FAINTEST = 40.0  # mag; beyond lie fill values: 99.99, -9999


@dataclass(frozen=True)
class AstroM3Settings:
    """What happens to a parallax that is not positive and to missing values."""

    parallax: str = "mask"  # absolute magnitudes for parallax <= 0: mask | 1mas | reject
    missing: str = "mask"  # any of the 34 unknown: mask it | reject the object (the paper)


def prepare(columns: Columns, settings: AstroM3Settings) -> Prepared:
    """Absolute magnitudes, cos l, sin b, and the rest as it stands ([rows, 34]).

    Args:
        columns: Any of the 34; what is not there is made from the others where it is a sum of
            them (bp_rp, j_k, w1_w2, w3_w4, pm, parallax_over_error) and masked otherwise.
            Magnitudes in mag, parallax in mas, l and b in deg. With `prepared` = 1 they are those
            that AstroM3 published made absolute and standardised, and are taken as they are.
    """
    known = columns.get(PREPARED)
    if known is not None and np.all(np.asarray(known, np.float64) == 1):
        return _as_published(columns, settings)
    raw = gather(columns)
    parallax = raw["parallax"].copy()
    positive = parallax > 0
    if settings.parallax == "1mas":
        parallax[np.isfinite(parallax) & ~positive] = 1.0
    with np.errstate(invalid="ignore", divide="ignore"):
        modulus = -10 + 5 * np.log10(np.where(parallax > 0, parallax, np.nan))
    ready = dict(raw)
    for name in ABSOLUTE:
        ready[name] = raw[name] + modulus
    ready["l"], ready["b"] = np.cos(np.radians(raw["l"])), np.sin(np.radians(raw["b"]))
    values = np.stack([ready[name] for name in COLUMNS], axis=1)
    reasons = np.full(len(values), "", object)
    if settings.missing == "reject":
        reasons[~np.isfinite(values).all(axis=1)] = "a column is missing"
    reasons[np.isnan(values).all(axis=1)] = "none of the columns is known"
    if settings.parallax == "reject":
        reasons[~positive & (reasons == "")] = "parallax is not positive"
    return Prepared(values.astype(np.float32), None, reasons)


def _as_published(columns: Columns, settings: AstroM3Settings) -> Prepared:
    values = np.stack([np.asarray(columns[name], np.float64) for name in COLUMNS], axis=1)
    reasons = np.full(len(values), "", object)
    if settings.missing == "reject":
        reasons[~np.isfinite(values).all(axis=1)] = "a column is missing"
    return Prepared(values.astype(np.float32), None, reasons)


def gather(columns: Columns) -> dict[str, Array]:
    """The 34 columns as observed ([rows] each); NaN where unknown or a fill value."""
    rows = len(next(iter(columns.values())))
    found = {}
    for name in COLUMNS:
        given = columns.get(name, columns.get(ALSO.get(name, "")))
        value = np.full(rows, np.nan) if given is None else np.asarray(given, np.float64)
        value = np.where(np.isfinite(value), value, np.nan)
        if name in ABSOLUTE:
            value = np.where(np.abs(value) < FAINTEST, value, np.nan)
        found[name] = value
    for name, (left, right) in DIFFERENCE.items():
        found[name] = _or(found[name], found[left] - found[right])
    found["pm"] = _or(found["pm"], np.hypot(found["pmra"], found["pmdec"]))
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = found["parallax"] / found["parallax_error"]
    ratio = np.where(np.isfinite(ratio), ratio, np.nan)
    found["parallax_over_error"] = _or(found["parallax_over_error"], ratio)
    return found


def _or(given: Array, made: Array) -> Array:
    return np.where(np.isnan(given), made, given)


def labels() -> list[str]:
    """Names of the prepared values."""
    names = {"l": "cos l", "b": "sin b"} | {n: f"absolute {n}" for n in ABSOLUTE}
    return [names.get(n, n) for n in COLUMNS]


def configure(settings: AstroM3Settings) -> Modality:
    """The modality under these settings.

    Raises:
        UsageError: If a setting is not one of the known ones.
    """
    one_of("metadata_astrom3.parallax", settings.parallax, ("mask", "1mas", "reject"))
    one_of("metadata_astrom3.missing", settings.missing, ("mask", "reject"))
    units = {"parallax": "mas", "l": "deg", "b": "deg", "pm": "mas / yr"}
    own = [Column(n, units.get(n, "catalogue"), "as in AstroM3", 1, True) for n in COLUMNS]
    also = [Column(o, "mag", f"the same as {n}", 1, True) for n, o in ALSO.items()]
    return Modality(
        name="metadata_astrom3",
        title="The 34 catalogue columns of AstroM3",
        columns=(*own, *also, Column(PREPARED, "", "1: standardised as published", 1, True)),
        labels=labels,
        unit="catalogue",
        prepare=partial(prepare, settings=settings),
        encoder="mlp",
        kind="table",
        normalisation="z",
        view="metadata",
        settings=settings,
        configure=configure,
    )


MODALITY = configure(AstroM3Settings())
