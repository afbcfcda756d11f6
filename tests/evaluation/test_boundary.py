"""Boundary F1: tolerance, symmetry, and pixels without ground truth."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.evaluation.boundary import boundary_counts, boundary_f1, outline, tolerance_px


def halves(edge: int, height: int = 60, width: int = 80) -> np.ndarray:
    return (np.broadcast_to(np.arange(width) >= edge, (height, width))).astype(np.uint8)


@pytest.mark.parametrize(("size", "pixels"), [((240, 320), 2), ((480, 640), 4), ((10, 10), 1), ((968, 1296), 8)])
def test_tolerance_scales_with_the_diagonal(size: tuple[int, int], pixels: int) -> None:
    assert tolerance_px(*size) == pixels


@pytest.mark.parametrize(("shift", "score"), [(0, 1.0), (1, 1.0), (2, 0.0), (9, 0.0)])
def test_an_edge_matches_within_the_tolerance(shift: int, score: float) -> None:
    f1 = boundary_f1(boundary_counts(halves(40), halves(40 + shift), 2))
    assert f1 == pytest.approx([score, score])


def test_a_flipped_object_costs_its_class() -> None:
    truth = halves(40)
    f1 = boundary_f1(boundary_counts(truth, np.where(truth == 1, 2, 0).astype(np.uint8), 3))
    assert f1[0] == 1
    assert f1[1] == 0
    assert np.isnan(f1[2])


def test_the_image_border_and_unscored_pixels_are_no_outline() -> None:
    truth = np.zeros((20, 20), np.uint8)
    truth[:, 10:] = 2
    counts = boundary_counts(truth, np.zeros((20, 20), np.uint8), 2)
    assert counts.sum() == 0


@given(st.integers(0, 2**32 - 1))
def test_swapping_truth_and_prediction_swaps_precision_and_recall(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, 3, (2, 12, 12)).astype(np.uint8)
    assert (boundary_counts(a, b, 3) == boundary_counts(b, a, 3)[:, [2, 3, 0, 1]]).all()


def test_the_outline_of_a_square_is_its_rim() -> None:
    mask = np.zeros((9, 9), bool)
    mask[2:7, 2:7] = True
    rim = outline(mask, np.zeros((9, 9), bool))
    assert rim.sum() == 16
    assert not rim[3:6, 3:6].any()
