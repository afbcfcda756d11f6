"""The plane sweep's matching cost and its semi-global smoothing, against the slow twin and on made-up volumes."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from lift3d_model import reference
from lift3d_model.geometry import view_to_view
from lift3d_model.matching import MatchingSettings, matching_cost
from lift3d_model.smoothing import SmoothingSettings, semi_global

MATCHING = MatchingSettings(window=2, correlation_share=0.6, colour_cut=0.15, best_share=0.4, contrast_floor=4e-4)
SMOOTHING = SmoothingSettings(slope=0.2, jump=2.5, edge=0.08)
DIRECTIONS = [(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1) if (i, j) != (0, 0)]


def _cost(views, target, sources, inverse_depths, settings=MATCHING):
    A, b = view_to_view(views.K, views.world_from_cam, target, torch.tensor(sources))
    return matching_cost(views.images[target], list(views.images[sources]), A, b, inverse_depths, settings)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("share", [0.3, 0.6, 1.0])
def test_cost_equals_the_slow_twin(random_views, slow, seed, share):
    views, depths = random_views(seed, 0.05, count=4)
    settings = replace(MATCHING, best_share=share)
    depths_tried = (0.9, 2.0, 5.0)
    fast = _cost(views, 0, [1, 2, 3], 1 / torch.tensor(depths_tried), settings)
    twin = slow(views, depths)
    for d, depth in enumerate(depths_tried):
        for cell in ((0, 0), (4, 5), (8, 10), (2, 7), (7, 1), (0, 10)):
            expected = reference.plane_cost(twin, 0, (1, 2, 3), cell, depth, settings)
            assert float(fast[d, cell[0], cell[1]]) == pytest.approx(expected, abs=2e-3)


def test_the_true_depth_costs_least(room):
    planes = torch.linspace(1 / 6, 1 / 1.0, 40)
    cost = _cost(room.views, 3, room.others(3), planes)
    best = 1 / planes[cost.argmin(0)]
    close = ((1 / best - 1 / room.depth[3]).abs() < 1.5 * (planes[1] - planes[0])).float().mean()
    assert close > 0.85


def test_costs_do_not_know_the_unit_nor_the_order_of_sources(room, make_room):
    planes = torch.linspace(0.2, 1.0, 8)
    expected = _cost(room.views, 3, [1, 2, 5], planes)
    scaled = make_room(unit=16.0)
    torch.testing.assert_close(_cost(scaled.views, 3, [1, 2, 5], planes / 16), expected, atol=1e-3, rtol=0)
    torch.testing.assert_close(_cost(room.views, 3, [5, 1, 2], planes), expected, atol=1e-6, rtol=0)


def test_costs_are_blind_to_exposure_as_far_as_they_correlate(room):
    darker = replace(room.views, images=room.views.images.clone())
    darker.images[3] *= 0.7
    planes = torch.linspace(0.2, 1.0, 16)
    settings = replace(MATCHING, correlation_share=1.0, contrast_floor=1e-7)
    same = _cost(darker, 3, [2, 4], planes, settings).argmin(0) == _cost(
        room.views, 3, [2, 4], planes, settings
    ).argmin(0)
    assert same.float().mean() > 0.98


def test_a_plane_that_no_source_sees_costs_as_much_as_a_poor_match(random_views):
    views, _ = random_views(0, 0.05)
    turned = views.world_from_cam.clone()
    turned[1] = turned[1] @ torch.diag(torch.tensor([-1.0, 1, -1, 1], dtype=torch.float64))
    cost = _cost(replace(views, world_from_cam=turned), 0, [1], torch.tensor([0.5]))
    assert cost.tolist() == torch.ones(1, 9, 11).tolist()


@pytest.mark.parametrize("seed", range(2))
def test_smoothing_equals_the_slow_twin_in_every_direction(seed):
    rng = np.random.default_rng(seed)
    cost, image = rng.random((6, 5, 7)), rng.random((3, 5, 7)) * 0.4
    paths = [reference.path_costs(cost, image, step, SMOOTHING) for step in DIRECTIONS]
    fast = semi_global(torch.from_numpy(cost).float(), torch.from_numpy(image).float(), SMOOTHING)
    np.testing.assert_allclose(fast.numpy(), np.mean(paths, axis=0), atol=1e-4)


def test_smoothing_does_not_prefer_a_side():
    """Mirrored input gives mirrored output."""
    cost, image = torch.rand(5, 6, 8), torch.rand(3, 6, 8)
    expected = semi_global(cost, image, SMOOTHING)
    for axis in (1, 2):
        torch.testing.assert_close(semi_global(cost.flip(axis), image.flip(axis), SMOOTHING).flip(axis), expected)
    turned = semi_global(cost.transpose(1, 2), image.transpose(1, 2), SMOOTHING).transpose(1, 2)
    torch.testing.assert_close(turned, expected)


def test_smoothing_mends_a_speckle_and_keeps_a_step_at_an_edge():
    planes, height, width = 8, 12, 16
    truth = torch.where(torch.arange(width) < 8, 2, 6).expand(height, width)
    image = torch.where(torch.arange(width) < 8, 0.2, 0.8).expand(3, height, width)
    cost = (torch.arange(planes)[:, None, None] - truth).abs().float().clamp_max(1)
    for i, j in ((5, 4), (7, 12)):
        cost[truth[i, j], i, j], cost[8 - truth[i, j], i, j] = 0.5, 0.0
    assert (cost.argmin(0) != truth).sum() == 2
    assert torch.equal(semi_global(cost, image, SMOOTHING).argmin(0), truth)


def test_smoothing_leaves_its_input_alone():
    cost, image = torch.rand(4, 5, 6), torch.rand(3, 5, 6)
    before = cost.clone()
    semi_global(cost, image, SMOOTHING)
    assert torch.equal(cost, before)
