"""What a chunk yields: one label record a frame, or one quarantine record where a frame could not be labelled."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.errors import Reason
from schemas.scene import Frame
from schemas.store import Kind


@dataclass(frozen=True, slots=True)
class LabelRecord:
    """One labelled frame before encoding. H, W: the image's full size.

    Attributes:
        frame: the frame (id, camera and image address go into the row).
        kind: which of the payloads is set.
        value: classes -> [H, W] unsigned ids; features -> [C, h, w] float; image -> [H, W, 3] uint8 RGB;
            scalar -> [H, W] float.
        confidence: [H, W] float in [0, 1], 0 where there is no evidence.
        consistency: mean share of the source views' evidence that agrees with the label, None without sources.
        changed: share of pixels that lifting changed, None where that has no meaning (features).
        sources: frame ids of the source views, best first.
        lift_mode: `<geometry>-<mode>` or none.
        model_sha256: the lift's checkpoint, None for the analytic lift.
        operator_fingerprint, fingerprint: of the operator, and of everything the label depends on.
    """

    frame: Frame
    kind: Kind
    value: NDArray[Any]
    confidence: NDArray[np.float32]
    consistency: float | None
    changed: float | None
    sources: tuple[str, ...]
    lift_mode: str
    model_sha256: str | None
    operator_fingerprint: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class QuarantineRecord:
    """A frame (or, frame None, a whole scene) that was not labelled, and why."""

    scene: str
    frame: str | None
    operator: str
    stage: str
    reason: Reason
    message: str
    attempts: int = 1
    traceback_hash: str | None = None


@dataclass(frozen=True, slots=True)
class ChunkResult:
    """Everything that came of a chunk: each target is in exactly one of the two."""

    records: tuple[LabelRecord, ...]
    quarantined: tuple[QuarantineRecord, ...]
    seconds: dict[str, float]
    """Wall seconds by stage: decode, encode, geometry, lift, decode_labels."""
    counts: dict[str, int] = field(default_factory=dict)
    """Views that were decoded, encoded, swept, and of which evidence was gathered: those that this chunk had done."""
