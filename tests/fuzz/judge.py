"""One input's trial: what it may cost, what it may answer, and which of our lines it reached.

An answer is a value that its target accepts, or a `Lift3DError` that says what to do. Anything else is a finding:
another exception, a value that should not have been accepted, more than `LIMIT_S` seconds, or too much memory.
"""

from __future__ import annotations

import faulthandler
import re
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from schemas.errors import Lift3DError

LIMIT_S = 5.0
ALLOWANCE = 200 * 2**20
FACTOR = 4
LONGEST = 2_000
"""Characters of a message: more is an input that was printed."""

_ROOT = Path(__file__).parents[2]
_OURS = tuple(f"{_ROOT / name}/" for name in ("pipeline", "schemas", "jobs", "lift3d_model"))
_OUT_OF_MEMORY = re.compile(
    r"insufficient memory|cannot allocate|malloc|realloc|out of memory|bad_alloc", re.IGNORECASE
)


class Coverage:
    """Line-to-line steps in our files that were ever taken."""

    def __init__(self) -> None:
        self.seen: set[tuple[str, int, int]] = set()
        self._fresh = False

    def run(self, action: Callable[[], Any]) -> bool:
        """Run the action; whether it took a step that no earlier one took."""
        self._fresh = False
        sys.settrace(self._on_call)
        try:
            action()
        finally:
            sys.settrace(None)
        return self._fresh

    def _on_call(self, frame: FrameType, event: str, argument: object) -> Callable[..., Any] | None:
        file = frame.f_code.co_filename
        if not file.startswith(_OURS):
            return None
        last = 0

        def on_line(frame: FrameType, event: str, argument: object) -> Callable[..., Any]:
            nonlocal last
            step = (file, last, frame.f_lineno)
            if step not in self.seen:
                self.seen.add(step)
                self._fresh = True
            last = frame.f_lineno
            return on_line

        return on_line


def judge(action: Callable[[], None], size: int) -> str | None:
    """What is wrong with how the input was dealt with, None where nothing is. A hang ends the process."""
    started = time.perf_counter()
    faulthandler.dump_traceback_later(LIMIT_S, exit=True)
    try:
        with _Memory(ALLOWANCE + FACTOR * size):
            action()
    except Lift3DError as error:
        return _judge_error(error)
    except Exception as error:  # noqa: BLE001  (what the harness is there to find)
        return f"{type(error).__name__}: {str(error)[:300]} at {_place(error)}"
    finally:
        faulthandler.cancel_dump_traceback_later()
    seconds = time.perf_counter() - started
    return f"took {seconds:.1f} s" if seconds > LIMIT_S else None


def _judge_error(error: Lift3DError) -> str | None:
    text = str(error)
    if not error.remedy:
        return f"no remedy: {text[:300]}"
    if len(text) > LONGEST:
        return f"a message of {len(text)} characters: {text[:200]}"
    if not text.isprintable():
        return f"a message that is not printable: {text[:300]!a}"
    if _OUT_OF_MEMORY.search(text):
        return f"refused only when memory ran out: {text[:300]}"
    return None


def _place(error: BaseException) -> str:
    """The last line of ours in the traceback."""
    found, trace = "?", error.__traceback__
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if file.startswith(str(_ROOT)) and not file.endswith("judge.py"):
            found = f"{Path(file).name}:{trace.tb_lineno}"
        trace = trace.tb_next
    return found


class _Memory:
    """At most so many more bytes of address space within a `with` block (Linux; elsewhere no limit)."""

    def __init__(self, more: int) -> None:
        self._more = more

    def __enter__(self) -> None:
        if sys.platform == "linux":
            pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
            resource.setrlimit(
                resource.RLIMIT_AS, (pages * resource.getpagesize() + self._more, resource.RLIM_INFINITY)
            )

    def __exit__(self, *_: object) -> None:
        if sys.platform == "linux":
            resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
