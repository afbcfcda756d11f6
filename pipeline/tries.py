"""What a labeler knows of earlier tries: which views end their worker, and whether to go step by step this time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Protocol

from pipeline.faults import Faults
from schemas.errors import FrameError, Reason
from schemas.record import QuarantineRecord
from schemas.scene import Chunk

if TYPE_CHECKING:
    from pipeline.store.attempts import Note

VIEW_STAGES = ("decode", "encode")
"""Stages in which a view is at fault as such, whoever looks at it; in the others, only as a target."""


class Tries(Protocol):
    """What `pipeline.store.attempts.ChunkTries` keeps in the store."""

    @property
    def careful(self) -> bool:
        """Whether steps are to be taken one by one."""
        ...

    @property
    def hopeless(self) -> Mapping[str, Note]:
        """By frame, what is known of views that end their worker."""
        ...

    @property
    def broken(self) -> bool:
        """Whether the operator ends its worker whatever it is given."""
        ...

    def ended(self, stage: str, frames: Sequence[str]) -> int:
        """How many tries of a step ended the worker."""
        ...

    def step(self, stage: str, *frames: str, limit_s: float | None = None) -> AbstractContextManager[None]:
        """A step, for the time of a `with` block."""
        ...

    def came_through(self) -> None:
        """Some view was encoded."""
        ...


class Untried:
    """Nothing was tried before, and nobody will ask."""

    careful = False
    broken = False
    hopeless: Mapping[str, Note] = {}

    def ended(self, stage: str, frames: Sequence[str]) -> int:
        """Never."""
        return 0

    def step(self, stage: str, *frames: str, limit_s: float | None = None) -> AbstractContextManager[None]:
        """Nothing to note."""
        return nullcontext()

    def came_through(self) -> None:
        """Nothing to note."""


UNTRIED = Untried()


def is_untouchable(frame: str, tries: Tries) -> bool:
    """Whether a view is not even to be read."""
    return tries.broken or (frame in tries.hopeless and tries.hopeless[frame].stage in VIEW_STAGES)


def hold_hopeless(faults: Faults, chunk: Chunk, tries: Tries) -> None:
    """Hold against the views that end their worker what they did; against all targets if nothing else is known."""
    for frame, note in tries.hopeless.items():
        faults.condemn(frame, note.stage, death(note), note.ended)
    if tries.broken:
        error = FrameError(
            Reason.WORKER_DIED,
            f"the worker died on each of the first {len(tries.hopeless)} views of chunk {chunk.name}, which holds this "
            "frame: out of memory, or a crash in native code",
            remedy="mend the operator, or give it more memory, and run with --retry-quarantined",
        )
        for frame in chunk.target_ids:
            if frame not in faults:
                faults.condemn(frame, "worker", error)


def hopeless_rows(scene: str, operator: str, notes: Mapping[str, Note]) -> tuple[QuarantineRecord, ...]:
    """The quarantine rows of frames that are not even tried again, equal to those of the run that gave them up."""
    faults = Faults(scene, operator)
    for frame, note in notes.items():
        faults.hold(frame, note.stage, death(note), note.ended)
    return faults.quarantine(notes)


def death(note: Note) -> FrameError:
    """What a note says of its frame, as the error that no process lived to raise."""
    how = (
        f"it took more than {note.limit_s:g} s and could not be stopped otherwise"
        if note.reason is Reason.TIMEOUT and note.limit_s is not None
        else "it ran out of memory, or crashed in native code"
    )
    return FrameError(
        note.reason,
        f"the worker died {note.ended} times in {note.stage} of this frame alone: {how}",
        remedy="mend the frame or the operator; it is tried again once one of them changes, or by --retry-quarantined",
    )
