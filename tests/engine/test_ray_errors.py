"""An exception of a worker, as the user reads it."""

import os
import signal
import subprocess
import sys

import pytest

from pipeline.engines.ray_errors import gist, gist_of_task

WRAPPED = """\x1b[36mray::MapWorker(MapBatches(ChunkActor)).submit()\x1b[39m (pid=1, ip=127.0.0.2)
  File "worker.py", line 3, in __call__
    raise ValueError("boom")
          ^^^^^^^^^^^^^^^^^^
{raised}

The above exception was the direct cause of the following exception:

\x1b[36mray::MapWorker(MapBatches(ChunkActor)).submit()\x1b[39m (pid=1, ip=127.0.0.2)
ray.exceptions.UserCodeException: UDF failed to process a data block.
Failed to apply UDF transform after 1/1 attempts (total backoff 0.0s).
To change retry attempts, backoff, or which errors are retried, configure ...
"""


@pytest.mark.parametrize(
    "raised",
    [
        "ValueError: boom",
        "ValueError: boom\nsecond line of it",
        "ValueError: boom\nline: of it\nlast",
        "ray.exceptions.ActorUnavailableError: The actor is unavailable: RPC error: recvmsg",
        "KeyError",
    ],
)
def test_what_a_worker_raised_is_told_not_what_wraps_it(raised):
    assert gist_of_task(RuntimeError(WRAPPED.format(raised=raised))) == raised.replace("\n", " ")


def test_the_cause_nearest_to_the_worker_is_told():
    text = WRAPPED.format(
        raised="OSError: disk\n\nThe above exception was the direct cause of the following exception:\n\n"
        "Traceback (most recent call last):\n  File \"worker.py\", line 4, in __call__\n    raise\nKeyError: 'x'"
    )
    assert gist_of_task(RuntimeError(text)) == "KeyError: 'x'"


def test_a_text_without_a_trace_is_told_by_its_ends():
    assert gist_of_task(RuntimeError("  It ended.\n  Somehow.\n  For good.")) == "It ended. ... For good."
    assert (
        gist(RuntimeError("\x1b[31mThe actor died.\x1b[39m\nmore\nIts exit code is 9"))
        == "The actor died. ... Its exit code is 9"
    )
    assert gist(RuntimeError("")) == "RuntimeError"


def test_a_cluster_that_never_answers_ends_the_process():
    """As Ray does then, what stands in for it sleeps in native code with Python's lock in hand."""
    code = (
        "import ctypes, ray; from pipeline import ray_compat;"
        "ray_compat.CONNECT_S = 0.5; ray.init = lambda **options: ctypes.PyDLL(None).sleep(100);"
        "ray_compat.ray_session().__enter__()"
    )
    env = {**os.environ, "RAY_ADDRESS": "127.0.0.2:1"}
    ran = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 1
    assert "Timeout" in ran.stderr and "_joined" in ran.stderr


RAYLET_THAT_SPEAKS_TO_THE_END = """
import threading, time
import ray
from ray._private.utils import publish_error_to_driver
from pipeline.ray_compat import ray_session

def speak(gcs, job):
    while True:
        publish_error_to_driver("test", f"words at {time.monotonic()}", gcs_client=gcs, job_id=job)

with ray_session(1):
    worker = ray._private.worker.global_worker
    threading.Thread(target=speak, args=(worker.gcs_client, worker.current_job_id), daemon=True).start()
    time.sleep(0.5)
"""


@pytest.mark.slow
@pytest.mark.ray
def test_the_raylet_says_nothing_among_the_results_not_even_while_the_cluster_is_stopped():
    command = [sys.executable, "-c", RAYLET_THAT_SPEAKS_TO_THE_END]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == "", ran.stdout


TOLD_TO_STOP_WHILE_RAY_STOPS = """
import os, signal, sys, threading, time
import ray
from pipeline.ray_compat import ray_session

def tell():
    time.sleep(float(sys.argv[1]))
    os.kill(os.getpid(), signal.SIGINT)

shutdown = ray.shutdown
ray.shutdown = lambda: (threading.Thread(target=tell).start(), shutdown())
with ray_session(1):
    pass
"""


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.parametrize("seconds", [0.0, 0.1])
def test_a_signal_that_comes_while_ray_stops_is_heard_after_that(seconds):
    command = [sys.executable, "-c", TOLD_TO_STOP_WHILE_RAY_STOPS, str(seconds)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode == -signal.SIGINT, ran.stderr
    assert "KeyboardInterrupt" in ran.stderr
    assert "_signals_put_off" in ran.stderr, ran.stderr
