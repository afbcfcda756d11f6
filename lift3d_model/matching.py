"""Plane-sweep matching cost: how well each depth plane of a target view explains its source views.

The cost of a source at a plane mixes zero-normalised cross-correlation (blind to exposure) with a truncated colour
difference (sharp at edges). Sources that do not see the surface are dealt with by averaging only the best share of
them a pixel (the pixels' occluders differ from source to source).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from lift3d_model.geometry import homogeneous, pixel_centres
from lift3d_model.sampling import box_mean

UNSEEN_COST = 1.0
"""Cost of a plane that no source sees: that of a poor match."""


@dataclass(frozen=True, slots=True)
class MatchingSettings:
    """Constants of the matching cost, chosen on rendered rooms and one real scene."""

    window: int = 2
    """Radius of correlation windows in working pixels."""
    correlation_share: float = 0.6
    """Weight of correlation against colour difference."""
    colour_cut: float = 0.15
    """Colour difference (0..1) at which a mismatch is total."""
    best_share: float = 0.4
    """Share of the sources that see a pixel whose cost counts."""
    contrast_floor: float = 4e-4
    """Variance added to both windows, so that noise on flat surfaces does not correlate."""


def matching_cost(
    target: Tensor, sources: Tensor, A: Tensor, b: Tensor, inverse_depths: Tensor, settings: MatchingSettings
) -> Tensor:
    """Cost volume of one target view.

    Args:
        target: [3, h, w] image at working resolution; sources: [S, 3, h', w'].
        A, b: [S, 3, 3], [S, 3] target-to-source maps at working resolution (`view_to_view`).
        inverse_depths: [D] planes.

    Returns:
        [D, h, w], about 0 (perfect) to 1.6 (opposite).
    """
    costs = [_source_cost(target, sources[s], A[s], b[s], inverse_depths, settings) for s in range(sources.shape[0])]
    return _mean_of_best(torch.stack(costs), settings.best_share)


def _source_cost(
    target: Tensor, source: Tensor, A: Tensor, b: Tensor, inverse_depths: Tensor, settings: MatchingSettings
) -> Tensor:
    """[D, h, w] cost of one source, infinite where the plane projects outside its image."""
    warped, seen = _warp_planes(source, target.shape[-2:], A, b, inverse_depths)
    correlation = _correlation(target.mean(0), warped.mean(1), settings)
    difference = (warped - target).abs().mean(1).clamp_max(settings.colour_cut) / settings.colour_cut
    share = settings.correlation_share
    cost = share * (1.0 - correlation) + (1.0 - share) * difference
    return cost.masked_fill_(~seen, math.inf)


def _warp_planes(
    source: Tensor, size: torch.Size, A: Tensor, b: Tensor, inverse_depths: Tensor
) -> tuple[Tensor, Tensor]:
    """Source image [3, h', w'] seen through each plane: [D, 3, h, w], and whether it is inside: [D, h, w]."""
    h, w = size
    planes = len(inverse_depths)
    rays = (A @ homogeneous(pixel_centres(h, w, device=source.device)).T).float()
    points = rays + b.float()[:, None] * inverse_depths[:, None, None]
    z = points[:, 2]
    pixels = points[:, :2] / z.clamp_min(1e-6)[:, None]
    extent = pixels.new_tensor([source.shape[-1], source.shape[-2]])[:, None]
    seen = (z > 1e-6) & ((pixels >= 0) & (pixels <= extent)).all(1)
    grid = (2.0 * pixels / extent - 1.0).permute(0, 2, 1).reshape(1, planes * h, w, 2)
    warped = F.grid_sample(source[None], grid, padding_mode="border", align_corners=False)
    return warped[0].view(3, planes, h, w).transpose(0, 1), seen.view(planes, h, w)


def _correlation(target: Tensor, warped: Tensor, settings: MatchingSettings) -> Tensor:
    """Zero-normalised cross-correlation in windows: grey target [h, w], warped [D, h, w] -> [D, h, w] in [-1, 1]."""
    r, floor = settings.window, settings.contrast_floor
    t, s = target[None, None], warped[:, None]
    mean_t, mean_s = box_mean(t, r), box_mean(s, r)
    var_t = (box_mean(t * t, r) - mean_t * mean_t).clamp_min(0)
    var_s = (box_mean(s * s, r) - mean_s * mean_s).clamp_min(0)
    covariance = box_mean(s * t, r) - mean_s * mean_t
    return (covariance / ((var_t + floor) * (var_s + floor)).sqrt()).clamp(-1, 1)[:, 0]


def _mean_of_best(costs: Tensor, share: float) -> Tensor:
    """Mean of the best `share` of the finite costs: [S, D, h, w] -> [D, h, w]."""
    ordered = costs.sort(dim=0).values
    seen = ordered.isfinite()
    keep = (seen.sum(0) * share).ceil().clamp_min(1)
    rank = torch.arange(1, len(costs) + 1, device=costs.device).view(-1, 1, 1, 1)
    chosen = seen & (rank <= keep)
    total = torch.where(chosen, ordered, torch.zeros_like(ordered)).sum(0) / keep
    return torch.where(seen[0], total, torch.full_like(total, UNSEEN_COST))
