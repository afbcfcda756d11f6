"""Scores of depth, maps and confidence where the answer is known."""

import numpy as np
import pytest
import torch

from pipeline.benchmark.confidence import calibrated, confidence_scores, expected_error, fit_temperature
from pipeline.benchmark.depths import ause, depth_scores, rank_correlation
from pipeline.benchmark.map_scores import map_scores
from pipeline.evaluation.pictures import psnr, ssim

RNG = np.random.default_rng(0)


def test_depth_scores_of_known_errors():
    truth = np.full(1000, 2.0)
    depth = np.concatenate([np.full(500, 2.0 * 1.04), np.full(250, 2.0 * 1.2), np.zeros(250)])
    found = depth_scores(depth, np.full(1000, 0.05), truth)
    assert found["coverage"] == 0.75
    assert found["abs_rel"] == pytest.approx((2 * 0.04 + 0.2) / 3)
    assert found["median_rel"] == pytest.approx(0.04)
    assert found["delta_105"] == pytest.approx(2 / 3)
    assert found["delta_125"] == 1
    assert found["within_1"] == pytest.approx(2 / 3)


def test_calibrated_spreads_hold_the_gaussian_shares():
    truth = RNG.uniform(1, 5, 50_000)
    spread = RNG.uniform(0.01, 0.1, 50_000)
    depth = truth / (1 - spread * RNG.normal(size=50_000)).clip(0.5)
    found = depth_scores(depth, spread, truth)
    assert found["within_1"] == pytest.approx(0.683, abs=0.01)
    assert found["within_2"] == pytest.approx(0.954, abs=0.01)
    assert found["rank_correlation"] > 0.3


def test_no_depth_at_all_is_no_coverage():
    assert depth_scores(np.zeros(3), np.ones(3), np.ones(3)) == {"coverage": 0.0, "pixels": 3.0}


def test_uncertainty_that_ranks_errors_perfectly_costs_nothing():
    error = RNG.exponential(size=2000)
    assert ause(error, error) == pytest.approx(0)
    assert ause(-error, error) > ause(RNG.random(2000), error) > 0.2
    assert rank_correlation(error**3, error) == pytest.approx(1)
    assert rank_correlation(-error, error) == pytest.approx(-1)
    assert rank_correlation(np.ones(2000), error) == 0


def test_ties_share_their_rank():
    assert rank_correlation(np.array([1.0, 1, 2, 2]), np.array([5.0, 5, 7, 7])) == pytest.approx(1)


def _histogram(temperature, pixels=1_000_000):
    """Pixels whose accuracy is what their confidence would be after division of its log odds by a temperature."""
    accuracy = calibrated(temperature)
    per_level = pixels // 256
    right = np.rint(accuracy * per_level)
    return np.stack([right, per_level - right], 1).astype(np.int64)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_the_temperature_that_is_in_the_data_is_found(temperature):
    histogram = _histogram(temperature)
    found = fit_temperature([histogram])
    assert found == pytest.approx(temperature, rel=0.02)
    assert expected_error(histogram, calibrated(found)) < 0.005


def test_a_temperature_is_fitted_on_the_other_scenes():
    scores = confidence_scores({"a": _histogram(0.5), "b": _histogram(2.0), "c": _histogram(2.0)})
    assert scores["a"]["temperature"] == pytest.approx(2, rel=0.02)
    assert scores["a"]["ece_calibrated"] > scores["a"]["ece"]
    assert scores["b"]["temperature"] < 1.5
    assert confidence_scores({"a": _histogram(0.5)})["a"]["temperature"] is None


def test_scenes_count_the_same_whatever_their_size():
    once = fit_temperature([_histogram(0.5), _histogram(2.0)])
    assert fit_temperature([_histogram(0.5), _histogram(2.0) * 10]) == pytest.approx(once)


def test_a_perfect_map_scores_perfectly():
    truth = torch.rand(3, 30, 40)
    mask = torch.rand(30, 40) > 0.3
    spoiled = torch.where(mask, truth, torch.zeros(()))
    found = map_scores(spoiled, truth, mask, "image")
    assert found == {"cosine": pytest.approx(1), "psnr": pytest.approx(100), "ssim": pytest.approx(1)}
    assert map_scores(truth, truth, torch.zeros(30, 40).bool(), "image") == {}


def test_a_constant_error_has_the_known_ratio():
    truth = np.full((3, 20, 20), 0.5)
    assert psnr(truth + 0.1, truth) == pytest.approx(20)
    assert ssim(truth + 0.1, truth, np.ones((20, 20), bool)) == pytest.approx(0.6001 / 0.6101, abs=1e-4)


def test_feature_vectors_are_compared_cell_by_cell():
    truth = torch.zeros(8, 2, 2)
    truth[0] = 1
    mine = truth.clone() * 7
    mine[:, 0, 0] = torch.eye(8)[1]
    found = map_scores(mine, truth, torch.ones(2, 2).bool(), "features")
    assert found == {"cosine": pytest.approx(0.75)}


def test_few_channels_are_compared_as_a_whole_map():
    truth = torch.rand(1, 20, 20)
    mask = torch.ones(20, 20).bool()
    assert map_scores(0.5 * truth + 0.2, truth, mask, "scalar")["cosine"] == pytest.approx(1)
    assert map_scores(1 - truth, truth, mask, "scalar")["cosine"] == pytest.approx(-1)
