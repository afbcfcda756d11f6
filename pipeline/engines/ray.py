"""The worker as a pool of Ray Data actors. Rows carry a chunk's addresses and cameras, and bring back a status line.

Workers commit what they make themselves, so nothing is lost if the driver dies. Ray Data restarts dead actors and
repeats their work for ever. Notes in the store (`pipeline/store/attempts.py`) see to it that a view that ends its
worker time and again is found and set aside; a ledger sees to it that a worker that cannot even start ends the run.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from time import monotonic
from typing import TYPE_CHECKING, Any

from pipeline.bundles import Bundle, Unit
from pipeline.engines.ledger import Ledger
from pipeline.engines.payloads import Unpacker, packed
from pipeline.engines.ray_errors import gist, gist_of_task
from pipeline.engines.worker import ChunkStatus, Job, Worker, error_to_json
from pipeline.preflight import Pool, fit_memory, fit_pool, this_machine
from pipeline.ray_compat import cluster_is_given, cluster_nodes, data_context, ray_session, raylet_watched
from pipeline.reach import check_cluster
from pipeline.scratch import discard, scratch_root
from pipeline.telemetry.metrics import WorkerMetrics
from pipeline.telemetry.stages import Step
from pipeline.telemetry.trace import Doing, this_worker
from schemas.config import EngineConfig
from schemas.errors import EngineError, Lift3DError

if TYPE_CHECKING:
    import pyarrow as pa
    from ray.data import Dataset

MOST_BLOCKS = 4096
"""Up to here a chunk is a block of its own, so that its status comes back as soon as it is done."""
LEDGER_S = 5.0
"""Longest wait for the ledger's answer."""
LOOK_S = 0.1
"""Between two looks at what is still under way once the run was told to stop."""
HEAPS = "MALLOC_ARENA_MAX"
"""glibc keeps what is freed in heaps, up to eight a core, which threads go through in turn. With one, and each thread's
own cache of small pieces, a worker hardly grows with a scene."""


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
        self._heard = False

    def fit(self, worker_bytes: int) -> None:
        """See `Engine.fit`."""
        self.workers = fit_memory(self._config, self._pool, worker_bytes)

    def run(self, jobs: Sequence[Job], bundles: Sequence[Bundle]) -> Iterator[ChunkStatus]:
        """See `Engine.run`."""
        import ray

        if not bundles:
            return
        with ray_session():
            ledger = self._ledger = _ledger_beside_us()  # whose process starts while Ray Data is imported here
            from ray.data.exceptions import ExecutionTimeoutError
            from ray.exceptions import RayActorError, RayTaskError

            try:
                with raylet_watched(), data_context(self._config.no_progress_s):
                    yield from self._statuses(jobs, bundles, ledger)
            except ExecutionTimeoutError:
                raise self._stalled(self.doing()) from None
            except RayActorError as error:
                raise EngineError(
                    f"a worker cannot go on: {gist(error)}",
                    remedy="--engine local shows what happens in it; what is committed is kept",
                ) from error
            except RayTaskError as error:
                lost = isinstance(error.cause, RayActorError)
                remedy = (
                    "a node may be lost; what is committed is kept, run again to resume" if lost else "this is a bug"
                )
                raise EngineError(f"a worker failed: {gist_of_task(error)}", remedy=remedy) from error
            finally:
                with self._lock:
                    self._ledger = None
                ray.kill(ledger)
                discard(scratch_root(self._config.scratch), jobs[0].stamp.run_id)

    def drain(self, limit_s: float) -> None:
        """See `Engine.drain`."""
        with self._lock:
            if self._ledger is None:
                return
            self._ledger.stop.remote()
        pause, deadline = threading.Event(), monotonic() + limit_s
        while monotonic() < deadline and any(one.scene for one in self.doing()):
            pause.wait(LOOK_S)

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

    def _statuses(self, jobs: Sequence[Job], bundles: Sequence[Bundle], ledger: Any) -> Iterator[ChunkStatus]:
        batches: Iterable[Any] = self._dataset(jobs, bundles, ledger).iter_batches(
            batch_size=None, batch_format="pyarrow"
        )
        for batch in batches:
            self._heard = True
            yield from (ChunkStatus.from_json(text).checked() for text in batch["status"].to_pylist())

    def _dataset(self, jobs: Sequence[Job], bundles: Sequence[Bundle], ledger: Any) -> Dataset:
        import ray.data

        rows = [{"payload": payload} for payload in packed(bundles)]
        return ray.data.from_items(rows, override_num_blocks=min(len(rows), MOST_BLOCKS)).map_batches(
            ChunkActor,
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(size=min(self.workers, len(rows)), max_tasks_in_flight_per_actor=2),
            batch_format="pyarrow",
            fn_constructor_kwargs={"jobs": jobs, "ledger": ledger},
            num_cpus=self._pool.cpus,
            num_gpus=self._pool.gpus,
            runtime_env={"env_vars": {HEAPS: os.environ.get(HEAPS, "1")}},
        )

    def _stalled(self, in_flight: Sequence[Doing]) -> EngineError:
        import ray

        idle = "nothing" if self._heard else "nothing, as no worker has started yet"
        working = "; ".join(map(str, in_flight)) or idle
        free = ray.available_resources()
        return EngineError(
            f"no chunk finished for {self._config.no_progress_s:g} s. Being worked on: {working}. Free in "
            f"the cluster: {free.get('CPU', 0):g} CPU, {free.get('GPU', 0):g} GPU; a worker needs {self._pool.cpus:g} "
            f"CPU, {self._pool.gpus:g} GPU",
            remedy="raise engine.no_progress_s or lower plan.chunk if chunks take that long; run again to resume",
        )


