"""Temperature scaling of confidence: one number, fitted on pixels whose truth is known.

Method: C. Guo, G. Pleiss, Y. Sun, K. Weinberger, "On Calibration of Modern Neural Networks", ICML 2017, with the
log-odds of the stored confidence in place of a network's logits. The order of pixels stays, and so does AUROC.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.calibration import BINS, LEVELS, Histogram

LOWEST, HIGHEST = 0.1, 10.0
"""Bounds of the temperature: beyond them, confidence tells nearly nothing or claims to know all."""
STEPS = 60
"""Golden-section steps: each narrows the interval to .62 of it."""
GOLDEN = (np.sqrt(5) - 1) / 2


def calibrated(confidence: NDArray[np.float32], temperature: float) -> NDArray[np.float32]:
    """Confidence in [0, 1] of any shape at another temperature: above 1 it claims less, below 1 more.

    Exactly 0 stays 0: it is no probability and says that no view gave evidence. Others keep half a stored level of
    distance to 0 and 1, as nothing finer is known.
    """
    edge = 0.5 / (LEVELS - 1)
    sure = np.clip(confidence, edge, 1 - edge).astype(np.float64)
    odds = (np.log(sure) - np.log1p(-sure)) / temperature
    return np.where(confidence > 0, 1 / (1 + np.exp(-odds)), 0).astype(np.float32)


def fit_temperature(histogram: Histogram) -> float:
    """The temperature of greatest likelihood for [256, 2] (right, wrong) pixels a level; level 0 does not count.

    1 where it cannot be told: where all pixels are right, or all wrong.
    """
    right, wrong = histogram[1:].sum(0)
    if not right or not wrong:
        return 1.0
    low, high = np.log(LOWEST), np.log(HIGHEST)
    for _ in range(STEPS):
        left, middle = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
        if surprise(histogram, float(np.exp(left))) < surprise(histogram, float(np.exp(middle))):
            high = middle
        else:
            low = left
    return float(np.exp((low + high) / 2))


def surprise(histogram: Histogram, temperature: float) -> float:
    """Mean negative log-likelihood, in nats a pixel, of right and wrong; pixels of level 0 left out."""
    pixels = histogram[1:].astype(np.float64)
    sure = calibrated(_levels(), temperature)[1:].astype(np.float64).clip(1e-9, 1 - 1e-7)
    return float(-(pixels[:, 0] * np.log(sure) + pixels[:, 1] * np.log1p(-sure)).sum() / max(1.0, pixels.sum()))


def error_at(histogram: Histogram, temperature: float | None) -> float:
    """Expected calibration error in 16 equal bins of confidence, at a temperature or (None) as it is stored."""
    level = _levels() if temperature is None else calibrated(_levels(), temperature)
    bins = np.minimum((level * BINS).astype(np.intp), BINS - 1)
    gap = np.bincount(bins, histogram[:, 0] - histogram.sum(1) * level.astype(np.float64), BINS)
    return float(np.abs(gap).sum() / max(1, histogram.sum()))


def _levels() -> NDArray[np.float32]:
    return (np.arange(LEVELS) / (LEVELS - 1)).astype(np.float32)
