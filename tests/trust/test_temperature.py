"""Temperature: recovers what confidence was spoiled with, keeps the order, and never worsens what it is fitted on."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.evaluation.calibration import LEVELS, auroc, calibration_error
from pipeline.trust.temperature import calibrated, error_at, fit_temperature, surprise

LEVEL = (np.arange(LEVELS) / (LEVELS - 1)).astype(np.float32)


def spoiled(temperature: float) -> np.ndarray:
    """[256, 2] exact counts where a pixel of confidence p is right as often as p at a temperature says."""
    right = np.rint(1e6 * calibrated(LEVEL, temperature)).astype(np.int64)
    return np.stack([right, 1_000_000 - right], 1)


@given(st.floats(0.2, 5))
def test_the_temperature_that_spoiled_it_is_found(temperature: float) -> None:
    histogram = spoiled(temperature)
    assert fit_temperature(histogram) == pytest.approx(temperature, rel=1e-3)


@pytest.mark.parametrize("temperature", [0.4, 3.0])
def test_the_error_goes_and_the_order_stays(temperature: float) -> None:
    histogram = spoiled(temperature)
    histogram[0] = 0
    assert error_at(histogram, None) > 0.1
    assert error_at(histogram, fit_temperature(histogram)) < 1e-3
    assert (np.diff(calibrated(LEVEL, temperature).astype(np.float64)) >= 0).all()


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_the_fit_is_at_least_as_likely_as_any_other(seed: int) -> None:
    rng = np.random.default_rng(seed)
    histogram = rng.integers(0, 50, (LEVELS, 2))
    best = surprise(histogram, fit_temperature(histogram))
    for other in (0.1, 0.5, 1.0, 2.0, 10.0):
        assert best <= surprise(histogram, other) + 1e-6  # confidence is float32
    assert error_at(histogram, None) == pytest.approx(calibration_error(histogram), abs=1e-6)


def test_no_evidence_stays_no_evidence_and_one_is_the_identity() -> None:
    assert calibrated(LEVEL, 3.0)[0] == 0
    np.testing.assert_allclose(calibrated(LEVEL, 1.0), LEVEL, atol=0.5 / 255)
    assert (calibrated(LEVEL[129:-1], 3.0) < LEVEL[129:-1]).all()


def test_where_all_is_right_there_is_nothing_to_fit() -> None:
    histogram = spoiled(1.0)
    histogram[:, 1] = 0
    assert fit_temperature(histogram) == 1
    assert auroc(histogram) is None
