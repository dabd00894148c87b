"""Benchmark protocols of the Multimodal Universe, as data; `mmclip evaluate --benchmark` runs them.

Source of protocols and figures: The Multimodal Universe Collaboration 2024, arXiv:2412.02527, and
its published benchmark code. Rows of its table of galaxy properties were restored from a damaged
copy: a figure may stand one row off. Left out: what is no R2 or accuracy (BTSbot, AUC 0.985; type
Ia supernovae, AUC 0.90; redshifts of light curves, RMSE 0.247), and the ages and star formation
rates from spectra of AstroCLIP, which the copy has twice.
"""

import math

from mmclip.papers.published import (
    CURVE,
    IMAGE,
    MASS,
    REDSHIFT,
    SPECTRUM,
    Accuracy,
    Conditions,
    Derived,
    Paper,
    Regression,
)

METALLICITY, AGE, SSFR = ("ln_z_mw",), ("tage_mw",), ("mmu_ssfr",)
MAGNITUDES = ("mag_g", "mag_r", "mag_z")
DERIVED = (
    Derived("ln_z_mw", ((1.0, ("z_mw",), True),)),
    # Its code divides the star formation rate by the metallicity; by the stellar mass is meant.
    Derived("mmu_ssfr", ((1.0, ("avg_sfr",), True), (-1.0, ("z_mw",), True))),
    Derived("ssfr", ((1.0, ("avg_sfr",), True), (-math.log(10), ("log_mstar", *MASS), False))),
)
GALAXIES = (("provabgs", "desi_provabgs"),)
TABLE = "table of galaxy properties"
# Redshift, log stellar mass, ln metallicity; supervised networks on one view.
SUPERVISED = {
    "ResNet18": (IMAGE, (0.771, 0.725, 0.381)),
    "DenseNet121": (IMAGE, (0.774, 0.734, 0.414)),
    "EfficientNetB0": (IMAGE, (0.697, 0.645, 0.395)),
    "Conv+Att": (SPECTRUM, (0.982, 0.871, 0.659)),
}
TARGETS = (("redshift", REDSHIFT), ("log stellar mass", MASS), ("ln Z_MW", METALLICITY))


def _supervised() -> tuple[Regression, ...]:
    found = [
        Regression(quantity, targets, view, view, value, TABLE, method=f"{network}, supervised")
        for network, (view, values) in SUPERVISED.items()
        for (quantity, targets), value in zip(TARGETS, values, strict=True)
    ]
    found += [
        Regression(quantity, targets, MAGNITUDES, MAGNITUDES, value, TABLE, network="mlp")
        for (quantity, targets), value in zip(TARGETS, (0.696, 0.681, 0.383), strict=True)
    ]
    return tuple(found)


def _zero_shot() -> tuple[Regression, ...]:
    image = (*TARGETS, ("age", AGE), ("ln SFR - ln Z_MW", SSFR))
    found = [
        Regression(quantity, targets, IMAGE, IMAGE, value, "row AstroCLIP")
        for (quantity, targets), value in zip(
            image, (0.801, 0.737, 0.432, 0.240, 0.405), strict=True
        )
    ]
    found += [
        Regression(quantity, targets, SPECTRUM, SPECTRUM, value, "row AstroCLIP")
        for (quantity, targets), value in zip(TARGETS, (0.986, 0.879, 0.584), strict=True)
    ]
    return tuple(found)


# Top-1 accuracy and its deviation, per cent.
GALAXY10 = (
    ("EfficientNetB0", "scratch", 80.9, 0.1), ("ConvNeXt-nano", "scratch", 75.6, 1.8),
    ("ResNet18", "scratch", 73.9, 0.9), ("DenseNet121", "scratch", 73.5, 2.4),
    ("pre-trained on Galaxy Zoo", "clip", 89.3, 0.1),
    ("pre-trained on ImageNet-12k", "clip", 83.9, 0.3),
)  # fmt: skip
PLASTICC = (("Avocado", 77.4), ("Connect Later", 79.9))

BENCHMARKS = {
    b.preset: b
    for b in (
        Paper(
            "mmu-provabgs", "Multimodal Universe: galaxy properties, supervised",
            "theirs: a network a view, 50 epochs (photometry: five layers of 512, Adam 5e-4, 30 "
            "epochs, batch 256). Ours: that network on the magnitudes; of images and spectra k-NN "
            "on frozen vectors, k = 64, 1/distance, dimensions standardised",
            Conditions({}, (IMAGE, SPECTRUM), surveys=GALAXIES,
                       split="80/20 at random, seed 42"),
            k=64, weights="distance", metric="euclidean", scale="standard",
            regressions=_supervised(), derived=DERIVED,
        ),
        Paper(
            "mmu-astroclip", "Multimodal Universe: galaxy properties, AstroCLIP zero-shot",
            "k-NN on frozen vectors, k = 64, 1/distance, dimensions standardised",
            Conditions({}, (IMAGE, SPECTRUM), surveys=GALAXIES,
                       split="90/10 at random, seed 42"),
            k=64, weights="distance", metric="euclidean", scale="standard",
            regressions=_zero_shot(), derived=DERIVED,
        ),
        Paper(
            "mmu-galaxy10", "Multimodal Universe: Galaxy10 morphology",
            "networks trained end to end; top-1 accuracy",
            Conditions({"objects": 17_736}, (IMAGE,), 10, split="80/20 at random, seed 42"),
            accuracies=tuple(
                Accuracy((IMAGE,), 1.0, start, value, spread, f"table of Galaxy10, {who}")
                for who, start, value, spread in GALAXY10
            ),
        ),
        Paper(
            "mmu-plasticc", "Multimodal Universe: PLAsTiCC, 14 classes",
            "networks trained end to end; top-1 accuracy",
            Conditions({}, (CURVE,), 14, surveys=(("plasticc",),),
                       split="PLAsTiCC's own training and test sets"),
            accuracies=tuple(
                Accuracy((CURVE,), 1.0, "scratch", value, None, f"time series, {who}")
                for who, value in PLASTICC
            ),
        ),
    )
}  # fmt: skip
