"""Labels of a store against ground truth, beside the raw prediction and the depth baselines on the same frames."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from pipeline.evaluation.boundary import tolerance_px
from pipeline.evaluation.label_space import LabelSpace, label_space
from pipeline.evaluation.metrics import Counts, summarise
from pipeline.evaluation.raw_labels import StoredLabels, raw_labels, stored_labels
from pipeline.evaluation.result import Evaluation, Row
from pipeline.evaluation.scene_data import (
    Truth,
    check_sizes,
    load_confidence,
    load_labels,
    load_truth,
)
from pipeline.evaluation.scene_scores import LIFTED, ROWS, Candidates, Progress, score_scene
from schemas.config import ReaderConfig
from schemas.errors import DatasetError
from schemas.label_sets import label_set
from schemas.scene import Frame, SceneRef

GROUND_TRUTH_SET = "nyu40"


def silent(what: str, done: int, total: int) -> None:
    """The progress callback that reports nothing."""


@dataclass(frozen=True, slots=True)
class _Task:
    """What stays the same from scene to scene."""

    store: str
    raw_store: str | None
    ground_truth: str
    stored: StoredLabels
    space: LabelSpace
    reader: ReaderConfig
    vote_views: int | None
    progress: Progress


@dataclass(frozen=True, slots=True, eq=False)
class _SceneResult:
    counts: dict[str, Counts]
    truth: Truth
    frames: tuple[Frame, ...]
    left_out: int


def evaluate(
    store_uri: str,
    gt: str,
    *,
    operator: str | None = None,
    raw_store: str | None = None,
    reader: ReaderConfig | None = None,
    baselines: bool = True,
    vote_views: int | None = None,
    progress: Progress = silent,
) -> Evaluation:
    """Score a store's class labels.

    Args:
        store_uri: label store.
        gt: dataset or scene with ground truth (NYU40 ids) and, for baselines and consistency, depth.
        operator: slug of the operator to evaluate, where the store holds several.
        raw_store: store with the raw predictions; made in `<store>/_raw` (and kept) where absent.
        reader: how `gt` is read.
        baselines: whether to compare with the raw prediction, nearest-view warp and z-test voting.
        vote_views: vote over this many nearest views only; None: over all.
        progress: called as the work goes on.

    Raises:
        ConfigError: labels that are no classes, or of several operators.
        DatasetError: no ground truth for any labelled frame, or another label space.
    """
    from pipeline.readers import open_dataset

    reader = reader or ReaderConfig()
    stored = stored_labels(store_uri, operator)
    space = label_space(stored.label_set, label_set(GROUND_TRUTH_SET))
    refs = [ref for ref in open_dataset(gt, reader) if ref.id in stored.frames]
    if not refs:
        raise _no_ground_truth(gt, store_uri, stored)
    raw = raw_labels(store_uri, stored, raw_store)[0] if baselines else None
    task = _Task(store_uri, raw, gt, stored, space, reader, vote_views, progress)
    results = {ref.id: _evaluate_scene(task, ref) for ref in refs}
    scored = {scene: result for scene, result in results.items() if result.counts[LIFTED].images}
    if not scored:
        raise _no_ground_truth(gt, store_uri, stored)
    return _assemble(task, scored)


def _no_ground_truth(gt: str, store_uri: str, stored: StoredLabels) -> DatasetError:
    frames = sum(map(len, stored.frames.values()))
    return DatasetError(
        f"{gt} has no ground-truth labels for any of the {frames} labelled frames of {store_uri} "
        f"(scenes {', '.join(sorted(stored.frames)[:5])})",
        remedy="give the dataset that was labelled, with its label files",
    )


def _evaluate_scene(task: _Task, ref: SceneRef) -> _SceneResult:
    from pipeline.readers import load_scene

    def progress(what: str, done: int, total: int) -> None:
        task.progress(f"{ref.id}: {what}", done, total)

    where = (task.stored.operator, ref.id)
    lifted = load_labels(task.store, *where, task.space)
    raw = load_labels(task.raw_store, *where, task.space) if task.raw_store else None
    known = lifted.keys() if raw is None else lifted.keys() & raw.keys()
    frames = tuple(frame for frame in load_scene(ref, task.reader).frames if frame.id in known)
    ids = [frame.id for frame in frames]
    confidence = load_confidence(task.store, *where)
    candidates = Candidates(
        [lifted[i] for i in ids], [confidence[i] for i in ids], None if raw is None else [raw[i] for i in ids]
    )
    for labels in filter(None, (candidates.lifted, candidates.raw)):
        check_sizes(ref.id, frames, labels)
    truth = load_truth(ref.id, frames, task.space, task.reader)
    counts = score_scene(candidates, truth, len(task.space.labels.ids), task.vote_views, progress)
    return _SceneResult(counts, truth, frames, len(lifted) - len(frames))


def _assemble(task: _Task, scenes: dict[str, _SceneResult]) -> Evaluation:
    ignored: Counter[str] = Counter()
    for result in scenes.values():
        ignored.update(result.truth.absent_px)
    sizes = sorted({labels.shape[::-1] for result in scenes.values() for labels in result.truth.labels})
    return Evaluation(
        store=task.store,
        raw_store=task.raw_store,
        ground_truth=task.ground_truth,
        operator=task.stored.operator,
        label_set=task.space.labels.name,
        rows={name: _row(name, scenes, task.space) for name in ROWS},
        frames={scene: len(result.frames) for scene, result in scenes.items()},
        frames_left_out={scene: result.left_out for scene, result in scenes.items() if result.left_out},
        ignored_px=dict(sorted(ignored.items())),
        unlabelled_px=sum(result.truth.unlabelled_px for result in scenes.values()),
        boundary_tolerance_px={f"{width}x{height}": tolerance_px(height, width) for width, height in sizes},
        notes=tuple(_notes(task, scenes, ignored)),
    )


def _row(name: str, scenes: dict[str, _SceneResult], space: LabelSpace) -> Row | None:
    """A row over all scenes; None where a scene lacks it, since rows are compared on the same frames only."""
    counts = {scene: result.counts[name] for scene, result in scenes.items() if name in result.counts}
    if len(counts) < len(scenes):
        return None
    overall = summarise(list(counts.values()), space.labels)
    return Row(overall, {scene: summarise([count], space.labels) for scene, count in counts.items()})


def _notes(task: _Task, scenes: dict[str, _SceneResult], ignored: Counter[str]) -> list[str]:
    notes = []
    without_depth = [scene for scene, result in scenes.items() if result.truth.views is None]
    unscored = sorted(task.stored.frames.keys() - scenes.keys())
    if ignored:
        notes.append(
            f"{ignored.total()} ground-truth pixels are not scored: label set {task.space.labels.name!r} lacks "
            f"{', '.join(sorted(ignored))}"
        )
    if without_depth:
        notes.append(
            f"no depth in {', '.join(without_depth)}: the depth baselines are null, and consistency is over the other "
            f"scenes"
        )
    if unscored:
        notes.append(f"labelled scenes without ground truth are left out: {', '.join(unscored)}")
    if any(result.left_out for result in scenes.values()):
        notes.append("some labelled frames are left out: the ground-truth source or the raw labels lack them")
    if task.vote_views is not None:
        notes.append(f"z-test voting is over the {task.vote_views} nearest views")
    if task.raw_store is not None and not without_depth:
        notes.append("the depth baselines use the ground-truth source's depth, whatever lifting used")
    return notes
