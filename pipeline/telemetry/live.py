"""The sign of life of a run: one small file beside its document, written anew every few seconds, gone when it ends.

`runs/<run_id>.progress.jsonl` holds one JSON object in one line. A run whose file is old died without a word.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, ValidationError

from pipeline.store.files import is_running
from pipeline.store.paths import RUNS
from pipeline.telemetry.document import read_documents
from schemas.errors import StoreError
from schemas.run import Count, Seconds
from schemas.text import masked_document

if TYPE_CHECKING:
    from pipeline.store.files import Files

BEAT_S = 10.0
"""Between two signs of life."""
STALE_S = 60.0
"""Silence after which a run counts as dead. Clocks of machines that share a store must agree to well below this."""
SUFFIX = ".progress.jsonl"
DIED = "the run died without a word; what it committed is kept"


class Sign(BaseModel):
    """A sign of life: where a run stood when it was written."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    run_id: str
    """The run."""
    operator: str
    """The operator's name in the store; of several, separated by comma and space."""
    host: str
    """The driver's machine."""
    pid: Count
    """The driver's process."""
    beat: Seconds
    """When this was written (seconds since 1970)."""
    phase: str = "planning"
    """planning or labelling."""
    resumed: Count = 0
    """Frames that were labelled before."""
    labelled: Count = 0
    """Frames that this run has labelled."""
    quarantined: dict[str, Count] = {}
    """Frames that it could not label, by reason."""
    total: Count = 0
    """Frames that it set out to label."""
    seconds: Seconds = 0.0
    """Since chunks were first handed out."""
    frames_per_s: Seconds = 0.0
    """Since the first chunk came in or was begun."""
    left_s: Seconds | None = None
    """Estimated seconds to go."""
    doing: tuple[str, ...] = ()
    """What is being worked on, for how long and by whom, in words."""

    @property
    def silent_s(self) -> float:
        """Seconds since it was written."""
        return max(0.0, time.time() - self.beat)

    def is_fresh(self) -> bool:
        """Whether the run is alive, as far as this machine can tell."""
        ended = self.host == socket.gethostname() and not is_running(self.pid)
        return not ended and self.silent_s <= STALE_S


def sign_path(run_id: str) -> str:
    """Where a run's sign of life is."""
    return f"{RUNS}/{run_id}{SUFFIX}"


def read_signs(files: Files) -> dict[str, Sign]:
    """Signs of life by run id, of live and of dead runs. What cannot be understood is left out. Raises `StoreError`."""
    found = {}
    paths = [path for path in files.list(RUNS) if path.endswith(SUFFIX)]
    for path, data in files.get_many(paths).items():
        with suppress(ValidationError):
            found[path.rpartition("/")[2].removesuffix(SUFFIX)] = Sign.model_validate_json(data)
    return found


def write_sign(files: Files, sign: Sign) -> None:
    """Write (or replace) a run's sign of life. Raises `StoreError`."""
    document = masked_document(sign.model_dump(mode="json"))
    files.put(sign_path(sign.run_id), json.dumps(document).encode() + b"\n", timeout_s=BEAT_S)


def bury(files: Files, write_run: Callable[[str, dict[str, Any]], None], slugs: Sequence[str]) -> None:
    """Write down of operators' dead runs that they died; nobody but the caller may be at work on their labels.

    Raises `StoreError`.
    """
    signs = read_signs(files)
    documents = read_documents(files, signs)
    for run_id in documents.keys() | signs.keys():
        sign, document = signs.get(run_id), documents.get(run_id, {})
        operators = sign.operator if sign else str(document.get("operator"))
        if not set(operators.split(", ")) & set(slugs):
            continue
        if document.get("state") == "running":
            write_run(run_id, {**document, "state": "interrupted", "error": DIED, **_last_words(sign)})
        if sign:
            files.delete(sign_path(run_id))


def _last_words(sign: Sign | None) -> dict[str, Any]:
    """What a dead run's sign of life says; nothing of one that could write none, on a full disk for example."""
    if sign is None:
        return {}
    counts = {"frames_labelled": sign.labelled, "quarantined": sign.quarantined}
    return {"ended": datetime.fromtimestamp(sign.beat, UTC).isoformat(), "counts": counts}


def new_sign(run_id: str, slugs: Sequence[str]) -> Sign:
    """The first sign of a run of this process."""
    host, names = socket.gethostname(), ", ".join(slugs)
    return Sign(run_id=run_id, operator=names, host=host, pid=os.getpid(), beat=time.time())


@contextmanager
def beating(files: Files, look: Callable[[], Sign], every_s: float = BEAT_S) -> Iterator[Callable[[], None]]:
    """Write a sign of life at once and every few seconds, until the block ends; then remove it.

    Yields a function that has one written soon. Storage that fails for a moment is tried again at the next beat.
    """
    ended, wanted = threading.Event(), threading.Event()
    keeper = threading.Thread(
        target=_beat, args=(files, look, every_s, ended, wanted), name="lift3d-progress", daemon=True
    )
    first = look()
    write_sign(files, first)
    keeper.start()
    try:
        yield wanted.set
    finally:
        ended.set()
        wanted.set()
        keeper.join()
        with suppress(StoreError):
            files.delete(sign_path(first.run_id))


def _beat(
    files: Files, look: Callable[[], Sign], every_s: float, ended: threading.Event, wanted: threading.Event
) -> None:
    while True:
        wanted.wait(every_s)
        wanted.clear()
        if ended.is_set():
            return
        with suppress(StoreError):
            write_sign(files, look())


def worst(doing: Sequence[object], most: int = 8) -> tuple[str, ...]:
    """What is under way in words, the longest first, at most so many."""
    ordered = sorted(doing, key=lambda one: -float(getattr(one, "seconds", 0.0)))
    more = [f"and {len(ordered) - most} more"] if len(ordered) > most else []
    return (*map(str, ordered[:most]), *more)
