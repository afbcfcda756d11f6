"""A scene with exact geometry, and the shared rooms beside the independent measuring stick, where they are there."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from pipeline.evaluation.correspondence import View
from schemas.camera import Camera, centred_intrinsics

SHARED = Path(__file__).parents[2].parent / "shared"


@pytest.fixture(scope="session")
def wall() -> Callable[..., tuple[list[View], np.ndarray]]:
    """Cameras that slide along a wall by whole pixels, so that every correspondence is exact."""

    def make(
        views: int = 6, height: int = 24, width: int = 32, step: int = 3, classes: int = 4, seed: int = 0
    ) -> tuple[list[View], np.ndarray]:
        rng = np.random.default_rng(seed)
        texture = rng.integers(0, classes, (height, width + step * views), dtype=np.uint8)
        focal, distance = 40.0, 2.0
        K = np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1.0]])
        out = []
        for k in range(views):
            pose = np.eye(4)
            pose[0, 3] = k * step * distance / focal
            out.append(View(Camera(K, pose, height, width), np.full((height, width), distance, np.float32)))
        labels = np.stack([texture[:, k * step : k * step + width] for k in range(views)])
        return out, labels

    return make


@pytest.fixture(scope="session")
def stick() -> ModuleType:
    """The independent implementation of the metrics and baselines."""
    path = SHARED / "tools" / "lift_eval.py"
    if not path.is_file():
        pytest.skip("the independent measuring stick is not there")
    spec = importlib.util.spec_from_file_location("lift_eval", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["lift_eval"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session", params=["scene9002_00", "scene9005_00"])
def room(request: pytest.FixtureRequest, stick: ModuleType) -> tuple[dict[str, Any], list[View], np.ndarray]:
    """The first 12 views of a shared room: as the stick loads it, as views, and with its label noise."""
    scene = stick.load(SHARED / "data" / "syn_rooms" / request.param)
    scene = {key: value if key == "K" else value[:12] for key, value in scene.items()}
    height, width = scene["label"].shape[1:]
    K = centred_intrinsics(scene["K"])
    poses_and_depths = zip(scene["pose"], scene["depth"], strict=True)
    views = [View(Camera(K, pose, height, width), depth) for pose, depth in poses_and_depths]
    return scene, views, stick.noisy(scene)
