"""`upright` and `letterbox`: predictions land where they belong, to the pixel or a hundredth of one."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch.nn.functional import avg_pool2d

from pipeline.operators.grid import pad_to_stride, upsample
from pipeline.operators.letterbox import Letterbox
from pipeline.operators.upright import Upright, quarter_turns, turned
from schemas.camera import Camera
from schemas.errors import ConfigError
from schemas.scene import FrameBatch

UP = np.array([0.0, 0.0, 1.0])
LEVEL = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
"""Looks along y with world z at the image's top."""


class Means:
    """Mean colours of cells: what any operator does that turns and moves with its image."""

    name, kind, label_set = "means", "features", None

    def __init__(self, stride: int) -> None:
        self.stride = stride

    def encode(self, batch: Any) -> torch.Tensor:
        return avg_pool2d(pad_to_stride(batch.images, self.stride), self.stride)

    def decode(self, features: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        return features

    def fingerprint(self) -> str:
        return f"means {self.stride}"


class Picture(Means):
    """The same as a picture."""

    kind = "image"

    def decode(self, features: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        return upsample(features, self.stride, size)


class Rows(Picture):
    """How far down a pixel is: what an operator says that knows which way is up."""

    def encode(self, batch: Any) -> torch.Tensor:
        height = batch.images.shape[-2]
        rows = (torch.arange(height) + 0.5)[:, None] / height
        return avg_pool2d(rows.expand(batch.images.shape).contiguous(), self.stride, ceil_mode=True)


def rolled(turns: int, height: int, width: int) -> Camera:
    """A level camera, held so that its image is `turns` clockwise quarter turns from upright."""
    angle = -turns * np.pi / 2
    roll = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    pose = np.eye(4)
    pose[:3, :3] = LEVEL @ roll.round()
    K = np.array([[50.0, 0, 0.4 * width], [0, 60.0, 0.7 * height], [0, 0, 1]])
    return Camera(K, pose, height, width)


def a_batch(image: torch.Tensor, camera: Camera) -> FrameBatch[torch.Tensor]:
    return FrameBatch(image[None], "room", ("0",), (camera,))


@settings(max_examples=40)
@given(st.integers(0, 3), st.integers(3, 40), st.integers(3, 40), st.sampled_from([1, 2, 5, 14]))
def test_what_turns_with_its_image_does_not_notice(turns: int, height: int, width: int, stride: int) -> None:
    image = torch.rand(3, height, width, generator=torch.Generator().manual_seed(height * 41 + width))
    batch = a_batch(image, rolled(turns, height, width))
    plain = Means(stride)
    assert torch.allclose(Upright(plain).encode(batch), plain.encode(batch), atol=1e-6)
    seen = Upright(Picture(1))
    assert torch.equal(seen.decode(seen.encode(batch), (height, width))[0], image)


@pytest.mark.parametrize("turns", range(4))
def test_the_operator_sees_the_view_upright(turns: int) -> None:
    camera = rolled(turns, 20, 30)
    assert quarter_turns(turned(camera, quarter_turns(camera, UP)), UP) == 0
    found = Upright(Rows(1)).encode(a_batch(torch.zeros(3, 20, 30), camera))[0, 0]
    down = -(camera.world_from_cam[:3, :3].T @ UP)[:2].round()
    slope = np.array([float(found.diff(dim=1).mean()) * 30, float(found.diff(dim=0).mean()) * 20])
    assert slope.round().tolist() == down.tolist()


@given(st.integers(0, 3), st.floats(-0.4, 0.4), st.floats(-0.4, 0.4))
def test_a_turned_camera_sees_the_same_points(turns: int, x: float, y: float) -> None:
    camera = rolled(1, 20, 30)
    image = np.zeros((20, 30))
    u, v, w = camera.K @ (x, y, 1.0)
    row, column = int(np.clip(v / w, 0, 19)), int(np.clip(u / w, 0, 29))
    image[row, column] = 1
    shown = turned(camera, turns)
    point = camera.world_from_cam @ np.array([*(np.linalg.inv(camera.K) @ (column + 0.5, row + 0.5, 1.0)), 1.0])
    a, b, c = shown.K @ (shown.cam_from_world @ point)[:3]
    assert np.rot90(image, turns)[int(b / c), int(a / c)] == 1
    assert (shown.height, shown.width) == np.rot90(image, turns).shape


def test_vectors_turn_with_their_image() -> None:
    for turns in range(4):
        camera = rolled(turns, 8, 12)
        down = torch.tensor(camera.world_from_cam[:3, :3].T @ -UP, dtype=torch.float32)

        class Down(Means):
            """Down, in the axes of an upright camera."""

            def encode(self, batch: Any) -> torch.Tensor:
                return torch.tensor([0.0, 1.0, 0.0])[None, :, None, None].expand(1, 3, *batch.images.shape[-2:])

        found = Upright(Down(1), vectors=True).encode(a_batch(torch.zeros(3, 8, 12), camera))
        assert torch.allclose(found, down[None, :, None, None].expand_as(found), atol=1e-6)


def test_a_view_that_looks_straight_down_stays_as_it_is() -> None:
    pose = np.diag([1.0, -1.0, -1.0, 1.0])
    assert quarter_turns(Camera(np.eye(3), pose, 4, 4), UP) == 0


@settings(max_examples=25)
@given(
    st.integers(40, 90), st.integers(40, 90), st.integers(48, 100), st.sampled_from([1, 4]), st.sampled_from([1, 4, 7])
)
def test_letterboxed_features_stay_where_they_are(height: int, width: int, side: int, inner: int, outer: int) -> None:
    """Images that are their own coordinates: what a cell says is where the operator saw it."""
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    image = torch.stack([x / 100, y / 100, torch.zeros_like(x)])
    for policy in ("letterbox", "stretch"):
        box = side if policy == "stretch" else (side, side + 17)
        operator = Letterbox(Means(inner), side=box, policy=policy, stride=outer)  # type: ignore[arg-type]
        found = operator.encode(a_batch(image, rolled(0, height, width)))[0]
        h, w = found.shape[-2:]
        assert (h, w) == (-(-height // outer), -(-width // outer))
        rows, columns = (torch.arange(h) + 0.5) * outer, (torch.arange(w) + 0.5) * outer
        edge = 3 * max(inner * max(height, width) / side, max(height, width) / side, 1)
        inside_y = (rows > edge) & (rows < height - edge)
        inside_x = (columns > edge) & (columns < width - edge)
        error_x = (found[0] * 100 - columns)[inside_y][:, inside_x].abs()
        error_y = (found[1] * 100 - rows[:, None])[inside_y][:, inside_x].abs()
        assume(error_x.numel() > 0)  # coarse cells of a small image are all at its border
        assert max(float(error_x.max()), float(error_y.max())) < 0.01


def test_a_letterboxed_picture_has_its_images_size() -> None:
    operator = Letterbox(Picture(2), side=64)
    image = torch.full((3, 21, 50), 0.3)
    assert torch.allclose(operator.decode(operator.encode(a_batch(image, rolled(0, 21, 50))), (21, 50))[0], image)


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(ConfigError, match="three numbers"):
        Upright(Means(1), up=[0, 0])
    with pytest.raises(ConfigError, match="letterbox or stretch"):
        Letterbox(Means(1), side=0)
    with pytest.raises(ConfigError, match="letterbox or stretch"):
        Letterbox(Means(1), side=[64, 64, 3])
    with pytest.raises(ConfigError, match="made of an operator"):
        Upright("dino")  # type: ignore[arg-type]
