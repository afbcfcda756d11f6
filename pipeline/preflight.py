"""Checks that refuse a run before any work is done, in seconds, with what was asked, what is there and what to set."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from heapq import nlargest
from pathlib import Path

from pipeline.assets import local_path
from pipeline.plan import MOST_VIEWS
from pipeline.reach import existing
from schemas.config import EngineConfig
from schemas.errors import EngineError, StoreError
from schemas.scene import Chunk

log = logging.getLogger("lift3d")

WORKER_BYTES = 500 * 2**20
"""Memory of a worker before its first chunk, at least: Python with torch and Ray. Its operator comes on top."""
PIXEL_BYTES = 16
"""Memory a pixel of every view of a chunk that is lifted, at least: RGB and depth as float32."""
SPARE_CPUS = 0.25
"""CPUs of the cluster that workers leave for Ray's own tasks: without any, a run would wait for itself."""


@dataclass(frozen=True, slots=True)
class Node:
    """What one machine of a cluster offers: CPUs, GPUs, and bytes of memory that are free, as far as one can tell."""

    cpus: float
    gpus: float
    memory: float = float("inf")


@dataclass(frozen=True, slots=True)
class Pool:
    """The workers of a run: how many, what each reserves, and the nodes that host them."""

    workers: int
    cpus: float
    gpus: float
    device: str
    nodes: tuple[Node, ...]


def this_machine() -> Node:
    """The CPUs that this process may use (a container's share counts), and the GPUs that torch sees."""
    import torch

    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Node(float(max(1, int(min(cpus, _cpu_quota())))), float(torch.cuda.device_count()), free_memory())


def free_memory() -> float:
    """Bytes that processes may still take on this machine (a container's limit counts); infinite where not known."""
    free = float("inf")
    with suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        free = 1024.0 * int(next(line for line in lines if line.startswith("MemAvailable:")).split()[1])
    with suppress(OSError, ValueError):
        group = Path("/sys/fs/cgroup")
        limit, used = (float((group / name).read_text(encoding="ascii")) for name in ("memory.max", "memory.current"))
        with suppress(OSError, ValueError, StopIteration):  # files in memory are given back on demand
            lines = (group / "memory.stat").read_text(encoding="ascii").splitlines()
            used -= float(next(line for line in lines if line.startswith("inactive_file ")).split()[1])
        free = min(free, limit - used)
    return max(free, 0.0)


def _cpu_quota() -> float:
    """CPUs that the control group of a container grants, infinite where there is no limit."""
    with suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        return float(quota) / float(period)
    return float("inf")


def fit_pool(config: EngineConfig, nodes: Sequence[Node]) -> Pool:
    """The pool of workers that the nodes can host.

    With `device` auto, workers take a GPU each where there are GPUs. With `workers` absent there are as many as fit,
    at most one a CPU. Raises `EngineError` where a GPU was asked for and there is none, or where the workers do not
    fit beside `SPARE_CPUS`.
    """
    gpus = _gpus_per_worker(config, sum(node.gpus for node in nodes))
    capacity = _capacity(config.cpus_per_worker, gpus, nodes)
    if capacity < (config.workers or 1):
        raise EngineError(
            f"{config.workers or 1} worker(s) with {config.cpus_per_worker:g} CPU and {gpus:g} GPU each do not fit: "
            f"{_describe(nodes)} can host {capacity} beside the {SPARE_CPUS:g} CPU that Ray's own tasks need",
            remedy=f"set engine.workers to at most {capacity}, or lower engine.cpus_per_worker"
            if capacity
            else "lower engine.cpus_per_worker or engine.gpus_per_worker, or use a larger machine",
        )
    one_a_cpu = max(1, int(sum(node.cpus for node in nodes)))
    workers = config.workers or min(capacity, one_a_cpu)
    return Pool(workers, config.cpus_per_worker, gpus, "cuda" if gpus else "cpu", tuple(nodes))


def worker_memory(chunks: Iterable[Chunk], *, lifts: bool) -> int:
    """Bytes of memory that a worker needs at least for the largest chunk; on a GPU some of it is the GPU's.

    Of a chunk's views, no more than `MOST_VIEWS` are held at once.
    """
    sizes = ([f.camera.height * f.camera.width for f in chunk.frames] for chunk in chunks)
    largest = max((sum(nlargest(MOST_VIEWS, pixels)) for pixels in sizes), default=0)
    return WORKER_BYTES + (PIXEL_BYTES * largest if lifts else 0)


def fit_memory(config: EngineConfig, pool: Pool, need: int) -> int:
    """How many of a pool's workers find `need` bytes of memory each; fewer than asked for only if none were asked for.

    Raises `EngineError` where they do not fit.
    """
    room = sum(int(min(node.memory / need, pool.workers)) for node in pool.nodes)
    if room >= pool.workers:
        return pool.workers
    free = sum(node.memory for node in pool.nodes)
    lack = f"a worker needs at least {need / 1e9:.1f} GB of memory for its largest chunk, {free / 1e9:.1f} GB are free"
    if config.workers is None and room:
        log.warning("%s: %d worker(s) instead of %d", lack, room, pool.workers)
        return room
    raise EngineError(
        f"{config.workers or 1} worker(s) do not fit: {lack}",
        remedy=f"{f'set engine.workers to at most {room}' if room else 'lower lift.sources'}, or lower plan.chunk",
    )


def check_room(store: str, estimated: int | None) -> None:
    """Raise `StoreError` where a store's disk has less room than its labels will take. Object stores are not asked."""
    path = local_path(store)
    if estimated is None or path is None:
        return
    free = shutil.disk_usage(existing(path)).free
    if free < estimated:
        raise StoreError(
            f"labels will take about {estimated / 1e6:.1f} MB, and the disk of {store} has {free / 1e6:.1f} MB free",
            remedy="make room, label fewer scenes (--scenes, --limit), or choose a --store elsewhere",
        )


def _gpus_per_worker(config: EngineConfig, available: float) -> float:
    """GPUs that a worker reserves once `device` auto is resolved."""
    if config.device == "cpu":
        return 0.0
    if config.device == "auto" and not config.gpus_per_worker:
        return 1.0 if available >= 1 else 0.0
    wanted = config.gpus_per_worker or (1.0 if config.device == "cuda" else 0.0)
    if wanted and not available:
        raise EngineError(
            f"engine.device is {config.device!r} with {wanted:g} GPU a worker, and there is no GPU here",
            remedy="set engine.device=cpu and engine.gpus_per_worker=0, or run where there is one",
        )
    return wanted


def _capacity(cpus: float, gpus: float, nodes: Sequence[Node]) -> int:
    """Workers that fit, node by node; one fewer where they would take the spare CPUs too."""
    by_cpu = [int(node.cpus / cpus + 1e-9) for node in nodes]
    by_gpu = [int(node.gpus / gpus + 1e-9) for node in nodes] if gpus else by_cpu
    hosted = sum(map(min, by_cpu, by_gpu))
    left = sum(node.cpus for node in nodes) - hosted * cpus
    return hosted if left >= SPARE_CPUS - 1e-9 else max(hosted - 1, 0)


def _describe(nodes: Sequence[Node]) -> str:
    each = ", ".join(f"{node.cpus:g} CPU and {node.gpus:g} GPU" for node in nodes[:4])
    more = f" and {len(nodes) - 4} more" if len(nodes) > 4 else ""
    return f"{len(nodes)} node(s) with {each}{more}"
