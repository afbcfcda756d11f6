"""Which views a view should be lifted from: a pure function of cameras. No images, no randomness.

Sources are chosen among the key views (`key_views.py`), which in a scene of up to 128 views are all of them.
Two steps. *Preselect* keeps at most `CANDIDATES` views that look at what the target looks at: half the best ones, half
spread over all the others, so that a video does not offer a second of near-identical frames. *Choose* projects points
of the target's frustum into the candidates and adds views greedily: each point wants to be seen by many views, each
further view of it counts less, and a view next to one that is already chosen brings little.

Dimensions: V views, K key views, B targets of a block, N candidates, P frustum points. All lengths are relative to
the target depth, so results do not depend on the world's unit or frame.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.key_views import key_views
from schemas.camera import Camera

Array = NDArray[np.float64]

CANDIDATES = 64
"""Views a target that are looked at closely."""
GRID = (4, 6)
"""Rows and columns of frustum points, at each depth."""
BASELINE = 0.1
"""Distance, relative to the depth, below which two views count as near-duplicates."""
DUPLICATE_WORTH = 0.15
"""What is left of a view's worth next to an identical view: it still averages out noise."""
ANGLE = np.deg2rad(50.0)
"""Angle between viewing rays at which a view of a point is worth about 1/e."""
DECIMALS = 9
"""Worths (of the order of 1) that agree this far are equal, so that rounding in another processor decides nothing."""
BLOCK = 64
"""Targets that are worked on at once: bounds memory at B x N x P numbers."""


@dataclass(frozen=True, slots=True)
class _Views:
    """Cameras as arrays: rotations (cam_from_world) [V, 3, 3], centres [V, 3], K [V, 3, 3], sizes (W, H) [V, 2]."""

    rotations: Array
    centres: Array
    K: Array
    sizes: Array

    def __len__(self) -> int:
        return len(self.centres)

    @property
    def axes(self) -> Array:
        """[V, 3] optical axes in the world."""
        return self.rotations[:, 2]


def select_sources(
    cameras: Sequence[Camera], count: int, depth_range: Sequence[float] | None = None
) -> list[tuple[int, ...]]:
    """Source views of every view, best first, itself left out.

    Args:
        cameras: V cameras of one scene.
        count: at most this many sources a view; fewer where no other view sees what the view sees.
        depth_range: depths in scene units at which frustum points are placed (quantiles of what the scene's depth
            maps hold); estimated from the cameras where absent.

    Returns V tuples of indices into `cameras`. Equal worths go to the lower index.
    """
    if len(cameras) < 2 or count < 1:
        return [()] * len(cameras)
    depths = np.sort(np.asarray(depth_range if depth_range is not None else estimate_depths(cameras), np.float64))
    views, depth = _stack(cameras), float(np.median(depths))
    keys = key_views(views.centres, views.rotations, depth)
    chosen: list[tuple[int, ...]] = []
    for targets in _blocks(len(views)):
        candidates = _preselect(views, targets, keys, depth)
        chosen += _choose(views, targets, candidates, depths, count)
    return chosen


def estimate_depths(cameras: Sequence[Camera]) -> tuple[float, float, float]:
    """Near, middle and far depth of a scene in its own units, from where the optical axes of its cameras meet.

    Surfaces are about where axes meet or behind, hence the factor 2. Cameras whose axes never meet in front of them
    (looking outwards, or all the same way) give multiples of how far they are spread; cameras that all stand in one
    place have no parallax, and give multiples of 1.
    """
    views = _stack([cameras[i] for i in _evenly(len(cameras), CANDIDATES)])
    meeting = _meeting_depths(views)
    spread = float(np.median(_length(views.centres - views.centres.mean(0))))
    near, far = spread if spread > 0 else 1.0, 4 * (spread if spread > 0 else 1.0)
    if len(meeting) >= len(views):
        near, far = float(np.quantile(meeting, 0.1)), 2 * float(np.quantile(meeting, 0.9))
    return near, float(np.sqrt(near * far)), far


def _length(vectors: Array) -> Array:
    """[..., 3] -> [...]; several times faster than `np.linalg.norm` along a short axis."""
    return np.sqrt(np.einsum("...k,...k->...", vectors, vectors))


