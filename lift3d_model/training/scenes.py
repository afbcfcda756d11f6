"""Cached scenes: arrays in a folder, memory-mapped, and the views of each that are trained on or held out.

SCENE/scene.json            name, [H, W] of every view
SCENE/images.npy            [V, 3, H, W] uint8 RGB, padded at the right and bottom
SCENE/K.npy, poses.npy      [V, 3, 3], [V, 4, 4] float64
SCENE/sizes.npy             [V, 2] true (height, width)
SCENE/sources.npy           [V, N] view indices, best first, -1 where there are fewer
SCENE/depth.npy             [V, H, W] float16 sensor depth, 0 = none; absent for scenes without any
SCENE/swept.npy             [V, 2, H, W] float16 swept depth and its spread; absent where nothing was swept
SCENE/features_<name>.npy   [V, C, h, w] float16 of one operator, and its stride in scene.json
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lift3d_model.views import Views


@dataclass(frozen=True)
class CachedScene:
    """One scene of the cache.

    Attributes:
        folder: its arrays.
        name: the scene's id, unique in a cache.
        strides: feature maps by name, with image pixels a cell.
        targets: views that this part of the data predicts; pool: views that it may look at.
    """

    folder: Path
    name: str
    strides: Mapping[str, int] = field(hash=False)
    targets: tuple[int, ...]
    pool: frozenset[int]

    def array(self, name: str) -> NDArray[np.generic]:
        """One array, memory-mapped."""
        array: NDArray[np.generic] = np.load(self.folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
        return array

    def has(self, name: str) -> bool:
        """Whether the scene has that array."""
        return (self.folder / f"{name}.npy").exists()

    def tensor(self, name: str, indices: Sequence[int], device: torch.device | None = None) -> Tensor:
        """Rows of an array as float32 (float64 and integers as they are)."""
        rows = torch.from_numpy(np.ascontiguousarray(self.array(name)[list(indices)]))
        return (rows.float() if rows.dtype in (torch.float16, torch.uint8) else rows).to(device)

    def views(self, indices: Sequence[int], device: torch.device | None = None) -> Views:
        """Some views, in the order given."""
        return Views(
            images=self.tensor("images", indices, device) / 255,
            K=self.tensor("K", indices, device),
            world_from_cam=self.tensor("poses", indices, device),
            sizes=self.tensor("sizes", indices, device),
        )

    def sources(self, target: int) -> list[int]:
        """Source views of a target that may be looked at, best first."""
        return [int(s) for s in self.array("sources")[target] if int(s) in self.pool and int(s) != target]


def open_cache(cache: Path) -> tuple[list[CachedScene], list[CachedScene]]:
    """Training and held-out parts of every finished scene in a cache folder, by the split in its `split.json`.

    A scene that is held out as a whole is in the second list only; of one that is split by views, the first
    `train_views` are trained on and the others are predicted, from any view, in validation.
    """
    split = json.loads((cache / "split.json").read_text(encoding="utf-8"))
    train, dev = [], []
    for name in sorted(split):
        folder = cache / name
        facts = json.loads((folder / "scene.json").read_text(encoding="utf-8"))
        views, first = range(facts["views"]), int(split[name])
        if first > 1:
            train.append(CachedScene(folder, name, facts["strides"], tuple(views[:first]), frozenset(views[:first])))
        if first < len(views):
            dev.append(CachedScene(folder, name, facts["strides"], tuple(views[first:]), frozenset(views)))
    return train, dev
