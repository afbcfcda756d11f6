"""Small scenes to measure on: a wall with exact correspondences, and a few views of the sample room."""

from dataclasses import replace

import numpy as np
import pytest

from pipeline.benchmark.scenes import BenchScene
from pipeline.evaluation.correspondence import View
from pipeline.readers import load_scene, open_dataset
from schemas.camera import Camera
from schemas.config import ReaderConfig


@pytest.fixture(scope="session")
def wall():
    """Six views that slide along a wall by whole pixels, and their labels cut out of one texture."""
    rng = np.random.default_rng(0)
    views, labels, step, height, width = [], [], 3, 24, 32
    texture = rng.integers(0, 4, (height, width + 6 * step), dtype=np.uint8)
    K = np.array([[40.0, 0, width / 2], [0, 40, height / 2], [0, 0, 1]])
    for k in range(6):
        pose = np.eye(4)
        pose[0, 3] = k * step * 2.0 / 40
        views.append(View(Camera(K, pose, height, width), np.full((height, width), 2.0, np.float32)))
        labels.append(texture[:, k * step : k * step + width])
    return views, labels


@pytest.fixture
def room(sample_room) -> BenchScene:
    """Six views of the sample room, two of them measured."""
    reader = ReaderConfig()
    scene = load_scene(open_dataset(str(sample_room), reader)[0], reader)
    return BenchScene("sample", replace(scene, frames=scene.frames[:6]), (1, 4), (1, 4), reader)
