"""Batches of images with plausible cameras."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from schemas.camera import Camera
from schemas.scene import FrameBatch

MakeBatch = Callable[..., FrameBatch[torch.Tensor]]


@pytest.fixture
def make_batch() -> MakeBatch:
    """make_batch(images [B, 3, H, W] or (B, H, W), frames=None) -> FrameBatch of scene "room"."""

    def make(
        images: torch.Tensor | tuple[int, int, int], frames: tuple[str, ...] | None = None
    ) -> FrameBatch[torch.Tensor]:
        if isinstance(images, tuple):
            count, height, width = images
            images = torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(7))
        count, _, height, width = images.shape
        K = np.array([[width, 0, width / 2], [0, width, height / 2], [0, 0, 1.0]])
        cameras = tuple(Camera(K, np.eye(4), height, width) for _ in range(count))
        return FrameBatch(images, "room", frames or tuple(str(n) for n in range(count)), cameras)

    return make
