"""One run an operator and store at a time: a lease that the driver holds, refreshes, and loses if it falls silent.

A lease is a file. It is created so that only one of several runs succeeds: locally by a hard link, on object stores by
a conditional PUT where the client has one. A lease whose process is gone, or that was not refreshed for `STALE_S`, is
taken over. Whoever lost it finds out before it publishes anything.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from pydantic import BaseModel, ConfigDict, ValidationError

from pipeline.store.files import Files, is_running
from pipeline.store.paths import LEASES
from schemas.errors import LeaseError, StoreError
from schemas.run import Count, Seconds

log = logging.getLogger("lift3d")

BEAT_S = 10.0
"""Between two signs of life."""
STALE_S = 60.0
"""Silence after which a lease is taken over. Clocks of machines that share a store must agree to well below this."""
SETTLE_S = 1.0
"""A take-over is looked at again after this time: of two runs at once, the one that wrote last has it."""


class Holder(BaseModel):
    """Who holds a lease: the content of its file."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    run_id: str
    """The run."""
    host: str
    """The driver's machine."""
    pid: Count
    """The driver's process."""
    since: Seconds
    """When it got the lease (seconds since 1970)."""
    beat: Seconds
    """Its last sign of life."""

    @property
    def silent_s(self) -> float:
        """Seconds since the last sign of life."""
        return max(0.0, time.time() - self.beat)

    def is_gone(self) -> bool:
        """Whether its process ended, as far as this machine can tell, or it was silent for `STALE_S`."""
        ended = self.host == socket.gethostname() and not is_running(self.pid)
        return ended or self.silent_s > STALE_S

    def __str__(self) -> str:
        since = datetime.fromtimestamp(self.since, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        return (
            f"run {self.run_id} (process {self.pid} on {self.host}, since {since}, last sign of life "
            f"{self.silent_s:.0f} s ago)"
        )


@dataclass
class Lease:
    """A lease that this process holds. `lost` is set once somebody else has it."""

    files: Files
    slug: str
    holder: Holder
    lost: Holder | None = None

    def check(self) -> None:
        """Raise `LeaseError` unless the lease is still ours: to be called before anything is published."""
        found = read_lease(self.files, self.slug)
        if self.lost or found is None or found.run_id != self.holder.run_id:
            raise LeaseError(
                f"run {self.holder.run_id} was silent for too long, and {self.lost or found or 'somebody'} took over "
                f"the labels of {self.slug}",
                remedy="let that run finish; what was committed is kept",
            )

    def beat(self) -> None:
        """A sign of life, unless somebody else has the lease."""
        found = read_lease(self.files, self.slug)
        if found is not None and found.run_id != self.holder.run_id:
            self.lost = found
            return
        self.holder = self.holder.model_copy(update={"beat": time.time()})
        self.files.put(_path(self.slug), _format(self.holder))

    def release(self) -> None:
        """Give it back, if it is ours."""
        found = read_lease(self.files, self.slug)
        if found is not None and found.run_id == self.holder.run_id:
            self.files.delete(_path(self.slug))


@contextmanager
def hold_lease(files: Files, slug: str, run_id: str) -> Iterator[Lease]:
    """Hold the lease of an operator's labels for the time of a `with` block.

    Raises `LeaseError`, which names the holder, where another run has it, and `StoreError`.
    """
    lease = _acquire(files, slug, run_id)
    ended = threading.Event()
    keeper = threading.Thread(target=_keep_alive, args=(lease, ended), name="lift3d-lease", daemon=True)
    keeper.start()
    try:
        yield lease
    finally:
        ended.set()
        keeper.join()
        with suppress(StoreError):
            lease.release()


def read_lease(files: Files, slug: str) -> Holder | None:
    """Who holds the lease of an operator's labels, None where nobody does. Raises `StoreError`."""
    data = files.get(_path(slug))
    if data is None:
        return None
    try:
        return Holder.model_validate_json(data)
    except ValidationError:
        return Holder(run_id="unknown", host="", pid=0, since=0.0, beat=0.0)


def _acquire(files: Files, slug: str, run_id: str) -> Lease:
    now = time.time()
    holder = Holder(run_id=run_id, host=socket.gethostname(), pid=os.getpid(), since=now, beat=now)
    if not files.create(_path(slug), _format(holder)):
        _take_over(files, slug, holder)
    return Lease(files, slug, holder)


def _take_over(files: Files, slug: str, holder: Holder) -> None:
    found = read_lease(files, slug)
    if found is None:
        if files.create(_path(slug), _format(holder)):
            return
        found = read_lease(files, slug)
    if found is not None and not found.is_gone():
        raise _refusal(files, slug, found)
    log.warning("the labels of %s were left by %s: this run takes over", slug, found)
    files.put(_path(slug), _format(holder))
    time.sleep(SETTLE_S)
    winner = read_lease(files, slug)
    if winner is None or winner.run_id != holder.run_id:
        raise _refusal(files, slug, winner)


def _refusal(files: Files, slug: str, holder: Holder | None) -> LeaseError:
    return LeaseError(
        f"the labels of {slug} in {files.root} are being worked on by {holder or 'another run'}",
        remedy="wait until it has finished, or end it and run again; runs of different operators may share a store",
    )


def _keep_alive(lease: Lease, ended: threading.Event) -> None:
    """A sign of life every now and then. Storage that fails for a moment is tried again at the next."""
    while not ended.wait(BEAT_S) and lease.lost is None:
        with suppress(StoreError):
            lease.beat()


def _path(slug: str) -> str:
    return f"{LEASES}/operator={slug}.json"


def _format(holder: Holder) -> bytes:
    return holder.model_dump_json(indent=1).encode()
