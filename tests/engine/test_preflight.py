"""What fits where, and what is said where it does not."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.preflight import (
    PIXEL_BYTES,
    SPARE_CPUS,
    WORKER_BYTES,
    Node,
    Pool,
    check_room,
    fit_memory,
    fit_pool,
    free_memory,
    this_machine,
    worker_memory,
)
from pipeline.run import run_labeling
from pipeline.store import Store, read_run
from pipeline.survey import survey
from schemas.config import EngineConfig
from schemas.errors import EngineError, StoreError


@pytest.mark.parametrize(("cpus", "workers"), [(1, 1), (2, 2), (4, 4), (8, 8)])
def test_by_default_there_is_a_worker_a_cpu(cpus: float, workers: int) -> None:
    pool = fit_pool(EngineConfig(), [Node(cpus, 0)])
    assert (pool.workers, pool.gpus, pool.device) == (workers, 0, "cpu")


def test_workers_take_a_gpu_each_where_there_are_some() -> None:
    pool = fit_pool(EngineConfig(), [Node(16, 2), Node(16, 2)])
    assert (pool.workers, pool.gpus, pool.device) == (4, 1.0, "cuda")


def test_gpus_can_be_shared_and_left_alone() -> None:
    assert fit_pool(EngineConfig(gpus_per_worker=0.5), [Node(16, 2)]).workers == 4
    assert fit_pool(EngineConfig(device="cpu"), [Node(16, 2)]).device == "cpu"


def test_more_than_fits_is_refused_with_what_was_asked_what_is_there_and_what_to_set() -> None:
    with pytest.raises(EngineError) as refusal:
        fit_pool(EngineConfig(workers=3), [Node(2, 0)])
    text = str(refusal.value)
    assert "3 worker(s) with 0.75 CPU" in text
    assert "1 node(s) with 2 CPU" in text
    assert "engine.workers to at most 2" in text


def test_workers_that_would_take_every_cpu_are_refused() -> None:
    with pytest.raises(EngineError, match="beside the 0.25 CPU"):
        fit_pool(EngineConfig(workers=2, cpus_per_worker=1.0), [Node(2, 0)])


def test_a_worker_does_not_stretch_over_nodes() -> None:
    with pytest.raises(EngineError, match="can host 0"):
        fit_pool(EngineConfig(cpus_per_worker=4.0), [Node(2, 0), Node(2, 0)])


@pytest.mark.parametrize("asked", [{"device": "cuda"}, {"gpus_per_worker": 1.0}])
def test_a_gpu_where_there_is_none_is_refused(asked: dict[str, object]) -> None:
    with pytest.raises(EngineError, match=r"there is no GPU here.*engine\.device=cpu"):
        fit_pool(EngineConfig.model_validate(asked), [Node(8, 0)])


@given(
    nodes=st.lists(st.builds(Node, st.integers(0, 64), st.integers(0, 8)), min_size=1, max_size=5),
    cpus=st.floats(0.1, 8),
    gpus=st.sampled_from([0.0, 0.25, 0.5, 1.0, 2.0]),
)
def test_a_pool_that_is_granted_fits(nodes: list[Node], cpus: float, gpus: float) -> None:
    try:
        pool = fit_pool(EngineConfig(cpus_per_worker=cpus, gpus_per_worker=gpus), nodes)
    except EngineError:
        return
    assert pool.workers * pool.cpus + SPARE_CPUS <= sum(node.cpus for node in nodes) + 1e-6
    assert pool.workers * pool.gpus <= sum(node.gpus for node in nodes) + 1e-6


def test_this_machine_can_host_the_default() -> None:
    assert fit_pool(EngineConfig(device="cpu"), [this_machine()]).workers >= 1


GB = 10**9


def pool(workers: int, *memory: float) -> Pool:
    return Pool(workers, 0.75, 0.0, "cpu", tuple(Node(8, 0, free) for free in memory))


@pytest.mark.parametrize(
    ("asked", "memory", "workers"),
    [
        (4, (16 * GB,), 4),
        (None, (16 * GB,), 4),
        (None, (7 * GB,), 3),
        (None, (3 * GB, 3 * GB), 2),
        (4, (4 * GB, 4 * GB), 4),
        (None, (float("inf"),), 4),
    ],
)
def test_workers_find_the_memory_that_they_need(asked: int | None, memory: tuple[float, ...], workers: int) -> None:
    """Two GB each: on one node or several, and fewer of them where nobody said how many."""
    assert fit_memory(EngineConfig(workers=asked), pool(4, *memory), 2 * GB) == workers


@pytest.mark.parametrize(
    ("asked", "memory", "remedy"),
    [
        (4, (7 * GB,), "engine.workers to at most 3"),
        (None, (1 * GB, 1 * GB), "lower lift.sources, or lower plan.chunk"),
    ],
)
def test_workers_that_do_not_find_their_memory_are_refused(
    asked: int | None, memory: tuple[float, ...], remedy: str
) -> None:
    with pytest.raises(EngineError, match=rf"at least 2.0 GB of memory.*GB are free.*{remedy}"):
        fit_memory(EngineConfig(workers=asked), pool(4, *memory), 2 * GB)


def test_what_a_worker_is_said_to_need_at_least_it_does_need(rooms, config) -> None:
    """The bound refuses runs, so it must not be above what a run takes: here a process that labels takes more."""
    rooms(a=8)
    settings = config()
    plan = survey(settings, Store(settings.store))
    document = read_run(settings.store, run_labeling(settings).run_id)
    assert worker_memory([], lifts=True) == WORKER_BYTES
    assert document["memory"]["worker_peak_bytes"] >= WORKER_BYTES
    views = plan.chunks[0].frames
    assert worker_memory(plan.chunks, lifts=True) - WORKER_BYTES == PIXEL_BYTES * len(views) * 48 * 64


def test_free_memory_is_what_a_process_can_take() -> None:
    assert 2**26 < free_memory() < 2**50


def test_a_store_that_will_not_fit_its_disk_is_refused(tmp_path: Path) -> None:
    check_room(str(tmp_path / "not" / "there"), 1000)
    check_room(str(tmp_path), None)
    check_room("s3://bucket/store", 10**18)
    with pytest.raises(StoreError, match=r"about 1000000000000.0 MB.*MB free.*make room"):
        check_room(str(tmp_path / "not" / "there"), 10**18)
