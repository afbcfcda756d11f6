"""Training material of the `indoor` head: cells of augmented views, encoded once by the frozen backbone and cached."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.assets import decode_image
from pipeline.operators.vit import PATCH
from pipeline.operators.vit_features import block_features
from pipeline.readers import ground_truth, load_scene, open_dataset
from schemas.config import ReaderConfig
from schemas.errors import DatasetError
from schemas.scene import Frame

if TYPE_CHECKING:
    from torch import Tensor, nn

Pixels = NDArray[np.uint8]
Ids = NDArray[np.uint16]
CROP = (24, 32)
"""Largest crop in cells."""
SCALES = (1.0, 2.4)
"""Views are enlarged by a factor in this range (log-uniform): nearer objects, finer cells."""
CELLS = 256
"""Cells kept of each crop, at random."""


@dataclass(frozen=True, slots=True)
class View:
    """One labelled picture of a scene."""

    scene: str
    frame: Frame


@dataclass(frozen=True, slots=True)
class Cells:
    """Training material: N cells of each of V augmented views.

    Attributes:
        features: [V, N, C] float16, the backbone's blocks, each normalised.
        shares: [V, N, 41] float16, how much of the cell each NYU40 id covers.
    """

    features: Tensor
    shares: Tensor


def list_views(rooms: str) -> list[View]:
    """Views with ground truth of all scenes of the dataset at `rooms`. Raises DatasetError where there is none."""
    config = ReaderConfig()
    scenes = [load_scene(reference, config) for reference in open_dataset(rooms, config)]
    views = [View(scene.id, frame) for scene in scenes for frame in scene.frames if frame.label is not None]
    if not views:
        raise DatasetError(f"{rooms} holds no labelled frames", remedy="training needs ground truth")
    return views


def read_view(view: View) -> tuple[Pixels, Ids]:
    """RGB [H, W, 3] and NYU40 ids [H, W], 0 where there is no label."""
    image = decode_image(view.frame.image, view.frame.camera)
    label = ground_truth(view.frame, ReaderConfig())
    if label.shape != image.shape[:2]:
        raise DatasetError(f"scene {view.scene!r}, frame {view.frame.id!r}: label and image differ in size")
    return image, label


def augment(image: Pixels, label: Ids, random: np.random.Generator) -> tuple[Pixels, Ids]:
    """A randomly enlarged, cropped, mirrored and relit copy whose sides are multiples of the patch."""
    scale = float(np.exp(random.uniform(*np.log(SCALES))))
    size = (round(image.shape[1] * scale), round(image.shape[0] * scale))
    image = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR).astype(np.uint8)
    label = cv2.resize(label, size, interpolation=cv2.INTER_NEAREST_EXACT).astype(np.uint16)
    height, width = (min(side // PATCH, most) * PATCH for side, most in zip(label.shape, CROP, strict=True))
    top, left = (random.integers(0, n - m + 1) for n, m in zip(label.shape, (height, width), strict=True))
    image, label = image[top : top + height, left : left + width], label[top : top + height, left : left + width]
    if random.random() < 0.5:
        image, label = image[:, ::-1], label[:, ::-1]
    return relight(np.ascontiguousarray(image), random), np.ascontiguousarray(label)


def relight(image: Pixels, random: np.random.Generator) -> Pixels:
    """Other paint, lamps and cameras: swapped channels, exposure, tint, gamma, saturation, blur, noise and JPEG."""
    x = (image.astype(np.float32) / 255) ** np.exp(random.uniform(-0.5, 0.5))
    x *= np.exp(random.uniform(-0.4, 0.3)) * np.exp(random.uniform(-0.15, 0.15, 3))
    if random.random() < 0.6:  # any paint: no class may be known by its colour
        x = x[..., random.permutation(3)]
    grey = x.mean(2, keepdims=True)
    x = grey + (x - grey) * random.uniform(0.0, 1.5)
    x = (x - 0.5) * random.uniform(0.7, 1.3) + 0.5
    if random.random() < 0.6:
        x = cv2.GaussianBlur(x, (0, 0), random.uniform(0.3, 1.8)).astype(np.float32)
    x += random.normal(0, random.uniform(0, 0.04), x.shape)
    pixels = (x.clip(0, 1) * 255).astype(np.uint8)
    _, encoded = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, int(random.integers(35, 96))])
    return np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR), np.uint8)


def cell_shares(label: Ids) -> NDArray[np.float16]:
    """ids [h 14, w 14] -> [h w, 41]: how much of each cell each id covers."""
    h, w = (side // PATCH for side in label.shape)
    cells = label.reshape(h, PATCH, w, PATCH).transpose(0, 2, 1, 3).reshape(h * w, -1)
    counts = np.zeros((h * w, 41), np.float32)
    np.add.at(counts, (np.arange(h * w)[:, None], np.minimum(cells, 40)), 1)
    return (counts / PATCH**2).astype(np.float16)


def collect(views: Sequence[View], backbone: nn.Module, blocks: Sequence[int], passes: int, cache: Path) -> Cells:
    """Encode `passes` augmented copies of every view; one cache file a scene and pass; resumable."""
    import torch
    from safetensors.torch import load_file, save_file

    cache.mkdir(parents=True, exist_ok=True)
    parts = []
    for number in range(passes):
        for scene in sorted({view.scene for view in views}):
            path = cache / f"{scene}-{number}.safetensors"
            if not path.exists():
                members = [view for view in views if view.scene == scene]
                save_file(_encode_scene(members, backbone, blocks, number), f"{path}.part")
                Path(f"{path}.part").rename(path)
            parts.append(load_file(path))
    return Cells(*(torch.cat([part[name] for part in parts]) for name in ("features", "shares")))


def _encode_scene(views: Sequence[View], backbone: nn.Module, blocks: Sequence[int], number: int) -> dict[str, Tensor]:
    import torch

    random = np.random.default_rng([number, zlib.crc32(views[0].scene.encode())])
    features, shares = [], []
    for view in views:
        image, label = augment(*read_view(view), random)
        encoded = block_features(backbone, torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255, blocks)
        chosen = random.permutation(encoded.shape[2] * encoded.shape[3])[:CELLS]
        features.append(encoded[0].flatten(1).T[chosen].half())
        shares.append(torch.from_numpy(cell_shares(label)[chosen]))
    return {"features": torch.stack(features), "shares": torch.stack(shares)}
