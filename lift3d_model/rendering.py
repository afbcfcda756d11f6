"""A novel view's depth from its source views' depths: forward splatting with a z-buffer."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lift3d_model.geometry import in_image, pixel_centres, view_to_view, warp_pixels
from lift3d_model.sampling import nearest_index
from lift3d_model.views import Depths, Views

HALF_PIXEL_CORNERS = ((-0.5, -0.5), (-0.5, 0.5), (0.5, -0.5), (0.5, 0.5))
"""A splat covers the pixels around its landing point, so that surfaces seen from nearer have no pinholes."""


def render_depth(views: Views, depths: Depths, target: int, sources: Sequence[int]) -> Tensor:
    """Nearest source surface along each target ray: [H, W] z-depth, 0 where no source sees anything."""
    height, width = depths.mode.shape[-2:]
    pixels = pixel_centres(height, width, device=views.device)
    into_target = torch.tensor([target], device=views.device)
    nearest = torch.full((height * width,), torch.inf, device=views.device)
    for source in sources:
        depth = depths.mode[source].flatten()
        A, b = view_to_view(views.K, views.world_from_cam, source, into_target)
        landed, z = warp_pixels(A, b, pixels, depth)
        for corner in HALF_PIXEL_CORNERS:
            spot = landed + landed.new_tensor(corner)
            hit = in_image(spot, z, views.sizes[into_target])[0] & (depth > 0)
            index = nearest_index(spot, height, width)[0]
            nearest.scatter_reduce_(0, index[hit], z[0, hit], "amin")
    return torch.where(nearest.isfinite(), nearest, torch.zeros_like(nearest)).view(height, width)
