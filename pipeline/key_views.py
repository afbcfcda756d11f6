"""Which views of a long scene serve as sources: enough to look like all of them, and no more.

A video shows everything from many nearly equal poses. If each of its frames chose its sources among all frames, every
frame would have others, and every frame would have to be read, predicted and corrected for a few neighbours. Where all
choose among the same key views, most of that work is shared. Key views are picked by farthest-point sampling
(Gonzalez, Theoretical Computer Science 38, 1985) in the space of poses, until every view is next to one of them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

LEAST_KEYS = 128
"""Up to so many views all of them are key views: there, near-duplicates are welcome, as they average out noise."""
STEP = 0.05
"""Way between neighbouring key views, relative to the depth of the scene."""
TURN = np.deg2rad(5.0)
"""Turn between neighbouring key views that stand in one place."""
DECIMALS = 9
"""Distances (1 = neighbours) that agree this far are equal, so that rounding decides nothing."""


def key_views(centres: Array, rotations: Array, depth: float) -> NDArray[np.intp]:
    """Indices of the key views, ascending.

    Args:
        centres: [V, 3] camera centres in the world; rotations: [V, 3, 3] (cam_from_world).
        depth: typical depth of the scene, in its unit.

    Neither the world's frame and unit nor the order of the views matters, but for ties. O(V) memory, O(V K) time.
    """
    if len(centres) <= LEAST_KEYS:
        return np.arange(len(centres))
    places = _places(centres, rotations, depth)
    keys: list[int] = []
    key, nearest = int(_distance(places, places.mean(0)).argmin()), np.full(len(places), np.inf)
    while len(keys) < LEAST_KEYS or nearest[key] > 1:
        keys.append(key)
        nearest = np.minimum(nearest, _distance(places, places[key]))
        nearest[key] = -1.0  # never again, were all views in one place
        key = int(nearest.argmax())
    return np.sort(keys)


def _places(centres: Array, rotations: Array, depth: float) -> Array:
    """[V, 12] points whose distance is about 1 for poses `STEP` or `TURN` apart.

    Entries of rotations that are an angle t apart are 2 sqrt(2) sin(t / 2) apart, whatever the axis.
    """
    turned = rotations.reshape(len(rotations), 9) / (2 * np.sqrt(2) * np.sin(TURN / 2))
    return np.concatenate([centres / (STEP * depth), turned], axis=1)


def _distance(places: Array, place: Array) -> Array:
    """[V] distances from one place."""
    offset = places - place
    return np.asarray(np.sqrt(np.einsum("vk,vk->v", offset, offset)).round(DECIMALS))
