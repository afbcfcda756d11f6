"""Projection, view-to-view maps and the pixel convention."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lift3d_model import reference
from lift3d_model.geometry import (
    in_image,
    land,
    pixel_centres,
    project,
    rigid_inverse,
    scaled_intrinsics,
    unproject,
    view_to_view,
)

DTYPES = {torch.float32: 2e-4, torch.float64: 1e-9}


def _cameras(seed, batch, dtype):
    """Intrinsics and rigid motions [*batch, ...]."""
    rng = np.random.default_rng(seed)
    turn, _ = np.linalg.qr(rng.normal(size=(*batch, 3, 3)))
    turn[..., :, 0] *= np.sign(np.linalg.det(turn))[..., None]
    pose = np.zeros((*batch, 4, 4))
    pose[..., :3, :3], pose[..., :3, 3], pose[..., 3, 3] = turn, rng.normal(0, 2, (*batch, 3)), 1
    K = np.broadcast_to(np.array([[60.0, 0.5, 31.0], [0.0, 55.0, 25.0], [0.0, 0.0, 1.0]]), (*batch, 3, 3))
    return torch.from_numpy(K.copy()).to(dtype), torch.from_numpy(pose).to(dtype)


def _landed(A, b, pixels, depth):
    """Pixels [N, 2] at depths [P, N] in every source: [S, P, N, 2], and their depths there [S, P, N]."""
    found = [land(*one, pixels.T.float(), depth.float()) for one in zip(A, b, strict=True)]
    return torch.stack([torch.stack([x, y], dim=-1) for x, y, _ in found]), torch.stack([z for *_, z in found])


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 9999), st.sampled_from([(), (1,), (3,), (2, 2)]), st.sampled_from(list(DTYPES)))
def test_projecting_what_was_unprojected_changes_nothing(seed, batch, dtype):
    K, pose = _cameras(seed, batch, dtype)
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.rand(*batch, 8, 2, generator=generator, dtype=dtype) * 60
    depth = 0.5 + 5 * torch.rand(*batch, 8, generator=generator, dtype=dtype)
    found, z = project(unproject(pixels, depth, K, pose), K, pose)
    torch.testing.assert_close(found, pixels, atol=60 * DTYPES[dtype], rtol=0)
    torch.testing.assert_close(z, depth, atol=6 * DTYPES[dtype], rtol=0)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 9999), st.sampled_from([(), (2,), (3, 1)]))
def test_the_rigid_inverse_is_the_inverse(seed, batch):
    _, pose = _cameras(seed, batch, torch.float64)
    torch.testing.assert_close(rigid_inverse(pose) @ pose, torch.eye(4, dtype=torch.float64).expand(*batch, 4, 4))


def test_a_batch_is_its_members():
    K, pose = _cameras(3, (4,), torch.float64)
    pixels, depth = torch.rand(4, 6, 2, dtype=torch.float64) * 50, torch.rand(4, 6, dtype=torch.float64) + 1
    together = unproject(pixels, depth, K, pose)
    for i in range(4):
        torch.testing.assert_close(together[i], unproject(pixels[i], depth[i], K[i], pose[i]))


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 9999), st.sampled_from([0.0, 1e5]))
def test_view_to_view_is_the_way_through_the_world_wherever_the_world_is(seed, away):
    K, pose = _cameras(seed, (3,), torch.float64)
    pixels, depth = pixel_centres(4, 5), torch.linspace(1, 3, 20, dtype=torch.float64)
    world = unproject(pixels, depth, K[0], pose[0])
    sources = torch.tensor([2, 1])
    expected, z = project(world.expand(2, -1, -1), K[sources], pose[sources])
    shifted = pose.clone()
    shifted[:, :3, 3] += away
    landed, there = (found[:, 0] for found in _landed(*view_to_view(K, shifted, 0, sources), pixels, depth[None]))
    clear = z.abs() > 0.1
    torch.testing.assert_close(there.double(), z, atol=2e-5, rtol=1e-5)
    torch.testing.assert_close(landed.double()[clear], expected[clear], atol=2e-3, rtol=1e-4)


def test_a_pixel_lands_in_the_same_place_whatever_lands_with_it(random_views):
    views, _ = random_views(1, 0.05)
    A, b = view_to_view(views.K, views.world_from_cam, 0, torch.tensor([1, 2]))
    pixels, depth = pixel_centres(3, 4), torch.rand(5, 12) + 1.5
    landed, z = _landed(A, b, pixels, depth)
    assert landed.shape == (2, 5, 12, 2)
    for p in range(5):
        one, its_depth = _landed(A, b, pixels[:7], depth[p : p + 1, :7])
        assert torch.equal(landed[:, p : p + 1, :7], one)
        assert torch.equal(z[:, p : p + 1, :7], its_depth)


@pytest.mark.parametrize("seed", range(3))
def test_warp_equals_the_slow_twin(random_views, slow, seed):
    views, depths = random_views(seed, 0.05)
    twin = slow(views, depths)
    pixels = pixel_centres(4, 4, 2.5)
    depth = torch.rand(16, generator=torch.Generator().manual_seed(seed)) + 1.5
    A, b = view_to_view(views.K, views.world_from_cam, 0, torch.tensor([1, 2]))
    landed, z = (found[:, 0] for found in _landed(A, b, pixels, depth[None]))
    for s, source in enumerate((1, 2)):
        for r in range(16):
            expected = reference.warp(twin, 0, source, tuple(pixels[r].tolist()), float(depth[r]))
            assert (*landed[s, r].tolist(), float(z[s, r])) == pytest.approx(expected, abs=1e-4)


def test_a_pixel_seen_from_its_own_view_stays_where_it_is(random_views):
    views, _ = random_views(2, 0.05)
    A, b = view_to_view(views.K, views.world_from_cam, 1, torch.tensor([1]))
    landed, z = _landed(A, b, pixel_centres(9, 11), torch.full((1, 99), 2.0))
    torch.testing.assert_close(landed[0, 0].double(), pixel_centres(9, 11), atol=1e-4, rtol=0)
    torch.testing.assert_close(z[0, 0], torch.full((99,), 2.0))


def test_cells_are_centred_on_the_pixels_they_cover():
    assert pixel_centres(2, 3).tolist() == [[0.5, 0.5], [1.5, 0.5], [2.5, 0.5], [0.5, 1.5], [1.5, 1.5], [2.5, 1.5]]
    covered = pixel_centres(8, 12).view(8, 12, 2)[4:8, 8:12].flatten(0, 1).mean(0)
    assert pixel_centres(2, 3, 4.0)[5].tolist() == covered.tolist()


def test_resizing_an_image_scales_where_things_project():
    K, pose = _cameras(7, (), torch.float64)
    points = unproject(pixel_centres(3, 3, 10.0), torch.full((9,), 2.0, dtype=torch.float64), K, pose)
    resized, _ = project(points, scaled_intrinsics(K, 0.5, 3.0), pose)
    torch.testing.assert_close(resized, pixel_centres(3, 3, 10.0) * torch.tensor([0.5, 3.0], dtype=torch.float64))


def test_in_image_knows_each_views_own_size():
    sizes = torch.tensor([[4, 6], [2, 3]])
    spots = torch.tensor([[0.0, 0.0], [5.9, 3.9], [6.0, 1.0], [1.0, 4.0], [-0.1, 1.0], [2.9, 1.9]]).expand(2, 6, 2)
    inside = in_image(spots, torch.ones(2, 6), sizes)
    assert inside.tolist() == [[True, True, False, False, False, True], [True, False, False, False, False, True]]
    assert not in_image(spots, torch.zeros(2, 6), sizes).any()
    assert not in_image(spots, -torch.ones(2, 6), sizes).any()
