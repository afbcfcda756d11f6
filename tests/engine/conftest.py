"""A tiny rendered room on disk, an operator that can be told to fail, and one Ray cluster for all tests."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest

from schemas.config import LabelingConfig, parse_config

HEIGHT, WIDTH, FOCAL = 48, 64, 60.0

OPERATORS = '''
import os
import time

import torch

from schemas.errors import OperatorError
from schemas.label_sets import label_set


class Fragile:
    """Says of bright pixels that they are wall, of others that they are floor. Ends its process on some frames."""

    name, stride, kind, label_set = "fragile", 4, "classes", label_set("nyu40")

    def __init__(self, fatal=(), seconds=0.0, version=1, driver=None, crash=False, environment=None):
        as_told = environment is not None and environment.items() <= os.environ.items()
        if driver not in (None, os.getpid()) and not as_told:
            if crash:
                os._exit(1)
            raise OperatorError("only the driver can build this")
        self.fatal, self.seconds, self.version = set(fatal), seconds, version

    def encode(self, batch):
        if self.fatal & set(batch.frames):
            os._exit(1)
        time.sleep(self.seconds)
        grey = torch.nn.functional.avg_pool2d(batch.images.mean(1, keepdim=True), self.stride)
        scores = torch.zeros(len(batch.frames), len(self.label_set.ids), *grey.shape[-2:])
        scores[:, :1], scores[:, 1:2] = grey, 1 - grey
        return scores

    def decode(self, features, size):
        return torch.nn.functional.interpolate(features, size, mode="bilinear", align_corners=False)

    def fingerprint(self):
        return f"fragile-{self.version}"
'''


def _render(pose: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Colour, depth in mm and NYU40 ids of a box-shaped room [-2, 2] x [-2, 2] x [0, 3], seen from inside."""
    ys, xs = np.mgrid[0:HEIGHT, 0:WIDTH]
    rays = np.stack(
        [(xs - WIDTH / 2 + 0.5) / FOCAL, (ys - HEIGHT / 2 + 0.5) / FOCAL, np.ones((HEIGHT, WIDTH))], axis=-1
    )
    directions = rays @ pose[:3, :3].T
    low, high = np.array([-2.0, -2.0, 0.0]), np.array([2.0, 2.0, 3.0])
    with np.errstate(divide="ignore"):
        reach = (np.where(directions > 0, high, low) - pose[:3, 3]) / directions
    depth = reach.min(axis=-1)
    points = pose[:3, 3] + depth[..., None] * directions
    side = reach.argmin(axis=-1)
    ids = np.where(side < 2, 1, np.where(directions[..., 2] > 0, 22, 2))
    checker = (np.floor(points * 2).sum(axis=-1) % 2) * 60
    colour = np.stack([checker + 40 * side + 60, checker + 90, 180 - 50 * side], axis=-1)
    return colour.astype(np.uint8), np.round(depth * 1000).astype(np.uint16), ids.astype(np.uint8)


def _pose(angle: float) -> np.ndarray:
    """On a small circle, looking across it at the far wall."""
    centre = np.array([np.cos(angle), np.sin(angle), 1.5])
    forward = np.array([-np.cos(angle), -np.sin(angle), 0.0])
    pose = np.eye(4)
    pose[:3, :3] = np.stack([np.cross(forward, [0, 0, 1.0]), [0, 0, -1.0], forward], axis=1)
    pose[:3, 3] = centre
    return pose


def _write_scene(dataset: Path, name: str, frames: int) -> None:
    """A scene in the exported ScanNet layout (pixel centres at integers), and noisy predictions of it."""
    scene = dataset / name
    predictions = dataset.parent / "predictions" / name
    for folder in ("color", "depth", "pose", "intrinsic", "label-filt"):
        (scene / folder).mkdir(parents=True)
    predictions.mkdir(parents=True)
    K = np.diag([FOCAL, FOCAL, 1.0, 1.0])
    K[:2, 2] = WIDTH / 2 - 0.5, HEIGHT / 2 - 0.5
    for camera in ("color", "depth"):
        np.savetxt(scene / "intrinsic" / f"intrinsic_{camera}.txt", K)
    rng = np.random.default_rng(len(name) + frames)
    for i in range(frames):
        pose = _pose(2 * np.pi * i / frames)
        colour, depth, ids = _render(pose)
        noisy = ids.copy()
        noisy[rng.random(ids.shape) < 0.2] = 5
        np.savetxt(scene / "pose" / f"{i}.txt", pose)
        cv2.imwrite(str(scene / "color" / f"{i}.jpg"), colour)
        cv2.imwrite(str(scene / "depth" / f"{i}.png"), depth)
        cv2.imwrite(str(scene / "label-filt" / f"{i}.png"), ids)
        cv2.imwrite(str(predictions / f"{i}.png"), noisy)


@pytest.fixture
def rooms(tmp_path: Path) -> Callable[..., Path]:
    """Write scenes `name=frames`; the dataset's folder."""

    def build(**scenes: int) -> Path:
        for name, frames in scenes.items():
            _write_scene(tmp_path / "rooms", name, frames)
        return tmp_path / "rooms"

    return build


@pytest.fixture
def config(tmp_path: Path) -> Callable[..., LabelingConfig]:
    """A config for `tmp_path/rooms`: precomputed predictions, chunks of 4, the local engine, unless told otherwise."""

    def build(store: str = "store", **sections: dict[str, Any]) -> LabelingConfig:
        values: dict[str, dict[str, Any]] = {
            "operator": {"spec": f"precomputed:{tmp_path / 'predictions'}", "kwargs": {"label_set": "nyu40"}},
            "lift": {"sources": 4},
            "plan": {"chunk": 4},
            "engine": {"kind": "local"},
        }
        merged = {name: {**values.get(name, {}), **sections.get(name, {})} for name in {*values, *sections}}
        return parse_config({"source": str(tmp_path / "rooms"), "store": str(tmp_path / store), **merged})

    return build


@pytest.fixture(scope="session")
def fragile(importable: Path) -> str:
    """SPEC of an operator of the user's own, in a module that only this process's path leads to."""
    (importable / "own_models").mkdir()
    (importable / "own_models" / "operators.py").write_text(OPERATORS, encoding="utf-8")
    return "own_models.operators:Fragile"


@pytest.fixture
def labels() -> Callable[[LabelingConfig], pd.DataFrame]:
    """All columns of a store's labels but those that tell runs apart, ordered."""
    from pipeline.store import read_labels

    def read(config: LabelingConfig) -> pd.DataFrame:
        table = read_labels(config.store).drop(columns=["run_id", "created_at"])
        return table.sort_values(["operator", "scene", "frame"], ignore_index=True)

    return read
