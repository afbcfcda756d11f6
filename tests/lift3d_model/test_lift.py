"""The whole lift on the room: clean labels stay, noisy ones are mended, nothing is made up, and what may not matter."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import pad

from lift3d_model import Depths, Lift3D, LiftSettings, Views, reference
from lift3d_model.corrector import CorrectorSettings
from lift3d_model.evidence import NODES, EvidenceSettings
from lift3d_model.geometry import pixel_centres
from lift3d_model.propagation import PropagationSettings

CLASSES, TARGET = 7, 3
SILENT = PropagationSettings(rounds=0, source_rounds=0)
SENSOR = LiftSettings(evidence=EvidenceSettings(colour_scale=None))
PLAIN = replace(SENSOR, corrector=CorrectorSettings(rounds=0), propagation=SILENT)
NOVEL = replace(SENSOR, self_weight=0.0)


def _lift_ids(room, ids, target=TARGET, settings=SENSOR, sources=None):
    order = room.others(target) if sources is None else sources
    return Lift3D(settings).lift_ids(room.views, room.depths, ids[[*order, target]], target, order, CLASSES)


def _noisy(room, seed=0, speckle=0.25):
    """Speckle, and in each view one whole object with another name."""
    generator = torch.Generator().manual_seed(seed)
    ids = room.ids.clone()
    for v in range(len(ids)):
        if v % 3 == 0:
            ids[v][room.ids[v] == 6] = int(torch.randint(6, (1,), generator=generator))
    wrong = torch.rand(ids.shape, generator=generator) < speckle
    return torch.where(wrong, torch.randint(CLASSES, ids.shape, generator=generator), ids)


def _right(lifted, room, target=TARGET):
    return float((lifted.ids == room.ids[target]).float().mean())


def _shares(lifted):
    """[CLASSES, H, W], 0 for classes that do not occur."""
    shares = torch.zeros(CLASSES, *lifted.values.shape[1:])
    shares[lifted.classes] = lifted.values
    return shares


@pytest.mark.parametrize("target", [0, 3, 6])
def test_clean_labels_stay(room, target):
    assert _right(_lift_ids(room, room.ids, target), room, target) >= 0.99


@pytest.mark.parametrize("seed", range(2))
def test_noisy_labels_come_out_better_than_raw_and_than_plain_voting(room, seed):
    ids = _noisy(room, seed)
    targets = range(len(ids))
    raw = np.mean([float((ids[v] == room.ids[v]).float().mean()) for v in targets])
    voted = np.mean([_right(_lift_ids(room, ids, v, PLAIN), room, v) for v in targets])
    lifted = np.mean([_right(_lift_ids(room, ids, v), room, v) for v in targets])
    assert lifted > voted + 0.02 > raw + 0.1


def test_shares_are_shares(room):
    shares = _shares(_lift_ids(room, _noisy(room)))
    assert shares.shape == (CLASSES, 48, 64)
    assert shares.min() >= 0
    torch.testing.assert_close(shares.sum(0), torch.ones(48, 64))


@pytest.mark.parametrize("settings", [NOVEL, replace(NOVEL, corrector=CorrectorSettings(rounds=0))])
def test_where_nobody_sees_anything_nothing_is_said(room, settings):
    """No evidence is 0 and confidence 0, never a mean over views that look elsewhere."""
    gap = replace(room.depths, mode=room.depth.clone())
    gap.mode[TARGET, 10:20, 30:40] = 0
    order = room.others(TARGET)
    model = Lift3D(settings)
    lifted = model.lift_ids(room.views, gap, room.ids[[*order, TARGET]], TARGET, order, CLASSES)
    features = model.lift_features(room.views, gap, torch.rand(7, 5, 48, 64) + 1, 1.0, TARGET, order)
    for result in (lifted, features):
        confidence, _ = result.agreement(torch.ones_like(result.weight))
        hidden = confidence.view(48, 64)[10:20, 30:40]
        assert not hidden.any()
        assert not result.values[:, 10:20, 30:40].any()
        assert not result.support.view(48, 64)[10:20, 30:40].any()
        assert result.support.any()


@pytest.mark.parametrize("sources", [[], [1]])
def test_without_anyone_elses_evidence_the_own_prediction_stands(room, sources):
    blind = replace(room.depths, mode=room.depth * 0)
    ids = _noisy(room)
    lifted = Lift3D(SENSOR).lift_ids(room.views, blind, ids[[*sources, TARGET]], TARGET, sources, CLASSES)
    assert torch.equal(lifted.ids.long(), ids[TARGET])
    confidence, consistency = lifted.agreement(torch.ones_like(lifted.weight))
    assert consistency is None
    assert (confidence > 0).all()
    assert (confidence < 0.5).all()


def test_without_sources_a_novel_view_is_empty(room):
    lifted = _lift_ids(room, room.ids, settings=NOVEL, sources=[])
    assert not lifted.values.any()
    confidence, consistency = lifted.agreement(torch.ones(0, 48 * 64))
    assert not confidence.any()
    assert consistency is None


def test_confidence_grows_with_agreeing_evidence(room):
    few = _lift_ids(room, room.ids, sources=[2])
    many = _lift_ids(room, room.ids)
    of_few, of_many = (float(x.agreement(torch.ones_like(x.weight))[0].mean()) for x in (few, many))
    assert 0 < of_few < of_many < 1
    doubted, consistency = many.agreement(torch.zeros_like(many.weight))
    assert (doubted <= many.agreement(torch.ones_like(many.weight))[0]).all()
    assert float(doubted.mean()) < of_many - 0.1
    assert consistency == 0.0


def test_pixels_without_a_prediction_have_no_say(room):
    ids = room.ids.clone()
    ids[:, 20:30] = -1
    lifted = _lift_ids(room, ids, settings=NOVEL)
    silent = replace(SENSOR, self_weight=0.0)
    expected = _lift_ids(room, torch.where(ids < 0, -1, room.ids), settings=silent)
    assert torch.equal(lifted.values, expected.values)
    own = _lift_ids(room, ids, sources=[])
    assert not own.values[:, 20:30].any()
    assert own.values[:, :20].any()


def test_a_louder_self_changes_less(room):
    ids = _noisy(room)
    changed = [
        float((_lift_ids(room, ids, settings=replace(PLAIN, self_weight=w)).ids != ids[TARGET]).sum())
        for w in (0.5, 3.0, 100.0)
    ]
    assert changed[0] > changed[1] > changed[2] == 0


def test_a_novel_view_does_not_look_at_the_targets_prediction(room):
    ids = _noisy(room)
    other = ids.clone()
    other[TARGET] = 0
    assert torch.equal(_lift_ids(room, ids, settings=NOVEL).values, _lift_ids(room, other, settings=NOVEL).values)


@pytest.mark.parametrize("settings", [SENSOR, NOVEL])
def test_the_order_of_sources_does_not_matter(room, settings):
    ids, order = _noisy(room), room.others(TARGET)
    forward = _lift_ids(room, ids, settings=settings, sources=order)
    backward = _lift_ids(room, ids, settings=settings, sources=order[::-1])
    torch.testing.assert_close(backward.values, forward.values, atol=1e-4, rtol=0)
    assert torch.equal(backward.classes, forward.classes)


@pytest.mark.parametrize("unit", [2.0**-8, 1000.0])
def test_the_world_and_its_unit_do_not_matter(room, make_room, unit):
    turn = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64))[0]
    world = torch.eye(4, dtype=torch.float64)
    world[:3, :3], world[:3, 3] = turn * torch.linalg.det(turn), torch.tensor([100.0, -200.0, 30.0])
    other = make_room(world=world.numpy(), unit=unit)
    expected, found = (_shares(_lift_ids(r, _noisy(room))) for r in (room, other))
    assert ((expected - found).abs().amax(0) < 1e-3).float().mean() > 0.995


@pytest.mark.parametrize("stride", [1, 4, 7])
def test_padding_that_other_views_need_changes_no_label(room, stride):
    ids, order = _noisy(room), [*room.others(TARGET), TARGET]
    wider = replace(room.views, images=pad(room.views.images, (0, 9, 0, 5)))
    depths = Depths(*(pad(x, (0, 9, 0, 5)) for x in (room.depth, room.depths.spread, room.depths.trust)))
    model = Lift3D(SENSOR)
    expected = _lift_ids(room, ids).values
    found = model.lift_ids(wider, depths, pad(ids[order], (0, 9, 0, 5), value=-1), TARGET, order[:-1], CLASSES).values
    assert torch.equal(found[:, :48, :64], expected)
    features = torch.rand(7, 4, -(-48 // stride), -(-64 // stride))
    narrow = model.lift_features(room.views, room.depths, features, float(stride), TARGET, order[:-1]).values
    wide = model.lift_features(wider, depths, features, float(stride), TARGET, order[:-1]).values
    assert torch.equal(wide, narrow)


def test_views_that_are_not_asked_do_not_matter(room):
    few = [1, 2, 4, 5, TARGET]
    part = Views(*(getattr(room.views, name)[few] for name in ("images", "K", "world_from_cam", "sizes")))
    depths = Depths(*(x[few] for x in (room.depth, room.depths.spread, room.depths.trust)))
    ids = _noisy(room)
    alone = Lift3D(SENSOR).lift_ids(part, depths, ids[few], 4, [0, 1, 2, 3], CLASSES)
    assert torch.equal(alone.values, _lift_ids(room, ids, sources=few[:-1]).values)


def test_features_are_permuted_and_doubled_with_their_channels(room):
    features = torch.rand(7, 6, 12, 16)
    lift = Lift3D(SENSOR).lift_features
    order, sources = torch.randperm(6), room.others(TARGET)
    expected = lift(room.views, room.depths, features, 4.0, TARGET, sources).values
    permuted = lift(room.views, room.depths, features[:, order], 4.0, TARGET, sources).values
    doubled = lift(room.views, room.depths, torch.cat([features, features], 1), 4.0, TARGET, sources).values
    torch.testing.assert_close(permuted, expected[order], atol=1e-5, rtol=0)
    torch.testing.assert_close(doubled, torch.cat([expected, expected]), atol=1e-5, rtol=0)


@pytest.mark.parametrize("stride", [4, 7])
def test_features_that_vary_with_place_alone_come_back(room, stride):
    """Each cell holds the class shares of its pixels; lifted from the other views alone they are the target's own."""
    h, w = -(-48 // stride), -(-64 // stride)
    one_hot = torch.nn.functional.one_hot(room.ids, CLASSES).permute(0, 3, 1, 2).float()
    padded = pad(one_hot, (0, w * stride - 64, 0, h * stride - 48), mode="replicate")
    features = torch.nn.functional.avg_pool2d(padded, stride)
    order = room.others(TARGET)
    lifted = Lift3D(NOVEL).lift_features(
        room.views, room.depths, features[[*order, TARGET]], float(stride), TARGET, order
    )
    known = (lifted.support > 0).view(h, w)
    assert known.float().mean() > 0.85
    error = (lifted.values - features[TARGET]).abs().sum(0)[known]
    assert error.mean() < 0.3


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(("stride", "samples"), [(1.0, 1), (4.0, 4)])
def test_lifted_features_equal_the_slow_twin(random_views, slow, seed, stride, samples):
    """From base weights to the robust mean, ray by ray; the target is lifted from two views, one of them smaller."""
    views, depths = random_views(seed, 0.05 if samples > 1 else 0.01)
    settings = replace(SENSOR, evidence=EvidenceSettings(colour_scale=None, samples=samples))
    h, w = int(-(-9 // stride)), int(-(-11 // stride))
    features = torch.rand(3, 4, h, w, generator=torch.Generator().manual_seed(seed))
    lifted = Lift3D(settings).lift_features(views, depths, features, stride, 0, [2, 1]).values.flatten(1)
    twin, compared = slow(views, depths), 0
    for r, pixel in enumerate(map(tuple, pixel_centres(h, w, stride).tolist())):
        row, column = reference.nearest_pixel(pixel, 9, 11)
        values, weights = [], []
        for slot, source in enumerate((2, 1)):
            for sample in reference.ray_samples(
                twin.depth[0, row, column], twin.spread[0, row, column], NODES[samples]
            ):
                weight = reference.base_weight(twin, 0, source, pixel, sample, settings.evidence)
                weights.append(weight * float(depths.trust[0, row, column]))
                x, y, _ = reference.warp(twin, 0, source, pixel, max(sample[0], 1e-3))
                values.append(reference.fetch_bilinear(features[slot].double().numpy(), (x, y), stride))
        weights.append(settings.self_weight)
        values.append(reference.fetch_bilinear(features[2].double().numpy(), pixel, stride))
        expected = reference.corrected_mean(np.array(values), np.array(weights), settings.corrector)
        compared += np.allclose(lifted[:, r].numpy(), expected, atol=2e-3)
    assert compared >= 0.97 * h * w  # rounding decides where a ray lands on the border between two pixels


def test_rgb_depths_of_views_that_are_not_needed_stay_unknown(room):
    sensor = torch.zeros_like(room.depth)
    measured = [v == 2 for v in range(7)]
    sensor[2] = room.depth[2]
    depths = Lift3D().depths(room.views, sensor, measured, [room.others(v)[:3] for v in range(7)], [2, TARGET])
    assert torch.equal(depths.mode[2], room.depth[2])
    assert (depths.mode[TARGET] > 0).all()
    assert not depths.mode[[0, 1, 4, 5, 6]].any()
    assert torch.equal(depths.trust, (depths.mode > 0).float())


def test_swept_depth_is_trusted_as_far_as_it_is_confirmed(room):
    model, around = Lift3D(), [room.others(v)[:3] for v in range(7)]
    swept = model.depths(room.views, torch.zeros_like(room.depth), [False] * 7, around, range(7))
    trust = model.confirmed(swept, room.views, TARGET, around[TARGET]).belief(TARGET)[2]
    assert 0 < trust.mean() < 1
    assert not model.confirmed(swept, room.views, TARGET, []).belief(TARGET)[2].any()
    measured = replace(room.depths)
    assert model.confirmed(measured, room.views, TARGET, around[TARGET]) == measured


def test_a_rendered_depth_replaces_the_targets_own_alone(room):
    spoiled = replace(room.depths, mode=room.depth.clone())
    spoiled.mode[TARGET] = 123.0
    found = Lift3D().rendered(spoiled, room.views, TARGET, room.others(TARGET))
    mode, _, trust = found.belief(TARGET)
    assert mode.max() < 10
    assert torch.equal(found.belief(0)[0], room.depth[0]) and torch.equal(found.mode[TARGET], spoiled.mode[TARGET])
    assert torch.equal(trust > 0, mode > 0)


def test_views_that_contradict_each_other_elsewhere_are_believed_less_here(room):
    """The same votes here, with the rest of the view in agreement or in dispute."""
    lifted = _lift_ids(room, room.ids)
    here = torch.zeros_like(lifted.weight, dtype=torch.bool)
    here[:, : here.shape[1] // 4] = True
    disputed = torch.where(here, 1.0, 0.3)
    trusting, doubting = (lifted.agreement(similarity)[0] for similarity in (torch.ones_like(disputed), disputed))
    assert (doubting <= trusting).all()
    known = here[0] & (trusting > 0)
    assert (doubting[known] < trusting[known]).all()


def _doubtful(room, shift=0.1, trust=0.9):
    """A block of the target's depth is off, and none of it is fully trusted."""
    belief = torch.stack([room.depth[TARGET], torch.full((48, 64), 0.02), torch.full((48, 64), trust)])
    belief[0, 12:36, 16:48] *= 1 + shift
    return room.depths.with_belief(TARGET, belief)


def _weighed(room, ids, depths):
    model, order = Lift3D(SENSOR), room.others(TARGET)
    maps = ids[[*order, TARGET]]
    plain = model.pixel_witnesses(room.views, depths, TARGET, order)
    weighed = plain.louder(len(order), model.own_votes(room.views, depths, plain, maps, TARGET, order))
    lift = [model.lift_ids(room.views, depths, maps, TARGET, order, CLASSES, one) for one in (plain, weighed)]
    return plain, weighed, lift


def test_an_operator_that_agrees_with_itself_is_believed_where_depth_is_off(room):
    plain, weighed, (before, after) = _weighed(room, room.ids, _doubtful(room))
    own = plain.slot == len(room.ids) - 1
    assert torch.equal(weighed.weight[~own], plain.weight[~own])
    assert float(weighed.weight[own].min()) > 2 * float(plain.weight[own].max())
    assert 1 - _right(after, room) < 0.5 * (1 - _right(before, room))


def test_one_that_contradicts_itself_is_not(room):
    plain, weighed, _ = _weighed(room, _noisy(room), _doubtful(room))
    torch.testing.assert_close(weighed.weight, plain.weight, rtol=0.02, atol=0)


def test_a_sensors_depth_leaves_weights_alone(room):
    filled = room.depths.belief(TARGET).clone()
    filled[1, :20], filled[2, :20] = 0.05, 0.3
    for depths in (room.depths, room.depths.with_belief(TARGET, filled)):
        plain, weighed, _ = _weighed(room, room.ids, depths)
        assert weighed is plain


def test_a_source_listens_to_next_neighbours_before_others_look_at_it(room):
    """What a view spreads far is wrong in every view that looks through it."""
    ids, order = _noisy(room), [v for v in range(len(room.ids)) if v != TARGET]
    args = room.views, room.depths, ids[[*order, TARGET]], TARGET, order, CLASSES
    settings = SENSOR.propagation
    once = replace(SENSOR, propagation=replace(settings, rounds=settings.source_rounds, tested=True))
    corrected = Lift3D(SENSOR).corrected_ids(*args)
    assert torch.equal(corrected, Lift3D(once).lift_ids(*args).ids)
    assert not torch.equal(corrected, Lift3D(SENSOR).lift_ids(*args).ids)
