"""Clusters of several raylets on this machine, of which one dies while a run is under way."""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
HARNESS = ROOT / "tests" / "chaos"
FRAMES = 12
PATIENCE_S = 20
"""engine.no_progress_s"""

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(420)]


@pytest.fixture(scope="module")
def processes() -> Any:
    """Clusters and their processes, as the chaos test has them."""
    if str(HARNESS) not in sys.path:
        sys.path.append(str(HARNESS))
    return importlib.import_module("chaos_processes")


@pytest.fixture(scope="module")
def harness(processes: Any) -> Any:
    """What the chaos test compares stores with."""
    return importlib.import_module("chaos_campaign")


@pytest.fixture(scope="module")
def rooms(harness: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One room."""
    dataset: Path = tmp_path_factory.mktemp("nodes") / "rooms"
    harness.write_rooms(dataset, {"a": FRAMES})
    return dataset


@pytest.fixture
def command(rooms: Path, tmp_path: Path) -> Callable[..., list[str]]:
    """A run of the operator that writes down what it is given; slow enough to be caught at it."""

    def build(store: str, engine: str = "ray", workers: int = 2, seconds: float = 0.5) -> list[str]:
        settings = {
            "operator.kwargs": json.dumps({"log": str(tmp_path / f"{store}.log"), "seconds": seconds}),
            "operator.batch_size": "1",
            "plan.chunk": "1",
            "engine.workers": str(workers),
            "engine.no_progress_s": str(PATIENCE_S),
        }
        start = [sys.executable, "-m", "jobs.cli", "label", str(rooms), "--store", str(tmp_path / store)]
        start += ["--operator", "chaos.chaos_operator:Chaotic", "--engine", engine, "--lift", "none"]
        return start + [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]

    return build


def _start(command: list[str], env: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(command, env=env, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _workers(log: Path) -> set[str]:
    """Processes that began a unit of work."""
    return {line.split()[2] for line in log.read_text().splitlines()} if log.exists() else set()


def _wait_until(condition: Callable[[], bool], driver: subprocess.Popen[str], what: str) -> None:
    deadline = time.monotonic() + 90
    while not condition():
        assert driver.poll() is None, f"the run ended before {what}: {driver.communicate()}"
        assert time.monotonic() < deadline, f"no sign of this: {what}"
        time.sleep(0.1)


def _lose(processes: Any, node: subprocess.Popen[bytes]) -> None:
    """The node's raylet and all of its workers are gone at once."""
    (raylet,) = processes.victims("raylet", node.pid)
    below = processes.descendants(node.pid)
    os.kill(raylet.pid, signal.SIGKILL)
    processes.end(below)


def test_what_a_lost_node_costs(
    processes: Any, harness: Any, command: Callable[..., list[str]], tmp_path: Path
) -> None:
    """A spare node takes over; without one the node that is left does all; where none is left, the run says so.

    Each node has room for one worker, so that one of the two is on the node that is lost.
    """
    clean = _start(command("clean", "local", seconds=0.0), processes.environment())
    said = clean.communicate(timeout=100)
    assert clean.returncode == 0, said
    with processes.cluster(cpus=1) as cluster:
        env = {**cluster.env, "RAY_ADDRESS": cluster.address}
        second = cluster.add("--num-cpus=1")
        _wait_until_joined(processes, second)
        driver = _start(command("spare"), env)
        _wait_until(lambda: len(_workers(tmp_path / "spare.log")) == 2, driver, "both workers at work")
        third = cluster.add("--num-cpus=1")
        _wait_until_joined(processes, third)
        _lose(processes, second)
        _assert_finished(harness, driver, tmp_path / "spare", tmp_path / "clean")

        driver = _start(command("fewer"), env)
        _wait_until(lambda: len(_workers(tmp_path / "fewer.log")) == 2, driver, "both workers at work")
        _lose(processes, third)
        _assert_finished(harness, driver, tmp_path / "fewer", tmp_path / "clean")

        fourth = cluster.add("--num-cpus=2")
        _wait_until_joined(processes, fourth)
        driver = _start([*command("none", workers=1), "--set", "engine.cpus_per_worker=1.5"], env)
        _wait_until(lambda: any((tmp_path / "none" / "_commits").rglob("*.json")), driver, "a chunk is committed")
        _lose(processes, fourth)
        out, err = driver.communicate(timeout=150)
        assert driver.returncode == 1, out + err
        assert f"no chunk finished for {PATIENCE_S} s" in err, err
        assert "Traceback" not in err
        assert not list((tmp_path / "none" / "_leases").glob("*.json"))

        driver = _start(command("none", workers=1, seconds=0.0), env)
        summary = _assert_finished(harness, driver, tmp_path / "none", tmp_path / "clean")
        assert summary["frames_resumed"] > 0


def _assert_finished(harness: Any, driver: subprocess.Popen[str], store: Path, clean: Path) -> dict[str, Any]:
    """The run ended well, and its store is that of an undisturbed one."""
    out, err = driver.communicate(timeout=150)
    assert driver.returncode == 0, out + err
    summary: dict[str, Any] = json.loads(out.splitlines()[-1])
    assert summary["frames_resumed"] + summary["frames_labelled"] == FRAMES
    _assert_equal(harness, store, clean)
    return summary


def _wait_until_joined(processes: Any, node: subprocess.Popen[bytes]) -> None:
    """The node's raylet runs, and has started the agents that it starts once it is part of the cluster."""
    deadline = time.monotonic() + 60
    while not any(process.command.startswith("ray::") for process in processes.descendants(node.pid)):
        assert time.monotonic() < deadline, "a node did not join"
        time.sleep(0.2)


def _assert_equal(harness: Any, store: Path, clean: Path) -> None:
    import pandas as pd

    from pipeline.store import validate

    (labels, quarantine), (wanted, none) = harness.content(store), harness.content(clean)
    pd.testing.assert_frame_equal(labels, wanted)
    assert quarantine == none == []
    assert not validate(str(store)).problems
