"""Where time goes, by looking at a thread's stack every few milliseconds: nothing in the measured code knows of it."""

from __future__ import annotations

import sys
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import PurePath
from types import FrameType

INTERVAL_S = 0.004
GEOMETRY, LIFT = "geometry", "lift"
HELPERS = {"__init__", "geometry", "model", "sampling", "views"}
"""Files of the model that several stages use: time in them belongs to the stage that called."""
STAGES = {
    "evidence": "evidence",
    "clues": "evidence",
    "weighting": "evidence",
    "corrector": "corrector",
    "propagation": "propagation",
    **dict.fromkeys(("proposal", "fusion", "rendering", "holes", "refinement", "upsampling"), "Stage I"),
}
"""Stages by the file that the work is done in; other files of the model count as `other`."""
ALL_STAGES = ("Stage I", "evidence", "corrector", "propagation", "other", "finishing")

Sample = tuple[str, str]
"""The labeler's stage, and the file of the model that was at work ("" = none: decoding, records)."""


@contextmanager
def watched_stacks(thread: int) -> Iterator[Counter[Sample]]:
    """Count samples of a thread's stack while the block runs; those outside a chunk's lifting are left out."""
    seen: Counter[Sample] = Counter()
    done = threading.Event()

    def watch() -> None:
        while not done.wait(INTERVAL_S):
            frame = sys._current_frames().get(thread)
            if frame is not None and (sample := _classified(frame)):
                seen[sample] += 1

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield seen
    finally:
        done.set()
        watcher.join()


def split_seconds(seconds: Mapping[str, float], samples: Mapping[Sample, int]) -> dict[str, float]:
    """The labeler's geometry and lift seconds, the latter cut up in proportion to its samples."""
    stages = dict.fromkeys(ALL_STAGES, 0.0) | {"Stage I": seconds.get(GEOMETRY, 0.0)}
    lifting = {file: count for (stage, file), count in samples.items() if stage == LIFT}
    total = sum(lifting.values())
    for file, count in lifting.items():
        stage = STAGES.get(file, "other") if file else "finishing"
        stages[stage] += seconds.get(LIFT, 0.0) * count / total
    if not total:
        stages["other"] = seconds.get(LIFT, 0.0)
    return stages


def _classified(frame: FrameType) -> Sample | None:
    """What the innermost frames say; None where no chunk is being lifted."""
    file, model = "", False
    walked: FrameType | None = frame
    while walked is not None:
        path = PurePath(walked.f_code.co_filename)
        if path.parent.name == "lift3d_model":
            model = True
            file = file or ("" if path.stem in HELPERS else path.stem)
        elif path.name == "labeler.py" and walked.f_code.co_name == "_lift":
            return LIFT, file or ("model" if model else "")
        elif path.name == "lifting.py" and walked.f_code.co_name == "__init__":
            return GEOMETRY, file or ("model" if model else "")
        walked = walked.f_back
    return None
