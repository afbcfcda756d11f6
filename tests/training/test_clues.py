"""Learned factors in the lift: none is the analytic lift, units and axes do not matter, values are only weighed."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from lift3d_model import Depths, Lift3D, LiftSettings, Views
from lift3d_model.checkpoint import Checkpoint
from lift3d_model.evidence import EvidenceSettings, gather_evidence
from lift3d_model.geometry import pixel_centres
from lift3d_model.weighting import SHAPES, Weighting

COUNT, SIZE, STRIDE, CHANNELS = 5, (24, 32), 4, 6
ORDER = (1, 2, 3, 4)
REGIMES = {
    "certain": (0.01, EvidenceSettings()),
    "uncertain": (0.03, EvidenceSettings()),
    "novel": (0.03, EvidenceSettings(colour_scale=None)),
}


def _rotation(rng: np.random.Generator, size: float) -> np.ndarray:
    q, _ = np.linalg.qr(np.eye(3) + rng.normal(0, size, (3, 3)))
    return q * np.sign(np.diag(q)) @ np.diag([1, 1, np.linalg.det(q * np.sign(np.diag(q)))])


def _scene(spread: float, world: np.ndarray | None = None, unit: float = 1.0) -> tuple[Views, Depths]:
    rng = np.random.default_rng(0)
    poses = np.stack([np.eye(4)] * COUNT)
    poses[:, :3, :3] = [_rotation(rng, 0.03) for _ in range(COUNT)]
    poses[:, :3, 3] = rng.normal(0, 0.15, (COUNT, 3))
    depth = torch.from_numpy(rng.uniform(1.9, 2.1, (COUNT, *SIZE))).float()
    images = torch.from_numpy(rng.uniform(0.4, 0.6, (COUNT, 3, *SIZE))).float()
    moved = np.stack([(np.eye(4) if world is None else world) @ pose for pose in poses])
    moved[:, :3, 3] *= unit
    K = torch.tensor([[30.0, 0, 16], [0, 30.0, 12], [0, 0, 1]], dtype=torch.float64).expand(COUNT, 3, 3)
    views = Views(images, K, torch.from_numpy(moved), torch.tensor([SIZE] * COUNT))
    return views, Depths(depth * unit, torch.full_like(depth, spread), torch.ones_like(depth))


def _learned(seed: int = 3) -> Weighting:
    torch.manual_seed(seed)
    weighting = Weighting()
    with torch.no_grad():
        for name, values in weighting.values.items():
            falling = -torch.rand(len(values)).cumsum(0) * 0.4
            values.copy_(falling if SHAPES[name].falling else 0.3 * torch.randn(len(values)))
    return weighting


def _weights(regime: str, curves: Weighting | None, views: Views, depths: Depths) -> Tensor:
    sources = torch.arange(1, COUNT)
    return gather_evidence(views, depths, 0, sources, pixel_centres(*SIZE), REGIMES[regime][1], curves).weight.detach()


@pytest.mark.parametrize("regime", REGIMES)
def test_untrained_is_analytic_to_the_bit(regime: str) -> None:
    views, depths = _scene(REGIMES[regime][0])
    analytic = _weights(regime, None, views, depths)
    assert float(analytic.max()) > 0.1
    assert torch.equal(_weights(regime, Weighting(), views, depths), analytic)


@pytest.mark.parametrize("regime", REGIMES)
def test_learned_weights_stay_zero_where_nothing_is_seen_and_differ_elsewhere(regime: str) -> None:
    views, depths = _scene(REGIMES[regime][0])
    analytic, learned = _weights(regime, None, views, depths), _weights(regime, _learned(), views, depths)
    assert bool(((learned > 0) == (analytic > 0)).all())
    ratio = (learned / analytic)[analytic > 0]
    assert float(ratio.std()) > 0.05


@pytest.mark.parametrize("regime", REGIMES)
def test_neither_the_unit_nor_the_world_matters(regime: str) -> None:
    world = np.eye(4)
    world[:3, :3], world[:3, 3] = _rotation(np.random.default_rng(5), 2.0), (3.0, -70.0, 11.0)
    here = _weights(regime, _learned(), *_scene(REGIMES[regime][0]))
    there = _weights(regime, _learned(), *_scene(REGIMES[regime][0], world, 250.0))
    assert torch.isclose(here, there, rtol=1e-3, atol=1e-4).float().mean() > 0.999


def test_a_novel_views_own_colours_are_not_looked_at() -> None:
    views, depths = _scene(0.03)
    painted = views.images.clone()
    painted[0] = torch.rand(3, *SIZE)
    other = Views(painted, views.K, views.world_from_cam, views.sizes)
    assert torch.equal(_weights("novel", _learned(), views, depths), _weights("novel", _learned(), other, depths))
    assert not torch.equal(
        _weights("certain", _learned(), views, depths), _weights("certain", _learned(), other, depths)
    )


def _lift(features: Tensor, checkpoint: Checkpoint | None, order: Sequence[int] = ORDER) -> Tensor:
    views, depths = _scene(0.01)
    model = Lift3D(LiftSettings(), checkpoint)
    with torch.inference_mode():
        return model.lift_features(views, depths, features[[*order, 0]], STRIDE, 0, order).values


def _checkpoint(weighting: Weighting) -> Checkpoint:
    tensors = {f"weighting.{name}": tensor for name, tensor in weighting.state_dict().items()}
    return Checkpoint.from_bytes(Checkpoint(tensors).to_bytes())


def test_the_lift_takes_the_checkpoint_and_channels_are_only_weighed() -> None:
    torch.manual_seed(0)
    features = torch.randn(COUNT, CHANNELS, SIZE[0] // STRIDE, SIZE[1] // STRIDE)
    analytic, learned = _lift(features, None), _lift(features, _checkpoint(_learned()))
    assert torch.equal(_lift(features, _checkpoint(Weighting())), analytic)
    assert float((learned - analytic).abs().max()) > 0.01
    mixed = torch.randperm(CHANNELS)
    assert torch.allclose(_lift(features[:, mixed], _checkpoint(_learned())), learned[mixed], atol=1e-5)
    twice = torch.cat([features, features], dim=1)
    assert torch.allclose(_lift(twice, _checkpoint(_learned())), torch.cat([learned, learned]), atol=1e-5)
    assert torch.allclose(_lift(features, _checkpoint(_learned()), (3, 1, 4, 2)), learned, atol=1e-5)


def test_class_evidence_is_weighed_as_without_a_checkpoint() -> None:
    torch.manual_seed(0)
    views, depths = _scene(0.01)
    ids = torch.randint(3, (COUNT, *SIZE))
    plain, learned = (Lift3D(LiftSettings(), checkpoint) for checkpoint in (None, _checkpoint(_learned())))
    votes = [model.lift_ids(views, depths, ids, 0, ORDER, 3).values for model in (plain, learned)]
    assert torch.equal(*votes)
