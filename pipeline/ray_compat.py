"""The corners of Ray that its releases keep changing, in one place."""

from __future__ import annotations

import faulthandler
import logging
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from pipeline.preflight import Node
from pipeline.private_cluster import private_cluster
from schemas.errors import EngineError

log = logging.getLogger("lift3d")

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
        with private_cluster(cpus) as options, _connected(**options):
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

    It waits in native code that holds Python's lock: no signal handler and no thread gets a turn. A cluster that was
    started by others may wait for ever for its first workers; nothing was begun by then.
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
