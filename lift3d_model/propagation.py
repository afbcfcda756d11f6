"""Stage II, last step: contested pixels listen to sure ones nearby that look alike and lie on the same surface.

Votes are wrong where outlines wobble from view to view and where few views look. Colour edges and depth edges of the
target know better where objects end, so class shares spread along both: every contested pixel takes the mean of its
neighbours at a few distances, weighted by likeness (the affinity) and by how sure they are, against its own votes.
Scalar weights only; a pixel on which all agree keeps its label. In the spirit of the cross bilateral filter
(Petschnigg et al., SIGGRAPH 2004), with the second difference of inverse depth, which is zero on planes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

REACH = (1, 2, 4, 8)
"""Distances of neighbours in pixels, whatever the image's size: outlines are off by pixels, not by shares of it."""
DIRECTIONS = ((0, 1), (1, -1), (1, 0), (1, 1))
"""Half of the eight directions: affinity is mutual, the way back is the same."""
STEPS = tuple((dy * reach, dx * reach) for reach in REACH for dy, dx in DIRECTIONS)
"""(rows, columns) from a pixel to half of its neighbours."""
SURE = 0.97
"""Margin between the two best shares from which a pixel is not contested."""
TIE = 0.01
"""Margin that own votes are granted even where they are tied, so that they stay where nobody is heard."""
LEAST_EVIDENCE = 2.0
"""Votes below which a pixel is contested whatever they say."""
LEAST_VOTES = 8.0
"""Votes of a pixel that a guide is tested on: where few speak, their mistakes would be held against the guide."""
LEAST_LEAD, MOST_LEAD = 1.0, 3.0
"""Votes by which the best class leads there: outlines, but not a toss-up."""
ALONE = 0.8
"""Share of the neighbours with a pixel's class from which it lies on no outline."""
GOOD_GUIDE, POOR_GUIDE = 0.3, 0.5
"""Mistakes of a guide, relative to no guide, up to which it is followed and from which it is not."""
PRIOR = 20.0, 6.0
"""Mistakes without and with a guide that are taken for granted: what was counted has to outweigh them."""
MOST_TESTED = 8000
"""Pixels that a guide is tested on, at most."""


@dataclass(frozen=True, slots=True)
class PropagationSettings:
    """Constants of the spreading, chosen on rendered training rooms and one real scene.

    Attributes:
        rounds: times that every contested pixel of a target listens; 0 = off.
        source_rounds: the same for the class map of a source before others look at it: what a view spreads too far is
            wrong in every view that looks through it, so it listens to its next neighbours and no further.
        strength: votes that a fully alike and sure neighbourhood is worth.
        tested: whether it is worth that only as far as the guide knows where classes end (`guide_worth`).
        colour_scale: RGB distance at which likeness falls to exp(-1/2); None = colours are not looked at
            (a novel view has none).
        depth_scale: deviation from a common plane, relative to depth, at which likeness falls to 1/e.
    """

    rounds: int = 8
    source_rounds: int = 1
    strength: float = 8.0
    tested: bool = False
    colour_scale: float | None = 0.04
    depth_scale: float = 0.01


@dataclass(frozen=True, slots=True)
class Guide:
    """What is known of the target besides votes.

    Attributes:
        image: [3, H, W] RGB.
        depth: [H, W] z-depth, 0 = unknown; spread: [H, W] its relative standard deviation.
        size: (height, width) of the true image, the rest being padding.
    """

    image: Tensor
    depth: Tensor
    spread: Tensor
    size: tuple[int, int]


