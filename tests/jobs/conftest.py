"""A Ray head of our own on this machine, to submit jobs to."""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

BIN = Path(sys.executable).parent
START_S = 90


@dataclass(frozen=True)
class Head:
    """A running Ray head: the address of its job server and the environment to talk to it."""

    address: str
    env: dict[str, str]


@pytest.fixture(scope="session")
def ray_head() -> Iterator[Head]:
    """A head on loopback with ports, files and a token of its own; other Ray clusters here are left alone."""
    # Socket paths below it must stay short, so pytest's own temporary folders do not do.
    files = tempfile.mkdtemp(prefix="l3d")
    gcs, dashboard, *others = _free_ports(6)
    env = {
        **os.environ,
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    env.pop("RAY_ADDRESS", None)
    flags = (
        "dashboard-agent-listen-port",
        "ray-client-server-port",
        "metrics-export-port",
        "dashboard-agent-grpc-port",
    )
    command = [BIN / "ray", "start", "--head", "--block", "--node-ip-address=127.0.0.1", f"--port={gcs}"]
    command += ["--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}", f"--temp-dir={files}"]
    command += [*(f"--{flag}={port}" for flag, port in zip(flags, others, strict=True)), "--num-cpus=2"]
    command += ["--include-dashboard=true", "--disable-usage-stats", "--object-store-memory=200000000"]
    log = Path(files) / "start.log"
    with log.open("w") as out:
        head = subprocess.Popen(command, env=env, stdout=out, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        _wait_for_agent(head, others[0], log)
        yield Head(f"http://127.0.0.1:{dashboard}", env)
    finally:
        head.send_signal(signal.SIGTERM)
        head.wait(timeout=30)
        shutil.rmtree(files, ignore_errors=True)


def _free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago, all different."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _wait_for_agent(head: subprocess.Popen, port: int, log: Path) -> None:
    """Jobs are accepted once the node's agent listens, which is some seconds after the dashboard does."""
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and head.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.2)
    pytest.fail(f"Ray did not start within {START_S} s:\n{log.read_text()}")
