"""`transforms.json` as nerfstudio, instant-ngp and their converters write it.

Poses are camera-to-world with OpenGL axes (x right, y up, z backward) and become OpenCV ones here; pixel centres
are at integers in the file, 0.5 is added here. A transform or scale that the converter applied is undone, so that
labels live in the original world. Lenses with distortion are refused: nothing here undistorts.
"""

from __future__ import annotations

import json
import math
import posixpath
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from pipeline.assets import join, read_bytes
from pipeline.picture import MAX_PIXELS
from pipeline.readers.folders import Folder, asset_in, find_scenes, list_folder
from pipeline.readers.frames import FrameCollector, first_size
from schemas.camera import Camera, Matrix
from schemas.errors import DatasetError, FrameError, Reason
from schemas.scene import Asset, Frame, Scene, SceneRef

FILE = "transforms.json"
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".JPG", ".JPEG", ".PNG")
MILLIMETRES = 1e-3
PINHOLE_MODELS = frozenset({"PINHOLE", "SIMPLE_PINHOLE", "PERSPECTIVE", "OPENCV", "SIMPLE_RADIAL", "RADIAL"})
"""Models that are a pinhole while their distortion is zero."""
DISTORTION = ("k1", "k2", "k3", "k4", "k5", "k6", "p1", "p2")
LARGEST = 1e12

Entry = Mapping[str, Any]


class NerfstudioReader:
    """Scenes as a folder with `transforms.json`: one, or a folder of them."""

    name = "nerfstudio"

    def recognises(self, uri: str) -> bool:
        """Whether `uri` is a transforms.json, or a folder with one in it or one below."""
        return bool(self.list_scenes(uri))

    def list_scenes(self, uri: str) -> list[SceneRef]:
        """Every scene, in natural order of names."""
        return find_scenes(uri.removesuffix(f"/{FILE}"), self.name, _scene_in)

    def load(self, ref: SceneRef) -> Scene:
        """Frames in the file's order; their ids are their paths without suffix ("images/0001").

        Raises DatasetError where the file is not readable or has no focal length, and FrameError
        (lens_distorted) where all its images are distorted.
        """
        transforms = _read_transforms(ref)
        frames = FrameCollector(ref.id)
        for index, entry in enumerate(transforms.entries):
            name = f"frames[{index}]"
            try:
                path = _path(ref.uri, entry, "file_path")
            except FrameError as error:
                frames.set_aside(name, error)
            else:
                frames.add(_without_suffix(path), f"{name} ({path})", partial(_build, transforms, entry, path))
        return frames.scene()


class _Images:
    """Finds images in a scene's folder, with one listing a folder."""

    def __init__(self, root: str) -> None:
        self.root = root
        self._folders: dict[str, Folder | None] = {}

    def find(self, path: str, **details: Any) -> Asset | None:
        """The image at a relative path, whose suffix may be missing."""
        parent, name = posixpath.split(path)
        folder = self._folder(parent)
        found = (asset_in(folder, name + suffix, **details) for suffix in ("", *IMAGE_SUFFIXES))
        return next((asset for asset in found if asset), None)

    def _folder(self, parent: str) -> Folder | None:
        if parent not in self._folders:
            try:
                self._folders[parent] = list_folder(join(self.root, parent) if parent else self.root)
            except DatasetError:
                self._folders[parent] = None
        return self._folders[parent]


@dataclass(frozen=True, slots=True)
class _Transforms:
    """A scene's transforms.json.

    Attributes:
        shared: its top level, where a frame says nothing else.
        entries: its frames.
        images: files beside it.
        original: [4, 4] from the file's world to the original one, to apply after dividing centres by `scale`.
        scale: file units an original unit.
        size, depth_size: (height, width) of its first readable image and depth map.
    """

    shared: Entry
    entries: tuple[Entry, ...]
    images: _Images
    original: Matrix
    scale: float
    size: tuple[int, int] | None
    depth_size: tuple[int, int] | None

    @property
    def depth_scale(self) -> float:
        """Stored depth steps an original unit."""
        unit = _number(self.shared, {}, "depth_unit_scale_factor")
        return self.scale / (MILLIMETRES if unit is None else unit)


def _scene_in(folder: Folder) -> str | None:
    return folder.uri if FILE in folder.files else None


