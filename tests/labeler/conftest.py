"""A small room on disk in the ScanNet layout, noisy predictions of it, and operators of every kind."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from pipeline import Labeler
from pipeline.plan import plan_scene
from pipeline.readers import load_scene, open_dataset
from schemas.config import ReaderConfig, parse_config
from schemas.label_sets import label_set
from schemas.record import LabelRecord, QuarantineRecord
from schemas.scene import Scene

HEIGHT, WIDTH, FOCAL = 48, 64, 55.0
FRAMES = 6


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Small tensors are slower on many threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@dataclass(frozen=True)
class RoomOnDisk:
    """A scene as its reader sees it, where it lies, and the truth [frame, H, W] in NYU40 ids."""

    scene: Scene
    folder: Path
    predictions: Path
    truth: np.ndarray

    def frame(self, index: int) -> Any:
        """A frame by its place."""
        return self.scene.frames[index]


class Soft:
    """Class scores from brightness: dark is floor, bright is wall. A feature map of stride 4."""

    name, stride, kind, label_set = "soft", 4, "classes", label_set("nyu40")

    def encode(self, batch: Any) -> torch.Tensor:
        grey = torch.nn.functional.avg_pool2d(batch.images.mean(1, keepdim=True), self.stride, ceil_mode=True)
        scores = torch.zeros(len(batch.frames), 40, *grey.shape[-2:])
        scores[:, :1], scores[:, 1:2] = grey, 1 - grey
        return scores

    def decode(self, features: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        height, width = features.shape[-2] * self.stride, features.shape[-1] * self.stride
        full = torch.nn.functional.interpolate(features, (height, width), mode="bilinear", align_corners=False)
        return full[..., : size[0], : size[1]]

    def fingerprint(self) -> str:
        return f"{self.name}-1"


class Features(Soft):
    """Mean colours of the cells, whatever they may mean."""

    name, kind, label_set = "features", "features", None

    def encode(self, batch: Any) -> torch.Tensor:
        return torch.nn.functional.avg_pool2d(batch.images, self.stride, ceil_mode=True)

    def decode(self, features: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        return features


class Picture(Features):
    """The picture itself."""

    name, kind, decode = "picture", "image", Soft.decode


class Brightness(Features):
    """One number a pixel."""

    name, kind, decode = "brightness", "scalar", Soft.decode

    def encode(self, batch: Any) -> torch.Tensor:
        return super().encode(batch).mean(1, keepdim=True)


@pytest.fixture(scope="session")
def operators() -> dict[str, type]:
    """Operator classes by kind; "classes" has soft scores."""
    return {"classes": Soft, "features": Features, "image": Picture, "scalar": Brightness}


@pytest.fixture(scope="session")
def sound_room(tmp_path_factory: pytest.TempPathFactory) -> RoomOnDisk:
    """The room, to be left as it is."""
    return _write_room(tmp_path_factory.mktemp("sound"))


@pytest.fixture
def room(tmp_path: Path) -> RoomOnDisk:
    """The room, to be damaged."""
    return _write_room(tmp_path)


@pytest.fixture(scope="session")
def label() -> Callable[..., tuple[dict[str, LabelRecord], list[QuarantineRecord]]]:
    """Label a scene chunk by chunk: records by frame id, and what was set aside."""

    def run(
        room: RoomOnDisk,
        operator: Any = None,
        scene: Scene | None = None,
        chunk: int = 32,
        batch: int = 4,
        kwargs: dict[str, Any] | None = None,
        **lift: Any,
    ) -> tuple[dict[str, LabelRecord], list[QuarantineRecord]]:
        given = {"label_set": "nyu40", **(kwargs or {})}
        config = parse_config(
            {
                "source": str(room.folder),
                "store": "unused",
                "operator": {"spec": f"precomputed:{room.predictions}", "kwargs": given, "batch_size": batch},
                "lift": {"sources": 4, **lift},
                "plan": {"chunk": chunk},
            }
        )
        labeler = Labeler(config, operator)
        results = [labeler.label(part) for part in plan_scene(scene or room.scene, config, "model", {}).chunks]
        records = [record for result in results for record in result.records]
        quarantined = [record for result in results for record in result.quarantined]
        frames = [*(record.frame.id for record in records), *(record.frame for record in quarantined)]
        assert sorted(frames) == sorted(frame.id for frame in (scene or room.scene).frames)
        return {record.frame.id: record for record in records}, quarantined

    return run


def _write_room(root: Path) -> RoomOnDisk:
    scene, predictions = root / "rooms" / "scene0000_00", root / "predictions" / "scene0000_00"
    for folder in ("color", "depth", "pose", "intrinsic"):
        (scene / folder).mkdir(parents=True)
    predictions.mkdir(parents=True)
    K = np.diag([FOCAL, FOCAL, 1.0, 1.0])
    K[:2, 2] = WIDTH / 2 - 0.5, HEIGHT / 2 - 0.5
    for camera in ("color", "depth"):
        np.savetxt(scene / "intrinsic" / f"intrinsic_{camera}.txt", K)
    rng, truth = np.random.default_rng(3), []
    for i in range(FRAMES):
        pose = _pose((i - FRAMES // 2) * 0.15)
        colour, depth, ids = _render(pose)
        noisy = np.where(rng.random(ids.shape) < 0.2, 5, ids)
        np.savetxt(scene / "pose" / f"{i}.txt", pose)
        cv2.imwrite(str(scene / "color" / f"{i}.png"), colour[..., ::-1])
        cv2.imwrite(str(scene / "depth" / f"{i}.png"), depth)
        cv2.imwrite(str(predictions / f"{i}.png"), noisy.astype(np.uint8))
        truth.append(ids)
    (ref,) = open_dataset(str(root / "rooms"), ReaderConfig())
    return RoomOnDisk(load_scene(ref, ReaderConfig()), scene, predictions.parent, np.stack(truth))


def _pose(angle: float) -> np.ndarray:
    """On an arc, looking at the corner's middle; x right, y down, z forward, the world's z up."""
    centre = np.array([1.2 * np.sin(angle), -1.2 * np.cos(angle), 1.4])
    forward = np.array([-np.sin(angle), np.cos(angle), -0.1])
    forward /= np.linalg.norm(forward)
    right = np.cross(forward, [0, 0, 1.0])
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3, :3] = np.stack([right, np.cross(forward, right), forward], axis=1)
    pose[:3, 3] = centre
    return pose


def _render(pose: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """RGB, depth in mm and NYU40 ids (wall 1, floor 2, ceiling 22) of a box [-2, 2] x [-2, 2] x [0, 3] from inside."""
    v, u = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    local = np.stack([(u - WIDTH / 2) / FOCAL, (v - HEIGHT / 2) / FOCAL, np.ones((HEIGHT, WIDTH))], axis=-1)
    rays = local @ pose[:3, :3].T
    rays = np.where(rays == 0, 1e-12, rays)
    reach = (np.where(rays > 0, [2.0, 2.0, 3.0], [-2.0, -2.0, 0.0]) - pose[:3, 3]) / rays
    side, depth = reach.argmin(-1), reach.min(-1)
    ids = np.where(side < 2, 1, np.where(rays[..., 2] > 0, 22, 2))
    waves = np.sin((pose[:3, 3] + depth[..., None] * rays) @ np.random.default_rng(1).normal(0, 8, (3, 8)))
    grey = 128 + 50 * waves.mean(-1) * np.sqrt(8) - 40 * (ids == 2)
    colour = np.stack([grey, grey + 12 * side, 1.1 * grey - 20 * side], -1).clip(0, 255)
    return colour.astype(np.uint8), np.round(depth * 1000).astype(np.uint16), ids
