"""Fetching map values at pixels: bilinear for colours and features, nearest for ids and depth.

A map of stride s has its cell (i, j) centred on image pixel ((j + 0.5) s, (i + 0.5) s), i.e. u_f = (u + 0.5) / s - 0.5
in integer-centred coordinates; `align_corners=False` with extents [0, w s] x [0, h s] is exactly that.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def sample_bilinear(maps: Tensor, pixels: Tensor, stride: float = 1.0) -> Tensor:
    """Bilinear values, clamped to the outermost cell centres at the border.

    Args:
        maps: [S, C, h, w]; pixels: [S, N, 2] image pixels.

    Returns:
        [S, C, N].
    """
    h, w = maps.shape[-2:]
    extent = pixels.new_tensor([w * stride, h * stride])
    grid = (2.0 * pixels / extent - 1.0)[:, None].to(maps.dtype)
    return F.grid_sample(maps, grid, mode="bilinear", padding_mode="border", align_corners=False)[:, :, 0]


def nearest_index(pixels: Tensor, height: int, width: int) -> Tensor:
    """Flat index [...] int32 into a [height * width] map of the pixel that contains each point [..., 2] (clamped)."""
    return flat_index(pixels[..., 0], pixels[..., 1], height, width)


def flat_index(x: Tensor, y: Tensor, height: int, width: int) -> Tensor:
    """`nearest_index` of points whose coordinates lie apart."""
    row, column = y.floor().clamp_(0, height - 1), x.floor().clamp_(0, width - 1)
    return row.int().mul_(width).add_(column.int())


def pick(maps: Tensor, chosen: Tensor, index: Tensor) -> Tensor:
    """Values of some of V flattened maps: maps [V, H, W], chosen [E] among them, flat index [E, N] -> [E, N].

    Map by map, without copying any: each fits a core's cache where all of them do not.
    """
    found = maps.new_empty(index.shape)
    for values, v, places in zip(found, chosen.tolist(), index, strict=True):
        torch.index_select(maps[v].flatten(), 0, places, out=values)
    return found


def pick_colours(images: Tensor, chosen: Tensor, index: Tensor) -> Tensor:
    """`pick` for images: [V, 3, H, W], [E], [E, N] -> [E, 3, N]."""
    return torch.stack([pick(channel, chosen, index) for channel in images.unbind(1)], dim=1)


def resize_mean(images: Tensor, height: int, width: int) -> Tensor:
    """Area-average images [V, C, H, W] down to (height, width); bilinear where that is an enlargement."""
    if height <= images.shape[-2] and width <= images.shape[-1]:
        return F.interpolate(images, size=(height, width), mode="area")
    return F.interpolate(images, size=(height, width), mode="bilinear", align_corners=False)


def upsample(maps: Tensor, height: int, width: int) -> Tensor:
    """Bilinear [V, h, w] -> [V, height, width], pixel-centre exact."""
    return F.interpolate(maps[:, None], size=(height, width), mode="bilinear", align_corners=False)[:, 0]


def box_mean(maps: Tensor, radius: int) -> Tensor:
    """Mean over (2 radius + 1)^2 windows of [N, C, H, W], cut at the border."""
    return F.avg_pool2d(maps, 2 * radius + 1, stride=1, padding=radius, count_include_pad=False)


def pad_to(tensor: Tensor, height: int, width: int, value: float = 0.0) -> Tensor:
    """Pad [..., H, W] with a value at the bottom and right."""
    return F.pad(tensor, (0, width - tensor.shape[-1], 0, height - tensor.shape[-2]), value=value)


def stack_padded(tensors: list[Tensor]) -> Tensor:
    """Stack [..., H_i, W_i] of differing sizes into [N, ..., H, W], zero-padded at the bottom and right."""
    height = max(t.shape[-2] for t in tensors)
    width = max(t.shape[-1] for t in tensors)
    return torch.stack([pad_to(t, height, width) for t in tensors])
