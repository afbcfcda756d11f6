"""Regions of a label map that are probably wrong: connected pixels of one class and little confidence."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SUSPECT = 0.7
"""Below this confidence a pixel is suspect. At 0.5, a lifted scene has hardly any; docs/trust.md has figures."""
SMALLEST = 5e-4
"""Regions of a smaller share of the image are left out: nobody corrects them one by one."""


@dataclass(frozen=True, slots=True, eq=False)
class Region:
    """Connected suspect pixels of one class in one frame.

    Attributes:
        scene, frame: where.
        class_id: what the pixels are labelled, by the store's label set.
        pixels: [N] flat indices into the image.
        box: x0, y0, x1, y1 in pixels, the ends exclusive.
        expected_wrong: sum of 1 - confidence, in pixels.
        used_by: how many other frames of the scene were labelled with this one among their sources.
    """

    scene: str
    frame: str
    class_id: int
    pixels: NDArray[np.int32]
    box: tuple[int, int, int, int]
    expected_wrong: float
    used_by: int

    @property
    def score(self) -> float:
        """Expected wrong pixels, counted once for the frame and once for each frame that it speaks to."""
        return self.expected_wrong * (1 + self.used_by)


def suspect_regions(
    place: tuple[str, str], labels: NDArray[np.unsignedinteger], confidence: NDArray[np.float32], used_by: int
) -> Iterator[Region]:
    """Regions of a frame in no order.

    Args:
        place: scene and frame.
        labels: [H, W] class ids.
        confidence: [H, W] in [0, 1].
        used_by: handed on.
    """
    import cv2

    suspect = confidence < SUSPECT
    smallest = max(1.0, SMALLEST * labels.size)
    for class_id in np.unique(labels[suspect]).tolist():
        mask = (suspect & (labels == class_id)).astype(np.uint8)
        count, parts, boxes, _ = cv2.connectedComponentsWithStats(mask, connectivity=4)
        for part in range(1, count):
            x, y, width, height, area = boxes[part].tolist()
            if area < smallest:
                continue
            rows, columns = np.nonzero(parts[y : y + height, x : x + width] == part)
            pixels = ((rows + y) * labels.shape[1] + columns + x).astype(np.int32)
            wrong = float((1 - confidence.ravel()[pixels].astype(np.float64)).sum())
            yield Region(*place, class_id, pixels, (x, y, x + width, y + height), wrong, used_by)
