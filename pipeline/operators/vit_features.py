"""Dense features of a timm network, image by image: blocks of a transformer or stages of a pyramid."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pipeline.operators.grid import grid_size, pad_to_stride

if TYPE_CHECKING:
    from torch import Tensor

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def normalise(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """images [B, 3, H, W] in [0, 1] -> what a network was trained on."""
    return (images - images.new_tensor(mean)[:, None, None]) / images.new_tensor(std)[:, None, None]


def fit_to_patches(images: Tensor, stride: int, patch: int) -> Tensor:
    """images [B, 3, H, W] -> [B, 3, h patch, w patch]: padded to whole cells, a cell resized to a patch."""
    from torch.nn.functional import interpolate

    h, w = grid_size((images.shape[-2], images.shape[-1]), stride)
    padded = pad_to_stride(images, stride)
    if stride == patch:
        return padded
    return interpolate(padded, size=(h * patch, w * patch), mode="bilinear", align_corners=False, antialias=True)


def block_features(
    backbone: Any,
    images: Tensor,
    blocks: Sequence[int],
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
    normalised: bool = True,
) -> Tensor:
    """images [B, 3, h patch, w patch] in [0, 1] -> [B, len(blocks) C, h, w]: blocks' cells, as a rule of unit variance.

    `backbone` is a timm model. It sees one image at a time, so that a result does not depend on its batch: matrix
    products of other sizes round differently. What comes after the last of the blocks is not computed.
    """
    import torch
    from torch.nn.functional import layer_norm

    features = []
    with torch.inference_mode():
        for image in normalise(images, mean, std).split(1):
            maps = backbone.forward_intermediates(
                image, indices=list(blocks), intermediates_only=True, output_fmt="NCHW", stop_early=True
            )
            if normalised:
                tokens = [m.permute(0, 2, 3, 1) for m in maps]
                maps = [layer_norm(t, t.shape[-1:]).permute(0, 3, 1, 2) for t in tokens]
            features.append(torch.cat(maps, dim=1))
    return torch.cat(features)
