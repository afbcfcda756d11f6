"""Part e: whether confidence tells right pixels from wrong ones, and means what it says after one temperature.

Nothing is measured here: it is read off the confidence histograms of parts a and b. The temperature of a scene is
fitted on all the *other* scenes, each counting the same, by likelihood.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.calibration import BINS, LEVELS, auroc

LOG_TEMPERATURES = np.linspace(-2.5, 2.5, 201)
"""Natural logarithms of the temperatures that are tried."""

Histogram = NDArray[np.int64]
Values = NDArray[np.float64]


def calibrated(temperature: float) -> Values:
    """[256] confidence of each stored level after division of its log odds by a temperature; 1 changes nothing.

    The outermost levels stand for half a level inside: log odds of 0 and 1 are infinite.
    """
    return np.asarray(1 / (1 + np.exp(-_log_odds() / temperature)))


def expected_error(histogram: Histogram, confidence: Values) -> float:
    """Expected calibration error over 16 equal bins, levels [256] standing for these confidences."""
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    gap = histogram[:, 0] - histogram.sum(1) * confidence
    return float(np.abs(np.bincount(bins, gap, BINS)).sum() / histogram.sum())


def fit_temperature(histograms: list[Histogram]) -> float:
    """The temperature under which the scenes' right and wrong pixels are likeliest, each scene counting the same."""
    shares = sum((one / one.sum() for one in histograms), np.zeros((LEVELS, 2)))
    losses = []
    for log_temperature in LOG_TEMPERATURES:
        log_odds = _log_odds() / np.exp(log_temperature)
        losses.append((shares[:, 0] * np.logaddexp(0, -log_odds) + shares[:, 1] * np.logaddexp(0, log_odds)).sum())
    return float(np.exp(LOG_TEMPERATURES[int(np.argmin(losses))]))


def _log_odds() -> Values:
    """[256] of each stored level."""
    level = (np.arange(LEVELS) / (LEVELS - 1)).clip(0.5 / LEVELS, 1 - 0.5 / LEVELS)
    return np.asarray(np.log(level / (1 - level)))


def confidence_scores(histograms: Mapping[str, Histogram]) -> dict[str, dict[str, Any]]:
    """Scores by scene: AUROC, calibration error as stored, temperature fitted on the others, and the error then.

    A lone scene has no others: its temperature is None.
    """
    found = {}
    for scene, histogram in histograms.items():
        others = [other for name, other in histograms.items() if name != scene]
        temperature = fit_temperature(others) if others else None
        found[scene] = {
            "auroc": auroc(histogram),
            "ece": expected_error(histogram, np.arange(LEVELS) / (LEVELS - 1)),
            "temperature": temperature,
            "ece_calibrated": expected_error(histogram, calibrated(temperature)) if temperature else None,
        }
    return found
