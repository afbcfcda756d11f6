"""A chunk in, label records out: decode images -> encode -> lift -> decode. The same object in every engine.

Whatever goes wrong with one frame becomes that frame's quarantine row and costs no other frame (pipeline/faults.py).
Faults of a view that is only a source are left to the chunk in which that view is a target.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from time import perf_counter
from typing import TYPE_CHECKING

from pipeline.faults import Faults
from pipeline.lift_weights import load_weights
from pipeline.lifting import ChunkLift, lift_settings
from pipeline.loading import LoadedView, as_images, load_view
from pipeline.predicting import Encoded, batches, encode_batch
from pipeline.records import make_record
from pipeline.store import operator_slug
from schemas.config import LabelingConfig
from schemas.record import ChunkResult, LabelRecord
from schemas.scene import Chunk

if TYPE_CHECKING:
    from lift3d_model import Lift3D
    from pipeline.protocols import Operator


DECODERS = 2
"""Threads a worker that fetch and decode views while the operator works on earlier ones."""


class Labeler:
    """Labels chunks with one operator. Built once a worker.

    Args:
        config: of the run; `engine.device` auto means CUDA where there is some.
        operator: one that is built already; else it is built from the config.
        model: one that is built already; else it is the one that the config asks for.

    Raises what building the operator raises, and `MissingWeightsError` for a checkpoint that cannot be read.
    """

    def __init__(self, config: LabelingConfig, operator: Operator | None = None, model: Lift3D | None = None) -> None:
        import torch

        from lift3d_model import Lift3D
        from pipeline.operators import build_operator

        wanted = config.engine.device
        name = ("cuda" if torch.cuda.is_available() else "cpu") if wanted == "auto" else wanted
        self._device = torch.device(name)
        self._config = config
        self._slug = operator_slug(config.operator.spec)
        self._operator = operator or build_operator(config.operator.spec, dict(config.operator.kwargs), name)
        self._fingerprint = self._operator.fingerprint()
        checkpoint, self._weights_sha256 = load_weights(config.lift)
        self._model = model or Lift3D(lift_settings(config.lift), checkpoint)
        self._as_ids = self._operator.kind == "classes" and config.lift.method != "none"

    def label(self, chunk: Chunk) -> ChunkResult:
        """Label a chunk's targets. Every target is in exactly one of the result's two lists."""
        import torch

        clock, faults = Clock(), Faults(chunk.scene, self._slug)
        with torch.inference_mode(), ThreadPoolExecutor(DECODERS) as pool:
            encoded: dict[str, Encoded] = {}
            usable = []
            for batch in batches(self._decoded(chunk, pool, faults, clock), self._config.operator.batch_size):
                with clock("encode"):
                    encoded.update(self._encode(chunk.scene, batch, faults))
                usable += [view for view in batch if view.frame.id in encoded]
            records = self._lift(chunk, usable, encoded, faults, clock)
        return ChunkResult(tuple(records), faults.quarantine(chunk.target_ids), dict(clock.seconds))

    def _decoded(self, chunk: Chunk, pool: ThreadPoolExecutor, faults: Faults, clock: Clock) -> Iterator[LoadedView]:
        """Views in order, read and decoded by a few threads ahead of the operator."""
        loading = [pool.submit(load_view, frame, self._config.lift) for frame in chunk.frames]
        for frame, view in zip(chunk.frames, loading, strict=True):
            loaded = None
            with clock("decode"), faults.guard("decode", frame.id):
                loaded = view.result()
            if loaded is not None:
                yield loaded

    def _encode(self, scene: str, batch: list[LoadedView], faults: Faults) -> dict[str, Encoded]:
        """Encoded views by frame id. A batch that fails is taken apart, so that only the culprits are lost."""
        ids = [view.frame.id for view in batch]
        with faults.guard("encode", *ids):
            return self._encode_batch(scene, batch)
        encoded: dict[str, Encoded] = {}
        for view in batch if len(batch) > 1 and faults.forgive(*ids) else []:
            with faults.guard("encode", view.frame.id):
                encoded.update(self._encode_batch(scene, [view]))
        return encoded

    def _encode_batch(self, scene: str, views: list[LoadedView]) -> dict[str, Encoded]:
        found = encode_batch(self._operator, views, as_images(views, self._device), scene, as_ids=self._as_ids)
        return {view.frame.id: one for view, one in zip(views, found, strict=True)}

    def _lift(
        self, chunk: Chunk, views: list[LoadedView], encoded: dict[str, Encoded], faults: Faults, clock: Clock
    ) -> list[LabelRecord]:
        marks = dict(zip(chunk.target_ids, chunk.fingerprints, strict=True))
        with clock("geometry"), faults.guard("geometry", *marks):
            lift = ChunkLift(self._model, self._operator, self._config.lift, chunk, views, encoded, self._device)
        records = []
        for view in views:
            frame = view.frame
            if frame.id not in marks or frame.id in faults:
                continue
            with clock("lift"), faults.guard("lift", frame.id):
                outcome = lift.outcome(frame.id)
                record = make_record(frame, outcome, self._operator, self._fingerprint, marks[frame.id])
                records.append(replace(record, model_sha256=self._weights_sha256))
        return records


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
