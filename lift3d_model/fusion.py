"""Cross-view consistency of swept depths: a target's own surface against those that its source views found.

Every source's surface is shown to the target; at each pixel the own depth and the shown ones are hypotheses. The one
with most support among the others (within about a plane) wins, and the mean of its supporters is the fused depth. All
of it depends on the target, its sources and their own sweeps alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lift3d_model.density import Sweep
from lift3d_model.rendering import shown_depth
from lift3d_model.views import Views

WIDTH = 0.7
"""Standard deviation, in planes, of how two views' depths of one surface differ."""
RELATIVE_WIDTH = 0.01
"""The same relative to the depth, for scenes where planes are thinner than the cameras' errors."""
NOWHERE = -1e4
"""Position of a hypothesis that is none."""
OWN_WEIGHT = 1.5
"""Weight of the view's own hypothesis: it alone saw the pixel itself."""


@dataclass(frozen=True, slots=True)
class Fused:
    """The target's depth after its sources were heard, at working resolution.

    Attributes:
        position: [h, w] in planes of the target's sweep.
        support: [h, w] weight of the hypotheses that agree with it, its own included if it does.
        shown: [h, w] how many sources show the pixel any surface.
        own_support: [h, w] the same for the target's own depth.
        disagreement: [h, w] standard deviation of the supporters, in planes.
    """

    position: Tensor
    support: Tensor
    shown: Tensor
    own_support: Tensor
    disagreement: Tensor


def fuse(views: Views, depth: Tensor, swept: Sweep, target: int, sources: Sequence[int]) -> Fused:
    """Fuse a target's depth with those of its sources.

    Args:
        views: at working resolution; depth: [V, h, w] z-depth of each view by itself, 0 = unknown.
        swept: the target's own sweep.
    """
    position = swept.position
    height, width = position.shape
    shown = [shown_depth(views, depth, target, s)[:height, :width] for s in sources]
    others = torch.stack(shown) if shown else position.new_zeros(0, height, width)
    planes = (1.0 / others.clamp_min(1e-9) - swept.first) / swept.step
    hypotheses = torch.cat([position[None], torch.where(others > 0, planes, torch.full_like(planes, NOWHERE))])
    weight = torch.cat([torch.full_like(position, OWN_WEIGHT)[None], (others > 0).to(position.dtype)])
    scale = (WIDTH**2 + (RELATIVE_WIDTH * swept.inverse(position) / swept.step) ** 2).rsqrt()
    voted = vote(hypotheses * scale, weight)
    shown_by = (others > 0).sum(0).to(position.dtype)
    return Fused(voted.mean / scale, voted.support, shown_by, voted.first, voted.deviation / scale)


@dataclass(frozen=True, slots=True)
class Vote:
    """What most hypotheses share: [h, w] each.

    Attributes:
        mean: of the supporters of the best supported one; deviation: their standard deviation.
        support: their weight; first: the weight of those who support the first hypothesis.
    """

    mean: Tensor
    deviation: Tensor
    support: Tensor
    first: Tensor


def vote(hypotheses: Tensor, weight: Tensor) -> Vote:
    """Mode of weighted hypotheses [N, h, w], in units of how far two of one surface usually lie apart.

    One without weight has no say; it must lie far from all others (`NOWHERE`).
    """
    support = torch.stack([(weight * _bell(hypotheses - one)).sum(0) for one in hypotheses])
    best, winner = support.max(dim=0)
    near = weight * _bell(hypotheses - hypotheses.gather(0, winner[None]))
    total = near.sum(0).clamp_min(1e-9)
    mean = (near * hypotheses).sum(0) / total
    variance = (near * (hypotheses - mean).square()).sum(0) / total
    return Vote(mean, variance.sqrt(), best, support[0])


def _bell(distance: Tensor) -> Tensor:
    return torch.exp(-0.5 * distance.square())
