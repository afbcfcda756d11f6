"""A chunk in, label records out: decode images -> encode -> lift -> decode. The same object in every engine.

Whatever goes wrong with one frame becomes that frame's quarantine row and costs no other frame (pipeline/faults.py).
Faults of a view that is only a source are left to the chunk in which that view is a target.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from time import perf_counter
from typing import TYPE_CHECKING

from pipeline.faults import Faults, out_of_memory
from pipeline.fingerprint import model_fingerprint, trial_mark
from pipeline.known import Known, ViewMemory
from pipeline.lift_weights import load_weights
from pipeline.lifting import ChunkLift, corrects_sources, lift_settings
from pipeline.loading import LoadedView, as_images
from pipeline.plan import halves
from pipeline.predicting import Encoded, batches, encode_batch
from pipeline.records import make_record
from pipeline.rounds import next_round
from pipeline.scratch import NO_SCRATCH, Scratch
from pipeline.shared import SharedViews
from pipeline.store import operator_slug
from pipeline.tries import UNTRIED, Tries, hold_hopeless, is_untouchable
from pipeline.watchdog import time_limit
from schemas.config import LabelingConfig
from schemas.record import ChunkResult, LabelRecord
from schemas.scene import Chunk, Frame

if TYPE_CHECKING:
    from lift3d_model import Lift3D
    from pipeline.protocols import Operator

log = logging.getLogger("lift3d")

DECODERS = 2
"""Threads a worker that fetch and decode views while the operator works on earlier ones."""


class Labeler:
    """Labels chunks with one operator. Built once a worker.

    Args:
        config: of the run; `engine.device` auto means CUDA where there is some.
        operator: one that is built already; else it is built from the config.
        model: one that is built already; else it is the one that the config asks for.
        scratch: where what was worked out of a view is kept for other chunks that look at it.
        shared: what it has in common with the labelers of other operators.

    Attributes:
        corrects: `corrects_sources`: how far chunks have to look.

    Raises what building the operator raises, and `MissingWeightsError` for a checkpoint that cannot be read.
    """

    def __init__(
        self,
        config: LabelingConfig,
        operator: Operator | None = None,
        model: Lift3D | None = None,
        scratch: Scratch = NO_SCRATCH,
        shared: SharedViews | None = None,
    ) -> None:
        import torch

        from lift3d_model import Lift3D
        from pipeline.operators import build_operator

        wanted = config.engine.device
        name = ("cuda" if torch.cuda.is_available() else "cpu") if wanted == "auto" else wanted
        self._device = torch.device(name)
        self._config = config
        self._slug = operator_slug(config.operator.sole)
        self._operator = operator or build_operator(config.operator.sole, dict(config.operator.kwargs), name)
        self._fingerprint = self._operator.fingerprint()
        checkpoint, self._weights_sha256 = load_weights(config.lift)
        self._model = model or Lift3D(lift_settings(config.lift), checkpoint)
        self._as_ids = self._operator.kind == "classes" and config.lift.method != "none"
        self.corrects = corrects_sources(self._operator.kind, config.lift)
        self._shared = shared or SharedViews()
        self._memory = ViewMemory(
            scratch,
            config.lift,
            self._fingerprint,
            self._weights_sha256,
            corrects=self.corrects,
            shared=self._shared,
        )
        self._batch = config.operator.batch_size
        self._allowed = config.engine.attempts
        self._limit_s = config.engine.frame_timeout_s

    def mark(self, frame: Frame) -> str:
        """`trial_mark` of a view, as the planner computes it."""
        model = model_fingerprint(self._config.lift, self._fingerprint, self._weights_sha256)
        return trial_mark(model, frame, self._config.lift)

    def label(self, chunk: Chunk, tries: Tries = UNTRIED) -> ChunkResult:
        """Label a chunk's targets. Every target is in exactly one of the result's two lists.

        `tries` knows what ended workers before, and is told of every step where that is so.
        """
        import torch

        clock, faults = Clock(), Faults(chunk.scene, self._slug)
        hold_hopeless(faults, chunk, tries)
        # Not joined in the end: reading that hangs must not hold up what can be labelled.
        pool = ThreadPoolExecutor(DECODERS)
        try:
            with torch.inference_mode():
                known = self._memory.recall(chunk)
                lost: set[str] = set()
                while (part := next_round(chunk, known, self._config.lift)) is not None:
                    before, known = known, self._corrected(part, known, pool, faults, clock, tries, lost)
                    if len(known.corrected) == len(before.corrected):
                        break
                usable, encoded = self._looked_at(chunk, known, pool, faults, clock, tries, lost)
                records = self._lift(chunk, known, usable, encoded, faults, clock, tries)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
        quarantined = faults.quarantine(chunk.target_ids)
        return ChunkResult(tuple(records), quarantined, dict(clock.seconds), self._shared.counts())

    def _looked_at(
        self,
        chunk: Chunk,
        known: Known,
        pool: ThreadPoolExecutor,
        faults: Faults,
        clock: Clock,
        tries: Tries,
        lost: set[str],
    ) -> tuple[list[LoadedView], dict[str, Encoded]]:
        """The views that a chunk has to look at and that are usable, and what the operator sees in them.

        Those that are lost are not tried once more, and those that turn out to be are added.
        """
        encoded: dict[str, Encoded] = {}
        usable = []
        wanted = [chunk.frames[v] for v in sorted(known.loaded(chunk, self._config.lift))]
        frames = [frame for frame in wanted if frame.id not in lost and not is_untouchable(frame.id, tries)]
        for batch in batches(self._decoded(frames, pool, faults, clock, tries), self._batch_size(tries)):
            with clock("encode"):
                encoded.update(self._seen(chunk.scene, batch, faults, tries))
            usable += [view for view in batch if view.frame.id in encoded]
        lost.update({frame.id for frame in frames} - encoded.keys())
        return usable, encoded

    def _corrected(
        self,
        part: Chunk,
        known: Known,
        pool: ThreadPoolExecutor,
        faults: Faults,
        clock: Clock,
        tries: Tries,
        lost: set[str],
    ) -> Known:
        """What is known once a portion of source views is corrected; where that fails, the chunk does it at once."""
        alone = known.uncorrected()
        views, encoded = self._looked_at(part, alone, pool, faults, clock, tries, lost)
        ids = [frame for frame in part.target_ids if frame not in faults]
        if not ids or tries.ended("geometry", ids):
            return known
        with tries.step("geometry", *ids, limit_s=self._limit_s * len(part.frames)), clock("geometry"):
            lift = self._prepare(part, alone, views, encoded, faults)
            with faults.guard("geometry", *ids), time_limit(self._limit_s * len(part.frames), "correcting class maps"):
                if lift is not None:
                    lift.correct(ids)
                    self._keep(part, alone, views, lift)
        if lift is None or faults.forgive(*ids):
            return known
        corrected = {**known.corrected, **lift.corrected_now()}
        return replace(known, corrected=corrected, swept={**known.swept, **lift.swept_now()})

    def _batch_size(self, tries: Tries) -> int:
        return 1 if tries.careful else self._batch

    def _decoded(
        self, frames: list[Frame], pool: ThreadPoolExecutor, faults: Faults, clock: Clock, tries: Tries
    ) -> Iterator[LoadedView]:
        """Views in order, read and decoded by a few threads ahead of the operator; in careful work, one at a time."""
        loading: dict[str, Future[LoadedView]] = {}
        if not tries.careful:
            loading = {frame.id: pool.submit(self._shared.load, frame, self._config.lift) for frame in frames}
        for frame in frames:
            with clock("decode"):
                for _ in range(self._allowed):
                    with tries.step("decode", frame.id, limit_s=self._limit_s):
                        loaded = self._read(frame, loading.pop(frame.id, None), pool, faults)
                    if loaded is not None:
                        break
            if loaded is not None:
                faults.forgive(frame.id)
                yield loaded

    def _read(
        self, frame: Frame, under_way: Future[LoadedView] | None, pool: ThreadPoolExecutor, faults: Faults
    ) -> LoadedView | None:
        reading = under_way or pool.submit(self._shared.load, frame, self._config.lift)
        with faults.guard("decode", frame.id):
            if reading.done():  # a limit costs a thread, which is more than a small view costs to read
                return reading.result()
            with time_limit(self._limit_s, "reading it"):
                return reading.result()
        return None

    def _seen(self, scene: str, batch: list[LoadedView], faults: Faults, tries: Tries) -> dict[str, Encoded]:
        """Encoded views by frame id; views that another chunk has had encoded are not encoded again."""
        found = {view.frame.id: self._memory.encoded(scene, view.frame) for view in batch}
        new = [view for view in batch if found[view.frame.id] is None]
        if len(new) < len(batch):
            tries.came_through()  # as they did when they were kept
        started = perf_counter()
        made = self._encode(scene, new, faults, tries) if new else {}
        seconds = (perf_counter() - started) / max(len(new), 1)
        for view in new:
            if view.frame.id in made:
                self._memory.keep_encoded(scene, view.frame, made[view.frame.id], seconds)
        return made | {frame: one for frame, one in found.items() if one is not None}

    def _encode(self, scene: str, batch: list[LoadedView], faults: Faults, tries: Tries) -> dict[str, Encoded]:
        """Encoded views by frame id. A batch that fails is taken apart, so that only the culprits are lost."""
        encoded: dict[str, Encoded] = {}
        waiting = _parts(batch, self._batch)
        while waiting:
            part = waiting.pop(0)
            if len(part) > self._batch:  # learned from the part before
                waiting[:0] = _parts(part, self._batch)
                continue
            ids = [view.frame.id for view in part]
            what = f"the operator's encode of {len(part)} view(s)"
            limit = time_limit(self._limit_s, what)
            with tries.step("encode", *ids, limit_s=self._limit_s), faults.guard("encode", *ids), limit:
                encoded.update(self._encode_batch(scene, part))
                self._shared.count("encoded", len(part))
            if ids[0] in encoded:
                tries.came_through()
            elif again := self._again(part, faults):
                faults.forgive(*ids)
                waiting[:0] = again
        return encoded

    def _again(self, part: list[LoadedView], faults: Faults) -> list[list[LoadedView]]:
        """How a batch that failed is tried again: in halves where memory ran out, else view by view, or not at all."""
        first = part[0].frame.id
        if len(part) == 1:
            return [part] if faults.may_try_again(first, self._allowed) else []
        if not out_of_memory(faults.error(first)):
            return _parts(part, 1)
        self._batch = max(1, len(part) // 2)
        log.warning("out of memory: %d images an encode call from now on", self._batch)
        self._free_memory()
        return _parts(part, self._batch)

    def _free_memory(self) -> None:
        if self._device.type == "cuda":
            import torch

            torch.cuda.empty_cache()

    def _encode_batch(self, scene: str, views: list[LoadedView]) -> dict[str, Encoded]:
        found = encode_batch(self._operator, views, as_images(views, self._device), scene, as_ids=self._as_ids)
        return {view.frame.id: one for view, one in zip(views, found, strict=True)}

    def _lift(
        self,
        chunk: Chunk,
        known: Known,
        views: list[LoadedView],
        encoded: dict[str, Encoded],
        faults: Faults,
        clock: Clock,
        tries: Tries,
    ) -> list[LabelRecord]:
        """Lift target by target. Where that fails before there is a target to blame, the chunk is halved."""
        records = []
        waiting = [chunk]
        while waiting:
            part = waiting.pop(0)
            ids = [frame for frame in part.target_ids if frame not in faults]
            if not ids:
                continue
            lift = None
            if not (len(ids) > 1 and tries.ended("geometry", ids)):
                with tries.step("geometry", *ids, limit_s=self._limit_s * len(part.frames)), clock("geometry"):
                    lift = self._prepare(part, known, views, encoded, faults)
            if lift is not None:
                records += self._lift_targets(part, views, lift, faults, clock, tries)
                self._keep(part, known, views, lift)
            elif len(part.targets) > 1:
                faults.forgive(*ids)
                self._free_memory()
                waiting[:0] = halves(part, self._config.lift, corrects=self.corrects)
            elif faults.may_try_again(part.target_ids[0], self._allowed):
                faults.forgive(*ids)
                waiting[:0] = [part]
        return records

    def _keep(self, part: Chunk, known: Known, views: list[LoadedView], lift: ChunkLift) -> None:
        """Keep what was worked out, unless a view was missing: other chunks may have it, and make more of it."""
        usable, swept = {view.frame.id for view in views}, lift.swept_now()
        self._shared.count("swept", len(swept))
        if all(part.frames[v].id in usable for v in known.loaded(part, self._config.lift)):
            self._memory.keep(part, lift.corrected_now(), swept)

    def _prepare(
        self, part: Chunk, known: Known, views: list[LoadedView], encoded: dict[str, Encoded], faults: Faults
    ) -> ChunkLift | None:
        needed = {frame.id for frame in part.frames}
        among = [view for view in views if view.frame.id in needed]
        blamed = [frame for frame in part.target_ids if frame not in faults]
        limit = time_limit(self._limit_s * len(part.frames), "the geometry")
        with faults.guard("geometry", *blamed), limit:
            return ChunkLift(self._model, self._operator, self._config.lift, part, among, encoded, self._device, known)
        return None

    def _lift_targets(
        self,
        chunk: Chunk,
        views: list[LoadedView],
        lift: ChunkLift,
        faults: Faults,
        clock: Clock,
        tries: Tries,
    ) -> list[LabelRecord]:
        marks = dict(zip(chunk.target_ids, chunk.fingerprints, strict=True))
        limit_s = self._limit_s * (1 + self._config.lift.sources)
        records = []
        waiting = [view.frame for view in views if view.frame.id in marks and view.frame.id not in faults]
        while waiting:
            frame = waiting.pop(0)
            with tries.step("lift", frame.id, limit_s=limit_s), clock("lift"), faults.guard("lift", frame.id):
                with time_limit(limit_s, "lifting it"):
                    outcome = lift.outcome(frame.id)
                    record = make_record(frame, outcome, self._operator, self._fingerprint, marks[frame.id])
                records.append(replace(record, model_sha256=self._weights_sha256))
            if faults.may_try_again(frame.id, self._allowed):
                faults.forgive(frame.id)
                self._free_memory()
                waiting[:0] = [frame]
        return records


def _parts(views: list[LoadedView], size: int) -> list[list[LoadedView]]:
    return [views[start : start + size] for start in range(0, len(views), size)]


class Clock:
    """Wall seconds by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Add the time of a `with` block to a stage."""
        started = perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] += perf_counter() - started
