"""Events of a run as JSON lines: one object a line, written as things happen, by the driver alone.

`ts` is when it happened and lines are in the order in which the driver learned of it. A line is written whole and at
once, so a run that is killed leaves every event up to its end. `lift3d schema events` prints the schema.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, TextIO

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter

from schemas.errors import ConfigError
from schemas.text import masked_document

State = Literal["running", "finished", "failed", "interrupted"]


class _Event(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    ts: AwareDatetime = Field(default_factory=lambda: datetime.now(UTC))
    """When it happened (UTC)."""
    run_id: str = ""
    """Which run."""


class RunStarted(_Event):
    """The first event of a run."""

    event: Literal["run_started"] = "run_started"
    operator: str
    """The operator's name in the store; of several, separated by comma and space."""
    source: str
    """The dataset."""
    store: str
    """Where labels go."""
    engine: str
    """ray or local."""
    workers: int
    """Chunks that are worked on at once, at most."""
    device: str
    """cpu or cuda."""
    host: str
    """The driver's machine."""
    pid: int
    """The driver's process."""


class ScenePlanned(_Event):
    """What is to be done in a scene; one a readable scene, before any chunk."""

    event: Literal["scene_planned"] = "scene_planned"
    operator: str = ""
    """The operator's name in the store."""
    scene: str
    """The scene's id."""
    frames: int
    """Usable frames."""
    to_do: int
    """Frames to label in this run."""
    resumed: int
    """Frames that are labelled already."""
    set_aside: int
    """Frames that will be quarantined without a try."""
    chunks: int
    """Units of work."""


class ChunkStarted(_Event):
    """A worker took a chunk. Known at the latest when the chunk is finished."""

    event: Literal["chunk_started"] = "chunk_started"
    operator: str = ""
    """The operator's name in the store."""
    scene: str
    """The scene's id."""
    chunk: str
    """The chunk's name."""
    worker: str
    """Host and process."""


class ChunkFinished(_Event):
    """A chunk's labels are in the store."""

    event: Literal["chunk_finished"] = "chunk_finished"
    operator: str = ""
    """The operator's name in the store."""
    scene: str
    """The scene's id."""
    chunk: str
    """The chunk's name."""
    frames: int
    """Frames that were labelled."""
    quarantined: int
    """Frames that were not."""
    views: int
    """Frames that were looked at, these included."""
    seconds: dict[str, float]
    """Wall seconds by stage."""
    wall_s: float
    """Seconds from its start to its commit."""
    worker: str
    """Host and process."""
    tries: int
    """How often this run began it."""


class FrameQuarantined(_Event):
    """A frame (or, frame null, a scene) that was not labelled."""

    event: Literal["frame_quarantined"] = "frame_quarantined"
    operator: str = ""
    """The operator's name in the store."""
    scene: str
    """The scene's id."""
    frame: str | None
    """The frame's id."""
    stage: str
    """Where it failed."""
    reason: str
    """A stable code."""
    message: str
    """What went wrong, in words."""
    attempts: int
    """How often it was tried."""


class ScenePublished(_Event):
    """All of a scene's chunks are in, and its labels are visible."""

    event: Literal["scene_published"] = "scene_published"
    operator: str = ""
    """The operator's name in the store."""
    scene: str
    """The scene's id."""
    frames: int
    """Frames that this run labelled in it."""
    quarantined: int
    """Frames that it did not."""


class RunFinished(_Event):
    """The last event of a run, unless it was killed."""

    event: Literal["run_finished"] = "run_finished"
    state: State
    """finished, failed or interrupted."""
    error: str | None
    """Why it failed, in one line."""
    frames_labelled: int
    """Frames that this run labelled."""
    frames_quarantined: int
    """Frames, and unreadable scenes, that it did not."""
    wall_s: float
    """Seconds from start to end."""


Event = RunStarted | ScenePlanned | ChunkStarted | ChunkFinished | FrameQuarantined | ScenePublished | RunFinished
_ANY: TypeAdapter[Event] = TypeAdapter(Annotated[Event, Field(discriminator="event")])


def parse_event(line: str | bytes) -> Event:
    """An event from its line. Raises pydantic's `ValidationError`."""
    return _ANY.validate_json(line)


def events_json_schema() -> dict[str, Any]:
    """The JSON schema of a line."""
    return _ANY.json_schema(mode="serialization")


class EventLog:
    """Writes events of one run, whole lines only, from any thread. A stream that fails is given up, not the run.

    Args:
        stream: where to; None for nowhere.
        run_id: goes into every event.
    """

    def __init__(self, stream: TextIO | None, run_id: str) -> None:
        self._stream = stream
        self._run_id = run_id
        self._lock = threading.Lock()

    def __call__(self, event: Event) -> None:
        """Write an event."""
        if self._stream is None:
            return
        named = event.model_copy(update={"run_id": self._run_id})
        line = json.dumps(masked_document(named.model_dump(mode="json")))
        with self._lock:
            try:
                self._stream.write(f"{line}\n")
                self._stream.flush()
            except (OSError, ValueError):  # a full disk, a closed pipe
                self._stream = None


@contextmanager
def open_events(target: str | None, run_id: str) -> Iterator[EventLog]:
    """A log for the time of a `with` block: `-` is stdout, None nowhere, else a file that is appended to.

    Raises `ConfigError` where the file cannot be opened.
    """
    if target is None or target == "-":
        yield EventLog(sys.stdout if target else None, run_id)
        return
    with _appended(target) as stream:
        yield EventLog(stream, run_id)


@contextmanager
def _appended(path: str) -> Iterator[TextIO]:
    """A text file at its end; what a killed run left of a line is closed off."""
    remedy = "give a file on this machine in a folder that exists, or - for stdout"
    if "://" in path:
        raise ConfigError(f"events cannot be written to {path!r:.200}: it is an address", remedy=remedy)
    try:
        stream = open(path, "a+", encoding="utf-8")  # noqa: SIM115
    except OSError as error:
        raise ConfigError(f"events cannot be written to {path!r:.200}: {error.strerror}", remedy=remedy) from None
    try:
        with suppress(OSError, ValueError):
            if stream.tell() and _last_byte(path) != b"\n":
                stream.write("\n")
        yield stream
    finally:
        with suppress(OSError):
            stream.close()


def _last_byte(path: str) -> bytes:
    with open(path, "rb") as file:
        file.seek(-1, 2)
        return file.read(1)
