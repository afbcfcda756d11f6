"""How long a run still takes: from the work in its chunks and what finished chunks took, not from frames a second.

A chunk's time is modelled as so much a target's pixel and so much a pixel of the other views that it needs, plus the
pause before a worker gets its next chunk. What is left is then handed out to the workers as the engine does. Start-up
never enters: the clock of a chunk starts in the worker, and of a pause when a worker's chunk before it came in.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from schemas.scene import Chunk

MEMORY = 0.95
"""What an earlier chunk weighs against the one after it: a run's first chunks are not like its last ones."""
SIMULATED = 512
"""With more chunks left than this, their sum says as much as handing them out one by one."""
GONE_AFTER = 2.5
"""A worker that brings nothing for so many times the longest chunk is not counted on."""
FIRST = 0.1
"""Weight of a worker's first chunk: models are loaded and caches filled in it, and never again."""
PULL = 0.1
"""Strength of the pull towards one price for all pixels, in chunks."""
LEAST = 0.05
"""Share of its time that an overdue chunk still takes."""

Key = tuple[str, str, str]
"""Operator, scene and name of a chunk."""


class Load(NamedTuple):
    """What a chunk asks of a worker: megapixels of its targets, and of the other views that it looks at."""

    targets: float
    others: float


def load_of(chunk: Chunk) -> Load:
    """The load of a chunk."""
    pixels = [frame.camera.height * frame.camera.width / 1e6 for frame in chunk.frames]
    targets = sum(pixels[target] for target in chunk.targets)
    return Load(targets, sum(pixels) - targets)


@dataclass(slots=True)
class CostModel:
    """Seconds a megapixel, learned from chunks by least squares, with a pull towards one price for all pixels."""

    weight: float = 0.0
    targets2: float = 0.0
    both: float = 0.0
    others2: float = 0.0
    targets_s: float = 0.0
    others_s: float = 0.0
    pixels: float = 0.0
    total_s: float = 0.0
    pauses: float = 0.0
    pause_s: float = 0.0

    def learn(self, load: Load, seconds: float, weight: float = 1.0) -> None:
        """A chunk of this load took so long."""
        pixels = sum(load)
        if pixels <= 0:
            return
        # By the pixel, so that a large chunk counts as much as a small one: what is random in its time grows with it.
        x, y, price = load.targets / pixels, load.others / pixels, seconds / pixels
        self.weight = MEMORY * self.weight + weight
        self.targets2 = MEMORY * self.targets2 + weight * x * x
        self.both = MEMORY * self.both + weight * x * y
        self.others2 = MEMORY * self.others2 + weight * y * y
        self.targets_s = MEMORY * self.targets_s + weight * x * price
        self.others_s = MEMORY * self.others_s + weight * y * price
        self.pixels = MEMORY * self.pixels + weight * pixels
        self.total_s = MEMORY * self.total_s + weight * seconds

    def learn_pause(self, seconds: float) -> None:
        """A worker waited so long between two chunks."""
        self.pauses = MEMORY * self.pauses + 1.0
        self.pause_s = MEMORY * self.pause_s + seconds

    @property
    def pause(self) -> float:
        """Seconds between two chunks of a worker."""
        return self.pause_s / self.pauses if self.pauses else 0.0

    def prices(self) -> Load:
        """Seconds a megapixel of targets, and of other views."""
        mean = self.total_s / self.pixels if self.pixels else 0.0
        pull = PULL / self.weight if self.weight else 0.0
        pull_x, pull_y = pull * self.targets2, pull * self.others2
        xx, yy = self.targets2 + pull_x, self.others2 + pull_y
        right_x, right_y = self.targets_s + pull_x * mean, self.others_s + pull_y * mean
        determinant = xx * yy - self.both**2
        if determinant <= 1e-9 * xx * yy:
            return Load(mean, mean)
        x, y = (right_x * yy - right_y * self.both), (right_y * xx - right_x * self.both)
        return Load(x / determinant, y / determinant) if min(x, y) > 0 else Load(mean, mean)


class Eta:
    """An estimate of the seconds that are left.

    Args:
        loads: of every chunk, in the order in which chunks are handed out.
        workers: how many chunks are worked on at once.

    Times are seconds on any one clock of the caller.
    """

    def __init__(self, loads: Mapping[Key, Load], workers: int) -> None:
        self._left = dict(loads)
        self._workers = max(1, workers)
        self._model = CostModel()
        self._last: dict[str, float] = {}
        self._begun: float | None = None

    def finished(self, key: Key, worker: str, seconds: float, now: float) -> None:
        """A chunk came in: who did it, how long that took, and what time it is."""
        load = self._left.pop(key, None)
        if load is None:
            return
        if worker in self._last:
            self._model.learn_pause(max(0.0, now - self._last[worker] - seconds))
        if self._begun is None:
            self._begun = now - seconds
        self._model.learn(load, seconds, 1.0 if worker in self._last else FIRST)
        self._last[worker] = now

    def left_s(self, now: float) -> float | None:
        """Seconds until the last chunk is in; None before the first one was."""
        if not self._left:
            return 0.0
        if self._begun is None:
            return None
        prices, pause = self._model.prices(), self._model.pause
        costs = [x * prices.targets + y * prices.others + pause for x, y in self._left.values()]
        begun = self._begun_at(now, max(costs))
        return _summed(costs, begun, now) if len(costs) > SIMULATED else _handed_out(costs, begun, now)

    def _begun_at(self, now: float, longest: float) -> list[float]:
        """When each worker that is counted on began its present chunk, as far as one can tell; the earliest first."""
        alive = [last for last in self._last.values() if now - last <= GONE_AFTER * longest]
        if self._begun is not None and now - self._begun <= GONE_AFTER * longest:
            alive += [self._begun] * max(0, self._workers - len(self._last))
        return sorted(alive)[-self._workers :] or [now]


def _handed_out(costs: list[float], begun: list[float], now: float) -> float:
    """When the last chunk is done, if each worker takes the next chunk as soon as it is free."""
    under_way = [max(start + cost - now, LEAST * cost) for start, cost in zip(begun, costs, strict=False)]
    free = [*under_way, *[0.0] * (len(begun) - len(under_way))]
    heapq.heapify(free)
    for cost in costs[len(under_way) :]:
        heapq.heappush(free, heapq.heappop(free) + cost)
    return max(free)


def _summed(costs: list[float], begun: list[float], now: float) -> float:
    """The same for very many chunks: all workers are busy until half a chunk before the end."""
    worked = sum(min(now - start, cost) for start, cost in zip(begun, costs, strict=False))
    return (sum(costs) - worked) / len(begun) + sum(costs) / len(costs) / 2
