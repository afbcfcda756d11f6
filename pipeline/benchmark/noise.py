"""Label noise as single-view models make it: wrong in another way in every view, drawn from true labels and objects.

Level 1: each object of a view is another class with p = 0.22, outlines wobble by 3 px (standard deviation), five
ellipses of a wrong class, and what was not labelled becomes some class. Level L multiplies all three; level 0 changes
nothing. A view's noise depends on scene, frame and level only, so that any subset of views gets the same labels.
"""

from __future__ import annotations

from zlib import crc32

import cv2
import numpy as np
from numpy.typing import NDArray

FLIPPED = 0.22
"""Chance that an object is another class in a view, at level 1."""
WOBBLE_PX = 3.0
"""Standard deviation of the displacement of outlines, at level 1."""
WOBBLE_CELL = 16
"""Pixels between the knots of the displacement field."""
BLOBS = 5
"""Ellipses of a wrong class in a view, at level 1."""
BLOB_RADII = (40, 9)
"""Smallest and largest radius of an ellipse: the image's sides divided by these."""

Ids = NDArray[np.unsignedinteger]


def noise_rng(scene: str, frame: str, level: float) -> np.random.Generator:
    """The generator of one view's noise."""
    return np.random.default_rng([crc32(scene.encode()), crc32(frame.encode()), round(1000 * level)])


def spoil_view(labels: Ids, objects: Ids, classes: Ids, level: float, rng: np.random.Generator) -> Ids:
    """One view's labels with noise.

    Args:
        labels: [H, W] true class ids, 0 = none.
        objects: [H, W] object ids, 0 = none.
        classes: [K] ids that wrong labels are drawn from (the scene's classes).
        level: multiplies the noise; 0 gives the labels back.
    """
    if level <= 0:
        return labels.copy()
    spoiled = _flipped(labels, objects, classes, min(1.0, FLIPPED * level), rng)
    spoiled = _wobbled(spoiled, WOBBLE_PX * level, rng)
    for _ in range(int(BLOBS * level + 0.5)):
        spoiled = _blotted(spoiled, rng.choice(classes), rng)
    spoiled[spoiled == 0] = rng.choice(classes)
    return spoiled


def _flipped(labels: Ids, objects: Ids, classes: Ids, chance: float, rng: np.random.Generator) -> Ids:
    """Whole objects take a class that is drawn from all of them, now and then their own."""
    spoiled = labels.copy()
    for instance in np.unique(objects[objects > 0]):
        if rng.random() < chance:
            spoiled[objects == instance] = rng.choice(classes)
    return spoiled


def _wobbled(ids: Ids, scale: float, rng: np.random.Generator) -> Ids:
    """Labels fetched from displaced places: a smooth random field moves every outline."""
    height, width = ids.shape
    knots = (2, max(2, height // WOBBLE_CELL), max(2, width // WOBBLE_CELL))
    coarse = rng.normal(scale=scale, size=knots).astype(np.float32)
    dx, dy = (cv2.resize(field, (width, height), interpolation=cv2.INTER_CUBIC) for field in coarse)
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    moved = cv2.remap(
        ids.astype(np.uint16), columns + dx, rows + dy, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE
    )
    return moved.astype(ids.dtype)


def _blotted(ids: Ids, label: int, rng: np.random.Generator) -> Ids:
    """An ellipse of one class somewhere in the image."""
    height, width = ids.shape
    smallest, largest = ((max(1, side // share) for side in (width, height)) for share in BLOB_RADII)
    axes = tuple(int(rng.integers(low, high + 1)) for low, high in zip(smallest, largest, strict=True))
    centre = (int(rng.integers(width)), int(rng.integers(height)))
    mask = cv2.ellipse(np.zeros(ids.shape, np.uint8), centre, axes, float(rng.integers(180)), 0, 360, 1, cv2.FILLED)
    return np.where(mask > 0, label, ids).astype(ids.dtype)
