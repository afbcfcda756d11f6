"""Whether confidence tells right pixels from wrong ones, and whether it means what it says."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

LEVELS = 256
"""Confidence is stored in 8 bits, so a histogram over its levels loses nothing."""
BINS = 16
"""Equal bins of confidence for the calibration error."""

Histogram = NDArray[np.int64]


def confidence_histogram(confidence: NDArray[np.float32], wrong: NDArray[np.bool_]) -> Histogram:
    """[N] confidences in [0, 1] and [N] whether the pixel is wrong -> [256, 2] pixels (right, wrong) a level."""
    level = np.rint(confidence * (LEVELS - 1)).astype(np.intp).clip(0, LEVELS - 1)
    return np.bincount(level * 2 + wrong, minlength=LEVELS * 2).reshape(LEVELS, 2)


def auroc(histogram: Histogram) -> float | None:
    """Chance that a wrong pixel has less confidence than a right one (ties count half); None without both kinds."""
    right, wrong = histogram.T.astype(np.float64)
    if not right.sum() or not wrong.sum():
        return None
    right_above = right[::-1].cumsum()[::-1] - right
    return float((wrong * (right_above + right / 2)).sum() / (right.sum() * wrong.sum()))


def calibration_error(histogram: Histogram) -> float | None:
    """Expected calibration error: mean |accuracy - confidence| over pixels, in 16 equal bins; None without pixels."""
    pixels = histogram.sum(1)
    if not pixels.sum():
        return None
    level = np.arange(LEVELS) / (LEVELS - 1)
    gap = (histogram[:, 0] - pixels * level).reshape(BINS, -1).sum(1)
    return float(np.abs(gap).sum() / pixels.sum())
