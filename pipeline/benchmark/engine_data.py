"""What the engines are measured on: a room many times over, scenes of any length, and an operator that costs nothing.

The long scenes are of a round room. Views of one ring around its axis all see the same picture at the same depths, so a
handful of files, linked under many names, makes thousands of views whose geometry is exact.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from time import sleep
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from schemas.label_sets import LabelSet, label_set
from schemas.scene import FrameBatch
from schemas.store import Kind

if TYPE_CHECKING:
    from torch import Tensor

RADIUS, HEIGHT = 3.0, 2.6
"""The round room, in metres."""
RINGS = ((0.8, 1.2, 0.0), (1.3, 1.5, 0.9), (0.4, 1.8, 2.2), (1.7, 1.4, 3.0), (1.1, 1.0, -1.3))
"""Distance from the axis, height above the floor, and direction of view relative to outwards, of each ring of views."""
MILLIMETRES = 1000


def many_rooms(source: Path, folder: Path, count: int) -> Path:
    """FOLDER with a scene (its folder) `count` times under different names, linked where the disk can."""
    for k in range(count):
        shutil.copytree(source, folder / f"{source.name}_{k:02d}", copy_function=_linked, dirs_exist_ok=True)
    return folder


def round_rooms(folder: Path, scenes: Mapping[str, int], size: tuple[int, int]) -> Path:
    """FOLDER with scenes (name -> number of views) of the round room, images of (height, width), depth included."""
    views = [_view(ring, size) for ring in RINGS]
    for name, count in scenes.items():
        scene = folder / name
        scene.mkdir(parents=True, exist_ok=True)
        for i in range(count):
            for k, kind in enumerate(("rgb", "depth")):
                path = scene / f"{kind}-{i}.png"
                if i < len(RINGS):
                    cv2.imwrite(str(path), views[i][k])
                else:
                    _linked(str(scene / f"{kind}-{i % len(RINGS)}.png"), str(path))
        (scene / "transforms.json").write_text(json.dumps(_transforms(count, size)), encoding="utf-8")
    return folder


class Bands:
    """Says of a pixel which of the first classes of NYU40 it is, by its brightness. Costs what it is told to cost.

    Args:
        seconds: how long it sleeps for each image.
    """

    name = "bands"
    stride = 4
    kind: Kind = "classes"
    label_set: LabelSet | None = label_set("nyu40")

    def __init__(self, seconds: float = 0.0) -> None:
        self._seconds = seconds

    def encode(self, batch: FrameBatch[Tensor]) -> Tensor:
        """Images [B, 3, H, W] -> brightness [B, 1, ceil(H / 4), ceil(W / 4)]."""
        import torch

        sleep(self._seconds * len(batch.frames))
        return torch.nn.functional.avg_pool2d(batch.images.mean(1, keepdim=True), self.stride, ceil_mode=True)

    def decode(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        """[B, 1, h, w] -> scores [B, K, H, W], highest where a class's brightness is the pixel's."""
        import torch

        assert self.label_set is not None
        classes = torch.linspace(0, 1, len(self.label_set.ids), device=features.device)
        scores = 1 - (features - classes[:, None, None]).abs()
        return torch.nn.functional.interpolate(scores, size, mode="nearest")

    def fingerprint(self) -> str:
        """The seconds do not count."""
        return "bands"


def _linked(source: str, target: str) -> str:
    """A hard link, or a copy where the disk has none."""
    if not Path(target).exists():
        try:
            os.link(source, target)
        except OSError:
            shutil.copy2(source, target)
    return target


def _transforms(count: int, size: tuple[int, int]) -> dict[str, object]:
    """Cameras in the layout of nerfstudio (OpenGL axes)."""
    height, width = size
    frames = []
    for i in range(count):
        ring = RINGS[i % len(RINGS)]
        pose = _pose(ring, 2 * np.pi * i / count) @ np.diag([1.0, -1.0, -1.0, 1.0])
        paths = {"file_path": f"rgb-{i}.png", "depth_file_path": f"depth-{i}.png"}
        frames.append({**paths, "transform_matrix": pose.tolist()})
    focal = 0.8 * width
    middle = {"cx": width / 2 - 0.5, "cy": height / 2 - 0.5}  # this layout's pixel centres are at integers
    shared = {"w": width, "h": height, "fl_x": focal, "fl_y": focal, **middle}
    return {"camera_model": "OPENCV", **shared, "frames": frames}


def _pose(ring: tuple[float, float, float], angle: float) -> NDArray[np.float64]:
    """[4, 4] world_from_cam (OpenCV axes) of a ring's view at an angle around the room's axis."""
    distance, height, turn = ring
    looks = angle + turn
    pose = np.eye(4)
    forward = np.array([np.cos(looks), np.sin(looks), 0.0])
    pose[:3, :3] = np.stack([np.cross(forward, [0, 0, 1.0]), [0, 0, -1.0], forward], axis=1)
    pose[:3, 3] = distance * np.cos(angle), distance * np.sin(angle), height
    return pose


def _view(ring: tuple[float, float, float], size: tuple[int, int]) -> tuple[NDArray[np.uint8], NDArray[np.uint16]]:
    """Picture [H, W, 3] and depth [H, W] in millimetres of a ring's views: floor, wall with bands, ceiling."""
    height, width = size
    pose = _pose(ring, 0.0)
    ys, xs = np.mgrid[:height, :width] + 0.5
    rays = np.stack([(xs - width / 2) / (0.8 * width), (ys - height / 2) / (0.8 * width), np.ones(size)], axis=-1)
    directions, centre = rays @ pose[:3, :3].T, pose[:3, 3]
    flat = directions[..., :2]
    a, b = (flat**2).sum(-1), flat @ centre[:2]
    to_wall = (-b + np.sqrt(b**2 + a * (RADIUS**2 - centre[:2] @ centre[:2]))) / a
    rise = np.where(np.abs(directions[..., 2]) < 1e-9, 1e-9, directions[..., 2])
    to_level = np.where(rise > 0, HEIGHT - centre[2], -centre[2]) / rise
    depth = np.minimum(to_wall, to_level)
    level = centre[2] + depth * directions[..., 2]
    bands = 80 + 50 * (np.floor(level * 2) % 2)
    grey = np.where(to_wall < to_level, bands, np.where(rise > 0, 230, 30))
    picture = np.stack([grey, 0.9 * grey, 0.8 * grey], axis=-1).astype(np.uint8)
    return picture, np.round(depth * MILLIMETRES).astype(np.uint16)
