"""One operator's part of the page, from the rows of the store."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import JsonValue

from pipeline.evaluation.metrics import Metrics
from pipeline.report.frames import Context, frame_panels
from pipeline.report.page import ClassLine, FrameRow, SceneLine, ScoreLine, Section
from pipeline.report.scoring import Dataset, Scores, score
from schemas.label_sets import LabelSet
from schemas.store import StoreMetadata

if TYPE_CHECKING:
    import pandas as pd

Row = dict[str, Any]

LIGHT_COLUMNS = [
    "frame",
    "kind",
    "mean_confidence",
    "consistency",
    "changed",
    "class_ids",
    "class_px",
    "lift_mode",
    "model_sha256",
    "operator_fingerprint",
    "run_id",
    "created_at",
]
"""Everything but the pictures, read for every frame."""


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """One operator's labels to report on.

    Attributes:
        store, raw_store: where labels and raw predictions are; raw_store None where there are none.
        operator: slug.
        rows: `LIGHT_COLUMNS` with `scene`, of every frame.
        metadata: of one of its files.
        dataset: ground truth, where it is given.
        most: frames shown at most.
    """

    store: str
    raw_store: str | None
    operator: str
    rows: Sequence[Row]
    metadata: StoreMetadata
    dataset: Dataset | None
    most: int


def build_section(source: Source) -> Section:
    """The numbers of all frames and the pictures of the worst ones."""
    labels = source.metadata.label_set if source.metadata.kind == "classes" else None
    scores = None
    if source.dataset and labels:
        scores = score(source.dataset, source.store, source.raw_store, source.operator, labels)
    badness, order = _order(source.rows, scores)
    worst = sorted(source.rows, key=lambda row: (*badness(row), row["scene"], row["frame"]))[: source.most]
    context = Context(labels, source.dataset, scores)
    return Section(
        operator=source.operator,
        spec=source.metadata.operator,
        kind=source.metadata.kind,
        lift_modes=tuple(sorted({row["lift_mode"] for row in source.rows})),
        total_frames=len(source.rows),
        order=order,
        confidence=mean_of(source.rows, "mean_confidence"),
        consistency=mean_of(source.rows, "consistency"),
        changed=mean_of(source.rows, "changed"),
        scores=_score_lines(scores),
        scenes=_scene_lines(source.rows, scores),
        classes=_class_lines(source.rows, labels, scores) if labels else (),
        rows=_frame_rows(source, context, worst),
        provenance=_provenance(source),
        notes=_notes(source, scores),
    )


def _order(rows: Sequence[Row], scores: Scores | None) -> tuple[Callable[[Row], tuple[bool, float]], str]:
    """A sort key that puts the worst frame first, and what it goes by; frames without a score come last."""
    if scores:
        return lambda row: _last_if_none(scores.frame_miou.get((row["scene"], row["frame"]))), "lowest mIoU"
    column, order = "mean_confidence", "lowest confidence"
    if any(number(row["consistency"]) is not None for row in rows):
        column, order = "consistency", "lowest source agreement"
    return lambda row: _last_if_none(number(row[column])), order


def _frame_rows(source: Source, context: Context, chosen: Sequence[Row]) -> tuple[FrameRow, ...]:
    wanted = [(row["scene"], row["frame"]) for row in chosen]
    lifted = _full_rows(source.store, source.operator, wanted)
    raw = _full_rows(source.raw_store, source.operator, wanted) if source.raw_store else {}
    return tuple(
        FrameRow(
            scene=key[0],
            frame=key[1],
            panels=frame_panels(context, lifted[key], raw.get(key)),
            miou=context.scores.frame_miou.get(key) if context.scores else None,
            consistency=number(row["consistency"]),
            confidence=number(row["mean_confidence"]),
            changed=number(row["changed"]),
        )
        for key, row in zip(wanted, chosen, strict=True)
    )


def _full_rows(store_uri: str, operator: str, wanted: Sequence[tuple[str, str]]) -> dict[tuple[str, str], Row]:
    """All columns of some frames, by (scene, frame id); frames that the store lacks are left out."""
    from pipeline.store import read_labels

    found: dict[tuple[str, str], Row] = {}
    for scene in sorted({scene for scene, _ in wanted}):
        rows = read_labels(store_uri, scene=scene, operator=operator)
        keys = [(scene, frame) for frame in rows["frame"]]
        found |= {key: row for key, row in zip(keys, records(rows), strict=True) if key in wanted}
    return found


def _score_lines(scores: Scores | None) -> tuple[ScoreLine, ...]:
    if scores is None:
        return ()
    named = {"lifted": scores.lifted, "raw": scores.raw}
    return tuple(
        ScoreLine(name, metrics.miou, metrics.accuracy, metrics.mean_accuracy, metrics.boundary_f1)
        for name, metrics in named.items()
        if metrics is not None
    )


def _scene_lines(rows: Sequence[Row], scores: Scores | None) -> tuple[SceneLine, ...]:
    by_scene: dict[str, list[Row]] = {}
    for row in rows:
        by_scene.setdefault(row["scene"], []).append(row)
    return tuple(
        SceneLine(
            scene=scene,
            frames=len(group),
            miou=scores.scene_miou.get(scene) if scores else None,
            consistency=mean_of(group, "consistency"),
            confidence=mean_of(group, "mean_confidence"),
            changed=mean_of(group, "changed"),
        )
        for scene, group in sorted(by_scene.items())
    )


def _class_lines(rows: Sequence[Row], labels: LabelSet, scores: Scores | None) -> tuple[ClassLine, ...]:
    """Classes that occur in labels or in the ground truth, most pixels first."""
    pixels, frames = Counter[int](), Counter[int]()
    for row in rows:
        counts = dict(zip(map(int, row["class_ids"]), map(int, row["class_px"]), strict=True))
        pixels.update(counts)
        frames.update(counts.keys())
    iou, raw_iou = ({score.id: score.iou for score in m.classes} if m else {} for m in _both(scores))
    present = [i for i in labels.ids if pixels[i] or i in iou]
    color = dict(zip(labels.ids, labels.colors, strict=True))
    return tuple(
        ClassLine(
            id=i,
            name=labels.name_of(i),
            color="#{:02x}{:02x}{:02x}".format(*color[i]),
            share=pixels[i] / max(pixels.total(), 1),
            frames=frames[i],
            iou=iou.get(i),
            raw_iou=raw_iou.get(i),
        )
        for i in sorted(present, key=lambda i: (-pixels[i], i))
    )


def _both(scores: Scores | None) -> tuple[Metrics | None, Metrics | None]:
    return (scores.lifted, scores.raw) if scores else (None, None)


def _provenance(source: Source) -> tuple[tuple[str, str], ...]:
    """What the labels came from, as (name, value) in a fixed order."""
    made = sorted(row["created_at"] for row in source.rows)
    columns = {"lift model sha256": "model_sha256", "operator fingerprint": "operator_fingerprint", "runs": "run_id"}
    listed = {
        name: ", ".join(sorted({str(row[column]) for row in source.rows if isinstance(row[column], str)}))
        for name, column in columns.items()
    }
    settings = {name: _text(value) for name, value in sorted(source.metadata.provenance.items())}
    fixed = {
        "label set": source.metadata.label_set.name if source.metadata.label_set else "",
        "labelled": f"{made[0]:%Y-%m-%d %H:%M} to {made[-1]:%Y-%m-%d %H:%M} UTC",
        "coordinate frame": source.metadata.coordinate_frame,
        "schema version": str(source.metadata.version),
    }
    return tuple((name, value) for name, value in (listed | settings | fixed).items() if value)


def _text(value: JsonValue) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


def _notes(source: Source, scores: Scores | None) -> tuple[str, ...]:
    if source.dataset is None or source.metadata.kind != "classes":
        return ()
    if scores is None:
        return ("No labelled frame has ground truth in the dataset that was given.",)
    if not scores.absent:
        return ()
    return (f"Ground-truth classes that the label set lacks are not scored: {', '.join(scores.absent)}.",)


def records(rows: pd.DataFrame) -> list[Row]:
    """A data frame's rows as dicts."""
    return [{str(name): value for name, value in row.items()} for row in rows.to_dict("records")]


def mean_of(rows: Sequence[Row], column: str) -> float | None:
    """Mean of a column over the rows that have it."""
    values = [value for row in rows if (value := number(row[column])) is not None]
    return sum(values) / len(values) if values else None


def number(value: float | None) -> float | None:
    """A cell as a number; pandas shows a missing one as None or NaN."""
    return None if value is None or math.isnan(value) else float(value)


def _last_if_none(value: float | None) -> tuple[bool, float]:
    return value is None, value or 0.0
