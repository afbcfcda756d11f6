"""Cross-view consistency and the geometry below it, on a scene whose correspondences are exact."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.evaluation.correspondence import (
    View,
    hull,
    matches,
    may_overlap,
    registered_depth,
    seen_by,
    unproject,
)
from pipeline.evaluation.scene_scores import count_agreement
from schemas.camera import Camera

Wall = Callable[..., tuple[list[View], np.ndarray]]


def consistency(views: list[View], labels: np.ndarray) -> float:
    ((agreeing, covisible),) = count_agreement(views, [labels])
    return agreeing / covisible


def test_the_truth_is_fully_consistent(wall: Wall) -> None:
    views, labels = wall()
    assert consistency(views, labels) == 1


def test_one_wrong_view_costs_exactly_its_pairs(wall: Wall) -> None:
    views, labels = wall(views=3, step=0)
    labels[0] = 99
    assert consistency(views, labels) == pytest.approx(1 / 3)


def test_independent_random_labels_agree_by_chance(wall: Wall) -> None:
    views, labels = wall(views=8, height=40, width=60)
    p = np.array([0.5, 0.3, 0.2])
    labels = np.random.default_rng(1).choice(3, labels.shape, p=p)
    assert consistency(views, labels) == pytest.approx((p**2).sum(), abs=0.02)


def test_matches_are_shifted_by_whole_pixels(wall: Wall) -> None:
    views, _ = wall(views=5, step=3)
    for a, b, pixels_a, pixels_b in matches(views):
        assert (pixels_a - pixels_b == 3 * (b - a)).all()
        assert pixels_a.size == 24 * (32 - 3 * (b - a))


def test_occluded_points_do_not_match(wall: Wall) -> None:
    views, _ = wall(views=2, step=0)
    nearer = View(views[1].camera, np.full_like(views[1].depth, 1.0))
    assert not seen_by(unproject(views[0]), nearer)[0].any()


def test_unknown_depth_matches_nothing(wall: Wall) -> None:
    views, _ = wall(views=2, step=0)
    unknown = View(views[0].camera, np.zeros_like(views[0].depth))
    assert unproject(unknown).pixels.size == 0
    assert not seen_by(unproject(views[0]), unknown)[0].any()
    assert may_overlap(hull(unknown), views[1].camera) in (True, False)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_pairs_that_are_skipped_share_no_pixel(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = (View(random_camera(rng), rng.uniform(0.5, 3, (6, 8)).astype(np.float32)) for _ in range(2))
    wide_open = View(b.camera, np.full((6, 8), 1e6, np.float32))
    for target in (b, wide_open):
        if not may_overlap(hull(a), b.camera):
            assert not seen_by(unproject(a), target)[0].any()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_a_rigid_motion_of_the_world_changes_nothing(seed: int) -> None:
    rng = np.random.default_rng(seed)
    cameras = [random_camera(rng), random_camera(rng)]
    depths = [rng.uniform(0.5, 3, (6, 8)).astype(np.float32) for _ in cameras]
    motion = random_camera(rng).world_from_cam
    moved = [Camera(c.K, motion @ c.world_from_cam, c.height, c.width) for c in cameras]
    plain, after = (
        seen_by(unproject(View(pair[0], depths[0])), View(pair[1], depths[1]))[0] for pair in (cameras, moved)
    )
    assert (plain == after).all()


def test_depth_of_another_size_is_registered_by_nearest_pixel() -> None:
    camera = Camera(np.array([[8.0, 0, 4], [0, 8, 3], [0, 0, 1]]), np.eye(4), 6, 8)
    depth = np.arange(12, dtype=np.float32).reshape(3, 4)
    resized = registered_depth(depth, camera.resized(3, 4), camera)
    assert (resized == depth.repeat(2, 0).repeat(2, 1)).all()
    assert registered_depth(resized, camera, camera) is resized


def test_depth_beyond_its_own_image_is_unknown() -> None:
    camera = Camera(np.array([[8.0, 0, 4], [0, 8, 3], [0, 0, 1]]), np.eye(4), 6, 8)
    narrow = Camera(np.array([[8.0, 0, 2], [0, 8, 3], [0, 0, 1]]), np.eye(4), 6, 4)
    resized = registered_depth(np.ones((6, 4), np.float32), narrow, camera)
    assert (resized[:, 2:6] == 1).all()
    assert (resized[:, :2] == 0).all()
    assert (resized[:, 6:] == 0).all()


def random_camera(rng: np.random.Generator) -> Camera:
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    pose = np.eye(4)
    pose[:3, :3] = rotation * np.sign(np.linalg.det(rotation))
    pose[:3, 3] = rng.uniform(-1, 1, 3)
    K = np.array([[rng.uniform(4, 12), 0, 4], [0, rng.uniform(4, 12), 3], [0, 0, 1]])
    return Camera(K, pose, 6, 8)
