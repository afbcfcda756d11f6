"""The GNT-style renderer does what it is timed for: a ray looks at every source that sees it, and at nothing else."""

from dataclasses import replace

import pytest
import torch

from lift3d_model.geometry import pixel_centres
from lift3d_model.gnt_style import GntSettings, GntStyle, SourceMaps

SMALL = GntSettings(samples=8, blocks=2, chunk=5)
RANGE = (0.5, 5.0)


@pytest.fixture(scope="module")
def renderer():
    torch.manual_seed(0)
    return GntStyle(SMALL).eval()


@pytest.fixture(scope="module")
def maps(room, renderer):
    sources = torch.tensor(room.others(0))
    with torch.no_grad():
        features = renderer.features(room.views.images[sources])
    return SourceMaps(room.views, sources, features, room.ids[sources][:, None].float())


@pytest.fixture(scope="module")
def pixels():
    return pixel_centres(48, 64)[::211]


def test_shapes(renderer, maps, pixels):
    colours, values = renderer.render(maps, 0, pixels, RANGE)
    assert colours.shape == (len(pixels), 3)
    assert values.shape == (len(pixels), 1)
    assert renderer.render(replace(maps, values=None), 0, pixels, RANGE)[1].shape == (len(pixels), 0)
    assert torch.isfinite(colours).all()


def test_the_order_of_the_sources_does_not_matter(renderer, maps, pixels):
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    shuffled = replace(maps, sources=maps.sources[order], features=maps.features[order], values=maps.values[order])
    for ours, theirs in zip(
        renderer.render(maps, 0, pixels, RANGE), renderer.render(shuffled, 0, pixels, RANGE), strict=True
    ):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


def test_a_source_that_sees_nothing_of_the_rays_has_no_influence(renderer, maps, pixels):
    turned = maps.views.world_from_cam.clone()
    turned[3, :3, :3] = turned[0, :3, :3] @ torch.diag(torch.tensor([-1.0, 1.0, -1.0], dtype=torch.float64))
    turned[3, :3, 3] = turned[0, :3, 3]
    away = replace(maps, views=replace(maps.views, world_from_cam=turned))
    rest = [k for k, view in enumerate(maps.sources.tolist()) if view != 3]
    without = replace(away, sources=maps.sources[rest], features=maps.features[rest], values=maps.values[rest])
    for ours, theirs in zip(
        renderer.render(away, 0, pixels, RANGE), renderer.render(without, 0, pixels, RANGE), strict=True
    ):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


def test_every_source_that_sees_the_rays_has_influence(renderer, maps, pixels):
    colours = renderer.render(maps, 0, pixels, RANGE)[0]
    for k in range(len(maps.sources)):
        rest = [other for other in range(len(maps.sources)) if other != k]
        fewer = replace(maps, sources=maps.sources[rest], features=maps.features[rest], values=None)
        assert not torch.allclose(colours, renderer.render(fewer, 0, pixels, RANGE)[0], atol=1e-5)


def test_rays_that_no_source_sees_are_finite_and_carry_nothing(renderer, maps, pixels):
    lost = replace(maps.views, sizes=torch.zeros_like(maps.views.sizes))
    colours, values = renderer.render(replace(maps, views=lost), 0, pixels, RANGE)
    assert torch.isfinite(colours).all()
    assert (values == 0).all()


def test_values_ride_along_as_weighted_means(renderer, maps, pixels):
    twice = replace(maps, values=torch.cat([maps.values, 2 * maps.values], dim=1))
    values = renderer.render(twice, 0, pixels, RANGE)[1]
    torch.testing.assert_close(values[:, 1], 2 * values[:, 0])
    assert (values >= 0).all()
    assert (values <= 2 * maps.values.max()).all()


@pytest.mark.parametrize("chunk", [1, 4, 100])
def test_chunks_do_not_matter(renderer, maps, pixels, chunk):
    other = GntStyle(replace(SMALL, chunk=chunk)).eval()
    other.load_state_dict(renderer.state_dict())
    for ours, theirs in zip(renderer.render(maps, 0, pixels, RANGE), other.render(maps, 0, pixels, RANGE), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


def test_the_default_sizes_are_those_that_speed_is_compared_with():
    settings = GntSettings()
    assert (settings.samples, settings.blocks, settings.width, settings.heads, settings.chunk) == (64, 4, 64, 4, 64)
