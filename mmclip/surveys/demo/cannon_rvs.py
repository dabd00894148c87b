"""MODELLED Gaia-RVS-like spectra: what a star of given labels would look like, never observed data.

The spectra come from a Cannon model that is cubic in (Teff, log g, [Fe/H]) and was trained on
synthetic spectra. Its file is shipped inside the package thedoppler 1.1.32 (extra `demo-rvs`); it
is read as data, the package is never imported. No network is used.

Shape legend: n stars, p model pixels (0.1 A in air), 20 terms, 2401 RVS samples (0.01 nm, vacuum).

Source: Nidever, thedoppler (https://github.com/dnidever/doppler, MIT licence); Ness et al. 2015,
ApJ 808, 16 (The Cannon).
"""

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mmclip.errors import IntegrityError, UsageError
from mmclip.modalities import rvs
from mmclip.modalities.air import air, vacuum
from mmclip.surveys.demo import packaged

PACKAGE = "thedoppler"
FILE = "doppler/data/cannongrid_3000_18000_coolstars_norm_cubic_model.pkl"
SHA256 = "2564830d8f7a119b2af495b37068868ecac51ba2adcc0e420dbb4a2f15d75098"
RESOLUTION = 11_500.0  # lambda / FWHM of the RVS: Cropper et al. 2018, A&A 616, A5
SNR = 50.0  # per sample; a choice, within the range of the RVS spectra published in DR3
MARGIN = 10.0  # A kept on both sides of the RVS range: 31 sigma of its line-spread function
CHUNK = 4096  # stars evaluated at once: 79 MB in float64

Terms = tuple[tuple[tuple[int, int], ...], ...]


@dataclass(frozen=True)
class CannonModel:
    """A Cannon model of continuum-normalised flux, cut to the pixels that the RVS needs.

    Labels are, in this order, Teff (K), log g (dex, cm s^-2) and [Fe/H] (dex).

    Attributes:
        theta: Coefficients [p, 20]; column 0 is the flux at the fiducial labels.
        terms: For each further column the factors (label index, power) of its monomial.
        fiducials: Labels [3] at which every monomial is zero: medians of the training labels.
        scales: Unit [3] of each label: the central 95 % range of the training labels.
        wavelength_air: Of each pixel [p], in A in air, increasing.
        training_labels: Labels [689, 3] of the synthetic spectra that the model was trained on.
    """

    theta: NDArray[np.float64]
    terms: Terms
    fiducials: NDArray[np.float64]
    scales: NDArray[np.float64]
    wavelength_air: NDArray[np.float64]
    training_labels: NDArray[np.float64]


def _dtype(kind: str, align: bool = False, copy: bool = True) -> np.dtype[Any]:
    # The file has 0 and 1 for the flags, which NumPy 2.4 warns about.
    return np.dtype(kind, align=bool(align), copy=bool(copy))


