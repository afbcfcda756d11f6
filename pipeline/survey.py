"""What a run would do: every scene read and planned against what the store holds already. Writes nothing."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.fingerprint import model_fingerprint
from pipeline.lift_weights import weights_sha256
from pipeline.lifting import corrects_sources
from pipeline.plan import ScenePlan, plan_scene
from schemas.config import LabelingConfig
from schemas.errors import DatasetError, FrameError, Reason
from schemas.record import QuarantineRecord
from schemas.scene import Chunk, SceneRef

if TYPE_CHECKING:
    from pipeline.protocols import Operator
    from pipeline.store import Store

THREADS = 8
"""Scenes that are read at once: waiting for storage, mostly."""


@dataclass(frozen=True, slots=True)
class Survey:
    """A run before it starts.

    Attributes:
        operator: built on the CPU, for its kind, label set and fingerprint.
        slug: its name in the store.
        weights_sha256: of the lift's checkpoint, None for the analytic lift.
        plans: one a readable scene, most work first.
        unreadable: a row for each scene that could not be read at all.
    """

    operator: Operator
    slug: str
    weights_sha256: str | None
    plans: tuple[ScenePlan, ...]
    unreadable: tuple[QuarantineRecord, ...]

    @property
    def chunks(self) -> list[Chunk]:
        """All work, in the order in which it is handed out."""
        return [chunk for plan in self.plans for chunk in plan.chunks]

    @property
    def targets(self) -> int:
        """Frames to label."""
        return sum(plan.targets for plan in self.plans)

    @property
    def resumed(self) -> int:
        """Frames whose label is in the store already."""
        return sum(len(plan.resumed) for plan in self.plans)

    def set_aside(self, plan: ScenePlan) -> list[QuarantineRecord]:
        """Rows for the frames of a scene that its reader set aside."""
        return [
            QuarantineRecord(plan.scene, issue.frame, self.slug, "read", issue.reason, issue.message)
            for issue in plan.issues
        ]


def survey(config: LabelingConfig, store: Store) -> Survey:
    """Read and plan every scene that the config selects.

    Raises `DatasetError` where there is no scene, none can be read or none has a usable frame, and whatever building
    the operator raises.
    """
    from pipeline.operators import build_operator
    from pipeline.readers import load_scene, open_dataset
    from pipeline.store import operator_slug

    refs = open_dataset(config.source, config.reader)
    operator = build_operator(config.operator.spec, config.operator.kwargs, "cpu")
    slug = operator_slug(config.operator.spec)
    weights = weights_sha256(config.lift)
    model = model_fingerprint(config.lift, operator.fingerprint(), weights)
    done = store.done_all(slug)

    def plan(ref: SceneRef) -> ScenePlan:
        corrects = corrects_sources(operator.kind, config.lift)
        return plan_scene(load_scene(ref, config.reader), config, model, done.get(ref.id, {}), corrects=corrects)

    def look_at(ref: SceneRef) -> ScenePlan | QuarantineRecord:
        """A scene that cannot be read costs a quarantine row, not the run."""
        try:
            return plan(ref)
        except DatasetError as error:
            reason = error.reason if isinstance(error, FrameError) else Reason.SCENE_UNREADABLE
            return QuarantineRecord(ref.id, None, slug, "read", reason, str(error))

    with ThreadPoolExecutor(THREADS) as threads:
        found = list(threads.map(look_at, refs))
    plans = sorted((p for p in found if isinstance(p, ScenePlan)), key=lambda plan: (-plan.targets, plan.scene))
    unreadable = tuple(row for row in found if isinstance(row, QuarantineRecord))
    _check_frames(config.source, plans, unreadable)
    return Survey(operator, slug, weights, tuple(plans), unreadable)


def _check_frames(source: str, plans: list[ScenePlan], unreadable: tuple[QuarantineRecord, ...]) -> None:
    """Refuse a run that has nothing to label and nothing to resume."""
    if any(plan.frames for plan in plans):
        return
    issues = [issue.message for plan in plans for issue in plan.issues]
    examples = [row.message for row in unreadable] + issues
    raise DatasetError(
        f"{source!r} has no usable frame: {len(unreadable)} of {len(plans) + len(unreadable)} scenes cannot be read, "
        f"{len(issues)} frames were set aside{f' (the first: {examples[0]})' if examples else ''}",
        remedy="`lift3d inspect SOURCE` says why for each frame",
    )
