"""Images that an operator is tried out on: drawn ones, or the first of a dataset."""

from __future__ import annotations

from typing import TYPE_CHECKING

from schemas.camera import Camera
from schemas.config import LiftConfig, ReaderConfig
from schemas.errors import DatasetError
from schemas.scene import FrameBatch

if TYPE_CHECKING:
    from torch import Tensor

FRAMES = 3
"""Images a batch."""


def drawn_batches() -> list[FrameBatch[Tensor]]:
    """Three smooth random pictures of each of two sizes, of which one is no multiple of any usual stride."""
    import numpy as np
    import torch
    from torch.nn.functional import interpolate

    batches = []
    for height, width in ((112, 112), (97, 131)):
        coarse = torch.rand(3, 3, 7, 9, generator=torch.Generator().manual_seed(height))
        images = interpolate(coarse, size=(height, width), mode="bicubic").clamp(0, 1)
        K = np.array([[width, 0, width / 2], [0, width, height / 2], [0, 0, 1.0]])
        cameras = tuple(Camera(K, np.eye(4), height, width) for _ in images)
        batches.append(FrameBatch(images, "drawn", tuple(str(n) for n in range(len(images))), cameras))
    return batches


def read_batches(source: str, reader: ReaderConfig) -> list[FrameBatch[Tensor]]:
    """The first frames of the first scene that has enough of them, for operators that go by scene and frame.

    Raises `DatasetError` where there is no such scene, and what reading raises.
    """
    import torch

    from pipeline.loading import as_images, load_view
    from pipeline.readers import load_scene, open_dataset

    for reference in open_dataset(source, reader):
        scene = load_scene(reference, reader)
        if len(scene.frames) >= FRAMES:
            views = [load_view(frame, LiftConfig(method="none")) for frame in scene.frames[:FRAMES]]
            images = torch.stack(list(as_images(views, torch.device("cpu"))))
            frames, cameras = zip(*((view.frame.id, view.frame.camera) for view in views), strict=True)
            return [FrameBatch(images, scene.id, frames, cameras)]
    raise DatasetError(f"{source!r:.200} has no scene of {FRAMES} frames", remedy="name a dataset or scene with images")
