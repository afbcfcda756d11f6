"""The task of the learned depth refiner: sensor depth where there is some, from sweeps of the same views' colours."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from lift3d_model.density import Sweep
from lift3d_model.fusion import fuse
from lift3d_model.proposal import refine_solo
from lift3d_model.refinement import LAPLACE_SPREAD, LEAST_SCALE, Refiners, describe
from lift3d_model.training.examples import draw
from lift3d_model.training.scenes import CachedScene
from lift3d_model.training.sweeps import SweptScene, swept_scene
from lift3d_model.views import Views

VARIANTS = 3
"""Sweeps of a scene that are learned from, each with other images and sources."""
BATCH = 2
"""Views of a step."""
RIGHT = 0.05
"""Relative error up to which a depth is right."""
FARTHEST_OFF = 1.0
"""Relative error above which more does not count."""
VALIDATED = 6
"""Held-out views a scene."""


class DepthTask:
    """Trains `Refiners` on the cached scenes that have sensor depth. Raises `ValueError` where none has."""

    name = "refiner"

    def __init__(self, train: Sequence[CachedScene], dev: Sequence[CachedScene], device: torch.device) -> None:
        self.module = Refiners().to(device)
        self._train, self._dev = ([scene for scene in part if scene.has("depth")] for part in (train, dev))
        if not self._train:
            raise ValueError(
                "expected a scene with sensor depth to train the refiner on, found none: train other parts"
            )
        self._device = device

    def config(self) -> dict[str, object]:
        """The tensors say everything."""
        return {}

    def loss(self, rng: Generator) -> tuple[Tensor, dict[str, float]]:
        """Of a few views of one scene, by themselves or (half of the steps) with what their sources found."""
        scene = self._train[draw(rng, len(self._train))]
        swept = swept_scene(scene, 1 + draw(rng, VARIANTS), self._device)
        kind = ("solo", "joint")[draw(rng, 2)]
        rows = [draw(rng, len(scene.pool)) for _ in range(BATCH)]
        losses = [self._view_loss(swept, row, kind, mirrored=bool(draw(rng, 2)))[0] for row in rows]
        total = torch.stack(losses).mean()
        return total, {kind: float(total.detach())}

    def validate(self) -> dict[str, float]:
        """Errors, coverage of the spreads and `score`, the mean loss, of the joint pass on clean images."""
        figures: dict[str, list[float]] = defaultdict(list)
        for scene in self._dev:
            swept = swept_scene(scene, 0, self._device)
            pool = sorted(scene.pool)
            targets = [pool.index(scene.targets[k * len(scene.targets) // VALIDATED]) for k in range(VALIDATED)]
            for row in targets:
                loss, error, scale = self._view_loss(swept, row, "joint", mirrored=False)
                spread = LAPLACE_SPREAD * scale
                figures["score"].append(float(loss))
                figures["abs_rel"].append(float(error.mean()))
                figures["right"].append(float((error < RIGHT).float().mean()))
                figures["within_1"].append(float((error < spread).float().mean()))
                figures["within_2"].append(float((error < 2 * spread).float().mean()))
        return {name: sum(values) / len(values) for name, values in figures.items()}

    def _view_loss(self, swept: SweptScene, row: int, kind: str, *, mirrored: bool) -> tuple[Tensor, Tensor, Tensor]:
        """Loss of one view, relative errors [N] and claimed relative scales [N] of its pixels with a reading."""
        one, described = self._described(swept, row, kind)
        truth = swept.truth(row).to(self._device)
        if mirrored:
            described, truth = described.flip(-1), truth.flip(-1)
        network = self.module.solo if kind == "solo" else self.module.joint
        position, scale, trust = (maps[0] for maps in network(described[None]))
        known = truth > 0
        error = (one.first + one.step * position[known]) * truth[known] - 1.0
        claimed = scale[known].exp() + LEAST_SCALE
        return _loss(error.abs(), claimed, trust[known]), error.detach().abs(), claimed.detach()

    def _described(self, swept: SweptScene, row: int, kind: str) -> tuple[Sweep, Tensor]:
        rows = [row, *swept.sources(row)] if kind == "joint" else [row]
        views = swept.views(rows)
        images = views.images.to(self._device)
        found = [_moved(swept.sweep(r), self._device) for r in rows]
        if kind == "solo":
            height, width = found[0].position.shape
            return found[0], describe(images[0, :, :height, :width], found[0], None)
        views = Views(images, *(t.to(self._device) for t in (views.K, views.world_from_cam, views.sizes)))
        with torch.no_grad():
            depth = torch.zeros_like(images[:, 0])
            for v, one in enumerate(found):
                found[v] = refine_solo(views, v, one, self.module)
                height, width = one.position.shape
                depth[v, :height, :width] = found[v].depth
            fused = fuse(views, depth, found[0], 0, range(1, len(rows)))
            height, width = found[0].position.shape
            return found[0], describe(images[0, :, :height, :width], found[0], fused)


def _moved(one: Sweep, device: torch.device) -> Sweep:
    return replace(one, position=one.position.to(device), clues=one.clues.to(device))


def _loss(error: Tensor, claimed: Tensor, trust: Tensor) -> Tensor:
    """Robust error, likelihood of the errors under Laplace densities, and cross entropy of the trust: [N] each.

    The first has a part that tells right from wrong and little else.
    """
    if not len(error):
        return claimed.sum()
    bounded = error.clamp_max(FARTHEST_OFF)
    robust = 2 * bounded + 2 * error / (error + RIGHT)
    likelihood = bounded / claimed + claimed.log()
    right = (error.detach() < RIGHT).float()
    return (robust + 0.3 * likelihood).mean() + 0.3 * F.binary_cross_entropy_with_logits(trust, right)
