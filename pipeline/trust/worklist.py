"""`lift3d worklist`: which frames and regions a person should look at first."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.trust.regions import Region, suspect_regions
from pipeline.trust.temperature import calibrated

if TYPE_CHECKING:
    from pipeline.evaluation.correspondence import View
    from schemas.config import ReaderConfig

SPARE = 8
"""Regions of a scene that are kept for each that is asked for, so that folding leaves enough."""


@dataclass(frozen=True, slots=True)
class RegionItem:
    """A region to correct. `Region` says what its figures mean."""

    scene: str
    frame: str
    class_id: int
    class_name: str
    box: tuple[int, int, int, int]
    pixels: int
    expected_wrong: float
    used_by: int
    score: float
    also_in: tuple[str, ...]
    """Other frames that show the same surface just as doubtfully; empty where depth was not given."""


@dataclass(frozen=True, slots=True)
class FrameItem:
    """A frame to correct as a whole; the figures are sums over all its pixels, not over suspect regions alone."""

    scene: str
    frame: str
    expected_wrong: float
    used_by: int
    score: float


@dataclass(frozen=True, slots=True)
class Worklist:
    """What to correct first.

    Attributes:
        regions, frames: best first.
        expected_wrong: sum of 1 - confidence over all labelled pixels.
        pixels: all labelled pixels.
    """

    operator: str
    regions: tuple[RegionItem, ...]
    frames: tuple[FrameItem, ...]
    expected_wrong: float
    pixels: int

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    def table(self) -> str:
        """For people."""
        lines = [f"{self.operator}: {self.expected_wrong:,.0f} of {self.pixels:,} pixels are expected to be wrong"]
        lines += ["", f"{'region':<40} {'class':<16} {'pixels':>8} {'wrong':>8} {'score':>10}  also in"]
        for item in self.regions:
            where = f"{item.scene}/{item.frame} {','.join(map(str, item.box))}"
            figures = f"{item.pixels:>8,} {item.expected_wrong:>8,.0f} {item.score:>10,.0f}"
            lines.append(f"{where:<40} {item.class_name:<16} {figures}  {' '.join(item.also_in) or '-'}")
        lines += ["", f"{'frame':<57} {'used by':>8} {'wrong':>8} {'score':>10}"]
        for frame in self.frames:
            figures = f"{frame.used_by:>8} {frame.expected_wrong:>8,.0f} {frame.score:>10,.0f}"
            lines.append(f"{frame.scene + '/' + frame.frame:<57} {figures}")
        return "\n".join(lines)


def worklist(
    store_uri: str,
    *,
    operator: str | None = None,
    top: int = 20,
    temperature: float = 1.0,
    source: str | None = None,
    reader: ReaderConfig | None = None,
) -> Worklist:
    """The regions and frames of a store whose correction is expected to help most, one scene in memory at a time.

    Args:
        store_uri: label store with class labels.
        operator: slug or SPEC, where the store holds several.
        top: how many regions and how many frames at most.
        temperature: of a calibration; 1 takes confidence as it is stored.
        source: the dataset that was labelled: with its depth, each surface is listed once.
        reader: how `source` is read.

    Raises `ConfigError` where labels are no classes or of several operators, `DatasetError` where images of `source`
    have another size.
    """
    from pipeline.evaluation.raw_labels import stored_labels

    stored = stored_labels(store_uri, operator)
    regions: list[RegionItem] = []
    frames: list[FrameItem] = []
    wrong, pixels = 0.0, 0
    for scene in stored.frames:
        kept, seen, area = _scene(store_uri, stored.operator, scene, temperature, top * SPARE)
        names = dict(zip(stored.label_set.ids, stored.label_set.names, strict=True))
        views = _views(store_uri, source, (stored.operator, scene), reader) if source else {}
        regions = heapq.nlargest(top, [*regions, *_items(kept, views, names)], key=lambda item: item.score)
        frames = heapq.nlargest(top, [*frames, *seen], key=lambda item: item.score)
        wrong, pixels = wrong + sum(frame.expected_wrong for frame in seen), pixels + area
    return Worklist(stored.operator, tuple(regions), tuple(frames), wrong, pixels)


def _scene(
    store_uri: str, operator: str, scene: str, temperature: float, most: int
) -> tuple[list[Region], list[FrameItem], int]:
    """The best regions of a scene, best first, all its frames, and how many pixels these have."""
    regions: list[Region] = []
    frames = []
    pixels = 0
    for frame, used_by, labels, stored in _maps(store_uri, operator, scene):
        confidence = calibrated(stored, temperature) if temperature != 1 else stored
        found = suspect_regions((scene, frame), labels, confidence, used_by)
        regions = heapq.nlargest(most, [*regions, *found], key=lambda region: region.score)
        wrong = float((1 - confidence.astype(np.float64)).sum())
        frames.append(FrameItem(scene, frame, wrong, used_by, wrong * (1 + used_by)))
        pixels += labels.size
    return regions, frames, pixels


def _maps(
    store_uri: str, operator: str, scene: str
) -> Iterator[tuple[str, int, NDArray[np.unsignedinteger], NDArray[np.float32]]]:
    """Frame, how many others use it as a source, label map, confidence."""
    from pipeline.store import decode_confidence, decode_label_map, read_labels

    columns = ["frame", "kind", "height", "width", "label", "confidence", "sources"]
    rows = read_labels(store_uri, columns=columns, scene=scene, operator=operator).to_dict("records")
    used = Counter(source for row in rows for source in set(row["sources"]) - {row["frame"]})
    for row in rows:
        yield row["frame"], used[row["frame"]], decode_label_map(row), decode_confidence(row)


def _items(regions: list[Region], views: dict[str, View], names: dict[int, str]) -> Iterator[RegionItem]:
    from pipeline.trust.same_surface import fold

    for region, also_in in fold(regions, views):
        yield RegionItem(
            scene=region.scene,
            frame=region.frame,
            class_id=region.class_id,
            class_name=names.get(region.class_id, "-"),
            box=region.box,
            pixels=region.pixels.size,
            expected_wrong=region.expected_wrong,
            used_by=region.used_by,
            score=region.score,
            also_in=also_in,
        )


def _views(store_uri: str, source: str, where: tuple[str, str], reader: ReaderConfig | None) -> dict[str, View]:
    """Cameras and depth of a scene's labelled frames; none where `source` lacks the scene, or a frame its depth."""
    from pipeline.evaluation.scene_data import check_sizes, load_views
    from pipeline.readers import load_scene, open_dataset
    from pipeline.store import read_labels
    from schemas.config import ReaderConfig

    operator, scene = where
    reader = reader or ReaderConfig()
    rows = read_labels(store_uri, columns=["frame", "height", "width"], scene=scene, operator=operator)
    sizes = {row["frame"]: (int(row["height"]), int(row["width"])) for row in rows.to_dict("records")}
    for ref in open_dataset(source, reader):
        if ref.id == scene:
            frames = [frame for frame in load_scene(ref, reader).frames if frame.id in sizes]
            check_sizes(scene, frames, [np.broadcast_to(np.uint8(0), sizes[frame.id]) for frame in frames])
            views = load_views(scene, frames)
            return dict(zip([frame.id for frame in frames], views, strict=True)) if views else {}
    return {}
