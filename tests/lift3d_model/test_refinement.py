"""The network that refines swept depth: what it is told, what it may not know, and its place in Stage I."""

from dataclasses import replace

import pytest
import torch

from lift3d_model.density import Sweep, SweepSettings
from lift3d_model.fusion import fuse
from lift3d_model.proposal import confirm, propose
from lift3d_model.refinement import INPUTS, Refined, Refiner, Refiners, analytic, describe, load_refiners
from lift3d_model.upsampling import guided_upsample

TARGET = 3
AROUND = [2, 4, 1, 5]
SIZE = (21, 30)


@pytest.fixture(scope="module")
def refiners():
    """Untrained networks whose every output depends on every input."""
    torch.manual_seed(3)
    networks = Refiners()
    with torch.no_grad():
        for network in (networks.solo, networks.joint):
            for head in (network.choice, network.rest):
                head.weight.normal_(0, 0.02)
    return networks.eval().requires_grad_(False)


def _sweep(position, first=0.1, step=0.02):
    return Sweep(first, step, position, torch.rand(12, *position.shape, generator=torch.Generator().manual_seed(1)), 4)


def _beliefs(views, refiners):
    asked = [[s for s in AROUND if s != v] for v in range(len(views))]
    sensor = torch.zeros_like(views.images[:, 0])
    alone = propose(views, sensor, [False] * len(views), asked, range(len(views)), SweepSettings(), refiners)
    return alone, confirm(alone, views, TARGET, AROUND, refiners)


@pytest.fixture(scope="module")
def analytically(room):
    """Beliefs of every view by itself, and the target's confirmed, without a network."""
    return _beliefs(room.views, None)


@pytest.fixture(scope="module")
def refined(room, refiners):
    """The same with one."""
    return _beliefs(room.views, refiners)


def test_a_fresh_network_starts_from_the_depth_that_it_is_given():
    position = torch.full(SIZE, 20.0)
    swept = _sweep(position)
    found = Refiner().refine(describe(torch.rand(3, *SIZE), swept, None), swept)
    torch.testing.assert_close(found.position, position)
    assert (found.spread > 0).all()


def test_the_network_is_not_told_the_unit_of_length():
    position, image = 10 + 5 * torch.rand(SIZE), torch.rand(3, *SIZE)
    swept = _sweep(position)
    scaled = replace(swept, first=swept.first / 1000, step=swept.step / 1000)
    torch.testing.assert_close(describe(image, scaled, None), describe(image, swept, None))
    assert describe(image, swept, None).shape == (INPUTS, *SIZE)


def test_exposure_is_not_told_either():
    image, swept = torch.rand(3, *SIZE), _sweep(torch.rand(SIZE))
    torch.testing.assert_close(
        describe(0.5 * image + 0.2, swept, None), describe(image, swept, None), atol=1e-4, rtol=1e-4
    )


def test_refined_depth_scales_with_the_unit_of_length(make_room, refiners, refined):
    scaled = make_room(unit=1000.0)
    for found, expected in zip(_beliefs(scaled.views, refiners), refined, strict=True):
        close = (found.belief(TARGET)[0] / 1000 / expected.belief(TARGET)[0] - 1).abs() < 5e-3
        assert close.float().mean() > 0.95
        assert (found.belief(TARGET)[1] - expected.belief(TARGET)[1]).abs().median() < 1e-3
        assert (found.belief(TARGET)[2] - expected.belief(TARGET)[2]).abs().mean() < 0.02


def test_padding_that_other_views_need_changes_no_refined_depth(room, refiners, refined):
    padded = replace(room.views, images=torch.nn.functional.pad(room.views.images, (0, 9, 0, 5)))
    for found, expected in zip(_beliefs(padded, refiners), refined, strict=True):
        for name in ("mode", "spread", "trust"):
            torch.testing.assert_close(getattr(found, name)[TARGET, :48, :64], getattr(expected, name)[TARGET])
            assert not getattr(found, name)[TARGET, 48:].any() or name == "spread"


def test_refiners_come_back_from_their_tensors(refiners):
    tensors = refiners.state_dict()
    again = load_refiners(tensors)
    swept = _sweep(torch.rand(SIZE))
    described = describe(torch.rand(3, *SIZE), swept, None)
    assert torch.equal(again.joint.refine(described, swept).position, refiners.joint.refine(described, swept).position)
    assert load_refiners({}) is None
    with pytest.raises(ValueError, match="expected refiner tensors"):
        load_refiners({name: tensor[:1] for name, tensor in tensors.items()})


def test_the_second_pass_is_told_what_the_sources_found(room, analytically):
    alone, _ = analytically
    swept, views = alone.sweeps.found[TARGET], alone.sweeps.views
    fused = fuse(views, alone.sweeps.depth, swept, TARGET, AROUND)
    first, second = describe(views.images[TARGET], swept, None), describe(views.images[TARGET], swept, fused)
    assert torch.equal(second[0], fused.position)
    assert not first[-6:].any()
    assert (second[-6:].flatten(1).abs().amax(1) > 0).all()


def test_votes_go_to_the_depth_that_most_views_share(room, analytically):
    """Three sources at true depth outvote a target whose own depth is off everywhere."""
    alone, _ = analytically
    swept = alone.sweeps.found[TARGET]
    true = (1 / room.depth[TARGET] - swept.first) / swept.step
    fused = fuse(room.views, room.depth, replace(swept, position=true + 10), TARGET, [2, 4, 5])
    voted = fused.shown >= 3
    assert voted.float().mean() > 0.6
    assert ((fused.position - true).abs()[voted] < 1.5).float().mean() > 0.9
    assert (fused.support >= fused.own_support).all()


def test_without_a_network_spread_grows_where_views_disagree(analytically):
    alone, _ = analytically
    swept = alone.sweeps.found[TARGET]
    agreed = analytic(swept, fuse(alone.sweeps.views, alone.sweeps.depth, swept, TARGET, AROUND))
    off = alone.sweeps.depth * torch.tensor([1.0, 0.8, 1.3, 1.0, 0.6, 1.8, 1.0])[:, None, None]
    doubted = analytic(swept, fuse(alone.sweeps.views, off, swept, TARGET, AROUND))
    assert isinstance(agreed, Refined)
    assert doubted.spread.mean() > 1.2 * agreed.spread.mean()
    assert doubted.trust.mean() < 0.5 * agreed.trust.mean()


def test_image_edges_decide_where_a_depth_edge_is():
    """A step between two colours lies at the image's pixel 13, which no working pixel ends at."""
    image = torch.where(torch.arange(24) < 13, 0.1, 0.9).expand(3, 16, 24)
    small = torch.where(torch.arange(6) < 3, 0.1, 0.9).expand(3, 4, 6)
    maps = torch.where(torch.arange(6) < 3, 1.0, 2.0).expand(1, 4, 6)
    large = guided_upsample(maps, small, image)
    torch.testing.assert_close(large[0, 8, :13], torch.ones(13), atol=0.02, rtol=0)
    torch.testing.assert_close(large[0, 8, 13:], torch.full((11,), 2.0), atol=0.02, rtol=0)


def test_upsampling_keeps_what_is_constant_and_what_is_at_full_size():
    maps, image = torch.full((2, 5, 7), 3.0), torch.rand(3, 20, 28)
    large = guided_upsample(maps, torch.rand(3, 5, 7), image)
    torch.testing.assert_close(large, torch.full((2, 20, 28), 3.0))
    assert guided_upsample(large, image, image) is large
