"""What is being worked on, by whom, since when, and how often it was begun: kept by one small Ray actor."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from time import monotonic

from pipeline.telemetry.trace import Doing

Work = tuple[str, str, str]
"""Operator, scene and chunk; of a worker that starts, its name behind two empty texts."""


@dataclass(slots=True)
class _Work:
    scene: str
    chunk: str
    worker: str
    tries: int
    since: float
    heard: float
    operator: str = ""
    stage: str = ""
    frames: tuple[str, ...] = ()
    stage_since: float = 0.0

    def doing(self, now: float) -> Doing:
        return Doing(
            self.scene,
            self.chunk,
            self.worker,
            seconds=now - self.since,
            stage=self.stage,
            frames=self.frames,
            stage_s=now - self.stage_since if self.stage else 0.0,
            silent_s=now - self.heard,
            tries=self.tries,
            operator=self.operator,
        )


class Ledger:
    """Workers say when they begin and end a piece of work, and now and then what they are at."""

    def __init__(self) -> None:
        self._begun: Counter[Work] = Counter()
        self._open: dict[Work, _Work] = {}
        self._stopping = False

    def stop(self) -> None:
        """Let nothing more begin."""
        self._stopping = True

    def begin(self, work: Work, worker: str = "") -> int:
        """Note that a piece of work starts; the number of times that it did. 0: it must not start any more."""
        if self._stopping:
            return 0
        now = monotonic()
        self._begun[work] += 1
        operator, scene, chunk = work
        self._open[work] = _Work(scene, chunk, worker, self._begun[work], now, now, operator)
        return self._begun[work]

    def at(self, work: Work, stage: str, frames: tuple[str, ...], seconds: float) -> None:
        """Note which step a piece of work is at, and for how long."""
        found = self._open.get(work)
        if found is not None:
            found.heard = monotonic()
            found.stage, found.frames, found.stage_since = stage, frames, found.heard - seconds

    def end(self, work: Work) -> None:
        """Note that a piece of work ended well. How often a chunk was begun stays known: its status may get lost."""
        if not work[1]:
            self._begun.pop(work, None)
        self._open.pop(work, None)

    def report(self) -> list[Doing]:
        """Every piece of work that has not ended, the longest under way first."""
        now = monotonic()
        return sorted((work.doing(now) for work in self._open.values()), key=lambda one: -one.seconds)
