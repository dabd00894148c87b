"""Measures of light curves: distribution, period, Fourier series, shape of the folded curve.

Each function takes a block of curves (`folding.Block`) and returns [k] numbers by name. Magnitudes,
so that a positive skewness is a curve with faint excursions (eclipses).
"""

import numpy as np

from mmclip.modalities.folding import (
    GRID,
    Bins,
    Block,
    Fit,
    Flags,
    Floats,
    Rows,
    binned,
    fourier,
    quantile,
)

Measures = dict[str, Floats]
QUANTILES = (0, 0.02, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.98, 1)
RATIOS = (0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.98)
LEVELS = (0.1, 0.25, 0.5, 0.75, 0.9)  # of the depth, where widths are taken
SEASON = 180.0  # d
SEASONS = 24
DOUBLE_MODE = (0.738, 0.750)  # frequency of the fundamental over that of the first overtone
DOUBLE_PERIODS = (0.25, 0.65)  # d, between which it is looked for
# Name of a fit: multiple of the period, harmonics.
FITS = {"P/2": (0.5, 4), "P": (1.0, 4), "2P": (2.0, 8), "3P": (3.0, 6), "sine P": (1.0, 1),
        "sine 2P": (2.0, 2)}  # fmt: skip


def of_block(block: Block) -> Measures:
    """All measures of a block; those of a period too."""
    fits = {name: fourier(block, *how) for name, how in FITS.items()}
    amplitude = quantile(block, np.array([0.05, 0.95]))
    width = amplitude[:, 1] - amplitude[:, 0] + 1e-3
    return (
        distribution(block, width) | periodicity(block, fits) | series(fits)
        | shape(block, fits, width) | residuals(block, fits["2P"], width)
        | second_mode(block, fits["2P"])
    )  # fmt: skip


def distribution(block: Block, width: Floats) -> Measures:
    """Measures that do not know the order of the points, and those in order of time.

    Source:
        Percentile ratios, skewness: Debosscher et al. 2007 (A&A 475, 1159), Richards et al. 2011
        (ApJ 733, 10). K: Stetson 1996 (PASP 108, 851). Von Neumann 1941 (Ann. Math. Stat. 12, 367).
    """
    valid, value = block.valid, block.value
    count = valid.sum(axis=1)
    q = dict(zip(QUANTILES, quantile(block, np.array(QUANTILES)).T, strict=True))
    deviation = np.sqrt((valid * value**2).sum(1) / count) + 1e-9
    z = value / deviation[:, None]
    error = np.sqrt((valid * block.error**2).sum(1) / count)
    relative = np.divide(value, block.error, out=np.zeros_like(value), where=valid)
    squares = (relative**2).sum(1)
    made: Measures = {
        "points": count.astype(np.float64), "mean magnitude": block.mean, "amplitude": width,
        "range 2-98 %": q[0.98] - q[0.02], "interquartile range": q[0.75] - q[0.25],
        "full range": q[1] - q[0], "mean - median": -q[0.5] / width, "deviation": deviation,
        "skewness": (valid * z**3).sum(1) / count,
        "kurtosis": (valid * np.minimum(z**4, 1e3)).sum(1) / count,
        "mean error": error, "signal to noise": deviation / error,
        "span": (block.time.max(1) - block.time[:, 0]),
        "log10 chi2": np.log10(squares / count + 1e-9),
        "Stetson K": np.abs(relative).sum(1) / count / np.sqrt(squares / count + 1e-12),
        "Stetson J": _stetson_j(block, relative),
        "von Neumann, time": _von_neumann(block, block.time) / deviation**2,
        "slope": _slope(block),
    }  # fmt: skip
    return made | {f"percentile {100 * f:g}": (q[f] - q[0.05]) / width for f in RATIOS}


def _stetson_j(block: Block, relative: Floats) -> Floats:
    """Mean signed root of the product of neighbours in time."""
    both = block.valid[:, 1:] & block.valid[:, :-1]
    product = np.where(both, relative[:, 1:] * relative[:, :-1], 0.0)
    pairs = np.maximum(both.sum(1), 1)
    return np.asarray((np.sign(product) * np.sqrt(np.abs(product))).sum(1) / pairs)


def _slope(block: Block) -> Floats:
    """Weighted slope in time, mag / d."""
    time = block.time - (block.weight * block.time).sum(1, keepdims=True)
    spread = (block.weight * time**2).sum(1)
    return np.asarray((block.weight * time * block.value).sum(1) / np.maximum(spread, 1e-12))


