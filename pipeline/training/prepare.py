"""From datasets to a training cache: every scene once, array by array, each whole or not there, so that a run resumes.

The layout is documented beside its reader, `lift3d_model/training/scenes.py`.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from pipeline.assets import decode_depth, decode_image
from pipeline.loading import register_depth
from pipeline.plan import choose_sources
from pipeline.training.config import DataConfig, FeatureConfig, TrainingConfig
from schemas.camera import Camera
from schemas.config import LiftConfig
from schemas.errors import DatasetError
from schemas.scene import Frame, FrameBatch, Scene

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pipeline.protocols import Operator

LOG = logging.getLogger(__name__)


def prepare(config: TrainingConfig, cache: Path, device: str) -> None:
    """Write every scene of every source to `cache` and the split into training and held-out views.

    Raises what readers and operators raise; `DatasetError` where two sources have a scene of the same name.
    """
    from pipeline.readers import load_scene, open_dataset

    data = config.data
    operators = {name: _build(spec, device) for name, spec in data.features.items()}
    split: dict[str, int] = {}
    for source in config.source:
        scenes = [load_scene(reference, data.reader) for reference in open_dataset(source, data.reader)]
        for number, scene in enumerate(scenes):
            if scene.id in split:
                raise DatasetError(f"two sources have a scene {scene.id!r}", remedy="train on them separately")
            prepare_scene(scene, cache / scene.id, data, operators, device, sweep=number % data.sweep_every == 0)
            split[scene.id] = trained_views(number, len(scenes), len(scene.frames), data)
    cache.mkdir(parents=True, exist_ok=True)
    _write(cache / "split.json", json.dumps(split, indent=1).encode())


def trained_views(number: int, scenes: int, views: int, data: DataConfig) -> int:
    """How many of a scene's views, the first ones, are trained on: all or none where a dataset has many scenes."""
    if scenes >= 5:
        return views if number < scenes - round(scenes * data.dev_scenes) else 0
    return views - round(views * data.dev_views)


def prepare_scene(
    scene: Scene, folder: Path, data: DataConfig, operators: dict[str, Operator], device: str, *, sweep: bool
) -> None:
    """Write one scene's arrays that are not there yet."""
    LOG.info("preparing %s: %d views", scene.id, len(scene.frames))
    folder.mkdir(parents=True, exist_ok=True)
    frames, cameras = scene.frames, [working_camera(frame.camera, data.pixels) for frame in scene.frames]
    measured = any(frame.depth is not None for frame in frames)
    _once(folder, "images", lambda: _padded([_image(f, c) for f, c in zip(frames, cameras, strict=True)]))
    _once(folder, "K", lambda: np.stack([camera.K for camera in cameras]))
    _once(folder, "poses", lambda: np.stack([camera.world_from_cam for camera in cameras]))
    _once(folder, "sizes", lambda: np.array([[camera.height, camera.width] for camera in cameras]))
    _once(folder, "sources", lambda: _ranked(frames, data.sources))
    if measured:
        _once(folder, "depth", lambda: _padded([_depth(f, c) for f, c in zip(frames, cameras, strict=True)]))
    strides = {name: operator.stride for name, operator in operators.items()}
    _write(folder / "scene.json", json.dumps({"views": len(frames), "strides": strides}).encode())
    for name, operator in operators.items():
        _once(folder, f"features_{name}", partial(_features, scene, cameras, folder, operator, device))
    if sweep or not measured:
        _once(folder, "swept", lambda: _swept(folder, device))


def working_camera(camera: Camera, pixels: int) -> Camera:
    """The camera of the image shrunk to at most that many pixels."""
    factor = min((pixels / (camera.height * camera.width)) ** 0.5, 1.0)
    return camera.resized(round(camera.height * factor), round(camera.width * factor))


def _build(feature: FeatureConfig, device: str) -> Operator:
    from pipeline.operators import build_operator

    return build_operator(feature.spec, feature.kwargs, device)


def _image(frame: Frame, camera: Camera) -> NDArray[Any]:
    """[3, H, W] uint8."""
    image = decode_image(frame.image, frame.camera)
    if image.shape[:2] != (camera.height, camera.width):
        image = cv2.resize(image, (camera.width, camera.height), interpolation=cv2.INTER_AREA).astype(np.uint8)
    return np.ascontiguousarray(image.transpose(2, 0, 1))


def _depth(frame: Frame, camera: Camera) -> NDArray[Any]:
    """[H, W] float16."""
    if frame.depth is None:
        return np.zeros((camera.height, camera.width), np.float16)
    depth = decode_depth(frame.depth)
    own = frame.depth_camera or frame.camera.resized(*depth.shape)
    return register_depth(depth, own, camera).astype(np.float16)


def _ranked(frames: Sequence[Frame], count: int) -> NDArray[Any]:
    """[V, count] source views, best first, -1 where there are fewer."""
    ranked = np.full((len(frames), count), -1, np.int64)
    for row, chosen in zip(ranked, choose_sources(frames, LiftConfig(sources=count)), strict=True):
        row[: len(chosen)] = chosen
    return ranked


def _features(scene: Scene, cameras: Sequence[Camera], folder: Path, operator: Operator, device: str) -> NDArray[Any]:
    """[V, C, h, w] float16."""
    import torch

    images = np.load(folder / "images.npy", mmap_mode="r")
    maps = []
    for frame, camera, image in zip(scene.frames, cameras, images, strict=True):
        pixels = torch.from_numpy(image[:, : camera.height, : camera.width].copy()).to(device)
        batch = FrameBatch(pixels[None].float() / 255, scene.id, (frame.id,), (camera,))
        maps.append(operator.encode(batch)[0].half().cpu().numpy())
    return _padded(maps)


def _swept(folder: Path, device: str) -> NDArray[Any]:
    """[V, 2, H, W] float16: depth from colours alone, and its spread."""
    import torch

    from lift3d_model import Lift3D
    from lift3d_model.training.scenes import CachedScene

    ranked = [[int(s) for s in row if s >= 0] for row in np.load(folder / "sources.npy")]
    everything = range(len(ranked))
    views = CachedScene(folder, "", {}, (), frozenset()).views(everything, torch.device(device))
    unmeasured = views.images.new_zeros(len(views), *views.images.shape[-2:])
    with torch.inference_mode():
        found = Lift3D().depths(views, unmeasured, [False] * len(ranked), ranked, everything)
    return torch.stack([found.mode, found.spread], dim=1).half().cpu().numpy()


def _padded(arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Stack [..., H_i, W_i], padded with zeros at the bottom and right."""
    height, width = (max(array.shape[axis] for array in arrays) for axis in (-2, -1))
    return np.stack([_pad(array, height, width) for array in arrays])


def _pad(array: NDArray[Any], height: int, width: int) -> NDArray[Any]:
    sides = [(0, 0)] * (array.ndim - 2) + [(0, height - array.shape[-2]), (0, width - array.shape[-1])]
    return np.pad(array, sides)


def _once(folder: Path, name: str, make: Callable[[], NDArray[Any]]) -> None:
    """Make and write an array unless it is there."""
    path = folder / f"{name}.npy"
    if path.exists():
        return
    array = make()
    part = path.with_name(f"{name}.{os.getpid()}.part")
    with part.open("wb") as file:
        np.save(file, array, allow_pickle=False)
    part.replace(path)


def _write(path: Path, content: bytes) -> None:
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    part.write_bytes(content)
    part.replace(path)
