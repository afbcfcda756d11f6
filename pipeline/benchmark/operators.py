"""Operators that the benchmark lifts under names of its own: raw RGB, and built-in ones as its cells know them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.operators import style_ncnn
from pipeline.operators.deeplab import DeepLab
from pipeline.operators.edges import Hed
from pipeline.operators.grid import upsample
from schemas.store import Kind

if TYPE_CHECKING:
    from torch import Tensor

    from schemas.scene import FrameBatch

__all__ = ["DeepLab", "Hed", "RawRgb", "Style"]


class RawRgb:
    """The image itself as features: what novel-view synthesis predicts."""

    name = "raw-rgb"
    kind: Kind = "image"
    stride = 1
    label_set = None

    def encode(self, batch: FrameBatch[Tensor]) -> Tensor:
        """[B, 3, H, W] as it is."""
        return batch.images

    def decode(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        """Colours in [0, 1]."""
        return upsample(features, self.stride, size).clamp(0, 1)

    def fingerprint(self) -> str:
        """Nothing to tell apart."""
        return "raw-rgb:1"


def Style(folder: str, *, style: str = "candy", stride: int = 1) -> style_ncnn.Style:  # noqa: N802 (a SPEC names it)
    """The painting of one of a folder's styles."""
    return style_ncnn.Style(str(Path(folder) / f"{style}.bin"), stride=stride)