def _von_neumann(block: Block, by: Floats, value: Floats | None = None) -> Floats:
    """Mean square of successive differences in an order, mag^2."""
    order = np.argsort(np.where(block.valid, by, np.inf), axis=1)
    sorted_ = np.take_along_axis(block.value if value is None else value, order, axis=1)
    there = np.take_along_axis(block.valid, order, axis=1)
    steps = np.diff(sorted_, axis=1) ** 2 * (there[:, 1:] & there[:, :-1])
    return np.asarray(steps.sum(1) / np.maximum(there.sum(1) - 1, 1))


def periodicity(block: Block, fits: dict[str, Fit]) -> Measures:
    """The period, what series at its multiples leave, and how smooth the folded curves are."""
    variance = (block.weight * block.value**2).sum(1) + 1e-12
    square = (block.valid * block.value**2).sum(1) / block.valid.sum(1) + 1e-12
    left = {name: fit.misfit + 1e-12 for name, fit in fits.items()}
    noise = (block.weight * block.error**2).sum(1) + 1e-12
    half_days = np.abs(block.period - np.round(2 * block.period) / 2) / block.period
    made: Measures = {
        "log10 period": np.log10(block.period), "distance to half days": half_days,
        "gain 2P": np.log(left["2P"] / left["P"]), "gain P": np.log(left["P"] / left["P/2"]),
        "gain sine 2P": np.log(left["sine 2P"] / left["sine P"]),
        "gain 3P": np.log(left["3P"] / left["2P"]), "log10 chi2 left": np.log10(left["2P"] / noise),
    }  # fmt: skip
    made |= {f"left by {name}": left[name] / variance for name in fits}
    for name in ("P/2", "P", "2P"):
        made[f"von Neumann, {name}"] = _von_neumann(block, fits[name].phase) / square
    return made


