"""Stage I: depth from colours, confirmed by other views, and rendered into views that do not exist."""

from dataclasses import replace

import pytest
import torch

from lift3d_model import Depths, Lift3D, Views, depth_range
from lift3d_model.density import SweepSettings
from lift3d_model.geometry import view_to_view
from lift3d_model.proposal import confirm, propose
from lift3d_model.rendering import render_depth
from lift3d_model.views import sensor_depths

TARGET = 3
AROUND = torch.tensor([2, 4, 1, 5])


def _beliefs(views, wanted=(TARGET,), sources=AROUND, settings=None, refiners=None):
    """What Stage I believes of some views by themselves, every view with the same sources (itself left out)."""
    asked = [[s for s in sources.tolist() if s != v] for v in range(len(views))]
    sensor = torch.zeros_like(views.images[:, 0])
    return propose(views, sensor, [False] * len(views), asked, wanted, settings or SweepSettings(), refiners)


def sweep_depth(views, target, sources, settings):
    """Depth and spread [H, W] of one view by itself."""
    depths = _beliefs(views, (target,), sources, settings)
    return depths.mode[target], depths.spread[target]


def _error(found, truth):
    """Relative error where there is a truth."""
    return ((found - truth).abs() / truth)[truth > 0]


@pytest.fixture(scope="module")
def swept(room):
    """Depth and spread of one view of the room."""
    return sweep_depth(room.views, TARGET, AROUND, SweepSettings())


def test_depth_is_found_without_a_range_given(room, swept):
    error = _error(swept[0], room.depth[TARGET])
    assert error.median() < 0.02
    assert (error < 0.1).float().mean() > 0.85


def test_the_spread_is_that_of_a_plane_step(swept):
    assert (swept[1] > 0).all()
    assert swept[1].median() < 0.1


def test_depth_scales_with_the_unit_of_length(make_room, swept):
    scaled = make_room(unit=1000.0)
    depth, spread = sweep_depth(scaled.views, TARGET, AROUND, SweepSettings())
    assert _error(depth / 1000, swept[0]).quantile(0.98) < 5e-3
    assert (spread - swept[1]).abs().median() < 1e-3


def test_depth_does_not_know_where_the_world_is(make_room, swept):
    turn = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64))[0]
    world = torch.eye(4, dtype=torch.float64)
    world[:3, :3], world[:3, 3] = turn * torch.linalg.det(turn), torch.tensor([400.0, -2e4, 9.0])
    depth, _ = sweep_depth(make_room(world=world.numpy()).views, TARGET, AROUND, SweepSettings())
    assert _error(depth, swept[0]).quantile(0.98) < 5e-3


def test_the_order_of_sources_does_not_matter(room, swept):
    depth, _ = sweep_depth(room.views, TARGET, AROUND.flip(0), SweepSettings())
    assert _error(depth, swept[0]).quantile(0.98) < 1e-4


def test_a_range_that_is_given_is_kept(room):
    depth, _ = sweep_depth(room.views, TARGET, AROUND, SweepSettings(planes=16, near=1.0, far=1.5))
    assert depth.min() >= 0.999
    assert depth.max() <= 1.501


def test_padding_that_other_views_need_changes_no_depth(room, swept):
    padded = replace(room.views, images=torch.nn.functional.pad(room.views.images, (0, 9, 0, 5)))
    depth, spread = sweep_depth(padded, TARGET, AROUND, SweepSettings())
    assert torch.equal(depth[:48, :64], swept[0])
    assert torch.equal(spread[:48, :64], swept[1])
    assert not depth[48:].any()
    assert not depth[:, 64:].any()


def test_large_images_are_swept_at_working_resolution(make_room):
    large = make_room(count=3, size=(240, 320))
    depth, _ = sweep_depth(large.views, 1, torch.tensor([0, 2]), SweepSettings(near=1.0, far=5.0))
    assert depth.shape == (240, 320)
    assert _error(depth, large.depth[1]).median() < 0.02


def test_a_smaller_target_among_larger_views_is_swept_at_its_own_size(room):
    height, width = 40, 56
    images, sizes = room.views.images.clone(), room.views.sizes.clone()
    images[TARGET, :, height:], images[TARGET, :, :, width:] = 0, 0
    sizes[TARGET] = torch.tensor([height, width])
    depth, _ = sweep_depth(replace(room.views, images=images, sizes=sizes), TARGET, AROUND, SweepSettings())
    assert not depth[height:].any()
    assert not depth[:, width:].any()
    assert _error(depth[:height, :width], room.depth[TARGET, :height, :width]).median() < 0.03


