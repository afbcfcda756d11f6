"""Who worked on a chunk, for how long and at what: what a status tells besides labels, and what a dump shows."""

from __future__ import annotations

import os
import re
import socket
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from schemas.record import QuarantineRecord

_PEAK = re.compile(r"^VmHWM:\s+(\d+) kB$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Trace:
    """Who worked on a chunk.

    Attributes:
        worker: `<host>:<process id>`.
        started: when it began (seconds since 1970, the worker's clock).
        wall_s: how long it took.
        tries: how often this run began the chunk, this time included.
        views: frames that it looked at, targets included.
        peak_rss: most bytes of memory that the worker's process ever held, 0 where this cannot be told.
    """

    worker: str = ""
    started: float = 0.0
    wall_s: float = 0.0
    tries: int = 1
    views: int = 0
    peak_rss: int = 0


class Finished(Protocol):
    """What is told of a finished chunk: `pipeline.engines.worker.ChunkStatus`."""

    @property
    def scene(self) -> str:
        """The scene's id."""
        ...

    @property
    def chunk(self) -> str:
        """The chunk's name."""
        ...

    @property
    def operator(self) -> str:
        """Whose chunk it is, by its name in the store."""
        ...

    @property
    def counts(self) -> Mapping[str, int]:
        """Views by what was worked out of them."""
        ...

    @property
    def labelled(self) -> int:
        """How many of its targets have labels now."""
        ...

    @property
    def quarantined(self) -> Sequence[QuarantineRecord]:
        """The others."""
        ...

    @property
    def seconds(self) -> Mapping[str, float]:
        """Wall seconds by stage."""
        ...

    @property
    def trace(self) -> Trace:
        """Who did it."""
        ...


@dataclass(frozen=True, slots=True)
class Doing:
    """What is being worked on now.

    Attributes:
        scene, chunk: which chunk; of a worker that is starting, no scene and its name.
        worker: see `Trace`.
        seconds: since it began.
        stage, frames: the step that the worker was at when it was last heard of; empty where it did not say.
        stage_s: since that step began.
        silent_s: since the worker was last heard of: native code that lets no other thread run makes it silent.
        tries: see `Trace`.
        operator: whose chunk it is, by its name in the store.
    """

    scene: str
    chunk: str
    worker: str = ""
    seconds: float = 0.0
    stage: str = ""
    frames: tuple[str, ...] = ()
    stage_s: float = 0.0
    silent_s: float = 0.0
    tries: int = 1
    operator: str = ""

    def __str__(self) -> str:
        where = f" on {self.worker}" if self.worker else ""
        frames = f" of {self.frames[0]}" if self.frames else ""
        more = f" and {len(self.frames) - 1} more" if len(self.frames) > 1 else ""
        stage = f", {self.stage}{frames}{more} for {self.stage_s:.0f} s" if self.stage else ""
        again = f", try {self.tries}" if self.tries > 1 else ""
        name = f"{self.scene}/{self.chunk}" if self.scene else self.chunk
        by = f" by {self.operator}" if self.operator else ""
        return f"{name}{by} for {self.seconds:.0f} s{where}{stage}{again}"


def this_worker() -> str:
    """The name of this process in traces."""
    return f"{socket.gethostname()}:{os.getpid()}"


def peak_rss() -> int:
    """Most bytes of memory that this process ever held; 0 where this cannot be told.

    Linux tells it of this program alone; `getrusage` there counts what the process was before, too.
    """
    with suppress(OSError):
        if match := _PEAK.search(Path("/proc/self/status").read_text(encoding="ascii", errors="replace")):
            return int(match[1]) * 1024
    with suppress(ImportError):
        import resource

        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return 0
