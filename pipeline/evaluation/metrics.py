"""Segmentation metrics as sums that add up over frames and scenes, and the scores read off them.

Labels are class indices 0..K-1 of the prediction's label set. Index K in the ground truth means "not scored"; in
a prediction it means "no class" and is wrong wherever there is ground truth. docs/evaluation.md defines each score.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.boundary import boundary_counts, boundary_f1
from pipeline.evaluation.calibration import LEVELS, auroc, calibration_error, confidence_histogram
from schemas.label_sets import LabelSet

Labels = NDArray[np.unsignedinteger]


@dataclass(frozen=True, slots=True, eq=False)
class Counts:
    """Everything the metrics need, additive.

    Attributes:
        confusion: [K, K + 1] pixels by true class and predicted class, the last column "no class".
        boundary: [K, 4] outline pixels, as `boundary_counts` gives them.
        image_iou: sum over images of the image's mIoU; `images`: how many had ground truth.
        agreeing, covisible: co-visible pixel pairs of two views, and those with equal labels.
        confidence: [256, 2] scored pixels (right, wrong) by confidence level.
    """

    confusion: NDArray[np.int64]
    boundary: NDArray[np.int64]
    image_iou: float
    images: int
    agreeing: int
    covisible: int
    confidence: NDArray[np.int64]

    def __add__(self, other: Counts) -> Counts:
        return Counts(*(getattr(self, name) + getattr(other, name) for name in Counts.__slots__))

    def with_agreement(self, agreeing: int, covisible: int) -> Counts:
        """The same counts with those of cross-view consistency."""
        return replace(self, agreeing=agreeing, covisible=covisible)


def no_counts(classes: int) -> Counts:
    """The zero of the sum."""
    confusion, boundary = np.zeros((classes, classes + 1), np.int64), np.zeros((classes, 4), np.int64)
    return Counts(confusion, boundary, 0.0, 0, 0, 0, np.zeros((LEVELS, 2), np.int64))


def count_image(truth: Labels, labels: Labels, classes: int, confidence: NDArray[np.float32] | None = None) -> Counts:
    """Counts of one image.

    Args:
        truth: [H, W] class indices, K where not scored.
        labels: [H, W] predicted class indices, K where there is no class.
        classes: K.
        confidence: [H, W] in [0, 1], if there is one.
    """
    scored = truth < classes
    confusion = confusion_matrix(truth[scored], labels[scored], classes)
    histogram = np.zeros((LEVELS, 2), np.int64)
    if confidence is not None:
        histogram = confidence_histogram(confidence[scored], truth[scored] != labels[scored])
    has_truth = bool(scored.any())
    return Counts(
        confusion=confusion,
        boundary=boundary_counts(truth, labels, classes),
        image_iou=mean_iou(confusion) if has_truth else 0.0,
        images=int(has_truth),
        agreeing=0,
        covisible=0,
        confidence=histogram,
    )


def confusion_matrix(truth: Labels, labels: Labels, classes: int) -> NDArray[np.int64]:
    """[N] true and predicted class indices -> [K, K + 1] pixels; predictions >= K are "no class", the last column."""
    columns = classes + 1
    cells = truth.astype(np.int64) * columns + np.minimum(labels, classes)
    return np.bincount(cells, minlength=classes * columns).reshape(classes, columns)


def class_iou(confusion: NDArray[np.int64]) -> NDArray[np.float64]:
    """[K, K + 1] -> [K] intersection over union, NaN for classes that the ground truth lacks."""
    hits, true, predicted = np.diagonal(confusion), confusion.sum(1), confusion.sum(0)[:-1]
    iou = hits / np.maximum(true + predicted - hits, 1)
    return np.where(true > 0, iou, np.nan)


def class_accuracy(confusion: NDArray[np.int64]) -> NDArray[np.float64]:
    """[K, K + 1] -> [K] share of each class's true pixels that are right, NaN for classes that the truth lacks."""
    true = confusion.sum(1)
    return np.where(true > 0, np.diagonal(confusion) / np.maximum(true, 1), np.nan)


def mean_iou(confusion: NDArray[np.int64]) -> float:
    """Mean of `class_iou` over the classes that the ground truth has; NaN where it has none."""
    return _mean(class_iou(confusion))


@dataclass(frozen=True, slots=True)
class ClassScore:
    """One class's scores; `true_px` and `predicted_px` count scored pixels."""

    id: int
    name: str
    iou: float
    accuracy: float
    boundary_f1: float | None
    true_px: int
    predicted_px: int


@dataclass(frozen=True, slots=True)
class Metrics:
    """Scores of a set of scenes, each in [0, 1]; None where it cannot be measured.

    `miou` is of one confusion matrix over all frames and scenes, `scene_miou` the mean of each scene's own,
    `image_miou` the mean over images, then scenes. `no_class` is the share of scored pixels without a class.
    """

    miou: float
    scene_miou: float
    image_miou: float
    accuracy: float
    mean_accuracy: float
    boundary_f1: float | None
    consistency: float | None
    no_class: float
    confidence_auroc: float | None
    calibration_error: float | None
    pixels: int
    images: int
    classes: tuple[ClassScore, ...]


def summarise(scenes: Sequence[Counts], labels: LabelSet) -> Metrics:
    """Scores of one or more scenes, each of which has ground truth."""
    total = sum(scenes[1:], scenes[0])
    pixels = int(total.confusion.sum())
    return Metrics(
        miou=mean_iou(total.confusion),
        scene_miou=float(np.mean([mean_iou(scene.confusion) for scene in scenes])),
        image_miou=float(np.mean([scene.image_iou / scene.images for scene in scenes])),
        accuracy=float(np.diagonal(total.confusion).sum() / pixels),
        mean_accuracy=_mean(class_accuracy(total.confusion)),
        boundary_f1=_optional(_mean(boundary_f1(total.boundary))),
        consistency=total.agreeing / total.covisible if total.covisible else None,
        no_class=float(total.confusion[:, -1].sum() / pixels),
        confidence_auroc=auroc(total.confidence),
        calibration_error=calibration_error(total.confidence),
        pixels=pixels,
        images=total.images,
        classes=_class_scores(total, labels),
    )


def _class_scores(total: Counts, labels: LabelSet) -> tuple[ClassScore, ...]:
    """Scores of the classes that the ground truth has, in the label set's order."""
    iou, accuracy, f1 = class_iou(total.confusion), class_accuracy(total.confusion), boundary_f1(total.boundary)
    true, predicted = total.confusion.sum(1), total.confusion.sum(0)
    return tuple(
        ClassScore(
            id=labels.ids[k],
            name=labels.names[k],
            iou=float(iou[k]),
            accuracy=float(accuracy[k]),
            boundary_f1=_optional(float(f1[k])),
            true_px=int(true[k]),
            predicted_px=int(predicted[k]),
        )
        for k in np.flatnonzero(true)
    )


def _mean(values: NDArray[np.float64]) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")


def _optional(value: float) -> float | None:
    return None if np.isnan(value) else value
