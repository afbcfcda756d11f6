"""What a witness can be judged by before its values are looked at: clues for the learned weighting, free of units.

Three regimes with curves of their own: `certain` depth (a sensor's; one sample a ray), `uncertain` depth (swept), and
`novel` views, whose own colours nobody may look at and whose depth is rendered: there a witness's colour is compared
with what all witnesses say together.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from lift3d_model.geometry import homogeneous
from lift3d_model.sampling import pick, pick_colours
from lift3d_model.views import Depths, Views

Regime = Literal["certain", "uncertain", "novel"]


class Curves(Protocol):
    """Learned curves by name: a trainable `Weighting` or its `Tables`."""

    def __contains__(self, name: str) -> bool: ...

    def __call__(self, name: str, clue: Tensor) -> Tensor:
        """log factor of a clue of any shape."""
        ...


@dataclass(frozen=True, slots=True)
class Landings:
    """Where the P samples of R target rays land in S views; E = S P witnesses.

    Attributes:
        pixels: [R, 2] the target's; home: [R] flat indices of its pixels there; depth: [P, R] along each ray.
        tolerance: [R] relative depth difference that the target's own depth calls for.
        sources: [S] view indices; index: [E, R] flat index of the pixel in the witness's view; z: [E, R] depth there.
    """

    pixels: Tensor
    home: Tensor
    depth: Tensor
    tolerance: Tensor
    sources: Tensor
    index: Tensor
    z: Tensor

    @property
    def view(self) -> Tensor:
        """[E] each witness's view."""
        return self.sources.repeat_interleave(self.depth.shape[0])


def correction(
    curves: Curves, regime: Regime, views: Views, depths: Depths, target: int, landings: Landings, weight: Tensor
) -> Tensor:
    """Learned factor on the witnesses' base weights.

    Args:
        weight: [E, R] analytic base weights; in the `novel` regime they say what the common colour is.

    Returns:
        [E, R] > 0; 1 where nothing was learned.
    """
    factors = [curves(name, clue) for name, clue in _clues(curves, regime, views, depths, target, landings, weight)]
    if not factors:
        return torch.ones_like(landings.z)
    total = factors[0]
    for factor in factors[1:]:
        total = total + factor
    return total.clamp(-8.0, 8.0).exp()


def dissent(cosine: Tensor, weight: Tensor) -> Tensor:
    """How far a witness's features are from the others', in logs of what is usual in this map: operators compare.

    Args:
        cosine: [E, R] of each witness with the mean of the others; weight: [E, R] base weights.
    """
    distance = (1 - cosine).detach().clamp_min(1e-4)
    seen = distance[weight.detach() > 1e-3]
    usual = seen.median() if seen.numel() else distance.new_tensor(1.0)
    return torch.log(distance / usual)


def own_factor(curves: Curves | None, support: Tensor) -> Tensor | float:
    """Learned factor [R] on the weight of the target's own features, by the support [R] of its sources."""
    return curves("own", torch.log1p(support)).exp() if curves is not None and "own" in curves else 1.0


def _clues(
    curves: Curves, regime: Regime, views: Views, depths: Depths, target: int, landings: Landings, weight: Tensor
) -> Iterator[tuple[str, Tensor]]:
    """Curve names and clues [E, R], those that have a curve only."""
    view = landings.view
    names = {clue: f"{regime}_{clue}" for clue in ("deviation", "spread", "colour", "coarse", "turn", "nearness")}
    wanted = {clue for clue, name in names.items() if name in curves}
    if wanted & {"deviation", "spread"}:
        spread = pick(depths.spread, view, landings.index)
    if "deviation" in wanted:
        surface = pick(depths.mode, view, landings.index)
        slack = (landings.tolerance + spread) * landings.z.clamp_min(1e-9)
        yield names["deviation"], (surface - landings.z).abs() / slack
    if "spread" in wanted:
        yield names["spread"], spread
    if "colour" in wanted:
        yield names["colour"], _colour_distance(views.images, regime, target, landings, weight)
    if "coarse" in wanted:
        yield names["coarse"], _coarse_distance(views, target, landings)
    if wanted & {"turn", "nearness"}:
        turn, nearness = _viewing(views, target, landings)
        if "turn" in wanted:
            yield names["turn"], turn
        if "nearness" in wanted:
            yield names["nearness"], nearness


def _colour_distance(images: Tensor, regime: Regime, target: int, landings: Landings, weight: Tensor) -> Tensor:
    """RGB distance to the target's pixel, or to the witnesses' mean where the target has no image: [E, R]."""
    theirs = pick_colours(images, landings.view, landings.index)
    if regime == "novel":
        own = torch.einsum("er,ecr->cr", weight.detach(), theirs) / weight.detach().sum(0).clamp_min(1e-6)
    else:
        own = images[target].flatten(1)[:, landings.home]
    return (theirs - own).square_().sum(1).sqrt_()


def _coarse_distance(views: Views, target: int, landings: Landings) -> Tensor:
    """RGB distance of the views' coarse colours: [E, R]."""
    small, cells = views.coarse
    theirs = pick_colours(small, landings.view, cells.index_select(0, landings.index.flatten()).view_as(landings.index))
    own = small[target].flatten(1)[:, cells[landings.home]]
    return (theirs - own).square_().sum(1).sqrt_()


def _viewing(views: Views, target: int, landings: Landings) -> tuple[Tensor, Tensor]:
    """Sine of half the angle between the rays that meet at a sample, and the log ratio of their lengths: [E, R]."""
    pose = views.world_from_cam[target]
    rays = homogeneous(landings.pixels.double()) @ torch.linalg.inv(views.K[target]).T
    length = rays.norm(dim=1)
    directions = (rays / length[:, None]) @ pose[:3, :3].T
    baseline = views.world_from_cam[landings.sources, :3, 3] - pose[:3, 3]
    along = (baseline @ directions.T).float()[:, None]
    own = (landings.depth * length.float()).clamp_min(1e-9)
    theirs = (own * (own - 2 * along) + baseline.square().sum(1).float()[:, None, None]).clamp_min(1e-18).sqrt_()
    turn = ((1 - (own - along) / theirs) * 0.5).clamp_min_(0).sqrt_()
    return turn.flatten(0, 1), (theirs / own).log_().flatten(0, 1)
