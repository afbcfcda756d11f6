"""Pixels that other views contradict: by what they call the same point, or by looking through it.

Measured with depth and cameras, on the finished labels. It tells moving things, wrong depth and wrong poses from each
other no more than the views do; a thing that no second view sees is neither agreed on nor contradicted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.correspondence import (
    ABSOLUTE_TOLERANCE,
    NEAREST_DEPTH,
    RELATIVE_TOLERANCE,
    Points,
    View,
    hull,
    may_overlap,
    seen_by,
    unproject,
)

Shares = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Contradiction:
    """What the other views say of one view's pixels.

    Attributes:
        witnesses: [H, W] views that see the pixel's point, by the z-test.
        otherwise: [H, W] share of them whose label for it is another one; NaN without a witness.
        lookers: [H, W] views that see the point or look through where it should be.
        through: [H, W] share of them that look through it: they measured a surface clearly behind; NaN without one.
    """

    witnesses: NDArray[np.int32]
    otherwise: Shares
    lookers: NDArray[np.int32]
    through: Shares

    def mask(self, views: int = 2) -> NDArray[np.bool_]:
        """[H, W] pixels that most of `views` or more others contradict: not to be trained on without a look."""
        named = (self.witnesses >= views) & (np.nan_to_num(self.otherwise) > 0.5)
        return named | ((self.lookers >= views) & (np.nan_to_num(self.through) > 0.5))


def contradiction(views: Sequence[View], labels: Sequence[NDArray[np.unsignedinteger]], target: int) -> Contradiction:
    """What all other views say of view `target`.

    Args:
        views: V cameras with depth.
        labels: V maps [H, W] of class ids, at the views' size.
        target: which view.
    """
    points = unproject(views[target])
    corners = hull(views[target])
    shape = views[target].depth.shape
    seen_count, other_count, through_count = (np.zeros(views[target].depth.size, np.int32) for _ in range(3))
    own = labels[target].ravel()
    for index, view in enumerate(views):
        if index == target or not may_overlap(corners, view.camera):
            continue
        seen, there = seen_by(points, view)
        here = points.pixels[seen]
        seen_count[here] += 1
        other_count[here] += labels[index].ravel()[there] != own[here]
        through_count[points.pixels[looks_through(points, view)]] += 1
    lookers = seen_count + through_count
    return Contradiction(
        seen_count.reshape(shape),
        _share(other_count, seen_count).reshape(shape),
        lookers.reshape(shape),
        _share(through_count, lookers).reshape(shape),
    )


def looks_through(points: Points, view: View) -> NDArray[np.bool_]:
    """[N] whether a view measured a surface so far behind a point that the point cannot have been there."""
    camera = view.camera
    projection = camera.K @ camera.cam_from_world[:3]
    u, v, z = projection[:, :3] @ points.world + projection[:, 3:]
    z_safe = np.maximum(z, 1e-6)
    x, y = np.floor(u / z_safe), np.floor(v / z_safe)
    inside = (z > NEAREST_DEPTH) & (x >= 0) & (x < camera.width) & (y >= 0) & (y < camera.height)
    nearest = _nearest_around(view.depth).ravel()[y[inside].astype(np.intp) * camera.width + x[inside].astype(np.intp)]
    expected = z[inside]
    inside[inside] = nearest > expected + 2 * (RELATIVE_TOLERANCE * expected + ABSOLUTE_TOLERANCE)
    return inside


def _nearest_around(depth: NDArray[np.float32]) -> NDArray[np.float32]:
    """[H, W] smallest depth of each 3 x 3 pixels, 0 where one is unknown: an outline is no contradiction."""
    import cv2

    return np.asarray(cv2.erode(depth.astype(np.float32), np.ones((3, 3), np.uint8)), dtype=np.float32)


def _share(part: NDArray[np.int32], whole: NDArray[np.int32]) -> Shares:
    with np.errstate(invalid="ignore"):
        return np.where(whole > 0, part / np.maximum(whole, 1), np.nan).astype(np.float32)
