"""`transforms.json` as nerfstudio, instant-ngp and their converters write it.

Poses are camera-to-world with OpenGL axes (x right, y up, z backward) and become OpenCV ones here; pixel centres
are at integers in the file, 0.5 is added here. A transform or scale that the converter applied is undone, so that
labels live in the original world. Lenses with distortion are refused: nothing here undistorts.
"""

from __future__ import annotations

import json
import posixpath
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from pipeline.assets import join, read_bytes
from pipeline.readers.folders import Folder, asset_in, find_scenes, list_folder
from pipeline.readers.frames import FrameCollector, first_size
from pipeline.readers.transforms import Entry, check_pinhole, check_structure, number_of, parse_rows, read_lens
from schemas.camera import Camera, Matrix
from schemas.errors import DatasetError, FrameError, Reason
from schemas.scene import Asset, Frame, Scene, SceneRef

FILE = "transforms.json"
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".JPG", ".JPEG", ".PNG")
MILLIMETRES = 1e-3


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
        depth_scale: stored depth steps an original unit.
        size, depth_size: (height, width) of its first readable image and depth map.
    """

    shared: Entry
    entries: tuple[Entry, ...]
    images: _Images
    original: Matrix
    scale: float
    depth_scale: float
    size: tuple[int, int] | None
    depth_size: tuple[int, int] | None


def _scene_in(folder: Folder) -> str | None:
    return folder.uri if FILE in folder.files else None


def _read_transforms(ref: SceneRef) -> _Transforms:
    uri = join(ref.uri, FILE)
    shared = _read_json(uri, ref)
    entries = shared.get("frames")
    if not isinstance(entries, list) or not entries:
        raise _bad(ref, f"{uri} has no list of frames")
    check_pinhole(shared)
    entries = tuple(entry if isinstance(entry, dict) else {} for entry in entries)
    if not any(key in entry for entry in (shared, *entries) for key in ("fl_x", "camera_angle_x")):
        raise _bad(ref, f"{uri} has neither fl_x nor camera_angle_x")
    try:
        original, scale = _undo(shared), _positive(shared, "applied_scale", 1.0)
        depth_scale = scale / _positive(shared, "depth_unit_scale_factor", MILLIMETRES)
    except (FrameError, ValueError) as error:
        raise _bad(ref, f"{uri}: applied_transform, applied_scale or depth_unit_scale_factor: {error}") from None
    images = _Images(ref.uri)
    return _Transforms(
        shared=shared,
        entries=entries,
        images=images,
        original=original,
        scale=scale,
        depth_scale=depth_scale,
        size=_size(images, entries, "file_path"),
        depth_size=_size(images, entries, "depth_file_path"),
    )


def _read_json(uri: str, ref: SceneRef) -> Entry:
    try:
        content = read_bytes(Asset(uri))
        check_structure(content)
        data = json.loads(content.decode("utf-8-sig"))
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


def _undo(shared: Entry) -> Matrix:
    """[4, 4] inverse of `applied_transform`. Raises ValueError."""
    applied = parse_rows(shared.get("applied_transform", np.eye(4)))
    with np.errstate(all="ignore"):  # poses that this spoils are found as not rigid
        original: Matrix = np.linalg.inv(applied).astype(np.float64)
    return original


def _positive(shared: Entry, key: str, otherwise: float) -> float:
    """A positive number of the file's top level. Raises ValueError."""
    value = number_of(shared, {}, key)
    if value is not None and value <= 0:
        raise ValueError(f"{key} is {value:g}, expected a positive number")
    return otherwise if value is None else value


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
    reason = Reason.IMAGE_MISSING if key == "file_path" else Reason.DEPTH_MISSING
    if not isinstance(value, str) or not value or not value.isprintable():
        raise FrameError(
            Reason.IMAGE_MISSING, f"{key} is {value!a:.80}, expected a path", remedy="name the image's file"
        )
    path = posixpath.normpath(value.replace("\\", "/").removeprefix(f"{root}/"))
    if path.startswith(("/", "../")) or path in {".", ".."}:
        raise FrameError(
            reason,
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
    check_pinhole(entry)
    lens = read_lens(entry, transforms.shared, transforms.size)
    camera = Camera(lens.K, _pose(transforms, entry), lens.height, lens.width)
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


def _pose(transforms: _Transforms, entry: Entry) -> Matrix:
    """OpenCV camera-to-world in the original world."""
    if "transform_matrix" not in entry:
        raise FrameError(Reason.POSE_MISSING, "no transform_matrix", remedy="remove the entry or pose the image")
    try:
        pose = parse_rows(entry["transform_matrix"])
    except ValueError as error:
        raise FrameError(
            Reason.POSE_UNREADABLE, f"transform_matrix is not a 4x4 matrix: {error}", remedy="write the file anew"
        ) from None
    pose[:3, 3] /= transforms.scale
    pose[:3, 1:3] *= -1
    with np.errstate(all="ignore"):
        return np.asarray(transforms.original @ pose)


def _without_suffix(path: str) -> str:
    return next((path.removesuffix(s) for s in IMAGE_SUFFIXES if path.endswith(s)), path)
