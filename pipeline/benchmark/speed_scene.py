"""The scene that speed is measured on, at any image size, and the two operators whose values are lifted there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from pipeline.assets import decode_image
from pipeline.benchmark.scenes import BenchScene, Ids
from pipeline.evaluation.spoil import spoil
from pipeline.readers import load_scene, open_dataset
from schemas.config import ReaderConfig
from schemas.errors import DatasetError
from schemas.label_sets import LabelSet
from schemas.scene import Asset, Frame, FrameBatch, Scene
from schemas.store import Kind

if TYPE_CHECKING:
    from torch import Tensor

STRIDE = 14
"""Image pixels a feature cell: that of the usual vision transformers."""
SEED = 7


def scene_at_size(source: str, size: tuple[int, int], views: int | None, folder: Path) -> Scene:
    """The dataset's first scene with images resized to (height, width); depth maps stay as they are.

    Args:
        views: at most this many views, the first ones.
        folder: where resized images go; what is there is used again.

    Raises `DatasetError` where there is no scene or frame that can be used.
    """
    scene = load_scene(open_dataset(source, ReaderConfig())[0], ReaderConfig())
    if len(scene.frames) < 2:
        raise DatasetError(f"{len(scene.frames)} usable frames, at least 2 are needed", scene=scene.id)
    place = folder / f"{size[1]}x{size[0]}"
    place.mkdir(parents=True, exist_ok=True)
    frames = [_resized(frame, size, place / f"{v}.png") for v, frame in enumerate(scene.frames[:views])]
    return replace(scene, frames=tuple(frames))


def inconsistent_predictions(scene: Scene, folder: Path) -> Path:
    """Write what a 2D model with view-inconsistent mistakes would predict: FOLDER/{scene}/{frame}.png.

    Raises `DatasetError` where the scene has no ground truth with object ids.
    """
    everything = tuple(range(len(scene.frames)))
    bench = BenchScene("", scene, everything, everything, ReaderConfig())
    (folder / scene.id).mkdir(parents=True, exist_ok=True)
    for v, (frame, truth, objects) in enumerate(zip(scene.frames, bench.truth, bench.objects, strict=True)):
        path = folder / scene.id / f"{frame.id}.png"
        if not path.exists():
            spoiled = spoil(_signed(truth), _signed(objects), np.random.default_rng([SEED, v]))
            cv2.imwrite(str(path), spoiled)
    return folder


class Waves:
    """Dense features of any channel count that vary with the image: waves of mean colours. They mean nothing.

    Args:
        channels: C.
    """

    name = "waves"
    stride = STRIDE
    kind: Kind = "features"
    label_set: LabelSet | None = None

    def __init__(self, channels: int) -> None:
        self.channels = channels

    def encode(self, batch: FrameBatch[Tensor]) -> Tensor:
        """Images [B, 3, H, W] -> [B, C, ceil(H / 14), ceil(W / 14)]."""
        import torch

        cells = torch.nn.functional.avg_pool2d(batch.images, STRIDE, ceil_mode=True)
        directions = torch.randn(self.channels, 3, generator=torch.Generator().manual_seed(SEED))
        return torch.einsum("kc,bchw->bkhw", 5 * directions.to(cells.device), cells).sin()

    def decode(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        """The features as they are."""
        return features

    def fingerprint(self) -> str:
        """The channel count."""
        return f"waves-{self.channels}"


def _resized(frame: Frame, size: tuple[int, int], path: Path) -> Frame:
    if not path.exists():
        image = cv2.resize(decode_image(frame.image, frame.camera), size[::-1], interpolation=cv2.INTER_AREA)
        cv2.imwrite(str(path), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    camera = frame.camera.resized(*size)
    depth_camera = frame.depth_camera or (frame.camera if frame.depth else None)
    return replace(frame, camera=camera, image=Asset(str(path)), depth_camera=depth_camera)


def _signed(ids: Ids) -> np.ndarray:
    return ids.astype(np.int32)
