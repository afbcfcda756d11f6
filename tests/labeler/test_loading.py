"""Depth on the colour image's grid, and views as tensors."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.loading import as_images, as_tensors, load_view, register_depth
from schemas.camera import Camera
from schemas.config import LiftConfig
from schemas.errors import FrameError, Reason

CPU = torch.device("cpu")


def _camera(height, width, fx, fy, cx, cy):
    return Camera(np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1.0]]), np.eye(4), height, width)


def _numbered(camera):
    """A depth map that tells which pixel it was read from."""
    return np.arange(1, camera.height * camera.width + 1, dtype=np.float32).reshape(camera.height, camera.width)


def test_depth_of_another_aspect_ratio_is_registered_exactly():
    """Both of ScanNet's cameras: each colour pixel reads the depth pixel that its ray falls into."""
    colour = _camera(968, 1296, 1170.19, 1170.19, 647.75, 483.75)
    camera = _camera(480, 640, 577.87, 577.87, 319.5, 239.5)
    registered = register_depth(_numbered(camera), camera, colour)
    assert registered.shape == (968, 1296)
    rng = np.random.default_rng(0)
    for i, j in zip(rng.integers(0, 968, 500), rng.integers(0, 1296, 500), strict=True):
        x, y, _ = camera.K @ np.linalg.inv(colour.K) @ [j + 0.5, i + 0.5, 1.0]
        row, column = int(np.floor(y)), int(np.floor(x))
        inside = 0 <= row < 480 and 0 <= column < 640
        assert registered[i, j] == (row * 640 + column + 1 if inside else 0)


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 4), st.integers(1, 4))
def test_an_enlarged_image_repeats_its_depth(height, width, up, across):
    camera = _camera(height, width, 7.3, 6.1, 2.2, 3.3)
    registered = register_depth(_numbered(camera), camera, camera.resized(height * up, width * across))
    assert np.array_equal(registered, _numbered(camera).repeat(up, 0).repeat(across, 1))


def test_the_same_camera_changes_nothing():
    camera = _camera(480, 640, 577.590698, 578.729797, 318.905426, 242.683609)
    assert np.array_equal(register_depth(_numbered(camera), camera, camera), _numbered(camera))


def test_a_depth_camera_that_sees_less_leaves_the_rest_unknown():
    colour = _camera(40, 60, 30, 30, 30, 20)
    narrow = _camera(40, 60, 60, 60, 30, 20)
    registered = register_depth(np.ones((40, 60), np.float32), narrow, colour)
    assert registered[10:30, 15:45].all()
    assert registered.sum() == 20 * 30


def test_a_view_is_its_picture_and_its_depth(sound_room):
    frame = sound_room.scene.frames[1]
    view = load_view(frame, LiftConfig(method="depth"))
    stored = cv2.imread(frame.depth.uri, cv2.IMREAD_UNCHANGED)
    np.testing.assert_allclose(view.depth, stored / 1000, rtol=1e-6)
    assert np.array_equal(view.image[..., ::-1], cv2.imread(frame.image.uri))
    for method in ("rgb", "none"):
        assert load_view(frame, LiftConfig(method=method)).depth is None


def test_depth_that_does_not_fit_its_camera_is_refused(sound_room):
    frame = sound_room.scene.frames[1]
    small = frame.camera.resized(24, 32)
    with pytest.raises(FrameError, match="64x48.*32x24") as refused:
        load_view(replace(frame, depth_camera=small), LiftConfig(method="depth"))
    assert refused.value.reason is Reason.DEPTH_SIZE_MISMATCH


def test_views_of_several_sizes_share_a_batch(sound_room):
    views = [load_view(frame, LiftConfig(method="depth")) for frame in sound_room.scene.frames[:2]]
    camera = views[1].frame.camera
    cropped = Camera(camera.K, camera.world_from_cam, 30, 40)
    views[1] = replace(
        views[1], frame=replace(views[1].frame, camera=cropped), image=views[1].image[:30, :40], depth=None
    )
    batch, depth = as_tensors(views, CPU)
    assert batch.images.shape == (2, 3, 48, 64)
    assert batch.sizes.tolist() == [[48, 64], [30, 40]]
    assert not batch.images[1, :, 30:].any()
    assert not depth[1].any()
    assert torch.equal(batch.images[1, :, :30, :40], as_images(views, CPU)[1])
    assert batch.images.max() <= 1
    assert batch.K.dtype == batch.world_from_cam.dtype == torch.float64
