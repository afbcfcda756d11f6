"""All rows of one scene: the labels that compete, and their counts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.baselines import nearest_view_warp, z_test_vote
from pipeline.evaluation.correspondence import View, matches
from pipeline.evaluation.metrics import Counts, Labels, count_image, no_counts
from pipeline.evaluation.scene_data import Truth

LIFTED, RAW, WARP, VOTE = "lifted", "raw", "nearest_view_warp", "z_test_voting"
ROWS = (LIFTED, RAW, WARP, VOTE)

Progress = Callable[[str, int, int], None]
"""Called as progress(what, done, total)."""


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """V frames' labels (class indices [H, W]) as lifted, with confidence [H, W], and as predicted per view."""

    lifted: list[Labels]
    confidence: list[NDArray[np.float32]]
    raw: list[Labels] | None


def score_scene(
    candidates: Candidates, truth: Truth, classes: int, vote_views: int | None, progress: Progress
) -> dict[str, Counts]:
    """Counts of every row that can be had: baselines need raw labels, and two of them and consistency true depth."""
    rows = {LIFTED: candidates.lifted}
    if candidates.raw is not None:
        rows[RAW] = candidates.raw
    if candidates.raw is not None and truth.views is not None:
        rows[WARP] = nearest_view_warp(
            truth.views, candidates.raw, lambda done, total: progress("nearest-view warp", done, total)
        )
        rows[VOTE] = z_test_vote(
            truth.views,
            candidates.raw,
            classes,
            nearest=vote_views,
            progress=lambda done, total: progress("z-test voting", done, total),
        )
    counts = {name: count_scene(truth.labels, labels, classes) for name, labels in rows.items() if name != LIFTED}
    counts[LIFTED] = count_scene(truth.labels, candidates.lifted, classes, candidates.confidence)
    if truth.views is None:
        return counts
    agreement = count_agreement(truth.views, list(rows.values()))
    return {name: counts[name].with_agreement(*pair) for name, pair in zip(rows, agreement, strict=True)}


def count_scene(
    truth: Sequence[Labels],
    labels: Sequence[Labels],
    classes: int,
    confidence: Sequence[NDArray[np.float32]] | None = None,
) -> Counts:
    """Summed counts of V images; see `count_image`."""
    total = no_counts(classes)
    for k, (true, predicted) in enumerate(zip(truth, labels, strict=True)):
        total += count_image(true, predicted, classes, confidence[k] if confidence is not None else None)
    return total


def count_agreement(views: Sequence[View], rows: Sequence[Sequence[Labels]]) -> list[tuple[int, int]]:
    """(agreeing, co-visible) pixel pairs of each row's V label maps; the geometry is worked out once for all rows."""
    agreeing, covisible = [0] * len(rows), 0
    for a, b, pixels_a, pixels_b in matches(views):
        covisible += pixels_a.size
        for k, labels in enumerate(rows):
            same = labels[a].reshape(-1)[pixels_a] == labels[b].reshape(-1)[pixels_b]
            agreeing[k] += int(np.count_nonzero(same))
    return [(count, covisible) for count in agreeing]
