"""Time limits on what may hang: an exception where Python can still raise one, else the end of the process."""

from __future__ import annotations

import faulthandler
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from typing import NoReturn

from schemas.errors import FrameError, Reason

GRACE_S = (1.0, 30.0)
"""Least and longest time between the exception and the end of the process; else a quarter of the limit."""


@contextmanager
def time_limit(seconds: float, what: str) -> Iterator[None]:
    """Let a block take so long and no longer.

    In the main thread, `FrameError` (timeout) is raised in the block. Native code that never returns, and code that
    swallows the error, cannot be stopped like that: after a while the whole process ends, with every thread's stack on
    stderr. That takes no lock of Python's. Blocks do not nest.
    """
    faulthandler.dump_traceback_later(seconds + sorted((*GRACE_S, seconds / 4))[1], exit=True, file=2)
    try:
        with _alarm(seconds, what):
            yield
    finally:
        faulthandler.cancel_dump_traceback_later()


@contextmanager
def _alarm(seconds: float, what: str) -> Iterator[None]:
    """SIGALRM raises the error; whoever waits for an alarm of their own gets it a little later at worst."""

    def expire(number: int, frame: object) -> NoReturn:
        raise FrameError(
            Reason.TIMEOUT,
            f"{what} took more than {seconds:g} s (engine.frame_timeout_s)",
            remedy="raise the limit if it takes that long, else mend the operator; then run with --retry-quarantined",
        )

    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield
        return
    handler, started = signal.signal(signal.SIGALRM, expire), monotonic()
    before, _ = signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, handler)
        if before:
            signal.setitimer(signal.ITIMER_REAL, max(before - (monotonic() - started), 0.001))
