"""Work that comes before a chunk's own: class maps of its source views, corrected a portion at a time.

A target looks at class maps that their own sources have corrected. In a long scene the sources of a chunk's sources are
most of the scene: read at once they would take memory that grows with it. Portion by portion they do not, and what is
left for the chunk itself is its targets and their sources.
"""

from __future__ import annotations

from pipeline.known import Known
from pipeline.plan import MOST_VIEWS, narrowed
from schemas.config import LiftConfig
from schemas.scene import Chunk


def next_round(chunk: Chunk, known: Known, lift: LiftConfig) -> Chunk | None:
    """A chunk whose targets are views of `chunk` that are to be corrected before it; None where the rest fits at once.

    It has no more than `MOST_VIEWS` views read, unless a single target needs more. `lift` is that which the chunk was
    planned with, `known` what is known of its views by now.
    """
    if not known.corrects or len(known.loaded(chunk, lift)) <= MOST_VIEWS:
        return None
    first = {*chunk.targets, *(s for target in chunk.targets for s in chunk.sources[target])}
    alone = known.uncorrected()
    portion: list[int] = []
    read: set[str] = set()
    for view in sorted(view for view in first if chunk.frames[view].id not in known.corrected):
        part = narrowed(chunk, [view], lift, 1)
        needed = {part.frames[v].id for v in alone.loaded(part, lift)}
        if portion and len(read | needed) > MOST_VIEWS:
            break
        portion.append(view)
        read |= needed
    return narrowed(chunk, portion, lift, 1) if portion else None
