"""One chunk under way: what goes wrong with its frames, what ended workers on it before, and where the time goes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter

from pipeline.faults import Faults
from pipeline.tries import Tries
from pipeline.watchdog import time_limit

DECODERS = 2
"""Threads a worker that fetch and decode views while the operator works on earlier ones."""


class Clock:
    """Wall seconds by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Add the time of a `with` block to a stage."""
        started = perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] += perf_counter() - started


@dataclass(frozen=True, slots=True)
class Work:
    """What goes along with a chunk from its first view to its last label.

    Attributes:
        faults: what went wrong with which frames.
        tries: what ended workers on this chunk before; it is told of every step.
        pool: threads that read ahead.
        clock: wall seconds by stage.
        lost: views that turned out to be unusable, by frame id; they are not tried once more.
    """

    faults: Faults
    tries: Tries
    pool: ThreadPoolExecutor
    clock: Clock = field(default_factory=Clock)
    lost: set[str] = field(default_factory=set)

    @contextmanager
    def step(self, stage: str, *frames: str, limit_s: float) -> Iterator[None]:
        """A step, for the time of a `with` block: timed, and known should the process not outlive it."""
        with self.tries.step(stage, *frames, limit_s=limit_s), self.clock(stage):
            yield

    @contextmanager
    def guard(self, stage: str, *frames: str, limit_s: float, what: str) -> Iterator[None]:
        """Let nothing out of a `with` block, and let it take no longer: what is raised is held against the frames."""
        with self.faults.guard(stage, *frames), time_limit(limit_s, what):
            yield


@contextmanager
def working(faults: Faults, tries: Tries) -> Iterator[Work]:
    """Work with threads that end with the block; not joined: reading that hangs must not hold up what is labelled."""
    pool = ThreadPoolExecutor(DECODERS)
    try:
        yield Work(faults, tries, pool)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
