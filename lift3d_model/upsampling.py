"""Maps of working resolution at the image's own: an image edge decides on which side of a depth edge a pixel is."""

from __future__ import annotations

import torch
from torch import Tensor

from lift3d_model.geometry import pixel_centres

COLOUR_SCALE = 0.08
"""RGB distance at which a working pixel's say falls to exp(-1/2)."""


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
    x, y = (
        pixel_centres(height, width, device=maps.device).float().T * maps.new_tensor([[w / width], [h / height]])
    ) - 0.5
    left, top = x.floor(), y.floor()
    found, total = torch.zeros(len(maps), height * width, device=maps.device), torch.zeros(1, device=maps.device)
    flat, flat_small, pixels = maps.flatten(1), small.flatten(1), image.flatten(1)
    for dx in (0, 1):
        for dy in (0, 1):
            near = (1 - (left + dx - x).abs()) * (1 - (top + dy - y).abs())
            index = ((top + dy).clamp(0, h - 1) * w + (left + dx).clamp(0, w - 1)).long()
            distance = (flat_small[:, index] - pixels).square().sum(0)
            weight = near * torch.exp(-0.5 * distance / COLOUR_SCALE**2) + 1e-4 * near
            found += flat[:, index] * weight
            total = total + weight
    return (found / total).view(-1, height, width)
