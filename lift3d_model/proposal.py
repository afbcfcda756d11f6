"""Stage I, assembled: sweeps of single views, then what a target's sources say about its depth, then full resolution.

A view's belief as a source is its own sweep's alone; as a target, it is that sweep fused with its sources'. So what a
target looks at ends with its sources' own sources, and no label depends on how a scene was cut into chunks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from lift3d_model.density import COARSE_PIXELS, WORKING_PIXELS, Sweep, SweepSettings, shrink, sweep
from lift3d_model.fusion import Fused, fuse
from lift3d_model.refinement import Refined, Refiners, analytic, describe
from lift3d_model.sampling import pad_to
from lift3d_model.upsampling import guided_upsample
from lift3d_model.views import SENSOR_SPREAD, Depths, Views

SWEPT_SOURCES = 8
"""Source views that a depth sweep looks at: more cost more and add little."""


@dataclass(frozen=True, slots=True)
class Sweeps:
    """What swept views' depths were read from.

    Attributes:
        views: at working resolution.
        found: each view's sweep, its position refined; None for views that were not swept.
        depth: [V, h, w] z-depth of all views at working resolution, measured ones included; 0 = unknown.
    """

    views: Views
    found: tuple[Sweep | None, ...]
    depth: Tensor


def propose(
    views: Views,
    sensor: Tensor,
    measured: Sequence[bool],
    sources: Sequence[Sequence[int]],
    needed: Sequence[int],
    settings: SweepSettings,
    refiners: Refiners | None,
) -> Depths:
    """Every needed view's belief from its sensor or its own sweep alone (arguments: `Lift3D.depths`)."""
    mode, spread = torch.zeros_like(sensor), torch.full_like(sensor, SENSOR_SPREAD)
    working, coarse = shrink(views, WORKING_PIXELS), shrink(views, COARSE_PIXELS)
    depth = torch.zeros_like(working.images[:, 0])
    found: list[Sweep | None] = [None] * len(views)
    for v in needed:
        if measured[v]:
            mode[v], depth[v] = sensor[v], working_depth(sensor[v], views, working, v)
        elif sources[v]:
            swept = sweep(working, coarse, v, torch.tensor(sources[v][:SWEPT_SOURCES], device=views.device), settings)
            refined = _refine(working, v, swept, None, refiners)
            mode[v], spread[v], _ = _full(views, working, v, swept, refined)
            found[v] = swept = replace(swept, position=refined.position)
            depth[v] = pad_to(swept.depth, *depth.shape[1:])
    return Depths(mode, spread, (mode > 0).to(mode.dtype), Sweeps(working, tuple(found), depth))


def confirm(depths: Depths, views: Views, target: int, sources: Sequence[int], refiners: Refiners | None) -> Depths:
    """The same depths, a swept target's corrected by its sources' and trusted as far as these agree."""
    sweeps = depths.sweeps
    swept = sweeps.found[target] if sweeps else None
    if sweeps is None or swept is None:
        return depths
    fused = fuse(sweeps.views, sweeps.depth, swept, target, sources)
    refined = _refine(sweeps.views, target, swept, fused, refiners)
    maps = _full(views, sweeps.views, target, swept, refined)
    mode, spread, trust = depths.mode.clone(), depths.spread.clone(), depths.trust.clone()
    mode[target], spread[target], trust[target] = maps
    return replace(depths, mode=mode, spread=spread, trust=trust)


def refine_solo(working: Views, v: int, swept: Sweep, refiners: Refiners | None) -> Sweep:
    """A view's sweep, its position refined without other views' depths."""
    return replace(swept, position=_refine(working, v, swept, None, refiners).position)


def _refine(working: Views, v: int, swept: Sweep, fused: Fused | None, refiners: Refiners | None) -> Refined:
    if refiners is None:
        return analytic(swept, fused)
    height, width = swept.position.shape
    described = describe(working.images[v, :, :height, :width], swept, fused)
    network = refiners.solo if fused is None else refiners.joint
    return network.refine(described, swept)


def _full(views: Views, working: Views, v: int, swept: Sweep, refined: Refined) -> tuple[Tensor, Tensor, Tensor]:
    """Depth, relative spread and trust at full resolution [H, W], 0 on padding."""
    height, width = views.sizes[v].tolist()
    h, w = refined.position.shape
    maps = torch.stack([swept.inverse(refined.position), refined.spread, refined.trust])
    large = guided_upsample(maps, working.images[v, :, :h, :w], views.images[v, :, :height, :width])
    large[0] = 1.0 / large[0]
    found = pad_to(large, *views.images.shape[-2:])
    return found[0], found[1], found[2]


def working_depth(depth: Tensor, views: Views, working: Views, v: int) -> Tensor:
    """A sensor's readings at working resolution [h, w], padded; unknown stays unknown."""
    height, width = views.sizes[v].tolist()
    small = F.interpolate(depth[None, None, :height, :width], size=working.sizes[v].tolist(), mode="nearest-exact")
    return pad_to(small[0, 0], *working.images.shape[-2:])
