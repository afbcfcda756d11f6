"""A submitted job that is stopped: it ends in order, what is committed stays, the next job goes on from there."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
OPERATORS = ROOT / "tests"
FRAMES = 24

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(300)]


def _ray_job(head: Any, *words: str) -> str:
    """What a `ray job` command says."""
    command = [str(Path(sys.executable).parent / "ray"), "job", *words[:1], "--address", head.address, *words[1:]]
    done = subprocess.run(command, cwd=ROOT, env=head.env, capture_output=True, text=True, timeout=110, check=False)
    return done.stdout + done.stderr


def _submit(head: Any, name: str, room: Path, store: Path, seconds: float, *, wait: bool) -> str:
    """Submit a run that takes so many seconds a frame; what `ray job submit` says."""
    kwargs = json.dumps({"log": str(store.with_suffix(".log")), "seconds": seconds})
    job = ["python", "jobs/label_scannet.py", str(room), "--store", str(store), "--lift", "none"]
    job += ["--operator", "chaos.chaos_operator:Chaotic", "--set", f"operator.kwargs={kwargs}"]
    job += ["--set", "plan.chunk=1", "--set", "operator.batch_size=1", "--set", "engine.workers=1"]
    runtime = json.dumps({"env_vars": {"PYTHONPATH": str(OPERATORS)}})
    flags = ["--submission-id", name, "--working-dir", ".", "--runtime-env-json", runtime]
    return _ray_job(head, "submit", *flags, *([] if wait else ["--no-wait"]), "--", *job)


def _committed(store: Path) -> int:
    return len(list((store / "_commits").rglob("*.json")))


def _status(head: Any, name: str) -> str:
    """How the job ended, once it has."""
    deadline = time.monotonic() + 60
    while "RUNNING" in (found := _ray_job(head, "status", name)):
        assert time.monotonic() < deadline, found
        time.sleep(0.3)
    return found


@pytest.mark.parametrize("how", ["SIGTERM", "ray job stop"])
def test_a_stopped_job_ends_in_order_and_the_next_one_goes_on(
    ray_head: Any, sample_room: Path, tmp_path: Path, how: str
) -> None:
    store, name = tmp_path / "labels", f"stopped-by-{how.replace(' ', '-')}"
    said = _submit(ray_head, name, sample_room, store, 0.7, wait=False)
    assert name in said
    deadline = time.monotonic() + 100
    while _committed(store) < 2:
        assert time.monotonic() < deadline, _ray_job(ray_head, "logs", name)
        time.sleep(0.1)
    (lease,) = (store / "_leases").glob("*.json")
    driver = json.loads(lease.read_text())["pid"]
    if how == "SIGTERM":
        os.kill(driver, signal.SIGTERM)
        ended = _status(ray_head, name)
        assert "failed" in ended
        assert "exit code 130" in ended
        assert not lease.exists()
    else:
        _ray_job(ray_head, "stop", name)
        assert "was stopped" in _status(ray_head, name)
    assert "Traceback" not in _ray_job(ray_head, "logs", name)

    survived = _settled(store)
    events = Counter(line.split()[0] for line in store.with_suffix(".log").read_text().splitlines())
    assert events["begin"] == events["end"] == survived, "a chunk that was under way was lost"
    assert 2 <= survived < FRAMES
    done = _submit(ray_head, f"after-{name}", sample_room, store, 0.0, wait=True)
    (line,) = (line for line in done.splitlines() if line.startswith("{"))
    summary = json.loads(line)
    assert (summary["frames_resumed"], summary["frames_labelled"]) == (survived, FRAMES - survived)
    assert "succeeded" in done


def _settled(store: Path) -> int:
    """Commits once there are no more: a worker outlives its driver for a moment."""
    before = -1
    while (now := _committed(store)) != before:
        before = now
        time.sleep(1.5)
    return now
