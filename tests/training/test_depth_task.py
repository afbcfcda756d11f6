"""The refiner's task: sweeps that are made once, a loss that reaches both networks, and figures that stay put."""

import pytest
import torch
from torch import Generator

from lift3d_model.training.depth_task import DepthTask
from lift3d_model.training.scenes import open_cache
from lift3d_model.training.sweeps import MOST, spoil_images, swept_scene

CPU = torch.device("cpu")


@pytest.fixture
def task(cache):
    """On the small cache."""
    torch.manual_seed(0)
    return DepthTask(*open_cache(cache), CPU)


def test_the_loss_reaches_both_networks(task):
    rng = Generator().manual_seed(4)
    for _ in range(6):
        task.loss(rng)[0].backward()
    for network in (task.module.solo, task.module.joint):
        assert network.choice.weight.grad.abs().sum() > 0
        assert all(weight.grad.isfinite().all() for weight in network.parameters())


def test_equal_random_numbers_give_equal_losses(task):
    first, second = (task.loss(Generator().manual_seed(7))[0] for _ in range(2))
    assert torch.equal(first, second)


def test_validation_says_the_same_every_time(task):
    with torch.no_grad():
        figures = task.validate()
        assert figures == task.validate()
    assert {"score", "abs_rel", "right", "within_1", "within_2"} == set(figures)


def test_sweeps_are_made_once(cache):
    scene = open_cache(cache)[0][0]
    swept_scene(scene, 2, CPU)
    made = {path: path.stat().st_mtime_ns for path in scene.folder.glob("sweeps2_*.npy")}
    assert len(made) == 9
    swept = swept_scene(scene, 2, CPU)
    assert made == {path: path.stat().st_mtime_ns for path in scene.folder.glob("sweeps2_*.npy")}
    assert swept.sweep(3).position.shape == swept.truth(3).shape == (24, 32)
    assert 3 not in swept.sources(3)
    assert 1 <= len(swept.sources(3)) <= MOST


def test_views_that_may_not_be_looked_at_are_not_swept(cache):
    scene = open_cache(cache)[0][1]
    assert sorted(scene.pool) == list(range(6))
    swept = swept_scene(scene, 1, CPU)
    assert max(s for row in range(6) for s in swept.sources(row)) < 6


def test_spoiled_images_are_images_of_the_same_things():
    images = torch.rand(4, 3, 24, 32)
    spoiled = spoil_images(images, Generator().manual_seed(1))
    assert spoiled.min() >= 0
    assert spoiled.max() <= 1
    likeness = torch.corrcoef(torch.stack([images.mean(1).flatten(), spoiled.mean(1).flatten()]))[0, 1]
    assert 0.7 < likeness < 0.9999


def test_scenes_without_depth_cannot_teach_it(cache):
    for path in cache.glob("*/depth.npy"):
        path.unlink()
    with pytest.raises(ValueError, match="found none"):
        DepthTask(*open_cache(cache), CPU)