class ChunkActor:
    """A `Worker` behind Ray Data's interface for batches.

    Errors of this project come back as a status, so that the driver raises them as they are and at once.
    """

    def __init__(self, jobs: Sequence[Job], ledger: Any) -> None:
        self._jobs = jobs
        self._ledger = ledger
        self._allowed = jobs[0].config.engine.attempts
        self._worker = self._start()
        self._metrics = WorkerMetrics()
        self._unpack = Unpacker()

    def _start(self) -> Worker | Lift3DError:
        import ray

        # A restarted actor keeps its id.
        start = "", "", f"start of worker {str(ray.get_runtime_context().get_actor_id())[:8]}"
        if ray.get(self._ledger.begin.remote(start, this_worker())) > self._allowed:
            return EngineError(
                f"a worker died {self._allowed} times before it could start: out of memory, or a crash in native code",
                remedy="try fewer engine.workers; --engine local shows a crash as it is",
            )
        try:
            worker: Worker | Lift3DError = Worker(self._jobs)
        except Lift3DError as error:
            worker = error
        ray.get(self._ledger.end.remote(start))
        return worker

    def __call__(self, batch: pa.Table) -> pa.Table:
        """[`payload`] -> [`status`]: a status a unit of each row's bundle."""
        import pyarrow as pa

        bundles = [self._unpack(payload) for payload in batch["payload"].to_pylist()]
        texts = [status.to_json() for bundle in bundles for status in self._work_on(bundle)]
        return pa.table({"status": pa.array(texts, pa.string())})

    def _work_on(self, bundle: Bundle) -> Iterator[ChunkStatus]:
        """Unit by unit; the first that cannot go on is the last, since its error ends the run."""
        if isinstance(self._worker, Lift3DError):
            yield self._failed(bundle[0], self._worker)
            return
        with self._worker.at(bundle):
            for unit in bundle:
                try:
                    status = self._run(self._worker, unit)
                except Lift3DError as error:
                    yield self._failed(unit, error)
                    return
                if status is None:
                    return
                self._metrics.add(status)
                yield status

    def _run(self, worker: Worker, unit: Unit) -> ChunkStatus | None:
        """None where the run was told to stop."""
        import ray

        work = self._jobs[unit.operator].slug, unit.chunk.scene, unit.chunk.name

        def tell(step: Step) -> None:
            self._ledger.at.remote(work, step.stage, step.frames, monotonic() - step.since)

        begun = ray.get(self._ledger.begin.remote(work, this_worker()))
        if not begun:
            return None
        with worker.stages.told(tell):
            status = worker.run(unit, begun)
        ray.get(self._ledger.end.remote(work))
        return status

    def _failed(self, unit: Unit, error: Lift3DError) -> ChunkStatus:
        slug = self._jobs[unit.operator].slug
        return ChunkStatus(unit.chunk.scene, unit.chunk.name, slug, error=error_to_json(error))


def _ledger_beside_us() -> Any:
    """The ledger, on the driver's own node: what is lost with any other node must not take it along.

    A soft affinity may be placed elsewhere all the same. A ledger that dies starts again, and calls wait for it.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    actor: Any = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(Ledger)
    return actor.options(scheduling_strategy=here).remote()
