"""What a dataset holds, scene by scene, before anything is labelled."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from schemas.config import ReaderConfig
from schemas.scene import Scene, SceneRef
from schemas.text import masked


@dataclass(frozen=True, slots=True)
class SceneSummary:
    """One line of `lift3d inspect`.

    Attributes:
        scene, reader, uri: which scene, read how, from where.
        frames: usable frames.
        sizes: image sizes "WxH" -> frames.
        with_depth, with_labels: usable frames that have a depth map, a ground-truth label map.
        issues: reason -> frames set aside for it.
        examples: reason -> what is wrong with the first such frame.
    """

    scene: str
    reader: str
    uri: str
    frames: int
    sizes: dict[str, int]
    with_depth: int
    with_labels: int
    issues: dict[str, int]
    examples: dict[str, str]


def inspect_dataset(uri: str, config: ReaderConfig) -> list[SceneSummary]:
    """Summaries of every scene that the config selects. No image is decoded.

    Raises:
        DatasetError: nothing that a reader recognises is at `uri`, or a scene cannot be read at all.
    """
    from pipeline.readers import load_scene, open_dataset

    return [_summarise(ref, load_scene(ref, config)) for ref in open_dataset(uri, config)]


def _summarise(ref: SceneRef, scene: Scene) -> SceneSummary:
    examples: dict[str, str] = {}
    for issue in scene.issues:
        examples.setdefault(issue.reason.value, f"frame {issue.frame}: {issue.message}")
    return SceneSummary(
        scene=ref.id,
        reader=ref.reader,
        uri=masked(ref.uri),
        frames=len(scene.frames),
        sizes=dict(Counter(f"{frame.camera.width}x{frame.camera.height}" for frame in scene.frames)),
        with_depth=sum(frame.depth is not None for frame in scene.frames),
        with_labels=sum(frame.label is not None for frame in scene.frames),
        issues=dict(Counter(issue.reason.value for issue in scene.issues)),
        examples=examples,
    )


def table(scenes: Sequence[SceneSummary]) -> str:
    """The summaries as text: one line a scene, then one line a reason for setting frames aside."""
    width = max((len(scene.scene) for scene in scenes), default=5)
    lines = [f"{'scene':<{width}}  {'reader':<10} {'frames':>6} {'depth':>6} {'labels':>6} {'aside':>6}  size"]
    for scene in scenes:
        aside = sum(scene.issues.values())
        lines.append(
            f"{scene.scene:<{width}}  {scene.reader:<10} {scene.frames:>6} {scene.with_depth:>6} "
            f"{scene.with_labels:>6} {aside:>6}  {', '.join(scene.sizes)}"
        )
    lines += [f"{len(scenes)} scenes, {sum(scene.frames for scene in scenes)} usable frames"]
    return "\n".join([*lines, *_issue_lines(scenes)])


def _issue_lines(scenes: Sequence[SceneSummary]) -> list[str]:
    counts: Counter[str] = Counter()
    examples: dict[str, str] = {}
    for scene in scenes:
        counts.update(scene.issues)
        for reason, text in scene.examples.items():
            examples.setdefault(reason, f"{scene.scene}, {text}")
    return [f"set aside: {count} x {reason} (first: {examples[reason]})" for reason, count in counts.most_common()]
