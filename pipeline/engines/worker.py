"""What happens to a chunk, wherever it runs: label it, write it to the store, say how it went."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from time import perf_counter, time
from typing import TYPE_CHECKING, Any

from pipeline.bundles import Bundle, Unit
from pipeline.plan import only
from pipeline.telemetry.stages import StagedTries, Stages
from pipeline.telemetry.trace import Trace, peak_rss, this_worker
from schemas import errors
from schemas.config import EngineConfig, LabelingConfig
from schemas.errors import EngineError, Lift3DError, Reason, StoreError
from schemas.record import QuarantineRecord
from schemas.scene import Chunk
from schemas.store import StoreMetadata

if TYPE_CHECKING:
    from pipeline.scratch import Scratch
    from pipeline.shared import SharedViews
    from pipeline.store import RunStamp
    from pipeline.store.geometry import Geometry
    from pipeline.tries import Tries


@dataclass(frozen=True, slots=True)
class Job:
    """All that a worker needs to know of one operator of a run besides its chunks: small, and sent once.

    Attributes:
        config: of the run, for this operator (`LabelingConfig.each`), with `engine.device` resolved.
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
        operator: whose, by its name in the store.
        labelled: how many of its targets have labels in the store now.
        quarantined: the others, unless there is an error. The driver writes their rows.
        seconds: wall seconds by stage.
        counts: views by what was worked out of them (`ChunkResult.counts`).
        error: why the worker cannot go on, as `error_to_json` writes it.
        trace: who did it, for how long.
    """

    scene: str
    chunk: str
    operator: str = ""
    labelled: int = 0
    quarantined: tuple[QuarantineRecord, ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
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
    """Labels chunks one after another, each by its operator, and commits each to the store.

    Args:
        jobs: what to do, one an operator of the run.

    Attributes:
        stages: what it is at, for other threads to read.

    Raises what building an operator or loading the checkpoint raises.
    """

    def __init__(self, jobs: Sequence[Job]) -> None:
        from pipeline.heap import keep_freed_memory
        from pipeline.scratch import MOST_BYTES, Scratch, scratch_root, sweep
        from pipeline.shared import SharedViews

        keep_freed_memory()
        engine = jobs[0].config.engine
        if engine.device == "cpu":
            import torch

            torch.set_num_threads(threads_of(engine))
        root = scratch_root(engine.scratch)
        sweep(root)
        self._shared = SharedViews()
        geometry = _geometry(jobs[0].config)
        scratch = Scratch(root, jobs[0].stamp.run_id, MOST_BYTES, geometry)
        self.stages = Stages()
        self._hands = [_Hand(job, scratch, self._shared, self.stages) for job in jobs]

    @contextmanager
    def at(self, bundle: Bundle) -> Iterator[None]:
        """Work on the units of a bundle in a `with` block: what they have in common is worked out once."""
        with self._shared.held(held=len(bundle) > 1):
            yield

    def run(self, unit: Unit, begun: int = 1) -> ChunkStatus:
        """Label a chunk and commit its labels. What ended workers on it before is known from the store.

        `begun` is how often this run began it, this time included.
        """
        return self._hands[unit.operator].run(unit.chunk, begun)


class _Hand:
    """One operator's part in a worker."""

    def __init__(self, job: Job, scratch: Scratch, shared: SharedViews, stages: Stages) -> None:
        from pipeline.labeler import Labeler
        from pipeline.store import Store

        self._job, self._stages = job, stages
        self._labeler = Labeler(job.config, scratch=scratch, shared=shared)
        self._store = Store(job.config.store)
        engine = job.config.engine
        self._attempts = self._store.attempts(job.slug, engine.attempts, engine.kind)

    def run(self, chunk: Chunk, begun: int) -> ChunkStatus:
        began, started = time(), perf_counter()
        left = chunk if begun == 1 else self._left(chunk)
        status = self._try(left) if left.targets else ChunkStatus(chunk.scene, chunk.name)
        wall_s = perf_counter() - started
        trace = Trace(this_worker(), began, wall_s, begun, len(chunk.frames), peak_rss())
        labelled = status.labelled + len(chunk.targets) - len(left.targets)
        return replace(status, operator=self._job.slug, labelled=labelled, trace=trace)

    def _left(self, chunk: Chunk) -> Chunk:
        """What is left of a chunk that was begun before: its worker may have died after it was committed."""
        done = self._store.done(self._job.slug, chunk.scene)
        wanted = enumerate(zip(chunk.target_ids, chunk.fingerprints, strict=True))
        left = [k for k, (frame, mark) in wanted if done.get(frame) != mark]
        if len(left) == len(chunk.targets):
            return chunk
        return only(chunk, left, self._job.config.lift, corrects=self._labeler.corrects)

    def _try(self, chunk: Chunk) -> ChunkStatus:
        tries = self._attempts.begin(chunk, {frame.id: self._labeler.mark(frame) for frame in chunk.frames})
        try:
            return self._label(chunk, StagedTries(tries, self._stages))
        finally:
            self._stages.leave()
            with suppress(StoreError):
                tries.end()

    def _label(self, chunk: Chunk, tries: Tries) -> ChunkStatus:
        job = self._job
        result = self._labeler.label(chunk, tries)
        started = perf_counter()
        self._stages.enter("write")
        metadata = job.metadata.model_copy(update={"scene": chunk.scene})
        self._store.write(job.slug, chunk, result.records, metadata, job.stamp)
        return ChunkStatus(
            chunk.scene,
            chunk.name,
            labelled=len(result.records),
            quarantined=result.quarantined,
            seconds={**result.seconds, "write": perf_counter() - started},
            counts=result.counts,
        )


def _geometry(config: LabelingConfig) -> Geometry | None:
    """Where sweeps outlive the run, if they are to."""
    from pipeline.store.geometry import Geometry, made_by

    return Geometry(config.store, made_by(config.engine.device)) if config.engine.geometry == "store" else None


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
