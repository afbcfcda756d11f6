"""How a run is going, for whoever watches: a bar on a terminal, a line every few seconds in a log."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic
from typing import TextIO

LINE_EVERY_S = 5.0


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run stands.

    Attributes:
        labelled, quarantined: frames of this run that are done.
        total: frames that this run set out to label.
        seconds: since the first chunk was handed out.
        left_s: estimated seconds to go, from the work that is left; None where nobody estimated them.
    """

    labelled: int
    quarantined: int
    total: int
    seconds: float
    left_s: float | None = None

    @property
    def done(self) -> int:
        """Frames that need no more work."""
        return self.labelled + self.quarantined

    @property
    def rate(self) -> float:
        """Frames a second so far, 0 before the first."""
        return self.done / self.seconds if self.seconds > 0 else 0.0

    @property
    def eta_s(self) -> float | None:
        """Seconds left: as estimated, else at this rate; None before the first frame."""
        if self.left_s is not None:
            return self.left_s
        return (self.total - self.done) / self.rate if self.rate > 0 else None

    def __str__(self) -> str:
        left = f", {clock(self.eta_s)} left" if self.eta_s and self.done < self.total else ""
        aside = f", {self.quarantined} quarantined" if self.quarantined else ""
        return f"{self.done}/{self.total} frames, {self.rate:.2f}/s{left}{aside}"


OnProgress = Callable[[Progress], None]


@contextmanager
def console_progress(stream: TextIO | None = None) -> Iterator[OnProgress]:
    """A function that shows progress on a stream (stderr by default) until the block ends."""
    stream = stream or sys.stderr
    if not stream.isatty():
        yield _Lines(stream).show
        return
    with _bar(stream) as show:
        yield show


class _Lines:
    """At most one line every `LINE_EVERY_S` seconds, and one at the end."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._last = monotonic()

    def show(self, progress: Progress) -> None:
        if progress.done < progress.total and monotonic() - self._last < LINE_EVERY_S:
            return
        self._last = monotonic()
        self._stream.write(f"{progress}\n")
        self._stream.flush()


@contextmanager
def _bar(stream: TextIO) -> Iterator[OnProgress]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as RichProgress

    columns = (
        TextColumn("labelling"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
    )
    with RichProgress(*columns, console=Console(file=stream)) as bar:
        task = bar.add_task("labelling", total=None, rate="")

        def show(progress: Progress) -> None:
            aside = f", {progress.quarantined} quarantined" if progress.quarantined else ""
            left = f", {clock(progress.eta_s)} left" if progress.eta_s and progress.done < progress.total else ""
            rate = f"{progress.rate:.2f} frames/s{left}{aside}" if progress.done else "starting"
            bar.update(task, completed=progress.done, total=progress.total, rate=rate)

        yield show


def clock(seconds: float) -> str:
    """90 -> "1:30", 3700 -> "1:01:40"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
