"""Maps of working resolution at the image's own: an image edge decides on which side of a depth edge a pixel is."""

from __future__ import annotations

import torch
from torch import Tensor

COLOUR_SCALE = 0.08
"""RGB distance at which a working pixel's say falls to exp(-1/2)."""
LEAST_SAY = 1e-4
"""What is left of it at any distance: where no colour fits, the nearest pixels decide."""


def guided_upsample(maps: Tensor, small: Tensor, image: Tensor) -> Tensor:
    """Bilinear weights times colour likeness.

    Args:
        maps: [C, h, w]; small: [3, h, w] the image at their resolution; image: [3, H, W].

    Returns:
        [C, H, W].
    """
    (h, w), (height, width) = maps.shape[-2:], image.shape[-2:]
    if (h, w) == (height, width):
        return maps
    both = torch.cat([maps, small])
    y, x = (_positions(a, b, maps.device) for a, b in ((h, height), (w, width)))
    found, total = torch.zeros(len(maps), height, width, device=maps.device), torch.zeros(1, device=maps.device)
    for dy in (0, 1):
        row = y.floor() + dy
        rows = both.index_select(1, row.clamp(0, h - 1).long())
        for dx in (0, 1):
            column = x.floor() + dx
            taken = rows.index_select(2, column.clamp(0, w - 1).long())
            near = (1 - (row - y).abs())[:, None] * (1 - (column - x).abs())
            distance = (taken[len(maps) :] - image).square_().sum(0)
            weight = distance.mul_(-0.5 / COLOUR_SCALE**2).exp_().add_(LEAST_SAY).mul_(near)
            found += taken[: len(maps)] * weight
            total = total + weight
    return found / total


def _positions(small: int, large: int, device: torch.device) -> Tensor:
    """Where the centres of so many pixels lie in a row of fewer, in integer-centred coordinates."""
    return (torch.arange(large, device=device) + 0.5) * (small / large) - 0.5
