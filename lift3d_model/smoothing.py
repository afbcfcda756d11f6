"""Semi-global smoothing of a cost volume: piecewise smooth depth that may jump at image edges.

After Hirschmueller, "Stereo processing by semiglobal matching and mutual information" (PAMI 2008), eq. 13: along each
of eight directions r, L(p, d) = C(p, d) + min(L(q, d), L(q, d +- 1) + P1, min_k L(q, k) + P2) - min_k L(q, k) with
q = p - r.
P2 falls where the image has an edge between q and p.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

SHIFTS = (0, 1, -1)
"""Columns by which a path moves from row to row, straight and diagonally; the other two directions are along rows."""


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
    volume = cost.permute(1, 2, 0)
    total = _both_ways(volume, image, SHIFTS, settings)
    total += _both_ways(volume.transpose(0, 1), image.transpose(1, 2), SHIFTS[:1], settings).transpose(0, 1)
    return total.div_(2 * (len(SHIFTS) + 1)).permute(2, 0, 1)


def _both_ways(volume: Tensor, image: Tensor, shifts: Sequence[int], settings: SmoothingSettings) -> Tensor:
    """Path costs [h, w, D] down and up the rows of volume [h, w, D], summed over the shifts."""
    total = _paths(volume.contiguous(), image, shifts, settings)
    return total.add_(_paths(volume.flip(0), image.flip(1), shifts, settings).flip(0))


def _paths(volume: Tensor, image: Tensor, shifts: Sequence[int], settings: SmoothingSettings) -> Tensor:
    """Path costs [h, w, D] down the rows, summed over P shifts, which take each row together: one alone is too little
    work for an operation."""
    jumps = _jumps(image, shifts, settings)
    path = volume[0].expand(len(shifts), -1, -1)
    total = torch.empty_like(volume)
    total[0] = len(shifts) * volume[0]
    for y in range(1, len(volume)):
        path = _extend(volume[y], _shifted(path, shifts), settings.slope, jumps[y - 1])
        _restart_borders(path, volume[y], shifts)
        torch.sum(path, 0, out=total[y])
    return total


def _jumps(image: Tensor, shifts: Sequence[int], settings: SmoothingSettings) -> Tensor:
    """P2 between each row of an image [3, h, w] and the one before: [h - 1, P, w, 1]."""
    before = torch.stack([image[:, :-1].roll(shift, 2) for shift in shifts], 2)
    contrast = (image[:, 1:, None] - before).abs().mean(0)
    return (settings.slope + settings.jump * torch.exp(-contrast / settings.edge))[..., None]


def _extend(cost: Tensor, previous: Tensor, slope: float, jump: Tensor) -> Tensor:
    """Equation 13 for one row: cost [w, D], previous path costs [P, w, D], jump [P, w, 1]."""
    lowest = previous.amin(dim=2, keepdim=True)
    best, step = torch.minimum(previous, lowest + jump), previous + slope
    torch.minimum(best[..., 1:], step[..., :-1], out=best[..., 1:])
    torch.minimum(best[..., :-1], step[..., 1:], out=best[..., :-1])
    return best.sub_(lowest).add_(cost)


def _shifted(path: Tensor, shifts: Sequence[int]) -> Tensor:
    """Path costs [P, w, D], each moved by its shift."""
    if len(shifts) == 1:
        return path
    return torch.stack([one.roll(shift, 0) for one, shift in zip(path, shifts, strict=True)])


def _restart_borders(path: Tensor, cost: Tensor, shifts: Sequence[int]) -> None:
    """Diagonal paths that enter at the image's side begin there."""
    for one, shift in zip(path, shifts, strict=True):
        if shift:
            column = 0 if shift > 0 else -1
            one[column] = cost[column]
