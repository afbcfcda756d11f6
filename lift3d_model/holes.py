"""Holes in sensor depth: filled with what other views measured there, else from nearby readings of like colour."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from lift3d_model.fusion import NOWHERE, vote
from lift3d_model.rendering import shown_depth
from lift3d_model.views import SENSOR_SPREAD, Views

AGREEMENT = 0.02
"""Relative difference (one standard deviation) within which two views' readings are of one surface."""
SHOWN_TRUST, GROWN_TRUST = 0.6, 0.3
"""Trust in a depth that two other views measured, and in one that was guessed from its surroundings."""
GROWN_SPREAD = 0.06
"""Relative spread of the latter."""
COLOUR_SCALE = 0.06
"""RGB distance at which a neighbour's say falls to exp(-1/2)."""
NEIGHBOURS = tuple((dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if dy or dx)


def fill_holes(views: Views, depth: Tensor, target: int, sources: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
    """Depth of a target whose sensor missed some of it, at working resolution.

    Args:
        views: at working resolution; depth: [V, h, w] z-depth of each view by itself, 0 = unknown.

    Returns:
        depth, relative spread and trust [h, w] of the target's own image: its readings as they are, and the fillings;
        depth is 0 where there is nothing to go by.
    """
    height, width = views.sizes[target].tolist()
    own = depth[target, :height, :width]
    found, spread, trust = own.clone(), torch.full_like(own, SENSOR_SPREAD), (own > 0).to(own.dtype)
    shown = [shown_depth(views, depth, target, s)[:height, :width] for s in sources]
    if shown:
        elsewhere, support, disagreement = _agreed(torch.stack(shown))
        new = (own == 0) & (elsewhere > 0)
        found = torch.where(new, elsewhere, found)
        spread = torch.where(new, 2 * SENSOR_SPREAD + disagreement, spread)
        trust = torch.where(new, SHOWN_TRUST * (support / 2).clamp_max(1), trust)
    grown = _grow(found, views.images[target, :, :height, :width])
    new = (found == 0) & (grown > 0)
    return grown, spread.masked_fill(new, GROWN_SPREAD), trust.masked_fill(new, GROWN_TRUST)


def _agreed(shown: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The depth that most of [S, h, w] readings share, how many do, and their relative standard deviation: [h, w]."""
    levels = shown.clamp_min(1e-9).log() / AGREEMENT
    voted = vote(torch.where(shown > 0, levels, torch.full_like(levels, NOWHERE)), (shown > 0).to(shown.dtype))
    depth = torch.where(voted.support > 0, (voted.mean * AGREEMENT).exp(), torch.zeros_like(voted.mean))
    return depth, voted.support, voted.deviation * AGREEMENT


def _grow(depth: Tensor, image: Tensor) -> Tensor:
    """Readings [h, w] spread pixel by pixel into the holes (0), along like colours of an image [3, h, w]."""
    likeness = torch.stack([_likeness(image, dy, dx) for dy, dx in NEIGHBOURS])
    inverse = torch.where(depth > 0, 1.0 / depth.clamp_min(1e-9), torch.zeros_like(depth))
    known = (depth > 0).to(depth.dtype)
    while bool((known == 0).any()):
        around = torch.stack([_shifted(torch.stack([inverse * known, known]), dy, dx) for dy, dx in NEIGHBOURS])
        total, weight = (likeness[:, None] * around).sum(0)
        new = (known == 0) & (weight > 0)
        if not bool(new.any()):
            break
        inverse = torch.where(new, total / weight.clamp_min(1e-12), inverse)
        known = torch.where(new, torch.ones_like(known), known)
    return torch.where(known > 0, 1.0 / inverse.clamp_min(1e-9), torch.zeros_like(depth))


def _likeness(image: Tensor, dy: int, dx: int) -> Tensor:
    distance = (_shifted(image, dy, dx) - image).square().sum(0)
    return torch.exp(-0.5 * distance / COLOUR_SCALE**2).clamp_min(1e-6)


def _shifted(maps: Tensor, dy: int, dx: int) -> Tensor:
    """[C, h, w] whose pixel (i, j) holds (i + dy, j + dx), 0 outside."""
    h, w = maps.shape[-2:]
    return F.pad(maps, (1, 1, 1, 1))[..., 1 + dy : 1 + dy + h, 1 + dx : 1 + dx + w]
