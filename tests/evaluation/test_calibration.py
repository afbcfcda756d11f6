"""Confidence: AUROC against its definition by pairs, calibration error on made cases."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.evaluation.calibration import auroc, calibration_error, confidence_histogram


@given(st.integers(0, 2**32 - 1))
def test_auroc_is_the_chance_that_a_wrong_pixel_has_less_confidence(seed: int) -> None:
    rng = np.random.default_rng(seed)
    level, wrong = rng.integers(0, 256, 60), rng.random(60) < 0.4
    wrong[:2] = True, False
    pairs = np.sign(level[~wrong][:, None] - level[wrong]) / 2 + 0.5
    histogram = confidence_histogram((level / 255).astype(np.float32), wrong)
    assert auroc(histogram) == pytest.approx(pairs.mean())


@pytest.mark.parametrize("all_wrong", [True, False])
def test_auroc_needs_both_kinds(all_wrong: bool) -> None:
    assert auroc(confidence_histogram(np.ones(4, np.float32), np.full(4, all_wrong))) is None


def test_sure_and_right_is_calibrated_and_sure_and_wrong_is_not() -> None:
    sure = np.ones(10, np.float32)
    assert calibration_error(confidence_histogram(sure, np.zeros(10, bool))) == 0
    assert calibration_error(confidence_histogram(sure, np.ones(10, bool))) == 1


def test_confidence_that_means_what_it_says_has_little_error() -> None:
    rng = np.random.default_rng(0)
    confidence = rng.random(200_000).astype(np.float32)
    assert calibration_error(confidence_histogram(confidence, rng.random(200_000) > confidence)) < 0.01


def test_without_pixels_there_is_no_error() -> None:
    assert calibration_error(confidence_histogram(np.zeros(0, np.float32), np.zeros(0, bool))) is None
