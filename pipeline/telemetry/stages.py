"""What a worker is at: its present step, kept where another thread can read it and pass it on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pipeline.store.attempts import Note
    from pipeline.tries import Tries

TOLD_EVERY_S = 5.0
"""Between two notices of a worker that is busy."""


class Step(NamedTuple):
    """A step of a chunk: its stage, whose it is, and when it began (this process's monotonic clock)."""

    stage: str
    frames: tuple[str, ...]
    since: float


Tell = Callable[[Step], None]


class Stages:
    """The present step of the one chunk that a worker is at. Setting it costs a microsecond and takes no lock."""

    def __init__(self) -> None:
        self.now: Step | None = None

    def enter(self, stage: str, *frames: str) -> None:
        """A step begins."""
        self.now = Step(stage, frames, monotonic())

    def leave(self) -> None:
        """No step is under way."""
        self.now = None

    @contextmanager
    def told(self, tell: Tell | None, every_s: float = TOLD_EVERY_S) -> Iterator[None]:
        """Tell of the present step every few seconds for the time of a `with` block, from a thread of its own.

        Nothing is told of a block that is shorter than `every_s`.
        """
        if tell is None:
            yield
            return
        ended = threading.Event()
        teller = threading.Thread(target=self._tell, args=(tell, every_s, ended), name="lift3d-stages", daemon=True)
        teller.start()
        try:
            yield
        finally:
            ended.set()
            teller.join()

    def _tell(self, tell: Tell, every_s: float, ended: threading.Event) -> None:
        while not ended.wait(every_s):
            if (step := self.now) is not None:
                tell(step)


class StagedTries:
    """`Tries` that note each step in `Stages` on the way."""

    def __init__(self, tries: Tries, stages: Stages) -> None:
        self._tries = tries
        self._stages = stages

    @property
    def careful(self) -> bool:
        """See `Tries`."""
        return self._tries.careful

    @property
    def hopeless(self) -> Mapping[str, Note]:
        """See `Tries`."""
        return self._tries.hopeless

    @property
    def broken(self) -> bool:
        """See `Tries`."""
        return self._tries.broken

    def ended(self, stage: str, frames: Sequence[str]) -> int:
        """See `Tries`."""
        return self._tries.ended(stage, frames)

    @contextmanager
    def step(self, stage: str, *frames: str, limit_s: float | None = None) -> Iterator[None]:
        """See `Tries`."""
        self._stages.enter(stage, *frames)
        try:
            with self._tries.step(stage, *frames, limit_s=limit_s):
                yield
        finally:
            self._stages.leave()

    def came_through(self) -> None:
        """See `Tries`."""
        self._tries.came_through()
