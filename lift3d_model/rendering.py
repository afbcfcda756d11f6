"""One view's depth seen from another: forward splatting with a z-buffer."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lift3d_model.geometry import in_image, pixel_centres, view_to_view, warp_pixels
from lift3d_model.sampling import nearest_index
from lift3d_model.views import Depths, Views

HALF_PIXEL_CORNERS = ((-0.5, -0.5), (-0.5, 0.5), (0.5, -0.5), (0.5, 0.5))
"""A splat covers the pixels around its landing point, so that surfaces seen from nearer have no pinholes."""


def shown_depth(views: Views, depth: Tensor, target: int, source: int) -> Tensor:
    """The nearest of a source's surfaces along each target ray: [H, W] z-depth, 0 where it shows none.

    Args:
        depth: [V, H, W] z-depth of all views, 0 = unknown.
    """
    height, width = depth.shape[-2:]
    into_target = torch.tensor([target], device=views.device)
    A, b = view_to_view(views.K, views.world_from_cam, source, into_target)
    landed, z = warp_pixels(A, b, pixel_centres(height, width, device=views.device), depth[source].flatten())
    spots = landed[0] + landed.new_tensor(HALF_PIXEL_CORNERS)[:, None]
    z = z.expand(len(spots), -1)
    size = views.sizes[into_target].expand(len(spots), 2)
    hit = in_image(spots, z, size) & (depth[source].flatten() > 0)
    index = nearest_index(spots, height, width)
    nearest = torch.full((height * width,), torch.inf, device=views.device)
    nearest.scatter_reduce_(0, index[hit], z[hit], "amin")
    return torch.where(nearest.isfinite(), nearest, torch.zeros_like(nearest)).view(height, width)


def render_depth(views: Views, depths: Depths, target: int, sources: Sequence[int]) -> Tensor:
    """Nearest source surface along each target ray: [H, W] z-depth, 0 where no source sees anything."""
    nearest = torch.full(depths.mode.shape[-2:], torch.inf, device=views.device)
    for source in sources:
        shown = shown_depth(views, depths.mode, target, source)
        nearest = torch.where(shown > 0, torch.minimum(nearest, shown), nearest)
    return torch.where(nearest.isfinite(), nearest, torch.zeros_like(nearest))
