"""Choosing source views: what they must be, and what they must not depend on."""

import time
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.view_selection import CANDIDATES, estimate_depths, select_sources
from schemas.camera import Camera

Orbit = Callable[..., list[Camera]]
Looking = Callable[..., Camera]


def moved(cameras: list[Camera], rotation: np.ndarray, shift: np.ndarray, scale: float) -> list[Camera]:
    """The same cameras in another world: x -> scale * (R x + t)."""
    world = np.eye(4)
    world[:3, :3], world[:3, 3] = rotation, shift
    poses = [world @ camera.world_from_cam for camera in cameras]
    for pose in poses:
        pose[:3, 3] *= scale
    return [Camera(camera.K, pose, camera.height, camera.width) for camera, pose in zip(cameras, poses, strict=True)]


def test_sources_are_other_views_each_at_most_once(orbit: Orbit) -> None:
    for view, sources in enumerate(select_sources(orbit(30), 8, (2.0, 3.0, 4.0))):
        assert len(sources) == 8
        assert len(set(sources)) == len(sources)
        assert view not in sources


@pytest.mark.parametrize("count", [1, 3, 29, 64])
def test_there_are_never_more_sources_than_asked_for(orbit: Orbit, count: int) -> None:
    assert all(0 < len(sources) <= min(count, 29) for sources in select_sources(orbit(30), count, (2.0, 3.0)))


@pytest.mark.parametrize("count", [0, 1])
def test_a_lone_view_has_no_sources(orbit: Orbit, count: int) -> None:
    assert select_sources(orbit(1)[:count], 8) == [()] * count


@given(seed=st.integers(0, 10**6), scale=st.floats(0.01, 100.0))
@settings(max_examples=25, deadline=None)
def test_world_frame_and_unit_do_not_matter(orbit: Orbit, seed: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    rotation = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    rotation *= np.linalg.det(rotation)
    cameras = orbit(16, seed)
    elsewhere = moved(cameras, rotation, rng.normal(size=3) * 5, scale)
    assert select_sources(cameras, 6, (2.0, 3.0, 4.0)) == select_sources(
        elsewhere, 6, (2.0 * scale, 3.0 * scale, 4.0 * scale)
    )
    assert select_sources(cameras, 6) == select_sources(elsewhere, 6)


@given(seed=st.integers(0, 10**6))
@settings(max_examples=25, deadline=None)
def test_the_order_of_views_does_not_matter(orbit: Orbit, seed: int) -> None:
    cameras = orbit(20, seed)
    order = np.random.default_rng(seed).permutation(len(cameras))
    shuffled = select_sources([cameras[i] for i in order], 6, (2.0, 3.0, 4.0))
    straight = select_sources(cameras, 6, (2.0, 3.0, 4.0))
    assert [tuple(int(order[s]) for s in sources) for sources in shuffled] == [straight[i] for i in order]


def test_equal_views_are_taken_lowest_index_first(looking: Looking) -> None:
    target = looking(np.array([3.0, 0, 0]), np.zeros(3))
    twin = looking(np.array([3.0, 1, 0]), np.zeros(3))
    assert select_sources([target, twin, twin, twin], 3, (3.0,))[0] == (1, 2, 3)


def test_a_turntable_has_equal_neighbours_and_rounding_does_not_choose_between_them(looking: Looking) -> None:
    angles = np.arange(12) * np.pi / 6
    table = [looking(np.array([3 * np.cos(a), 3 * np.sin(a), 1.0]), np.zeros(3)) for a in angles]
    straight = select_sources(table, 4, (2.0, 3.0, 4.0))
    for turn in (0.3, 1.7, 4.0):
        rotation = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1.0]])
        assert select_sources(moved(table, rotation, np.array([1.0, 2, 3]), 1.1), 4, (2.2, 3.3, 4.4)) == straight


