"""Depth and normals over views: what is the same surface averages to itself, and noise averages away."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.operators.geometry_valued import Depth, Normals, moves_between_views, to_camera, to_world
from schemas.camera import Camera
from schemas.errors import ConfigError, ContractError


class Given:
    """Says what it is told."""

    name, stride, kind, label_set = "given", 1, "scalar", None

    def __init__(self, maps: torch.Tensor, kind: str = "scalar") -> None:
        self.maps, self.kind = maps, kind

    def encode(self, batch: Any) -> torch.Tensor:
        return self.maps[[int(frame) for frame in batch.frames]]

    def decode(self, features: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        return features

    def fingerprint(self) -> str:
        return "given 1"


def camera(seed: int, height: int = 6, width: int = 9) -> Camera:
    rotation = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))[0]
    pose = np.eye(4)
    pose[:3, :3] = rotation * np.sign(np.linalg.det(rotation))
    pose[:3, 3] = np.random.default_rng(seed + 50).normal(size=3)
    return Camera(np.array([[8.0, 0, 4.1], [0, 9.0, 3.2], [0, 0, 1]]), pose, height, width)


@pytest.mark.parametrize("seed", range(3))
def test_depth_comes_back_from_space(seed: int) -> None:
    depth = torch.rand(1, 1, 6, 9, generator=torch.Generator().manual_seed(seed)) + 1
    depth[..., 2, 3] = 0
    operator, view = Depth(Given(depth)), camera(seed)
    points = to_world(operator, depth[0], view)
    assert points.shape == (4, 6, 9)
    assert torch.allclose(to_camera(operator, points[None], view), depth, atol=1e-5)
    x, y, z, one = points[:, 4, 7].double().numpy()
    u, v, w = view.K @ (view.cam_from_world @ (x, y, z, one))[:3]
    assert (u / w, v / w) == pytest.approx((7.5, 4.5), abs=1e-4)


def test_unknown_depth_pulls_nothing_towards_the_camera() -> None:
    depth = torch.full((1, 1, 6, 9), 2.0)
    operator, view = Depth(Given(depth)), camera(1)
    both = to_world(operator, depth[0], view) * 0.5 + to_world(operator, torch.zeros(1, 6, 9), view) * 0.5
    assert torch.allclose(to_camera(operator, both[None], view), depth, atol=1e-5)


def test_normals_average_in_the_world_and_come_back_with_length_one() -> None:
    in_world = torch.tensor([0.0, 0.6, 0.8])
    views = [camera(seed) for seed in (1, 2)]
    operator = Normals(Given(torch.zeros(1, 3, 6, 9), "features"))
    seen = [torch.tensor(v.world_from_cam[:3, :3].T, dtype=torch.float32) @ in_world for v in views]
    maps = [n[:, None, None].expand(3, 6, 9) for n in seen]
    mean = torch.stack([to_world(operator, m, v) for m, v in zip(maps, views, strict=True)]).mean(0) * 0.7
    assert torch.allclose(to_camera(operator, mean[None], views[0])[0], maps[0], atol=1e-5)
    assert torch.equal(to_camera(operator, torch.zeros(1, 3, 6, 9), views[0]), torch.zeros(1, 3, 6, 9))


def test_axes_are_opencvs_whatever_the_operator_says(make_batch: Any) -> None:
    up = torch.tensor([0.0, 2.0, 0.0])[None, :, None, None].expand(1, 3, 6, 9)
    found = Normals(Given(up, "features"), axes="opengl").encode(make_batch((1, 6, 9)))
    assert found[0, :, 0, 0].tolist() == [0, -1, 0]


def test_what_is_no_depth_or_normal_is_refused(make_batch: Any) -> None:
    with pytest.raises(ConfigError, match="kind scalar"):
        Depth(Given(torch.zeros(1, 3, 6, 9), "features"))
    with pytest.raises(ConfigError, match="axes"):
        Normals(Given(torch.zeros(1, 3, 6, 9), "features"), axes="mine")  # type: ignore[arg-type]
    with pytest.raises(ContractError, match="3 of a normal"):
        Normals(Given(torch.zeros(1, 4, 6, 9), "features")).encode(make_batch((1, 6, 9)))


def test_operators_without_the_methods_are_left_alone() -> None:
    operator = Given(torch.rand(1, 1, 6, 9))
    assert not moves_between_views(operator)
    assert to_world(operator, operator.maps[0], camera(0)) is not None
    assert torch.equal(to_world(operator, operator.maps[0], camera(0)), operator.maps[0])


def test_a_method_that_changes_the_grid_is_named() -> None:
    class Wrong(Given):
        """Its points are on another grid."""

        def to_world(self, features: torch.Tensor, cameras: Any) -> torch.Tensor:
            return features[..., :-1]

        def to_camera(self, features: torch.Tensor, cameras: Any) -> torch.Tensor:
            return features

    with pytest.raises(ContractError, match="to_world returned"):
        to_world(Wrong(torch.rand(1, 1, 6, 9)), torch.rand(1, 6, 9), camera(0))


def test_a_camera_of_another_size_is_no_matter() -> None:
    view = replace(camera(4), height=12, width=18)
    depth = torch.rand(1, 1, 12, 18) + 1
    operator = Depth(Given(depth))
    assert torch.allclose(to_camera(operator, to_world(operator, depth[0], view)[None], view), depth, atol=1e-5)
