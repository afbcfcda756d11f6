"""The fit of confidence: that it finds what made the data, and that it is fed what confidence is made of."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.benchmark.confidence_fit import SHIPPED, Pixels, compared, fit, gather
from pipeline.benchmark.labels import SET, noisy_space, target_truth, written
from pipeline.benchmark.lifts import Memory, Variant, config_of, lift_targets
from pipeline.benchmark.scenes import open_scenes
from schemas.config import LiftConfig, OperatorConfig, ReaderConfig
from schemas.errors import ConfigError


def _drawn(rng, constants, count):
    clues = np.concatenate([np.ones((count, 1)), rng.normal(size=(count, len(constants) - 1))], 1)
    right = rng.random(count) < 1 / (1 + np.exp(-clues @ constants))
    return Pixels("depth", 8, 1.0, clues, right)


@given(st.integers(0, 2**32 - 1))
def test_the_constants_that_made_the_pixels_are_found(seed):
    rng = np.random.default_rng(seed)
    constants = rng.uniform(-2, 2, 4)
    pixels = [_drawn(rng, constants, 20_000) for _ in range(2)]
    found = fit(pixels)
    assert np.abs(found - constants).max() < 0.2
    clues, right = np.concatenate([one.clues for one in pixels]), np.concatenate([one.right for one in pixels])
    confidence = np.concatenate([one.confidence(found) for one in pixels])
    # Where likelihood is greatest, confidence exceeds what is right on no clue's average.
    assert clues.T @ (confidence - right) / len(right) == pytest.approx(0, abs=1e-5)
    ((mode, sources, noise, *scores),) = compared(pixels, found).rows
    assert (mode, sources, noise) == ("depth", 8, 1.0)
    assert float(scores[1]) >= float(scores[0]) - 0.01
    assert float(scores[3]) <= min(0.02, float(scores[2]) + 0.01)


def test_pixels_that_are_all_right_say_nothing():
    one = _drawn(np.random.default_rng(0), np.zeros(4), 10)
    with pytest.raises(ConfigError, match="all pixels are right"):
        fit([Pixels(one.mode, one.sources, one.noise, one.clues, np.ones(10, bool))])


def test_clues_are_those_of_the_confidence_that_a_run_gives(sample_room):
    (bench,) = open_scenes([str(sample_room)], ReaderConfig(), 2)
    pixels = next(gather(bench, ((2, 1.0),), drawn=10**6))
    lift = LiftConfig(method="depth", sources=2)
    with written(bench, 1.0) as folder:
        operator = OperatorConfig(spec=f"precomputed:{folder}", kwargs={"label_set": SET})
        records = lift_targets(bench, config_of(bench, operator, lift), Variant(lift).model(Memory()))
    space = noisy_space()
    known = [truth < len(space.labels.ids) for truth in target_truth(bench, space)[0]]
    given = np.concatenate([r.confidence[k & (r.confidence > 0)] for r, k in zip(records, known, strict=True)])
    assert np.sort(pixels.confidence(SHIPPED)) == pytest.approx(np.sort(given), abs=1e-5)
    assert 0.5 < pixels.right.mean() < 1
