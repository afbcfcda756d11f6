"""`style:PATH`: the image painted by a feed-forward style-transfer network in ncnn form.

Networks of Johnson et al. (Perceptual Losses for Real-Time Style Transfer, 2016): two halvings, five residual blocks,
two doublings. Every view is painted alone; what is lifted is either the painting or, cut after the residual blocks,
what the decoder paints from. docs/image_operators.md has both, measured.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pipeline.operators.grid import pad_to_stride, upsample
from pipeline.operators.ncnn_network import NcnnNetwork
from pipeline.operators.pixels import as_bytes, smaller
from schemas.errors import ConfigError
from schemas.store import Kind

if TYPE_CHECKING:
    from torch import Tensor

    from schemas.scene import FrameBatch

VERSION = 2
"""Version of what encode computes; part of the fingerprint."""
GRAPH = "styletransfer.param.bin"
"""The networks' common graph, beside the weights."""
INPUT, MIDDLE, OUTPUT = 0, 62, 74
"""Numbers of layers in that graph: the image, the last residual block's sum, the painting."""
HALVED = 4
"""Pixels a cell of the middle: the networks halve an image twice."""


class Style:
    """The painting, in [0, 1].

    Args:
        path: the weights `<style>.bin`, with `styletransfer.param.bin` in the same folder.
        lift: `image` lifts the paintings, `features` what the decoder paints from (128 channels, 4 pixels a cell).
        stride: pixels a cell of the painting: the network paints the image that much smaller.

    Raises MissingWeightsError where a file or the package ncnn is missing.
    """

    name = "style"
    kind: Kind = "image"
    label_set = None

    def __init__(self, path: str, *, lift: Literal["image", "features"] = "image", stride: int = 1) -> None:
        if lift not in ("image", "features"):
            raise ConfigError(f"style: lift is {lift!r}, expected image or features (operator.kwargs.lift)")
        weights = Path(path).expanduser()
        self._network = NcnnNetwork(weights.parent / GRAPH, weights, "style transfer")
        self._lift, self._shrink = lift, stride
        self.stride = stride if lift == "image" else stride * HALVED

    def encode(self, batch: FrameBatch[Tensor]) -> Tensor:
        """Paintings [B, 3, h, w] in [0, 1], or what they are painted from [B, 128, h, w]."""
        import torch

        images = smaller(batch.images, self._shrink)
        h, w = (-(-batch.images.shape[axis] // self.stride) for axis in (-2, -1))
        output = OUTPUT if self._lift == "image" else MIDDLE
        padded = pad_to_stride(images, HALVED)
        made = torch.stack([torch.from_numpy(self._network.run({INPUT: as_bytes(i)}, output)) for i in padded])
        made = made[..., :h, :w].to(images.device)
        return (made / 255).clamp(0, 1) if self._lift == "image" else made

    def decode(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        """Colours [B, 3, H, W] in [0, 1]."""
        import torch

        if self._lift == "image":
            return upsample(features, self.stride, size).clamp(0, 1)
        made = [torch.from_numpy(self._network.run({MIDDLE: one.cpu().numpy()}, OUTPUT)) for one in features]
        painted = (torch.stack(made).to(features.device) / 255).clamp(0, 1)
        h, w = (-(-side // self._shrink) for side in size)
        return upsample(painted[..., :h, :w], self._shrink, size).clamp(0, 1)

    def fingerprint(self) -> str:
        """Weights and settings."""
        return f"style:{VERSION}:{self._network.digest}:{self._lift}:{self._shrink}"
