"""The worker as a pool of Ray Data actors. Rows carry a chunk's addresses and cameras, and bring back a status line.

Workers commit what they make themselves, so nothing is lost if the driver dies. Ray Data restarts dead actors and
repeats their work for ever. Notes in the store (`pipeline/store/attempts.py`) see to it that a view that ends its
worker time and again is found and set aside; a ledger sees to it that a worker that cannot even start ends the run.
"""

from __future__ import annotations

import json
import os
import re
import threading
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from time import monotonic
from typing import TYPE_CHECKING, Any

from pipeline.engines.ledger import Ledger
from pipeline.engines.worker import ChunkStatus, Job, Worker, error_to_json
from pipeline.preflight import Pool, fit_memory, fit_pool, this_machine
from pipeline.ray_compat import cluster_is_given, cluster_nodes, data_context, ray_session
from pipeline.reach import check_cluster
from pipeline.scratch import discard, scratch_root
from pipeline.telemetry.metrics import WorkerMetrics
from pipeline.telemetry.stages import Step
from pipeline.telemetry.trace import Doing, this_worker
from schemas.config import EngineConfig
from schemas.errors import EngineError, Lift3DError
from schemas.scene import Chunk, chunk_from_json, chunk_to_json

if TYPE_CHECKING:
    import pyarrow as pa
    from ray.data import Dataset

MOST_BLOCKS = 4096
"""Up to here a chunk is a block of its own, so that its status comes back as soon as it is done."""
ANSI = re.compile(r"\x1b\[[0-9;]*m")
"""Colours that Ray writes into its messages."""
LEDGER_S = 5.0
"""Longest wait for the ledger's answer."""


@contextmanager
def open_ray(config: EngineConfig) -> Iterator[RayEngine]:
    """The Ray engine, checked. Raises `EngineError` where the workers do not fit the cluster, or it cannot be reached.

    A cluster that is given is joined at once. A private one takes seconds to start, so it waits for the first chunk.
    """
    import ray

    if not ray.is_initialized() and (address := os.environ.get("RAY_ADDRESS")):
        check_cluster(address)  # Ray itself would wait for more than a minute
    with ray_session() if cluster_is_given() else nullcontext():
        nodes = cluster_nodes() if cluster_is_given() else [this_machine()]
        yield RayEngine(config, fit_pool(config, nodes))


class RayEngine:
    """A pool of actors, each with its own operator and lift."""

    def __init__(self, config: EngineConfig, pool: Pool) -> None:
        self._config = config
        self._pool = pool
        self.device = pool.device
        self.workers = pool.workers
        self._ledger: Any = None
        self._lock = threading.Lock()

    def fit(self, worker_bytes: int) -> None:
        """See `Engine.fit`."""
        self.workers = fit_memory(self._config, self._pool, worker_bytes)

    def run(self, job: Job, chunks: Sequence[Chunk]) -> Iterator[ChunkStatus]:
        """See `Engine.run`."""
        import ray
        from ray.data.exceptions import ExecutionTimeoutError
        from ray.exceptions import RayActorError, RayTaskError

        if not chunks:
            return
        with ray_session(), data_context(self._config.no_progress_s):
            ledger = self._ledger = _ledger_beside_us()
            try:
                yield from self._statuses(job, chunks, ledger)
            except ExecutionTimeoutError:
                raise self._stalled(self.doing()) from None
            except RayActorError as error:
                raise EngineError(
                    f"a worker cannot go on: {_gist(error)}",
                    remedy="--engine local shows what happens in it; what is committed is kept",
                ) from error
            except RayTaskError as error:
                lost = isinstance(error.cause, RayActorError)
                remedy = (
                    "a node may be lost; what is committed is kept, run again to resume" if lost else "this is a bug"
                )
                raise EngineError(f"a worker failed: {_gist(error)}", remedy=remedy) from error
            finally:
                with self._lock:
                    self._ledger = None
                ray.kill(ledger)
                discard(scratch_root(job.config.engine.scratch), job.stamp.run_id)

    def doing(self) -> Sequence[Doing]:
        """See `Engine.doing`."""
        import ray
        from ray.exceptions import RayError

        with self._lock:  # Ray must not be asked once it is shut down: it would start anew
            if self._ledger is None:
                return ()
            try:
                found: list[Doing] = ray.get(self._ledger.report.remote(), timeout=LEDGER_S)
            except RayError:
                return ()
        return found

    def _statuses(self, job: Job, chunks: Sequence[Chunk], ledger: Any) -> Iterator[ChunkStatus]:
        batches: Iterable[Any] = self._dataset(job, chunks, ledger).iter_batches(
            batch_size=None, batch_format="pyarrow"
        )
        for batch in batches:
            yield from (ChunkStatus.from_json(text).checked() for text in batch["status"].to_pylist())

    def _dataset(self, job: Job, chunks: Sequence[Chunk], ledger: Any) -> Dataset:
        import ray.data

        rows = [{"payload": pack(chunk)} for chunk in chunks]
        return ray.data.from_items(rows, override_num_blocks=min(len(rows), MOST_BLOCKS)).map_batches(
            ChunkActor,
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(size=min(self.workers, len(rows)), max_tasks_in_flight_per_actor=2),
            batch_format="pyarrow",
            fn_constructor_kwargs={"job": job, "ledger": ledger},
            num_cpus=self._pool.cpus,
            num_gpus=self._pool.gpus,
        )

    def _stalled(self, in_flight: Sequence[Doing]) -> EngineError:
        import ray

        working = "; ".join(map(str, in_flight))
        free = ray.available_resources()
        return EngineError(
            f"no chunk finished for {self._config.no_progress_s:g} s. Being worked on: {working or 'nothing'}. Free in "
            f"the cluster: {free.get('CPU', 0):g} CPU, {free.get('GPU', 0):g} GPU; a worker needs {self._pool.cpus:g} "
            f"CPU, {self._pool.gpus:g} GPU",
            remedy="raise engine.no_progress_s or lower plan.chunk if chunks take that long; run again to resume",
        )


