"""A Spender-like autoencoder: any encoder, a few latents, a decoder of the rest-frame spectrum.

Shapes: B objects, L observed pixels, R rest-frame pixels, S latents.

Sources:
    Melchior et al. 2023, arXiv:2211.07890: decoder widths, activation, redshifted comparison;
    Liang et al. 2023, arXiv:2302.02496: similarity and consistency. Constants are those of the
    authors' public code. The line-spread function is not modelled here.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

WIDTHS = (64, 256, 1024)
TOLERANCE, WIDTH, SLOPE, DATA = 0.5, 5.0, 1.0, 30.0  # of consistency; of similarity


class Speculator(nn.Module):
    """[gamma + (1 - gamma) sigmoid(beta x)] x, gamma and beta trained for each unit.

    Source:
        Alsing et al. 2020, ApJS 249, 5, equation 8; both begin as N(0, 1) (arXiv:2211.07890).
    """

    def __init__(self, units: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.randn(units))
        self.beta = nn.Parameter(torch.randn(units))

    def forward(self, x: Tensor) -> Tensor:
        return (self.gamma + (1 - self.gamma) * torch.sigmoid(self.beta * x)) * x


@dataclass(frozen=True)
class Rest:
    """The rest-frame grid: equally spaced in log wavelength where objects have redshifts.

    Attributes:
        start, step: ln of the first wavelength, and the step; None where there is no redshift and
            the rest-frame grid is the observed one.
        pixels: R.
        observed: ln of the observed wavelengths [L].
    """

    start: float | None
    step: float | None
    pixels: int
    observed: tuple[float, ...]


def rest_grid(wavelength: NDArray[np.floating] | None, z_max: float, length: int) -> Rest:
    """A grid that covers every observed wavelength at redshifts from 0 to `z_max`."""
    if wavelength is None or z_max <= 0:
        return Rest(None, None, length, ())
    observed = np.log(np.asarray(wavelength, np.float64))
    start = observed[0] - np.log1p(z_max)
    step = float((observed[-1] - observed[0]) / (length - 1))
    pixels = int(np.ceil((observed[-1] - start) / step)) + 1
    return Rest(float(start), step, pixels, tuple(observed.tolist()))


class Autoencoder(nn.Module):
    """values, mask [B, *S] and redshift [B] -> latents -> the spectrum at rest -> as observed."""

    def __init__(self, encoder: nn.Module, width: int, latents: int, rest: Rest) -> None:
        super().__init__()
        self.encoder, self.rest = encoder, rest
        self.squeeze = nn.Linear(width, latents)
        layers: list[nn.Module] = []
        before = latents
        for after in (*WIDTHS, rest.pixels):
            layers += [nn.Linear(before, after), Speculator(after)]
            before = after
        self.decoder = nn.Sequential(*layers)
        self.register_buffer("observed", torch.tensor(rest.observed, dtype=torch.float64))

    def encode(self, values: Tensor, mask: Tensor) -> Tensor:
        """Latents [B, S]."""
        found: Tensor = self.squeeze(self.encoder(values, mask))
        return found

    def decode(self, latents: Tensor) -> Tensor:
        """Spectra at rest, [B, R]."""
        found: Tensor = self.decoder(latents)
        return found

    def observe(self, spectra: Tensor, redshift: Tensor) -> Tensor:
        """Spectra at rest [B, R] as seen at a redshift, on the observed pixels [B, L]; linear."""
        if self.rest.start is None or self.rest.step is None:
            return spectra
        at = self.observed[None] - torch.log1p(redshift.double())[:, None]  # type: ignore[index]
        return _interpolate(spectra, (at - self.rest.start) / self.rest.step)

    def losses(
        self, values: Tensor, mask: Tensor, weight: Tensor, redshift: Tensor, z_max: float
    ) -> dict[str, Tensor]:
        """Fidelity, similarity and consistency, each a mean over the objects.

        Args:
            values, mask: [B, *S].
            weight: Inverse variance, same shape; zero where masked.
            redshift: [B].
            z_max: Spectra are moved to a random redshift up to this for the consistency.
        """
        latents = self.encode(values, mask)
        spectra = self.decode(latents)
        seen = self.observe(spectra, redshift)
        flat, w = values.flatten(1), weight.flatten(1)
        pixels = (w > 0).sum(dim=1).clamp(min=1)
        fidelity = 0.5 * (w * (flat - seen).square()).sum(dim=1) / pixels
        moved, there = self.moved(values, mask, weight, redshift, z_max)
        return {
            "fidelity": fidelity.mean(),
            "similarity": similarity(latents, spectra),
            "consistency": consistency(latents, self.encode(moved, there)),
        }

    def moved(
        self, values: Tensor, mask: Tensor, weight: Tensor, redshift: Tensor, z_max: float
    ) -> tuple[Tensor, Tensor]:
        """The same objects at other redshifts, if there are any, redrawn within their errors."""
        error = torch.where(weight > 0, weight.clamp(min=1e-6).rsqrt(), 0.0).clamp(max=1.0)
        noisy = values + error * torch.randn_like(values)
        if self.rest.start is None or values.ndim != 2:
            return torch.where(mask, noisy, 0.0), mask
        other = z_max * torch.rand_like(redshift)
        grid = self.observed[None]  # type: ignore[index]
        shift = (torch.log1p(redshift.double()) - torch.log1p(other.double()))[:, None]
        place = _place(self.observed, grid + shift)  # type: ignore[arg-type]
        inside = (place >= 0) & (place <= values.shape[1] - 1)
        there = inside & (_interpolate(mask.to(noisy.dtype), place) > 0.999)
        return torch.where(there, _interpolate(noisy, place), 0.0), there


def similarity(latents: Tensor, spectra: Tensor) -> Tensor:
    """Near latents should mean like spectra, far ones unlike: mean over pairs of both sigmoids.

    Args:
        latents: [B, S].
        spectra: [B, R] at rest.

    Returns:
        About 2 sigmoid(-2.5) = 0.152 where both distances agree for every pair.
    """
    count = len(latents)
    near = _distances(latents)
    like = DATA * _distances(spectra)
    x = SLOPE * (near - like)
    both = torch.sigmoid(x - 0.5 * WIDTH) + torch.sigmoid(-x - 0.5 * WIDTH)
    both = both * (1 - torch.eye(count, device=both.device))
    return both.sum() / max(1, count * (count - 1))


def consistency(latents: Tensor, again: Tensor) -> Tensor:
    """sigmoid(|s - s'|^2 / (0.25 S)) - 1/2, mean over objects; 0 where nothing moved."""
    moved = (again - latents).square().mean(dim=1) / TOLERANCE**2
    return (torch.sigmoid(moved) - 0.5).mean()


def _distances(x: Tensor) -> Tensor:
    """Mean squared difference of each pair of rows, [B, B]."""
    square = x.square().sum(1)
    return (square[:, None] + square[None] - 2 * x @ x.T).clamp(min=0) / x.shape[1]


def _place(known: Tensor, at: Tensor) -> Tensor:
    """Fractional index of `at` [B, L] in increasing `known` [L]; beyond the ends it goes on."""
    right = torch.searchsorted(known, at.contiguous()).clamp(1, len(known) - 1)
    left = right - 1
    return left + (at - known[left]) / (known[right] - known[left])


def _interpolate(rows: Tensor, place: Tensor) -> Tensor:
    """Rows [B, N] at fractional indices [B, L], linear; the ends are held."""
    place = place.clamp(0, rows.shape[1] - 1)
    left = place.floor().long().clamp(max=max(0, rows.shape[1] - 2))
    share = (place - left).to(rows.dtype)
    right = (left + 1).clamp(max=rows.shape[1] - 1)
    return rows.gather(1, left) * (1 - share) + rows.gather(1, right) * share
