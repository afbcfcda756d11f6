"""The lift as a user gets it: planned chunks through the `Labeler`, with depth that is found once and used again."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from lift3d_model import Depths, Lift3D, Lifted, LiftSettings
from lift3d_model.evidence import Evidence
from pipeline.benchmark.scenes import BenchScene
from pipeline.labeler import Labeler
from pipeline.lift_weights import load_weights, weights_sha256
from pipeline.lifting import lift_settings
from pipeline.plan import plan_scene
from schemas.config import EngineConfig, LabelingConfig, LiftConfig, OperatorConfig, PlanConfig
from schemas.errors import DatasetError

if TYPE_CHECKING:
    from torch import Tensor

    from lift3d_model.checkpoint import Checkpoint
    from lift3d_model.density import Sweep
    from lift3d_model.views import Views
    from pipeline.protocols import Operator
    from schemas.record import LabelRecord
    from schemas.scene import Chunk

LARGEST_CHUNK = 128
"""Target frames a chunk: whole scenes, so that depth is found once a view. Labels do not depend on it."""
REMEMBERED = 2
"""Sets of depths that are kept."""

MOST_SOURCES = 64
"""What `lift.sources` may be at most."""

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

    def model(self, memory: Memory, look: Callable[[Seen], None] | None = None) -> WatchedLift3D:
        """The model. Raises `MissingWeightsError` where its checkpoint cannot be read."""
        checkpoint, digest = load_weights(self.lift)
        return WatchedLift3D(self.settings(), checkpoint, Remembering(memory, digest), look)

    def key(self) -> dict[str, Any]:
        """Everything that tells variants apart, as plain values."""
        lift = self.lift.model_dump(mode="json")
        return {"lift": lift, "settings": repr(self.settings()), "checkpoint": weights_sha256(self.lift)}


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


class Remembering(NamedTuple):
    """Where depths are remembered, and the digest of the checkpoint that they depend on."""

    memory: Memory
    checkpoint: str | None


@dataclass(frozen=True, slots=True)
class Seen:
    """One call of `lift_features`: its arguments (see there) and what came of it."""

    views: Views
    depths: Depths
    features: Tensor
    stride: float
    target: int
    sources: tuple[int, ...]
    lifted: Lifted


class WatchedLift3D(Lift3D):
    """The same lift, whose depths are remembered and whose features can be looked at.

    Args:
        look: called with everything that features are lifted from and what comes of it, target by target.
    """

    def __init__(
        self,
        settings: LiftSettings,
        checkpoint: Checkpoint | None,
        remembering: Remembering,
        look: Callable[[Seen], None] | None = None,
    ) -> None:
        super().__init__(settings, checkpoint)
        self._remembering, self._look = remembering, look

    def depths(
        self,
        views: Views,
        sensor: Tensor,
        measured: Sequence[bool],
        sources: Sequence[Sequence[int]],
        needed: Sequence[int],
        known: Mapping[int, Sweep] | None = None,
    ) -> Depths:
        """Stage I, remembered."""
        memory, checkpoint = self._remembering
        asked = repr([checkpoint, self.settings.sweep, list(measured), [tuple(s) for s in sources]])
        digest = hashlib.sha256(asked.encode())
        for tensor in (views.images, views.K, views.world_from_cam, views.sizes, sensor):
            digest.update(tensor.contiguous().cpu().numpy().data)
        find = super().depths
        return memory.find(digest.hexdigest(), needed, lambda: find(views, sensor, measured, sources, needed, known))

    def lift_features(
        self,
        views: Views,
        depths: Depths,
        features: Tensor,
        stride: float,
        target: int,
        sources: Sequence[int],
        witnesses: Evidence | None = None,
    ) -> Lifted:
        """Features, looked at."""
        lifted = super().lift_features(views, depths, features, stride, target, sources, witnesses)
        if self._look:
            self._look(Seen(views, depths, features, stride, target, tuple(sources), lifted))
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
            raise DatasetError(f"{result.quarantined[0].stage} failed: {result.quarantined[0].message}")
        records |= {record.frame.id: record for record in result.records}
    return [records[bench.frames[target].id] for target in bench.targets]


def target_chunks(bench: BenchScene, config: LabelingConfig) -> tuple[Chunk, ...]:
    """The work that makes the target views' labels and no others: the planner is told that the others are done."""
    spare = len(bench.targets) if bench.held_out else 0
    sources = config.lift.sources
    lift = config.lift.model_copy(update={"sources": min(sources + spare, MOST_SOURCES)})
    wider = config.model_copy(update={"lift": lift})
    planned = {bench.frames[target].id for target in bench.planned}
    marks = plan_scene(bench.scene, wider, "benchmark", {}).fingerprints
    others = {frame: mark for frame, mark in marks.items() if frame not in planned}
    wanted = {bench.frames[target].id for target in bench.targets}
    chunks = [_only(chunk, wanted) for chunk in plan_scene(bench.scene, wider, "benchmark", others).chunks]
    return tuple(_unseen(chunk, sources) for chunk in chunks) if bench.held_out else tuple(chunks)


def _only(chunk: Chunk, wanted: set[str]) -> Chunk:
    kept = [k for k, frame in enumerate(chunk.target_ids) if frame in wanted]
    targets = tuple(chunk.targets[k] for k in kept)
    return replace(chunk, targets=targets, fingerprints=tuple(chunk.fingerprints[k] for k in kept))


def _unseen(chunk: Chunk, sources: int) -> Chunk:
    """The same work with no target among any view's sources, not even those that a source's depth comes from."""
    others = (tuple(view for view in views if view not in chunk.targets) for views in chunk.sources)
    return replace(chunk, sources=tuple(views[:sources] for views in others))
