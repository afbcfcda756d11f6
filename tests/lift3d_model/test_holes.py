"""Sensor depth with holes: completed by what other views measured, never overwritten."""

from dataclasses import replace

import pytest
import torch

from lift3d_model.density import SweepSettings
from lift3d_model.proposal import confirm, propose

TARGET = 3
SOURCES = [2, 4, 1, 5]


def _completed(room, sensor, sources=SOURCES):
    """Beliefs of all views as measured, and with the target completed."""
    asked = [[] for _ in range(7)]
    depths = propose(room.views, sensor, [True] * 7, asked, range(7), SweepSettings(), None)
    return depths, confirm(depths, room.views, TARGET, sources, None)


def _holed(room, seed=0, share=0.2, noise=0.0):
    """True depth with holes of 8 x 8 pixels, and noise."""
    rng = torch.Generator().manual_seed(seed)
    blocks = torch.rand(7, 6, 8, generator=rng) < share
    holes = blocks.repeat_interleave(8, 1).repeat_interleave(8, 2)
    noisy = room.depth + noise * torch.randn(room.depth.shape, generator=rng)
    return torch.where(holes, torch.zeros_like(noisy), noisy), holes


@pytest.mark.parametrize("noise", [0.0, 0.02])
def test_holes_are_filled_from_other_views(room, noise):
    sensor, holes = _holed(room, noise=noise)
    before, after = _completed(room, sensor)
    hole = holes[TARGET]
    error = ((after.belief(TARGET)[0] - room.depth[TARGET]).abs() / room.depth[TARGET])[hole]
    assert (error < 0.05).float().mean() > 0.85
    assert (after.belief(TARGET)[1][hole] > before.belief(TARGET)[1][~hole].max()).all()
    assert (after.belief(TARGET)[2][hole] < 1).all()
    assert (after.belief(TARGET)[2][hole] > 0).all()


def test_readings_stay_as_they_are(room):
    sensor, holes = _holed(room)
    before, after = _completed(room, sensor)
    for name in ("mode", "spread", "trust"):
        old, new = getattr(before, name), getattr(after, name)
        assert torch.equal(new[TARGET][~holes[TARGET]], old[TARGET][~holes[TARGET]])
        others = [v for v in range(7) if v != TARGET]
        assert torch.equal(new[others], old[others])


def test_without_other_views_holes_are_grown_over_and_hardly_trusted(room):
    sensor, holes = _holed(room)
    _, after = _completed(room, sensor, [])
    assert (after.belief(TARGET)[0] > 0).all()
    assert after.belief(TARGET)[2][holes[TARGET]].max() < 0.5


def test_depth_without_holes_and_no_depth_at_all_are_left_alone(room):
    depths, after = _completed(room, room.depth)
    assert after is depths
    nothing = room.depth.clone()
    nothing[TARGET] = 0
    depths, after = _completed(room, nothing)
    assert after is depths


def test_fillings_do_not_know_the_unit(room, make_room):
    scaled = make_room(unit=1000.0)
    expected = _completed(room, _holed(room)[0])[1]
    found = _completed(scaled, _holed(scaled)[0])[1]
    close = (found.belief(TARGET)[0] / 1000 / expected.belief(TARGET)[0] - 1).abs() < 1e-3
    assert close.float().mean() > 0.99


def test_padding_is_not_filled(room):
    sensor, _ = _holed(room)
    padded = replace(room.views, images=torch.nn.functional.pad(room.views.images, (0, 9, 0, 5)))
    wide = replace(room, views=padded)
    found = _completed(wide, torch.nn.functional.pad(sensor, (0, 9, 0, 5)))[1]
    expected = _completed(room, sensor)[1]
    torch.testing.assert_close(found.belief(TARGET)[0, :48, :64], expected.belief(TARGET)[0])
    assert not found.belief(TARGET)[0, 48:].any()
    assert not found.belief(TARGET)[0, :, 64:].any()