def test_the_cameras_range_holds_the_scene_and_scales_with_it(room, make_room):
    def found(views):
        return depth_range.range_from_cameras(
            *view_to_view(views.K, views.world_from_cam, TARGET, AROUND), *room.depth.shape[1:]
        )

    near, far = found(room.views)
    assert near < float(room.depth[TARGET].min())
    assert far > float(room.depth[TARGET].max())
    scaled = found(make_room(unit=50.0).views)
    assert scaled == pytest.approx((50 * near, 50 * far), rel=1e-5)


def test_coarse_planes_go_from_far_to_near():
    planes = depth_range.coarse_inverse_depths(0.5, 20.0, torch.device("cpu"))
    assert (planes.diff() > 0).all()
    assert (1 / float(planes[0]), 1 / float(planes[-1])) == pytest.approx((20.0, 0.5), rel=1e-4)


def test_costs_narrow_the_range_to_what_matches_well():
    planes = depth_range.coarse_inverse_depths(0.1, 100.0, torch.device("cpu"))
    cost = torch.ones(len(planes), 10, 12)
    for column in range(12):
        cost[int((1 / (1.0 + 0.2 * column) - planes).abs().argmin()), :, column] = 0.0
    near, far = depth_range.range_from_costs(cost, planes)
    assert 0.6 < near < 1.0
    assert 3.2 < far < 5.0


def test_where_nothing_matches_the_range_stays():
    planes = depth_range.coarse_inverse_depths(0.5, 20.0, torch.device("cpu"))
    found = depth_range.range_from_costs(torch.ones(len(planes), 10, 12), planes)
    assert found == pytest.approx((0.5, 20.0), rel=1e-4)


@pytest.fixture(scope="module")
def believed(room):
    """Beliefs of every view by itself."""
    return _beliefs(room.views, range(7))


def test_depth_that_sources_share_is_confirmed_and_stays(room, believed):
    sources = AROUND.tolist()
    found = confirm(believed, room.views, TARGET, sources, None)
    believed_in = found.belief(TARGET)[2] > 0.5
    assert believed_in.float().mean() > 0.6
    assert (_error(found.belief(TARGET)[0][believed_in], room.depth[TARGET][believed_in]) < 0.1).float().mean() > 0.95
    before, after = (_error(depths.belief(TARGET)[0], room.depth[TARGET]) for depths in (believed, found))
    assert after.median() < 1.1 * before.median()
    others = [v for v in range(7) if v != TARGET]
    assert torch.equal(found.mode[others], believed.mode[others])


@pytest.mark.parametrize("planes", [-9.0, 9.0])
def test_depth_that_sources_contradict_is_repaired(room, believed, planes):
    assert believed.sweeps is not None
    swept = believed.sweeps.found[TARGET]
    position = swept.position.clone()
    position[:, :20] += planes
    wrong = list(believed.sweeps.found)
    wrong[TARGET] = replace(swept, position=position)
    spoiled = replace(believed, sweeps=replace(believed.sweeps, found=tuple(wrong)))
    found = confirm(spoiled, room.views, TARGET, AROUND.tolist(), None)
    assert _error(found.belief(TARGET)[0, :, :20], room.depth[TARGET, :, :20]).median() < 0.03


def test_depth_that_nobody_confirms_is_not_trusted(room, believed):
    alone = confirm(believed, room.views, TARGET, [], None)
    assert not alone.belief(TARGET)[2].any()
    torch.testing.assert_close(alone.belief(TARGET)[0], believed.belief(TARGET)[0])
    blind = replace(believed, sweeps=replace(believed.sweeps, depth=believed.sweeps.depth * 0))
    assert not confirm(blind, room.views, TARGET, AROUND.tolist(), None).belief(TARGET)[2].any()


def test_spreads_cover_the_errors(room, believed):
    found = confirm(believed, room.views, TARGET, AROUND.tolist(), None)
    error = _error(found.belief(TARGET)[0], room.depth[TARGET])
    spread = found.belief(TARGET)[1].flatten()
    assert 0.5 < (error < spread).float().mean() < 0.95
    assert (error < 2 * spread).float().mean() > 0.75


def test_a_view_without_sources_has_no_depth(room):
    depths = _beliefs(room.views, sources=torch.tensor([], dtype=torch.long))
    assert not depths.mode.any()
    assert not confirm(depths, room.views, TARGET, [], None).trust.any()


def test_one_source_is_enough_to_see_depth(room):
    depths = _beliefs(room.views, (TARGET, 2), torch.tensor([2, TARGET]))
    found = confirm(depths, room.views, TARGET, [2], None)
    assert _error(found.belief(TARGET)[0], room.depth[TARGET]).median() < 0.05


