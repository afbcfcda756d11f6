"""One view's depth seen from another: forward splatting with a z-buffer."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lift3d_model.geometry import land, pixel_centres, view_to_view
from lift3d_model.sampling import flat_index
from lift3d_model.views import Depths, Views

HALF_PIXEL_CORNERS = ((-0.5, -0.5), (-0.5, 0.5), (0.5, -0.5), (0.5, 0.5))
"""A splat covers the pixels around its landing point, so that surfaces seen from nearer have no pinholes."""


def shown_depth(views: Views, depth: Tensor, target: int, source: int) -> Tensor:
    """The nearest of a source's surfaces along each target ray: [H, W] z-depth, 0 where it shows none.

    Args:
        depth: [V, H, W] z-depth of all views, 0 = unknown.
    """
    height, width = depth.shape[-2:]
    bottom, right = views.sizes[target].tolist()
    A, b = view_to_view(views.K, views.world_from_cam, source, torch.tensor([target], device=views.device))
    surface = depth[source].flatten()
    pixels = pixel_centres(height, width, device=views.device).T.float()
    x, y, z = land(A[0], b[0], pixels, surface[None])
    nearest = torch.full((height * width,), torch.inf, device=views.device)
    for dx, dy in HALF_PIXEL_CORNERS:
        u, v = x[0] + dx, y[0] + dy
        hit = (u >= 0) & (v >= 0) & (u < right) & (v < bottom) & (z[0] > 0) & (surface > 0)
        shown = z[0].masked_fill(~hit, torch.inf)
        nearest.scatter_reduce_(0, flat_index(u, v, height, width).long(), shown, "amin")
    return nearest.masked_fill_(nearest.isinf(), 0.0).view(height, width)


def render_depth(views: Views, depths: Depths, target: int, sources: Sequence[int]) -> Tensor:
    """Nearest source surface along each target ray: [H, W] z-depth, 0 where no source sees anything."""
    nearest = torch.full(depths.mode.shape[-2:], torch.inf, device=views.device)
    for source in sources:
        shown = shown_depth(views, depths.mode, target, source)
        nearest = torch.where(shown > 0, torch.minimum(nearest, shown), nearest)
    return torch.where(nearest.isfinite(), nearest, torch.zeros_like(nearest))
