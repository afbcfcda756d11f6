"""Stage II, first half: which source pixels speak for a target ray, and how loudly, before values are looked at.

A source's base weight is visibility (soft two-sided z-test against the source's own depth) x colour similarity x
the sample's share of the ray. A source that does not see the point weighs exactly nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lift3d_model.clues import Curves, Landings, Regime, correction
from lift3d_model.geometry import land, view_to_view
from lift3d_model.sampling import flat_index, nearest_index
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
        pixels: [E, R, 2] where the ray's sample lands in that view, in image pixels; None where nobody asked.
        index: [E, R] int32 flat index of the full-resolution pixel there.
        weight: [E, R] base weight >= 0, 0 where the witness sees nothing.
    """

    slot: Tensor
    pixels: Tensor | None
    index: Tensor
    weight: Tensor

    @property
    def located(self) -> Tensor:
        """`pixels`, of evidence that was gathered with them."""
        assert self.pixels is not None
        return self.pixels

    def louder(self, slot: int, factor: float) -> Evidence:
        """The same, with the witnesses of one slot weighing so many times as much."""
        if factor == 1.0:
            return self
        return replace(self, weight=torch.where(self.slot[:, None] == slot, factor * self.weight, self.weight))


def gather_evidence(
    views: Views,
    depths: Depths,
    target: int,
    sources: Tensor,
    pixels: Tensor,
    settings: EvidenceSettings,
    curves: Curves | None = None,
    *,
    located: bool = True,
) -> Evidence:
    """Witnesses of the rays through target pixels [R, 2].

    Source by source: one source's maps and one source's rays stay in a core's cache, all of them do not.

    Args:
        sources: [S] view indices (S may be 0).
        curves: the learned weighting; None leaves the analytic weights.
        located: whether `Evidence.pixels` is needed; class ids are fetched by index.
    """
    rays = _Rays.of(views, depths, target, pixels, settings)
    per_source = len(rays.depth)
    shape = (len(sources) * per_source, len(pixels))
    slot = torch.arange(len(sources), device=views.device).repeat_interleave(per_source)
    index, weight = pixels.new_empty(shape, dtype=torch.int32), views.images.new_empty(shape)
    where = views.images.new_empty(*shape, 2) if located else None
    z = views.images.new_empty(shape) if curves is not None else None
    A, b = view_to_view(views.K, views.world_from_cam, target, sources)
    points = pixels.T.float().contiguous()
    for k, source in enumerate(sources.tolist()):
        rows = slice(k * per_source, (k + 1) * per_source)
        seen = _seen_by(views, depths, source, land(A[k], b[k], points, rays.depth), rays)
        index[rows], weight[rows] = seen.index, seen.weight
        if where is not None:
            where[rows, :, 0], where[rows, :, 1] = seen.x, seen.y
        if z is not None:
            z[rows] = seen.z
    if curves is not None and z is not None and len(sources):
        landings = Landings(pixels, rays.home, rays.depth, rays.tolerance, sources, index, z)
        weight = weight * correction(curves, rays.regime(settings), views, depths, target, landings, weight)
    return Evidence(slot, where, index, weight)


def is_measured(spread: Tensor) -> bool:
    """Whether a view's depth is a sensor's, by its spread: a few holes that were filled change nothing."""
    return float((spread <= CERTAIN_SPREAD).float().mean()) > MOSTLY


def home_index(views: Views, target: int, pixels: Tensor) -> Tensor:
    """Flat index [R] of the target's own pixel at, or nearest to, points [R, 2]: cells may be centred on padding."""
    last = views.sizes[target].flip(0) - 0.5
    return nearest_index(pixels.minimum(last), *views.images.shape[-2:])


