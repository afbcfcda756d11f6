"""Connected regions, against flood fill."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lift3d_model.reference import flood_regions
from lift3d_model.regions import connected_regions


def _agree(ids):
    return np.array_equal(connected_regions(torch.from_numpy(ids)).view(ids.shape).numpy(), flood_regions(ids))


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 9999), st.integers(1, 12), st.integers(1, 12), st.integers(1, 4))
def test_random_maps(seed, height, width, classes):
    assert _agree(np.random.default_rng(seed).integers(-1, classes, (height, width)))


def _spiral(n):
    """A path one pixel wide that winds from a corner to the middle."""
    ids, i, j, di, dj = np.zeros((n, n), int), 0, 0, 0, 1
    ids[0, 0] = 1
    for length in [n - 1] + [k for k in range(n - 1, 0, -2) for _ in (0, 1)]:
        for _ in range(length):
            i, j = i + di, j + dj
            ids[i, j] = 1
        di, dj = dj, -di
    return ids


@pytest.mark.parametrize("turns", range(4))
def test_spirals(turns):
    assert _agree(np.rot90(_spiral(17), turns).copy())


def test_combs_and_chess_boards():
    comb = np.zeros((9, 15), int)
    comb[:, ::2], comb[-1] = 1, 1
    chess = np.indices((8, 8)).sum(0) % 2
    assert _agree(comb)
    assert _agree(comb[::-1].copy())
    assert _agree(chess)
    assert len(np.unique(connected_regions(torch.from_numpy(chess)))) == 64


def test_one_region_is_named_by_its_first_pixel():
    assert connected_regions(torch.full((7, 5), 3)).tolist() == [0] * 35
