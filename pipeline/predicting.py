"""Running the 2D operator: encode views in batches, decode features to finished predictions.

Hard class maps (one-hot scores at full resolution) are kept as ids, so that their lifting costs one number a pixel
instead of one a class.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from typing import TYPE_CHECKING, Any

from pipeline.operators.contract import check_decoded, check_encoded
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
        ids: [H, W] int16 class indices, -1 = no prediction, where the operator is sure of one class a pixel.
    """

    features: Tensor | None
    ids: Tensor | None


def encode_batch(
    operator: Operator, views: Sequence[LoadedView], images: Sequence[Tensor], scene: str
) -> list[Encoded]:
    """Encode views of one size. Raises what the operator raises, and `ContractError` where it breaks the contract."""
    import torch

    batch = FrameBatch(
        images=torch.stack(list(images)),
        scene=scene,
        frames=tuple(view.frame.id for view in views),
        cameras=tuple(view.frame.camera for view in views),
    )
    features = operator.encode(batch)
    check_encoded(operator, features, batch)
    hard = operator.kind == "classes" and operator.stride == 1
    return [_compressed(view.float(), hard) for view in features]


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


def one_hot(ids: Tensor, classes: int) -> Tensor:
    """[H, W] indices (-1 = none) -> [classes, H, W] float."""
    import torch

    scores = torch.zeros(classes, *ids.shape, device=ids.device)
    return scores.scatter_(0, ids.long().clamp_min(0)[None], (ids >= 0).float()[None])


def _compressed(features: Tensor, hard: bool) -> Encoded:
    """Ids where every pixel's scores are one-hot or all zero, else the features as they are."""
    import torch

    if not hard or not _is_one_hot(features):
        return Encoded(features, None)
    ids = features.argmax(0).to(torch.int16)
    return Encoded(None, torch.where(features.sum(0) > 0, ids, torch.full_like(ids, -1)))


def _is_one_hot(scores: Tensor) -> bool:
    return bool(((scores == 0) | (scores == 1)).all()) and bool((scores.sum(0) <= 1).all())
