"""What steps look at: reproducible, within bounds, spoiled as much as was asked."""

import itertools
import os
import signal
from pathlib import Path

import pytest
import torch
from torch import Generator, Tensor

from lift3d_model.checkpoint import read_tensors
from lift3d_model.training.examples import DEPTHS, KINDS, blobs, draw_example, noisy_depth, spoil_features
from lift3d_model.training.loop import FitSettings, fit
from lift3d_model.training.scenes import open_cache
from lift3d_model.training.state import STATE
from lift3d_model.training.weighting_task import WeightingTask

CPU = torch.device("cpu")


def _rng(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def test_the_split_keeps_held_out_views_out(cache: Path) -> None:
    train, dev = open_cache(cache)
    assert [(scene.name, len(scene.targets)) for scene in train] == [("a", 8), ("b", 6)]
    assert [(scene.name, scene.targets) for scene in dev] == [("b", (6, 7))]
    seen = {view for scene in train for target in scene.targets for view in scene.sources(target) if scene.name == "b"}
    assert seen == set(range(6))
    assert 5 in dev[0].sources(6) and 6 not in dev[0].sources(6)


def test_examples_are_drawn_again_from_the_same_state(cache: Path) -> None:
    train, _ = open_cache(cache)
    one, other = _rng(), _rng()
    kinds = set()
    for _ in range(100):
        a, b = draw_example(train, one, CPU), draw_example(train, other, CPU)
        assert (a.scene.name, a.chosen, a.kind, a.depth) == (b.scene.name, b.chosen, b.kind, b.depth)
        assert torch.equal(a.depths.mode, b.depths.mode)
        assert len(set(a.chosen)) == len(a.chosen) >= 4
        assert set(a.chosen) <= a.scene.pool
        kinds.add((a.kind, a.depth))
    assert len(kinds) == len(KINDS) * len(DEPTHS)


@pytest.mark.parametrize("share", [0.1, 0.3])
def test_patches_cover_about_what_was_asked(share: float) -> None:
    assert float(blobs(6, (48, 64), share, _rng()).float().mean()) == pytest.approx(share, abs=0.03)
    features = torch.randn(8, 5, 12, 16, generator=_rng())
    spoiled = spoil_features(features, share, _rng())
    assert float((spoiled != features).any(1).float().mean()) == pytest.approx(share, abs=0.05)
    values = {tuple(cell.tolist()) for cell in features[0].flatten(1).T}
    assert all(tuple(cell.tolist()) in values for cell in spoiled[0].flatten(1).T)


def test_noisy_depth_is_near_the_truth_or_a_hole() -> None:
    depth = torch.full((4, 48, 64), 3.0)
    noisy = noisy_depth(depth, _rng())
    known = noisy > 0
    assert 0 < float((~known).float().mean()) < 0.4
    assert float((noisy[known] / 3 - 1).abs().max()) < 0.1
    assert float((noisy[known] / 3 - 1).std()) > 1e-3


def test_training_on_a_cache_changes_curves_and_resumes_exactly(cache: Path, tmp_path: Path) -> None:
    settings = FitSettings(steps=6, warmup=1, learning_rate=0.05, validate_every=50)

    def run(out: str, *, stop_at: int = 0) -> None:
        task = WeightingTask(*open_cache(cache), CPU)
        loss, calls = task.loss, itertools.count(1)

        def stopping(rng: Generator) -> tuple[Tensor, dict[str, float]]:
            if next(calls) == stop_at:
                os.kill(os.getpid(), signal.SIGINT)
            return loss(rng)

        task.loss = stopping  # type: ignore[method-assign]
        fit(task, tmp_path / out, settings)

    run("whole")
    with pytest.raises(KeyboardInterrupt):
        run("parts", stop_at=3)
    run("parts")
    whole, parts = (read_tensors((tmp_path / out / "weighting" / STATE).read_bytes())[0] for out in ("whole", "parts"))
    assert whole.keys() == parts.keys()
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    changed = [name for name in whole if name.startswith("module.") and bool(whole[name].abs().max() > 0)]
    assert len(changed) > 5
