"""Part b: real operators on scenes with ground truth, lifted, beside baselines on their own predictions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

from pipeline.benchmark.catalogue import LABELLERS, Entry, TruthSpace, truth_space
from pipeline.benchmark.cells import Cells
from pipeline.benchmark.competitors import compete
from pipeline.benchmark.lifts import Memory, Variant, WatchedLift3D, config_of, lift_targets
from pipeline.benchmark.options import ANALYTIC, LIFT, NO_WEIGHTS, WEIGHTS, Options
from pipeline.benchmark.scenes import BenchScene
from pipeline.benchmark.scores import score_lifted, score_rows
from schemas.config import LiftConfig, OperatorConfig

if TYPE_CHECKING:
    from pipeline.protocols import Operator
    from schemas.record import LabelRecord

Build = Callable[[], "Operator"]


def measure_operators(bench: BenchScene, options: Options, cells: Cells, memory: Memory) -> None:
    """Every cell of part b for one scene; an operator is built only where a cell of its is missing."""
    for entry in LABELLERS:
        build = cache(lambda entry=entry: entry.build(options.weights))
        measure_entry(bench, entry, build, options, cells, memory)


def measure_entry(
    bench: BenchScene, entry: Entry, build: Build, options: Options, cells: Cells, memory: Memory
) -> None:
    """Every cell of one operator on one scene; one that cannot be built is reported in each of them."""
    sources = options.usual_sources
    labels: dict[str, Any] = {"group": bench.group, "scene": bench.id, "operator": entry.title}
    key = {"targets": bench.targets, "sources": sources, **entry.key()}
    cells.measure("b", labels | {"what": "competitors"}, key, lambda: _competitors(bench, build(), sources))
    for mode in options.geometries(bench):
        for name, weights in ((ANALYTIC, NO_WEIGHTS), (LIFT, WEIGHTS)):
            variant = Variant(LiftConfig(method=mode, sources=sources, weights=weights))
            case = labels | {"what": name, "mode": mode, "sources": sources}
            work = _Lifting(bench, build, variant, memory)
            cells.measure("b", case, key | variant.key(), work)


class _Lifting:
    """One cell's work: the operator's predictions, lifted and scored."""

    def __init__(self, bench: BenchScene, build: Build, variant: Variant, memory: Memory) -> None:
        self._bench, self._build, self._variant, self._memory = bench, build, variant, memory

    def __call__(self) -> dict[str, Any]:
        operator, bench = self._build(), self._bench
        model = self._variant.model(self._memory)
        records = _records(bench, operator, self._variant.lift, model)
        space, truth = _truth(bench, operator)
        maps = [space.space.prediction(record.value) for record in records]
        views = [bench.views[target] for target in bench.targets] if "depth" in bench.modes else None
        return score_lifted(truth, maps, [record.confidence for record in records], space.space.labels, views)


def _competitors(bench: BenchScene, operator: Operator, nearest: int) -> dict[str, Any]:
    """Scores of raw predictions and of what can be made of them, by row."""
    everything = tuple(range(len(bench.frames)))
    lift = LiftConfig(method="none")
    model = Variant(lift).model(Memory())
    records = _records(replace(bench, targets=everything, planned=everything), operator, lift, model)
    space, truth = _truth(bench, operator)
    raw = [space.space.prediction(record.value) for record in records]
    classes = len(space.space.labels.ids)
    found = compete(bench.views, {"": raw}, classes, bench.targets, (nearest,))[""]
    return score_rows(truth, found, space.space.labels, [bench.views[target] for target in bench.targets])


def _records(bench: BenchScene, operator: Operator, lift: LiftConfig, model: WatchedLift3D) -> list[LabelRecord]:
    config = config_of(bench, OperatorConfig(spec=operator.name, batch_size=1), lift)
    return lift_targets(bench, config, model, operator)


def _truth(bench: BenchScene, operator: Operator) -> tuple[TruthSpace, list[Any]]:
    assert operator.label_set is not None
    space = truth_space(operator.label_set)
    return space, [space.truth(bench.truth[target]) for target in bench.targets]
