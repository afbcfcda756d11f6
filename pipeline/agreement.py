"""Comparing predictions: what one view says of a pixel against the finished label there.

Predictions are compared in their finished form: class indices [1, H, W] (-1 = none), else the values [C, H, W].
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from schemas.store import Kind

if TYPE_CHECKING:
    from torch import Tensor


def similarity(theirs: Tensor, final: Tensor, kind: Kind) -> Tensor:
    """How far predictions agree with a final one, in [0, 1].

    Classes: equal or not. Other kinds: 1 - |a - b|_1 / (|a|_1 + |b|_1), Bray-Curtis similarity, which needs no scale.

    Args:
        theirs: [E, C, R]; final: [C, R].

    Returns:
        [E, R].
    """
    if kind == "classes":
        return (theirs[:, 0] == final[0]).float()
    distance = (theirs - final).abs().sum(1)
    scale = theirs.abs().sum(1) + final.abs().sum(0)
    return 1.0 - distance / scale.clamp_min(1e-9)


def operator_confidence(decoded: Tensor, kind: Kind, size: tuple[int, int]) -> Tensor:
    """How sure the operator alone is, [H, W]: the best class's probability; other kinds do not say, so 1."""
    import torch

    if kind != "classes":
        return torch.ones(size, device=decoded.device)
    looks_like_probabilities = bool((decoded >= 0).all()) and bool((decoded.sum(0) <= 1 + 1e-3).all())
    shares = decoded if looks_like_probabilities else decoded.softmax(0)
    return shares.amax(0).clamp(0, 1)


def changed_share(raw: Tensor, finished: Tensor, kind: Kind) -> float | None:
    """Share of pixels that lifting changed: another class, or a value that differs by over 2/255 of the range."""
    if kind == "features":
        return None
    if kind == "classes":
        differs = raw != finished
    else:
        differs = (raw - finished).abs().amax(0) > 2.0 / 255.0 * raw.abs().amax().clamp_min(1e-9)
    return float(differs.double().mean())
