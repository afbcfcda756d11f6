"""Fetching map values: exact grids at any stride, borders, resizing."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lift3d_model import reference
from lift3d_model.geometry import pixel_centres
from lift3d_model.sampling import (
    box_mean,
    nearest_index,
    pad_to,
    pick,
    pick_colours,
    resize_mean,
    sample_bilinear,
    stack_padded,
    upsample,
)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 9999), st.integers(1, 6), st.integers(1, 7), st.sampled_from([1.0, 2.0, 4.0, 14.0]))
def test_bilinear_equals_the_slow_twin_inside_and_beyond(seed, h, w, stride):
    generator = torch.Generator().manual_seed(seed)
    maps = torch.rand(2, 3, h, w, generator=generator)
    pixels = (torch.rand(2, 10, 2, generator=generator) * 1.4 - 0.2) * torch.tensor([w, h]) * stride
    found = sample_bilinear(maps, pixels, stride)
    for s in range(2):
        for n in range(10):
            slow = reference.fetch_bilinear(maps[s].double().numpy(), tuple(pixels[s, n].tolist()), stride)
            np.testing.assert_allclose(found[s, :, n].numpy(), slow, atol=2e-5)


@pytest.mark.parametrize("stride", [1.0, 4.0, 14.0, 16.0])
def test_at_the_centre_of_a_cell_its_value_is_read(stride):
    maps = torch.rand(1, 5, 4, 6)
    found = sample_bilinear(maps, pixel_centres(4, 6, stride)[None], stride)
    torch.testing.assert_close(found[0].view(5, 4, 6), maps[0], atol=1e-5, rtol=0)


@settings(deadline=None, max_examples=40)
@given(st.floats(-3, 14), st.floats(-3, 12))
def test_nearest_equals_the_slow_twin(x, y):
    row, column = reference.nearest_pixel((x, y), 9, 11)
    assert int(nearest_index(torch.tensor([x, y], dtype=torch.float64), 9, 11)) == row * 11 + column


def test_nearest_of_pixel_centres_is_the_pixel():
    assert nearest_index(pixel_centres(5, 7), 5, 7).tolist() == list(range(35))


def test_gathering_picks_from_the_right_map():
    images, index = torch.rand(3, 3, 4, 5), torch.randint(20, (4, 6))
    ids, chosen = torch.randint(9, (3, 4, 5)), torch.tensor([2, 0, 0, 1])
    for e, v in enumerate(chosen.tolist()):
        assert torch.equal(pick_colours(images, chosen, index)[e], images[v].flatten(1)[:, index[e]])
        assert torch.equal(pick(ids, chosen, index)[e], ids[v].flatten()[index[e]])


def test_shrinking_keeps_the_mean_and_enlarging_keeps_ramps():
    images = torch.rand(2, 3, 12, 16)
    torch.testing.assert_close(resize_mean(images, 4, 8).mean((2, 3)), images.mean((2, 3)))
    ramp = torch.arange(8.0).expand(1, 6, 8)
    enlarged = upsample(ramp, 18, 24)
    expected = (torch.arange(24.0) + 0.5) / 3 - 0.5
    torch.testing.assert_close(enlarged[0, 9, 3:-3], expected[3:-3])
    assert resize_mean(images, 24, 32).shape == (2, 3, 24, 32)


def test_box_means_are_cut_at_the_border():
    image = torch.rand(1, 1, 6, 7)
    mean = box_mean(image, 2)
    assert float(mean[0, 0, 0, 0]) == pytest.approx(float(image[0, 0, :3, :3].mean()), abs=1e-6)
    assert float(mean[0, 0, 3, 3]) == pytest.approx(float(image[0, 0, 1:6, 1:6].mean()), abs=1e-6)


def test_padding_adds_zeros_at_the_bottom_and_right_only():
    small, large = torch.ones(3, 2, 3), torch.ones(3, 4, 2)
    stacked = stack_padded([small, large])
    assert stacked.shape == (2, 3, 4, 3)
    assert torch.equal(stacked[0, :, :2], small)
    assert torch.equal(stacked[1, :, :, :2], large)
    assert stacked.sum() == small.sum() + large.sum()
    assert torch.equal(pad_to(small, 2, 3), small)
