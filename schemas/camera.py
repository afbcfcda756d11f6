"""A pinhole camera: the one representation of a view's geometry in this project.

Conventions (docs/conventions.md): OpenCV axes (x right, y down, z forward), `world_from_cam` in the
dataset's own world and unit (metres for ScanNet), pixel *centres* at +0.5, so that the image spans
[0, width] x [0, height] and resizing an image by s multiplies the first two rows of K by s.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.errors import FrameError, Reason

Matrix = NDArray[np.float64]

RIGID_TOLERANCE = 1e-3
"""Largest |R R^T - I| entry taken for a rotation: text files carry about 6 decimals."""
FARTHEST = 1e9
"""Scene units from the origin: beyond, a float32 has no digits left for the scene."""
FOCAL_RANGE = (1e-4, 1e4)
"""Focal lengths in image sides, and how far off the principal point may be: outside, the file is damaged."""


@dataclass(frozen=True, slots=True, eq=False)
class Camera:
    """Pinhole camera of one view.

    Attributes:
        K: [3, 3] intrinsics in pixels, pixel centres at +0.5, no skew required.
        world_from_cam: [4, 4] rigid motion from OpenCV camera axes to the world.
        height, width: image size in pixels.
    """

    K: Matrix
    world_from_cam: Matrix
    height: int
    width: int

    @property
    def cam_from_world(self) -> Matrix:
        """[4, 4], the exact rigid inverse of `world_from_cam`."""
        rotation, centre = self.world_from_cam[:3, :3], self.world_from_cam[:3, 3]
        inverse = np.eye(4)
        inverse[:3, :3] = rotation.T
        inverse[:3, 3] = -rotation.T @ centre
        return inverse

    @property
    def centre(self) -> Matrix:
        """[3] camera centre in the world."""
        return self.world_from_cam[:3, 3]

    def resized(self, height: int, width: int) -> Camera:
        """The same camera behind an image resized to (height, width)."""
        scale = np.diag([width / self.width, height / self.height, 1.0])
        return Camera(scale @ self.K, self.world_from_cam, height, width)

    def to_json(self) -> dict[str, Any]:
        """Plain numbers: `K` (9) and `world_from_cam` (16) row-major, `size` = [height, width]."""
        return {
            "K": self.K.ravel().tolist(),
            "world_from_cam": self.world_from_cam.ravel().tolist(),
            "size": [self.height, self.width],
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Camera:
        """Inverse of `to_json`; no validation, since only validated cameras are ever written."""
        K = np.asarray(data["K"], dtype=np.float64).reshape(3, 3)
        pose = np.asarray(data["world_from_cam"], dtype=np.float64).reshape(4, 4)
        return cls(K, pose, *data["size"])


def check_pose(world_from_cam: Matrix) -> None:
    """Raise `FrameError` unless the [4, 4] matrix is a finite rigid motion with det(R) = +1."""
    if not np.isfinite(world_from_cam).all():
        raise FrameError(
            Reason.POSE_NOT_FINITE,
            "the pose has infinite or NaN entries, expected a rigid 4x4 camera-to-world matrix",
            remedy="tracking was lost in this frame; it is left out",
        )
    rotation = world_from_cam[:3, :3]
    with np.errstate(all="ignore"):  # finite entries may still be 1e200 or 1e-310
        error = float(np.abs(rotation @ rotation.T - np.eye(3)).max())
        determinant = float(np.linalg.det(rotation))
        bottom_error = float(np.abs(world_from_cam[3] - [0, 0, 0, 1]).max())
        distance = float(np.abs(world_from_cam[:3, 3]).max())
    if not (distance <= FARTHEST and error <= RIGID_TOLERANCE and determinant > 0 and bottom_error <= RIGID_TOLERANCE):
        raise FrameError(
            Reason.POSE_NOT_RIGID,
            f"the pose is not a rigid motion: |R R^T - I| = {error:.3g} (at most {RIGID_TOLERANCE:g}), "
            f"det(R) = {determinant:.3g} (expected 1), last row {world_from_cam[3].tolist()} (expected [0, 0, 0, 1]), "
            f"{distance:.3g} units from the origin (at most {FARTHEST:g})",
            remedy="check that poses are camera-to-world matrices without scale or mirroring",
        )


def check_intrinsics(K: Matrix, height: int, width: int) -> None:
    """Raise `FrameError` unless K is finite, upper triangular, with positive focal lengths near the image's size."""
    shape_is_right = K[2].tolist() == [0.0, 0.0, 1.0] and K[1, 0] == 0.0
    side = max(height, width)
    shortest, longest = (share * side for share in FOCAL_RANGE)
    focal_is_right = (
        np.isfinite(K).all()
        and shortest <= min(K[0, 0], K[1, 1]) <= max(K[0, 0], K[1, 1]) <= longest
        and np.abs(K[:2, 1:]).max() <= longest
    )
    if not (shape_is_right and focal_is_right and height > 0 and width > 0):
        raise FrameError(
            Reason.INTRINSICS_INVALID,
            f"intrinsics {K.tolist()} of a {width}x{height} image are not those of a pinhole camera",
            remedy="expected [[fx, s, cx], [0, fy, cy], [0, 0, 1]] with positive focal lengths in pixels",
        )


def centred_intrinsics(K: Matrix) -> Matrix:
    """Shift a K whose pixel centres are at integers (ScanNet, instant-ngp) to centres at +0.5."""
    shifted = K.copy()
    shifted[0, 2] += 0.5
    shifted[1, 2] += 0.5
    return shifted