def propagate(votes: Tensor, guide: Guide, settings: PropagationSettings, alike: Tensor | None = None) -> Tensor:
    """Class shares from votes.

    Args:
        votes: [K, R] weights of the witnesses of each class, R = H W rays.
        alike: `likeness` of the guide, where it was worked out before.

    Returns:
        [K, R] shares that sum to one, or to 0 where there are no votes: nothing is made up.
    """
    total = votes.sum(0)
    shares = votes / total.clamp_min(1e-9)
    ahead = lead(shares)
    contested = _contested(total, ahead, guide)
    if settings.rounds == 0 or not len(contested):
        return shares
    alike = likeness(guide, settings) if alike is None else alike
    neighbour, affinity = _neighbourhood(guide, contested, alike)
    shares, believed = shares.T.contiguous(), total / (total + 1.0)
    strength = settings.strength
    if settings.tested:
        asked = _testable(total, ahead, contested, guide)
        strength *= guide_worth(shares, ahead * believed, contested[asked], neighbour[asked], affinity[asked])
    anchor = (total * (ahead + TIE))[contested, None]
    own, voices = anchor * shares[contested], _voices(shares, ahead * believed)

    def listen() -> Tensor:
        heard = F.embedding_bag(neighbour, voices, per_sample_weights=affinity, mode="sum")
        said, loudness = heard[:, :-1], heard[:, -1:]
        gain = strength / (loudness + 0.5)
        return torch.addcmul(own, gain, said).div_((anchor + gain * loudness).clamp_min_(1e-9))

    fresh = listen()
    for _ in range(settings.rounds - 1):
        voices[contested] = _voices(fresh, lead(fresh.T.contiguous()) * believed[contested])
        fresh = listen()
    shares[contested] = fresh
    return shares.T


def _voices(shares: Tensor, sureness: Tensor) -> Tensor:
    """[R, K + 1]: shares [R, K] as loud as a pixel is sure [R], and how loud that is: both are heard at once."""
    return torch.cat([shares * sureness[:, None], sureness[:, None]], dim=1)


def guide_worth(shares: Tensor, sureness: Tensor, pixels: Tensor, neighbour: Tensor, affinity: Tensor) -> float:
    """How far a guide is to be followed, from 0 to 1: 1 where colours and depths change where classes do.

    Where votes lean one way at an outline, neighbours that look alike should say the same more often than all
    neighbours do. Where an outline is not where the photo has an edge, or there is none, they do not.

    Args:
        shares: [R, K] class shares; sureness: [R].
        pixels: [N] `_testable` ones; neighbour, affinity: [N, O], of these.
    """
    best = shares.argmax(1)
    own = best[pixels]
    sure = sureness.index_select(0, neighbour.flatten()).view_as(affinity)
    same = best.index_select(0, neighbour.flatten()).view_as(neighbour) == own[:, None]
    outline = (same.float().mean(1) < ALONE) & ((affinity * sure).sum(1) > 0.5)

    def mistakes(weight: Tensor) -> float:
        said = F.embedding_bag(neighbour, shares, per_sample_weights=weight, mode="sum").argmax(1)
        return float(((said != own) & outline).sum())

    unguided, guided = PRIOR
    ratio = (mistakes(affinity * sure) + guided) / (mistakes(sure) + unguided)
    return min(max((POOR_GUIDE - ratio) / (POOR_GUIDE - GOOD_GUIDE), 0.0), 1.0)


