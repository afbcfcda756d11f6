"""The per-frame failure boundary: the one place that catches everything."""

from __future__ import annotations

import hashlib
import traceback
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from copy import copy

from schemas.errors import ContractError, FrameError, Lift3DError, Reason
from schemas.record import QuarantineRecord

REMEDY = "Mend what failed and run again: labels that are there are kept"
"""Of errors that nobody raised on purpose."""


class Faults:
    """What went wrong with which frames of one scene."""

    def __init__(self, scene: str, operator: str) -> None:
        self._scene = scene
        self._operator = operator
        self._faults: dict[str, tuple[str, Exception]] = {}
        self._tries: Counter[str] = Counter()
        self._final: set[str] = set()

    def __contains__(self, frame: str) -> bool:
        return frame in self._faults

    @contextmanager
    def guard(self, stage: str, *frames: str) -> Iterator[None]:
        """Let nothing out of a `with` block: what is raised is held against the frames. The first fault stays."""
        try:
            yield
        except Exception as error:
            for frame in frames:
                self.hold(frame, stage, error)

    def hold(self, frame: str, stage: str, error: Exception, tries: int = 1) -> None:
        """Hold an error against a frame: so many tries more that came to nothing. The first fault stays."""
        self._faults.setdefault(frame, (stage, error))
        self._tries[frame] += tries

    def condemn(self, frame: str, stage: str, error: Exception, tries: int = 1) -> None:
        """`hold`, for good: such a frame is not forgiven."""
        self.hold(frame, stage, error, tries)
        self._final.add(frame)

    def forgive(self, *frames: str) -> bool:
        """Forget the frames' faults, though not how often they were tried; whether there were any."""
        forgiven = [frame for frame in frames if frame in self._faults and frame not in self._final]
        for frame in forgiven:
            del self._faults[frame]
        return bool(forgiven)

    def error(self, frame: str) -> Exception | None:
        """What is held against a frame."""
        return self._faults[frame][1] if frame in self._faults else None

    def may_try_again(self, frame: str, allowed: int) -> bool:
        """Whether another try is left and could end otherwise: what failed is no known fault, or it took too long."""
        error = self.error(frame)
        known = isinstance(error, Lift3DError) and getattr(error, "reason", None) is not Reason.TIMEOUT
        return error is not None and not known and frame not in self._final and self._tries[frame] < allowed

    def quarantine(self, frames: Iterable[str]) -> tuple[QuarantineRecord, ...]:
        """Rows for those of the frames that have a fault."""
        return tuple(self._row(frame, *self._faults[frame]) for frame in frames if frame in self._faults)

    def _row(self, frame: str, stage: str, error: Exception) -> QuarantineRecord:
        return QuarantineRecord(
            scene=self._scene,
            frame=frame,
            operator=self._operator,
            stage=stage,
            reason=_reason(stage, error),
            message=_message(error, self._scene, frame),
            attempts=max(1, self._tries[frame]),
            traceback_hash=None if isinstance(error, Lift3DError) else _traceback_hash(error),
        )


def _reason(stage: str, error: Exception) -> Reason:
    if isinstance(error, FrameError):
        return error.reason
    if isinstance(error, ContractError):
        return Reason.OPERATOR_CONTRACT
    return Reason.OPERATOR_FAILED if stage == "encode" else Reason.LIFT_FAILED


def _message(error: Exception, scene: str, frame: str) -> str:
    """One line that names scene and frame, whoever raised the error."""
    if isinstance(error, Lift3DError):
        told = copy(error)  # the same error may be held against several frames
        told.scene, told.frame = error.scene or scene, error.frame or frame
    else:
        text = " ".join(f"{type(error).__name__}: {error}".split())
        told = Lift3DError(text.rstrip("."), scene=scene, frame=frame, remedy=REMEDY)
    return str(told)


def _traceback_hash(error: Exception) -> str:
    """The same for the same fault in the same place, so that quarantine rows can be grouped."""
    places = [f"{frame.filename}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)]
    return hashlib.sha256("\n".join([type(error).__name__, *places]).encode()).hexdigest()[:16]


def out_of_memory(error: Exception | None) -> bool:
    """Whether less at once may help: memory of a GPU or of this machine ran out."""
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or (isinstance(error, RuntimeError) and "can't allocate memory" in str(error))
    )
