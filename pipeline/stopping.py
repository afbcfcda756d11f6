"""Being told to stop: after SIGTERM nothing more is begun and what is under way is committed; a second ends at once."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pipeline.telemetry.document import is_submitted

log = logging.getLogger("lift3d")

DRAIN_S = 20.0
"""What is under way may take so long to be committed: less than the half minute that Kubernetes waits."""
JOB_STOP_S = 3.0
"""`ray job stop` kills after so long, unless RAY_JOB_STOP_WAIT_TIME_S says otherwise."""
ENDING_S = 1.0
"""Of that, what ending in order takes."""


class Stop:
    """Whether a run was told to stop, and the KeyboardInterrupt that ends it, which is raised once."""

    def __init__(self) -> None:
        self._drain: Callable[[float], None] | None = None
        self._drainer: threading.Thread | None = None
        self._raised = False
        self._ended = threading.Lock()

    @contextmanager
    def draining(self, drain: Callable[[float], None]) -> Iterator[None]:
        """In the block, there is work under way; `drain` begins no more, and waits for it at most so many seconds."""
        self._drain = drain
        try:
            yield
        finally:
            with self._ended:
                self._drain = None
        if self._drainer is not None:
            self.end()

    def end(self) -> None:
        """Raise KeyboardInterrupt, unless it was raised before: what it interrupts then is the run's end in order."""
        if not self._raised:
            self._raised = True
            raise KeyboardInterrupt

    def told(self, number: int, frame: object) -> None:
        """A signal came."""
        if self._drain is None or self._drainer is not None:
            self.end()
            return
        self._drainer = threading.Thread(target=self._wait, args=(self._drain,), name="lift3d-drain", daemon=True)
        self._drainer.start()

    def _wait(self, drain: Callable[[float], None]) -> None:
        seconds = _patience_s()
        log.warning("told to stop: what is under way may take %g s to be committed; again to end at once", seconds)
        drain(seconds)
        with self._ended:
            if self._drain is not None:
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)


@contextmanager
def stoppable() -> Iterator[Stop]:
    """SIGTERM ends the block by KeyboardInterrupt, so that a job that is stopped ends in order."""
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = signal.signal(signal.SIGTERM, stop.told)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGTERM, before)


def _patience_s() -> float:
    if not is_submitted():
        return DRAIN_S
    try:
        return max(0.0, float(os.environ.get("RAY_JOB_STOP_WAIT_TIME_S", JOB_STOP_S)) - ENDING_S)
    except ValueError:
        return JOB_STOP_S - ENDING_S
