"""Stage I, assembled: sweeps of single views, then what a target's sources say about its depth, then full resolution.

A view's belief as a source is its own sweep's alone; as a target, it is that sweep fused with its sources'. So what a
target looks at ends with its sources' own sources, and no label depends on how a scene was cut into chunks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from lift3d_model.density import COARSE_PIXELS, WORKING_PIXELS, Sweep, SweepSettings, shrink, sweep
from lift3d_model.fusion import Fused, fuse
from lift3d_model.holes import fill_holes
from lift3d_model.refinement import Refined, Refiners, analytic, describe
from lift3d_model.sampling import pad_to
from lift3d_model.upsampling import guided_upsample
from lift3d_model.views import SENSOR_SPREAD, Depths, Views

SWEPT_SOURCES = 8
"""Source views that a depth sweep looks at, and that its result is compared with: more cost more and add little."""


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
    known: Mapping[int, Sweep] | None = None,
) -> Depths:
    """Every needed view's belief from its sensor or its own sweep alone (arguments: `Lift3D.depths`)."""
    known = known or {}
    mode, spread = torch.zeros_like(sensor), torch.full_like(sensor, SENSOR_SPREAD)
    working, coarse = shrink(views, WORKING_PIXELS), shrink(views, COARSE_PIXELS)
    depth = torch.zeros_like(working.images[:, 0])
    found: list[Sweep | None] = [None] * len(views)
    for v in needed:
        if measured[v]:
            mode[v], depth[v] = sensor[v], working_depth(sensor[v], views, working, v)
        elif v in known or sources[v]:
            swept = known.get(v) or _swept(working, coarse, v, sources[v], settings, refiners)
            assert swept.spread is not None
            found[v] = swept
            mode[v], spread[v] = _full(views, working, v, swept.inverse(swept.position), swept.spread)
            depth[v] = pad_to(swept.depth, *depth.shape[1:])
    return Depths(mode, spread, (mode > 0).to(mode.dtype), Sweeps(working, tuple(found), depth))


def _swept(
    working: Views, coarse: Views, v: int, sources: Sequence[int], settings: SweepSettings, refiners: Refiners | None
) -> Sweep:
    """A view's sweep over its best sources, refined."""
    chosen = torch.tensor(sources[:SWEPT_SOURCES], device=working.device)
    return refine_solo(working, v, sweep(working, coarse, v, chosen, settings), refiners)


def confirm(depths: Depths, views: Views, target: int, sources: Sequence[int], refiners: Refiners | None) -> Depths:
    """The same depths, the target's completed by its sources'.

    Swept depth is corrected, and trusted as far as the sources agree; sensor depth keeps its readings and gets its
    holes filled.
    """
    belief = _completed(depths, views, target, sources, refiners)
    return depths if belief is None else depths.with_belief(target, belief)


def _completed(
    depths: Depths, views: Views, target: int, sources: Sequence[int], refiners: Refiners | None
) -> Tensor | None:
    """[3, H, W]: a target's new depth, spread and trust; None where there is nothing to do."""
    sweeps = depths.sweeps
    if sweeps is None:
        return None
    swept = sweeps.found[target]
    if swept is not None:
        fused = fuse(sweeps.views, sweeps.depth, swept, target, sources[:SWEPT_SOURCES])
        refined = _refine(sweeps.views, target, swept, fused, refiners)
        return _full(views, sweeps.views, target, swept.inverse(refined.position), refined.spread, refined.trust)
    height, width = views.sizes[target].tolist()
    readings = depths.mode[target, :height, :width] > 0
    if not bool(readings.any()) or bool(readings.all()):
        return None
    depth, spread, trust = fill_holes(sweeps.views, sweeps.depth, target, sources)
    filled = _full(views, sweeps.views, target, torch.where(depth > 0, 1.0 / depth, depth), spread, trust)
    return torch.where(depths.mode[target] > 0, depths.belief(target), filled)


def refine_solo(working: Views, v: int, swept: Sweep, refiners: Refiners | None) -> Sweep:
    """A view's sweep, refined without other views' depths."""
    refined = _refine(working, v, swept, None, refiners)
    return replace(swept, position=refined.position, spread=refined.spread)


def _refine(working: Views, v: int, swept: Sweep, fused: Fused | None, refiners: Refiners | None) -> Refined:
    if refiners is None:
        return analytic(swept, fused)
    height, width = swept.position.shape
    described = describe(working.images[v, :, :height, :width], swept, fused)
    network = refiners.solo if fused is None else refiners.joint
    return network.refine(described, swept)


def _full(views: Views, working: Views, v: int, inverse: Tensor, *others: Tensor) -> Tensor:
    """[C, H, W]: depth and whatever else at full resolution, from inverse depth (0 = unknown) and the others [h, w].

    All are 0 on padding.
    """
    height, width = views.sizes[v].tolist()
    h, w = inverse.shape
    maps = torch.stack([inverse, *others])
    large = guided_upsample(maps, working.images[v, :, :h, :w], views.images[v, :, :height, :width])
    depth = torch.where(large[:1] > 0, 1.0 / large[:1], torch.zeros_like(large[:1]))
    return pad_to(torch.cat([depth, large[1:]]), *views.images.shape[-2:])


def working_depth(depth: Tensor, views: Views, working: Views, v: int) -> Tensor:
    """A sensor's readings at working resolution [h, w], padded; unknown stays unknown."""
    height, width = views.sizes[v].tolist()
    small = F.interpolate(depth[None, None, :height, :width], size=working.sizes[v].tolist(), mode="nearest-exact")
    return pad_to(small[0, 0], *working.images.shape[-2:])
