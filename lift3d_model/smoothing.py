"""Semi-global smoothing of a cost volume: piecewise smooth depth that may jump at image edges.

After Hirschmueller, "Stereo processing by semiglobal matching and mutual information" (PAMI 2008), eq. 13: along each
of eight directions r, L(p, d) = C(p, d) + min(L(q, d), L(q, d +- 1) + P1, min_k L(q, k) + P2) - min_k L(q, k) with
q = p - r.
P2 falls where the image has an edge between q and p.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

DIRECTIONS = ((0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (-1, -1), (1, -1), (-1, 1))


@dataclass(frozen=True, slots=True)
class SmoothingSettings:
    """Penalties in units of the matching cost."""

    slope: float = 0.2
    """P1: one plane's step."""
    jump: float = 2.5
    """P2: any larger step, in a flat part of the image."""
    edge: float = 0.08
    """Colour difference (0..1) at which the jump costs 1/e of that."""


def semi_global(cost: Tensor, image: Tensor, settings: SmoothingSettings) -> Tensor:
    """Smoothed cost volume: cost [D, h, w], image [3, h, w] -> [D, h, w]."""
    volume = cost.permute(1, 2, 0).contiguous()
    total = torch.zeros_like(volume)
    for dy, dx in DIRECTIONS:
        if dy == 0:
            _scan(volume.transpose(0, 1), image.transpose(1, 2), dx, 0, settings, total.transpose(0, 1))
        else:
            _scan(volume, image, dy, dx, settings, total)
    return (total / len(DIRECTIONS)).permute(2, 0, 1)


def _scan(volume: Tensor, image: Tensor, step: int, shift: int, settings: SmoothingSettings, total: Tensor) -> None:
    """Add one direction's path costs to `total`: rows of volume [h, w, D] in order `step`, each shifted by `shift`."""
    rows = range(volume.shape[0]) if step > 0 else range(volume.shape[0] - 1, -1, -1)
    path: Tensor | None = None
    for y in rows:
        if path is None:
            path = volume[y]
        else:
            contrast = (image[:, y] - _shifted(image[:, y - step], shift, 1)).abs().mean(0)
            jump = settings.slope + settings.jump * torch.exp(-contrast / settings.edge)
            fresh = _extend(volume[y], _shifted(path, shift, 0), settings.slope, jump[:, None])
            path = _restart_border(fresh, volume[y], shift)
        total[y] += path


def _extend(cost: Tensor, previous: Tensor, slope: float, jump: Tensor) -> Tensor:
    """Equation 13 for one row: cost and previous path costs [w, D], jump [w, 1]."""
    lowest = previous.min(dim=1, keepdim=True).values
    best = torch.minimum(previous, lowest + jump)
    best[:, 1:] = torch.minimum(best[:, 1:], previous[:, :-1] + slope)
    best[:, :-1] = torch.minimum(best[:, :-1], previous[:, 1:] + slope)
    return cost + best - lowest


def _shifted(row: Tensor, shift: int, dim: int) -> Tensor:
    return torch.roll(row, shift, dim) if shift else row


def _restart_border(path: Tensor, cost: Tensor, shift: int) -> Tensor:
    """Diagonal paths that enter at the image's side begin there."""
    if shift:
        column = 0 if shift > 0 else -1
        path[column] = cost[column]
    return path
