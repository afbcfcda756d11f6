"""Scenes: `.sens` files, transforms.json, and the text files of ScanNet's exported layout."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from mutators import Mutator, damage_bytes, damage_json, damage_text
from targets import Target, load_helpers

from pipeline.assets import decode_depth, decode_image
from pipeline.picture import MAX_PIXELS
from pipeline.readers import load_scene, open_dataset
from schemas.camera import Camera
from schemas.config import ReaderConfig
from schemas.errors import FrameError
from schemas.scene import Asset, Frame

make = load_helpers("readers")
cv2.setNumThreads(0)


def sens(folder: Path) -> Target:
    """A .sens file: header, frames, colour and depth."""
    file = folder / "room" / "room.sens"
    file.parent.mkdir(parents=True)
    views = make.make_views(2)
    seeds = tuple(make.sens_bytes(views, color, depth) for color in (1, 2) for depth in (0, 1))

    def mutate(data: bytes, corpus: list[bytes], random: object) -> bytes:
        head = data[:430]  # most of the file is pixels
        if random.random() < 0.7:
            return damage_bytes(head, [head], random) + data[430:]
        return damage_bytes(data, corpus, random)

    return Target("sens", seeds, mutate, _writing(file, folder / "room"))


def transforms(folder: Path) -> Target:
    """A transforms.json beside sound images."""
    import json

    views = make.make_views(2)
    root = make.write_transforms(folder / "room", views)
    optional = {"applied_transform": np.eye(4)[:3].tolist(), "applied_scale": 1.0, "camera_model": "OPENCV", "k1": 0.0}
    angles = {"camera_angle_x": 0.8, "camera_angle_y": 0.6, "depth_unit_scale_factor": 0.001, "aabb_scale": 4}
    plain = make.transforms_of(views)
    other = {key: value for key, value in plain.items() if key not in ("fl_x", "fl_y", "w", "h")} | angles
    seeds = tuple(json.dumps(document).encode() for document in (plain, {**plain, **optional}, other))
    return Target("transforms", seeds, damage_json, _writing(root / "transforms.json", root))


def pose(folder: Path) -> Target:
    """A pose as text."""
    return _text(folder, "pose/1.txt", "pose", damage_text)


def intrinsics(folder: Path) -> Target:
    """Intrinsics as text."""
    return _text(folder, "intrinsic/intrinsic_color.txt", "intrinsics", damage_text)


def _text(folder: Path, file: str, name: str, mutate: Mutator) -> Target:
    root = make.write_scannet(folder / "room", make.make_views(2))
    return Target(name, ((root / file).read_bytes(),), mutate, _writing(root / file, root))


def _writing(file: Path, root: Path) -> Callable[[bytes], None]:
    def run(data: bytes) -> None:
        file.write_bytes(data)
        read_scene(root)

    return run


def read_scene(root: Path) -> None:
    """Read the scene in a folder, with every pixel of it, and check what was accepted."""
    config = ReaderConfig()
    (ref,) = open_dataset(str(root), config)
    scene = load_scene(ref, config)
    assert len({frame.id for frame in scene.frames}) == len(scene.frames), "a frame twice"
    for issue in scene.issues:
        assert issue.frame, "an issue without a frame"
        assert issue.message.isprintable(), "an issue that cannot be printed"
        assert len(issue.message) < 2_000, "an issue that prints its input"
    for frame in scene.frames[:8]:
        check_frame(frame, root)


def check_frame(frame: Frame, root: Path) -> None:
    """What every accepted frame satisfies, by other means than the readers' own checks."""
    assert frame.id.isprintable() and ".." not in frame.id.split("/"), f"the id {frame.id!r}"
    check_camera(frame.camera)
    _check_inside(frame.image, root)
    try:
        image = decode_image(frame.image, frame.camera)
        assert image.shape == (frame.camera.height, frame.camera.width, 3)
        assert image.dtype == np.uint8
    except FrameError as error:
        assert error.remedy and error.reason
    if frame.depth:
        assert frame.depth_camera, "depth without a camera"
        check_camera(frame.depth_camera)
        _check_inside(frame.depth, root)
        _check_depth(frame.depth, frame.depth_camera)


def _check_depth(asset: Asset, camera: Camera) -> None:
    try:
        depth = decode_depth(asset)
    except FrameError as error:
        assert error.remedy and error.reason
    else:
        assert depth.shape == (camera.height, camera.width), f"depth {depth.shape}"
        assert np.isfinite(depth).all() and (depth >= 0).all(), "depth that is no depth"


def _check_inside(asset: Asset, root: Path) -> None:
    assert Path(asset.uri).resolve().is_relative_to(root.resolve()), f"{asset.uri} is outside"


def check_camera(camera: Camera) -> None:
    """A finite rigid motion, and intrinsics of a camera that could exist."""
    rotation, centre = camera.world_from_cam[:3, :3], camera.world_from_cam[:3, 3]
    assert np.isfinite(camera.world_from_cam).all(), "a pose with NaN"
    assert np.allclose(rotation.T @ rotation, np.eye(3), atol=5e-3), "a pose that is not rigid"
    assert abs(np.linalg.det(rotation) - 1) < 5e-3, "a mirrored pose"
    assert np.abs(centre).max() < 1e9, f"a camera at {centre}"
    assert 0 < camera.height * camera.width <= MAX_PIXELS and min(camera.height, camera.width) > 0, "a size"
    assert isinstance(camera.height, int) and isinstance(camera.width, int), "a size that is no integer"
    fx, fy, cx, cy = camera.K[0, 0], camera.K[1, 1], camera.K[0, 2], camera.K[1, 2]
    assert np.isfinite(camera.K).all(), "intrinsics with NaN"
    size = max(camera.height, camera.width)
    assert 0.9e-4 * size < min(fx, fy) and max(fx, fy) < 1.1e4 * size, f"focal lengths {fx}, {fy} of {size} pixels"
    assert max(abs(cx), abs(cy)) < 1.1e4 * size, f"principal point {cx}, {cy} of {size} pixels"
