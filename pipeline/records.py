"""A target's finished prediction as a label record."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.agreement import changed_share
from pipeline.protocols import Operator
from schemas.record import LabelRecord
from schemas.scene import Frame

if TYPE_CHECKING:
    from torch import Tensor

    from pipeline.lifting import Outcome


def make_record(
    frame: Frame, outcome: Outcome, operator: Operator, operator_fingerprint: str, fingerprint: str
) -> LabelRecord:
    """The record of one frame; pixels without evidence get the ignore id."""
    changed = None if outcome.raw is None else changed_share(outcome.raw, outcome.finished, operator.kind)
    return LabelRecord(
        frame=frame,
        kind=operator.kind,
        value=_value(outcome.finished, outcome.known, operator),
        confidence=outcome.confidence.clamp(0, 1).cpu().numpy(),
        consistency=outcome.consistency,
        changed=changed,
        sources=outcome.sources,
        lift_mode=outcome.lift_mode,
        model_sha256=None,
        operator_fingerprint=operator_fingerprint,
        fingerprint=fingerprint,
    )


def _value(finished: Tensor, known: Tensor, operator: Operator) -> NDArray[Any]:
    """The payload that the operator's kind calls for (see `LabelRecord.value`)."""
    if operator.kind == "classes" and operator.label_set is not None:
        labels = operator.label_set
        ids = np.asarray(labels.ids, labels.dtype)[finished[0].clamp_min(0).long().cpu().numpy()]
        return np.where(known.cpu().numpy(), ids, labels.dtype.type(labels.ignore_id))
    if operator.kind == "image":
        return (finished.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()
    return (finished[0] if operator.kind == "scalar" else finished).cpu().numpy()
