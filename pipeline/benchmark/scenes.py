"""Scenes as the benchmark uses them: which views are measured, and what is known about them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.correspondence import View
from pipeline.evaluation.scene_data import load_views, resized, truth_ids
from schemas.config import ReaderConfig
from schemas.errors import DatasetError
from schemas.scene import Asset, Frame, Scene

Ids = NDArray[np.unsignedinteger]


@dataclass(frozen=True, eq=False)
class BenchScene:
    """A scene of which some views are measured; all of them serve as sources.

    Attributes:
        group: the dataset's name: scenes of one group are averaged.
        scene: cameras and addresses.
        targets: indices of the measured views, ascending.
        planned: indices of the views that work is planned for: what targets are found among.
        reader: how ground truth is read.
        held_out: whether targets are to be predicted from the other views alone, so that no view may look at them.
    """

    group: str
    scene: Scene
    targets: tuple[int, ...]
    planned: tuple[int, ...]
    reader: ReaderConfig
    held_out: bool = False

    def narrowed(self, limit: int) -> BenchScene:
        """The same scene with at most `limit` of its measured views; planned as before, so that depth is shared."""
        return replace(self, targets=tuple(self.targets[k] for k in spaced(len(self.targets), limit)))

    @property
    def id(self) -> str:
        """The scene's id."""
        return self.scene.id

    @property
    def frames(self) -> tuple[Frame, ...]:
        """All V frames."""
        return self.scene.frames

    @property
    def modes(self) -> tuple[str, ...]:
        """Geometry that the scene allows."""
        return ("depth", "rgb") if all(frame.depth for frame in self.frames) else ("rgb",)

    @cached_property
    def views(self) -> list[View]:
        """V views with sensor depth. Raises `DatasetError` where the scene has none."""
        views = load_views(self.id, self.frames)
        if views is None:
            raise DatasetError("there is no sensor depth to compare with", scene=self.id)
        return views

    @cached_property
    def truth(self) -> list[Ids]:
        """V maps [H, W] of NYU40 ids, 0 = none. Raises `DatasetError` where the scene has no ground truth."""
        if not any(frame.label for frame in self.frames):
            raise DatasetError("there are no ground-truth labels", scene=self.id)
        return [truth_ids(self.id, frame, self.reader) for frame in self.frames]

    @cached_property
    def objects(self) -> list[Ids]:
        """V maps [H, W] of object ids, 0 = none. Raises `DatasetError` where the scene has none."""
        return [_objects(self.id, frame) for frame in self.frames]

    @cached_property
    def classes(self) -> Ids:
        """Ids of the classes that the scene has."""
        return np.unique(np.concatenate([np.unique(ids[ids > 0]) for ids in self.truth]))


def open_scenes(sources: Sequence[str], reader: ReaderConfig, limit_views: int | None) -> Iterator[BenchScene]:
    """The scenes of datasets, one at a time. Raises `DatasetError` where a source has none."""
    from pipeline.readers import load_scene, open_dataset

    for source in sources:
        group = PurePosixPath(source.rstrip("/")).name
        for ref in open_dataset(source, reader):
            scene = load_scene(ref, reader)
            targets = spaced(len(scene.frames), limit_views)
            yield BenchScene(group, scene, targets, targets, reader)


def spaced(views: int, limit: int | None) -> tuple[int, ...]:
    """At most `limit` indices, evenly spaced over `views`."""
    if limit is None or limit >= views:
        return tuple(range(views))
    return tuple(int((k + 0.5) * views / limit) for k in range(limit))


def _objects(scene: str, frame: Frame) -> Ids:
    from pipeline.assets import decode_ids

    if frame.label is None or "label-filt/" not in frame.label.uri:
        raise DatasetError("there are no object ids (instance-filt/) to spoil labels by", scene=scene, frame=frame.id)
    ids = decode_ids(Asset(frame.label.uri.replace("label-filt/", "instance-filt/")))
    return resized(ids, (frame.camera.height, frame.camera.width))
