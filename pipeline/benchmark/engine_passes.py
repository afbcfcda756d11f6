"""What operators of one pass share, in wall time: three in one pass beside three runs, and a third that comes later."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING

from pipeline.benchmark.engine_case import EngineCase, measure
from pipeline.benchmark.engine_parts import rounds_of, sample_rooms, spread
from pipeline.benchmark.table import Cell, Table

if TYPE_CHECKING:
    from pipeline.benchmark.engine import Bench

ADDED = "indoor", "edges"
"""Operators beside class maps from files: a small network, and numbers at every pixel."""


@dataclass(frozen=True, slots=True)
class _Walls:
    """Wall seconds of whole processes, and what kept geometry takes a frame.

    Attributes:
        apart: three runs into one store, one an operator; later: the third of them.
        together: one pass.
        kept: the third run where the first one kept its geometry.
        kept_bytes: of the geometry, a frame.
    """

    apart: float
    together: float
    later: float
    kept: float
    kept_bytes: float


def passes(bench: Bench) -> list[Table]:
    """Three operators on a room of 24 views, by depth and from RGB; ratios are those of a round."""
    room, rows = replace(sample_rooms(bench, 1), how="local"), list[tuple[Cell, ...]]()
    for method in ("depth", "rgb"):
        found = [
            _walls(replace(room, lift={"method": method}), f"{bench.folder}/{method}-{k}")
            for k in range(rounds_of(bench))
        ]
        apart, together = [one.apart for one in found], [one.together for one in found]
        ratios = [one.together / one.apart for one in found]
        later, kept = [one.later for one in found], [one.kept for one in found]
        size = f"{found[0].kept_bytes / 1e6:.2f}"
        rows.append((method, *map(spread, (apart, together, ratios, later, kept)), size))
    columns = (
        "lift",
        "three runs s",
        "one pass s",
        "of three runs",
        "third operator later s",
        "with kept geometry s",
        "MB a frame",
    )
    return [Table(f"Class maps from files, {' and '.join(ADDED)} in one pass, 24 views, 320x240", columns, tuple(rows))]


def _walls(room: EngineCase, stores: str) -> _Walls:
    """One round: every case in a process of its own, imports and all."""
    spec = room.operator["spec"]
    alone = [room, *(replace(room, operator={"spec": name}) for name in ADDED)]
    every = replace(room, operator={"spec": [spec, *ADDED], "kwargs": {spec: room.operator["kwargs"]}})
    apart = [measure(case.into(f"{stores}-apart")).wall_s for case in alone]
    together = measure(every.into(f"{stores}-together")).wall_s
    first, *_, last = (replace(case, geometry="store").into(f"{stores}-kept") for case in alone)
    measure(first)
    kept = [path.stat().st_size for path in Path(first.store, "geometry").rglob("*.zst")]
    return _Walls(sum(apart), together, apart[-1], measure(last).wall_s, mean(kept) if kept else 0.0)
