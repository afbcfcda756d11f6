"""Votes and robust means: the slow twin, what may not matter, and that it corrects."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lift3d_model import reference
from lift3d_model.corrector import (
    NOVEL_VIEW,
    CorrectorSettings,
    correct_features,
    emphasised,
    own_share,
    vote,
    weighted_mean,
)

SETTINGS = CorrectorSettings(rounds=2, prior_agreement=0.35, floor=0.02, sharpness=4.0)
SEEDS = st.integers(0, 9999)


def _witnesses(seed, witnesses=4, rays=12, classes=3):
    """ids, and weights with gaps."""
    rng = np.random.default_rng(seed)
    ids = torch.from_numpy(rng.integers(0, classes, (witnesses, rays)))
    weight = torch.from_numpy(rng.random((witnesses, rays)) * (rng.random((witnesses, rays)) > 0.3))
    return ids, weight


@settings(deadline=None, max_examples=30)
@given(SEEDS, st.integers(1, 5))
def test_votes_equal_the_slow_twin(seed, witnesses):
    ids, weight = _witnesses(seed, witnesses)
    expected = reference.votes(ids.numpy(), weight.numpy(), 3)
    np.testing.assert_allclose(vote(ids, weight, 3).numpy(), expected, atol=1e-9)


@settings(deadline=None, max_examples=30)
@given(SEEDS, st.integers(1, 5), st.integers(0, 3), st.sampled_from([0.02, 0.4]), st.sampled_from([1.0, 2.0]))
def test_means_equal_the_slow_twin(seed, witnesses, rounds, floor, emphasis):
    rng = np.random.default_rng(seed)
    values = torch.from_numpy(rng.normal(1, 1, (witnesses, 1 + seed % 6, 6)))
    weight = torch.from_numpy(rng.random((witnesses, 6)) * (rng.random((witnesses, 6)) > 0.3))
    constants = CorrectorSettings(rounds=rounds, floor=floor, emphasis=emphasis)
    mean, _ = correct_features(values, weight, constants)
    for r in range(6):
        slow = reference.corrected_mean(values[..., r].numpy(), weight[:, r].numpy(), constants)
        np.testing.assert_allclose(mean[:, r].numpy(), slow, atol=1e-6)


@settings(deadline=None, max_examples=30)
@given(SEEDS)
def test_the_order_of_witnesses_does_not_matter(seed):
    ids, weight = _witnesses(seed)
    order = torch.randperm(4, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(vote(ids[order], weight[order], 3), vote(ids, weight, 3))
    values = torch.randn(4, 5, 12, dtype=torch.float64)
    mean, final = correct_features(values, weight, SETTINGS)
    shuffled, theirs = correct_features(values[order], weight[order], SETTINGS)
    torch.testing.assert_close(shuffled, mean)
    torch.testing.assert_close(theirs, final[order])


@settings(deadline=None, max_examples=30)
@given(SEEDS, st.integers(1, 8))
def test_channels_are_only_ever_weighted(seed, channels):
    """Permuting, duplicating and scaling all channels does just that to the result."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(4, channels, 9, generator=generator, dtype=torch.float64) + 0.5
    weight = torch.rand(4, 9, generator=generator, dtype=torch.float64)
    order = torch.randperm(channels, generator=generator)
    mean, final = correct_features(values, weight, SETTINGS)
    permuted, _ = correct_features(values[:, order], weight, SETTINGS)
    doubled, same = correct_features(torch.cat([values, values], 1), weight, SETTINGS)
    scaled, _ = correct_features(values * 4.0, weight, SETTINGS)
    torch.testing.assert_close(permuted, mean[order], atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(doubled, torch.cat([mean, mean]), atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(same, final, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(scaled, mean * 4.0, atol=1e-6, rtol=1e-6)


@settings(deadline=None, max_examples=20)
@given(SEEDS)
def test_rays_of_features_do_not_know_of_each_other(seed):
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(3, 4, 9, generator=generator, dtype=torch.float64)
    weight = torch.rand(3, 9, generator=generator, dtype=torch.float64)
    together, _ = correct_features(values, weight, SETTINGS)
    torch.testing.assert_close(correct_features(values[..., 2:5], weight[:, 2:5], SETTINGS)[0], together[:, 2:5])


@settings(deadline=None, max_examples=20)
@given(SEEDS)
def test_what_all_agree_on_is_kept(seed):
    weight = _witnesses(seed)[1] + 0.1
    same = torch.randn(1, 5, 12, dtype=torch.float64).expand(4, 5, 12)
    torch.testing.assert_close(correct_features(same, weight, SETTINGS)[0], same[0])


def test_means_stay_between_what_was_said():
    values, weight = torch.randn(4, 6, 50), torch.rand(4, 50) + 0.01
    mean, _ = correct_features(values, weight, SETTINGS)
    assert (mean <= values.amax(0) + 1e-5).all()
    assert (mean >= values.amin(0) - 1e-5).all()


def test_no_evidence_gives_zeros_and_no_numbers_that_are_none():
    mean, weight = correct_features(torch.randn(3, 4, 5), torch.zeros(3, 5), SETTINGS)
    for result in (vote(torch.zeros(3, 5, dtype=torch.long), torch.zeros(3, 5), 2), mean, weight):
        assert not result.any()


@pytest.mark.parametrize("rounds", [0, 1, 2])
def test_a_lone_witness_is_believed(rounds):
    values = torch.randn(1, 4, 3)
    mean, final = correct_features(values, torch.ones(1, 3), CorrectorSettings(rounds=rounds))
    assert (final > 0).all()
    torch.testing.assert_close(mean, values[0])


def test_without_rounds_it_is_a_plain_mean():
    weight = _witnesses(1)[1]
    values = torch.randn(4, 5, 12, dtype=torch.float64)
    mean, _ = correct_features(values, weight, CorrectorSettings(rounds=0))
    assert torch.equal(mean, weighted_mean(values, weight))


def test_one_features_outlier_is_outvoted():
    values = torch.tensor([1.0, 0.0]).expand(4, 2).clone()[..., None]
    values[3, :, 0] = torch.tensor([-1.0, 2.0])
    mean, _ = correct_features(values, torch.ones(4, 1), SETTINGS)
    assert float((mean[:, 0] - values[0, :, 0]).norm()) < 0.05
    assert float((weighted_mean(values, torch.ones(4, 1))[:, 0] - values[0, :, 0]).norm()) > 0.5


def test_a_witness_is_not_its_own_evidence():
    """However loud: of two that contradict each other, neither is taken for more than the floor."""
    values = torch.stack([torch.ones(3, 2), -torch.ones(3, 2)])
    weight = torch.tensor([[50.0, 50.0], [1.0, 1.0]])
    _, final = correct_features(values, weight, SETTINGS)
    torch.testing.assert_close(final, weight * SETTINGS.floor)


@settings(deadline=None, max_examples=30)
@given(SEEDS, st.floats(1.0, 4.0))
def test_emphasis_favours_the_heaviest_and_keeps_the_sums(seed, exponent):
    _, weight = _witnesses(seed)
    found = emphasised(weight, exponent)
    torch.testing.assert_close(found.sum(0), weight.sum(0))
    seen = weight.sum(0) > 0
    share, before = (w[:, seen] / w[:, seen].sum(0) for w in (found, weight))
    assert bool((share.amax(0) >= before.amax(0) - 1e-12).all())
    assert torch.equal(found.argmax(0)[seen], weight.argmax(0)[seen])


def test_in_novel_views_a_near_witness_outweighs_two_that_agree():
    values = torch.tensor([[[1.0], [0.0]], [[0.0], [1.0]], [[0.0], [1.0]]])
    weight = torch.tensor([[0.5], [0.3], [0.3]])
    assert correct_features(values, weight, NOVEL_VIEW)[0].argmax() == 0
    assert correct_features(values, weight, SETTINGS)[0].argmax() == 1


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_the_own_class_counts_for_more_the_surer_operators_are_than_geometry(agreement, more, trust):
    low, high = sorted((agreement, more))
    shares = [own_share(value, trust, SETTINGS) for value in (low, high)]
    assert 1.0 <= shares[0] <= shares[1] <= SETTINGS.most_own
    assert own_share(high, trust, SETTINGS) >= own_share(high, min(trust + 0.005, 1.0), SETTINGS)
    assert own_share(0.0, trust, SETTINGS) == 1.0
    assert own_share(0.5, 0.9, SETTINGS) == pytest.approx(1.0, abs=1e-3)
    assert own_share(0.99, 0.9, SETTINGS) > 4
