"""The lift once more, slowly: one ray, one source, one sample at a time, in plain float64. The oracle of the tests.

Nothing here is shared with the fast code but its settings. Pixels are (x, y) with centres at +0.5, depth is z-depth,
cameras are OpenCV axes and `world_from_cam`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, exp, floor, inf, sqrt

import numpy as np
from numpy.typing import NDArray

from lift3d_model.corrector import CorrectorSettings
from lift3d_model.evidence import EvidenceSettings
from lift3d_model.matching import MatchingSettings
from lift3d_model.propagation import (
    ALONE,
    GOOD_GUIDE,
    LEAST_EVIDENCE,
    LEAST_LEAD,
    LEAST_VOTES,
    MOST_LEAD,
    POOR_GUIDE,
    PRIOR,
    REACH,
    SURE,
    TIE,
    PropagationSettings,
)
from lift3d_model.smoothing import SmoothingSettings

Array = NDArray[np.float64]
Ids = NDArray[np.int64]
Pixel = tuple[float, float]


@dataclass(frozen=True, slots=True)
class SlowViews:
    """V views of H x W pixels.

    Attributes:
        images: [V, 3, H, W] RGB in [0, 1]; K: [V, 3, 3]; world_from_cam: [V, 4, 4].
        sizes: (height, width) of each view, the rest being padding.
        depth: [V, H, W] z-depth, 0 = unknown; spread: [V, H, W] its relative standard deviation.
    """

    images: Array
    K: Array
    world_from_cam: Array
    sizes: Sequence[tuple[int, int]]
    depth: Array
    spread: Array


def warp(views: SlowViews, target: int, source: int, pixel: Pixel, depth: float) -> tuple[float, float, float]:
    """(x, y) in the source of the point at `depth` behind a target pixel, and its depth there: by way of the world."""
    local = np.linalg.solve(views.K[target], np.array([pixel[0], pixel[1], 1.0])) * depth
    world = views.world_from_cam[target] @ np.array([*local, 1.0])
    seen = np.linalg.solve(views.world_from_cam[source], world)[:3]
    image = views.K[source] @ seen
    return float(image[0] / seen[2]), float(image[1] / seen[2]), float(seen[2])


def fetch_bilinear(values: Array, pixel: Pixel, stride: float = 1.0) -> Array:
    """[C, h, w] at an image pixel: the four nearest cells by their distance, the outermost repeated beyond the map."""
    h, w = values.shape[1:]
    column = min(max(pixel[0] / stride - 0.5, 0.0), w - 1.0)
    row = min(max(pixel[1] / stride - 0.5, 0.0), h - 1.0)
    total = np.zeros(len(values))
    for i in range(floor(row), min(floor(row) + 2, h)):
        for j in range(floor(column), min(floor(column) + 2, w)):
            total += values[:, i, j] * (1.0 - abs(row - i)) * (1.0 - abs(column - j))
    return total


def nearest_pixel(pixel: Pixel, height: int, width: int) -> tuple[int, int]:
    """(row, column) of the pixel that contains a point, the outermost one beyond the image."""
    return min(max(floor(pixel[1]), 0), height - 1), min(max(floor(pixel[0]), 0), width - 1)


def ray_samples(depth: float, spread: float, nodes: Sequence[float]) -> list[tuple[float, float]]:
    """(depth, share) of each sample of a ray; nodes are in standard deviations, shares sum to one."""
    shares = [exp(-0.5 * node * node) for node in nodes]
    return [
        (max(depth * (1.0 + node * spread), 0.0), share / sum(shares))
        for node, share in zip(nodes, shares, strict=True)
    ]


def base_weight(
    views: SlowViews, target: int, source: int, pixel: Pixel, sample: tuple[float, float], settings: EvidenceSettings
) -> float:
    """What one source says of one sample (depth, share) of one ray counts for, colour included where it is set."""
    depth, share = sample
    if depth <= 0:
        return 0.0
    x, y, z = warp(views, target, source, pixel, depth)
    height, width = views.sizes[source]
    if z <= 0 or not (0 <= x < width and 0 <= y < height):
        return 0.0
    row, column = nearest_pixel((x, y), height, width)
    surface = views.depth[source, row, column]
    if surface <= 0:
        return 0.0
    home = nearest_pixel(pixel, *views.depth.shape[1:])
    allowed = settings.tolerance + settings.spread_factor * views.spread[target, home[0], home[1]]
    allowed += views.spread[source, row, column]
    visible = min(max(1.5 - abs(surface - z) / (allowed * z), 0.0), 1.0)
    if settings.colour_scale is None:
        return float(visible * share)
    difference = views.images[source, :, row, column] - views.images[target, :, home[0], home[1]]
    return float(visible * share * exp(-0.5 * float(difference @ difference) / settings.colour_scale**2))


def votes(ids: Ids, weight: Array, classes: int) -> Array:
    """[classes, R]: the weights of the witnesses that say each class."""
    total = np.zeros((classes, ids.shape[1]))
    for e, r in np.ndindex(*ids.shape):
        total[ids[e, r], r] += weight[e, r]
    return total


def spread_shares(
    votes: Array, image: Array, depth: Array, spread: Array, size: tuple[int, int], settings: PropagationSettings
) -> Array:
    """[K, H, W] class shares of votes [K, H, W] after `propagation.propagate`, pixel by pixel.

    Args:
        image: [3, H, W]; depth, spread: [H, W]; size: (height, width) of the true image.
    """
    total = votes.sum(0)
    own = votes / np.maximum(total, 1e-9)
    margin = np.array([[_lead(own[:, i, j]) for j in range(total.shape[1])] for i in range(total.shape[0])])
    contested = [(int(i), int(j)) for i, j in np.argwhere(((margin < SURE) | (total < LEAST_EVIDENCE)) & (total > 0))]
    steps = [(r * dy, r * dx) for r in REACH for dy in (-1, 0, 1) for dx in (-1, 0, 1) if dy or dx]
    shares, sureness = own.copy(), margin * total / (total + 1)
    around = {
        (i, j): [
            ((i + dy, j + dx), _likeness((i, j), (dy, dx), image, depth, spread, (size, settings)))
            for dy, dx in steps
            if 0 <= i + dy < size[0] and 0 <= j + dx < size[1]
        ]
        for i, j in contested
    }
    strength = settings.strength * (guide_worth(own, sureness, total, around) if settings.tested else 1.0)
    for _ in range(settings.rounds):
        before, sure = shares.copy(), sureness.copy()
        for i, j in contested:
            heard = sum(alike * sure[there] for there, alike in around[i, j])
            said = sum((alike * sure[there] * before[:, *there] for there, alike in around[i, j]), np.zeros(len(votes)))
            anchor, gain = total[i, j] * (margin[i, j] + TIE), strength / (heard + 0.5)
            shares[:, i, j] = (anchor * own[:, i, j] + gain * said) / max(anchor + gain * heard, 1e-9)
            sureness[i, j] = _lead(shares[:, i, j]) * total[i, j] / (total[i, j] + 1)
    return np.asarray(shares)


def guide_worth(
    shares: Array,
    sureness: Array,
    total: Array,
    around: dict[tuple[int, int], list[tuple[tuple[int, int], float]]],
) -> float:
    """`propagation.guide_worth` of shares [K, H, W]; `around`: contested pixels' neighbours and how alike they are.

    Pixels whose neighbours are not all within the image are not asked.
    """
    unguided, guided = PRIOR
    for pixel, neighbours in around.items():
        if len(neighbours) < 8 * len(REACH):
            continue
        own = shares[:, *pixel].argmax()
        same = [shares[:, *there].argmax() == own for there, _ in neighbours]
        heard = sum(alike * sureness[there] for there, alike in neighbours)
        ahead = total[pixel] * _lead(shares[:, *pixel])
        if total[pixel] > LEAST_VOTES and LEAST_LEAD < ahead < MOST_LEAD and np.mean(same) < ALONE and heard > 0.5:
            unguided += sum(sureness[there] * shares[:, *there] for there, _ in neighbours).argmax() != own
            guided += sum(alike * sureness[there] * shares[:, *there] for there, alike in neighbours).argmax() != own
    return min(max((POOR_GUIDE - guided / unguided) / (POOR_GUIDE - GOOD_GUIDE), 0.0), 1.0)


def _lead(shares: Array) -> float:
    """Best minus second best."""
    ordered = sorted(shares.tolist(), reverse=True)
    return float(ordered[0] - (ordered[1] if len(ordered) > 1 else 0.0))


def _likeness(
    pixel: tuple[int, int],
    step: tuple[int, int],
    image: Array,
    depth: Array,
    spread: Array,
    rest: tuple[tuple[int, int], PropagationSettings],
) -> float:
    """How alike a pixel and its neighbour a step away are: in colour, and in lying on one plane."""
    (height, width), settings = rest

    def at(times: int) -> tuple[int, int]:
        i, j = pixel[0] + times * step[0], pixel[1] + times * step[1]
        return min(max(i, 0), height - 1), min(max(j, 0), width - 1)

    if depth[at(0)] <= 0 or depth[at(1)] <= 0:
        return 0.0
    before, here, there, beyond = (1 / depth[at(t)] if depth[at(t)] > 0 else 0.0 for t in (-1, 0, 1, 2))
    bend = min(abs(there - 2 * here + before), abs(here - 2 * there + beyond), abs(there - here))
    scales = here * (settings.depth_scale + spread[at(0)]), there * (settings.depth_scale + spread[at(1)])
    exponent = 2 * bend / sum(scales)
    if settings.colour_scale is not None:
        difference = image[:, at(1)[0], at(1)[1]] - image[:, at(0)[0], at(0)[1]]
        exponent += float(difference @ difference) / (2 * settings.colour_scale**2)
    return exp(-exponent)


def corrected_mean(values: Array, weight: Array, settings: CorrectorSettings) -> Array:
    """[C] robust mean of E witnesses' features [E, C] of one ray, base weights [E]; 0 where nobody sees anything."""
    unit = [value / max(float(np.linalg.norm(value)), 1e-12) for value in values]
    powers = np.array([float(w) ** settings.emphasis for w in weight])
    weight = powers * (float(weight.sum()) / max(float(powers.sum()), 1e-20))
    current = weight.copy()
    for _ in range(settings.rounds):
        fresh = current.copy()
        for e in range(len(values)):
            rest = sum((current[k] * unit[k] for k in range(len(values)) if k != e), np.zeros(values.shape[1]))
            length = float(np.linalg.norm(rest))
            agreement = settings.prior_agreement if length < 1e-6 else max(float(rest @ unit[e]) / length, 0.0)
            fresh[e] = weight[e] * max(agreement**settings.sharpness, settings.floor)
        current = fresh
    total = sum((w * value for w, value in zip(current, values, strict=True)), np.zeros(values.shape[1]))
    return np.asarray(total / max(float(current.sum()), 1e-9))


