"""A frame's pictures: what was seen, what was predicted, what lifting made of it, and where they differ."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.scene_data import truth_ids
from pipeline.report import panels
from pipeline.report.page import Panel
from pipeline.report.scoring import Dataset, Scores
from schemas.camera import Camera
from schemas.errors import FrameError
from schemas.label_sets import LabelSet
from schemas.scene import Asset

NO_RAW = "no raw predictions: run lift3d evaluate, or give a store labelled with --lift none"

Row = dict[str, Any]
"""A row of the store as a dict, with `scene`."""
Ids = NDArray[np.unsignedinteger]


@dataclass(frozen=True, slots=True, eq=False)
class Context:
    """What the pictures of one operator's frames need beside their rows."""

    labels: LabelSet | None
    dataset: Dataset | None
    scores: Scores | None


def frame_panels(context: Context, row: Row, raw: Row | None) -> tuple[Panel, ...]:
    """The panels of one frame; `raw` is its row in the raw store."""
    image, missing = _image(context.dataset, row)
    shown = Panel("Image", panels.photo(image)) if image is not None else Panel("Image", note=missing)
    if row["kind"] == "classes" and context.labels is not None:
        return (shown, *_class_panels(context, context.labels, row, raw, image), _confidence(row))
    before = [] if _is_raw(row) else [Panel("Raw", _picture(raw)) if raw else Panel("Raw", note=NO_RAW)]
    return (shown, *before, Panel(_title(row), _picture(row)), _confidence(row))


def _class_panels(
    context: Context, labels: LabelSet, row: Row, raw: Row | None, image: panels.Rgb | None
) -> list[Panel]:
    from pipeline.store import decode_label_map

    palette, ids = labels.palette(), decode_label_map(row)
    raw_ids = decode_label_map(raw) if raw and not _is_raw(row) else None
    shown = [Panel(_title(row), panels.class_map(ids, palette))]
    if raw_ids is not None:
        shown.insert(0, Panel("Raw", panels.class_map(raw_ids, palette)))
    elif not _is_raw(row):
        shown.insert(0, Panel("Raw", note=NO_RAW))
    truth = _truth(context, row)
    if truth is not None and context.scores is not None:
        wrong = (truth < len(labels.ids)) & (truth != context.scores.space.prediction(ids))
        true_ids = np.array([*labels.ids, labels.ignore_id])[truth]
        shown += [
            Panel("Ground truth", panels.class_map(true_ids, palette)),
            Panel("Wrong", panels.highlight(image, wrong)),
        ]
    elif raw_ids is not None and raw_ids.shape == ids.shape:
        shown.append(Panel("Changed by lifting", panels.highlight(image, raw_ids != ids)))
    return shown


def _is_raw(row: Row) -> bool:
    """Whether nothing was lifted, so that the row is the raw prediction itself."""
    return bool(row["lift_mode"] == "none")


def _title(row: Row) -> str:
    return "Predicted" if _is_raw(row) else "Lifted"


def _confidence(row: Row) -> Panel:
    from pipeline.store import decode_confidence

    return Panel("Confidence", panels.heat_map(decode_confidence(row), 0.0, 1.0))


def _picture(row: Row) -> str:
    """The data URI of a prediction that is no class map."""
    from pipeline.store import decode_features, decode_image, decode_label_map, decode_scalar

    match row["kind"]:
        case "features":
            return panels.feature_colours(decode_features(row))
        case "image":
            return panels.photo(decode_image(row))
        case "scalar":
            return panels.scalar_map(decode_scalar(row))
        case _:
            return panels.heat_map(decode_label_map(row).astype(np.float32), 0.0, 255.0)


def _truth(context: Context, row: Row) -> Ids | None:
    """[H, W] class indices of the frame's ground truth, None where it has none."""
    if (
        context.dataset is None
        or context.scores is None
        or (row["scene"], row["frame"]) not in context.scores.frame_miou
    ):
        return None
    frame = context.dataset.frame(row["scene"], row["frame"])
    return None if frame is None else context.scores.space.truth(truth_ids(row["scene"], frame, context.dataset.reader))


def _image(dataset: Dataset | None, row: Row) -> tuple[panels.Rgb | None, str]:
    """The frame's colour image, or None and why it cannot be shown."""
    from pipeline.assets import decode_image

    frame = dataset.frame(row["scene"], row["frame"]) if dataset else None
    asset = frame.image if frame else Asset(row["image_uri"])
    try:
        return decode_image(asset, _camera(row)), ""
    except FrameError as error:
        return None, str(error)


def _camera(row: Row) -> Camera:
    pose = np.asarray(row["world_from_cam"], dtype=np.float64).reshape(4, 4)
    return Camera(np.asarray(row["K"], dtype=np.float64).reshape(3, 3), pose, int(row["height"]), int(row["width"]))
