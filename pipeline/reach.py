"""Whether what a run needs is there: dataset, store and cluster answer within seconds, before much is loaded."""

from __future__ import annotations

import os
import re
import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress

from pipeline.assets import filesystem, local_path, storage_errors
from schemas.config import LabelingConfig
from schemas.errors import DatasetError, EngineError, Lift3DError, StoreError

ANSWER_S = 5.0
"""Longest wait for an answer. Clients of object stores would wait for minutes."""
REMEDY = "check the address, the connection and the credentials (s3:// reads AWS_* variables, AWS_ENDPOINT_URL too)"


def check_reachable(config: LabelingConfig) -> None:
    """Refuse a run whose operator nobody knows, whose store cannot be written to or whose addresses do not answer.

    Raises `ConfigError`, `DatasetError` or `StoreError`. What is there is looked at later.
    """
    for spec in config.operator.specs:
        check_operator_known(spec)
    waits = [
        answer_of(DatasetError, f"the dataset {config.source}", lambda: _look(config.source)),
        answer_of(StoreError, f"the store {config.store}", lambda: _look(config.store)),
    ]
    check_local_store(config.store)
    for wait in waits:
        wait()


def check_operator_known(spec: str) -> None:
    """Raise `UnknownNameError` for a name that is neither built in nor registered nor a class's path. Imports none."""
    from pipeline.operators import build_operator, list_operators
    from pipeline.operators.spec import PYTHON, is_call, names_in

    known = {PYTHON, *(re.split(r"[:(\[]", info.name)[0] for info in list_operators())}
    for named in names_in(spec) if is_call(spec) else [spec.strip()]:
        name = named.partition(":")[0]
        if name not in known and "." not in name:
            build_operator(name)  # says what is known


def check_local_store(uri: str) -> None:
    """Raise `StoreError` where a store on this machine cannot be written to, without creating anything."""
    path = local_path(uri)
    if path is None:
        return
    folder = existing(path)
    if not os.path.isdir(folder) or not os.access(folder, os.W_OK | os.X_OK):
        problem = "which is no folder" if not os.path.isdir(folder) else "which may not be written to"
        raise StoreError(
            f"the store {uri} would be below {folder}, {problem}",
            remedy="choose a --store that you may write to, or ask for access",
        )


def check_cluster(address: str) -> None:
    """Raise `EngineError` where nothing listens at the address of a Ray cluster (`host:port`, `ray://host:port`)."""
    host, _, port = address.rpartition("//")[2].rpartition(":")
    if not host or not port.isdigit():
        return  # auto, local: Ray looks for itself
    try:
        with socket.create_connection((host, int(port)), timeout=ANSWER_S):
            return
    except (OSError, OverflowError) as error:
        problem = "no answer in time" if isinstance(error, TimeoutError) else str(error)
    raise EngineError(
        f"the Ray cluster at {address} does not answer: {problem}",
        remedy="start it, check RAY_ADDRESS, or unset it to use this machine alone; --engine local needs no Ray",
    )


def existing(path: str) -> str:
    """The nearest folder (or file) at or above a path that is there."""
    while not os.path.lexists(path):
        path = os.path.dirname(path) or "."
    return path


def _look(uri: str) -> None:
    """Ask an object store for what is at an address; that nothing is there yet is an answer."""
    if local_path(uri) is None:
        system, path = filesystem(uri)
        with suppress(FileNotFoundError):
            system.info(path)


def answer_of(error: type[Lift3DError], what: str, question: Callable[[], None]) -> Callable[[], None]:
    """Begin to ask; the function that is returned waits for the answer, and raises `error` where it is a bad one."""
    answer: Future[None] = Future()

    def ask() -> None:
        try:
            question()
        except _problems() as problem:
            answer.set_exception(problem)
        else:
            answer.set_result(None)

    asking = threading.Thread(target=ask, name="lift3d-ask", daemon=True)  # one that never returns holds up nothing
    asking.start()

    def wait() -> None:
        try:
            answer.result(ANSWER_S)
        except Lift3DError:
            raise
        except TimeoutError:
            raise error(f"{what} does not answer within {ANSWER_S:g} s", remedy=REMEDY) from None
        except storage_errors() as problem:
            raise error(f"{what} cannot be reached: {problem or type(problem).__name__}", remedy=REMEDY) from None

    return wait


def _problems() -> tuple[type[Exception], ...]:
    """Evaluated once something was raised: by then the client's own errors are known."""
    return (Lift3DError, *storage_errors())
