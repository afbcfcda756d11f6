"""The exact feature grid: cell (i, j) of a map with stride s is centred on pixel ((j + 0.5) s, (i + 0.5) s)."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def grid_size(size: tuple[int, int], stride: int) -> tuple[int, int]:
    """(h, w) of the feature map of an image of `size` = (H, W): rounded up, so that cells cover every pixel."""
    return ceil(size[0] / stride), ceil(size[1] / stride)


def pad_to_stride(images: Tensor, stride: int) -> Tensor:
    """images [B, C, H, W] -> [B, C, h stride, w stride], right and bottom edges replicated."""
    from torch.nn.functional import pad

    height, width = images.shape[-2:]
    h, w = grid_size((height, width), stride)
    return pad(images, (0, w * stride - width, 0, h * stride - height), mode="replicate")


def upsample(features: Tensor, stride: int, size: tuple[int, int]) -> Tensor:
    """features [B, C, h, w] -> bilinear [B, C, H, W]; what covers the padding is cropped.

    Raises ValueError where h, w is not the grid of an image of `size` = (H, W).
    """
    from torch.nn.functional import interpolate

    h, w = grid_size(size, stride)
    if features.shape[-2:] != (h, w):
        raise ValueError(
            f"features are {tuple(features.shape[-2:])} cells, the grid of {size} px at stride {stride} is {(h, w)}"
        )
    if stride > 1:
        features = interpolate(features, size=(h * stride, w * stride), mode="bilinear", align_corners=False)
    return features[..., : size[0], : size[1]]
