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
    known = torch.cat([torch.ones_like(position)[None], (others > 0).to(position.dtype)])
    planes = (1.0 / others.clamp_min(1e-9) - swept.first) / swept.step
    hypotheses = torch.where(known > 0, torch.cat([position[None], planes]), torch.full_like(known, -1e4))
    weight = known * known.new_tensor([OWN_WEIGHT, *[1.0] * len(shown)])[:, None, None]
    scale = (WIDTH**2 + (RELATIVE_WIDTH * swept.inverse(position) / swept.step) ** 2).rsqrt()
    return _vote(hypotheses, weight, known, scale)


def _vote(hypotheses: Tensor, weight: Tensor, known: Tensor, scale: Tensor) -> Fused:
    """Mode and mean of weighted hypotheses [N, h, w]; the first is the target's own."""
    support = torch.stack([(weight * _kernel((hypotheses - one) * scale)).sum(0) * (one > -1e3) for one in hypotheses])
    best, winner = support.max(dim=0)
    centre = hypotheses.gather(0, winner[None])
    near = weight * _kernel((hypotheses - centre) * scale)
    total = near.sum(0)
    mean = (near * hypotheses).sum(0) / total
    variance = (near * (hypotheses - mean).square()).sum(0) / total
    return Fused(mean, best, known[1:].sum(0), support[0], variance.sqrt())


def _kernel(distance: Tensor) -> Tensor:
    """Bell of unit height and finite reach."""
    return torch.exp(-0.5 * distance.square())
