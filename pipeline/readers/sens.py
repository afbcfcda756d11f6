"""ScanNet's `.sens` files (version 4): an index of where each frame's bytes are, made by seeking from header to header.

Nothing in the file is believed before it was compared with the file's length. Colour and depth stay where
they are: assets are byte ranges of the file. Poses are camera-to-world with OpenCV axes; pixel centres are at
integers in the file, 0.5 is added here.
"""

from __future__ import annotations

import itertools
import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, BinaryIO

import numpy as np

from pipeline.assets import filesystem, join, storage_errors
from pipeline.picture import MAX_PIXELS
from pipeline.readers.folders import Folder, asset_in, find_scenes, label_folder, list_folder
from pipeline.readers.frames import FrameCollector
from schemas.camera import Camera, Matrix, centred_intrinsics, check_intrinsics
from schemas.errors import DatasetError, FrameError, Reason
from schemas.scene import Asset, Frame, Scene, SceneRef

VERSION = 4
MAX_NAME = 4096
MAX_FRAMES = 100_000
"""An hour at 27 frames a second: a header that claims more is damaged."""
COLOR_CODECS = {1: "png", 2: "jpeg"}
DEPTH_CODECS = {0: "raw_u16", 1: "zlib_u16"}

_START = struct.Struct("<IQ")
_MATRICES = struct.Struct("<64f")
_FORMAT = struct.Struct("<ii4IfQ")
_FRAME = struct.Struct("<16f4Q")


class SensReader:
    """Scenes as `.sens` files: one file, a scene's folder `<scene>/<scene>.sens`, or a folder of either."""

    name = "sens"

    def recognises(self, uri: str) -> bool:
        """Whether `uri` is a .sens file, or a folder with some in it or one below."""
        return bool(self.list_scenes(uri))

    def list_scenes(self, uri: str) -> list[SceneRef]:
        """Every scene, in natural order of names."""
        if uri.endswith(".sens"):
            return [SceneRef(_stem(uri), uri, self.name)]
        folder = list_folder(uri)
        files = [file for file in folder.files if file.endswith(".sens")]
        if files:
            return [SceneRef(_stem(file), join(folder.uri, file), self.name) for file in files]
        return find_scenes(uri, self.name, _scene_in)

    def load(self, ref: SceneRef) -> Scene:
        """Frames "0", "1", ... in the file's order; those beyond the end of a truncated file become issues.

        Raises DatasetError, naming the byte, where the file's header is not one of version 4.
        """
        fs, path = filesystem(ref.uri)
        frames = FrameCollector(ref.id)
        try:
            with fs.open(path, "rb", cache_type="none") as stream:
                file = _File(stream, fs.size(path), ref)
                header, labels = _read_header(file), _labels_beside(ref)
                for index, entry in enumerate(_entries(file, header)):
                    frame_id = str(index)
                    frames.add(frame_id, frame_id, partial(_build, ref.uri, header, entry, labels, frame_id))
        except storage_errors() as error:
            raise DatasetError(
                f"{ref.uri} cannot be read: {error}", scene=ref.id, remedy="check the path and access to it"
            ) from None
        return frames.scene()


@dataclass(frozen=True, slots=True)
class _View:
    """Images of a kind: K [3, 3] with pixel centres at +0.5, (height, width)."""

    K: Matrix
    size: tuple[int, int]


@dataclass(frozen=True, slots=True)
class _Header:
    """What holds for all frames; the first one starts at byte `end`."""

    color: _View
    depth: _View | None
    depth_codec: str
    depth_scale: float
    frames: int
    end: int


@dataclass(frozen=True, slots=True)
class _Entry:
    """One frame's place in the file: colour from `color_at`, depth from `depth_at`, up to `end`."""

    pose: Matrix
    color_at: int
    depth_at: int
    end: int


@dataclass(frozen=True, slots=True)
class _File:
    """The open file, its length in bytes and the scene that it holds."""

    stream: BinaryIO
    size: int
    ref: SceneRef

    def read(self, layout: struct.Struct, offset: int, what: str) -> tuple[Any, ...]:
        """Values at `offset`. Raises DatasetError where the file ends before them."""
        if offset + layout.size > self.size:
            raise self.bad(offset, f"the file ends at byte {self.size}, within {what}")
        self.stream.seek(offset)
        return layout.unpack(self.stream.read(layout.size))

    def bad(self, offset: int, problem: str) -> DatasetError:
        """The error for what is wrong at a byte."""
        return DatasetError(
            f"{self.ref.uri}, byte {offset}: {problem}",
            scene=self.ref.id,
            remedy="expected a ScanNet .sens file of version 4; copy or download it again",
        )