def _evenly(total: int, count: int) -> list[int]:
    """At most `count` indices below `total`, evenly spaced, first and last included."""
    return np.unique(np.linspace(0, total - 1, min(total, count)).round().astype(int)).tolist()


def _meeting_depths(views: _Views) -> Array:
    """Depths along the first of each pair of axes at which the two come closest, if that is in front of both."""
    offset = views.centres[None] - views.centres[:, None]  # [V, V, 3]
    cosine = views.axes @ views.axes.T
    along_own = np.einsum("ijk,ik->ij", offset, views.axes)
    along_other = np.einsum("ijk,jk->ij", offset, views.axes)
    sine2 = 1 - cosine**2
    meets = sine2 > np.sin(np.deg2rad(5.0)) ** 2
    safe = np.where(meets, sine2, 1.0)
    own = (along_own - cosine * along_other) / safe
    other = (cosine * along_own - along_other) / safe
    apart = _length(offset + other[..., None] * views.axes[None] - own[..., None] * views.axes[:, None])
    return own[meets & (own > 0) & (other > 0) & (apart < 0.25 * (own + other))]


def _stack(cameras: Sequence[Camera]) -> _Views:
    poses = np.stack([camera.world_from_cam for camera in cameras])
    return _Views(
        rotations=poses[:, :3, :3].transpose(0, 2, 1),
        centres=poses[:, :3, 3],
        K=np.stack([camera.K for camera in cameras]),
        sizes=np.array([(camera.width, camera.height) for camera in cameras], np.float64),
    )


def _blocks(total: int) -> Iterator[NDArray[np.intp]]:
    return iter(np.split(np.arange(total), range(BLOCK, total, BLOCK)))


