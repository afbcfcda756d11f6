"""Warping scores: what is painted on surfaces agrees between views, what is painted on pictures does not."""

import numpy as np
import pytest

from pipeline.evaluation.correspondence import View
from pipeline.evaluation.image_consistency import sharpness, warp, warping
from schemas.camera import Camera

HEIGHT, WIDTH, FOCAL = 40, 60, 50.0


def facing(x: float, depth: float = 2.0) -> View:
    """A view of the plane z = 2 from (x, 0, 0), straight on."""
    pose = np.eye(4)
    pose[0, 3] = x
    K = np.array([[FOCAL, 0, WIDTH / 2], [0, FOCAL, HEIGHT / 2], [0, 0, 1]])
    return View(Camera(K, pose, HEIGHT, WIDTH), np.full((HEIGHT, WIDTH), depth, np.float32))


def on_plane(view: View, shade: float = 0.0) -> np.ndarray:
    """Colours that depend on where on the plane a pixel is, with an error of the view's own added."""
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    X = (x - WIDTH / 2) / FOCAL * 2 + view.camera.centre[0]
    return np.stack([0.5 + 0.3 * np.sin(2 * X), 0.4 + 0.1 * y / HEIGHT], -1) + shade


def test_surface_colours_agree_and_a_views_own_error_is_measured() -> None:
    views = [facing(0.07 * k) for k in range(4)]
    same = warping(views, [on_plane(view) for view in views], 1)
    assert same.pairs == 3
    assert same.rmse is not None and same.rmse < 2e-3
    assert same.ssim is not None and same.ssim > 0.99
    shifted = warping(views, [on_plane(view, 0.05 * (k % 2)) for k, view in enumerate(views)], 1)
    assert shifted.rmse == pytest.approx(0.05, abs=2e-3)
    alike = warping(views, [on_plane(view, 0.05 * (k % 2)) for k, view in enumerate(views)], 2)
    assert alike.rmse is not None and alike.rmse < 2e-3


def test_warped_pictures_land_to_a_fraction_of_a_pixel() -> None:
    a, b = facing(0.0), facing(0.052)
    warped, mask = warp(on_plane(b), a, b)
    moved = 0.052 * FOCAL / 2
    assert mask[:, : int(WIDTH - moved) - 1].mean() < 1
    assert mask.mean() == pytest.approx(1 - moved / WIDTH, abs=0.03)
    inside = mask & (np.arange(WIDTH) > moved + 1) & (np.arange(WIDTH) < WIDTH - moved - 2)
    assert np.abs(warped - on_plane(a))[inside].max() < 2e-3


def test_what_is_hidden_or_not_shared_is_no_pixel() -> None:
    views = [facing(0.0), facing(0.05, depth=1.0)]
    assert warping(views, [on_plane(view) for view in views], 1).rmse is None
    apart = [facing(0.0), facing(50.0)]
    assert warping(apart, [on_plane(view) for view in apart], 1).pairs == 0
    assert warping(views, [on_plane(view) for view in views], 7).pairs == 0


def test_sharpness_falls_with_blur() -> None:
    rng = np.random.default_rng(0)
    sharp = rng.random((20, 20, 3))
    blurred = (sharp + np.roll(sharp, 1, 0) + np.roll(sharp, 1, 1)) / 3
    assert sharpness([blurred]) < 0.7 * sharpness([sharp])
