"""The task of the learned weighting: predict what a held-out view shows, in colours and in features of two operators.

The target's features are those of the operator run on the real image. Where the target takes part itself (label mode)
every view's features, its own included, are spoiled in patches, and the unspoiled ones are to be found.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from lift3d_model.geometry import pixel_centres
from lift3d_model.sampling import sample_bilinear
from lift3d_model.training.examples import KINDS, Example, draw, draw_example, make_example, spoil_features
from lift3d_model.training.lifting import lift_rays, weigh_rays
from lift3d_model.training.scenes import CachedScene
from lift3d_model.weighting import Weighting

RAYS = 2048
"""Rays of a step's colours; features take all of a map's cells up to as many."""
SMOOTHNESS = 5e-4
"""Price of a curve's bends (squared second differences)."""
SPOILED = (0.1, 0.5)
"""Share of a view that is spoiled, at least and at most."""
SCORES = {
    "score:values.": ("guided", "label"),
    "score:values.novel_": ("novel",),
}
"""Which figures, by the beginning of their names, decide about which curves."""
VALIDATED = 3
"""Held-out targets a scene, in each kind and with each depth."""


class WeightingTask:
    """Trains a `Weighting` on cached scenes."""

    name = "weighting"

    def __init__(self, train: Sequence[CachedScene], dev: Sequence[CachedScene], device: torch.device) -> None:
        self.module = Weighting().to(device)
        self._train, self._dev, self._device = train, dev, device

    def config(self) -> dict[str, object]:
        """The curves say everything."""
        return {}

    def loss(self, rng: Generator) -> tuple[Tensor, dict[str, float]]:
        """Of one example: its colours where it is a novel view, and one operator's features."""
        self.module.impose_order()
        example = draw_example(self._train, rng, self._device)
        losses = self._losses(example, rng)
        total = torch.stack(list(losses.values())).sum() + SMOOTHNESS * self._bends()
        return total, {f"{example.kind}_{name}": float(value.detach()) for name, value in losses.items()}

    def validate(self) -> dict[str, float]:
        """Mean losses on fixed held-out targets by kind and depth; each group of curves is scored by its own kinds."""
        figures: dict[str, list[float]] = defaultdict(list)
        rng = Generator().manual_seed(1)
        for scene in self._dev:
            for number in range(VALIDATED):
                target = scene.targets[(2 * number + 1) * len(scene.targets) // (2 * VALIDATED)]
                for kind in KINDS:
                    for depth in ("sensor", "swept"):
                        self._score(scene, target, (kind, depth), rng, figures)
        means = {name: sum(values) / len(values) for name, values in sorted(figures.items())}
        return {score: _mean_of(means, kinds) for score, kinds in SCORES.items()} | means

    def _score(
        self, scene: CachedScene, target: int, case: tuple[str, str], rng: Generator, figures: dict[str, list[float]]
    ) -> None:
        kind, depth = case
        if not scene.has("swept" if depth == "swept" else "depth"):
            return
        example = make_example(scene, target, scene.sources(target)[:8], kind, depth, rng, self._device)
        for name in scene.strides:
            for what, value in self._losses(example, rng, name).items():
                figures[f"{kind}_{depth}_{what}"].append(float(value))

    def _losses(self, example: Example, rng: Generator, operator: str | None = None) -> dict[str, Tensor]:
        names = sorted(example.scene.strides)
        chosen = operator or names[draw(rng, len(names))]
        losses = {chosen: self._feature_loss(example, chosen, rng)}
        if example.kind == "novel":
            losses["rgb"] = self._colour_loss(example, rng)
        return losses

    def _colour_loss(self, example: Example, rng: Generator) -> Tensor:
        """Robust difference of the mean colour at random pixels, in units of 0.1."""
        height, width = (int(side) for side in example.views.sizes[example.target])
        picked = torch.randint(height * width, (RAYS,), generator=rng)
        pixels = pixel_centres(height, width)[picked].to(self._device)
        rays = weigh_rays(example, pixels, self.module)
        colours = sample_bilinear(example.views.images[rays.view], rays.pixels)
        found = lift_rays(self.module, rays, colours)
        images = example.views.images[example.target][None]
        truth = sample_bilinear(images, pixels[None].float())[0]
        return _mean_where_seen(_robust(10 * found, 10 * truth), rays.weight)

    def _feature_loss(self, example: Example, name: str, rng: Generator) -> Tensor:
        """1 - cosine plus robust difference to the operator's map, both normalised by that map's mean and spread."""
        stride = example.scene.strides[name]
        clean = example.scene.tensor(f"features_{name}", example.chosen, self._device)
        truth = clean[-1]
        values = self._spoiled(clean, rng) if example.kind == "label" else clean
        h, w = (int(side) // stride for side in example.views.sizes[example.target])
        cells = torch.randperm(h * w, generator=rng)[:RAYS].to(self._device)
        pixels = pixel_centres(h, w, stride, self._device)[cells]
        rays = weigh_rays(example, pixels, self.module)
        found = lift_rays(self.module, rays, sample_bilinear(values[rays.view], rays.pixels, stride))
        wanted = truth[:, :h, :w].flatten(1)[:, cells]
        centre, spread = wanted.mean(1, keepdim=True), wanted.std().clamp_min(1e-6)
        found, wanted = (found - centre) / spread, (wanted - centre) / spread
        seen = (rays.weight.detach().sum(0) > 1e-3).float()
        error = (
            1 - F.cosine_similarity(found, wanted, dim=0) + F.smooth_l1_loss(found, wanted, reduction="none").mean(0)
        )
        return (error * seen).sum() / seen.sum().clamp_min(1)

    def _spoiled(self, features: Tensor, rng: Generator) -> Tensor:
        least, most = SPOILED
        return spoil_features(features, least + (most - least) * float(torch.rand(1, generator=rng)), rng)

    def _bends(self) -> Tensor:
        curves = [self.module.curve(name) for name in self.module.values]
        return torch.stack([curve.diff(n=2).square().sum() for curve in curves]).sum()


def _mean_of(figures: Mapping[str, float], beginnings: tuple[str, ...]) -> float:
    chosen = [value for name, value in figures.items() if name.startswith(beginnings)]
    return sum(chosen) / len(chosen) if chosen else 0.0


def _robust(found: Tensor, wanted: Tensor) -> Tensor:
    """[C, R] -> [R]."""
    return F.smooth_l1_loss(found, wanted, reduction="none").mean(0)


def _mean_where_seen(error: Tensor, weight: Tensor) -> Tensor:
    """Mean of [R] over the rays that have any evidence."""
    seen = (weight.detach().sum(0) > 1e-3).float()
    return (error * seen).sum() / seen.sum().clamp_min(1)