def _read_transforms(ref: SceneRef) -> _Transforms:
    uri = join(ref.uri, FILE)
    shared = _read_json(uri, ref)
    entries = shared.get("frames")
    if not isinstance(entries, list) or not entries:
        raise _bad(ref, f"{uri} has no list of frames")
    _check_pinhole(shared)
    entries = tuple(entry if isinstance(entry, dict) else {} for entry in entries)
    if not any(key in entry for entry in (shared, *entries) for key in ("fl_x", "camera_angle_x")):
        raise _bad(ref, f"{uri} has neither fl_x nor camera_angle_x")
    images = _Images(ref.uri)
    original, scale = _undo(shared, ref)
    return _Transforms(
        shared=shared,
        entries=entries,
        images=images,
        original=original,
        scale=scale,
        size=_size(images, entries, "file_path"),
        depth_size=_size(images, entries, "depth_file_path"),
    )


def _read_json(uri: str, ref: SceneRef) -> Entry:
    try:
        data = json.loads(read_bytes(Asset(uri)).decode("utf-8-sig"))
    except FrameError as error:
        raise _bad(ref, f"{uri} cannot be read: {error.message}") from None
    except (ValueError, RecursionError) as error:
        raise _bad(ref, f"{uri} is not JSON: {error}") from None
    if not isinstance(data, dict):
        raise _bad(ref, f"{uri} holds a {type(data).__name__}, expected an object")
    return data


def _bad(ref: SceneRef, problem: str) -> DatasetError:
    return DatasetError(
        problem,
        scene=ref.id,
        remedy="expected transforms.json as ns-process-data or instant-ngp's colmap2nerf write it",
    )


def _check_pinhole(source: Entry) -> None:
    """Raise FrameError (lens_distorted) unless what the source says of the lens is that of a pinhole."""
    model = source.get("camera_model", "PINHOLE")
    found = [f"{key} = {source[key]!r:.40}" for key in DISTORTION if source.get(key) not in (None, 0)]
    if str(model).upper() not in PINHOLE_MODELS or source.get("is_fisheye"):
        found.append(f"camera_model {model!r:.40}")
    if found:
        raise FrameError(
            Reason.LENS_DISTORTED,
            f"the images are distorted ({', '.join(found)}), expected those of a pinhole camera",
            remedy="undistort them first, for example with `colmap image_undistorter`, and write transforms.json anew",
        )


def _undo(shared: Entry, ref: SceneRef) -> tuple[Matrix, float]:
    """Inverse of `applied_transform`, and `applied_scale`."""
    try:
        applied = _matrix(shared.get("applied_transform", np.eye(4)))
        scale = _number(shared, {}, "applied_scale")
        original: Matrix = np.linalg.inv(applied).astype(np.float64)
    except (FrameError, ValueError) as error:
        raise _bad(ref, f"applied_transform or applied_scale cannot be undone: {error}") from None
    if scale is not None and scale <= 0:
        raise _bad(ref, f"applied_scale is {scale}, expected a positive number")
    return original, 1.0 if scale is None else scale


def _size(images: _Images, entries: Iterable[Entry], key: str) -> tuple[int, int] | None:
    """(height, width) of the first readable image that the entries name."""
    return first_size(asset for entry in entries if (asset := _find(images, entry, key)))


def _find(images: _Images, entry: Entry, key: str) -> Asset | None:
    try:
        asset = images.find(_path(images.root, entry, key))
    except FrameError:
        return None
    return asset if asset and asset.size != 0 else None


def _path(root: str, entry: Entry, key: str) -> str:
    """A path of an entry, relative to the scene's folder, which it may not leave."""
    value = entry.get(key)
    if not isinstance(value, str) or not value or not value.isprintable():
        raise FrameError(
            Reason.IMAGE_MISSING, f"{key} is {value!a:.80}, expected a path", remedy="name the image's file"
        )
    path = posixpath.normpath(value.replace("\\", "/").removeprefix(f"{root}/"))
    if path.startswith(("/", "../")) or path in {".", ".."}:
        raise FrameError(
            Reason.IMAGE_MISSING,
            f"{key} {value!r:.200} is not inside the scene's folder {root}",
            remedy="move the images into it and name them relative to it",
        )
    return path


