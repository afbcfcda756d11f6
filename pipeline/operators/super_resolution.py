"""`super_resolution:PATH`: the image drawn again from a smaller one by a super-resolution network in ncnn form.

A store keeps every prediction at its image's size. So the network sees the image `scale` times smaller and gives it
back at full size. To gain pixels, resize the dataset's images (and intrinsics) by `scale` first.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipeline.operators.grid import upsample
from pipeline.operators.ncnn_network import NcnnNetwork
from pipeline.operators.pixels import smaller
from schemas.errors import ConfigError, ContractError
from schemas.store import Kind

if TYPE_CHECKING:
    from torch import Tensor

    from schemas.scene import FrameBatch

VERSION = 1
"""Version of what encode computes; part of the fingerprint."""


class SuperResolution:
    """The image at its own size, in [0, 1].

    Args:
        path: the network's `.param` file, with the `.bin` of the same name beside it (Real-ESRGAN's, for example).
        scale: how many times the network enlarges.
        layers: names of its input, RGB in [0, 1], and its output.

    Raises MissingWeightsError where a file or the package ncnn is missing.
    """

    name = "super-resolution"
    kind: Kind = "image"
    label_set = None
    stride = 1

    def __init__(self, path: str, *, scale: int = 2, layers: tuple[str, str] = ("data", "output")) -> None:
        if type(scale) is not int or scale < 1:
            raise ConfigError(f"super_resolution: scale is {scale!r}, expected a whole number, 1 or more")
        graph = Path(path).expanduser()
        self._network = NcnnNetwork(graph, graph.with_suffix(".bin"), "super_resolution")
        self._scale, (self._input, self._output) = scale, layers

    def encode(self, batch: FrameBatch[Tensor]) -> Tensor:
        """Images [B, 3, H, W] drawn from ones that are `scale` times smaller."""
        import torch

        height, width = batch.images.shape[-2:]
        small = smaller(batch.images, self._scale).cpu().numpy().astype(np.float32)
        drawn = torch.stack([torch.from_numpy(self._network.run({self._input: one}, self._output)) for one in small])
        expected = (3, small.shape[-2] * self._scale, small.shape[-1] * self._scale)
        if drawn.shape[1:] != expected:
            raise ContractError(f"super_resolution: the network drew {list(drawn.shape[1:])}, expected {expected}")
        return drawn[..., :height, :width].clamp(0, 1).to(batch.images.device)

    def decode(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        """Colours in [0, 1]."""
        return upsample(features, self.stride, size).clamp(0, 1)

    def fingerprint(self) -> str:
        """Weights and settings."""
        return f"super_resolution:{VERSION}:{self._network.digest}:{self._scale}:{self._input}:{self._output}"