def plane_cost(
    views: SlowViews,
    target: int,
    sources: Sequence[int],
    cell: tuple[int, int],
    depth: float,
    settings: MatchingSettings,
) -> float:
    """Matching cost of the plane z = `depth` at one target pixel (row, column); 1 where no source sees it."""
    costs = sorted(cost for s in sources if (cost := _source_cost(views, target, s, cell, depth, settings)) < inf)
    kept = costs[: max(ceil(len(costs) * settings.best_share), 1)]
    return sum(kept) / len(kept) if kept else 1.0


def path_costs(cost: Array, image: Array, step: tuple[int, int], settings: SmoothingSettings) -> Array:
    """Path costs [D, h, w] of [D, h, w] along one direction (rows, columns), each pixel from the one before it."""
    planes, height, width = cost.shape
    path = np.zeros_like(cost)
    order = [(i, j) for i in range(height) for j in range(width)]
    for i, j in order if step > (0, 0) else reversed(order):
        k, m = i - step[0], j - step[1]
        if not (0 <= k < height and 0 <= m < width):
            path[:, i, j] = cost[:, i, j]
            continue
        contrast = float(np.mean(np.abs(image[:, i, j] - image[:, k, m])))
        jump = settings.slope + settings.jump * exp(-contrast / settings.edge)
        lowest = min(path[:, k, m])
        for d in range(planes):
            near = [path[n, k, m] + settings.slope for n in (d - 1, d + 1) if 0 <= n < planes]
            path[d, i, j] = cost[d, i, j] + min(path[d, k, m], *near, lowest + jump) - lowest
    return path


