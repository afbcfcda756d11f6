"""The corners of Ray that its releases keep changing, in one place."""

from __future__ import annotations

import faulthandler
import logging
import os
import secrets
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import rmtree
from tempfile import gettempdir, mkdtemp
from typing import Any, NoReturn

from pipeline.preflight import Node, this_machine
from schemas.errors import EngineError

log = logging.getLogger("lift3d")

OBJECT_STORE_BYTES = 512 * 2**20
"""Of a private cluster. Rows hold addresses and cameras, never pixels."""
LOOPBACK = "127.0.0.2" if sys.platform == "linux" else "127.0.0.1"
"""Where a private cluster's processes find each other; on Linux, Ray takes 127.0.0.1 for a wish to be reachable."""
FOLDER = "lift3d-ray-"
"""Start of the name of a private cluster's folder; the process's id follows."""
CONNECT_S = 120.0
"""Longest wait until Ray has started, where it has to, and let a driver in: half a minute on a busy machine."""


def cluster_is_given() -> bool:
    """Whether there is a cluster to join: this process has joined one, or RAY_ADDRESS names one."""
    import ray

    return ray.is_initialized() or bool(os.environ.get("RAY_ADDRESS"))


@contextmanager
def ray_session(cpus: float | None = None) -> Iterator[None]:
    """A connection to Ray: the one that there is, else the cluster of RAY_ADDRESS, else a private one on this machine.

    Args:
        cpus: of a private cluster; as many as this process may use where absent.

    Only what was started here is stopped: a private cluster ends with the block, a cluster that was there goes on.
    Raises `EngineError` where no connection can be made.
    """
    import ray

    if ray.is_initialized():
        yield
    elif cluster_is_given():
        with _connected(address=os.environ["RAY_ADDRESS"]):
            yield
    else:
        with _private_cluster(cpus) as options, _connected(**options):
            yield


def cluster_nodes() -> list[Node]:
    """What the nodes of the connected cluster offer."""
    import ray

    alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return [Node(float(has.get("CPU", 0)), float(has.get("GPU", 0))) for has in alive]


@contextmanager
def data_context(no_progress_s: float) -> Iterator[None]:
    """Ray Data's settings for the Datasets that are made and consumed in the block: quiet, and never stuck for ever."""
    from ray.data import DataContext

    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    context = DataContext.get_current().copy()
    context.enable_progress_bars = False
    context.execution_no_progress_timeout_s = no_progress_s
    with DataContext.current(context):
        yield


@contextmanager
def raylet_watched() -> Iterator[None]:
    """Raise `EngineError` in the block as soon as the raylet of a private cluster is gone.

    Ray gives a driver without a raylet some seconds more, then ends its process in the middle of whatever that is at.
    Only the main thread can be taken out of what it waits for: in another one, things stay as Ray leaves them.
    """
    raylet = _own_raylet()
    if raylet is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    ended, lock, main = threading.Event(), threading.Lock(), threading.get_ident()

    def watch() -> None:
        raylet.wait()
        with lock:
            if not ended.is_set():
                signal.pthread_kill(main, signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, _say_that_raylet_died)
    threading.Thread(target=watch, name="lift3d-raylet", daemon=True).start()
    try:
        yield
    finally:
        with lock:
            ended.set()
        signal.signal(signal.SIGUSR1, before)


def _say_that_raylet_died(number: int, frame: object) -> NoReturn:
    raise EngineError(
        "Ray's raylet on this machine died: it was killed, or memory ran out",
        remedy="what is committed is kept, run again to resume; fewer engine.workers need less memory",
    )


def _own_raylet() -> subprocess.Popen[bytes] | None:
    """The raylet that this process started."""
    from ray._private.worker import _global_node

    started = _global_node.all_processes.get("raylet") if _global_node else None
    return started[0].process if started else None


@contextmanager
def _connected(**options: Any) -> Iterator[None]:
    with _raylet_speaks_in_the_log(), _joined(**options):
        yield


@contextmanager
def _joined(**options: Any) -> Iterator[None]:
    import ray

    on_terminate = signal.getsignal(signal.SIGTERM)
    try:
        with _answered_in_time():
            ray.init(log_to_driver=False, logging_level=logging.ERROR, **options)
    except (ConnectionError, OSError, RuntimeError, ValueError) as error:
        raise EngineError(
            f"cannot connect to Ray ({options['address']}): {str(error).partition(chr(10))[0]}",
            remedy="check RAY_ADDRESS, or unset it to use this machine alone; --engine local needs no Ray",
        ) from error
    # Ray's own handler would end the process without a word to the rest of this program.
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, on_terminate)
    try:
        yield
    finally:
        with _signals_put_off():
            ray.shutdown()


@contextmanager
def _signals_put_off() -> Iterator[None]:
    """Put off SIGINT and SIGTERM until the block is over; a second one comes through at once.

    Where an exception interrupts Ray while it shuts down, Ray ends the process later, with code 1 and without a word.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    came: list[int] = []

    def put_off(number: int, frame: object) -> None:
        if came:
            signal.signal(number, before[signal.Signals(number)])
            signal.raise_signal(number)
        came.append(number)

    for number in before:
        signal.signal(number, put_off)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])


@contextmanager
def _answered_in_time() -> Iterator[None]:
    """End the process, with its stack on stderr and code 1, where Ray does not let it in for `CONNECT_S`.

    A cluster's first driver waits for the first workers; where one dies while it starts, Ray waits for ever, in native
    code that holds Python's lock: no signal handler and no thread gets a turn. No lease is held by then.
    """
    faulthandler.dump_traceback_later(CONNECT_S, exit=True, file=2)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


@contextmanager
def _raylet_speaks_in_the_log() -> Iterator[None]:
    """What Ray would print on stdout, where results go, of every worker that died; `EngineError` says what matters.

    A thread of Ray's prints it, from within `ray.init` until `ray.shutdown` has waited for it.
    """
    from ray._private import worker

    def note(data: dict[str, Any], ignore_prefix: bool) -> None:
        log.debug("Ray: %s", " ".join(map(str, data["lines"])))

    printing: Any = getattr(worker, "print_to_stdstream", None)  # a name of Ray's own: another release may have another
    worker.print_to_stdstream = note
    try:
        yield
    finally:
        worker.print_to_stdstream = printing


@contextmanager
def _private_cluster(cpus: float | None) -> Iterator[dict[str, Any]]:
    """Options of a cluster of this machine with a folder of its own.

    Some of Ray's ports listen on every interface, whatever it is told: the token keeps others out.
    """
    _have_token()
    # Ray's core writes warnings to stderr that nobody can act on; without a GPU reserved, it is to leave
    # CUDA_VISIBLE_DEVICES alone and not to announce that one day it will.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    here = this_machine()
    # Sockets live in the folder, and their paths must stay below about 100 characters.
    parent = Path("/tmp" if os.path.isdir("/tmp") else gettempdir())
    _sweep(parent)
    folder = mkdtemp(prefix=f"{FOLDER}{os.getpid()}-", dir=parent)
    try:
        with _workers_import_what_we_import():
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
