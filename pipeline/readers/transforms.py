"""Values of a transforms.json: the lens, matrices and numbers, each checked where it is read."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from pipeline.picture import ALLOWANCE, FACTOR, MAX_PIXELS
from schemas.camera import Matrix
from schemas.errors import FrameError, Reason

PINHOLE_MODELS = frozenset({"PINHOLE", "SIMPLE_PINHOLE", "PERSPECTIVE", "OPENCV", "SIMPLE_RADIAL", "RADIAL"})
"""Models that are a pinhole while their distortion is zero."""
DISTORTION = ("k1", "k2", "k3", "k4", "k5", "k6", "p1", "p2")
LARGEST = 1e12
"""Numbers beyond are damage."""

Entry = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Lens:
    """K [3, 3] with pixel centres at +0.5, of an image of height x width pixels."""

    K: Matrix
    height: int
    width: int


def check_structure(content: bytes) -> None:
    """Raise ValueError where JSON would take more memory than its size justifies: brackets are cheap to write."""
    needed = 64 * content.count(b"[") + 232 * content.count(b"{") + 40 * content.count(b",") + 96 * content.count(b":")
    if needed > ALLOWANCE + (FACTOR - 2) * len(content):  # the text itself is held twice, as bytes and as characters
        raise ValueError(
            f"it would take {needed / 2**20:,.0f} MB of memory, which {len(content):,} bytes are not given"
        )


def read_lens(entry: Entry, shared: Entry, of_file: tuple[int, int] | None) -> Lens:
    """Intrinsics of an entry, from `shared` where it says nothing itself; (height, width) `of_file` where neither does.

    Without cx, cy the principal point is the image's centre. Raises FrameError (intrinsics_invalid).
    """
    number = partial(number_of, entry, shared)
    height, width = _image_size(number("h"), number("w"), of_file)
    fx = _focal(number("fl_x"), number("camera_angle_x"), width)
    fy = _focal(number("fl_y"), number("camera_angle_y"), height) or fx
    if fx is None or fy is None:
        raise FrameError(Reason.INTRINSICS_INVALID, "no focal length", remedy="give fl_x or camera_angle_x")
    cx, cy = number("cx"), number("cy")
    K = np.eye(3)
    K[0, 0], K[1, 1] = fx, fy
    K[0, 2] = width / 2 if cx is None else cx + 0.5
    K[1, 2] = height / 2 if cy is None else cy + 0.5
    return Lens(K, height, width)


def _image_size(height: float | None, width: float | None, of_file: tuple[int, int] | None) -> tuple[int, int]:
    if height is None or width is None:
        return of_file or (0, 0)
    if height % 1 or width % 1 or min(height, width) < 1 or height * width > MAX_PIXELS:
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


def check_pinhole(source: Entry) -> None:
    """Raise FrameError (lens_distorted) unless what the source says of the lens is that of a pinhole."""
    model = source.get("camera_model") or "PINHOLE"
    found = [f"{key} = {source[key]!r:.40}" for key in DISTORTION if source.get(key) not in (None, 0)]
    if str(model).upper() not in PINHOLE_MODELS or source.get("is_fisheye"):
        found.append(f"camera_model {model!r:.40}")
    if found:
        raise FrameError(
            Reason.LENS_DISTORTED,
            f"the images are distorted ({', '.join(found)}), expected those of a pinhole camera",
            remedy="undistort them first, for example with `colmap image_undistorter`, and write transforms.json anew",
        )


def parse_rows(value: object) -> Matrix:
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


def number_of(entry: Entry, shared: Entry, key: str) -> float | None:
    """A number of the entry, or of all entries, None where there is none."""
    value = entry.get(key, shared.get(key))
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= LARGEST:
        raise FrameError(
            Reason.INTRINSICS_INVALID, f"{key} is {value!r:.60}, expected a number", remedy=f"correct {key}"
        )
    return float(value)