@dataclass(frozen=True, slots=True)
class _Rays:
    """R rays of a target, with P samples each.

    Attributes:
        home: [R] flat index of the target's pixel.
        depth: [P, R] of the samples; share: [P, 1] of the ray, summing to one.
        tolerance: [R] relative depth difference that the target's own depth calls for.
        certain: whether the depth is a sensor's.
        colour: [3, R] the target's colours where sources are compared with them, at this scale.
    """

    home: Tensor
    depth: Tensor
    share: Tensor
    tolerance: Tensor
    certain: bool
    colour: Tensor | None
    colour_scale: float

    @classmethod
    def of(cls, views: Views, depths: Depths, target: int, pixels: Tensor, settings: EvidenceSettings) -> _Rays:
        home = home_index(views, target, pixels)
        mode, spread = (values.flatten().index_select(0, home) for values in depths.belief(target)[:2])
        certain = is_measured(spread)
        depth, share = _samples_on_rays(mode, spread, 1 if certain else settings.samples)
        compared = settings.colour_scale is not None and not certain
        colour = views.images[target].flatten(1).index_select(1, home) if compared else None
        tolerance = settings.tolerance + settings.spread_factor * spread
        return cls(home, depth, share, tolerance, certain, colour, settings.colour_scale or 1.0)

    def regime(self, settings: EvidenceSettings) -> Regime:
        """Which learned curves apply."""
        if self.certain:
            return "certain"
        return "novel" if settings.colour_scale is None else "uncertain"


@dataclass(frozen=True, slots=True)
class _Seen:
    """Where the samples land in one source, and what that is worth: [P, R] each."""

    x: Tensor
    y: Tensor
    z: Tensor
    index: Tensor
    weight: Tensor


def _seen_by(views: Views, depths: Depths, source: int, landed: tuple[Tensor, Tensor, Tensor], rays: _Rays) -> _Seen:
    """One source's witnesses of samples that land in it."""
    x, y, z = landed
    height, width = views.sizes[source].tolist()
    index = flat_index(x, y, *views.images.shape[-2:])
    inside = (x >= 0) & (y >= 0) & (x < width) & (y < height) & (z > 0) & (rays.depth > 0)
    weight = _visibility(depths, source, index, z, rays.tolerance).mul_(inside).mul_(rays.share)
    if rays.colour is not None:
        weight *= _similarity(views.images[source], index, rays.colour, rays.colour_scale)
    return _Seen(x, y, z, index, weight)


def _samples_on_rays(mode: Tensor, spread: Tensor, samples: int) -> tuple[Tensor, Tensor]:
    """Depths [P, R] around modes [R], and their shares of the ray [P, 1]."""
    nodes = mode.new_tensor(NODES[samples] if samples in NODES else torch.linspace(-1.5, 1.5, samples).tolist())
    share = torch.exp(-0.5 * nodes**2)
    depth = mode * (1.0 + nodes[:, None] * spread)
    return depth.clamp_min(0), (share / share.sum())[:, None]


def _visibility(depths: Depths, source: int, index: Tensor, z: Tensor, tolerance: Tensor) -> Tensor:
    """Soft z-test: 1 up to half the tolerance, falling to 0 at one and a half; 0 where the source has no depth."""
    surface, spread = (_fetch(maps[source], index) for maps in (depths.mode, depths.spread))
    slack = (tolerance + spread).mul_(z.clamp_min(1e-9))
    deviation = (surface - z).abs_().div_(slack)
    return deviation.neg_().add_(1.5).clamp_(0, 1).mul_(surface > 0)


def _similarity(image: Tensor, index: Tensor, own: Tensor, scale: float) -> Tensor:
    """exp(-|dRGB|^2 / 2 scale^2) between the target's colours [3, R] and a source's: [P, R]."""
    distance = torch.zeros(index.shape, device=image.device)
    for channel, ours in zip(image, own, strict=True):
        distance += (_fetch(channel, index) - ours).square_()
    return distance.mul_(-0.5 / scale**2).exp_()


def _fetch(values: Tensor, index: Tensor) -> Tensor:
    """A map [H, W] at flat indices of any shape."""
    return values.flatten().index_select(0, index.flatten()).view(index.shape)
