"""A Ray cluster of this machine alone, for as long as a run takes: quick to start, closed to others, gone after it."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import rmtree
from tempfile import gettempdir, mkdtemp
from typing import Any

from pipeline.preflight import this_machine

OBJECT_STORE_BYTES = 512 * 2**20
"""Of a private cluster. Rows hold addresses and cameras, never pixels."""
LOOPBACK = "127.0.0.2" if sys.platform == "linux" else "127.0.0.1"
"""Where a private cluster's processes find each other; on Linux, Ray takes 127.0.0.1 for a wish to be reachable."""
FOLDER = "lift3d-ray-"
"""Start of the name of a private cluster's folder; the process's id follows."""
BESIDE = "start_monitor", "start_api_server", "start_log_monitor"
"""How Ray's node starts what runs beside a cluster: autoscaler, dashboard (even where none is wanted: waited for) and
a reader of log files. Names of Ray's own: where another release has others, a start takes longer, and nothing else."""


@contextmanager
def private_cluster(cpus: float | None) -> Iterator[dict[str, Any]]:
    """Options of a cluster of this machine with a folder of its own.

    Some of Ray's ports listen on every interface, whatever it is told: the token keeps others out.
    """
    _have_token()
    # Ray's core writes warnings to stderr that nobody can act on; without a GPU reserved, it is to leave
    # CUDA_VISIBLE_DEVICES alone and not to announce that one day it will.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    # Else a driver waits for the first workers before it is let in, and for ever where one of them dies meanwhile.
    os.environ.setdefault("RAY_prestart_worker_first_driver", "0")
    here = this_machine()
    # Sockets live in the folder, and their paths must stay below about 100 characters.
    parent = Path("/tmp" if os.path.isdir("/tmp") else gettempdir())
    _sweep(parent)
    folder = mkdtemp(prefix=f"{FOLDER}{os.getpid()}-", dir=parent)
    try:
        with _workers_import_what_we_import(), _nothing_beside():
            yield {
                "address": "local",
                "include_dashboard": False,
                "num_cpus": cpus or here.cpus,
                "num_gpus": here.gpus,
                "object_store_memory": OBJECT_STORE_BYTES,
                "_node_ip_address": LOOPBACK,
                "_temp_dir": folder,
            }
    finally:
        rmtree(folder, ignore_errors=True)


def _sweep(parent: Path) -> None:
    """Remove what killed runs of this user left."""
    for folder in parent.glob(f"{FOLDER}[0-9]*-*"):
        try:
            os.kill(int(folder.name.removeprefix(FOLDER).partition("-")[0]), 0)
        except ProcessLookupError:
            rmtree(folder, ignore_errors=True)
        except (PermissionError, ValueError):
            continue


def _have_token() -> None:
    """Ray asks whoever connects for a token, and writes one to the home folder of users that have none.

    Theirs is random and stays in the environment of this process, which Ray reads once.
    """
    given = os.environ.keys() & {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"}
    if not given and not Path("~/.ray/auth_token").expanduser().exists():
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


@contextmanager
def _nothing_beside() -> Iterator[None]:
    """Clusters that are started in the block come without what nobody asks here: a quarter of the time to start."""
    from ray._private.node import Node

    methods: dict[str, Any] = {name: getattr(Node, name) for name in BESIDE if hasattr(Node, name)}
    for name in methods:
        setattr(Node, name, lambda *args, **options: None)
    try:
        yield
    finally:
        for name, method in methods.items():
            setattr(Node, name, method)


@contextmanager
def _workers_import_what_we_import() -> Iterator[None]:
    """Processes that are started in the block look for modules where this one does."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
    try:
        yield
    finally:
        del os.environ["PYTHONPATH"]
        if before is not None:
            os.environ["PYTHONPATH"] = before
