"""A chunk in, label records out: decode images -> encode -> lift -> decode. The same object in every engine.

Whatever goes wrong with one frame becomes that frame's quarantine row and costs no other frame (pipeline/faults.py).
Faults of a view that is only a source are left to the chunk in which that view is a target.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pipeline.faults import Faults
from pipeline.fingerprint import model_fingerprint, trial_mark
from pipeline.known import Known, ViewMemory
from pipeline.lift_weights import load_weights
from pipeline.lifting import ChunkLift, corrects_sources, lift_settings
from pipeline.plan import halves
from pipeline.records import make_record
from pipeline.rounds import next_round
from pipeline.scratch import NO_SCRATCH, Scratch
from pipeline.shared import SharedViews
from pipeline.store import operator_slug
from pipeline.tries import UNTRIED, Tries, hold_hopeless
from pipeline.viewing import Seen, Viewer, free_memory
from pipeline.work import Work, working
from schemas.config import LabelingConfig
from schemas.record import ChunkResult, LabelRecord
from schemas.scene import Chunk, Frame

if TYPE_CHECKING:
    from lift3d_model import Lift3D
    from pipeline.protocols import Operator


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
        self._viewer = Viewer(self._operator, self._device, config, self._memory, self._shared)
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

        faults = Faults(chunk.scene, self._slug)
        hold_hopeless(faults, chunk, tries)
        with working(faults, tries) as work, torch.inference_mode():
            known = self._memory.recall(chunk)
            while (part := next_round(chunk, known, self._config.lift)) is not None:
                before, known = known, self._corrected(part, known, work)
                if len(known.corrected) == len(before.corrected):
                    break
            records = self._lift(chunk, known, self._look(chunk, known, work), work)
        quarantined = faults.quarantine(chunk.target_ids)
        return ChunkResult(tuple(records), quarantined, dict(work.clock.seconds), self._shared.counts())

    def _look(self, chunk: Chunk, known: Known, work: Work) -> Seen:
        """At the views that are not known well enough."""
        frames = [chunk.frames[v] for v in sorted(known.loaded(chunk, self._config.lift))]
        return self._viewer.look(chunk.scene, frames, work)

    def _corrected(self, part: Chunk, known: Known, work: Work) -> Known:
        """What is known once a portion of source views is corrected; where that fails, the chunk does it at once."""
        alone = known.uncorrected()
        seen = self._look(part, alone, work)
        ids = [frame for frame in part.target_ids if frame not in work.faults]
        if not ids or work.tries.ended("geometry", ids):
            return known
        limit_s = self._limit_s * len(part.frames)
        with work.step("geometry", *ids, limit_s=limit_s):
            lift = self._prepare(part, alone, seen, work)
            with work.guard("geometry", *ids, limit_s=limit_s, what="correcting class maps"):
                if lift is not None:
                    lift.correct(ids)
                    self._keep(part, alone, seen, lift)
        if lift is None or work.faults.forgive(*ids):
            return known
        corrected = {**known.corrected, **lift.corrected_now()}
        return replace(known, corrected=corrected, swept={**known.swept, **lift.swept_now()})

    def _lift(self, chunk: Chunk, known: Known, seen: Seen, work: Work) -> list[LabelRecord]:
        """Lift target by target. Where that fails before there is a target to blame, the chunk is halved."""
        records = []
        waiting = [chunk]
        while waiting:
            part = waiting.pop(0)
            ids = [frame for frame in part.target_ids if frame not in work.faults]
            if not ids:
                continue
            lift = None
            if not (len(ids) > 1 and work.tries.ended("geometry", ids)):
                with work.step("geometry", *ids, limit_s=self._limit_s * len(part.frames)):
                    lift = self._prepare(part, known, seen, work)
            if lift is not None:
                records += self._lift_targets(part, seen, lift, work)
                self._keep(part, known, seen, lift)
            elif len(part.targets) > 1:
                work.faults.forgive(*ids)
                free_memory(self._device)
                waiting[:0] = halves(part, self._config.lift, corrects=self.corrects)
            elif work.faults.may_try_again(part.target_ids[0], self._allowed):
                work.faults.forgive(*ids)
                waiting[:0] = [part]
        return records

    def _keep(self, part: Chunk, known: Known, seen: Seen, lift: ChunkLift) -> None:
        """Keep what was worked out, unless a view was missing: other chunks may have it, and make more of it."""
        swept = lift.swept_now()
        self._shared.count("swept", len(swept))
        if all(part.frames[v].id in seen.encoded for v in known.loaded(part, self._config.lift)):
            self._memory.keep(part, lift.corrected_now(), swept)

    def _prepare(self, part: Chunk, known: Known, seen: Seen, work: Work) -> ChunkLift | None:
        needed = {frame.id for frame in part.frames}
        among = [view for view in seen.views if view.frame.id in needed]
        blamed = [frame for frame in part.target_ids if frame not in work.faults]
        with work.guard("geometry", *blamed, limit_s=self._limit_s * len(part.frames), what="the geometry"):
            lift = self._config.lift
            return ChunkLift(self._model, self._operator, lift, part, among, seen.encoded, self._device, known)
        return None

    def _lift_targets(self, chunk: Chunk, seen: Seen, lift: ChunkLift, work: Work) -> list[LabelRecord]:
        marks = dict(zip(chunk.target_ids, chunk.fingerprints, strict=True))
        limit_s = self._limit_s * (1 + self._config.lift.sources)
        records = []
        waiting = [view.frame for view in seen.views if view.frame.id in marks and view.frame.id not in work.faults]
        while waiting:
            frame = waiting.pop(0)
            guard = work.guard("lift", frame.id, limit_s=limit_s, what="lifting it")
            with work.step("lift", frame.id, limit_s=limit_s), guard:
                outcome = lift.outcome(frame.id)
                record = make_record(frame, outcome, self._operator, self._fingerprint, marks[frame.id])
                records.append(replace(record, model_sha256=self._weights_sha256))
            if work.faults.may_try_again(frame.id, self._allowed):
                work.faults.forgive(frame.id)
                free_memory(self._device)
                waiting[:0] = [frame]
        return records
