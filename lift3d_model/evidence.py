"""Stage II, first half: which source pixels speak for a target ray, and how loudly, before values are looked at.

A source's base weight is visibility (soft two-sided z-test against the source's own depth) x colour similarity x
the sample's share of the ray. A source that does not see the point weighs exactly nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lift3d_model.clues import Curves, Landings, Regime, correction
from lift3d_model.geometry import in_image, view_to_view, warp_pixels
from lift3d_model.sampling import gather_colours, gather_flat, nearest_index
from lift3d_model.views import Depths, Views

CERTAIN_SPREAD = 0.011
"""Relative spread up to which one sample a ray is enough: sensor depth."""
MOSTLY = 0.5
"""Share of the rays that have to be certain: a sensor's few filled holes are no reason to ask twice everywhere."""
NODES = {1: (0.0,), 2: (-0.7, 0.7), 3: (-1.2, 0.0, 1.2), 4: (-1.5, -0.5, 0.5, 1.5)}
"""Samples along a ray in standard deviations of its depth, for the usual counts."""


@dataclass(frozen=True, slots=True)
class EvidenceSettings:
    """Constants of the base weights.

    Attributes:
        tolerance: depth difference, relative to depth, within which two views see the same surface.
        spread_factor: the tolerance's growth with the depths' own spread.
        colour_scale: RGB distance at which similarity falls to exp(-1/2), where depth is uncertain (sensor depth needs
            no second opinion); None switches colour off.
        samples: samples a ray where depth is uncertain; sensor depth takes one.
    """

    tolerance: float = 0.04
    spread_factor: float = 2.0
    colour_scale: float | None = 0.12
    samples: int = 1


@dataclass(frozen=True, slots=True)
class Evidence:
    """For R target rays and E witnesses (source views x samples of the ray).

    Attributes:
        slot: [E] position of each witness's view in the list of sources; the target itself comes after the last.
        pixels: [E, R, 2] where the ray's sample lands in that view, in image pixels.
        index: [E, R] flat index of the full-resolution pixel there.
        weight: [E, R] base weight >= 0, 0 where the witness sees nothing.
    """

    slot: Tensor
    pixels: Tensor
    index: Tensor
    weight: Tensor


def gather_evidence(
    views: Views,
    depths: Depths,
    target: int,
    sources: Tensor,
    pixels: Tensor,
    settings: EvidenceSettings,
    curves: Curves | None = None,
) -> Evidence:
    """Witnesses of the rays through target pixels [R, 2].

    Args:
        sources: [S] view indices (S may be 0).
        curves: the learned weighting; None leaves the analytic weights.
    """
    height, width = depths.mode.shape[-2:]
    home = home_index(views, target, pixels)
    certain = _is_certain(depths, target, home)
    depth, share, spread = _samples_on_rays(depths, target, home, 1 if certain else settings.samples)
    samples = depth.shape[0]
    A, b = view_to_view(views.K, views.world_from_cam, target, sources)
    landed, z = warp_pixels(A, b, pixels, depth)
    landed, z = landed.flatten(0, 1), z.flatten(0, 1)
    slot = torch.arange(len(sources), device=views.device).repeat_interleave(samples)
    view = sources[slot]
    index = nearest_index(landed, height, width)
    inside = in_image(landed, z, views.sizes[view]) & (depth > 0).repeat(len(sources), 1)
    tolerance = settings.tolerance + settings.spread_factor * spread
    weight = _visibility(depths, view, index, z, tolerance) * inside * share.repeat(len(sources), 1)
    if settings.colour_scale is not None and not certain:
        weight = weight * _similarity(views.images, target, home, view, index, settings.colour_scale)
    if curves is not None and len(sources):
        regime: Regime = "certain" if certain else ("uncertain" if settings.colour_scale is not None else "novel")
        landings = Landings(pixels, home, depth, tolerance, sources, index, z)
        weight = weight * correction(curves, regime, views, depths, target, landings, weight)
    return Evidence(slot=slot, pixels=landed, index=index, weight=weight)


def home_index(views: Views, target: int, pixels: Tensor) -> Tensor:
    """Flat index [R] of the target's own pixel at, or nearest to, points [R, 2]: cells may be centred on padding."""
    last = views.sizes[target].flip(0) - 0.5
    return nearest_index(pixels.minimum(last), *views.images.shape[-2:])


def _is_certain(depths: Depths, target: int, home: Tensor) -> bool:
    """Whether the target's depth is a sensor's: one sample a ray will do, and colours need no second opinion."""
    return float((depths.spread[target].flatten()[home] <= CERTAIN_SPREAD).float().mean()) > MOSTLY


def _samples_on_rays(depths: Depths, target: int, home: Tensor, samples: int) -> tuple[Tensor, Tensor, Tensor]:
    """Depths [P, R], their shares of the ray [P, 1] (summing to one) and the spread [R] of each ray."""
    mode, spread = depths.mode[target].flatten()[home], depths.spread[target].flatten()[home]
    nodes = mode.new_tensor(NODES[samples] if samples in NODES else torch.linspace(-1.5, 1.5, samples).tolist())
    share = torch.exp(-0.5 * nodes**2)
    depth = mode * (1.0 + nodes[:, None] * spread)
    return depth.clamp_min(0), (share / share.sum())[:, None], spread


def _visibility(depths: Depths, view: Tensor, index: Tensor, z: Tensor, tolerance: Tensor) -> Tensor:
    """Soft z-test: 1 up to half the tolerance, falling to 0 at one and a half; 0 where the source has no depth."""
    surface = gather_flat(depths.mode[view], index)
    slack = tolerance + gather_flat(depths.spread[view], index)
    deviation = (surface - z).abs() / (slack * z.clamp_min(1e-9))
    return (1.5 - deviation).clamp(0, 1) * (surface > 0)


def _similarity(images: Tensor, target: int, home: Tensor, view: Tensor, index: Tensor, scale: float) -> Tensor:
    """exp(-|dRGB|^2 / 2 scale^2) between the target's pixels and the witnesses': [E, R]."""
    own = images[target].flatten(1)[:, home]
    distance = (gather_colours(images[view], index) - own).square().sum(1)
    return torch.exp(-0.5 * distance / scale**2)
