"""What operators of one pass share, in wall time: three in one pass beside three runs, and a third that comes later."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from shutil import copytree
from statistics import mean
from typing import TYPE_CHECKING

from pipeline.benchmark.engine_case import EngineCase, measure
from pipeline.benchmark.engine_parts import rounds_of, sample_rooms, spread
from pipeline.benchmark.table import Cell, Table

if TYPE_CHECKING:
    from pipeline.benchmark.engine import Bench

NETWORKS = "indoor", "edges"
"""Operators beside class maps from files: two networks, whose own work cannot be shared. At full and half precision."""


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
    rows: list[tuple[Cell, ...]] = []
    for name, trio in _trios(bench).items():
        for method in ("depth",) if bench.options.quick else ("depth", "rgb"):
            alone = [replace(case, lift={"method": method}) for case in trio]
            stores = bench.folder / re.sub(r"\W+", "-", f"{name}-{method}")
            found = [_walls(alone, f"{stores}-{k}") for k in range(rounds_of(bench))]
            ratios = [one.together / one.apart for one in found]
            walls = (
                [one.apart for one in found],
                [one.together for one in found],
                ratios,
                [one.later for one in found],
                [one.kept for one in found],
            )
            rows.append((name, method, *map(spread, walls), f"{found[0].kept_bytes / 1e6:.2f}"))
    columns = (
        "operators",
        "lift",
        "three runs s",
        "one pass s",
        "of three runs",
        "third operator later s",
        "with kept geometry s",
        "MB a frame",
    )
    return [Table("Three operators in one pass, 24 views, 320x240", columns, tuple(rows))]


def _trios(bench: Bench) -> Mapping[str, Sequence[EngineCase]]:
    """Class maps from files and two networks, and three times class maps from files: what networks cost left out."""
    room = replace(sample_rooms(bench, 1), how="local")
    given = Path(room.operator["spec"].partition(":")[2])
    first, second, third = (
        replace(room, operator={**room.operator, "spec": f"precomputed:{copytree(given, given.with_name(name))}"})
        for name in ("first", "second", "third")
    )
    files: dict[str, Sequence[EngineCase]] = {"class maps from files": (first, second, third)}
    if bench.options.quick:
        return files
    half = tuple(f"autocast({name})" for name in NETWORKS)
    networks = {
        f"class maps from files, {' and '.join(names)}": (room, *(replace(room, operator={"spec": n}) for n in names))
        for names in (NETWORKS, half)
    }
    return {**networks, **files}


def _together(alone: Sequence[EngineCase]) -> EngineCase:
    """One run with all their operators."""
    specs = [case.operator["spec"] for case in alone]
    kwargs = {case.operator["spec"]: case.operator["kwargs"] for case in alone if "kwargs" in case.operator}
    return replace(alone[0], operator={"spec": specs, "kwargs": kwargs})


def _walls(alone: Sequence[EngineCase], stores: str) -> _Walls:
    """One round: every case in a process of its own, imports and all."""
    apart = [measure(case.into(f"{stores}-apart")).wall_s for case in alone]
    together = measure(_together(alone).into(f"{stores}-together")).wall_s
    first, _, last = (replace(case, geometry="store").into(f"{stores}-kept") for case in alone)
    measure(first)
    kept = [path.stat().st_size for path in Path(first.store, "geometry").rglob("*.zst")]
    return _Walls(sum(apart), together, apart[-1], measure(last).wall_s, mean(kept) if kept else 0.0)
