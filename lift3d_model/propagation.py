"""Stage II, last step: contested pixels listen to sure ones nearby that look alike and lie on the same surface.

Votes are wrong where outlines wobble from view to view and where few views look. Colour edges and depth edges of the
target know better where objects end, so class shares spread along both: every contested pixel takes the mean of its
neighbours at a few distances, weighted by likeness (the affinity) and by how sure they are, against its own votes.
Scalar weights only; a pixel on which all agree keeps its label. In the spirit of the cross bilateral filter
(Petschnigg et al., SIGGRAPH 2004), with the second difference of inverse depth, which is zero on planes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

REACH = (1, 2, 4, 8)
"""Distances of neighbours in pixels, for an image `REACH_WIDTH` wide; they grow with the image."""
REACH_WIDTH = 320
DIRECTIONS = ((-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1))
SURE = 0.97
"""Margin between the two best shares from which a pixel is not contested."""
LEAST_EVIDENCE = 2.0
"""Votes below which a pixel is contested whatever they say."""


@dataclass(frozen=True, slots=True)
class PropagationSettings:
    """Constants of the spreading, chosen on rendered training rooms and one real scene.

    Attributes:
        rounds: times that every contested pixel listens; 0 = off.
        strength: votes that a fully alike and sure neighbourhood is worth.
        colour_scale: RGB distance at which likeness falls to exp(-1/2); None = colours are not looked at
            (a novel view has none).
        depth_scale: deviation from a common plane, relative to depth, at which likeness falls to 1/e.
    """

    rounds: int = 3
    strength: float = 4.0
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


def propagate(votes: Tensor, guide: Guide, settings: PropagationSettings) -> Tensor:
    """Class shares from votes.

    Args:
        votes: [K, R] weights of the witnesses of each class, R = H W rays.

    Returns:
        [K, R] shares that sum to one, or to 0 where there are no votes: nothing is made up.
    """
    total = votes.sum(0)
    shares = (votes / total.clamp_min(1e-9)).T.contiguous()
    margin = _margin(shares)
    contested = (((margin < SURE) | (total < LEAST_EVIDENCE)) & (total > 0)).nonzero()[:, 0]
    if settings.rounds == 0 or not len(contested):
        return shares.T
    neighbour, affinity = _neighbourhood(guide, contested, settings)
    believed = total / (total + 1.0)
    sureness = margin * believed
    anchor = (total * margin)[contested, None]
    own = shares[contested]
    for _ in range(settings.rounds):
        weight = affinity * sureness[neighbour]
        heard = weight.sum(1, keepdim=True)
        said = F.embedding_bag(neighbour, shares, per_sample_weights=weight, mode="sum")
        gain = settings.strength / (heard + 0.5)
        fresh = (anchor * own + gain * said) / (anchor + gain * heard).clamp_min(1e-9)
        shares[contested] = fresh
        sureness[contested] = _margin(fresh) * believed[contested]
    return shares.T


def _margin(shares: Tensor) -> Tensor:
    """[R]: best share minus second best, of [R, K]."""
    if shares.shape[1] == 1:
        return shares[:, 0].clone()
    best = shares.topk(2, dim=1).values
    return best[:, 0] - best[:, 1]


def _neighbourhood(guide: Guide, pixels: Tensor, settings: PropagationSettings) -> tuple[Tensor, Tensor]:
    """Neighbours [N, O] of flat pixel indices [N] and their affinities [N, O], 0 beyond the image."""
    width = guide.depth.shape[1]
    y, x = pixels // width, pixels % width
    inverse = torch.where(guide.depth > 0, 1.0 / guide.depth, torch.zeros_like(guide.depth)).flatten()
    scale = settings.depth_scale + guide.spread.flatten()[pixels]
    found = [
        _one_neighbour(guide, (y, x), (dy * reach, dx * reach), inverse, scale, settings)
        for reach in _reaches(guide.size[1])
        for dy, dx in DIRECTIONS
    ]
    return torch.stack([index for index, _ in found], 1), torch.stack([likeness for _, likeness in found], 1)


def _reaches(width: int) -> list[int]:
    return sorted({max(round(reach * width / REACH_WIDTH), 1) for reach in REACH})


def _one_neighbour(
    guide: Guide,
    pixel: tuple[Tensor, Tensor],
    step: tuple[int, int],
    inverse: Tensor,
    scale: Tensor,
    settings: PropagationSettings,
) -> tuple[Tensor, Tensor]:
    """Index [N] of the neighbour a step away and its affinity [N]."""
    height, width = guide.size
    y, x = pixel
    stride = guide.depth.shape[1]

    def at(times: int) -> Tensor:
        return (y + times * step[0]).clamp(0, height - 1) * stride + (x + times * step[1]).clamp(0, width - 1)

    here, there = y * stride + x, at(1)
    near, far = inverse[here], inverse[there]
    deviation = torch.minimum((far - 2 * near + inverse[at(-1)]).abs(), (near - 2 * far + inverse[at(2)]).abs())
    deviation = torch.minimum(deviation, (far - near).abs())
    exponent = deviation / (near.clamp_min(1e-9) * scale)
    if settings.colour_scale is not None:
        colours = guide.image.flatten(1)
        exponent = exponent + (colours[:, there] - colours[:, here]).square().sum(0) / (2 * settings.colour_scale**2)
    inside = (y + step[0] >= 0) & (y + step[0] < height) & (x + step[1] >= 0) & (x + step[1] < width)
    return there, torch.exp(-exponent) * (inside & (near > 0) & (far > 0))
