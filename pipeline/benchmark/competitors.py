"""What lifting has to beat, for many label sets and source counts at once: the geometry is worked out once a view.

The same definitions as `pipeline.evaluation.baselines`, which a test compares: nearest-view warp, and z-test voting
over the n nearest views and over all of them, the view's own label included, all with sensor depth.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.correspondence import View, by_distance, hull, may_overlap, seen_by, unproject

Labels = NDArray[np.unsignedinteger]
Rows = dict[str, list[Labels]]

RAW, WARP, VOTE_ALL = "raw", "nearest-view warp", "z-test vote, all views"


def vote_row(nearest: int) -> str:
    """Name of the row of voting over the nearest views."""
    return f"z-test vote, {nearest} views"


def compete(
    views: Sequence[View],
    variants: Mapping[str, Sequence[Labels]],
    classes: int,
    targets: Sequence[int],
    nearest: Sequence[int],
) -> dict[str, Rows]:
    """Every competitor's labels of the target views.

    Args:
        views: V views with sensor depth.
        variants: name -> V maps [H, W] of class indices, `classes` = none.
        targets: views that are wanted.
        nearest: numbers of nearest views to vote over.

    Returns:
        Variant -> row -> one map a target.
    """
    out: dict[str, Rows] = {name: {} for name in variants}
    for target in targets:
        for name, rows in _target_rows(views, variants, classes, target, nearest).items():
            for row, labels in rows.items():
                out[name].setdefault(row, []).append(labels)
    return out


def _target_rows(
    views: Sequence[View],
    variants: Mapping[str, Sequence[Labels]],
    classes: int,
    target: int,
    nearest: Sequence[int],
) -> dict[str, dict[str, Labels]]:
    order = [view for view in by_distance(views, target) if view != target]
    polls = {name: _Poll(labels[target], classes) for name, labels in variants.items()}
    points, corners = unproject(views[target]), hull(views[target])
    for rank, view in enumerate(order):
        for poll in polls.values():
            poll.snapshot(rank, nearest)
        if may_overlap(corners, views[view].camera):
            seen, theirs = seen_by(points, views[view])
            mine = points.pixels[seen]
            for name, poll in polls.items():
                poll.add(mine, variants[name][view].reshape(-1)[theirs])
    return {name: poll.rows(nearest) for name, poll in polls.items()}


class _Poll:
    """One label set's votes for one view, counted view by view from the nearest on."""

    def __init__(self, own: Labels, classes: int) -> None:
        self._own, self._classes = own, classes
        self._ballots = np.zeros(own.size * classes, np.uint16)
        self._warped = own.reshape(-1).copy()
        self._unseen = np.ones(own.size, np.bool_)
        self._results: dict[int, Labels] = {}
        self._cast(np.arange(own.size), own.reshape(-1))

    def snapshot(self, counted: int, nearest: Sequence[int]) -> None:
        """Keep the result so far where as many views as asked for were counted."""
        if counted in nearest:
            self._results[counted] = self._winners()

    def add(self, mine: NDArray[np.intp], theirs: Labels) -> None:
        """The next view's labels of the pixels that it sees."""
        first = self._unseen[mine]
        self._warped[mine[first]] = theirs[first]
        self._unseen[mine] = False
        self._cast(mine, theirs)

    def rows(self, nearest: Sequence[int]) -> dict[str, Labels]:
        everyone = self._winners()
        voted = {vote_row(n): self._results.get(n, everyone) for n in nearest}
        return {RAW: self._own, WARP: self._warped.reshape(self._own.shape), **voted, VOTE_ALL: everyone}

    def _cast(self, pixels: NDArray[np.intp], votes: Labels) -> None:
        valid = votes < self._classes
        self._ballots[pixels[valid] * self._classes + votes[valid]] += 1

    def _winners(self) -> Labels:
        ballots = self._ballots.reshape(-1, self._classes)
        winner = ballots.argmax(1)
        voted = ballots[np.arange(len(ballots)), winner] > 0
        return np.where(voted, winner, self._own.reshape(-1)).astype(self._own.dtype).reshape(self._own.shape)