class _ArraysOnly(pickle.Unpickler):
    """Admits what rebuilds NumPy arrays and scalars, and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        if module in ("numpy.core.multiarray", "numpy._core.multiarray"):
            # Taken from objects: the module has moved between NumPy versions.
            if name == "_reconstruct":
                return np.empty(0).__reduce__()[0]
            if name == "scalar":
                return np.float64(0).__reduce__()[0]
        if (module, name) == ("numpy", "ndarray"):
            return np.ndarray
        if (module, name) == ("numpy", "dtype"):
            return _dtype
        raise pickle.UnpicklingError(f"the file asks for {module}.{name}")


def locate() -> Path:
    """Path of the model file, its SHA-256 checked.

    Raises:
        MissingExtra: If the package or its file is absent.
        IntegrityError: If the file is not the published one.
    """
    return packaged.locate(
        PACKAGE, FILE, SHA256,
        ("the model for modelled RVS spectra is", "model"),
        ("pip install 'mmclip[demo-rvs]'",
         "pip install --force-reinstall --no-deps thedoppler==1.1.32"),
    )  # fmt: skip


def load(path: Path | None = None) -> CannonModel:
    """Read the model; nothing in the file is executed.

    Args:
        path: The file, taken as it is; without it, the installed one after its checksum.

    Raises:
        MissingExtra, IntegrityError: As `locate`.
        IntegrityError: If the file holds anything but arrays, or not the parts of such a model.
    """
    path = locate() if path is None else path
    try:
        with path.open("rb") as file:
            state = _ArraysOnly(file).load()
        return _cut(state)
    except (
        pickle.UnpicklingError, EOFError, LookupError, ValueError, TypeError, AttributeError
    ) as fault:  # fmt: skip
        raise IntegrityError(
            f"{path} is not a Cannon model that can be read safely: {fault}",
            "pip install --force-reinstall --no-deps thedoppler==1.1.32",
        ) from fault


def _cut(state: dict[str, Any]) -> CannonModel:
    labels = np.asarray(state["training_set_labels"], np.float64)
    low, middle, high = np.percentile(labels, [2.5, 50.0, 97.5], axis=0)
    wavelength = np.asarray(state["dispersion"], np.float64)
    ends = air(10 * rvs_wavelength()[[0, -1]])
    kept = (wavelength >= ends[0] - MARGIN) & (wavelength <= ends[1] + MARGIN)
    return CannonModel(
        theta=np.asarray(state["theta"], np.float64)[kept],
        terms=tuple(
            tuple((int(label), int(power)) for label, power in term)
            for term in state["vectorizer"][1]["terms"]
        ),
        fiducials=middle,
        scales=high - low,
        wavelength_air=wavelength[kept],
        training_labels=labels,
    )


def rvs_wavelength() -> NDArray[np.float64]:
    """Wavelength of each RVS sample, nm in vacuum ([2401], 846 to 870)."""
    return np.asarray(rvs.wavelength(), np.float64)


def _design(model: CannonModel, labels: NDArray[np.float64]) -> NDArray[np.float64]:
    """One column a term, the first one constant: [n, 20] from labels [n, 3]."""
    scaled = (labels - model.fiducials) / model.scales
    columns = [np.ones(len(scaled))]
    for term in model.terms:
        columns.append(np.prod([scaled[:, label] ** power for label, power in term], axis=0))
    return np.stack(columns, axis=1)


def _labels(teff: ArrayLike, logg: ArrayLike, feh: ArrayLike) -> NDArray[np.float64]:
    columns = [np.atleast_1d(np.asarray(c, np.float64)) for c in (teff, logg, feh)]
    return np.stack(np.broadcast_arrays(*columns), axis=1)


def evaluate(
    model: CannonModel, teff: ArrayLike, logg: ArrayLike, feh: ArrayLike
) -> NDArray[np.float64]:
    """MODELLED flux of n stars at the model's own pixels and resolution, without noise.

    No limit is set on the labels: outside the training range the cubic is an extrapolation.

    Args:
        teff, logg, feh: Labels [n] in K, dex and dex.

    Returns:
        Flux over continuum [n, p] at `model.wavelength_air`.
    """
    return _design(model, _labels(teff, logg, feh)) @ model.theta.T


def in_range(model: CannonModel, labels: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether labels [n, 3] lie within the grid of training labels; NaN does not.

    The grid is not a box: its hot stars have no low gravity. A star must lie above the lowest
    log g of the grid, interpolated linearly between the grid's temperatures.
    """
    grid = model.training_labels
    teff = np.unique(grid[:, 0])
    lowest = np.array([grid[grid[:, 0] == t, 1].min() for t in teff])
    inside = ((labels >= grid.min(axis=0)) & (labels <= grid.max(axis=0))).all(axis=1)
    return np.asarray(inside & (labels[:, 1] >= np.interp(labels[:, 0], teff, lowest)))