def _testable(total: Tensor, ahead: Tensor, contested: Tensor, guide: Guide) -> Tensor:
    """[M] positions among contested pixels, evenly spaced, of those that many views spoke for and one class leads in.

    All their neighbours lie within the true image.
    """
    votes, margin, stride = total[contested], max(REACH), guide.depth.shape[1]
    lead_votes = votes * ahead[contested]
    y, x = contested // stride, contested % stride
    inner = (y >= margin) & (x >= margin) & (y < guide.size[0] - margin) & (x < guide.size[1] - margin)
    leaning = (votes > LEAST_VOTES) & (lead_votes > LEAST_LEAD) & (lead_votes < MOST_LEAD)
    asked = (inner & leaning).nonzero()[:, 0]
    return asked[:: len(asked) // MOST_TESTED + 1]


def _contested(total: Tensor, ahead: Tensor, guide: Guide) -> Tensor:
    """[N] flat indices of the true image's pixels that are to listen: not sure, but not without votes."""
    listens = ((ahead < SURE) | (total < LEAST_EVIDENCE)) & (total > 0)
    listens = listens.view(guide.depth.shape)[: guide.size[0], : guide.size[1]]
    y, x = listens.nonzero().unbind(1)
    return y * guide.depth.shape[1] + x


def lead(shares: Tensor) -> Tensor:
    """[R]: best share minus second best, of [K, R], class by class: several times as fast as sorting."""
    best, second = shares[0].clone(), torch.zeros_like(shares[0])
    for share in shares[1:]:
        second = torch.maximum(second, torch.minimum(best, share))
        best = torch.maximum(best, share)
    return best - second


def likeness(guide: Guide, settings: PropagationSettings) -> Tensor:
    """[16, M + h w] affinities of every pixel of the true image, row by row, and the one that is a step away.

    M zeros come first: what lies a step before the image is read there. What lies beside it needs none, since a step
    back from one border comes out at the other, where the step ahead leads beyond the image and the affinity is 0.
    It depends on neither operator nor votes.
    """
    height, width = guide.size
    found = guide.depth.new_zeros(len(STEPS), _before(width) + height * width)
    for kept, alike in zip(found, _affinities(guide, settings), strict=True):
        kept[_before(width) :] = alike.flatten()
    return found


def _before(width: int) -> int:
    """Pixels by which the farthest step goes back in an image of that width, row by row."""
    return max(dy * width + dx for dy, dx in STEPS)


def _neighbourhood(guide: Guide, pixels: Tensor, alike: Tensor) -> tuple[Tensor, Tensor]:
    """Neighbours [N, 32] int32 of flat pixel indices [N] and their affinities [N, 32], 0 beyond the image."""
    width, stride = guide.size[1], guide.depth.shape[1]
    place = (pixels // stride * width + pixels % stride + _before(width)).int()
    affinity = alike.new_empty(2 * len(STEPS), len(pixels))
    for k, (dy, dx) in enumerate(STEPS):
        torch.index_select(alike[k], 0, place, out=affinity[2 * k])
        torch.index_select(alike[k], 0, place - (dy * width + dx), out=affinity[2 * k + 1])
    offsets = [sign * (dy * stride + dx) for dy, dx in STEPS for sign in (1, -1)]
    # Beyond the image the affinity is 0: any neighbour will do there.
    neighbour = pixels.int()[:, None] + torch.tensor(offsets, dtype=torch.int32, device=pixels.device)
    return neighbour.clamp_(0, guide.depth.numel() - 1), affinity.T.contiguous()


def _affinities(guide: Guide, settings: PropagationSettings) -> Iterator[Tensor]:
    """For each of `STEPS` the mutual affinity [h, w] of every pixel of the true image and the one that is a step away.

    Alike are pixels of one colour on one plane: there, inverse depth has no second difference to either side.
    """
    height, width = guide.size
    depth = guide.depth[:height, :width]
    known = (depth > 0).to(depth.dtype)
    near = known / torch.where(depth > 0, depth, torch.ones_like(depth))
    scale = 0.5 * near * (settings.depth_scale + guide.spread[:height, :width])
    inverse, scales, inside = _Shifted(near[None]), _Shifted(scale[None]), _Shifted(known[None], 0)
    colour_scale = torch.inf if settings.colour_scale is None else settings.colour_scale
    image = guide.image[:, :height, :width] / (2**0.5 * colour_scale)
    colours = _Shifted(image)
    for step in STEPS:
        far, back, beyond = (inverse.at(step, times)[0] for times in (1, -1, 2))
        ahead = far - near
        bend = torch.minimum((ahead - near).add_(back).abs_(), (beyond - far).sub_(ahead).abs_())
        exponent = torch.minimum(bend, ahead.abs_()).div_((scales.at(step, 1)[0] + scale).clamp_min_(1e-12))
        for theirs, ours in zip(colours.at(step, 1), image, strict=True):
            exponent += (theirs - ours).square_()
        yield exponent.neg_().exp_().mul_(inside.at(step, 1)[0]).mul_(known)


class _Shifted:
    """A map [C, h, w] that is looked at through steps; what lies beyond its border is the border, or a given value."""

    def __init__(self, values: Tensor, beyond: float | None = None) -> None:
        self._size = values.shape[-2:]
        self._margin = margin = 2 * max(REACH)
        mode = "replicate" if beyond is None else "constant"
        self._padded = F.pad(values[None], (margin, margin, margin, margin), mode=mode, value=beyond)[0]

    def at(self, step: tuple[int, int], times: int) -> Tensor:
        """[C, h, w]: for every pixel the value `times` steps away."""
        top, left = (self._margin + times * part for part in step)
        return self._padded[:, top : top + self._size[0], left : left + self._size[1]]