def test_confirmed_depth_scales_with_the_unit_of_length(room, make_room, believed):
    scaled = make_room(unit=1000.0)
    expected = confirm(believed, room.views, TARGET, AROUND.tolist(), None)
    found = confirm(_beliefs(scaled.views, range(7)), scaled.views, TARGET, AROUND.tolist(), None)
    assert _error(found.belief(TARGET)[0] / 1000, expected.belief(TARGET)[0]).quantile(0.95) < 1e-2
    assert (found.belief(TARGET)[2] - expected.belief(TARGET)[2]).abs().mean() < 0.02


def test_what_is_believed_of_a_target_does_not_depend_on_views_that_it_does_not_look_at(room, believed):
    few = _beliefs(room.views, (TARGET, *AROUND.tolist()))
    for maps in ("mode", "spread", "trust"):
        found, expected = (
            getattr(confirm(d, room.views, TARGET, AROUND.tolist(), None), maps) for d in (few, believed)
        )
        assert torch.equal(found[TARGET], expected[TARGET])


def test_sensor_depth_is_trusted_where_there_is_a_reading():
    depths = sensor_depths(torch.tensor([[[0.0, 2.0]]]), spread=0.02)
    assert depths.trust.tolist() == [[[0.0, 1.0]]]
    assert depths.mode.tolist() == [[[0.0, 2.0]]]
    torch.testing.assert_close(depths.spread, torch.full((1, 1, 2), 0.02))


def _facing_a_wall(shift, depth=2.0, size=(12, 16)):
    """Two views side by side that look straight at a wall; what the first sees of it."""
    poses = torch.eye(4, dtype=torch.float64).repeat(2, 1, 1)
    poses[1, 0, 3] = shift
    K = torch.tensor([[10.0, 0, 8], [0, 10, 6], [0, 0, 1]], dtype=torch.float64).expand(2, 3, 3)
    views = Views(torch.zeros(2, 3, *size), K, poses, torch.tensor([size] * 2))
    mode = torch.stack([torch.full(size, depth), torch.zeros(size)])
    return views, Depths(mode, torch.full_like(mode, 0.01), (mode > 0).float())


@pytest.mark.parametrize("shift", [0.0, 0.8, -0.4])
def test_a_wall_is_rendered_at_its_depth_where_it_is_seen(shift):
    """At depth 2 with focal length 10, a shift by 0.2 is one pixel."""
    rendered = render_depth(*_facing_a_wall(shift), 1, [0])
    seen = torch.arange(16) + 5 * shift
    expected = torch.where((seen >= 0) & (seen < 16), 2.0, 0.0).expand(12, 16)
    inside = rendered[:, 1:-1] - expected[:, 1:-1]
    assert (inside.abs() > 1e-5).sum() <= 12  # splats are half a pixel wider than the wall


def test_the_nearest_surface_is_what_is_rendered():
    views, depths = _facing_a_wall(0.0)
    depths.mode[0, :, :8] = 1.0
    depths.mode[0, 3, 12] = 0.0
    rendered = render_depth(views, depths, 1, [0])
    assert torch.equal(rendered[:, :8], torch.ones(12, 8))
    assert torch.equal(rendered[:, 9:], torch.full((12, 7), 2.0))


def test_what_no_source_sees_is_not_rendered(room):
    assert not render_depth(room.views, replace(room.depths, mode=room.depth * 0), TARGET, [1, 2]).any()
    assert not render_depth(room.views, room.depths, TARGET, []).any()


def test_a_room_is_rendered_from_its_other_views(room):
    rendered = render_depth(room.views, room.depths, TARGET, room.others(TARGET))
    seen = rendered > 0
    assert seen.float().mean() > 0.95
    assert _error(rendered[seen], room.depth[TARGET][seen]).median() < 0.02


def test_a_sweep_that_is_known_is_not_made_again(room):
    """To the bit, and without looking at the colours of the view's sources."""
    model, around = Lift3D(), [room.others(v)[:3] for v in range(7)]
    none = torch.zeros_like(room.depth)
    expected = model.depths(room.views, none, [False] * 7, around, range(7))
    blank = replace(room.views, images=room.views.images * (torch.arange(7) == TARGET)[:, None, None, None])
    known = {TARGET: expected.sweeps.found[TARGET]}
    found = model.depths(blank, none, [False] * 7, [()] * 7, [TARGET], known)
    assert torch.equal(found.belief(TARGET), expected.belief(TARGET))
