"""Scores of one scene's labels, as plain values: what tables are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.correspondence import View
from pipeline.evaluation.metrics import summarise
from pipeline.evaluation.scene_scores import count_agreement, count_scene
from schemas.label_sets import LabelSet

Labels = NDArray[np.unsignedinteger]

FIELDS = (
    "miou",
    "accuracy",
    "boundary_f1",
    "consistency",
    "no_class",
    "image_miou",
    "confidence_auroc",
    "calibration_error",
)
"""Fields of `pipeline.evaluation.metrics.Metrics` that are kept."""


def score_rows(
    truth: Sequence[Labels],
    rows: Mapping[str, Sequence[Labels]],
    labels: LabelSet,
    views: Sequence[View] | None,
) -> dict[str, dict[str, Any]]:
    """Scores by row of V label maps [H, W] of class indices; consistency needs the V views' depth."""
    classes = len(labels.ids)
    agreement = count_agreement(views, list(rows.values())) if views else [(0, 0)] * len(rows)
    counts = {name: count_scene(truth, maps, classes) for name, maps in rows.items()}
    return {
        name: _fields(counts[name].with_agreement(*pair), labels) for name, pair in zip(rows, agreement, strict=True)
    }


def score_lifted(
    truth: Sequence[Labels],
    maps: Sequence[Labels],
    confidence: Sequence[NDArray[np.float32]],
    labels: LabelSet,
    views: Sequence[View] | None,
) -> dict[str, Any]:
    """Scores of lifted labels, and the histogram of their confidence ([256][right, wrong] pixels)."""
    counts = count_scene(truth, maps, len(labels.ids), confidence)
    if views:
        counts = counts.with_agreement(*count_agreement(views, [maps])[0])
    return {**_fields(counts, labels), "confidence": counts.confidence.tolist()}


def _fields(counts: Any, labels: LabelSet) -> dict[str, Any]:
    found = summarise([counts], labels)
    return {name: getattr(found, name) for name in FIELDS}
