"""Connected regions of a class-id map: what a 2D operator saw as one thing."""

from __future__ import annotations

import torch
from torch import Tensor


def connected_regions(ids: Tensor) -> Tensor:
    """4-connected components of equal ids.

    Every pixel repeatedly takes the lowest root among its equal neighbours and then its root's root (pointer
    jumping), so the number of rounds grows with the logarithm of a region's length and everything stays on the device.

    Args:
        ids: [H, W] integers.

    Returns:
        [H * W] int64: each pixel's region, named by the flat index of the region's first pixel.
    """
    h, w = ids.shape
    root = torch.arange(h * w, device=ids.device).view(h, w)
    same_right, same_below = ids[:, 1:] == ids[:, :-1], ids[1:] == ids[:-1]
    while True:
        joined = _hook(_lowest_neighbour(root, same_right, same_below), root)
        if torch.equal(joined, root):
            return root.flatten()
        root = joined


def _lowest_neighbour(root: Tensor, same_right: Tensor, same_below: Tensor) -> Tensor:
    """[H, W]: the lowest root among a pixel and its equal 4-neighbours."""
    lowest = root.clone()
    lowest[:, 1:] = torch.where(same_right, torch.minimum(lowest[:, 1:], root[:, :-1]), lowest[:, 1:])
    lowest[:, :-1] = torch.where(same_right, torch.minimum(lowest[:, :-1], root[:, 1:]), lowest[:, :-1])
    lowest[1:] = torch.where(same_below, torch.minimum(lowest[1:], root[:-1]), lowest[1:])
    lowest[:-1] = torch.where(same_below, torch.minimum(lowest[:-1], root[1:]), lowest[:-1])
    return lowest


def _hook(lowest: Tensor, root: Tensor) -> Tensor:
    """Let each root adopt the lowest root that any of its pixels touches, then follow roots to their roots."""
    flat = root.flatten().scatter_reduce(0, root.flatten(), lowest.flatten(), "amin")
    flat = torch.minimum(flat[root.flatten()], lowest.flatten())
    for _ in range(2):
        flat = flat[flat]
    return flat.view_as(root)
