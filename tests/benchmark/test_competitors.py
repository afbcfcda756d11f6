"""The competitors' fast form against the definitions that `lift3d evaluate` uses."""

import numpy as np
import pytest

from pipeline.benchmark.competitors import RAW, VOTE_ALL, WARP, compete, vote_row
from pipeline.evaluation.baselines import nearest_view_warp, z_test_vote


@pytest.fixture
def contest(wall):
    """Three label sets on the wall: true, noisy, and with pixels that have no class."""
    views, labels = wall
    rng = np.random.default_rng(1)
    noisy = [
        np.where(rng.random(one.shape) < 0.4, rng.integers(0, 4, one.shape), one).astype(np.uint8) for one in labels
    ]
    holed = [np.where(rng.random(one.shape) < 0.3, 4, one).astype(np.uint8) for one in noisy]
    return views, {"true": labels, "noisy": noisy, "holed": holed}


def test_they_are_what_evaluate_compares_with(contest):
    views, variants = contest
    found = compete(views, variants, 4, range(len(views)), (1, 3))
    for name, labels in variants.items():
        expected = {
            RAW: labels,
            WARP: nearest_view_warp(views, labels),
            vote_row(1): z_test_vote(views, labels, 4, nearest=1),
            vote_row(3): z_test_vote(views, labels, 4, nearest=3),
            VOTE_ALL: z_test_vote(views, labels, 4),
        }
        assert found[name].keys() == expected.keys()
        for row, maps in expected.items():
            np.testing.assert_array_equal(np.stack(found[name][row]), np.stack(maps), err_msg=f"{name}, {row}")


def test_a_view_is_judged_by_all_views_but_only_targets_are_returned(contest):
    views, variants = contest
    everything = compete(views, variants, 4, range(len(views)), (2,))
    some = compete(views, variants, 4, (1, 4), (2,))
    for row, maps in everything["noisy"].items():
        np.testing.assert_array_equal(np.stack(some["noisy"][row]), np.stack([maps[1], maps[4]]))


def test_more_sources_than_there_are_views_is_all_of_them(contest):
    views, variants = contest
    found = compete(views, variants, 4, (0,), (50,))["noisy"]
    np.testing.assert_array_equal(found[vote_row(50)][0], found[VOTE_ALL][0])
