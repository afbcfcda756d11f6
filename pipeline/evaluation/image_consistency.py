"""Consistency of pictures over views, as StyleRF measures it: one view warped to another by true depth, and compared.

Short range is the next view, long range seven views on. A pixel counts where a z-test says that both views see its
point. Scores are RMSE of colours in [0, 1] and structural similarity. LPIPS, which StyleRF reports too, needs a
backbone trained on ImageNet whose weights no package brings, so it is not measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.correspondence import Points, View, hull, may_overlap, seen_by, unproject
from pipeline.evaluation.pictures import ssim

SHORT, LONG = 1, 7
"""Distances in views of the scene's order."""
FEWEST_PIXELS = 500
"""Pairs that share fewer pixels than this are left out."""

Picture = NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class Warping:
    """Scores over all pairs of views that are equally far apart; None where no two of them see the same.

    Attributes:
        rmse: root of the mean squared difference over co-visible pixels and channels.
        ssim: structural similarity, mean over co-visible pixels.
        pixels: co-visible pixels; `pairs`: pairs of views.
    """

    rmse: float | None
    ssim: float | None
    pixels: int
    pairs: int


def warping(views: Sequence[View], pictures: Sequence[Picture], gap: int) -> Warping:
    """Scores of V pictures [H, W, C] in [0, 1], of the size of their views, for pairs `gap` apart."""
    squared, alike, pixels, pairs = 0.0, 0.0, 0, 0
    for a in range(len(views) - gap):
        warped, mask = warp(pictures[a + gap], views[a], views[a + gap])
        count = int(mask.sum())
        if count < FEWEST_PIXELS:
            continue
        own = np.asarray(pictures[a], np.float64)
        squared += float(np.square(warped[mask] - own[mask]).mean()) * count
        alike += ssim(warped.transpose(2, 0, 1), own.transpose(2, 0, 1), mask) * count
        pixels, pairs = pixels + count, pairs + 1
    if not pixels:
        return Warping(None, None, 0, 0)
    return Warping(float(np.sqrt(squared / pixels)), alike / pixels, pixels, pairs)


def warp(picture: Picture, onto: View, seen_from: View) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """What a view's picture [H, W, C] shows of another view's pixels.

    Args:
        onto: the view whose pixels are asked for, with its depth; `seen_from`: the picture's.

    Returns:
        colours [H', W', C], bilinear, 0 where nothing is known, and the mask [H', W'] of what both see.
    """
    height, width = onto.depth.shape
    at = np.full((height * width, 2), -10, np.float32)
    mask = np.zeros(height * width, np.bool_)
    if may_overlap(hull(onto), seen_from.camera):
        points = unproject(onto)
        seen, _ = seen_by(points, seen_from)
        kept = points.keep(seen)
        at[kept.pixels], mask[kept.pixels] = _landing(kept, seen_from), True
    at = at.reshape(height, width, 2)
    values = np.asarray(picture, np.float64)
    warped = cv2.remap(values, at[..., 0], at[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    shared = mask.reshape(height, width)
    return np.asarray(warped, np.float64).reshape(height, width, -1) * shared[..., None], shared


def _landing(points: Points, view: View) -> NDArray[np.float32]:
    """[N, 2] where points are in a view, in OpenCV's pixel indices (centres at whole numbers)."""
    projection = view.camera.K @ view.camera.cam_from_world[:3]
    u, v, z = projection[:, :3] @ points.world + projection[:, 3:]
    return np.stack([u / z - 0.5, v / z - 0.5], axis=1).astype(np.float32)


def sharpness(pictures: Sequence[Picture]) -> float:
    """Mean size of the colour step from a pixel to its right and lower neighbours: what averaging views may cost."""
    steps = [np.abs(np.diff(p, axis=axis)).mean() for p in pictures for axis in (0, 1)]
    return float(np.mean(steps))
