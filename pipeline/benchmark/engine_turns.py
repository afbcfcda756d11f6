"""The local engine and the plain loop, a chunk each in turn, in one process: a machine that slows down slows both."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from itertools import cycle, pairwise
from multiprocessing import get_context
from time import perf_counter, process_time
from typing import TYPE_CHECKING

from pipeline.benchmark.engine_case import EngineCase, plain_loop, planned
from pipeline.benchmark.engine_parts import sample_rooms, spread
from pipeline.benchmark.table import Table

if TYPE_CHECKING:
    from pipeline.benchmark.engine import Bench


@dataclass(frozen=True, slots=True)
class Turn:
    """A chunk of the engine beside the chunks of the loop just before and after it, of as many frames.

    Attributes:
        engine: wall and processor seconds of the engine's; loop: means of the loop's two.
    """

    engine: tuple[float, float]
    loop: tuple[float, float]


def turns(bench: Bench) -> list[Table]:
    """Frames a second and processor seconds of `--engine local` beside the loop's, by turns."""
    case = sample_rooms(bench, 3 if bench.options.quick else max(3, bench.options.rooms))
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        found = process.submit(in_turns, replace(case, how="local").into(str(bench.folder / "store"))).result()
    rows = (
        ("frames/s of the loop's", f"{1 / _of_loop(found, 0):.3f}", spread([1 / _of_loop([one], 0) for one in found])),
        ("of its processor s", f"{_of_loop(found, 1):.3f}", spread([_of_loop([one], 1) for one in found])),
    )
    title = (
        f"--engine local beside the plain loop, chunk about in one process, {len(found)} turns of 24 views, depth lift"
    )
    return [Table(title, ("", "all turns", "a turn"), rows)]


def in_turns(case: EngineCase) -> list[Turn]:
    """Run a case whose chunks cost the same, with a chunk of the loop after each; the first of both fill the caches.

    What the engine's threads do while the loop has its turn is not counted: they have nothing to do then but give
    a sign of life.
    """
    from pipeline.run import run_labeling

    loop = plain_loop(case, cycle(planned(case)))
    next(loop)
    clock = []

    def give_the_loop_a_turn(_: object) -> None:
        clock.append((perf_counter(), process_time()))
        next(loop)
        clock.append((perf_counter(), process_time()))

    run_labeling(case.config(), on_progress=give_the_loop_a_turn)
    spent = [(after[0] - before[0], after[1] - before[1]) for before, after in pairwise(clock)]
    looped, engine = spent[::2], spent[1::2]
    around = [((a[0] + b[0]) / 2, (a[1] + b[1]) / 2) for a, b in pairwise(looped)]
    return [Turn(one, loops) for one, loops in zip(engine, around, strict=True)]


def _of_loop(found: Sequence[Turn], which: int) -> float:
    """The engine's wall (0) or processor (1) seconds, relative to the loop's."""
    return sum(turn.engine[which] for turn in found) / sum(turn.loop[which] for turn in found)
