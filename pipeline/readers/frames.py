"""Hygiene shared by all readers: a bad frame is set aside with its reason and never costs its scene."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from pipeline.assets import read_size, storage_errors
from schemas.camera import Matrix, check_intrinsics, check_pose
from schemas.errors import FrameError, Reason
from schemas.scene import Asset, Frame, FrameIssue, Scene


class FrameCollector:
    """Takes the frames of a scene one by one: the sound ones to its frames, the others to its issues."""

    def __init__(self, scene: str) -> None:
        self._scene = scene
        self._frames: list[Frame] = []
        self._issues: list[FrameIssue] = []
        self._first: dict[str, tuple[str, str]] = {}

    def add(self, frame_id: str, file: str, build: Callable[[], Frame], key: str | None = None) -> None:
        """Build a frame, check it and keep it, or set it aside where building or checking raises FrameError.

        Args:
            frame_id: the frame's id.
            file: what messages call the image; differs between the images of a scene.
            build: makes the frame.
            key: frames with the same key are duplicates, of which the first counts; the id where absent.
        """
        first = self._first.setdefault(key or frame_id, (frame_id, file))
        if first != (frame_id, file):
            self.set_aside(file if first[0] == frame_id else frame_id, _duplicate(file, first[1]))
            return
        try:
            frame = build()
            _check(frame)
        except FrameError as error:
            self.set_aside(frame_id, error)
        else:
            self._frames.append(frame)

    def set_aside(self, name: str, error: FrameError) -> None:
        """Record a frame that cannot be used."""
        message = f"{error.message}. {error.remedy}" if error.remedy else error.message
        self._issues.append(FrameIssue(printable(name), error.reason, message))

    def scene(self) -> Scene:
        """Everything that was added, in order."""
        return Scene(self._scene, tuple(self._frames), tuple(self._issues))


def printable(name: str) -> str:
    """`name`, escaped where it is not text that can be printed and stored."""
    return name if name.isprintable() else ascii(name)[1:-1]


def first_size(images: Iterable[Asset]) -> tuple[int, int] | None:
    """(height, width) of the first image whose header can be read, None where none can."""
    for image in images:
        try:
            return read_size(image)
        except FrameError:
            continue
    return None


def parse_matrix(data: bytes | Exception) -> Matrix:
    """[4, 4] from 16 numbers as text. Raises ValueError where that is not what `data` holds."""
    if isinstance(data, storage_errors()):
        raise ValueError(data)
    if isinstance(data, Exception):
        raise data
    numbers = [float(number) for number in data.split()]
    if len(numbers) != 16:
        raise ValueError(f"{len(numbers)} numbers, expected 16")
    return np.array(numbers, np.float64).reshape(4, 4)


def _duplicate(file: str, first: str) -> FrameError:
    return FrameError(
        Reason.DUPLICATE_FRAME, f"{file} is the same frame as {first}, which is used", remedy="remove one of the two"
    )


def _check(frame: Frame) -> None:
    if printable(frame.id) != frame.id:
        raise FrameError(Reason.IMAGE_UNREADABLE, "the frame's name is not printable text", remedy="rename the file")
    _check_not_empty(frame.image, "image", Reason.IMAGE_UNREADABLE)
    if frame.depth:
        _check_not_empty(frame.depth, "depth map", Reason.DEPTH_UNREADABLE)
    check_pose(frame.camera.world_from_cam)  # the depth camera's is the same
    for camera in filter(None, (frame.camera, frame.depth_camera)):
        check_intrinsics(camera.K, camera.height, camera.width)


def _check_not_empty(asset: Asset, noun: str, reason: Reason) -> None:
    if asset.size == 0:
        raise FrameError(reason, f"{noun} {asset.uri} is empty (0 bytes)", remedy="export or copy the file again")
