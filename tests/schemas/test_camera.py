"""Cameras: rigid inverses, resizing, JSON, and what is refused."""

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from schemas.camera import Camera, centred_intrinsics, check_intrinsics, check_pose
from schemas.errors import FrameError, Reason

number = st.floats(-10, 10)


@st.composite
def rotations(draw):
    """Rotation matrices from unit quaternions."""
    q = draw(arrays(np.float64, 4, elements=st.floats(-1, 1)).filter(lambda v: np.linalg.norm(v) > 0.1))
    w, x, y, z = q / np.linalg.norm(q)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


@st.composite
def cameras(draw):
    """Any pinhole camera of a sensible size."""
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = draw(rotations()), draw(arrays(np.float64, 3, elements=number))
    height, width = draw(st.integers(1, 4000)), draw(st.integers(1, 4000))
    fx, fy = draw(st.floats(1, 5000)), draw(st.floats(1, 5000))
    K = np.array([[fx, 0, draw(st.floats(0, width))], [0, fy, draw(st.floats(0, height))], [0, 0, 1]])
    return Camera(K, pose, height, width)


def project(camera, point):
    """World point -> pixel."""
    x, y, z = camera.K @ (camera.cam_from_world @ [*point, 1])[:3]
    return np.array([x / z, y / z])


@given(cameras())
def test_inverse_motion_is_the_inverse(camera):
    np.testing.assert_allclose(camera.cam_from_world @ camera.world_from_cam, np.eye(4), atol=1e-12)
    np.testing.assert_allclose(camera.cam_from_world @ [*camera.centre, 1], [0, 0, 0, 1], atol=1e-12)


@given(cameras(), st.integers(1, 4000), st.integers(1, 4000))
def test_resizing_an_image_scales_its_pixels(camera, height, width):
    point = camera.world_from_cam[:3, :3] @ [0.3, -0.2, 2.0] + camera.centre
    scale = np.array([width / camera.width, height / camera.height])
    resized = camera.resized(height, width)
    np.testing.assert_allclose(project(resized, point), scale * project(camera, point), rtol=1e-6, atol=1e-6)
    back = resized.resized(camera.height, camera.width)
    np.testing.assert_allclose(back.K, camera.K, rtol=1e-12, atol=1e-12)


def test_the_image_spans_zero_to_its_size_at_any_resolution():
    camera = Camera(centred_intrinsics(np.array([[500.0, 0, 319.5], [0, 500, 239.5], [0, 0, 1]])), np.eye(4), 480, 640)
    assert camera.K[:2, 2].tolist() == [320, 240]
    assert camera.resized(60, 80).K[:2, 2].tolist() == [40, 30]


@given(cameras())
def test_json_keeps_every_bit(camera):
    back = Camera.from_json(camera.to_json())
    assert np.array_equal(back.K, camera.K)
    assert np.array_equal(back.world_from_cam, camera.world_from_cam)
    assert (back.height, back.width) == (camera.height, camera.width)


@given(cameras())
def test_sound_cameras_pass(camera):
    check_pose(camera.world_from_cam)
    check_pose(np.round(camera.world_from_cam, 6))
    check_intrinsics(camera.K, camera.height, camera.width)


def reason_of(function, *arguments):
    with warnings.catch_warnings(), pytest.raises(FrameError) as caught:
        warnings.simplefilter("error")
        function(*arguments)
    assert caught.value.remedy
    return caught.value.reason


@given(cameras(), st.integers(0, 15), st.sampled_from([np.nan, np.inf, -np.inf]))
def test_one_entry_that_is_not_finite_is_enough(camera, entry, value):
    pose = camera.world_from_cam.copy()
    pose.flat[entry] = value
    assert reason_of(check_pose, pose) is Reason.POSE_NOT_FINITE


@given(rotations(), st.floats(1.01, 100) | st.floats(0, 0.99))
def test_scaled_and_mirrored_rotations_are_refused(rotation, scale):
    pose = np.eye(4)
    pose[:3, :3] = scale * rotation
    assert reason_of(check_pose, pose) is Reason.POSE_NOT_RIGID
    pose[:3, :3] = rotation @ np.diag([1, 1, -1])
    assert reason_of(check_pose, pose) is Reason.POSE_NOT_RIGID


@pytest.mark.parametrize("value", [1e100, 1e200, -1e308])
def test_enormous_entries_are_not_rigid_and_raise_no_warning(value):
    pose = np.full((4, 4), value)
    assert reason_of(check_pose, pose) is Reason.POSE_NOT_RIGID
    pose = np.eye(4)
    pose[:3, :3] = [[value, -value, value], [value, value, -value], [-value, value, value]]
    assert reason_of(check_pose, pose) is Reason.POSE_NOT_RIGID


def test_a_last_row_that_is_not_0001_is_refused():
    pose = np.eye(4)
    pose[3, 0] = 0.5
    assert reason_of(check_pose, pose) is Reason.POSE_NOT_RIGID


@pytest.mark.parametrize(
    "change",
    [
        {"K": np.zeros((3, 3))},
        {"K": np.full((3, 3), np.nan)},
        {"K": np.diag([-1.0, 1, 1])},
        {"K": np.diag([np.inf, 1, 1])},
        {"K": np.array([[1.0, 0, 0], [0.1, 1, 0], [0, 0, 1]])},
        {"K": np.diag([1.0, 1, 2])},
        {"height": 0},
        {"width": -5},
    ],
)
def test_intrinsics_of_no_pinhole_are_refused(change):
    values = {"K": np.eye(3), "height": 4, "width": 5, **change}
    assert reason_of(check_intrinsics, values["K"], values["height"], values["width"]) is Reason.INTRINSICS_INVALID