def _build(transforms: _Transforms, entry: Entry, path: str) -> Frame:
    image = transforms.images.find(path)
    if image is None:
        raise FrameError(
            Reason.IMAGE_MISSING,
            f"image {join(transforms.images.root, path)} does not exist",
            remedy="restore the file or remove the entry",
        )
    _check_pinhole(entry)
    camera = _camera(transforms, entry)
    depth = _depth(transforms, entry)
    return Frame(
        id=_without_suffix(path),
        camera=camera,
        image=image,
        depth=depth,
        depth_camera=camera.resized(*transforms.depth_size) if depth and transforms.depth_size else None,
    )


def _depth(transforms: _Transforms, entry: Entry) -> Asset | None:
    """The depth map, None where the entry names none or the file does not exist."""
    if entry.get("depth_file_path") is None:
        return None
    path = _path(transforms.images.root, entry, "depth_file_path")
    return transforms.images.find(path, scale=transforms.depth_scale, shape=transforms.depth_size)


def _camera(transforms: _Transforms, entry: Entry) -> Camera:
    number = partial(_number, entry, transforms.shared)
    height, width = _image_size(number("h"), number("w"), transforms.size)
    fx = _focal(number("fl_x"), number("camera_angle_x"), width)
    fy = _focal(number("fl_y"), number("camera_angle_y"), height) or fx
    if fx is None or fy is None:
        raise FrameError(Reason.INTRINSICS_INVALID, "no focal length", remedy="give fl_x or camera_angle_x")
    cx, cy = number("cx"), number("cy")
    K = np.eye(3)
    K[0, 0], K[1, 1] = fx, fy
    K[0, 2] = width / 2 if cx is None else cx + 0.5
    K[1, 2] = height / 2 if cy is None else cy + 0.5
    return Camera(K, _pose(transforms, entry), height, width)


def _image_size(height: float | None, width: float | None, of_file: tuple[int, int] | None) -> tuple[int, int]:
    if height is None or width is None:
        return of_file or (0, 0)
    if height % 1 or width % 1 or not 0 < height * width <= MAX_PIXELS:
        raise FrameError(
            Reason.INTRINSICS_INVALID,
            f"an image of {width:g}x{height:g} pixels, 1 to {MAX_PIXELS:,} are accepted",
            remedy="correct w and h",
        )
    return int(height), int(width)


def _focal(pixels: float | None, angle: float | None, side: int) -> float | None:
    if pixels is not None or angle is None:
        return pixels
    return 0.5 * side / math.tan(0.5 * angle) if 0 < angle < math.pi else None


def _pose(transforms: _Transforms, entry: Entry) -> Matrix:
    """OpenCV camera-to-world in the original world."""
    if "transform_matrix" not in entry:
        raise FrameError(Reason.POSE_MISSING, "no transform_matrix", remedy="remove the entry or pose the image")
    try:
        pose = _matrix(entry["transform_matrix"])
    except ValueError as error:
        raise FrameError(
            Reason.POSE_UNREADABLE, f"transform_matrix is not a 4x4 matrix: {error}", remedy="write the file anew"
        ) from None
    pose[:3, 3] /= transforms.scale
    pose[:3, 1:3] *= -1
    return transforms.original @ pose


def _matrix(value: object) -> Matrix:
    """[4, 4] from rows of 3x4 or 4x4 numbers. Raises ValueError."""
    try:
        matrix = np.array(value, np.float64)
    except (TypeError, OverflowError) as error:
        raise ValueError(error) from None
    if matrix.shape == (3, 4):
        return np.vstack([matrix, [0.0, 0.0, 0.0, 1.0]])
    if matrix.shape != (4, 4):
        raise ValueError(f"its shape is {matrix.shape}")
    return matrix


def _number(entry: Entry, shared: Entry, key: str) -> float | None:
    """A number of the entry, or of all entries, None where there is none."""
    value = entry.get(key, shared.get(key))
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= LARGEST:
        raise FrameError(
            Reason.INTRINSICS_INVALID, f"{key} is {value!r:.60}, expected a number", remedy=f"correct {key}"
        )
    return float(value)


def _without_suffix(path: str) -> str:
    return next((path.removesuffix(s) for s in IMAGE_SUFFIXES if path.endswith(s)), path)
