"""The lift as a user gets it: planned chunks through the `Labeler`, with depth that is found once and used again."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch

from lift3d_model import Depths, Lift3D, Lifted, LiftSettings
from pipeline.benchmark.scenes import BenchScene
from pipeline.labeler import Labeler
from pipeline.lifting import lift_settings
from pipeline.plan import plan_scene
from pipeline.survey import weights_sha256
from schemas.config import EngineConfig, LabelingConfig, LiftConfig, OperatorConfig, PlanConfig
from schemas.errors import DatasetError

if TYPE_CHECKING:
    from torch import Tensor

    from lift3d_model.views import Views
    from pipeline.protocols import Operator
    from schemas.record import LabelRecord
    from schemas.scene import Chunk

LARGEST_CHUNK = 128
"""Target frames a chunk: whole scenes, so that depth is found once a view. Labels do not depend on it."""
REMEMBERED = 2
"""Sets of depths that are kept."""

Change = Callable[[LiftSettings], LiftSettings]


@dataclass(frozen=True, slots=True)
class Variant:
    """A way to lift.

    Attributes:
        lift: the config's section.
        change: what is done to the model's settings on top of it (ablations).
    """

    lift: LiftConfig
    change: Change | None = None

    def settings(self) -> LiftSettings:
        """The model's settings."""
        settings = lift_settings(self.lift)
        return self.change(settings) if self.change else settings

    def key(self) -> dict[str, Any]:
        """Everything that tells variants apart, as plain values."""
        return {"lift": self.lift.model_dump(mode="json"), "settings": repr(self.settings())} | {
            "checkpoint": checkpoint(self.lift)
        }


def checkpoint(lift: LiftConfig) -> str | None:
    """Digest of the lift's checkpoint, None for the analytic lift."""
    return None if lift.weights == "none" else weights_sha256(lift)


@dataclass(slots=True)
class Memory:
    """Depths by what they were found from, the latest few."""

    known: OrderedDict[str, tuple[frozenset[int], Depths]] = field(default_factory=OrderedDict)

    def find(self, key: str, needed: Sequence[int], work: Callable[[], Depths]) -> Depths:
        """The depths of `key`, worked out where they are not there or lack a view that is needed."""
        if key not in self.known or not self.known[key][0].issuperset(needed):
            self.known[key] = frozenset(needed), work()
        self.known.move_to_end(key)
        while len(self.known) > REMEMBERED:
            self.known.popitem(last=False)
        return self.known[key][1]


class WatchedLift3D(Lift3D):
    """The same lift, whose depths are remembered and whose features can be looked at.

    Attributes:
        geometry: the depths that each novel target was lifted with, by the order of targets.
        lifted: what was lifted for each target, in that order. Both are kept only where `watch` is set.
    """

    def __init__(self, settings: LiftSettings, memory: Memory, *, watch: bool = False) -> None:
        super().__init__(settings)
        self._memory, self._watch = memory, watch
        self.geometry: list[Depths] = []
        self.lifted: list[Lifted] = []

    def depths(
        self,
        views: Views,
        sensor: Tensor,
        measured: Sequence[bool],
        sources: Sequence[Sequence[int]],
        needed: Sequence[int],
    ) -> Depths:
        """Stage I, remembered."""
        asked = repr([self.settings.sweep, list(measured), [tuple(s) for s in sources]])
        digest = hashlib.sha256(asked.encode())
        for tensor in (views.images, views.K, views.world_from_cam, views.sizes, sensor):
            digest.update(tensor.contiguous().cpu().numpy().data)
        find = super().depths
        return self._memory.find(digest.hexdigest(), needed, lambda: find(views, sensor, measured, sources, needed))

    def rendered(self, depths: Depths, views: Views, target: int, sources: Sequence[int]) -> Depths:
        """Novel view's depth, looked at."""
        found = super().rendered(depths, views, target, sources)
        if self._watch:
            self.geometry.append(found)
        return found

    def lift_features(
        self, views: Views, depths: Depths, features: Tensor, stride: float, target: int, sources: Sequence[int]
    ) -> Lifted:
        """Features, looked at."""
        lifted = super().lift_features(views, depths, features, stride, target, sources)
        if self._watch:
            self.lifted.append(lifted)
        return lifted


def config_of(bench: BenchScene, operator: OperatorConfig, lift: LiftConfig) -> LabelingConfig:
    """The config of a run over the scene; nothing is stored."""
    return LabelingConfig(
        source=bench.id,
        store="none",
        reader=bench.reader,
        operator=operator,
        lift=lift,
        plan=PlanConfig(chunk=LARGEST_CHUNK),
        engine=EngineConfig(kind="local", device="cpu"),
    )


def lift_targets(
    bench: BenchScene, config: LabelingConfig, model: Lift3D, operator: Operator | None = None
) -> list[LabelRecord]:
    """Records of the scene's target views, in order. Raises `DatasetError` where a target is quarantined."""
    torch.set_num_threads(1)
    labeler = Labeler(config, operator, model)
    records: dict[str, LabelRecord] = {}
    for chunk in target_chunks(bench, config):
        result = labeler.label(chunk)
        if result.quarantined:
            row = result.quarantined[0]
            raise DatasetError(f"{row.stage} failed: {row.message}", scene=bench.id, frame=row.frame)
        records |= {record.frame.id: record for record in result.records}
    return [records[bench.frames[target].id] for target in bench.targets]


def target_chunks(bench: BenchScene, config: LabelingConfig) -> tuple[Chunk, ...]:
    """The work that makes the target views' labels and no others: the planner is told that the others are done."""
    planned = {bench.frames[target].id for target in bench.planned}
    marks = plan_scene(bench.scene, config, "benchmark", {}).fingerprints
    others = {frame: mark for frame, mark in marks.items() if frame not in planned}
    wanted = {bench.frames[target].id for target in bench.targets}
    return tuple(_only(chunk, wanted) for chunk in plan_scene(bench.scene, config, "benchmark", others).chunks)


def _only(chunk: Chunk, wanted: set[str]) -> Chunk:
    kept = [k for k, frame in enumerate(chunk.target_ids) if frame in wanted]
    targets = tuple(chunk.targets[k] for k in kept)
    return replace(chunk, targets=targets, fingerprints=tuple(chunk.fingerprints[k] for k in kept))
