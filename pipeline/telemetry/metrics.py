"""Counters of a Ray worker for Prometheus: Ray's own metrics endpoint shows them as `ray_lift3d_*`.

Ray adds the prefix `ray_`, and `_total` to counters. A chunk costs a dozen additions in memory, whether anybody looks
or not; without Ray there are none. Labels (Prometheus' word for it) are few: what grows with scenes or runs is left to
events and run documents.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.telemetry.trace import Finished

SECONDS = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)
"""Upper ends of the histogram of chunk times."""


class WorkerMetrics:
    """The counters of this process, which must be a Ray worker."""

    def __init__(self) -> None:
        from ray.util.metrics import Counter, Gauge, Histogram

        self._labelled = self._of(Counter, "frames_labelled", "Frames that were labelled.")
        self._quarantined = self._of(Counter, "frames_quarantined", "Frames that could not be labelled.", "reason")
        self._chunks = self._of(Counter, "chunks_finished", "Chunks that are in the store.")
        self._retries = self._of(Counter, "chunks_retried", "Chunks that were begun again after their worker died.")
        self._seconds = self._of(Counter, "stage_seconds", "Wall seconds of workers by stage.", "stage")
        self._memory = self._of(Gauge, "worker_peak_bytes", "Most memory that a worker's process held.")
        self._wall = Histogram(
            "lift3d_chunk_seconds",
            description="Wall seconds from a chunk's start to its commit.",
            boundaries=list(SECONDS),
            tag_keys=("operator",),
        )

    @staticmethod
    def _of(kind: Any, name: str, description: str, *tags: str) -> Any:
        return kind(f"lift3d_{name}", description=description, tag_keys=("operator", *tags))

    def add(self, status: Finished) -> None:
        """Count a finished chunk."""
        trace, always = status.trace, {"operator": status.operator}
        _count(self._labelled, status.labelled, always)
        for reason in {str(row.reason) for row in status.quarantined}:
            number = sum(str(row.reason) == reason for row in status.quarantined)
            _count(self._quarantined, number, {**always, "reason": reason})
        _count(self._chunks, 1, always)
        _count(self._retries, trace.tries - 1, always)
        for stage, seconds in status.seconds.items():
            _count(self._seconds, seconds, {**always, "stage": stage})
        self._memory.set(trace.peak_rss, tags=always)
        self._wall.observe(trace.wall_s, tags=always)


def _count(counter: Any, number: float, tags: dict[str, str]) -> None:
    """Ray refuses to add nothing."""
    if number > 0:
        counter.inc(number, tags=tags)


METRICS: Sequence[str] = (
    "ray_lift3d_frames_labelled_total",
    "ray_lift3d_frames_quarantined_total",
    "ray_lift3d_chunks_finished_total",
    "ray_lift3d_chunks_retried_total",
    "ray_lift3d_stage_seconds_total",
    "ray_lift3d_worker_peak_bytes",
    "ray_lift3d_chunk_seconds",
)
"""Names as Prometheus sees them."""
