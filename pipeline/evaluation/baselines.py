"""What lifting has to beat on the same input: nearest-view warp and voting, both with true depth.

Labels are class indices 0..K-1; index K means "no class". It casts no vote and wins only where nothing else does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.correspondence import View, by_distance, hull, may_overlap, seen_by, unproject

Labels = NDArray[np.unsignedinteger]
Progress = Callable[[int, int], None]
"""Called as progress(views done, views in all)."""


def silent(done: int, total: int) -> None:
    """The progress callback that reports nothing."""


def nearest_view_warp(views: Sequence[View], labels: Sequence[Labels], progress: Progress = silent) -> list[Labels]:
    """Each pixel takes the label of the nearest other view (by camera centre) that sees its point.

    Args:
        views: V views with depth.
        labels: V maps [H, W] of class indices, at the views' sizes.
        progress: called after each view.

    Returns:
        V maps [H, W]; a pixel that no other view sees, or whose depth is unknown, keeps its own label.
    """
    out = [own.copy() for own in labels]
    hulls = [hull(view) for view in views]
    for a, view in enumerate(views):
        points, flat = unproject(view), out[a].reshape(-1)
        for b in by_distance(views, a):
            if b == a or not may_overlap(hulls[a], views[b].camera):
                continue
            seen, pixels = seen_by(points, views[b])
            flat[points.pixels[seen]] = labels[b].reshape(-1)[pixels]
            points = points.keep(~seen)
        progress(a + 1, len(views))
    return out


def z_test_vote(
    views: Sequence[View],
    labels: Sequence[Labels],
    classes: int,
    *,
    nearest: int | None = None,
    include_self: bool = True,
    progress: Progress = silent,
) -> list[Labels]:
    """Majority of the labels of all views that see a pixel's point; ties go to the lowest class index.

    Args:
        views: V views with depth.
        labels: V maps [H, W] of class indices, at the views' sizes.
        classes: K; labels >= K cast no vote.
        nearest: vote over this many nearest other views only; None: all.
        include_self: whether the view's own label votes.
        progress: called after each view.

    Returns:
        V maps [H, W]; a pixel without any vote keeps its own label.
    """
    hulls = [hull(view) for view in views]
    out = []
    for a, view in enumerate(views):
        order = by_distance(views, a)
        voters = [b for b in (order if nearest is None else order[: nearest + 1]) if b != a]
        ballots = np.zeros((labels[a].size, classes), np.uint8 if len(views) < 256 else np.uint16)
        if include_self:
            _cast(ballots, np.arange(labels[a].size), labels[a].reshape(-1))
        points = unproject(view)
        for b in voters:
            if may_overlap(hulls[a], views[b].camera):
                seen, pixels = seen_by(points, views[b])
                _cast(ballots, points.pixels[seen], labels[b].reshape(-1)[pixels])
        out.append(_winners(ballots, labels[a]))
        progress(a + 1, len(views))
    return out


def _cast(ballots: NDArray[np.unsignedinteger], pixels: NDArray[np.intp], votes: Labels) -> None:
    """Count one view's votes; `pixels` are unique, so plain indexing adds each once."""
    classes = ballots.shape[1]
    valid = votes < classes
    ballots.reshape(-1)[pixels[valid] * classes + votes[valid]] += 1


def _winners(ballots: NDArray[np.unsignedinteger], own: Labels) -> Labels:
    winner = ballots.argmax(1)
    voted = np.take_along_axis(ballots, winner[:, None], 1)[:, 0] > 0
    return np.where(voted, winner, own.reshape(-1)).astype(own.dtype).reshape(own.shape)
