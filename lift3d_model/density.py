"""Stage I: where along each target ray the surface is, from RGB and cameras alone (or from a sensor).

Per view and once per scene, not per ray and operator: coarse sweep for the depth range, fine sweep, semi-global
smoothing, then confirmation by the depths of the source views. The result is a mode and a spread a pixel, of which
Stage II takes one to a few samples a ray.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from lift3d_model import depth_range
from lift3d_model.geometry import in_image, pixel_centres, scaled_intrinsics, view_to_view, warp_pixels
from lift3d_model.matching import MatchingSettings, matching_cost
from lift3d_model.sampling import gather_flat, nearest_index, resize_mean, upsample
from lift3d_model.smoothing import SmoothingSettings, semi_global
from lift3d_model.views import Views

WORKING_PIXELS = 160 * 120
"""Pixels of the sweep's working resolution, whatever the image's size and shape."""


@dataclass(frozen=True, slots=True)
class SweepSettings:
    """What the sweep searches.

    Attributes:
        planes: depth planes of the fine sweep, evenly spaced in inverse depth.
        near, far: depth range in scene units; None = found from cameras and images.
    """

    planes: int = 64
    near: float | None = None
    far: float | None = None
    matching: MatchingSettings = field(default_factory=MatchingSettings)
    smoothing: SmoothingSettings = field(default_factory=SmoothingSettings)


def sweep_depth(views: Views, target: int, sources: Tensor, settings: SweepSettings) -> tuple[Tensor, Tensor]:
    """Depth of one view from its source views' colours.

    Args:
        sources: [S] view indices, S >= 1.

    Returns:
        depth [H, W] and relative spread [H, W] at full resolution (H, W of the padded images).
    """
    height, width = (int(n) for n in views.sizes[target])
    factor = (WORKING_PIXELS / (height * width)) ** 0.5
    h, w = max(round(height * min(factor, 1.0)), 8), max(round(width * min(factor, 1.0)), 8)
    inverse_depths, volume = _smoothed_volume(views, target, sources, (h, w), settings)
    depth, spread = _mode_and_spread(volume, inverse_depths)
    padding = (0, views.images.shape[-1] - width, 0, views.images.shape[-2] - height)
    return F.pad(upsample(depth[None], height, width)[0], padding), F.pad(
        upsample(spread[None], height, width)[0], padding
    )


def confirm(depths: Tensor, views: Views, target: int, sources: Tensor, tolerance: float) -> Tensor:
    """How many source views' own depths agree with the target's: [H, W] float counts.

    Args:
        depths: [V, H, W]; tolerance: largest relative difference that counts as agreement.
    """
    height, width = depths.shape[-2:]
    pixels = pixel_centres(height, width, device=depths.device)
    A, b = view_to_view(views.K, views.world_from_cam, target, sources)
    landed, z = warp_pixels(A, b, pixels, depths[target].flatten())
    seen = gather_flat(depths[sources], nearest_index(landed, height, width))
    inside = in_image(landed, z, views.sizes[sources])
    agrees = inside & (seen > 0) & ((seen - z).abs() <= tolerance * z)
    return agrees.float().sum(0).view(height, width)


def _smoothed_volume(
    views: Views, target: int, sources: Tensor, size: tuple[int, int], settings: SweepSettings
) -> tuple[Tensor, Tensor]:
    """Planes [D] and their smoothed cost [D, h, w] at working resolution."""
    near, far = _search_range(views, target, sources, size, settings)
    image, others, A, b = _working_set(views, target, sources, size)
    inverse_depths = torch.linspace(1.0 / far, 1.0 / near, settings.planes, device=views.device)
    cost = matching_cost(image, others, A, b, inverse_depths, settings.matching)
    return inverse_depths, semi_global(cost, image, settings.smoothing)


def _search_range(
    views: Views, target: int, sources: Tensor, size: tuple[int, int], settings: SweepSettings
) -> tuple[float, float]:
    """(near, far): as set, or from the cameras and a coarse sweep at half the working resolution."""
    if settings.near is not None and settings.far is not None:
        return settings.near, settings.far
    half = (max(size[0] // 2, 4), max(size[1] // 2, 4))
    image, others, A, b = _working_set(views, target, sources, half)
    planes = depth_range.coarse_inverse_depths(*depth_range.range_from_cameras(A, b, *half), device=views.device)
    cost = matching_cost(image, others, A, b, planes, settings.matching)
    near, far = depth_range.range_from_costs(cost, planes)
    near, far = settings.near or near, settings.far or far
    return near, max(far, 1.05 * near)


def _working_set(
    views: Views, target: int, sources: Tensor, size: tuple[int, int]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Target and source images and their maps at a working resolution; sources shrink by the target's factors."""
    height, width = (int(n) for n in views.sizes[target])
    scale_y, scale_x = size[0] / height, size[1] / width
    image = resize_mean(views.images[target : target + 1, :, :height, :width], *size)[0]
    full = views.sizes[sources].amax(0).tolist()
    shown = views.images[sources, :, : full[0], : full[1]]
    others = resize_mean(shown, round(full[0] * scale_y), round(full[1] * scale_x))
    K = views.K.clone()
    K[target] = scaled_intrinsics(K[target], scale_x, scale_y)
    K[sources] = scaled_intrinsics(K[sources], others.shape[-1] / full[1], others.shape[-2] / full[0])
    A, b = view_to_view(K, views.world_from_cam, target, sources)
    return image, others, A, b


def _mode_and_spread(volume: Tensor, inverse_depths: Tensor) -> tuple[Tensor, Tensor]:
    """Sub-plane mode of the smoothed cost, and the depth step of a plane relative to it.

    Args:
        volume: [D, h, w]; inverse_depths: [D], evenly spaced.

    Returns:
        depth [h, w], relative spread [h, w].
    """
    planes = len(inverse_depths)
    best = volume.argmin(dim=0, keepdim=True)
    below, at, above = (volume.gather(0, index.clamp(0, planes - 1))[0] for index in (best - 1, best, best + 1))
    curvature = below - 2 * at + above
    inner = (best[0] > 0) & (best[0] < planes - 1) & (curvature > 1e-6)
    offset = torch.where(inner, 0.5 * (below - above) / curvature.clamp_min(1e-6), torch.zeros_like(at))
    step = inverse_depths[1] - inverse_depths[0]
    inverse = (inverse_depths[best[0]] + offset.clamp(-0.5, 0.5) * step).clamp_min(1e-9)
    return 1.0 / inverse, 0.5 * step / inverse