def _scene_in(folder: Folder) -> str | None:
    file = f"{folder.name}.sens"
    return join(folder.uri, file) if file in folder.files else None


def _stem(uri: str) -> str:
    return uri.rsplit("/", 1)[-1].removesuffix(".sens")


def _labels_beside(ref: SceneRef) -> Folder | None:
    """Ground truth that was unpacked into the scene's folder."""
    parent = ref.uri.rpartition("/")[0]
    return label_folder(list_folder(parent)) if parent.rpartition("/")[2] == ref.id else None


def _read_header(file: _File) -> _Header:
    version, name_length = file.read(_START, 0, "its first fields")
    if version != VERSION:
        raise file.bad(0, f"version {version}, expected {VERSION}")
    if name_length > MAX_NAME:
        raise file.bad(4, f"a sensor name of {name_length} bytes, at most {MAX_NAME} are accepted")
    matrices_at = _START.size + name_length
    matrices = np.reshape(file.read(_MATRICES, matrices_at, "the intrinsics"), (4, 4, 4))
    format_at = matrices_at + _MATRICES.size
    color_codec, depth_codec, *sizes, scale, frames = file.read(_FORMAT, format_at, "the image formats")
    if color_codec not in COLOR_CODECS or depth_codec not in DEPTH_CODECS:
        codecs = f"colour {sorted(COLOR_CODECS)} and depth {sorted(DEPTH_CODECS)}"
        raise file.bad(format_at, f"colour coded as {color_codec} and depth as {depth_codec}, expected {codecs}")
    if not 0 < scale < math.inf:
        raise file.bad(format_at + 24, f"{scale} depth steps a unit, expected a positive number")
    end = format_at + _FORMAT.size
    if frames > min(MAX_FRAMES, (file.size - end) // _FRAME.size):
        raise file.bad(
            end - 8, f"{frames} frames, but the file has {file.size} bytes (and at most {MAX_FRAMES} are accepted)"
        )
    color = _read_view(file, matrices_at, matrices[0], sizes[:2])
    depth = _read_view(file, matrices_at + 128, matrices[2], sizes[2:]) if any(sizes[2:]) else None
    return _Header(color, depth, DEPTH_CODECS[depth_codec], scale, frames, end)


def _read_view(file: _File, offset: int, intrinsics: Matrix, size: list[int]) -> _View:
    width, height = size
    if not 0 < width * height <= MAX_PIXELS:
        raise file.bad(offset, f"images of {width} x {height} pixels, 1 to {MAX_PIXELS:,} are accepted")
    try:
        check_intrinsics(intrinsics[:3, :3], height, width)
    except FrameError as error:
        raise file.bad(offset, error.message) from None
    return _View(centred_intrinsics(intrinsics[:3, :3]), (height, width))


def _entries(file: _File, header: _Header) -> Iterator[_Entry | FrameError]:
    """Every frame's place; from the first one that does not end within the file on, what is wrong."""
    offset = header.end
    for index in range(header.frames):
        entry = _read_entry(file, offset)
        if entry is None or entry.end > file.size:
            yield from itertools.repeat(_cut_off(file, index, offset), header.frames - index)
            return
        yield entry
        offset = entry.end


def _read_entry(file: _File, offset: int) -> _Entry | None:
    if offset + _FRAME.size > file.size:
        return None
    *pose, _, _, color, depth = file.read(_FRAME, offset, "a frame's header")
    start = offset + _FRAME.size
    return _Entry(np.reshape(pose, (4, 4)), start, start + color, start + color + depth)


def _cut_off(file: _File, index: int, offset: int) -> FrameError:
    return FrameError(
        Reason.IMAGE_MISSING,
        f"{file.ref.uri} ends at byte {file.size}, within frame {index} that starts at byte {offset}",
        remedy="copy or download the file again",
    )


def _build(uri: str, header: _Header, entry: _Entry | FrameError, labels: Folder | None, frame_id: str) -> Frame:
    if isinstance(entry, FrameError):
        raise entry
    color_bytes, depth_bytes = entry.depth_at - entry.color_at, entry.end - entry.depth_at
    depth = header.depth if depth_bytes else None
    return Frame(
        id=frame_id,
        camera=_camera(header.color, entry),
        image=Asset(uri, offset=entry.color_at, length=color_bytes, size=color_bytes),
        depth=Asset(uri, header.depth_codec, entry.depth_at, depth_bytes, depth_bytes, depth.size, header.depth_scale)
        if depth
        else None,
        depth_camera=_camera(depth, entry) if depth else None,
        label=asset_in(labels, f"{frame_id}.png"),
    )


def _camera(view: _View, entry: _Entry) -> Camera:
    return Camera(view.K, entry.pose, *view.size)
