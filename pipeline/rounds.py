"""Work that comes before a chunk's own: class maps of its source views, corrected a portion at a time.

A target looks at class maps that their own sources have corrected. In a long scene the sources of a chunk's sources are
most of the scene: read at once they would take memory that grows with it. Portion by portion they do not, and what is
left for the chunk itself is its targets and their sources.
"""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.known import Known
from pipeline.plan import MOST_VIEWS, narrowed
from schemas.config import LiftConfig
from schemas.scene import Chunk


def rounds_before(chunk: Chunk, known: Known, lift: LiftConfig) -> Iterator[Chunk]:
    """Chunks whose targets are the views of `chunk` that are to be corrected first; none where all fits at once.

    Each looks at no more than `MOST_VIEWS` views, unless a single target does. `lift` is that which the chunk was
    planned with, `known` what is known of its views before any round.
    """
    if not known.corrects or len(known.loaded(chunk, lift)) <= MOST_VIEWS:
        return
    first = {*chunk.targets, *(s for target in chunk.targets for s in chunk.sources[target])}
    portion: list[int] = []
    looked_at: set[str] = set()
    for view in sorted(view for view in first if chunk.frames[view].id not in known.corrected):
        needed = {frame.id for frame in narrowed(chunk, [view], lift, 1).frames}
        if portion and len(looked_at | needed) > MOST_VIEWS:
            yield narrowed(chunk, portion, lift, 1)
            portion, looked_at = [], set()
        portion.append(view)
        looked_at |= needed
    if portion:
        yield narrowed(chunk, portion, lift, 1)
