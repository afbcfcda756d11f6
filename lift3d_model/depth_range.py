"""Where to search for depth when nobody says: from the cameras' overlap, then from a coarse sweep.

Both steps are pure functions of a target and its sources, in the scene's own unit, whatever that is.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lift3d_model.geometry import homogeneous, pixel_centres

COARSE_PLANES = 56
"""Planes of the coarse sweep, spaced evenly in log depth."""
OVERLAP_NEEDED = 0.25
"""Least share of (pixel, source) pairs that must meet at the nearest depth that is worth searching."""
FAR_PARALLAX_PX = 1.0
"""Depths whose parallax against infinity is below this many working pixels cannot be told apart."""
GOOD_COST = 0.35
"""Matching cost below which a pixel's coarse depth is believed."""
TAIL = 0.015
"""Share of believed pixels that may lie outside the refined range at either end."""
FARTHEST = 4.0
"""Farthest depth searched, in medians of the believed depths: beyond it, flat surfaces match anywhere."""
MARGIN = 1.2
"""Factor by which the refined range is widened at either end."""


def range_from_cameras(A: Tensor, b: Tensor, height: int, width: int) -> tuple[float, float]:
    """Nearest and farthest depth at which matching the sources can tell anything.

    Args:
        A: [S, 3, 3], b: [S, 3]: target-to-source maps at working resolution (`view_to_view`).
        height, width: working resolution.

    Returns:
        (near, far): near is the smallest depth at which enough of the target is seen by its sources, far is where
        parallax falls under a pixel.
    """
    grid = pixel_centres(8, 8, 1.0, A.device) * A.new_tensor([width / 8, height / 8])
    directions = A @ homogeneous(grid).T
    parallax = _parallax_unit(directions, b)
    far = float(parallax.median()) / FAR_PARALLAX_PX
    depths = far * torch.logspace(0, -3, 73, dtype=torch.float64, device=A.device)
    overlap = _overlap(directions, b, depths, height, width)
    enough = (overlap >= OVERLAP_NEEDED * overlap.max()).nonzero()
    near = float(depths[enough.max()])
    return near, max(far, 2.0 * near)


def coarse_inverse_depths(near: float, far: float, device: torch.device) -> Tensor:
    """[D] inverse depths of the coarse sweep, far to near, evenly spaced in log depth."""
    return torch.logspace(-math.log10(far), -math.log10(near), COARSE_PLANES, device=device)


def range_from_costs(cost: Tensor, inverse_depths: Tensor) -> tuple[float, float]:
    """Refine a range: the depths that well-matched pixels of a coarse sweep take.

    Args:
        cost: [D, h, w] coarse matching cost, inverse_depths: [D].
    """
    best = cost.min(dim=0)
    believed = inverse_depths[best.indices[best.values < GOOD_COST]]
    if believed.numel() < 0.02 * best.values.numel():
        return 1.0 / float(inverse_depths[-1]), 1.0 / float(inverse_depths[0])
    levels = believed.new_tensor([TAIL, 0.5, 1.0 - TAIL])
    low, middle, high = torch.quantile(believed, levels).tolist()
    return 1.0 / (high * MARGIN), min(MARGIN / low, FARTHEST / middle)


def _parallax_unit(directions: Tensor, b: Tensor) -> Tensor:
    """[S, N]: pixels of parallax against infinity, times depth."""
    z = directions[:, 2].abs().clamp_min(1e-6)
    at_infinity = directions[:, :2] / z[:, None]
    shift = (b[:, :2, None] - at_infinity * b[:, 2, None, None]).norm(dim=1)
    return torch.div(shift, z)


def _overlap(directions: Tensor, b: Tensor, depths: Tensor, height: int, width: int) -> Tensor:
    """[D]: share of (pixel, source) pairs in the image at each depth."""
    points = directions[None] * depths[:, None, None, None] + b[None, :, :, None]
    z = points[:, :, 2].clamp_min(1e-9)
    x, y = points[:, :, 0] / z, points[:, :, 1] / z
    inside = (points[:, :, 2] > 0) & (x >= 0) & (y >= 0) & (x < width) & (y < height)
    return inside.double().mean(dim=(1, 2))
