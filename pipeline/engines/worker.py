"""What happens to a chunk, wherever it runs: label it, write it to the store, say how it went."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from time import perf_counter, time
from typing import TYPE_CHECKING, Any

from pipeline.telemetry.stages import StagedTries, Stages
from pipeline.telemetry.trace import Trace, peak_rss, this_worker
from schemas import errors
from schemas.config import EngineConfig, LabelingConfig
from schemas.errors import EngineError, Lift3DError, Reason, StoreError
from schemas.record import QuarantineRecord
from schemas.scene import Chunk
from schemas.store import StoreMetadata

if TYPE_CHECKING:
    from pipeline.protocols import Operator
    from pipeline.store import RunStamp
    from pipeline.tries import Tries


@dataclass(frozen=True, slots=True)
class Job:
    """All that a worker needs to know besides its chunks: small, and sent once.

    Attributes:
        config: of the run, with `engine.device` resolved.
        stamp: the run's id and start; they go into every row.
        slug: the operator's name in the store.
        metadata: of every label file; the scene is filled in.
    """

    config: LabelingConfig
    stamp: RunStamp
    slug: str
    metadata: StoreMetadata


@dataclass(frozen=True, slots=True)
class ChunkStatus:
    """How a chunk went.

    Attributes:
        scene, chunk: which one.
        labelled: how many of its targets have labels in the store now.
        quarantined: the others, unless there is an error. The driver writes their rows.
        seconds: wall seconds by stage.
        error: why the worker cannot go on, as `error_to_json` writes it.
        trace: who did it, for how long.
    """

    scene: str
    chunk: str
    labelled: int = 0
    quarantined: tuple[QuarantineRecord, ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)
    error: dict[str, Any] | None = None
    trace: Trace = Trace()

    def to_json(self) -> str:
        """One line, for a Ray row."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> ChunkStatus:
        """Inverse of `to_json`."""
        data = json.loads(text)
        rows = tuple(QuarantineRecord(**{**row, "reason": Reason(row["reason"])}) for row in data["quarantined"])
        return cls(**{**data, "quarantined": rows, "trace": Trace(**data["trace"])})

    def checked(self) -> ChunkStatus:
        """Itself. Raises the error that it carries, if there is one."""
        if self.error is not None:
            raise error_from_json(self.error)
        return self


class Worker:
    """Labels chunks one after another and commits each to the store.

    Args:
        job: what to do.
        operator: one that is built already, for a worker in the same process; else it is built here.

    Attributes:
        stages: what it is at, for other threads to read.

    Raises what building the operator or loading the checkpoint raises.
    """

    def __init__(self, job: Job, operator: Operator | None = None) -> None:
        from pipeline.labeler import Labeler
        from pipeline.scratch import MOST_BYTES, Scratch, scratch_root, sweep
        from pipeline.store import Store

        if job.config.engine.device == "cpu":
            import torch

            torch.set_num_threads(threads_of(job.config.engine))
        self._job = job
        root = scratch_root(job.config.engine.scratch)
        sweep(root)
        scratch = Scratch(root, job.stamp.run_id, MOST_BYTES)
        self._labeler = Labeler(job.config, operator, scratch=scratch)
        self._store = Store(job.config.store)
        engine = job.config.engine
        self._attempts = self._store.attempts(job.slug, engine.attempts, engine.kind)
        self.stages = Stages()

    def run(self, chunk: Chunk, begun: int = 1) -> ChunkStatus:
        """Label a chunk and commit its labels. What ended workers on it before is known from the store.

        `begun` is how often this run began it, this time included.
        """
        began, started = time(), perf_counter()
        tries = self._attempts.begin(chunk, {frame.id: self._labeler.mark(frame) for frame in chunk.frames})
        try:
            status = self._run(chunk, StagedTries(tries, self.stages))
        finally:
            self.stages.leave()
            with suppress(StoreError):
                tries.end()
        wall_s = perf_counter() - started
        trace = Trace(this_worker(), began, wall_s, begun, len(chunk.frames), peak_rss())
        return replace(status, trace=trace)

    def _run(self, chunk: Chunk, tries: Tries) -> ChunkStatus:
        job = self._job
        result = self._labeler.label(chunk, tries)
        started = perf_counter()
        self.stages.enter("write")
        metadata = job.metadata.model_copy(update={"scene": chunk.scene})
        self._store.write(job.slug, chunk, result.records, metadata, job.stamp)
        seconds = {**result.seconds, "write": perf_counter() - started}
        return ChunkStatus(chunk.scene, chunk.name, len(result.records), result.quarantined, seconds)


def threads_of(engine: EngineConfig) -> int:
    """Threads that a worker computes with on a CPU: the same in every engine, so that sums round alike."""
    return max(1, int(engine.cpus_per_worker))


def error_to_json(error: Lift3DError) -> dict[str, Any]:
    """An error of this project as plain JSON types."""
    return {
        "type": type(error).__name__,
        "message": error.message,
        "scene": error.scene,
        "frame": error.frame,
        "remedy": error.remedy,
    }


def error_from_json(data: dict[str, Any]) -> Lift3DError:
    """Inverse of `error_to_json`; an unknown type (or one that needs more) becomes an `EngineError`."""
    details = {key: data[key] for key in ("scene", "frame", "remedy")}
    kind = getattr(errors, data["type"], EngineError)
    if issubclass(kind, errors.FrameError):
        return errors.FrameError(Reason.LIFT_FAILED, data["message"], **details)
    return kind(data["message"], **details)