class ChunkActor:
    """A `Worker` behind Ray Data's interface for batches.

    Errors of this project come back as a status, so that the driver raises them as they are and at once.
    """

    def __init__(self, job: Job, ledger: Any) -> None:
        self._job = job
        self._ledger = ledger
        self._allowed = job.config.engine.attempts
        self._worker = self._start()
        self._metrics = WorkerMetrics(job.slug)

    def _start(self) -> Worker | Lift3DError:
        import ray

        # A restarted actor keeps its id.
        name = f"start of worker {str(ray.get_runtime_context().get_actor_id())[:8]}"
        if ray.get(self._ledger.begin.remote("", name, this_worker())) > self._allowed:
            return EngineError(
                f"a worker died {self._allowed} times before it could start: out of memory, or a crash in native code",
                remedy="try fewer engine.workers; --engine local shows a crash as it is",
            )
        try:
            worker: Worker | Lift3DError = Worker(self._job)
        except Lift3DError as error:
            worker = error
        ray.get(self._ledger.end.remote("", name))
        return worker

    def __call__(self, batch: pa.Table) -> pa.Table:
        """[`payload`] -> [`status`], row by row."""
        import pyarrow as pa

        statuses = [self._run(unpack(payload)) for payload in batch["payload"].to_pylist()]
        return pa.table({"status": [status.to_json() for status in statuses]})

    def _run(self, chunk: Chunk) -> ChunkStatus:
        import ray

        at = chunk.scene, chunk.name

        def tell(step: Step) -> None:
            self._ledger.at.remote(*at, step.stage, step.frames, monotonic() - step.since)

        try:
            if isinstance(self._worker, Lift3DError):
                raise self._worker
            begun = ray.get(self._ledger.begin.remote(*at, this_worker()))
            with self._worker.stages.told(tell):
                status = self._worker.run(chunk, begun)
            ray.get(self._ledger.end.remote(*at))
            self._metrics.add(status)
        except Lift3DError as error:
            return ChunkStatus(chunk.scene, chunk.name, error=error_to_json(error))
        return status


def _ledger_beside_us() -> Any:
    """The ledger, on the driver's own node: what is lost with any other node must not take it along."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
    actor: Any = ray.remote(num_cpus=0, max_restarts=-1)(Ledger)
    return actor.options(scheduling_strategy=here).remote()


def _gist(error: Exception) -> str:
    """The first and the last line of what Ray says: what happened, and the exception behind it."""
    text = ANSI.sub("", str(getattr(error, "cause", None) or error))
    lines = [line.strip() for line in text.splitlines() if line.strip()] or [type(error).__name__]
    return " ... ".join(dict.fromkeys([lines[0], lines[-1]]))


def pack(chunk: Chunk) -> bytes:
    """A chunk as a row's payload, about 200 bytes a view."""
    return zlib.compress(json.dumps(chunk_to_json(chunk)).encode(), level=1)


def unpack(payload: bytes) -> Chunk:
    """Inverse of `pack`."""
    return chunk_from_json(json.loads(zlib.decompress(payload)))
