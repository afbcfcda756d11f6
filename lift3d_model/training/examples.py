"""What a training step looks at: a target, its sources, what is known of depth, and how much of the target may be seen.

Everything is drawn from one generator, so that a resumed run draws what it would have drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from lift3d_model.training.scenes import CachedScene
from lift3d_model.views import SENSOR_SPREAD, Depths, Views

FEWEST, MOST = 3, 16
"""Source views of a step."""
KINDS = ("novel", "guided", "label")
"""novel: the target has no image; guided: it has one but no prediction; label: it has a prediction, as wrong as any."""
DEPTHS = ("sensor", "noisy", "swept")


@dataclass(frozen=True)
class Example:
    """One target with its sources; views are numbered sources first, target last.

    Attributes:
        chosen: the scene's own numbers of these views.
        kind: one of KINDS; depth: one of DEPTHS.
    """

    scene: CachedScene
    chosen: tuple[int, ...]
    kind: str
    depth: str
    views: Views
    depths: Depths

    @property
    def target(self) -> int:
        """The target's position."""
        return len(self.chosen) - 1

    @property
    def sources(self) -> Tensor:
        """[S] positions of the sources."""
        return torch.arange(self.target, device=self.views.device)


def draw(rng: Generator, high: int) -> int:
    """A whole number from 0 to high - 1."""
    return int(torch.randint(high, (1,), generator=rng))


def draw_example(scenes: Sequence[CachedScene], rng: Generator, device: torch.device) -> Example:
    """A random example: any scene and target, few or many sources from near or far, any depth that the scene has."""
    scene = scenes[draw(rng, len(scenes))]
    target = scene.targets[draw(rng, len(scene.targets))]
    ranked = scene.sources(target)
    count = min(FEWEST + draw(rng, MOST - FEWEST + 1), len(ranked))
    reach = count + draw(rng, len(ranked) - count + 1)
    order = torch.randperm(reach, generator=rng)[:count].sort().values
    sources = [ranked[int(position)] for position in order]
    kind = KINDS[draw(rng, len(KINDS))]
    known = [name for name in DEPTHS if scene.has("swept" if name == "swept" else "depth")]
    return make_example(scene, target, sources, kind, known[draw(rng, len(known))], rng, device)


def make_example(
    scene: CachedScene,
    target: int,
    sources: Sequence[int],
    kind: str,
    depth: str,
    rng: Generator,
    device: torch.device,
) -> Example:
    """An example as described; its noise comes from `rng`."""
    chosen = (*sources, target)
    views = scene.views(chosen, device)
    depths = _depths(scene, chosen, depth, rng, device)
    if kind == "novel":
        depths = _as_rendered(depths, rng)
    return Example(scene, chosen, kind, depth, views, depths)


def _depths(scene: CachedScene, chosen: Sequence[int], kind: str, rng: Generator, device: torch.device) -> Depths:
    if kind == "swept":
        found = scene.tensor("swept", chosen, device)
        mode, spread = found[:, 0], found[:, 1].clamp_min(1e-3)
        return Depths(mode, spread, (mode > 0).float())
    mode = scene.tensor("depth", chosen, device)
    if kind == "noisy":
        mode = noisy_depth(mode, rng)
    return Depths(mode, torch.full_like(mode, SENSOR_SPREAD), (mode > 0).float())


def _as_rendered(depths: Depths, rng: Generator) -> Depths:
    """The last view's depth as a novel view has it: from elsewhere, so a little off."""
    mode, spread = depths.mode.clone(), depths.spread.clone()
    noise = torch.randn(mode[-1].shape, generator=rng).to(mode.device)
    mode[-1] = mode[-1] * (1.0 + 0.004 * noise)
    spread[-1] = 2 * SENSOR_SPREAD
    return replace(depths, mode=mode, spread=spread)


def noisy_depth(depth: Tensor, rng: Generator) -> Tensor:
    """Depth [V, H, W] of a worse sensor: off by a smooth field of about a per cent and by noise, with holes."""
    count, height, width = depth.shape
    coarse = torch.randn(count, 1, 8, 8, generator=rng).to(depth.device)
    field = F.interpolate(coarse, size=(height, width), mode="bilinear", align_corners=False)[:, 0]
    fine = torch.randn(depth.shape, generator=rng).to(depth.device)
    level = 0.015 * float(torch.rand(1, generator=rng))
    holes = blobs(count, (height, width), 0.3 * float(torch.rand(1, generator=rng)), rng).to(depth.device)
    return (depth * (1.0 + level * field + 0.5 * level * fine)).masked_fill(holes, 0.0)


def blobs(count: int, size: tuple[int, int], share: float, rng: Generator) -> Tensor:
    """Masks [count, H, W] of smooth patches that cover about `share` of each."""
    noise = torch.randn(count, 1, max(size[0] // 12, 4), max(size[1] // 12, 4), generator=rng)
    field = F.interpolate(noise, size=size, mode="bilinear", align_corners=False)[:, 0]
    level = torch.quantile(field.flatten(1)[:, ::7], 1.0 - share, dim=1)
    return field > level[:, None, None]


def spoil_features(features: Tensor, share: float, rng: Generator) -> Tensor:
    """Maps [V, C, h, w] in which, view by view, patches show what is elsewhere in the view: an operator's mistakes."""
    h, w = features.shape[-2:]
    spoiled = []
    for view in features:
        shift = (1 + draw(rng, h - 1), 1 + draw(rng, w - 1))
        noise = torch.randn(1, 1, 5, 6, generator=rng)
        field = F.interpolate(noise, size=(h, w), mode="bilinear", align_corners=False)[0, 0]
        wrong = (field > torch.quantile(field, 1.0 - share)).to(view.device)
        spoiled.append(torch.where(wrong, view.roll(shift, (1, 2)), view))
    return torch.stack(spoiled)
