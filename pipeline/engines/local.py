"""The worker in this process, one chunk after another: for debugging, notebooks and tests. Needs no Ray."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from pipeline.engines.worker import ChunkStatus, Job, Worker
from pipeline.preflight import Pool, fit_pool, this_machine
from pipeline.scratch import discard, scratch_root
from schemas.config import EngineConfig
from schemas.scene import Chunk


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
        self.device = pool.device
        self.workers = 1

    def run(self, job: Job, chunks: Sequence[Chunk]) -> Iterator[ChunkStatus]:
        """See `Engine.run`. A crash in native code ends this process: that is what the Ray engine guards against."""
        if not chunks:
            return
        try:
            worker = Worker(job)
            yield from map(worker.run, chunks)
        finally:
            discard(scratch_root(job.config.engine.scratch), job.stamp.run_id)
