"""The worker in this process, one chunk after another: for debugging, notebooks and tests. Needs no Ray."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from time import monotonic

from pipeline.engines.worker import ChunkStatus, Job, Worker
from pipeline.preflight import Pool, fit_memory, fit_pool, this_machine
from pipeline.scratch import discard, scratch_root
from pipeline.telemetry.stages import Step
from pipeline.telemetry.trace import Doing, this_worker
from schemas.config import EngineConfig
from schemas.scene import Chunk

log = logging.getLogger("lift3d")


@contextmanager
def open_local(config: EngineConfig) -> Iterator[LocalEngine]:
    """The local engine; torch gets its threads back in the end. Raises `EngineError` if a GPU is asked for in vain."""
    import torch

    threads = torch.get_num_threads()
    try:
        yield LocalEngine(fit_pool(config.model_copy(update={"workers": 1}), [this_machine()]))
    finally:
        torch.set_num_threads(threads)


class LocalEngine:
    """One worker in this process."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self.device = pool.device
        self.workers = 1
        self._worker: Worker | None = None
        self._at: tuple[Chunk, float] | None = None

    def fit(self, worker_bytes: int) -> None:
        """See `Engine.fit`. There is one worker, whatever it needs: `EngineError` where that is not there."""
        fit_memory(EngineConfig(workers=1), self._pool, worker_bytes)

    def run(self, job: Job, chunks: Sequence[Chunk]) -> Iterator[ChunkStatus]:
        """See `Engine.run`. A crash in native code ends this process: that is what the Ray engine guards against.

        Nor can a chunk that hangs in native code be interrupted from here: a line in the log says where it is.
        """
        if not chunks:
            return
        limit_s = job.config.engine.no_progress_s
        try:
            worker = self._worker = Worker(job)
            for chunk in chunks:
                self._at = chunk, monotonic()
                with worker.stages.told(lambda step: self._warn(step, limit_s), limit_s):
                    status = worker.run(chunk)
                self._at = None
                yield status
        finally:
            self._worker = self._at = None
            discard(scratch_root(job.config.engine.scratch), job.stamp.run_id)

    def doing(self) -> Sequence[Doing]:
        """See `Engine.doing`."""
        at, worker = self._at, self._worker
        if at is None or worker is None:
            return ()
        step, now = worker.stages.now, monotonic()
        doing = Doing(at[0].scene, at[0].name, this_worker(), now - at[1])
        if step is None:
            return (doing,)
        return (replace(doing, stage=step.stage, frames=step.frames, stage_s=now - step.since),)

    def _warn(self, step: Step, limit_s: float) -> None:
        doing = ", ".join(map(str, self.doing())) or step.stage
        log.warning("no chunk finished for %g s (engine.no_progress_s); being worked on: %s", limit_s, doing)
