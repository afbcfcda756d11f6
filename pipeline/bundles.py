"""What a worker gets at once: the chunks of all operators of a run that look at the same views of a scene.

Each stays a unit of its own, committed before the next one begins; what does not depend on the operator is worked out
once for all of them (`pipeline/shared.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from pipeline.plan import ScenePlan
from schemas.scene import Chunk


@dataclass(frozen=True, slots=True)
class Unit:
    """A chunk, and the operator that labels it: its position among those of the run."""

    operator: int
    chunk: Chunk


Bundle = tuple[Unit, ...]


def bundled(plans: Sequence[Sequence[ScenePlan]], size: int) -> list[Bundle]:
    """All work of a run, in the order in which it is handed out: scenes with most of it first.

    Args:
        plans: of each operator, the plans of its scenes.
        size: target frames a chunk, `plan.chunk`: chunks of one place on that grid belong together.
    """
    if len(plans) == 1:
        return [(Unit(0, chunk),) for plan in plans[0] for chunk in plan.chunks]
    scenes: dict[str, list[Unit]] = {}
    for operator, own in enumerate(plans):
        for plan in own:
            scenes.setdefault(plan.scene, []).extend(Unit(operator, chunk) for chunk in plan.chunks)
    ordered = sorted(scenes.items(), key=lambda scene: (-sum(map(_targets, scene[1])), scene[0]))
    return [bundle for _, units in ordered for bundle in _by_place(units, size)]


def _by_place(units: list[Unit], size: int) -> list[Bundle]:
    """The units of a scene by their place on the grid; of one place those that begin at the same frame side by side."""
    in_order = sorted(units, key=lambda unit: (int(unit.chunk.name), unit.operator))
    return [tuple(of_place) for _, of_place in groupby(in_order, key=lambda unit: int(unit.chunk.name) // size)]


def _targets(unit: Unit) -> int:
    return len(unit.chunk.targets)
