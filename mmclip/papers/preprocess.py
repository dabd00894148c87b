"""What published works did to their data, as settings of `mmclip preprocess`."""

from dataclasses import dataclass, field
from typing import Any

from mmclip.errors import NotFound, nearest


@dataclass(frozen=True)
class Preset:
    """Settings of the stage and of the modalities; what the user gives goes before them."""

    title: str
    stage: dict[str, Any] = field(default_factory=dict)
    views: dict[str, dict[str, Any]] = field(default_factory=dict)


PRESETS = {
    "schwarz2024": Preset(
        "Schwarz & Buck 2024 (arXiv:2410.16081), section 2; RVS per pixel is our reading",
        {"modalities": ("rvs", "xp_coefficients"), "normalisation": "z", "clip": 0.0},
        {
            "rvs": {"scale": "pixel"},
            "xp_coefficients": {"divide": "own", "first": "log10", "others": "raw"},
        },
    ),
    "astrom3": Preset(
        "Rizhko & Bloom 2025 (arXiv:2411.08842) and its code, with its inverse variance as error",
        {
            "modalities": ("photometry", "spectra", "metadata_astrom3"),
            "normalisation": "z",
            "clip": 0.0,
        },
        {
            "photometry": {"length": 200, "measures": "astrom3", "periods": "catalogue"},
            "spectra": {
                "resampling": "linear", "scale": "mad", "form": "channels", "mask": False,
                "error": "ivar", "good_fraction": 0.0,
            },
            "metadata_astrom3": {"parallax": "1mas", "missing": "reject"},
        },
    ),
    "vrakkis": Preset(
        "The Cambridge reproduction of AstroCLIP: images cropped to 96, values as in the file",
        {"modalities": ("image", "spectra"), "normalisation": "none", "clip": 0.0},
        {
            "image": {"crop": 96, "stretch": "none"},
            "spectra": {
                "start": 3600.0, "step": 0.8, "pixels": 7781, "resampling": "linear",
                "scale": "none",
            },
        },
    ),
    "astroclip": Preset(
        "Parker et al. 2024 (arXiv:2310.03024): arcsinh colours, crop 144, spectra to unit spread",
        {"modalities": ("image", "spectra"), "normalisation": "none", "clip": 0.0},
        {
            "image": {"crop": 144, "stretch": "arcsinh"},
            "spectra": {
                "start": 3600.0, "step": 0.8, "pixels": 7781, "resampling": "linear", "scale": "z",
                "smallest_std": 0.2,
            },
        },
    ),
    "zhao2026": Preset(
        "Zhao et al. 2026 (arXiv:2602.15021): flux over a pseudo-continuum, 1462 pixels, at rest",
        {"modalities": ("lrs",), "normalisation": "z"},
        {"lrs": {"rest_frame": True}},
    ),
}  # fmt: skip


def preset(name: str) -> Preset:
    """A preset by name.

    Raises:
        NotFound: If there is none of that name.
    """
    if name not in PRESETS:
        raise NotFound(
            f"there is no preset '{name}'; {nearest(name, list(PRESETS))}",
            f"--preset {' or '.join(PRESETS)}",
        )
    return PRESETS[name]
