"""What the operator sees in a chunk's views: each is decoded and encoded once, and none costs another.

A view that cannot be read, or that the operator fails on, is lost for the chunk; a batch that fails is taken apart
until the culprits are known, and halved where memory ran out.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING

from pipeline.faults import out_of_memory
from pipeline.known import ViewMemory
from pipeline.loading import LoadedView, as_images
from pipeline.predicting import Encoded, batches, encode_batch
from pipeline.shared import SharedViews
from pipeline.tries import is_untouchable
from pipeline.watchdog import time_limit
from pipeline.work import Work
from schemas.config import LabelingConfig
from schemas.scene import Frame

if TYPE_CHECKING:
    import torch

    from pipeline.protocols import Operator

log = logging.getLogger("lift3d")


@dataclass(frozen=True, slots=True)
class Seen:
    """Usable views.

    Attributes:
        views: decoded, in order.
        encoded: what the operator saw in each, by frame id.
    """

    views: list[LoadedView] = field(default_factory=list)
    encoded: dict[str, Encoded] = field(default_factory=dict)


class Viewer:
    """Has one operator look at views. Built once a worker: that it runs out of memory with a batch is learned once.

    Args:
        operator: built already, on `device`.
        config: of the run.
        memory: what was kept of views that were looked at before.
        shared: what it has in common with the viewers of other operators.
    """

    def __init__(
        self,
        operator: Operator,
        device: torch.device,
        config: LabelingConfig,
        memory: ViewMemory,
        shared: SharedViews,
    ) -> None:
        self._operator, self._device = operator, device
        self._lift, self._engine = config.lift, config.engine
        self._batch = config.operator.batch_size
        self._as_ids = operator.kind == "classes" and config.lift.method != "none"
        self._memory, self._shared = memory, shared

    def look(self, scene: str, frames: Sequence[Frame], work: Work) -> Seen:
        """What is to be seen in those of the views that are usable; the others are lost from now on."""
        seen = Seen()
        wanted = [frame for frame in frames if frame.id not in work.lost and not is_untouchable(frame.id, work.tries)]
        for batch in batches(self._decoded(wanted, work), 1 if work.tries.careful else self._batch):
            with work.clock("encode"):
                seen.encoded.update(self._seen(scene, batch, work))
            seen.views.extend(view for view in batch if view.frame.id in seen.encoded)
        work.lost.update({frame.id for frame in wanted} - seen.encoded.keys())
        return seen

    def _decoded(self, frames: Sequence[Frame], work: Work) -> Iterator[LoadedView]:
        """Views in order, read and decoded by a few threads ahead of the operator; in careful work, one at a time."""
        ahead = () if work.tries.careful else frames
        loading = {frame.id: self._loading(frame, work) for frame in ahead}
        for frame in frames:
            with work.clock("decode"):
                for _ in range(self._engine.attempts):
                    with work.tries.step("decode", frame.id, limit_s=self._engine.frame_timeout_s):
                        loaded = self._read(frame, loading.pop(frame.id, None), work)
                    if loaded is not None:
                        break
            if loaded is not None:
                work.faults.forgive(frame.id)
                yield loaded

    def _loading(self, frame: Frame, work: Work) -> Future[LoadedView]:
        return work.pool.submit(self._shared.load, frame, self._lift)

    def _read(self, frame: Frame, under_way: Future[LoadedView] | None, work: Work) -> LoadedView | None:
        reading = under_way or self._loading(frame, work)
        with work.faults.guard("decode", frame.id):
            if reading.done():  # a limit costs a thread, which is more than a small view costs to read
                return reading.result()
            with time_limit(self._engine.frame_timeout_s, "reading it"):
                return reading.result()
        return None

    def _seen(self, scene: str, batch: list[LoadedView], work: Work) -> dict[str, Encoded]:
        """Encoded views by frame id; views that another chunk has had encoded are not encoded again."""
        found = {view.frame.id: self._memory.encoded(scene, view.frame) for view in batch}
        new = [view for view in batch if found[view.frame.id] is None]
        if len(new) < len(batch):
            work.tries.came_through()  # as they did when they were kept
        started = perf_counter()
        made = self._encode(scene, new, work) if new else {}
        seconds = (perf_counter() - started) / max(len(new), 1)
        for view in new:
            if view.frame.id in made:
                self._memory.keep_encoded(scene, view.frame, made[view.frame.id], seconds)
        return made | {frame: one for frame, one in found.items() if one is not None}

    def _encode(self, scene: str, batch: list[LoadedView], work: Work) -> dict[str, Encoded]:
        """Encoded views by frame id. A batch that fails is taken apart, so that only the culprits are lost."""
        encoded: dict[str, Encoded] = {}
        waiting = _parts(batch, self._batch)
        while waiting:
            part = waiting.pop(0)
            if len(part) > self._batch:  # learned from the part before
                waiting[:0] = _parts(part, self._batch)
                continue
            ids = [view.frame.id for view in part]
            limit_s, what = self._engine.frame_timeout_s, f"the operator's encode of {len(part)} view(s)"
            tried = work.tries.step("encode", *ids, limit_s=limit_s)
            with tried, work.guard("encode", *ids, limit_s=limit_s, what=what):
                encoded.update(self._encode_batch(scene, part))
                self._shared.count("encoded", len(part))
            if ids[0] in encoded:
                work.tries.came_through()
            elif again := self._again(part, work):
                work.faults.forgive(*ids)
                waiting[:0] = again
        return encoded

    def _again(self, part: list[LoadedView], work: Work) -> list[list[LoadedView]]:
        """How a batch that failed is tried again: in halves where memory ran out, else view by view, or not at all."""
        first = part[0].frame.id
        if len(part) == 1:
            return [part] if work.faults.may_try_again(first, self._engine.attempts) else []
        if not out_of_memory(work.faults.error(first)):
            return _parts(part, 1)
        self._batch = max(1, len(part) // 2)
        log.warning("out of memory: %d images an encode call from now on", self._batch)
        free_memory(self._device)
        return _parts(part, self._batch)

    def _encode_batch(self, scene: str, views: list[LoadedView]) -> dict[str, Encoded]:
        found = encode_batch(self._operator, views, as_images(views, self._device), scene, as_ids=self._as_ids)
        return {view.frame.id: one for view, one in zip(views, found, strict=True)}


def free_memory(device: torch.device) -> None:
    """Give back what torch holds of a GPU's memory without need."""
    if device.type == "cuda":
        import torch

        torch.cuda.empty_cache()


def _parts(views: list[LoadedView], size: int) -> list[list[LoadedView]]:
    return [views[start : start + size] for start in range(0, len(views), size)]
