"""Running the 2D operator: encode views in batches, decode features to finished predictions.

What says classes is decoded before it is lifted, and its class ids are lifted at full resolution: outlines are as
sharp as the image's, and lifting costs one number a pixel. Everything else is lifted as features, then decoded.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from typing import TYPE_CHECKING, Any

from pipeline.operators.contract import check_decoded, check_encoded, check_indices
from pipeline.protocols import Operator
from schemas.scene import FrameBatch

if TYPE_CHECKING:
    from torch import Tensor

    from pipeline.loading import LoadedView


@dataclass(frozen=True, slots=True)
class Encoded:
    """What an operator saw in one view: exactly one of the two.

    Attributes:
        features: [C, h, w] on the operator's grid.
        ids: [H, W] int16 class indices, -1 = no prediction, of an operator that says one class a pixel.
    """

    features: Tensor | None
    ids: Tensor | None


def encode_batch(
    operator: Operator, views: Sequence[LoadedView], images: Sequence[Tensor], scene: str, *, as_ids: bool
) -> list[Encoded]:
    """Encode views of one size. Raises what the operator raises, and `ContractError` where it breaks the contract.

    Args:
        as_ids: decode at once and keep each pixel's class only: one number a pixel instead of one a class or channel.
    """
    import torch

    batch = FrameBatch(
        images=torch.stack(list(images)),
        scene=scene,
        frames=tuple(view.frame.id for view in views),
        cameras=tuple(view.frame.camera for view in views),
    )
    said = class_indices(operator, batch) if as_ids else None
    if said is not None:
        return [Encoded(None, ids) for ids in said]
    features = operator.encode(batch)
    check_encoded(operator, features, batch)
    if not as_ids:
        return [Encoded(view.float(), None) for view in features]
    size = (batch.images.shape[-2], batch.images.shape[-1])
    return [Encoded(None, class_ids(decode_view(operator, view.float(), size))) for view in features]


def class_indices(operator: Operator, batch: FrameBatch[Tensor]) -> Tensor | None:
    """[B, H, W] int16: what an operator that knows each pixel's class says at once; None where it has to be decoded."""
    method = getattr(operator, "class_indices", None)
    found = method(batch) if callable(method) else None
    if found is not None:
        check_indices(operator, found, batch)
    return found


def class_ids(scores: Tensor) -> Tensor:
    """[K, H, W] -> [H, W] int16: the best class's index, -1 where all scores are zero."""
    import torch

    best = scores.max(0)
    nothing = (best.values == 0) & (scores.amin(0) == 0)
    return torch.where(nothing, -1, best.indices).to(torch.int16)


def batches(views: Iterable[LoadedView], size: int) -> Iterator[list[LoadedView]]:
    """The views in order, cut into runs of one image size that are at most `size` long, as they come."""
    for _, run in groupby(views, key=lambda view: view.image.shape):
        while batch := list(islice(run, size)):
            yield batch


def decode_view(operator: Operator, features: Tensor, size: tuple[int, int]) -> Tensor:
    """Decode one view's features [C, h, w] to scores [K, H, W] | features | RGB | scalar, checked."""
    decoded: Any = operator.decode(features[None], size)
    check_decoded(operator, decoded, size, 1)
    return decoded[0].float()
