"""`lift3d calibrate`: one temperature for a store's confidence, fitted on some labelled frames and measured on others.

The store stays as it is: what comes out is a small document that readers of confidence apply.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipeline.evaluation.calibration import LEVELS, Histogram, auroc, confidence_histogram
from pipeline.evaluation.evaluate import GROUND_TRUTH_SET
from pipeline.evaluation.label_space import LabelSpace, label_space
from pipeline.evaluation.raw_labels import StoredLabels, stored_labels
from pipeline.evaluation.scene_data import check_sizes, load_confidence, load_labels, truth_ids
from pipeline.trust.temperature import error_at, fit_temperature
from schemas.config import ReaderConfig
from schemas.errors import ConfigError, DatasetError
from schemas.label_sets import label_set
from schemas.scene import Frame, SceneRef

FEWEST = 2
"""Labelled frames: one to fit on, one to measure on."""

Frames = dict[tuple[str, str], Histogram]
"""(scene, frame) -> [256, 2] pixels (right, wrong) a level of confidence, in the dataset's order."""


class Calibration(BaseModel):
    """What `lift3d calibrate` writes."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    version: Literal[1] = 1
    """Of this document."""
    operator: str
    """Slug of the operator whose confidence it is for."""
    temperature: float = Field(gt=0, allow_inf_nan=False)
    """What log-odds of confidence are divided by."""
    fitted_on: dict[str, int]
    """Scene -> frames that it was fitted on."""
    measured_on: dict[str, int]
    """Scene -> frames that it was measured on; none that it was fitted on."""
    pixels: int
    """Pixels with a known class among the latter."""
    accuracy: float
    """Share of them that are right."""
    ece_before: float
    """Expected calibration error of the stored confidence on them."""
    ece_after: float
    """And at the temperature."""
    auroc: float | None
    """Chance that a wrong pixel has less confidence than a right one: the same before and after."""


def calibrate(
    store_uri: str, gt: str, *, operator: str | None = None, reader: ReaderConfig | None = None
) -> Calibration:
    """Fit on every other scene (of one scene: on the first half of its frames) and measure on the rest.

    Args:
        store_uri: label store with class labels.
        gt: dataset or scene with ground truth for at least two of its frames.
        operator: slug or SPEC, where the store holds several.
        reader: how `gt` is read.

    Raises `ConfigError` (labels are no classes, or of several operators), `DatasetError` (fewer than two frames with
    ground truth, other image sizes).
    """
    reader = reader or ReaderConfig()
    stored = stored_labels(store_uri, operator)
    frames = _histograms(store_uri, gt, stored, reader)
    if len(frames) < FEWEST:
        raise DatasetError(
            f"{gt} has ground truth for {len(frames)} labelled frames of {store_uri}, expected {FEWEST} or more",
            remedy="give the dataset that was labelled, with its label files",
        )
    fitted, held_out = split(list(frames))
    temperature = fit_temperature(_sum(frames, fitted))
    measured = _sum(frames, held_out)
    return Calibration(
        operator=stored.operator,
        temperature=temperature,
        fitted_on=_count(fitted),
        measured_on=_count(held_out),
        pixels=int(measured.sum()),
        accuracy=float(measured[:, 0].sum() / measured.sum()),
        ece_before=error_at(measured, None),
        ece_after=error_at(measured, temperature),
        auroc=auroc(measured),
    )


def read_calibration(path: Path, operator: str) -> Calibration:
    """Read what `lift3d calibrate` wrote. Raises `ConfigError` where it cannot be read or is another operator's."""
    try:
        found = Calibration.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        first = str(error).partition("\n")[0]
        raise ConfigError(
            f"{path} is no calibration document: {first}", remedy="write one with `lift3d calibrate STORE --gt SOURCE`"
        ) from error
    if found.operator != operator:
        raise ConfigError(
            f"{path} calibrates operator {found.operator!r}, expected {operator!r}",
            remedy="calibrate this operator: each has a confidence of its own",
        )
    return found


def write_calibration(found: Calibration, path: Path) -> None:
    """Write the document, with the folder that it is in. Raises `ConfigError` where that cannot be."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(found.model_dump(), indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}", remedy="name a file in --out") from error


def split(keys: Sequence[tuple[str, str]]) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """(scene, frame) to fit on and to measure on: scenes in turn, or the two halves of the only one.

    Halves and no odd and even frames: neighbours in a video are nearly the same picture.
    """
    scenes = sorted({scene for scene, _ in keys})
    if len(scenes) == 1:
        return list(keys[: len(keys) // 2]), list(keys[len(keys) // 2 :])
    chosen = set(scenes[::2])
    return [key for key in keys if key[0] in chosen], [key for key in keys if key[0] not in chosen]


def _histograms(store_uri: str, gt: str, stored: StoredLabels, reader: ReaderConfig) -> Frames:
    from pipeline.readers import load_scene, open_dataset

    space = label_space(stored.label_set, label_set(GROUND_TRUTH_SET))
    found: Frames = {}
    for ref in open_dataset(gt, reader):
        if ref.id in stored.frames:
            labelled = set(stored.frames[ref.id])
            frames = [frame for frame in load_scene(ref, reader).frames if frame.id in labelled]
            found.update(_of_scene(store_uri, stored.operator, ref, frames, (space, reader)))
    return found


def _of_scene(
    store_uri: str, operator: str, ref: SceneRef, frames: Sequence[Frame], how: tuple[LabelSpace, ReaderConfig]
) -> Frames:
    space, reader = how
    labels = load_labels(store_uri, operator, ref.id, space)
    confidence = load_confidence(store_uri, operator, ref.id)
    check_sizes(ref.id, frames, [labels[frame.id] for frame in frames])
    found: Frames = {}
    for frame in frames:
        truth = space.truth(truth_ids(ref.id, frame, reader))
        known = truth < len(space.labels.ids)
        if known.any():
            wrong = (labels[frame.id] != truth)[known]
            found[ref.id, frame.id] = confidence_histogram(confidence[frame.id][known], wrong)
    return found


def _sum(frames: Mapping[tuple[str, str], Histogram], chosen: Sequence[tuple[str, str]]) -> Histogram:
    return sum((frames[key] for key in chosen), np.zeros((LEVELS, 2), np.int64))


def _count(chosen: Sequence[tuple[str, str]]) -> dict[str, int]:
    scenes = [scene for scene, _ in chosen]
    return {scene: scenes.count(scene) for scene in sorted(set(scenes))}