def series(fits: dict[str, Fit]) -> Measures:
    """Amplitudes and phases of the Fourier series at P and 2P, relative to the wave at P.

    Source:
        R_k1 and phi_k1 of Simon & Lee 1981 (ApJ 248, 291), phases as cosine and sine.
    """
    made: Measures = {}
    for name, base in (("P", 0), ("2P", 1)):
        waves = fits[name].waves
        size = np.abs(waves) + 1e-6
        main = waves[:, base]
        for j in range(waves.shape[1]):
            label = f"{name} {j + 1}"
            made[f"amplitude {label}"] = size[:, j] if j == base else size[:, j] / size[:, base]
            if j == base:
                continue
            if name == "P":
                turn = np.angle(waves[:, j]) - (j + 1) * np.angle(main)
            elif (j + 1) % 2 == 0:
                turn = np.angle(waves[:, j] * np.conj(main) ** ((j + 1) // 2))
            else:  # a wave at an odd multiple of half the frequency has two equal phases
                turn = 2 * np.angle(waves[:, j]) - (j + 1) * np.angle(main)
            made[f"cos phase {label}"], made[f"sin phase {label}"] = np.cos(turn), np.sin(turn)
    return made


def shape(block: Block, fits: dict[str, Fit], width: Floats) -> Measures:
    """Widths, minima and maxima of the folded curves, phase 0 at the deepest minimum."""
    made: Measures = {}
    middle = quantile(block, np.array([0.5]))
    for name in ("P", "2P"):
        curve = fits[name].curve()
        deepest = curve.argmax(axis=1)
        rolled = np.take_along_axis(curve, (deepest[:, None] + np.arange(GRID)) % GRID, axis=1)
        low = rolled.min(axis=1)
        depth = rolled.max(axis=1) - low + 1e-4
        unit = (rolled - low[:, None]) / depth[:, None]
        made[f"depth {name}"] = depth
        made |= {f"width {name} {level}": (unit > level).mean(axis=1) for level in LEVELS}
        if name == "P":
            made["phase of maximum"] = unit.argmin(axis=1) / GRID
            made["steepest rise"] = np.diff(unit, axis=1).min(axis=1)
            made["steepest fall"] = np.diff(unit, axis=1).max(axis=1)
        else:
            made |= _eclipses(unit)
        phase = (fits[name].phase - (deepest / GRID)[:, None]) % 1
        bins = 32 if name == "P" else 64
        profile = (_towards(binned(block, phase, bins), rolled) - middle) / width[:, None]
        step = bins // 16
        for j in range(16):
            made[f"profile {name} {j}"] = profile[:, j * step : (j + 1) * step].mean(axis=1)
    return made


def _towards(bins: Bins, curve: Floats) -> Floats:
    """Means of bins, drawn to the series as by two more points, so that no bin is empty."""
    number = bins.count.shape[1]
    centre = ((np.arange(number) + 0.5) / number * GRID).astype(np.int64)
    return np.asarray((bins.total + 2 * curve[:, centre]) / (bins.count + 2))


def _eclipses(unit: Floats) -> Measures:
    """Second minimum and both maxima of a curve folded at 2P ([k, GRID], deepest at 0)."""
    second = unit[:, 44:85]
    first_maximum, other = unit[:, 16:49].min(axis=1), unit[:, 80:113].min(axis=1)
    out = unit[:, 20:45]
    half = GRID // 2
    return {
        "second minimum depth": second.max(axis=1),
        "second minimum phase": (second.argmax(axis=1) + 44) / GRID,
        "difference of maxima": first_maximum - other,
        "unequal maxima": np.abs(first_maximum - other),
        "flatness": np.abs(out - np.median(out, axis=1)[:, None]).mean(axis=1),
        "asymmetry": np.sqrt(((unit - unit[:, ::-1]) ** 2).mean(axis=1)),
        "unequal halves": np.sqrt(((unit[:, :half] - unit[:, half:]) ** 2).mean(axis=1)),
    }


def residuals(block: Block, fit: Fit, width: Floats) -> Measures:
    """What the series at 2P leaves: scatter, trends (Blazhko effect), outliers."""
    valid, count = block.valid, block.valid.sum(1)
    rest = np.where(valid, block.value - fit.model, 0.0)
    deviation = np.sqrt((rest**2).sum(1) / count) + 1e-4
    error = np.sqrt((valid * block.error**2).sum(1) / count)
    faint = valid & (fit.model > 0)
    bright = valid & ~faint

    def typical(inside: Flags) -> Floats:
        return np.asarray((np.abs(rest) * inside).sum(1) / np.maximum(inside.sum(1), 1))

    season = ((block.time - block.time[:, :1]) / SEASON).astype(np.int64).clip(0, SEASONS - 1)
    key = (season + np.arange(len(rest))[:, None] * SEASONS)[valid]
    each = len(rest) * SEASONS
    number = np.bincount(key, minlength=each).reshape(-1, SEASONS)
    total = np.bincount(key, weights=rest[valid], minlength=each).reshape(-1, SEASONS)
    slow = np.sqrt((total**2 / np.maximum(number, 1)).sum(1) / count)
    return {
        "residual deviation": deviation, "residual / error": deviation / error,
        "residual / amplitude": deviation / width,
        "residual skewness": ((rest / deviation[:, None]) ** 3).sum(1) / count,
        "residual kurtosis": np.log(((rest / deviation[:, None]) ** 4).sum(1) / count + 1e-9),
        "residual, faint / bright": np.log(typical(faint) / (typical(bright) + 1e-4) + 1e-3),
        "residual von Neumann": _von_neumann(block, block.time, rest) / deviation**2,
        "residual seasons": slow / deviation,
    }  # fmt: skip


def second_mode(block: Block, fit: Fit) -> Measures:
    """Power of the residuals where the other mode of a double-mode RR Lyrae would be.

    NaN for periods outside 0.25-0.65 d, where there are none.

    Source:
        P1 / P0 = 0.742-0.748: Petersen 1973 (A&A 27, 89); Soszynski et al. 2016, OGLE RR Lyrae.
    """
    k = len(block.rows)
    highest, ratio = np.full(k, np.nan), np.full(k, np.nan)
    at: Rows = np.flatnonzero(
        (block.period > DOUBLE_PERIODS[0]) & (block.period < DOUBLE_PERIODS[1])
    )
    if len(at):
        valid = block.valid[at]
        rest = np.where(valid, block.value[at] - fit.model[at], 0).astype(np.float32)
        time = (block.time[at] - block.time[at][:, :1]) * valid
        turns = time / block.period[at][:, None]
        step = 1 / (12.8 * max(float(time.max()), 1.0))
        ratios = np.arange(*DOUBLE_MODE, max(step, 1e-6))
        power = np.zeros((len(at), len(ratios)), np.float32)
        wave = np.exp(-2j * np.pi * (turns * ratios[0] % 1)).astype(np.complex64)
        turn = np.exp(-2j * np.pi * turns * (ratios[1] - ratios[0])).astype(np.complex64)
        for j in range(len(ratios)):
            power[:, j] = np.abs((rest * wave).sum(1)) ** 2
            wave = wave * turn
        total = (rest**2).sum(1) + 1e-9
        highest[at] = 2 * power.max(1) / total / valid.sum(1)
        ratio[at] = ratios[power.argmax(1)]
    return {"second mode power": highest, "second mode ratio": ratio}
