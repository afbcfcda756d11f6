"""Base weights: the slow twin, invariances, and that what nobody sees weighs nothing."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import pad

from lift3d_model import Depths, Views, reference
from lift3d_model.evidence import NODES, EvidenceSettings, gather_evidence
from lift3d_model.geometry import pixel_centres

SETTINGS = EvidenceSettings(tolerance=0.04, spread_factor=2.0, colour_scale=0.3, samples=4)
SENSOR, SWEPT = 0.01, 0.05


def _gather(views, depths, settings, target=0, sources=(1, 2), stride=1.0):
    height, width = depths.mode.shape[-2:]
    pixels = pixel_centres(int(-(-height // stride)), int(-(-width // stride)), stride)
    return pixels, gather_evidence(views, depths, target, torch.tensor(sources, dtype=torch.long), pixels, settings)


def _is_clear(pixels, margin=2e-3):
    """[...]: not on the border between two pixels, where rounding decides."""
    fraction = pixels - pixels.floor()
    return ((fraction > margin) & (fraction < 1 - margin)).all(-1)


def _assert_same(a, b, tolerance=1e-4):
    """Equal weights, up to rays that land on the border between two pixels."""
    clear = _is_clear(a.pixels)
    assert clear.float().mean() > 0.95
    torch.testing.assert_close(a.weight[clear], b.weight[clear], atol=tolerance, rtol=0)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("spread", "colour", "samples"), [(SENSOR, None, 1), (SWEPT, None, 3), (SWEPT, 0.3, 4)])
def test_weights_equal_the_slow_twin(random_views, slow, seed, spread, colour, samples):
    views, depths = random_views(seed, spread)
    settings = replace(SETTINGS, colour_scale=colour, samples=samples)
    pixels, evidence = _gather(views, depths, settings)
    twin, clear, expected = slow(views, depths), _is_clear(evidence.pixels), torch.zeros(evidence.weight.shape)
    for r, pixel in enumerate(map(tuple, pixels.tolist())):
        row, column = reference.nearest_pixel(pixel, *depths.mode.shape[-2:])
        samples_there = reference.ray_samples(twin.depth[0, row, column], twin.spread[0, row, column], NODES[samples])
        for e in range(len(expected)):
            sample = samples_there[e % samples]
            expected[e, r] = reference.base_weight(twin, 0, (1, 2)[e // samples], pixel, sample, settings)
    assert (expected > 0.01).float().mean() > 0.2
    torch.testing.assert_close(evidence.weight[clear], expected[clear], atol=5e-4, rtol=0)
    assert evidence.slot.tolist() == [0] * samples + [1] * samples


@pytest.mark.parametrize("spread", [SENSOR, SWEPT])
def test_moving_the_world_changes_nothing(random_views, spread):
    views, depths = random_views(4, spread)
    turn = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))[0]
    motion = torch.eye(4, dtype=torch.float64)
    motion[:3, :3], motion[:3, 3] = turn * torch.linalg.det(turn), torch.tensor([3e4, -2e4, 500.0])
    moved = replace(views, world_from_cam=motion @ views.world_from_cam)
    _assert_same(_gather(views, depths, SETTINGS)[1], _gather(moved, depths, SETTINGS)[1])


@pytest.mark.parametrize("unit", [2.0**-10, 1000.0])
@pytest.mark.parametrize("spread", [SENSOR, SWEPT])
def test_the_unit_of_length_changes_nothing(random_views, spread, unit):
    views, depths = random_views(5, spread)
    poses = views.world_from_cam.clone()
    poses[:, :3, 3] *= unit
    scaled = _gather(replace(views, world_from_cam=poses), replace(depths, mode=depths.mode * unit), SETTINGS)[1]
    _assert_same(_gather(views, depths, SETTINGS)[1], scaled)


@pytest.mark.parametrize("spread", [SENSOR, SWEPT])
def test_each_source_speaks_for_itself_whatever_the_order(random_views, spread):
    views, depths = random_views(6, spread, count=4)
    _, forward = _gather(views, depths, SETTINGS, sources=(1, 2, 3))
    _, backward = _gather(views, depths, SETTINGS, sources=(3, 1, 2))
    per_source = len(forward.slot) // 3
    for place, other in ((0, 1), (1, 2), (2, 0)):
        mine = forward.weight[place * per_source : (place + 1) * per_source]
        theirs = backward.weight[other * per_source : (other + 1) * per_source]
        assert torch.equal(mine, theirs)


def test_the_order_of_the_views_themselves_does_not_matter(random_views):
    views, depths = random_views(6, SWEPT, count=4)
    order = torch.tensor([2, 0, 3, 1])
    shuffled = Views(*(getattr(views, name)[order] for name in ("images", "K", "world_from_cam", "sizes")))
    mixed = Depths(depths.mode[order], depths.spread[order], depths.trust[order])
    expected = _gather(views, depths, SETTINGS, target=0, sources=(1, 2, 3))[1]
    found = _gather(shuffled, mixed, SETTINGS, target=1, sources=(3, 0, 2))[1]
    torch.testing.assert_close(found.weight, expected.weight)


@pytest.mark.parametrize("stride", [1.0, 14.0])
def test_padding_that_other_views_need_changes_nothing(room, stride):
    """At stride 14 the centres of the lowest cells lie below the image: 49 px down in 48."""
    views, depths, sources = room.views, room.depths, room.others(3)
    pixels, expected = _gather(views, depths, SETTINGS, 3, sources, stride)
    wider = replace(views, images=pad(views.images, (0, 5, 0, 3)))
    padded = Depths(*(pad(x, (0, 5, 0, 3)) for x in (depths.mode, depths.spread, depths.trust)))
    found = gather_evidence(wider, padded, 3, torch.tensor(sources), pixels, SETTINGS)
    assert torch.equal(found.weight, expected.weight)


def test_true_depth_is_seen_by_every_view_that_has_the_point_in_sight(room):
    _, evidence = _gather(room.views, room.depths, SETTINGS, target=3, sources=room.others(3))
    seen = evidence.weight > 0
    assert seen.float().mean() > 0.6
    agree = room.ids.flatten(1)[torch.tensor(room.others(3))].gather(1, evidence.index) == room.ids[3].flatten()
    assert agree[seen].float().mean() > 0.98


@pytest.mark.parametrize("error", [0.7, 1.4])
def test_depth_that_is_wrong_either_way_is_not_confirmed(room, error):
    """The test is two-sided: a source that sees a nearer surface, and one that sees through, both say nothing."""
    wrong = replace(room.depths, mode=room.depth.clone())
    wrong.mode[3] *= error
    _, evidence = _gather(room.views, wrong, SETTINGS, target=3, sources=room.others(3))
    assert (evidence.weight > 0).float().mean() < 0.05


def test_outside_the_image_behind_the_camera_or_without_depth_there_is_no_evidence(room):
    views, depths, lenient = room.views, room.depths, replace(SETTINGS, tolerance=5.0)
    away = views.world_from_cam.clone()
    away[1] = away[1] @ torch.diag(torch.tensor([-1.0, 1, -1, 1], dtype=torch.float64))
    behind = _gather(replace(views, world_from_cam=away), depths, lenient, target=3, sources=(1,))[1]
    blind = _gather(views, replace(depths, mode=depths.mode * (torch.arange(7) != 1)[:, None, None]), lenient, 3, (1,))
    unknown = _gather(views, replace(depths, mode=depths.mode * (torch.arange(7) != 3)[:, None, None]), lenient, 3)
    for evidence in (behind, blind[1], unknown[1]):
        assert not evidence.weight.any()


def test_pixels_beyond_a_smaller_views_own_size_are_no_evidence(room):
    sizes = room.views.sizes.clone()
    sizes[1] = torch.tensor([30, 40])
    _, evidence = _gather(replace(room.views, sizes=sizes), room.depths, SETTINGS, target=3, sources=(1,))
    x, y = evidence.pixels[0].unbind(-1)
    assert not evidence.weight[0][(x >= 40) | (y >= 30)].any()
    assert evidence.weight[0].any()


def test_without_sources_there_are_no_witnesses(room):
    _, evidence = _gather(room.views, room.depths, SETTINGS, target=3, sources=())
    assert evidence.weight.shape == (0, 48 * 64)


def test_another_colour_speaks_less_where_depth_is_uncertain(room):
    uncertain = replace(room.depths, spread=torch.full_like(room.depth, SWEPT))
    recoloured = room.views.images.clone()
    recoloured[1] = 1 - recoloured[1]
    _, plain = _gather(room.views, uncertain, SETTINGS, target=3, sources=(1, 2))
    _, other = _gather(replace(room.views, images=recoloured), uncertain, SETTINGS, target=3, sources=(1, 2))
    assert float(other.weight[:4].sum()) < 0.7 * float(plain.weight[:4].sum())
    assert torch.equal(other.weight[4:], plain.weight[4:])


def test_shares_of_a_ray_sum_to_one():
    for nodes in NODES.values():
        samples = reference.ray_samples(2.0, 0.1, nodes)
        assert sum(share for _, share in samples) == pytest.approx(1)
        assert np.mean([depth for depth, _ in samples]) == pytest.approx(2.0)
