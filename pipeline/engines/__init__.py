"""Where chunks are worked on: in this process, or by Ray actors here or on a cluster. The same worker in both."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol

from pipeline.bundles import Bundle
from pipeline.telemetry.trace import Doing
from schemas.config import EngineConfig

if TYPE_CHECKING:
    from pipeline.engines.worker import ChunkStatus, Job


class Engine(Protocol):
    """Something that works on chunks.

    Attributes:
        device: "cpu" or "cuda", resolved: what workers compute on.
        workers: how many chunks are worked on at once, at most.
    """

    device: str
    workers: int

    def fit(self, worker_bytes: int) -> None:
        """Use fewer workers where so much memory for each is not free; `EngineError` if so many were asked for."""
        ...

    def run(self, jobs: Sequence[Job], bundles: Sequence[Bundle]) -> Iterator[ChunkStatus]:
        """Work on every unit, each committed to the store before its status is yielded, bundles in any order.

        Raises the `Lift3DError` of the first worker that cannot go on, or `EngineError` if workers keep dying or
        nothing finishes for `engine.no_progress_s`.
        """
        ...

    def drain(self, limit_s: float) -> None:
        """Begin nothing more, and return once what is under way is committed, or after so long. From any thread.

        `run` may then end although there is work left.
        """
        ...

    def doing(self) -> Sequence[Doing]:
        """What is being worked on now, as far as it is known. May be called from any thread."""
        ...


def open_engine(config: EngineConfig) -> AbstractContextManager[Engine]:
    """The configured engine, checked to fit the machine or cluster, for the time of a `with` block.

    Raises `EngineError` where it does not fit.
    """
    if config.kind == "local":
        from pipeline.engines.local import open_local

        return open_local(config)
    from pipeline.engines.ray import open_ray

    return open_ray(config)
