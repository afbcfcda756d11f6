"""The worker in this process, one chunk after another: for debugging, notebooks and tests. Needs no Ray."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from time import monotonic

from pipeline.bundles import Bundle, Unit
from pipeline.engines.worker import ChunkStatus, Job, Worker
from pipeline.preflight import Pool, fit_memory, fit_pool, this_machine
from pipeline.scratch import discard, scratch_root
from pipeline.telemetry.stages import Step
from pipeline.telemetry.trace import Doing, this_worker
from schemas.config import EngineConfig

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
        self._at: tuple[Unit, float] | None = None
        self._slugs: tuple[str, ...] = ()
        self._drained = threading.Event()
        self._stopping = False

    def fit(self, worker_bytes: int) -> None:
        """See `Engine.fit`. There is one worker, whatever it needs: `EngineError` where that is not there."""
        fit_memory(EngineConfig(workers=1), self._pool, worker_bytes)

    def run(self, jobs: Sequence[Job], bundles: Sequence[Bundle]) -> Iterator[ChunkStatus]:
        """See `Engine.run`. A crash in native code ends this process: that is what the Ray engine guards against.

        Nor can a chunk that hangs in native code be interrupted from here: a line in the log says where it is.
        """
        if not bundles:
            return
        engine = jobs[0].config.engine
        self._slugs = tuple(job.slug for job in jobs)
        try:
            worker = self._worker = Worker(jobs)
            for bundle in bundles:
                with worker.at(bundle):
                    for unit in bundle:
                        if self._stopping:
                            return
                        yield self._run(worker, unit, engine.no_progress_s)
        finally:
            self._worker = self._at = None
            self._drained.set()
            discard(scratch_root(engine.scratch), jobs[0].stamp.run_id)

    def _run(self, worker: Worker, unit: Unit, limit_s: float) -> ChunkStatus:
        self._at = unit, monotonic()
        with worker.stages.told(lambda step: self._warn(step, limit_s), limit_s):
            status = worker.run(unit)
        self._at = None
        return status

    def drain(self, limit_s: float) -> None:
        """See `Engine.drain`."""
        self._stopping = True
        self._drained.wait(limit_s)

    def doing(self) -> Sequence[Doing]:
        """See `Engine.doing`."""
        at, worker = self._at, self._worker
        if at is None or worker is None:
            return ()
        step, now = worker.stages.now, monotonic()
        chunk, slug = at[0].chunk, self._slugs[at[0].operator]
        doing = Doing(chunk.scene, chunk.name, this_worker(), now - at[1], operator=slug)
        if step is None:
            return (doing,)
        return (replace(doing, stage=step.stage, frames=step.frames, stage_s=now - step.since),)

    def _warn(self, step: Step, limit_s: float) -> None:
        doing = ", ".join(map(str, self.doing())) or step.stage
        log.warning("no chunk finished for %g s (engine.no_progress_s); being worked on: %s", limit_s, doing)
