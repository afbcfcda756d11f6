"""Part a: labels with noise, and clean ones, lifted: beside raw, nearest-view warp and voting on the same labels."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.benchmark.cells import Cells
from pipeline.benchmark.competitors import compete
from pipeline.benchmark.lifts import Memory, Variant, config_of, lift_targets
from pipeline.benchmark.noise import noise_rng, spoil_view
from pipeline.benchmark.options import CLEAN, Options
from pipeline.benchmark.scenes import BenchScene
from pipeline.benchmark.scores import score_lifted, score_rows
from pipeline.evaluation.label_space import LabelSpace, label_space
from schemas.config import LiftConfig, OperatorConfig
from schemas.label_sets import label_set

Ids = NDArray[np.unsignedinteger]
SET = "nyu40"


def measure_labels(bench: BenchScene, options: Options, cells: Cells, memory: Memory) -> None:
    """Every cell of part a for one scene: the competitors at all noise levels, then the lift."""
    levels = (CLEAN, *options.noise)
    key = {"targets": bench.targets, "sources": options.sources, "noise": levels}
    labels = {"group": bench.group, "scene": bench.id, "what": "competitors"}
    cells.measure("a", labels, key, lambda: _competitors(bench, levels, options.sources))
    for mode in options.geometries(bench):
        for case in options.cases():
            lift = LiftConfig(method=mode, sources=case.sources, weights=case.weights)
            measure_lift(bench, cells, LabelCase("a", mode, case.name, case.level, Variant(lift)), memory)


@dataclass(frozen=True, slots=True)
class LabelCase:
    """One cell of lifted labels: part, geometry, name of the variant, noise level, how it is lifted."""

    part: str
    mode: str
    name: str
    level: float
    variant: Variant


def measure_lift(bench: BenchScene, cells: Cells, case: LabelCase, memory: Memory) -> dict[str, Any]:
    """One cell: a scene's spoiled labels, lifted and scored."""
    labels: dict[str, Any] = {"group": bench.group, "scene": bench.id, "what": case.name, "mode": case.mode}
    labels |= {"sources": case.variant.lift.sources, "noise": case.level}
    key = {"targets": bench.targets, **case.variant.key()}
    return cells.measure(case.part, labels, key, lambda: _lifted(bench, case, memory))


def _competitors(bench: BenchScene, levels: tuple[float, ...], sources: tuple[int, ...]) -> dict[str, Any]:
    space = noisy_space()
    variants = {str(level): [space.prediction(ids) for ids in spoiled(bench, level)] for level in levels}
    found = compete(bench.views, variants, len(space.labels.ids), bench.targets, sources)
    truth, views = target_truth(bench, space)
    return {level: score_rows(truth, rows, space.labels, views) for level, rows in found.items()}


def _lifted(bench: BenchScene, case: LabelCase, memory: Memory) -> dict[str, Any]:
    space = noisy_space()
    truth, views = target_truth(bench, space)
    with written(bench, case.level) as folder:
        operator = OperatorConfig(spec=f"precomputed:{folder}", kwargs={"label_set": SET})
        model = case.variant.model(memory)
        records = lift_targets(bench, config_of(bench, operator, case.variant.lift), model)
    maps = [space.prediction(record.value) for record in records]
    return score_lifted(truth, maps, [record.confidence for record in records], space.labels, views)


def spoiled(bench: BenchScene, level: float) -> list[Ids]:
    """V maps of the scene's true labels with noise."""
    if level == CLEAN:
        return bench.truth
    views = zip(bench.frames, bench.truth, bench.objects, strict=True)
    return [
        spoil_view(truth, objects, bench.classes, level, noise_rng(bench.id, frame.id, level))
        for frame, truth, objects in views
    ]


@contextmanager
def written(bench: BenchScene, level: float) -> Iterator[Path]:
    """A folder that holds the scene's spoiled labels as the operator `precomputed` reads them."""
    with TemporaryDirectory(prefix="lift3d-benchmark-") as folder:
        for frame, ids in zip(bench.frames, spoiled(bench, level), strict=True):
            path = Path(folder) / bench.id / f"{frame.id}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(cv2.imencode(".png", ids.astype(np.uint8))[1].tobytes())
        yield Path(folder)


def noisy_space() -> LabelSpace:
    """The classes of labels with noise: those of the truth."""
    return label_space(label_set(SET), label_set(SET))


def target_truth(bench: BenchScene, space: LabelSpace) -> tuple[list[Ids], Any]:
    """Truth as class indices and views with depth (None without any), of the measured views."""
    truth = [space.truth(bench.truth[target]) for target in bench.targets]
    has_depth = all(frame.depth for frame in bench.frames)
    return truth, [bench.views[target] for target in bench.targets] if has_depth else None
