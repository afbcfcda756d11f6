"""How the head of the `indoor` operator is trained: on rendered rooms, so that it has to learn shapes and not photos.

Views are augmented (scale, crop, mirror, light, colour, blur, noise, JPEG), encoded once by the frozen backbone and
cached; the head then trains on the cached cells in minutes on two cores. `jobs/train_indoor.py` runs all of it.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.operators.vit import PATCH
from schemas.errors import DatasetError

if TYPE_CHECKING:
    from torch import Tensor, nn

Pixels = NDArray[np.uint8]
CROP = (24, 32)
"""Largest crop in cells."""
SCALES = (1.0, 2.4)
"""Views are enlarged by a factor in this range (log-uniform): nearer objects, finer cells."""
CELLS = 256
"""Cells kept of each crop, at random."""


@dataclass(frozen=True, slots=True)
class View:
    """One labelled picture of a folder in ScanNet's exported layout."""

    scene: str
    color: Path
    label: Path


@dataclass(frozen=True, slots=True)
class Cells:
    """Training material: N cells of many views.

    Attributes:
        features: [N, C] float16, the backbone's blocks, each normalised.
        shares: [N, 41] float16, how much of the cell each NYU40 id covers.
    """

    features: Tensor
    shares: Tensor


def list_views(rooms: Path) -> list[View]:
    """Labelled views of all scenes in `rooms`, ordered by scene and frame. Raises DatasetError where there is none."""
    colors = sorted(rooms.glob("*/color/*.jpg"), key=lambda path: (path.parts[-3], int(path.stem)))
    views = [View(path.parts[-3], path, path.parents[1] / "label-filt" / f"{path.stem}.png") for path in colors]
    if not views:
        raise DatasetError(f"{rooms} holds no */color/*.jpg", remedy="point --rooms at scenes in ScanNet's layout")
    return views


def read_view(view: View) -> tuple[Pixels, NDArray[np.uint16]]:
    """RGB [H, W, 3] and NYU40 ids [H, W]."""
    image, label = cv2.imread(str(view.color)), cv2.imread(str(view.label), cv2.IMREAD_UNCHANGED)
    if image is None or label is None or image.shape[:2] != label.shape:
        raise DatasetError(f"{view.color} and {view.label} are not a readable pair of equal size")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB).astype(np.uint8), label.astype(np.uint16)


def augment(image: Pixels, label: NDArray[np.uint16], random: np.random.Generator) -> tuple[Pixels, NDArray[np.uint16]]:
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
    """What cameras and lamps do to a picture: exposure, tint, gamma, saturation, blur, noise and JPEG."""
    x = (image.astype(np.float32) / 255) ** np.exp(random.uniform(-0.5, 0.5))
    x *= np.exp(random.uniform(-0.4, 0.3)) * np.exp(random.uniform(-0.15, 0.15, 3))
    grey = x.mean(2, keepdims=True)
    x = grey + (x - grey) * random.uniform(0.0, 1.5)
    x = (x - 0.5) * random.uniform(0.7, 1.3) + 0.5
    if random.random() < 0.6:
        x = cv2.GaussianBlur(x, (0, 0), random.uniform(0.3, 1.8)).astype(np.float32)
    x += random.normal(0, random.uniform(0, 0.04), x.shape)
    pixels = (x.clip(0, 1) * 255).astype(np.uint8)
    _, encoded = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, int(random.integers(35, 96))])
    return np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR), np.uint8)


def cell_shares(label: NDArray[np.uint16]) -> NDArray[np.float16]:
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

    from pipeline.operators.vit_features import block_features

    random = np.random.default_rng([number, zlib.crc32(views[0].scene.encode())])
    features, shares = [], []
    for view in views:
        image, label = augment(*read_view(view), random)
        encoded = block_features(backbone, torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255, blocks)
        chosen = random.permutation(encoded.shape[2] * encoded.shape[3])[:CELLS]
        features.append(encoded[0].flatten(1).T[chosen].half())
        shares.append(torch.from_numpy(cell_shares(label)[chosen]))
    return {"features": torch.cat(features), "shares": torch.cat(shares)}
