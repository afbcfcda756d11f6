"""A cluster of one run: what it starts, and what happens to it while it starts."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.ray

WHAT_RUNS = """
from pipeline.ray_compat import ray_session

with ray_session(1):
    import ray
    from ray._private.worker import _global_node
    print(*sorted(_global_node.all_processes), sep="\\n")
"""

FIRST_WORKER_DIES = """
import os, signal, threading, time
from pathlib import Path
import ray
from pipeline.ray_compat import ray_session

def parent(pid):
    return int(Path("/proc", str(pid), "stat").read_text().rpartition(")")[2].split()[1])

def of_ours(path):
    try:
        return b"default_worker.py" in path.read_bytes() and parent(parent(path.parent.name)) == os.getpid()
    except OSError:
        return False

def kill_first():
    while not (found := [path for path in Path("/proc").glob("[0-9]*/cmdline") if of_ours(path)]):
        time.sleep(0.01)
    os.kill(int(found[0].parent.name), signal.SIGKILL)
    print("killed")

killer = threading.Thread(target=kill_first, daemon=True)
killer.start()
with ray_session(1):
    print(ray.get(ray.remote(lambda: "at work").remote()))
    killer.join()
"""


def output(code: str) -> list[str]:
    command = [sys.executable, "-c", code]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.split("\n")[:-1]


def test_nothing_runs_that_nobody_asks():
    assert output(WHAT_RUNS) == ["gcs_server", "raylet"]


@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes under /proc")
def test_a_worker_that_dies_while_the_cluster_starts_is_replaced():
    """Ray by itself would keep the driver waiting for ever."""
    assert output(FIRST_WORKER_DIES) == ["killed", "at work"]
