"""Sums over what came in: frames, reasons, retries, and where the workers' time went."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.telemetry.trace import Finished

IO_STAGES = frozenset({"decode", "write"})
"""Stages in which a worker waits for storage: `decode` is the time that it waits for views to be read and decoded."""


@dataclass(slots=True)
class Tally:
    """Sums over finished chunks.

    Attributes:
        labelled, chunks: how many came in.
        reasons: frames that were quarantined, by reason.
        retries: chunks that were begun again in this run.
        seconds: of workers, by stage.
        counts: views by what was worked out of them.
        worker_s: of workers, from the start of each chunk to its commit.
        worker_rss: most bytes that a worker's process held.
    """

    labelled: int = 0
    chunks: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    retries: int = 0
    seconds: Counter[str] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)
    worker_s: float = 0.0
    worker_rss: int = 0

    @property
    def quarantined(self) -> int:
        """Frames of finished chunks that were not labelled."""
        return self.reasons.total()

    def add(self, status: Finished) -> None:
        """Take note of a finished chunk."""
        self.labelled += status.labelled
        self.chunks += 1
        self.reasons.update(str(row.reason) for row in status.quarantined)
        self.retries += status.trace.tries - 1
        self.seconds.update(status.seconds)
        self.counts.update(status.counts)
        self.worker_s += status.trace.wall_s
        self.worker_rss = max(self.worker_rss, status.trace.peak_rss)

    def split(self, workers: int, labelling_s: float, *, on_gpu: bool) -> dict[str, float]:
        """Where the workers' time went while chunks were worked on.

        Args:
            workers: how many there were.
            labelling_s: how long that lasted.
            on_gpu: whether they computed on a GPU.

        Compute is all that is not IO; wait is the rest of the workers' time: starting, waiting for a chunk, and what
        dead workers did. The seconds of workers on a GPU are wall seconds of compute, not its occupancy.
        """
        io = sum(seconds for stage, seconds in self.seconds.items() if stage in IO_STAGES)
        compute = sum(self.seconds.values()) - io
        wait = max(0.0, workers * labelling_s - compute - io)
        return rounded({"compute_s": compute, "io_s": io, "wait_s": wait, "gpu_s": compute if on_gpu else 0.0})

    def to_json(self) -> dict[str, Any]:
        """Counts as JSON types."""
        return {
            "frames_labelled": self.labelled,
            "chunks": self.chunks,
            "quarantined": dict(sorted(self.reasons.items())),
            "retries": self.retries,
            "views": dict(sorted(self.counts.items())),
        }


def rounded(seconds: Mapping[str, float]) -> dict[str, float]:
    """Seconds to the millisecond."""
    return {name: round(value, 3) for name, value in seconds.items()}
