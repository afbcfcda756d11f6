"""A driver that is killed or told to stop: what it committed stays, the next run makes only what is missing."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from pipeline.progress import Progress
from pipeline.run import run_labeling
from pipeline.store import operator_slug, validate
from schemas.config import LabelingConfig
from schemas.errors import LeaseError

Rooms = Callable[..., Path]
Build = Callable[..., LabelingConfig]
Labels = Callable[[LabelingConfig], pd.DataFrame]

FRAMES, CHUNK = 16, 2


def start(config: LabelingConfig) -> "subprocess.Popen[bytes]":
    """`run_labeling` in a process of its own."""
    program = (
        "import sys; from pipeline.run import run_labeling; from schemas.config import LabelingConfig;"
        "run_labeling(LabelingConfig.model_validate_json(sys.argv[1]))"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", program, config.model_dump_json()]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE)


def committed(config: LabelingConfig) -> int:
    """Frames whose chunk is committed."""
    return CHUNK * len(list(Path(config.store, "_commits").rglob("*.json")))


def leases(config: LabelingConfig) -> int:
    """Runs that hold the store, or did when they died."""
    return len(list(Path(config.store, "_leases").glob("*.json")))


def wait_for_commits(config: LabelingConfig, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + 60
    while committed(config) == 0:
        assert process.poll() is None, process.communicate()[1].decode()
        assert time.monotonic() < deadline, "nothing was committed in a minute"
        time.sleep(0.05)


def settled(config: LabelingConfig) -> int:
    """Committed frames once nobody commits any more: a Ray worker outlives its driver for a moment."""
    before = -1
    while (now := committed(config)) != before:
        before = now
        time.sleep(1.0)
    return now


@pytest.mark.parametrize(
    ("engine", "number"),
    [
        pytest.param({"kind": "ray", "workers": 1}, signal.SIGKILL, marks=pytest.mark.ray, id="ray, kill -9"),
        pytest.param({"kind": "local"}, signal.SIGKILL, id="local, kill -9"),
        pytest.param({"kind": "local"}, signal.SIGTERM, id="local, kill"),
        pytest.param({"kind": "local"}, signal.SIGINT, id="local, Ctrl-C"),
    ],
)
def test_the_next_run_makes_what_is_missing_and_nothing_else(
    rooms: Rooms, config: Build, labels: Labels, fragile: str, engine: dict[str, object], number: signal.Signals
) -> None:
    rooms(a=FRAMES)

    def settings(store: str, seconds: float, **engine: object) -> LabelingConfig:
        operator = {"spec": fragile, "kwargs": {"seconds": seconds}, "batch_size": 1}
        return config(store, operator=operator, lift={"method": "none"}, plan={"chunk": CHUNK}, engine=engine)

    with start(settings("broken", 0.3, **engine)) as process:
        wait_for_commits(settings("broken", 0.3), process)
        process.send_signal(number)
        process.communicate(timeout=30)
    assert process.returncode != 0
    assert leases(settings("broken", 0.3)) == (1 if number == signal.SIGKILL else 0)
    survived = settled(settings("broken", 0.3))
    assert 0 < survived < FRAMES

    second = run_labeling(settings("broken", 0.0))
    assert (second.frames_resumed, second.frames_labelled) == (survived, FRAMES - survived)
    run_labeling(settings("undisturbed", 0.0))
    pd.testing.assert_frame_equal(labels(settings("broken", 0)), labels(settings("undisturbed", 0)))
    assert not validate(settings("broken", 0.0).store).problems
    assert leases(settings("broken", 0.0)) == 0


@pytest.mark.parametrize("kind", ["local", pytest.param("ray", marks=[pytest.mark.ray, pytest.mark.slow])])
def test_what_is_under_way_is_committed_when_a_run_is_told_to_stop(
    rooms: Rooms, config: Build, fragile: str, kind: str
) -> None:
    """SIGTERM comes in the middle of a chunk, which takes 1.4 s; nothing is begun after it."""
    rooms(a=FRAMES)
    operator = {"spec": fragile, "kwargs": {"seconds": 0.7}, "batch_size": 1}
    engine = {"kind": kind, "workers": 1}
    settings = config(operator=operator, lift={"method": "none"}, plan={"chunk": CHUNK}, engine=engine)
    with start(settings) as process:
        wait_for_commits(settings, process)
        time.sleep(0.4)
        before = committed(settings)
        process.send_signal(signal.SIGTERM)
        error = process.communicate(timeout=60)[1].decode()
    assert process.returncode == -signal.SIGINT, error  # Python's own end after a KeyboardInterrupt
    assert "what is under way may take 20 s" in error
    assert settled(settings) == before + CHUNK
    assert leases(settings) == 0
    assert not list(Path(settings.store, "_attempts").rglob("*.json"))


def test_who_does_not_want_to_wait_says_it_twice(rooms: Rooms, config: Build, fragile: str) -> None:
    rooms(a=FRAMES)
    operator = {"spec": fragile, "kwargs": {"seconds": 600.0}, "batch_size": 1}
    settings = config(operator=operator, lift={"method": "none"}, engine={"kind": "local"})
    with start(settings) as process:
        deadline = time.monotonic() + 60
        while not list(Path(settings.store, "_attempts").rglob("*.json")):
            assert time.monotonic() < deadline, "nothing was begun in a minute"
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        time.sleep(1.0)
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=15)
    assert process.returncode == -signal.SIGINT
    assert (committed(settings), leases(settings)) == (0, 0)


def test_two_runs_on_one_store_do_not_meet(rooms: Rooms, config: Build, labels: Labels, fragile: str) -> None:
    """The second is told who is at work; with another operator it may go on beside the first."""
    rooms(a=4)
    slow = {"spec": fragile, "kwargs": {"seconds": 1.0}, "batch_size": 1}
    first = config(operator=slow, lift={"method": "none"}, plan={"chunk": CHUNK})
    with start(first) as process:
        wait_for_commits(first, process)
        with pytest.raises(LeaseError, match=rf"being worked on by run \S+ \(process {process.pid} on .*, since .*UTC"):
            run_labeling(first)
        other = config(lift={"method": "none"})
        assert run_labeling(other).frames_labelled == 4
        process.communicate(timeout=60)
    assert process.returncode == 0
    assert len(labels(first)) == 8
    assert run_labeling(first).frames_resumed == 4


def test_a_run_that_was_replaced_ends_before_it_publishes(rooms: Rooms, config: Build, fragile: str) -> None:
    """A driver that slept so long that another one took over finds out with its next finished chunk."""
    rooms(a=4)
    slow = {"spec": fragile, "kwargs": {"seconds": 0.0}, "batch_size": 1}
    settings = config(operator=slow, lift={"method": "none"}, plan={"chunk": CHUNK})
    path = Path(settings.store, "_leases", f"operator={operator_slug(fragile)}.json")

    def steal(progress: Progress) -> None:
        holder = json.loads(path.read_text())
        path.write_text(json.dumps({**holder, "run_id": "other"}))

    with pytest.raises(LeaseError, match="silent for too long, and run other"):
        run_labeling(settings, on_progress=steal)
    assert json.loads(path.read_text())["run_id"] == "other"


def raylet_of(driver: int) -> int:
    """The raylet that a driver started."""
    children = (Path("/proc") / str(driver) / "task" / str(driver) / "children").read_text().split()
    (raylet,) = (
        pid for pid in children if Path("/proc", pid, "cmdline").read_bytes().split(b"\0")[0].endswith(b"raylet")
    )
    return int(raylet)


@pytest.mark.ray
@pytest.mark.skipif(sys.platform != "linux", reason="finds the raylet in /proc")
def test_a_run_whose_raylet_dies_says_so_and_gives_its_lease_back(rooms: Rooms, config: Build, fragile: str) -> None:
    """Before Ray ends the driver in its own words, with whatever it holds."""
    rooms(a=FRAMES)
    operator = {"spec": fragile, "kwargs": {"seconds": 0.3}, "batch_size": 1}
    engine = {"kind": "ray", "workers": 1}
    settings = config(operator=operator, lift={"method": "none"}, plan={"chunk": CHUNK}, engine=engine)
    with start(settings) as process:
        wait_for_commits(settings, process)
        os.kill(raylet_of(process.pid), signal.SIGKILL)
        said = process.communicate(timeout=60)[1].decode()
    assert process.returncode == 1
    assert "EngineError: Ray's raylet on this machine died" in said
    assert 0 < committed(settings) < FRAMES
    assert leases(settings) == 0
    (document,) = (json.loads(path.read_text()) for path in Path(settings.store, "runs").glob("*.json"))
    assert document["state"] == "failed" and "raylet" in document["error"]
