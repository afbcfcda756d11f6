"""What the evaluation of one scene needs, in memory: ground truth, true depth, finished labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.correspondence import View, registered_depth
from pipeline.evaluation.label_space import LabelSpace
from schemas.config import ReaderConfig
from schemas.errors import DatasetError, FrameError
from schemas.scene import Frame

Labels = NDArray[np.unsignedinteger]


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """Ground truth of V frames.

    Attributes:
        labels: V maps [H, W] of class indices at the frames' image size, K where not scored.
        views: V views with true depth at the same size; None where a frame of the scene has no depth.
        absent_px: pixels of classes that the label set lacks, by class name.
        unlabelled_px: pixels that the ground truth does not label.
    """

    labels: list[Labels]
    views: list[View] | None
    absent_px: Counter[str]
    unlabelled_px: int


def load_truth(scene: str, frames: Sequence[Frame], space: LabelSpace, reader: ReaderConfig) -> Truth:
    """Read ground truth and depth of a scene's frames. Raises `FrameError` that names scene and frame."""
    labels, absent, unlabelled = [], Counter[str](), 0
    for frame in frames:
        ids = truth_ids(scene, frame, reader)
        labels.append(space.truth(ids))
        absent.update(space.absent_pixels(ids))
        unlabelled += int((ids == 0).sum())
    return Truth(labels, load_views(scene, frames), absent, unlabelled)


def truth_ids(scene: str, frame: Frame, reader: ReaderConfig) -> Labels:
    """[H, W] ground-truth NYU40 ids at the image's size; all 0 (not scored) for a frame without a label file."""
    from pipeline.readers import ground_truth

    size = (frame.camera.height, frame.camera.width)
    if frame.label is None:
        return np.zeros(size, np.uint16)
    with _named(scene, frame):
        return resized(ground_truth(frame, reader), size)


def load_views(scene: str, frames: Sequence[Frame]) -> list[View] | None:
    """Views with true depth at image size, or None where a frame has none."""
    from pipeline.assets import decode_depth

    views = []
    for frame in frames:
        if frame.depth is None:
            return None
        with _named(scene, frame):
            depth = decode_depth(frame.depth)
        camera = frame.depth_camera or frame.camera.resized(*depth.shape)
        views.append(View(frame.camera, registered_depth(depth, camera, frame.camera)))
    return views


def load_labels(store_uri: str, operator: str, scene: str, space: LabelSpace) -> dict[str, Labels]:
    """Class indices [H, W] of a scene's labelled frames, by frame id."""
    from pipeline.store import decode_label_map, read_labels

    columns = ["frame", "kind", "height", "width", "label"]
    rows = read_labels(store_uri, columns=columns, scene=scene, operator=operator)
    return {row["frame"]: space.prediction(decode_label_map(row)) for row in rows.to_dict("records")}


def load_confidence(store_uri: str, operator: str, scene: str) -> dict[str, NDArray[np.float32]]:
    """Confidence [H, W] in [0, 1] of a scene's labelled frames, by frame id."""
    from pipeline.store import decode_confidence, read_labels

    columns = ["frame", "kind", "height", "width", "confidence"]
    rows = read_labels(store_uri, columns=columns, scene=scene, operator=operator)
    return {row["frame"]: decode_confidence(row) for row in rows.to_dict("records")}


def check_sizes(scene: str, frames: Sequence[Frame], labels: Sequence[Labels]) -> None:
    """Raise `DatasetError` where a label map is not of its image's size in the ground-truth source."""
    for frame, label in zip(frames, labels, strict=True):
        expected = (frame.camera.height, frame.camera.width)
        if label.shape != expected:
            raise DatasetError(
                f"labels are {label.shape[1]}x{label.shape[0]}, the ground-truth source's image is "
                f"{expected[1]}x{expected[0]}",
                scene=scene,
                frame=frame.id,
                remedy="evaluate against the dataset that was labelled",
            )


def resized(ids: Labels, size: tuple[int, int]) -> Labels:
    """Ids [H', W'] at another size, nearest pixel (centres at +0.5)."""
    if ids.shape == size:
        return ids
    rows, columns = (
        ((np.arange(new) + 0.5) * old / new).astype(np.intp) for new, old in zip(size, ids.shape, strict=True)
    )
    return ids[rows[:, None], columns]


@contextmanager
def _named(scene: str, frame: Frame) -> Iterator[None]:
    """Files know neither scene nor frame; what cannot be read is reported with both."""
    try:
        yield
    except FrameError as error:
        error.scene, error.frame = scene, frame.id
        raise
