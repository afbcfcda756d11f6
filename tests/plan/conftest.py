"""Cameras to choose from and scenes to plan: geometry only, no files."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from schemas.camera import Camera
from schemas.scene import Asset, Frame, Scene

Vector = NDArray[np.float64]


def _looking(centre: Vector, at: Vector, roll: float = 0.0) -> Camera:
    """A camera of 80 x 60 px that looks from one point at another."""
    forward = (at - centre) / np.linalg.norm(at - centre)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    down = np.cross(forward, right)
    turn = np.array([[np.cos(roll), -np.sin(roll)], [np.sin(roll), np.cos(roll)]])
    pose = np.eye(4)
    pose[:3, :3] = np.stack([*(turn @ np.stack([right, down])), forward], axis=1)
    pose[:3, 3] = centre
    return Camera(np.array([[70.0, 0, 40], [0, 70, 30], [0, 0, 1]]), pose, 60, 80)


@pytest.fixture(scope="session")
def looking() -> Callable[..., Camera]:
    return _looking


@pytest.fixture(scope="session")
def orbit() -> Callable[..., list[Camera]]:
    """V cameras on a jittered circle of radius 3 around the origin."""

    def build(count: int, seed: int = 0) -> list[Camera]:
        rng = np.random.default_rng(seed)
        angles = np.linspace(0, 2 * np.pi, count, endpoint=False) + rng.uniform(0, 0.5 / count, count)
        circle = np.stack([3 * np.cos(angles), 3 * np.sin(angles), np.ones(count)], axis=1)
        jitter = rng.normal(0, 0.1, (2, count, 3))
        return [_looking(circle[i] + jitter[0, i], jitter[1, i], rng.normal(0, 0.1)) for i in range(count)]

    return build


@pytest.fixture
def scene(orbit: Callable[..., list[Camera]]) -> Callable[..., Scene]:
    """A scene of V frames; those in `without_depth` have no depth map. No file exists."""

    def build(count: int = 12, without_depth: tuple[int, ...] = (), root: str = "/nowhere") -> Scene:
        frames = tuple(
            Frame(
                id=str(i),
                camera=camera,
                image=Asset(f"{root}/color/{i}.jpg", size=1000 + i),
                depth=None if i in without_depth else Asset(f"{root}/depth/{i}.png", size=500 + i, scale=1000.0),
                depth_camera=None if i in without_depth else camera,
            )
            for i, camera in enumerate(orbit(count))
        )
        return Scene("room", frames)

    return build
