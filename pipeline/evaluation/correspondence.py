"""Which pixels of two views see the same point, by true depth and a z-test. numpy only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from schemas.camera import Camera

GAPS = (1, 2, 4)
"""Distances, in views of the scene's order, at which consistency is measured."""
NEAREST_DEPTH = 0.05
"""Points nearer than this to a camera, in scene units, are not seen by it."""
RELATIVE_TOLERANCE, ABSOLUTE_TOLERANCE = 0.03, 0.02
"""The z-test: |stored depth - depth of the point| < relative x depth + absolute, in scene units."""

Flat = NDArray[np.intp]


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """A camera and its true depth.

    Attributes:
        camera: pinhole camera, pixel centres at +0.5.
        depth: [H, W] float z-depth in scene units at the camera's size, 0 = unknown.
    """

    camera: Camera
    depth: NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Points:
    """Surface points that a view sees.

    Attributes:
        pixels: [N] flat pixel indices, ascending.
        world: [3, N] points in the world.
    """

    pixels: Flat
    world: NDArray[np.float64]

    def keep(self, mask: NDArray[np.bool_]) -> Points:
        """The points where `mask` [N] holds."""
        return Points(self.pixels[mask], self.world[:, mask])


def unproject(view: View) -> Points:
    """The surface points of every pixel whose depth is known."""
    pixels = np.flatnonzero(view.depth > 0)
    y, x = np.divmod(pixels, view.camera.width)
    rays = np.linalg.inv(view.camera.K) @ np.stack([x + 0.5, y + 0.5, np.ones(pixels.size)])
    points = rays * view.depth.ravel()[pixels].astype(np.float64)
    return Points(pixels, view.camera.world_from_cam[:3, :3] @ points + view.camera.centre[:, None])


def seen_by(points: Points, view: View) -> tuple[NDArray[np.bool_], Flat]:
    """Which points another view sees, and where.

    Returns:
        seen: [N] bool.
        pixels: [seen.sum()] flat indices of the nearest pixels of `view`.
    """
    camera = view.camera
    projection = camera.K @ camera.cam_from_world[:3]
    u, v, z = projection[:, :3] @ points.world + projection[:, 3:]
    z_safe = np.maximum(z, 1e-6)
    x, y = np.floor(u / z_safe), np.floor(v / z_safe)
    seen = (z > NEAREST_DEPTH) & (x >= 0) & (x < camera.width) & (y >= 0) & (y < camera.height)
    pixels = y[seen].astype(np.intp) * camera.width + x[seen].astype(np.intp)
    stored, expected = view.depth.ravel()[pixels], z[seen]
    same = (stored > 0) & (np.abs(stored - expected) < RELATIVE_TOLERANCE * expected + ABSOLUTE_TOLERANCE)
    seen[seen] = same
    return seen, pixels[same]


def hull(view: View) -> NDArray[np.float64]:
    """[3, 8] world corners of the part of the view's frustum that holds all its points."""
    known = view.depth[view.depth > 0]
    near, far = (float(known.min()), float(known.max())) if known.size else (0.0, 0.0)
    w, h = view.camera.width, view.camera.height
    corners = np.array([[0, w, 0, w], [0, 0, h, h], [1, 1, 1, 1]], dtype=np.float64)
    rays = np.linalg.inv(view.camera.K) @ corners
    in_camera = np.concatenate([rays * near, rays * far], axis=1)
    return view.camera.world_from_cam[:3, :3] @ in_camera + view.camera.centre[:, None]


def may_overlap(corners: NDArray[np.float64], camera: Camera) -> bool:
    """False only where no point inside the convex hull of `corners` [3, 8] can be in the camera's image."""
    projection = camera.K @ camera.cam_from_world[:3]
    u, v, z = projection[:, :3] @ corners + projection[:, 3:]
    behind_a_plane = (
        (z <= NEAREST_DEPTH).all(),
        (u < 0).all(),
        (v < 0).all(),
        (u > camera.width * z).all(),
        (v > camera.height * z).all(),
    )
    return not any(behind_a_plane)


def by_distance(views: Sequence[View], target: int) -> list[int]:
    """All views, nearest camera centre first; the target itself leads."""
    centres = np.stack([view.camera.centre for view in views])
    return np.argsort(((centres - centres[target]) ** 2).sum(1), kind="stable").tolist()


def matches(views: Sequence[View], gaps: Sequence[int] = GAPS) -> Iterator[tuple[int, int, Flat, Flat]]:
    """Co-visible pixels of view pairs `gap` apart: (view a, view b, flat pixels of a, flat pixels of b)."""
    hulls = [hull(view) for view in views]
    for a, view in enumerate(views):
        partners = [a + gap for gap in gaps if a + gap < len(views) and may_overlap(hulls[a], views[a + gap].camera)]
        if not partners:
            continue
        points = unproject(view)
        for b in partners:
            seen, pixels = seen_by(points, views[b])
            yield a, b, points.pixels[seen], pixels


def registered_depth(depth: NDArray[np.float32], depth_camera: Camera, camera: Camera) -> NDArray[np.float32]:
    """A depth map resampled (nearest pixel) to a camera at the same pose: [camera.height, camera.width]."""
    if depth.shape == (camera.height, camera.width) and np.allclose(depth_camera.K, camera.K):
        return depth
    to_depth = depth_camera.K @ np.linalg.inv(camera.K)
    x = np.arange(camera.width) + 0.5
    y = np.arange(camera.height) + 0.5
    columns = np.floor(to_depth[0, 0] * x + to_depth[0, 1] * y[:, None] + to_depth[0, 2]).astype(np.intp)
    rows = np.floor(to_depth[1, 1] * y[:, None] + to_depth[1, 2] + 0 * x).astype(np.intp)
    inside = (columns >= 0) & (columns < depth.shape[1]) & (rows >= 0) & (rows < depth.shape[0])
    found = depth[rows.clip(0, depth.shape[0] - 1), columns.clip(0, depth.shape[1] - 1)]
    return np.where(inside, found, np.float32(0))
