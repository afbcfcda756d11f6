"""Plane-sweep matching cost: how well each depth plane of a target view explains its source views.

The cost of a source at a plane mixes zero-normalised cross-correlation (blind to exposure) with a truncated colour
difference (sharp at edges). Sources that do not see the surface are dealt with by averaging only the best share of
them a pixel (the pixels' occluders differ from source to source).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from lift3d_model.geometry import homogeneous, pixel_centres

UNSEEN_COST = 1.0
"""Cost of a plane that no source sees: that of a poor match."""
PLANES_AT_ONCE = 16
"""Planes whose maps are worked on together: as many as stay in a core's cache at working resolution."""


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
    target: Tensor,
    sources: Sequence[Tensor],
    A: Tensor,
    b: Tensor,
    inverse_depths: Tensor,
    settings: MatchingSettings,
) -> Tensor:
    """Cost volume of one target view.

    Args:
        target: [3, h, w] image at working resolution; sources: S images [3, h', w'] of any sizes.
        A, b: [S, 3, 3], [S, 3] target-to-source maps at working resolution (`view_to_view`).
        inverse_depths: [D] planes.

    Returns:
        [D, h, w], about 0 (perfect) to 1.6 (opposite); planes are innermost in memory.
    """
    sweep = _Sweep.of(target, A, b, settings)
    chunks = torch.split(inverse_depths, PLANES_AT_ONCE)
    return torch.cat([_chunk_cost(sweep, sources, planes) for planes in chunks], dim=-1).permute(2, 0, 1)


@dataclass(frozen=True, slots=True)
class _Sweep:
    """What all planes of a target share: maps are [h, w, 1], so that they broadcast over planes.

    Attributes:
        colours: the target's three channels; grey, mean, variance: of the target's windows.
        rays: [S, 3, h, w, 1] A u of every pixel u; b: [S, 3].
        border: 1 over the share of a window that is inside the image.
    """

    colours: tuple[Tensor, ...]
    grey: Tensor
    mean: Tensor
    variance: Tensor
    rays: Tensor
    b: Tensor
    border: Tensor
    settings: MatchingSettings

    @classmethod
    def of(cls, target: Tensor, A: Tensor, b: Tensor, settings: MatchingSettings) -> _Sweep:
        h, w = target.shape[-2:]
        rays = (A @ homogeneous(pixel_centres(h, w, device=target.device)).T).float().view(-1, 3, h, w, 1)
        colours = target[..., None].unbind(0)
        grey = target.mean(0)[..., None]
        border = 1.0 / _box(torch.ones_like(grey), settings.window)
        mean = _box(grey, settings.window) * border
        variance = (_box(grey * grey, settings.window) * border - mean * mean).clamp_min(0) + settings.contrast_floor
        return cls(colours, grey, mean, variance, rays, b.float(), border, settings)


def _chunk_cost(sweep: _Sweep, sources: Sequence[Tensor], planes: Tensor) -> Tensor:
    """[h, w, D] cost of a few planes: the mean of the best share of the sources that see a pixel."""
    best: list[Tensor] = []
    keep = math.ceil(len(sources) * sweep.settings.best_share)
    count = torch.zeros((), device=planes.device)
    for s in range(len(sources)):
        cost, seen = _source_cost(sweep, sources[s], s, planes)
        count = count + seen
        _insert(best, cost, keep)
    kept = (count * sweep.settings.best_share).ceil()
    total = torch.zeros_like(best[0])
    for rank, cost in enumerate(best):
        total += torch.where(kept > rank, cost, torch.zeros_like(cost))
    return torch.where(count > 0, total / kept.clamp_min(1), torch.full_like(total, UNSEEN_COST))


def _insert(best: list[Tensor], cost: Tensor, keep: int) -> None:
    """Keep the `keep` lowest costs of every cell, in ascending order."""
    for rank, held in enumerate(best):
        best[rank], cost = torch.minimum(held, cost), torch.maximum(held, cost)
    if len(best) < keep:
        best.append(cost)


def _source_cost(sweep: _Sweep, source: Tensor, s: int, planes: Tensor) -> tuple[Tensor, Tensor]:
    """[h, w, D] cost of one source, infinite where the plane projects outside its image, and where it does not."""
    warped, seen = _warp_planes(source, sweep.rays[s], sweep.b[s], planes)
    settings = sweep.settings
    difference = torch.zeros_like(warped[0])
    for theirs, ours in zip(warped, sweep.colours, strict=True):
        difference += (theirs - ours).abs_()
    difference.div_(len(warped)).clamp_max_(settings.colour_cut)
    correlation = _correlation(sweep, warped.mean(0))
    cost = difference.mul_((1.0 - settings.correlation_share) / settings.colour_cut)
    cost.add_(settings.correlation_share).sub_(correlation, alpha=settings.correlation_share)
    return cost.masked_fill_(~seen, math.inf), seen


def _warp_planes(source: Tensor, rays: Tensor, b: Tensor, planes: Tensor) -> tuple[Tensor, Tensor]:
    """Source image [3, h', w'] seen through each plane: [3, h, w, D], and whether it is inside: [h, w, D]."""
    h, w = rays.shape[1:3]
    height, width = source.shape[-2:]
    unit = 2.0 / (rays[2] + b[2] * planes).clamp_min_(1e-6)  # what is behind the camera lands far outside
    x = (rays[0] + b[0] * planes).mul_(unit).div_(width).sub_(1)
    y = (rays[1] + b[1] * planes).mul_(unit).div_(height).sub_(1)
    grid = x.new_empty(*x.shape, 2)
    grid[..., 0], grid[..., 1] = x, y
    seen = torch.maximum(x.abs_(), y.abs_()) <= 1
    # As one row of points: rows as short as the planes are many cost grid_sample twice the time.
    warped = F.grid_sample(source[None], grid.view(1, 1, -1, 2), padding_mode="border", align_corners=False)
    return warped[0].view(-1, h, w, len(planes)), seen


def _correlation(sweep: _Sweep, warped: Tensor) -> Tensor:
    """Zero-normalised cross-correlation in windows: grey [h, w, D] -> [h, w, D] in [-1, 1]."""
    r, border = sweep.settings.window, sweep.border
    mean = _box(warped, r).mul_(border)
    covariance = _box(warped * sweep.grey, r).mul_(border).sub_(mean * sweep.mean)
    variance = (
        _box(warped * warped, r).mul_(border).sub_(mean.square_()).clamp_min_(0).add_(sweep.settings.contrast_floor)
    )
    return covariance.mul_(variance.mul_(sweep.variance).rsqrt_()).clamp_(-1, 1)


def _box(maps: Tensor, radius: int) -> Tensor:
    """Mean of zero-padded (2 radius + 1)^2 windows of [h, w, D]: a depthwise convolution, planes innermost."""
    side = 2 * radius + 1
    planes = maps.shape[-1]
    kernel = maps.new_full((planes, 1, side, side), 1.0 / side**2)
    batch = maps[None].permute(0, 3, 1, 2)  # in this order: another stride of the batch is no fast layout
    return F.conv2d(batch, kernel, padding=radius, groups=planes)[0].permute(1, 2, 0)
