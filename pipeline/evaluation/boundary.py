"""Boundary quality per class: how much of the predicted outline lies on the true one, and the other way round."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

TOLERANCE = 0.005
"""Distance, as a share of the image diagonal, within which outlines match: 2 px at 320x240."""

Mask = NDArray[np.bool_]


def tolerance_px(height: int, width: int) -> int:
    """The matching distance in pixels, at least 1."""
    return max(1, round(TOLERANCE * math.hypot(height, width)))


def boundary_counts(
    truth: NDArray[np.unsignedinteger], labels: NDArray[np.unsignedinteger], classes: int
) -> NDArray[np.int64]:
    """Matched and total outline pixels of each class of one image.

    Args:
        truth: [H, W] class indices, K where there is no ground truth.
        labels: [H, W] predicted class indices.
        classes: K.

    Returns:
        [K, 4]: predicted outline pixels near the true outline, predicted ones, true ones near the predicted
        outline, true ones. Pixels without ground truth are no outline and make none.
    """
    void = truth >= classes
    disk = _disk(tolerance_px(*truth.shape))
    counts = np.zeros((classes, 4), np.int64)
    known = labels[~void]
    for k in np.union1d(truth[~void], known[known < classes]):
        true, predicted = outline(truth == k, void), outline(labels == k, void)
        near_true, near_predicted = _grown(true, disk), _grown(predicted, disk)
        counts[k] = (predicted & near_true).sum(), predicted.sum(), (true & near_predicted).sum(), true.sum()
    return counts


def outline(mask: Mask, void: Mask) -> Mask:
    """Pixels of `mask` [H, W] outside `void` that touch (4 neighbours) a pixel that is in neither."""
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    inside = cv2.erode((mask | void).view(np.uint8), cross).view(np.bool_)
    return mask & ~void & ~inside


def boundary_f1(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """[K, 4] counts (summed over images) -> [K] F1, NaN for a class without any true outline."""
    hit, predicted, found, true = counts.T.astype(np.float64)
    precision = hit / np.maximum(predicted, 1)
    recall = found / np.maximum(true, 1)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    return np.where(true > 0, f1, np.nan)


def _disk(radius: int) -> NDArray[np.uint8]:
    offsets = np.arange(-radius, radius + 1)
    return (offsets**2 + offsets[:, None] ** 2 <= radius**2).astype(np.uint8)


def _grown(mask: Mask, disk: NDArray[np.uint8]) -> Mask:
    return cv2.dilate(mask.view(np.uint8), disk).view(np.bool_)
