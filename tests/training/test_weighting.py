"""Learned curves: nothing learned is the analytic model, order is kept whatever is learned, tables are the curves."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lift3d_model.weighting import FLAT, SHAPES, Weighting, load_weighting

FLOATS = st.floats(-3, 3, width=32)


def _random(seed: int) -> Weighting:
    torch.manual_seed(seed)
    weighting = Weighting()
    with torch.no_grad():
        for values in weighting.values.values():
            values.normal_()
    return weighting


def test_untrained_curves_are_zero_and_cost_nothing():
    weighting = Weighting()
    clue = torch.linspace(-3, 3, 50)
    assert all(torch.equal(weighting(name, clue), torch.zeros(50)) for name in SHAPES)
    assert not [name for name in SHAPES if name in weighting.tables()]


@given(st.integers(0, 50))
@settings(max_examples=20)
def test_falling_curves_fall_and_anchors_hold(seed):
    weighting = _random(seed)
    for name, shape in SHAPES.items():
        found = weighting(name, torch.linspace(shape.knots[0] - 1, shape.knots[-1] + 1, 200)).detach()
        assert not shape.falling or bool((found.diff() <= 1e-6).all())
        if shape.anchor is not None:
            assert weighting(name, torch.tensor([shape.knots[shape.anchor]])).item() == pytest.approx(0, abs=1e-6)


@given(st.integers(0, 50), st.lists(FLOATS, min_size=1, max_size=20))
@settings(max_examples=20)
def test_tables_are_the_curves(seed, values):
    weighting, clue = _random(seed), torch.tensor(values)
    tables = weighting.tables()
    for name, shape in SHAPES.items():
        steepest = (weighting.curve(name).diff() / torch.tensor(shape.knots).diff()).abs().max().detach()
        cell = (shape.knots[-1] - shape.knots[0]) / 256
        found = tables(name, clue) if name in tables else torch.zeros(len(clue))
        assert (found - weighting(name, clue)).abs().max() <= float(steepest) * cell + FLAT + 1e-5


@given(st.lists(FLOATS, min_size=len(SHAPES["novel_turn"].knots), max_size=10))
def test_order_is_imposed_as_little_as_possible(values):
    weighting = Weighting()
    before = torch.tensor(values)
    with torch.no_grad():
        weighting.values["novel_turn"].copy_(before)
    curve = weighting.curve("novel_turn").detach()
    weighting.impose_order()
    after = weighting.values["novel_turn"].detach()
    assert bool((after.diff() <= 1e-6).all())
    assert after.mean().item() == pytest.approx(before.mean().item(), abs=1e-5)
    assert torch.allclose(weighting.curve("novel_turn").detach(), curve, atol=1e-5)
    assert bool(before.diff().max() > 0) or torch.equal(after, before)


def test_curves_are_continuous_between_knots():
    weighting = _random(1)
    for name, shape in SHAPES.items():
        knots = torch.tensor(shape.knots)
        assert torch.allclose(weighting(name, knots), weighting.curve(name), atol=1e-5)
        halves = weighting(name, (knots[1:] + knots[:-1]) / 2)
        assert torch.allclose(halves, (weighting.curve(name)[1:] + weighting.curve(name)[:-1]) / 2, atol=1e-5)


def test_gradients_reach_every_knot_that_is_near():
    weighting = Weighting()
    weighting("novel_nearness", torch.linspace(-1, 1, 100)).square().add(1).sqrt().sum().backward()
    weighting("dissent", torch.linspace(-2, 2, 100)).sum().backward()
    assert bool((weighting.values["dissent"].grad != 0).all())
    assert weighting.values["own"].grad is None


def test_another_models_tensors_are_refused():
    tensors = _random(0).state_dict()
    assert load_weighting(tensors) is not None
    assert load_weighting({}) is None
    with pytest.raises(ValueError, match="expected curves"):
        load_weighting({"values.dissent": torch.zeros(3)})
