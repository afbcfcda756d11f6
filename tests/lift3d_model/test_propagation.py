"""Shares spread along colour and depth edges: the slow twin, what stays, what is mended, what may not matter."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import pad

from lift3d_model import reference
from lift3d_model.propagation import Guide, PropagationSettings, likeness, propagate

HEIGHT, WIDTH = 18, 24
SETTINGS = PropagationSettings()


def _guide(seed=0, dtype=torch.float32, size=(HEIGHT, WIDTH)):
    """Two halves: left red and near, right blue and far, with a little noise."""
    generator = torch.Generator().manual_seed(seed)
    right = (torch.arange(WIDTH) >= WIDTH // 2).expand(HEIGHT, WIDTH)
    image = torch.stack([0.8 - 0.6 * right.float(), torch.full((HEIGHT, WIDTH), 0.3), 0.2 + 0.6 * right.float()])
    image = image + 0.01 * torch.randn(image.shape, generator=generator)
    depth = torch.where(right, 3.0, 2.0) + 0.2 * torch.arange(HEIGHT)[:, None] / HEIGHT
    spread = torch.full((HEIGHT, WIDTH), 0.01)
    return Guide(image.to(dtype), depth.to(dtype), spread.to(dtype), size), right


def _votes(right, wrong, seed=0):
    """Eight witnesses a pixel of the right class, half as many where `wrong` is set."""
    truth = torch.stack([~right, right]).float()
    noise = torch.rand(2, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(seed))
    return torch.where(wrong, 4 * truth.flip(0) + 3 * truth + 0.1 * noise, 8 * truth).flatten(1)


@settings(deadline=None, max_examples=15)
@given(
    st.integers(0, 9999),
    st.integers(1, 4),
    st.sampled_from([None, 0.04, 0.3]),
    st.integers(1, 3),
    st.tuples(st.integers(2, 7), st.integers(2, 9)),
)
def test_it_equals_the_slow_twin(seed, classes, colour, rounds, size):
    """Also in images that are narrower than the farthest step."""
    rng = np.random.default_rng(seed)
    votes = rng.random((classes, 7, 9)) * 3 * (rng.random((classes, 7, 9)) > 0.4)
    image, depth = rng.random((3, 7, 9)), 1 + rng.random((7, 9)) * (rng.random((7, 9)) > 0.2)
    depth[rng.random((7, 9)) < 0.1] = 0
    spread = rng.random((7, 9)) * 0.05
    constants = PropagationSettings(rounds=rounds, colour_scale=colour, depth_scale=0.05)
    guide = Guide(*(torch.from_numpy(x) for x in (image, depth, spread)), size)
    found = propagate(torch.from_numpy(votes).flatten(1), guide, constants)
    before = propagate(torch.from_numpy(votes).flatten(1), guide, constants, likeness(guide, constants))
    assert torch.equal(found, before)
    expected = reference.spread_shares(votes, image, depth, spread, size, constants)
    inside = np.zeros((7, 9), bool)
    inside[: size[0], : size[1]] = True
    np.testing.assert_allclose(found.numpy()[:, inside.ravel()], expected[:, inside], atol=1e-6)


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 9999), st.floats(0, 1))
def test_a_guide_is_tested_as_the_slow_twin_does_it(seed, mixed):
    """With colours that say everything, nothing, or something of where classes end."""
    rng = np.random.default_rng(seed)
    size, height, width = (20, 22), 21, 24
    truth = np.arange(width)[None] + rng.integers(-2, 3, (height, 1)) < width // 2
    votes = 4 + 1.2 * np.stack([truth, ~truth]) + 0.4 * rng.random((2, height, width))
    colour = np.where(rng.random((height, width)) < mixed, truth, rng.random((height, width)) < 0.5)
    image = np.stack([0.1 * colour + 0.01 * rng.random((height, width))] * 3)
    depth, spread = np.full((height, width), 2.0), np.full((height, width), 0.01)
    constants = PropagationSettings(rounds=1, tested=True)
    guide = Guide(*(torch.from_numpy(x) for x in (image, depth, spread)), size)
    found = propagate(torch.from_numpy(votes).flatten(1), guide, constants)
    expected = reference.spread_shares(votes, image, depth, spread, size, constants)
    inside = np.zeros((height, width), bool)
    inside[: size[0], : size[1]] = True
    np.testing.assert_allclose(found.numpy()[:, inside.ravel()], expected[:, inside], atol=1e-6)


@pytest.mark.parametrize(("off", "worth"), [(0, 1.0), (2, 0.0)])
def test_a_guide_is_followed_where_its_edges_are_the_outlines(off, worth):
    """Votes lean to one class or the other, in stripes; the photo's stripes are where theirs are, or two pixels off."""
    height, width = 64, 64
    x = torch.arange(width).expand(height, width)
    striped = (x % 12 < 2).double()
    noise = torch.rand(2, height, width, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    votes = (5 + 2 * torch.stack([striped, 1 - striped]) + noise).flatten(1)
    image = (0.3 + 0.4 * ((x - off) % 12 < 2).double()).expand(3, height, width)
    flat = torch.full((height, width), 2.0, dtype=torch.float64)
    guide = Guide(image, flat, 0.005 * flat, (height, width))
    tested = propagate(votes, guide, replace(SETTINGS, rounds=1, tested=True))
    followed = propagate(votes, guide, replace(SETTINGS, rounds=1))
    torch.testing.assert_close(tested, followed if worth else votes / votes.sum(0))
    assert not torch.equal(followed, votes / votes.sum(0))


def test_what_all_agree_on_stays():
    guide, right = _guide()
    sure = _votes(right, torch.zeros(HEIGHT, WIDTH, dtype=torch.bool))
    assert torch.equal(propagate(sure, guide, SETTINGS), sure / sure.sum(0))


@pytest.mark.parametrize("colour", [0.04, None])
def test_an_outline_that_wobbles_snaps_to_the_edge(colour):
    guide, right = _guide()
    near_edge = (torch.arange(WIDTH) - WIDTH // 2).abs() <= 2
    wrong = near_edge & (torch.rand(HEIGHT, WIDTH, generator=torch.Generator().manual_seed(3)) < 0.5)
    votes = _votes(right, wrong)
    assert (votes.argmax(0) != right.flatten().long()).float().mean() > 0.05
    mended = propagate(votes, guide, replace(SETTINGS, colour_scale=colour))
    assert torch.equal(mended.argmax(0), right.flatten().long())


def test_nothing_crosses_an_edge():
    """A pixel that barely knows anything takes its own side's class; one without depth or votes takes nothing."""
    guide, right = _guide()
    votes = _votes(right, torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)).view(2, HEIGHT, WIDTH)
    around = slice(WIDTH // 2 - 3, WIDTH // 2 + 3)
    votes[:, 5:9, around] = 0.05 * votes[:, 5:9, around].flip(0)
    guide.depth[7, WIDTH // 2], votes[:, 6, WIDTH // 2] = 0, 0
    shares = propagate(votes.flatten(1), guide, replace(SETTINGS, rounds=8)).view(2, HEIGHT, WIDTH)
    wrong = (shares.argmax(0) != right.long()).nonzero().tolist()
    assert wrong == [[6, WIDTH // 2], [7, WIDTH // 2]]
    assert not shares[:, 6, WIDTH // 2].any()


def test_shares_are_shares_and_classes_are_only_permuted():
    guide, _ = _guide()
    votes = torch.rand(5, HEIGHT * WIDTH, generator=torch.Generator().manual_seed(1))
    shares = propagate(votes, guide, SETTINGS)
    torch.testing.assert_close(shares.sum(0), torch.ones(HEIGHT * WIDTH))
    assert shares.min() >= 0
    order = torch.tensor([3, 0, 4, 1, 2])
    torch.testing.assert_close(propagate(votes[order], guide, SETTINGS), shares[order])


def test_padding_and_the_unit_change_nothing():
    guide, right = _guide()
    wrong = torch.rand(HEIGHT, WIDTH, generator=torch.Generator().manual_seed(3)) < 0.3
    votes = _votes(right, wrong)
    expected = propagate(votes, guide, SETTINGS).view(2, HEIGHT, WIDTH)
    wide = Guide(*(pad(x, (0, 5, 0, 3)) for x in (guide.image, guide.depth, guide.spread)), guide.size)
    found = propagate(pad(votes.view(2, HEIGHT, WIDTH), (0, 5, 0, 3)).flatten(1), wide, SETTINGS)
    torch.testing.assert_close(found.view(2, HEIGHT + 3, WIDTH + 5)[:, :HEIGHT, :WIDTH], expected)
    scaled = propagate(votes, replace(guide, depth=guide.depth * 1000), SETTINGS)
    torch.testing.assert_close(scaled.view_as(expected), expected, atol=1e-4, rtol=0)


def test_without_rounds_shares_are_the_votes():
    guide, _ = _guide()
    votes = torch.rand(3, HEIGHT * WIDTH)
    torch.testing.assert_close(propagate(votes, guide, PropagationSettings(rounds=0)), votes / votes.sum(0))


def test_a_tie_far_from_everybody_stays_a_tie():
    guide, _ = _guide()
    votes = torch.zeros(2, HEIGHT * WIDTH)
    votes[:, 200] = 1.5
    shares = propagate(votes, guide, SETTINGS)
    torch.testing.assert_close(shares[:, 200], torch.tensor([0.5, 0.5]))
    assert not shares[:, :200].any()
