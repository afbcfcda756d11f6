"""Why a run would label what it would label: for each frame the first thing that differs from what the store holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from pipeline.fingerprint import PARTS
from pipeline.plan import ScenePlan
from pipeline.survey import Survey, quarantine_reasons, surveys
from schemas.config import LabelingConfig

if TYPE_CHECKING:
    from pipeline.store import Store

NEW, SOURCE, UNTOLD = "new", "a source view changed", "changed, the store does not say what"
REASONS = {
    "contract": "this version labels otherwise",
    "operator": "operator changed",
    "settings": "settings changed",
    "checkpoint": "lift checkpoint changed",
    "camera": "camera changed",
    "image": "image changed",
    "depth": "depth map changed",
    "sources": "other source views",
}
"""What is said where a part of a fingerprint differs, in the order of `PARTS`."""
SHOWN = 8
"""Frames that are named a reason."""


@dataclass(frozen=True, slots=True)
class SceneReasons:
    """What would be done in a scene, and why.

    Attributes:
        scene: its id.
        resumed: frames whose label is as it should be.
        chunks: units of work.
        held: frames that ended their worker before and are not tried again.
        set_aside: frames that its reader cannot use.
        reasons: why -> the frames to label for it, in the dataset's order.
        operator: by which operator, by its name in the store.
    """

    scene: str
    resumed: int
    chunks: int
    held: int
    set_aside: int
    reasons: dict[str, list[str]]
    operator: str = ""

    def __str__(self) -> str:
        todo = sum(map(len, self.reasons.values()))
        lines = [f"{self.scene}: {todo} to label in {self.chunks} chunks, {self.resumed} as they should be"]
        lines += [f"    {len(frames)} {why}: {_listed(frames)}" for why, frames in self.reasons.items()]
        if self.held:
            lines.append(f"    {self.held} ended their worker before and are left alone (--retry-quarantined)")
        if self.set_aside:
            lines.append(f"    {self.set_aside} cannot be used (lift3d inspect says why)")
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """As JSON types."""
        return asdict(self)


def explain_plan(config: LabelingConfig, *, only_quarantined: bool = False) -> list[SceneReasons]:
    """What `run_labeling` would do and why, scene by scene, most work first. Writes nothing, starts no engine."""
    from pipeline.store import Store

    store = Store(config.store)
    store.check_version()
    found = surveys(config, store, only_quarantined=only_quarantined)
    return [why for one in found for why in _of_operator(one, store)]


def _of_operator(found: Survey, store: Store) -> list[SceneReasons]:
    parts, quarantined = store.parts_all(found.slug), quarantine_reasons(store.uri, found.slug)
    return [replace(_reasons(plan, parts, quarantined), operator=found.slug) for plan in found.plans]


def _reasons(
    plan: ScenePlan, parts: Mapping[str, Mapping[str, str]], quarantined: Mapping[str, Mapping[str | None, str]]
) -> SceneReasons:
    stored, rows = parts.get(plan.scene, {}), quarantined.get(plan.scene, {})
    reasons: dict[str, list[str]] = {}
    for chunk in plan.chunks:
        for frame, now in zip(chunk.target_ids, chunk.parts, strict=True):
            reasons.setdefault(_reason(now, stored.get(frame), rows.get(frame)), []).append(frame)
    return SceneReasons(
        plan.scene, len(plan.resumed), len(plan.chunks), len(plan.held), len(plan.issues), dict(sorted(reasons.items()))
    )


def _reason(now: str, before: str | None, row: str | None) -> str:
    if row is not None:
        return f"in quarantine ({row})"
    if before is None:
        return NEW
    told = before.split("-")
    if len(told) != len(PARTS):
        return UNTOLD
    differing = [part for part, old, new in zip(PARTS, told, now.split("-"), strict=True) if old != new]
    return REASONS[differing[0]] if differing else SOURCE


def _listed(frames: list[str]) -> str:
    more = f" and {len(frames) - SHOWN} more" if len(frames) > SHOWN else ""
    return ", ".join(frames[:SHOWN]) + more