def _line_spread(wavelength_air: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weights [2401, p] that degrade to `RESOLUTION` and resample in one step; rows sum to 1.

    The model is taken as infinitely sharp: its file states a FWHM of 0.001 A, 0.1 % of the RVS's
    0.74 A, so nothing is subtracted from the Gaussian.
    """
    pixel = vacuum(wavelength_air)
    sample = 10 * rvs_wavelength()
    sigma = sample / RESOLUTION / np.sqrt(8 * np.log(2))
    weight = np.exp(-0.5 * ((pixel - sample[:, None]) / sigma[:, None]) ** 2) * np.gradient(pixel)
    return np.asarray(weight / weight.sum(axis=1, keepdims=True))


def _draws(
    seed: int, source_id: NDArray[np.int64], samples: int
) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Standard normals for the labels [n, 3] and the noise [n, samples].

    The key of each star's Philox stream is (seed, source_id), so a row does not depend on others.
    """
    for_labels = np.empty((len(source_id), 3))
    noise = np.empty((len(source_id), samples), np.float32)
    for row, star in enumerate(source_id.astype(np.int64).view(np.uint64)):
        key = np.array([seed % 2**64, star], np.uint64)
        generator = np.random.Generator(np.random.Philox(key=key))
        generator.standard_normal(out=for_labels[row])
        generator.standard_normal(dtype=np.float32, out=noise[row])
    return for_labels, noise


def _perturb(
    model: CannonModel,
    labels: NDArray[np.float64],
    errors: NDArray[np.float64],
    normal: NDArray[np.float64],
) -> NDArray[np.float64]:
    errors = np.where(np.isfinite(errors) & (errors > 0), errors, 0.0)
    grid = model.training_labels
    drawn = np.clip(labels + errors * normal, grid.min(axis=0), grid.max(axis=0))
    # Some draws land where the grid has no low gravity; such a star keeps its measured labels.
    return np.where(in_range(model, drawn)[:, None], drawn, labels)


def rvs_spectra(
    model: CannonModel,
    teff: ArrayLike,
    logg: ArrayLike,
    feh: ArrayLike,
    teff_err: ArrayLike,
    logg_err: ArrayLike,
    feh_err: ArrayLike,
    source_id: ArrayLike,
    seed: int = 0,
    snr: ArrayLike = SNR,
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_]]:
    """MODELLED RVS-like spectra of n stars, from labels drawn within their errors.

    Nothing here was observed by Gaia: no rotation, abundance other than [Fe/H], activity or
    velocity residual enters, and the noise is white. The draw and the noise of a star depend on
    (seed, source_id) only, not on its row; a repeated source_id repeats them. A drawn label
    beyond the training range is clipped to it.

    Args:
        teff, logg, feh: Measured labels [n] in K, dex and dex.
        teff_err, logg_err, feh_err: Their 1-sigma errors; not finite or negative counts as 0.
        source_id: Identifier [n] of each star.
        seed: Chooses the draws.
        snr: Continuum signal-to-noise per sample, one value or [n].

    Returns:
        `flux` and its 1-sigma `error`, over continuum [n, 2401] at `rvs_wavelength`, both NaN for
        the stars whose measured labels are missing or outside the training range; and `inside`
        [n], which is False for those.

    Raises:
        UsageError: If a signal-to-noise ratio is not positive and finite.
    """
    ids = np.atleast_1d(np.asarray(source_id, np.int64))
    labels = np.broadcast_to(_labels(teff, logg, feh), (len(ids), 3))
    errors = np.broadcast_to(_labels(teff_err, logg_err, feh_err), (len(ids), 3))
    ratio = np.broadcast_to(np.asarray(snr, np.float64), ids.shape)
    if not (np.isfinite(ratio) & (ratio > 0)).all():
        raise UsageError(f"snr {snr!r} is not positive", "give a signal-to-noise ratio such as 50")
    # Every step is linear in theta: degrade it once instead of every star.
    theta = _line_spread(model.wavelength_air) @ model.theta
    inside = in_range(model, labels)
    flux = np.full((len(ids), len(theta)), np.nan, np.float32)
    error = np.full_like(flux, np.nan)
    good = np.flatnonzero(inside)
    for start in range(0, len(good), CHUNK):
        rows = good[start : start + CHUNK]
        normal, noise = _draws(seed, ids[rows], len(theta))
        drawn = _perturb(model, labels[rows], errors[rows], normal)
        sigma = (1 / ratio[rows, None]).astype(np.float32)
        # einsum, not BLAS: the rounding of a row must not depend on how many rows there are.
        clean = np.einsum("nt,tp->np", _design(model, drawn), np.ascontiguousarray(theta.T))
        flux[rows] = clean.astype(np.float32) + sigma * noise
        error[rows] = sigma
    return flux, error, inside
