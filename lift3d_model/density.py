"""Stage I: where along each target ray the surface is, from RGB and cameras alone.

Per view and once per scene, not per ray and operator: coarse sweep for the depth range, fine sweep, semi-global
smoothing. Everything happens at a working resolution; other views' sweeps then correct a view's own (`fusion`).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from lift3d_model import depth_range
from lift3d_model.geometry import scaled_intrinsics, view_to_view
from lift3d_model.matching import MatchingSettings, matching_cost
from lift3d_model.sampling import resize_mean, stack_padded
from lift3d_model.smoothing import SmoothingSettings, semi_global
from lift3d_model.views import Views

WORKING_PIXELS = 160 * 120
"""Pixels of the sweep's working resolution, whatever the image's size and shape."""
COARSE_PIXELS = 80 * 60
"""Pixels at which the depth range is looked for."""
LOOKED_AT = (-2, -1, 0, 1, 2)
"""Planes around the mode whose costs are kept as clues."""
CLUES = 2 * len(LOOKED_AT) + 2
"""Channels of `Sweep.clues`."""
RIVAL = 3
"""Planes nearer to the mode than this are not its rivals."""


@dataclass(frozen=True, slots=True)
class SweepSettings:
    """What the sweep searches.

    Attributes:
        planes: depth planes of the fine sweep, evenly spaced in inverse depth.
        near, far: depth range in scene units; None = found from cameras and images.
    """

    planes: int = 64
    near: float | None = None
    far: float | None = None
    matching: MatchingSettings = field(default_factory=MatchingSettings)
    smoothing: SmoothingSettings = field(default_factory=SmoothingSettings)


@dataclass(frozen=True, slots=True)
class Sweep:
    """What a sweep found of one view, at working resolution and free of any unit.

    Attributes:
        first, step: inverse depth of plane 0 (the farthest), and from plane to plane, in the scene's unit.
        position: [h, w] the mode, in planes.
        clues: [C, h, w] smoothed costs around the mode over their minimum, matching costs there, the minimum, and by
            how much the best rival costs more.
        sources: how many source views were looked at.
        spread: [h, w] relative standard deviation of the depth, once it is refined; None before.
    """

    first: float
    step: float
    position: Tensor
    clues: Tensor
    sources: int = 8
    spread: Tensor | None = None

    def to(self, device: torch.device) -> Sweep:
        """The same on a device."""
        spread = None if self.spread is None else self.spread.to(device)
        return replace(self, position=self.position.to(device), clues=self.clues.to(device), spread=spread)

    @property
    def depth(self) -> Tensor:
        """[h, w] z-depth of the mode."""
        return 1.0 / self.inverse(self.position)

    def inverse(self, position: Tensor) -> Tensor:
        """Inverse depth at a position in planes."""
        return (self.first + self.step * position).clamp_min(1e-9)

    def relative(self, planes: Tensor) -> Tensor:
        """A distance in planes as a share of the depth."""
        return planes * self.step / self.inverse(self.position)


def shrunk(height: int, width: int, pixels: int) -> tuple[int, int]:
    """The size that `shrink` gives an image."""
    factor = min((pixels / (height * width)) ** 0.5, 1.0)
    return max(round(height * factor), 8), max(round(width * factor), 8)


def shrink(views: Views, pixels: int) -> Views:
    """The same views with about as many pixels each, every view by its own factor; smaller images stay as they are."""
    images, K, sizes = [], views.K.clone(), views.sizes.clone()
    for v, (height, width) in enumerate(views.sizes.tolist()):
        h, w = shrunk(height, width, pixels)
        images.append(resize_mean(views.images[v : v + 1, :, :height, :width], h, w)[0])
        K[v], sizes[v] = scaled_intrinsics(K[v], w / width, h / height), sizes.new_tensor([h, w])
    return Views(stack_padded(images), K, views.world_from_cam, sizes)


def sweep(views: Views, coarse: Views, target: int, sources: Tensor, settings: SweepSettings) -> Sweep:
    """Depth of one view from its source views' colours.

    Args:
        views, coarse: the same views shrunk to `WORKING_PIXELS` and to `COARSE_PIXELS`.
        sources: [S] view indices, S >= 1.
    """
    near, far = search_range(coarse, target, sources, settings)
    inverse_depths = torch.linspace(1.0 / far, 1.0 / near, settings.planes, device=views.device)
    cost = _cost(views, target, sources, inverse_depths, settings.matching)
    smooth = semi_global(cost, _image(views, target), settings.smoothing)
    step = (1.0 / near - 1.0 / far) / (settings.planes - 1)
    return Sweep(1.0 / far, step, *_mode_and_clues(cost, smooth), len(sources))


def search_range(coarse: Views, target: int, sources: Tensor, settings: SweepSettings) -> tuple[float, float]:
    """(near, far): as set, or from the cameras and a coarse sweep."""
    if settings.near is not None and settings.far is not None:
        return settings.near, settings.far
    A, b = view_to_view(coarse.K, coarse.world_from_cam, target, sources)
    seen = depth_range.range_from_cameras(A, b, *coarse.sizes[target].tolist())
    planes = depth_range.coarse_inverse_depths(*seen, device=coarse.device)
    cost = _cost(coarse, target, sources, planes, settings.matching)
    near, far = depth_range.range_from_costs(cost, planes)
    near, far = settings.near or near, settings.far or far
    return near, max(far, 1.05 * near)


def _image(views: Views, v: int) -> Tensor:
    """[3, h, w] without padding."""
    height, width = views.sizes[v].tolist()
    return views.images[v, :, :height, :width]


def _cost(views: Views, target: int, sources: Tensor, inverse_depths: Tensor, settings: MatchingSettings) -> Tensor:
    """[D, h, w] matching cost."""
    A, b = view_to_view(views.K, views.world_from_cam, target, sources)
    others = [_image(views, s) for s in sources.tolist()]
    return matching_cost(_image(views, target), others, A, b, inverse_depths, settings)


def _mode_and_clues(cost: Tensor, smooth: Tensor) -> tuple[Tensor, Tensor]:
    """Sub-plane mode of the smoothed cost [D, h, w], and what both costs look like around it: [h, w], [C, h, w]."""
    planes = len(smooth)
    lowest, best = smooth.min(dim=0)
    places = torch.stack([(best + offset).clamp(0, planes - 1) for offset in LOOKED_AT])
    around, matching = smooth.gather(0, places) - lowest, cost.gather(0, places)
    below, above = around[1], around[3]
    inner = (best > 0) & (best < planes - 1)
    offset = (0.5 * (below - above) / (below + above).clamp_min(1e-6)).clamp(-0.5, 0.5)
    far_off = (torch.arange(planes, device=best.device)[:, None, None] - best).abs() >= RIVAL
    rival = torch.where(far_off, smooth, torch.full_like(smooth, RIVAL)).amin(0) - lowest
    clues = torch.cat([around, matching, lowest[None], rival[None]])
    return best + torch.where(inner, offset, torch.zeros_like(offset)), clues
