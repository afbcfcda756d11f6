"""What an evaluation found: rows of metrics, as data, JSON and a text table."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from pipeline.evaluation.metrics import Metrics

_COLUMNS = (
    ("mIoU", "miou"),
    ("by scene", "scene_miou"),
    ("by image", "image_miou"),
    ("accuracy", "accuracy"),
    ("mean acc.", "mean_accuracy"),
    ("boundary", "boundary_f1"),
    ("consist.", "consistency"),
    ("AUROC", "confidence_auroc"),
    ("calib.", "calibration_error"),
)


@dataclass(frozen=True, slots=True)
class Row:
    """One way to label the same frames: its scores overall and by scene."""

    overall: Metrics
    scenes: dict[str, Metrics]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Labels of a store against ground truth, beside what they have to beat.

    Attributes:
        store, raw_store, ground_truth: where they are; raw_store None where nothing was compared with.
        operator: slug of the operator whose labels were evaluated.
        label_set: name of the label set that everything was scored in.
        rows: `lifted`, `raw`, `nearest_view_warp`, `z_test_voting`; None where a row could not be had (see `notes`).
        frames: evaluated frames, by scene.
        frames_left_out: labelled frames, by scene, that the ground-truth source or the raw labels lack.
        ignored_px: ground-truth pixels not scored since the label set lacks their class, by class name.
        unlabelled_px: pixels that the ground truth does not label.
        boundary_tolerance_px: matching distance of outlines, by "WxH".
        notes: what a reader of the numbers has to know.
    """

    store: str
    raw_store: str | None
    ground_truth: str
    operator: str
    label_set: str
    rows: dict[str, Row | None]
    frames: dict[str, int]
    frames_left_out: dict[str, int]
    ignored_px: dict[str, int]
    unlabelled_px: int
    boundary_tolerance_px: dict[str, int]
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types; NaN never occurs, what could not be measured is null."""
        document: dict[str, Any] = _without_nan(dataclasses.asdict(self))
        return document

    def table(self) -> str:
        """The rows as a plain text table (97 columns wide), with the notes below."""
        lines = [f"{'':<19}" + "".join(f"{title:>10}" for title, _ in _COLUMNS)]
        for name, row in self.rows.items():
            values = [getattr(row.overall, field) if row else None for _, field in _COLUMNS]
            lines.append(f"{name:<19}" + "".join(f"{_shown(value):>10}" for value in values))
        lines += ["", f"frames: {sum(self.frames.values())}, scenes: {len(self.frames)}, label set: {self.label_set}"]
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value
