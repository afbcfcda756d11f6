"""The report's numbers against ground truth: each frame's mIoU, and scores of lifted and raw labels."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from pipeline.evaluation.evaluate import GROUND_TRUTH_SET
from pipeline.evaluation.label_space import LabelSpace, label_space
from pipeline.evaluation.metrics import Counts, Metrics, count_image, mean_iou, no_counts, summarise
from pipeline.evaluation.scene_data import check_sizes, load_labels, truth_ids
from schemas.config import ReaderConfig
from schemas.errors import DatasetError
from schemas.label_sets import LabelSet, label_set
from schemas.scene import Frame


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """The frames of the dataset with ground truth, by scene and frame id."""

    uri: str
    frames: dict[str, dict[str, Frame]]
    reader: ReaderConfig

    def frame(self, scene: str, frame: str) -> Frame | None:
        """The frame, None where the dataset lacks it."""
        return self.frames.get(scene, {}).get(frame)


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """Labels of one operator against ground truth.

    Attributes:
        space: the label set that they are scored in.
        lifted, raw: scores over the frames that the dataset has; raw None where there are no raw labels.
        frame_miou: mIoU by (scene, frame id), of the frames with ground truth.
        scene_miou: mIoU by scene.
        absent: names of ground-truth classes that occur and that the label set lacks.
    """

    space: LabelSpace
    lifted: Metrics
    raw: Metrics | None
    frame_miou: dict[tuple[str, str], float]
    scene_miou: dict[str, float]
    absent: tuple[str, ...]


def open_ground_truth(uri: str, scenes: set[str], reader: ReaderConfig) -> Dataset:
    """Read the cameras and addresses of the scenes that a store has. Raises `DatasetError` where there is none."""
    from pipeline.readers import load_scene, open_dataset

    refs = [ref for ref in open_dataset(uri, reader) if ref.id in scenes]
    if not refs:
        raise DatasetError(
            f"{uri} has none of the store's scenes ({', '.join(sorted(scenes)[:5])})",
            remedy="give the dataset that was labelled",
        )
    frames = {ref.id: {frame.id: frame for frame in load_scene(ref, reader).frames} for ref in refs}
    return Dataset(uri, frames, reader)


def score(dataset: Dataset, store_uri: str, raw_store: str | None, operator: str, labels: LabelSet) -> Scores | None:
    """Score one operator's labels; None where no labelled frame has ground truth."""
    space = label_space(labels, label_set(GROUND_TRUTH_SET))
    lifted = _tally(dataset, store_uri, operator, space)
    if not lifted.scenes:
        return None
    raw = _tally(dataset, raw_store, operator, space) if raw_store is not None else _Tally()
    return Scores(
        space=space,
        lifted=summarise(list(lifted.scenes.values()), labels),
        raw=summarise(list(raw.scenes.values()), labels) if raw.scenes else None,
        frame_miou=lifted.frame_miou,
        scene_miou={scene: mean_iou(counts.confusion) for scene, counts in lifted.scenes.items()},
        absent=tuple(sorted(lifted.absent)),
    )


@dataclass(frozen=True, slots=True)
class _Tally:
    """Counts by scene (of those with ground truth), mIoU by frame, and pixels of classes that are not scored."""

    scenes: dict[str, Counts] = field(default_factory=dict)
    frame_miou: dict[tuple[str, str], float] = field(default_factory=dict)
    absent: Counter[str] = field(default_factory=Counter)


def _tally(dataset: Dataset, store_uri: str, operator: str, space: LabelSpace) -> _Tally:
    tally, classes = _Tally(), len(space.labels.ids)
    for scene in dataset.frames:
        for frame_id, labels in load_labels(store_uri, operator, scene, space).items():
            frame = dataset.frame(scene, frame_id)
            if frame is None or frame.label is None:
                continue
            check_sizes(scene, [frame], [labels])
            ids = truth_ids(scene, frame, dataset.reader)
            counts = count_image(space.truth(ids), labels, classes)
            tally.absent.update(space.absent_pixels(ids))
            if counts.images:
                tally.scenes[scene] = tally.scenes.get(scene, no_counts(classes)) + counts
                tally.frame_miou[scene, frame_id] = counts.image_iou
    return tally