def test_a_view_that_sees_nothing_of_the_target_is_no_source(looking: Looking) -> None:
    towards = [looking(np.array([3.0, y, 0]), np.zeros(3)) for y in (0.0, 0.5, 1.0)]
    away = looking(np.array([3.5, 0, 0]), np.array([9.0, 0, 0]))
    sources = select_sources([*towards, away], 8, (2.0, 3.0, 4.0))
    assert sorted(sources[0]) == [1, 2]
    assert sources[3] == ()


def test_a_near_duplicate_comes_after_views_that_add_something(looking: Looking) -> None:
    target = looking(np.array([3.0, 0, 0]), np.zeros(3))
    copies = [looking(np.array([3.0, 1e-3 * i, 0]), np.zeros(3)) for i in range(1, 6)]
    others = [looking(np.array([3.0, y, 0]), np.zeros(3)) for y in (0.6, -0.6, 1.2)]
    chosen = select_sources([target, *copies, *others], 8, (2.5, 3.0, 3.5))[0]
    assert set(chosen[:3]) == {6, 7, 8}
    assert len(chosen) == 8


def test_a_video_is_not_lifted_from_one_second_of_itself(orbit: Orbit) -> None:
    cameras = orbit(600)
    middle = select_sources(cameras, 8, (2.0, 3.0, 4.0))[300]
    centres = np.stack([cameras[s].centre for s in (300, *middle)])
    distance = np.linalg.norm(centres[1:] - centres[0], axis=1)
    assert np.median(distance) > 0.3
    assert distance.max() < 4.5


def test_sources_cover_what_the_target_sees(orbit: Orbit) -> None:
    """Each corner of the image at middle depth is seen by a source, as no single source would see them all."""
    cameras = orbit(24)
    for view, sources in enumerate(select_sources(cameras, 4, (2.0, 3.0))):
        camera = cameras[view]
        corners = np.array([[8, 6, 1], [72, 6, 1], [8, 54, 1], [72, 54, 1.0]]) @ np.linalg.inv(camera.K).T * 2.5
        world = corners @ camera.world_from_cam[:3, :3].T + camera.centre
        seen = np.zeros(4, bool)
        for source in sources:
            other = cameras[source]
            local = (world - other.centre) @ other.world_from_cam[:3, :3]
            pixel = (local @ other.K.T)[:, :2] / local[:, 2:]
            seen |= (local[:, 2] > 0) & ((pixel >= 0) & (pixel <= [other.width, other.height])).all(axis=1)
        assert seen.all()


def test_more_views_than_candidates_still_gives_full_lists(orbit: Orbit) -> None:
    assert all(len(sources) == 8 for sources in select_sources(orbit(3 * CANDIDATES), 8, (2.0, 3.0, 4.0)))


def test_depths_are_found_where_axes_meet(orbit: Orbit) -> None:
    near, middle, far = estimate_depths(orbit(40))
    assert near < middle < far
    assert 1.5 < near < 4.0
    assert 3.0 < far < 8.0


@pytest.mark.parametrize("spread", [0.0, 0.1, 10.0])
def test_depths_of_views_that_never_meet_follow_their_spread(looking: Looking, spread: float) -> None:
    parallel = [looking(np.array([0, spread * y, 0.0]), np.array([9, spread * y, 0.0])) for y in range(5)]
    near, middle, far = estimate_depths(parallel)
    assert 0 < near < middle < far
    assert near == pytest.approx(spread or 1.0, rel=1.0)


def test_depths_scale_with_the_world(orbit: Orbit) -> None:
    cameras = orbit(20)
    large = moved(cameras, np.eye(3), np.zeros(3), 1000.0)
    assert np.allclose(np.array(estimate_depths(cameras)) * 1000, estimate_depths(large))


@pytest.mark.slow
def test_five_thousand_views_take_seconds(orbit: Orbit) -> None:
    cameras = orbit(5000)
    started = time.process_time()
    select_sources(cameras, 8, (2.0, 3.0, 4.0))
    assert time.process_time() - started < 30
