"""What is being worked on, by whom, since when, and how often it was begun: kept by one small Ray actor."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from time import monotonic

from pipeline.telemetry.trace import Doing


@dataclass(slots=True)
class _Work:
    scene: str
    chunk: str
    worker: str
    tries: int
    since: float
    heard: float
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
        )


class Ledger:
    """Workers say when they begin and end a piece of work, and now and then what they are at."""

    def __init__(self) -> None:
        self._begun: Counter[tuple[str, str]] = Counter()
        self._open: dict[tuple[str, str], _Work] = {}

    def begin(self, scene: str, chunk: str, worker: str = "") -> int:
        """Note that a piece of work starts (with no scene, a worker itself); the number of times that it did."""
        key, now = (scene, chunk), monotonic()
        self._begun[key] += 1
        self._open[key] = _Work(scene, chunk, worker, self._begun[key], now, now)
        return self._begun[key]

    def at(self, scene: str, chunk: str, stage: str, frames: tuple[str, ...], seconds: float) -> None:
        """Note which step a piece of work is at, and for how long."""
        work = self._open.get((scene, chunk))
        if work is not None:
            work.heard = monotonic()
            work.stage, work.frames, work.stage_since = stage, frames, work.heard - seconds

    def end(self, scene: str, chunk: str) -> None:
        """Note that a piece of work ended well."""
        self._begun.pop((scene, chunk), None)
        self._open.pop((scene, chunk), None)

    def report(self) -> list[Doing]:
        """Every piece of work that has not ended, the longest under way first."""
        now = monotonic()
        return sorted((work.doing(now) for work in self._open.values()), key=lambda one: -one.seconds)
