"""The views of a chunk as tensors, and what Stage I believes about their depth."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from lift3d_model.proposal import Sweeps

SENSOR_SPREAD = 0.01
"""Relative spread taken for sensor depth."""
COARSE = 4
"""Pixels a cell of the coarse colours."""


@dataclass(frozen=True)
class Views:
    """V posed images of one scene.

    Attributes:
        images: [V, 3, H, W] float RGB in [0, 1]; smaller images are padded at the right and bottom.
        K: [V, 3, 3] float64 intrinsics in pixels.
        world_from_cam: [V, 4, 4] float64 rigid motions.
        sizes: [V, 2] int64 true (height, width) of each image.
    """

    images: Tensor
    K: Tensor
    world_from_cam: Tensor
    sizes: Tensor

    @property
    def device(self) -> torch.device:
        """Where the views live."""
        return self.images.device

    @cached_property
    def coarse(self) -> tuple[Tensor, Tensor]:
        """[V, 3, h, w] colours averaged over cells of COARSE pixels; [H W] int32 flat index of each pixel's cell."""
        small = F.avg_pool2d(self.images, COARSE, ceil_mode=True, count_include_pad=False)
        height, width = self.images.shape[-2:]
        row, column = (torch.arange(n, dtype=torch.int32, device=self.device) // COARSE for n in (height, width))
        return small, (row[:, None] * small.shape[-1] + column).flatten()

    def __len__(self) -> int:
        return self.images.shape[0]


@dataclass(frozen=True, slots=True)
class Depths:
    """Depth beliefs of V views: one mode and its spread a pixel.

    Attributes:
        mode: [V, H, W] z-depth in scene units, 0 = unknown.
        spread: [V, H, W] standard deviation relative to the depth (0.01 = one per cent).
        trust: [V, H, W] in [0, 1]: how far the mode is confirmed by other views; 1 for sensor depth.
        sweeps: what swept depth was read from, for its correction by other views; None where nobody swept.
        own: a view that is looked at as a target and its belief [3, H, W] as such, which its sources had a say in; as a
            source for others, every view is what `mode`, `spread` and `trust` say.
    """

    mode: Tensor
    spread: Tensor
    trust: Tensor
    sweeps: Sweeps | None = None
    own: tuple[int, Tensor] | None = None

    def belief(self, target: int) -> Tensor:
        """[3, H, W]: mode, spread and trust of a view that is looked at as a target."""
        if self.own is not None and self.own[0] == target:
            return self.own[1]
        return torch.stack([self.mode[target], self.spread[target], self.trust[target]])

    def with_belief(self, target: int, belief: Tensor) -> Depths:
        """The same depths, with a target's belief [3, H, W] of its own."""
        return replace(self, own=(target, belief))


def sensor_depths(depth: Tensor, spread: float = SENSOR_SPREAD) -> Depths:
    """Depths measured by a sensor ([V, H, W], 0 = no reading), trusted where there is a reading."""
    known = (depth > 0).to(depth.dtype)
    return Depths(mode=depth, spread=torch.full_like(depth, spread), trust=known)