def _preselect(views: _Views, targets: NDArray[np.intp], keys: NDArray[np.intp], depth: float) -> NDArray[np.intp]:
    """[B, N] candidates: half the most promising key views, half spread geometrically over the ranks behind them."""
    order = np.argsort(-_promise(views, targets, keys, depth), axis=1, kind="stable")
    total = len(keys) - 1  # a key view's own rank is the last
    if total <= CANDIDATES:
        return keys[order[:, :total]]
    best = np.arange(CANDIDATES // 2)
    spread = np.geomspace(CANDIDATES // 2, total - 1, CANDIDATES // 2).round().astype(int)
    return keys[order[:, np.unique(np.concatenate([best, spread]))]]


def _promise(views: _Views, targets: NDArray[np.intp], keys: NDArray[np.intp], depth: float) -> Array:
    """[B, K] how likely each key view looks at the middle of each target's frustum, -inf for the target itself."""
    middle = views.centres[targets] + depth * views.axes[targets]
    to_middle = middle[:, None] - views.centres[keys]  # [B, K, 3]
    distance = _length(to_middle)
    centred = np.einsum("bkx,kx->bk", to_middle, views.axes[keys]) / np.maximum(distance, 1e-9 * depth)
    baseline = _length(views.centres[keys] - views.centres[targets][:, None]) / depth
    promise = centred - 0.5 * baseline - np.abs(np.log(np.maximum(distance, 1e-9 * depth) / depth))
    return np.where(targets[:, None] == keys, -np.inf, promise.round(DECIMALS))


def _choose(
    views: _Views, targets: NDArray[np.intp], candidates: NDArray[np.intp], depths: Array, count: int
) -> list[tuple[int, ...]]:
    """Greedy choice by marginal coverage, for B targets at once."""
    worth = _worth(views, targets, candidates, depths)  # [B, N, P]
    new = 1 - DUPLICATE_WORTH
    scale = BASELINE * float(np.median(depths))
    own_distance = _length(views.centres[candidates] - views.centres[targets][:, None])
    distinct = DUPLICATE_WORTH + new * _apart(own_distance / scale)  # [B, N]
    covered = np.zeros((len(targets), worth.shape[2]))
    available: NDArray[np.bool_] = np.asarray(worth.any(axis=2))
    rows = np.arange(len(targets))
    chosen: list[list[int]] = [[] for _ in targets]
    for _ in range(min(count, candidates.shape[1])):
        # The derivative of log(1 + coverage): every further view of a point counts less.
        gain = np.einsum("bnp,bp->bn", worth, 1 / (1 + covered)) * distinct / worth.shape[2]
        gain = gain.round(DECIMALS)
        gain[~available] = -1.0
        best = gain.argmax(axis=1)
        found = available[rows, best]
        for row in rows[found]:
            chosen[row].append(int(candidates[row, best[row]]))
        covered += np.where(found[:, None], worth[rows, best], 0.0)
        available[rows, best] = False
        step = views.centres[candidates] - views.centres[candidates[rows, best]][:, None]
        closeness = DUPLICATE_WORTH + new * _apart(_length(step) / scale)
        distinct = np.where(found[:, None], np.minimum(distinct, closeness), distinct)
    return [tuple(views_of_target) for views_of_target in chosen]


def _apart(distance: Array) -> Array:
    """0 for views in one place, towards 1 beyond `BASELINE`."""
    return 1 - np.exp(-(distance**2))


def _worth(views: _Views, targets: NDArray[np.intp], candidates: NDArray[np.intp], depths: Array) -> Array:
    """[B, N, P] how much each candidate tells about each frustum point, 0 where it does not see it."""
    points = _frustum_points(views, targets, depths)  # [B, P, 3]
    offset = points[:, None] - views.centres[candidates][:, :, None]  # [B, N, P, 3]
    local = offset @ views.rotations[candidates].transpose(0, 1, 3, 2)
    z = local[..., 2]
    in_front = z > 1e-6 * depths[0]
    pixels = (local @ views.K[candidates].transpose(0, 1, 3, 2))[..., :2] / np.where(in_front, z, 1.0)[..., None]
    width, height = views.sizes[candidates].transpose(2, 0, 1)[..., None]
    x, y = pixels[..., 0], pixels[..., 1]
    seen = in_front & (x >= 0) & (x <= width) & (y >= 0) & (y <= height)
    own = points - views.centres[targets][:, None]
    return np.where(seen, _same_direction(own, offset) * _same_detail(views, targets, candidates, own, z), 0.0)


def _same_direction(own: Array, offset: Array) -> Array:
    """[B, N, P] falls with the angle under which target and candidate see a point."""
    lengths = _length(own)[:, None] * _length(offset)
    cosine = np.einsum("bpk,bnpk->bnp", own, offset) / np.maximum(lengths, np.finfo(np.float64).tiny)
    return np.exp((cosine - 1) / (1 - np.cos(ANGLE)))


def _same_detail(views: _Views, targets: NDArray[np.intp], candidates: NDArray[np.intp], own: Array, z: Array) -> Array:
    """[B, N, P] ratio (at most 1) of the sizes, relative to the image, at which target and candidate see a point."""
    focal = views.K[:, 0, 0] / views.sizes[:, 0]
    own_z = np.einsum("bpk,bk->bp", own, views.axes[targets])
    own_size = focal[targets][:, None, None] / own_z[:, None]
    ratio = focal[candidates][..., None] / np.where(z > 0, z, np.inf) / own_size
    return np.minimum(ratio, 1 / np.maximum(ratio, np.finfo(np.float64).tiny))


def _frustum_points(views: _Views, targets: NDArray[np.intp], depths: Array) -> Array:
    """[B, P, 3] world points behind a grid of target pixels, at every depth."""
    rows, columns = GRID
    grid = np.stack(np.meshgrid((np.arange(columns) + 0.5) / columns, (np.arange(rows) + 0.5) / rows), axis=-1)
    pixels = grid.reshape(1, -1, 2) * views.sizes[targets][:, None]  # [B, G, 2]
    homogeneous = np.concatenate([pixels, np.ones_like(pixels[..., :1])], axis=-1)
    rays = homogeneous @ np.linalg.inv(views.K[targets]).transpose(0, 2, 1)
    local = (rays[:, None] * depths[None, :, None, None]).reshape(len(targets), -1, 3)
    return local @ views.rotations[targets] + views.centres[targets][:, None]
