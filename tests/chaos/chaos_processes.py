"""Drivers, clusters and their descendants: real processes of the test, found by their parents, killed by their ids."""

from __future__ import annotations

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
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
BIN = Path(sys.executable).parent
START_S = 90
LOOPBACK = "127.0.0.2" if sys.platform == "linux" else "127.0.0.1"
"""Ray takes 127.0.0.1 for a wish to be reachable from elsewhere."""
QUIET = {
    "OMP_NUM_THREADS": "1",
    "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_health_check_initial_delay_ms": "2000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_failure_threshold": "3",
}
KINDS = {
    "actor": lambda command: command.startswith("ray::MapWorker"),
    "worker": lambda command: command.startswith("ray::") and "Agent" not in command,
    "raylet": lambda command: "raylet/raylet" in command.split(" ", 1)[0],
}
"""What to kill -> whether a command line is one of that kind."""


@dataclass(frozen=True)
class Process:
    """One line of the process table."""

    pid: int
    parent: int
    started: int
    command: str


def descendants(*roots: int) -> list[Process]:
    """All processes below these, children after their parents."""
    table = _table()
    found: list[Process] = []
    above = set(roots)
    while new := [process for process in table if process.parent in above]:
        found += new
        above = {process.pid for process in new}
    return found


def victims(kind: str, *roots: int) -> list[Process]:
    """Processes below `roots` that are of a kind of `KINDS`."""
    return [process for process in descendants(*roots) if KINDS[kind](process.command)]


def end(processes: list[Process], patience_s: float = 0.0) -> None:
    """Kill what is left of these, once they had the time to go by themselves."""
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline and _alive(processes):
        time.sleep(0.1)
    for process in _alive(processes):
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)


def _alive(processes: list[Process]) -> list[Process]:
    """Those that still run, and are still themselves: an id may be given away again."""
    now = {(process.pid, process.started) for process in _table()}
    return [process for process in processes if (process.pid, process.started) in now]


def _table() -> list[Process]:
    table = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, ValueError):
            values = (folder / "stat").read_text().rpartition(")")[2].split()
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if values[0] != "Z":
                table.append(Process(int(folder.name), int(values[1]), int(values[19]), command))
    return table


def environment(**more: str) -> dict[str, str]:
    """Of every process: our modules can be imported, no cluster is known, computation is single-threaded."""
    known = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    path = os.pathsep.join([str(ROOT), str(HERE.parent)])
    return {**known, **QUIET, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": path, **more}


@dataclass
class Cluster:
    """A cluster of several raylets on loopback.

    Attributes:
        address: of the head, for RAY_ADDRESS.
        env: what whoever connects needs.
        nodes: the `ray start` process of each node, the head first.
    """

    address: str
    env: dict[str, str]
    files: str
    nodes: list[subprocess.Popen[bytes]]

    def add(self, *flags: str) -> subprocess.Popen[bytes]:
        """Another node."""
        metrics, agent, http, _ = free_ports(4)
        ports = [f"--metrics-export-port={metrics}", f"--dashboard-agent-grpc-port={agent}"]
        command = ["ray", "start", f"--address={self.address}", f"--node-ip-address={LOOPBACK}", *flags]
        self._start([*command, *ports, f"--dashboard-agent-listen-port={http}"])
        return self.nodes[-1]

    def _start(self, command: list[str]) -> None:
        command = [*command, "--block", "--disable-usage-stats", "--object-store-memory=80000000"]
        with open(f"{self.files}/node{len(self.nodes)}.log", "wb") as log:
            self.nodes.append(
                subprocess.Popen(command, env=self.env, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
            )

    def stop(self) -> None:
        """End every process of the cluster."""
        below = descendants(*(node.pid for node in self.nodes))
        for node in reversed(self.nodes):
            node.terminate()
        for node in self.nodes:
            try:
                node.wait(timeout=20)
            except subprocess.TimeoutExpired:
                node.kill()
                node.wait()
        end(below, patience_s=3.0)
        shutil.rmtree(self.files, ignore_errors=True)


@contextmanager
def cluster(cpus: float) -> Iterator[Cluster]:
    """A cluster with a head of so many CPUs, a token, ports and files of its own."""
    files = tempfile.mkdtemp(prefix="l3dc")  # sockets in it need short paths
    port, client, metrics, agent, http = free_ports(5)
    env = environment(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=secrets.token_hex(32))
    made = Cluster(f"{LOOPBACK}:{port}", env, files, [])
    ports = {"port": port, "ray-client-server-port": client, "metrics-export-port": metrics}
    ports |= {"dashboard-agent-grpc-port": agent, "dashboard-agent-listen-port": http}
    flags = [f"--{name}={value}" for name, value in ports.items()]
    flags += [f"--node-ip-address={LOOPBACK}", f"--temp-dir={files}", f"--num-cpus={cpus}", "--include-dashboard=false"]
    try:
        made._start(["ray", "start", "--head", *flags])
        _wait_for(made.nodes[0], port, files)
        yield made
    finally:
        made.stop()


def _wait_for(node: subprocess.Popen[bytes], port: int, files: str) -> None:
    """The head answers, and has a raylet."""
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and node.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex((LOOPBACK, port)) == 0 and victims("raylet", node.pid):
                return
        time.sleep(0.2)
    raise AssertionError(f"Ray did not start within {START_S} s: {Path(files, 'node0.log').read_text()}")


def free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago, all different."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
