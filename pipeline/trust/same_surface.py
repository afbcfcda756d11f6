"""One work item a surface: regions of other views that show what an item shows already are folded into it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from pipeline.evaluation.correspondence import Points, View, seen_by, unproject
from pipeline.trust.regions import Region

SHARED = 0.5
"""A region is another view of an item where so much of it shows the item's surface."""


def fold(regions: Sequence[Region], views: Mapping[str, View]) -> list[tuple[Region, tuple[str, ...]]]:
    """Regions of one scene, best first -> those that are left, each with the other frames that show its surface.

    Classes may differ: a surface that is wrong differently in every view is still one thing to look at.

    Args:
        views: cameras and true depth at label size, by frame; a region whose frame has none is not folded.
    """
    left: dict[int, Region] = dict(enumerate(regions))
    items = []
    for index, region in enumerate(regions):
        if left.pop(index, None) is None:
            continue
        same = _same(region, left, views)
        for other in same:
            del left[other]
        items.append((region, tuple(dict.fromkeys(regions[other].frame for other in same))))
    return items


def _same(region: Region, left: Mapping[int, Region], views: Mapping[str, View]) -> list[int]:
    """Which of the regions that are left show the surface of `region`."""
    if region.frame not in views:
        return []
    points = _surface(region, views[region.frame])
    found = []
    for frame in dict.fromkeys(other.frame for other in left.values()):
        if frame == region.frame or frame not in views:
            continue
        shown = np.zeros(views[frame].depth.size, bool)
        shown[seen_by(points, views[frame])[1]] = True
        found += [n for n, other in left.items() if other.frame == frame and shown[other.pixels].mean() >= SHARED]
    return sorted(found)


def _surface(region: Region, view: View) -> Points:
    inside = np.zeros(view.depth.size, bool)
    inside[region.pixels] = True
    return unproject(View(view.camera, np.where(inside.reshape(view.depth.shape), view.depth, np.float32(0))))