def _source_cost(
    views: SlowViews, target: int, source: int, cell: tuple[int, int], depth: float, settings: MatchingSettings
) -> float:
    x, y, z = warp(views, target, source, (cell[1] + 0.5, cell[0] + 0.5), depth)
    height, width = views.images.shape[2:]
    if z <= 0 or not (0 <= x <= width and 0 <= y <= height):
        return inf
    here, there = [], []
    for i in range(max(cell[0] - settings.window, 0), min(cell[0] + settings.window + 1, height)):
        for j in range(max(cell[1] - settings.window, 0), min(cell[1] + settings.window + 1, width)):
            u, v, _ = warp(views, target, source, (j + 0.5, i + 0.5), depth)
            here.append(float(views.images[target, :, i, j].mean()))
            there.append(float(fetch_bilinear(views.images[source], (u, v)).mean()))
    own = views.images[target, :, cell[0], cell[1]]
    difference = float(np.abs(fetch_bilinear(views.images[source], (x, y)) - own).mean())
    colour = min(difference, settings.colour_cut) / settings.colour_cut
    correlation = _correlation(np.array(here), np.array(there), settings.contrast_floor)
    return settings.correlation_share * (1.0 - correlation) + (1.0 - settings.correlation_share) * colour


def _correlation(a: Array, b: Array, least: float) -> float:
    a, b = a - a.mean(), b - b.mean()
    return float((a * b).mean()) / sqrt((float((a * a).mean()) + least) * (float((b * b).mean()) + least))
