"""Checks that refuse a run before any work is done, in seconds, with what was asked, what is there and what to set."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from schemas.config import EngineConfig
from schemas.errors import EngineError

SPARE_CPUS = 0.25
"""CPUs of the cluster that workers leave for Ray's own tasks: without any, a run would wait for itself."""


@dataclass(frozen=True, slots=True)
class Node:
    """What one machine of a cluster offers."""

    cpus: float
    gpus: float


@dataclass(frozen=True, slots=True)
class Pool:
    """The workers of a run: how many, and what each reserves."""

    workers: int
    cpus: float
    gpus: float
    device: str


def this_machine() -> Node:
    """The CPUs that this process may use (a container's share counts), and the GPUs that torch sees."""
    import torch

    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Node(float(max(1, int(min(cpus, _cpu_quota())))), float(torch.cuda.device_count()))


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
    return Pool(config.workers or min(capacity, one_a_cpu), config.cpus_per_worker, gpus, "cuda" if gpus else "cpu")


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
