"""The parts of the engine benchmark: which cases each runs, and the table that they make."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from pipeline.benchmark.engine_case import EngineCase, EngineRun, How
from pipeline.benchmark.engine_data import many_rooms, round_rooms
from pipeline.benchmark.engine_scratch import keeping
from pipeline.benchmark.speed import SAMPLE_ROOM
from pipeline.benchmark.table import Cell, Table
from schemas.errors import ConfigError

if TYPE_CHECKING:
    from pipeline.benchmark.engine import Bench

NAMES: dict[How, str] = {"loop": "plain loop", "local": "--engine local", "ray": "Ray"}
LONG = (200, 2000)
"""Frames of the scenes whose memory is compared."""
SPREAD = {"a": 13000, "b": 2400, "c": 900, "d": 400, "e": 150, "f": 65}
"""Frames of the scenes of one run, of which workers are to be idle as little as possible."""
SHRINK = 16
"""How many times fewer frames, and how many times smaller chunks, stand for them; a frame takes `FRAME_S`."""
FRAME_S = 0.05
BANDS = "pipeline.benchmark.engine_data:Bands"


def overhead(bench: Bench) -> list[Table]:
    """Frames a second of the engines beside the loop: as many processes, one compute thread each."""
    case = sample_rooms(bench, 2 if bench.options.quick else bench.options.rooms)
    columns = ("workers", "", "frames/s of the loop's", "of its processor s", "frames/s", "start-up s", "whole run s")
    rows: list[tuple[Cell, ...]] = []
    for workers in bench.options.workers:
        hows: tuple[How, ...] = ("loop", "local", "ray") if workers == 1 else ("loop", "ray")
        cases = {f"{NAMES[how]}, {workers}": replace(case, how=how, workers=workers) for how in hows}
        runs = bench.rounds(cases, rounds_of(bench))
        loop = next(iter(runs.values()))
        for name, found in runs.items():
            ratios = [a.rate / b.rate if b.rate else 0.0 for a, b in zip(found, loop, strict=True)]
            rates, starts = [one.rate for one in found], [one.startup_s for one in found]
            walls = [one.wall_s for one in found]
            spent = [a.cpu_s / b.cpu_s for a, b in zip(found, loop, strict=True) if a.cpu_s and b.cpu_s]
            row = spread(ratios), spread(spent) if spent else None, *map(spread, (rates, starts, walls))
            rows.append((workers, name.rpartition(",")[0], *row))
    title = f"Steady state, {bench.options.rooms} rooms of 24 views, 320x240, precomputed classes, depth lift"
    return [Table(title, columns, tuple(rows))]


def scratch(bench: Bench) -> list[Table]:
    """A scene of many chunks with scratch space and without, beside the same scene in one chunk; what keeping costs."""
    room = sample_rooms(bench, 1)
    kept = {
        "one chunk": replace(room, how="local", chunk=24),
        "chunks of 2": replace(room, how="local", chunk=2),
        "chunks of 2, no scratch": replace(room, how="local", chunk=2, scratch="none"),
    }
    rows: list[tuple[Cell, ...]] = []
    for method in ("depth", "rgb"):
        cases = {name: replace(case, lift={"method": method}) for name, case in kept.items()}
        runs = bench.rounds(cases, rounds_of(bench))
        base = [_work(one) for one in runs["one chunk"]]
        for name, found in runs.items():
            work = [_work(one) for one in found]
            ratios = [a / b for a, b in zip(work, base, strict=True)]
            rows.append((method, name, spread(ratios), spread(work)))
    columns = ("lift", "", "of one chunk", "worker s")
    table = Table("A scene of 24 views in 12 chunks, with scratch space and without", columns, tuple(rows))
    return [table, keeping(bench.folder, rounds_of(bench))]


def memory(bench: Bench) -> list[Table]:
    """Peak memory of driver and worker by the length of the one scene."""
    lengths = (10, 40) if bench.options.quick else LONG
    size = (24, 32) if bench.options.quick else (120, 160)
    cases = {}
    for frames in lengths:
        source = round_rooms(bench.folder / f"long-{frames}", {"scene": frames}, size)
        cases[str(frames)] = _bands(bench, source, workers=1)
    runs = bench.rounds(cases, 1)
    columns = ("frames", "driver MB", "of the first", "worker MB", "of the first", "frames/s")
    first = runs[str(lengths[0])][0]
    rows: list[tuple[Cell, ...]] = []
    for name, (one,) in runs.items():
        driver, worker = one.driver_mb / first.driver_mb, one.worker_mb / first.worker_mb
        measured = (f"{one.driver_mb:.0f}", f"{driver:.2f}", f"{one.worker_mb:.0f}", f"{worker:.2f}")
        rows.append((int(name), *measured, f"{one.rate:.3g}"))
    title = f"Peak memory by the length of a scene, {size[1]}x{size[0]}, chunks of 32, depth lift, Ray"
    return [Table(title, columns, tuple(rows))]


def makespan(bench: Bench) -> list[Table]:
    """How long workers stand idle where scenes differ two hundredfold in length."""
    shrink = SHRINK * 10 if bench.options.quick else SHRINK
    source = round_rooms(bench.folder / "spread", {name: -(-n // shrink) for name, n in SPREAD.items()}, (8, 12))
    workers = 2
    case = _bands(bench, source, workers=workers, chunk=max(1, 32 // shrink), seconds=FRAME_S, lift={"method": "none"})
    rounds = 1 if bench.options.quick else max(1, bench.options.rounds - 1)
    runs = bench.rounds({"scenes of many lengths": case}, rounds)["scenes of many lengths"]
    ratios = [one.makespan(workers) for one in runs]
    columns = ("scenes, frames (shrunk)", "workers", "chunks", "frames", "from first chunk to last, of ideal")
    lengths = ", ".join(f"{n:,}" for n in SPREAD.values())
    row = (f"{lengths} (1/{shrink})", workers, len(runs[0].spans), runs[0].frames, spread(ratios))
    return [Table("Scenes of many lengths in one run", columns, (row,))]


def sample_rooms(bench: Bench, count: int) -> EngineCase:
    """The sample room several times, and predictions of it that are wrong differently in every view."""
    from pipeline.evaluation.spoil import spoil_room

    scenes = sorted(path for path in SAMPLE_ROOM.glob("scene*") if path.is_dir())
    if not scenes:
        raise ConfigError("there is no sample room here", remedy="run it from a checkout of this project")
    spoiled = spoil_room(SAMPLE_ROOM, bench.folder / "spoiled")
    source = many_rooms(scenes[0], bench.folder / "rooms", count)
    predictions = many_rooms(spoiled / scenes[0].name, bench.folder / "predictions", count)
    operator = {"spec": f"precomputed:{predictions}", "kwargs": {"label_set": "nyu40"}}
    return EngineCase("loop", str(source), "", operator, {"method": "depth"})


def _bands(bench: Bench, source: Path, *, workers: int, seconds: float = 0.0, **more: Any) -> EngineCase:
    """A Ray run of an operator that costs what it is told to."""
    operator = {"spec": BANDS, "kwargs": {"seconds": seconds}}
    return EngineCase("ray", str(source), "", operator, **{"lift": {"method": "depth"}, "workers": workers, **more})


def _work(run: EngineRun) -> float:
    """Seconds of workers on chunks."""
    return sum(span.ended - span.began for span in run.spans)


def rounds_of(bench: Bench) -> int:
    """How often a case is measured."""
    return 1 if bench.options.quick else bench.options.rounds


def spread(values: Sequence[float]) -> str:
    """Median (least to greatest)."""
    shown = f"{median(values):.3g}"
    return shown if len(values) == 1 else f"{shown} ({min(values):.3g} to {max(values):.3g})"
