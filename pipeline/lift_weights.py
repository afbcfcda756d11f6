"""Which checkpoint a run lifts with: the shipped one, none, or one at an address. Driver and workers read it alike."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.assets import filesystem, storage_errors
from schemas.config import LiftConfig
from schemas.errors import MissingWeightsError

if TYPE_CHECKING:
    from lift3d_model.checkpoint import Checkpoint

REMEDY = "name a file that `lift3d train` wrote, `default` (the shipped one) or `none` (the analytic lift)"


def load_weights(lift: LiftConfig) -> tuple[Checkpoint | None, str | None]:
    """The checkpoint and its hex digest; None and None where the run lifts without one.

    Raises `MissingWeightsError` for what cannot be read or is not a checkpoint of this model.
    """
    from lift3d_model.checkpoint import Checkpoint, digest
    from lift3d_model.weighting import load_weighting
    from pipeline.operators.weights import check_finite, check_header

    content = _content(lift)
    if content is None:
        return None, None
    try:
        check_header(content)
        checkpoint = Checkpoint.from_bytes(content)
        check_finite(checkpoint.tensors)
        load_weighting(checkpoint.group("weighting"))
    except (ValueError, TypeError, AttributeError, RuntimeError) as error:  # RecursionError is a RuntimeError
        raise MissingWeightsError(f"lift.weights {lift.weights!r}: {error}", remedy=REMEDY) from error
    if not isinstance(checkpoint.config, dict):
        raise MissingWeightsError(f"lift.weights {lift.weights!r}: its settings are no JSON object", remedy=REMEDY)
    return checkpoint, digest(content)


def weights_sha256(lift: LiftConfig) -> str | None:
    """Hex digest of the checkpoint, None without one. Raises `MissingWeightsError`."""
    return load_weights(lift)[1]


def _content(lift: LiftConfig) -> bytes | None:
    from lift3d_model.checkpoint import shipped_bytes

    if lift.method == "none" or lift.weights == "none":
        return None
    if lift.weights == "default":
        return shipped_bytes()
    try:
        files, path = filesystem(lift.weights)
        content: bytes = files.cat_file(path)
    except storage_errors() as error:
        raise MissingWeightsError(
            f"lift.weights {lift.weights!r}: expected a checkpoint, found nothing that can be read ({error})",
            remedy=REMEDY,
        ) from error
    return content
