"""`timm:MODEL`: dense features of any timm model that has feature maps. `dino` and `efficientnet` are presets of it.

By arithmetic a ConvNet's cells are centred beside the grid: a stride of 2 with a kernel of 3 or 5 centres them on every
second pixel, which adds up to half a cell. Trained ones look where they should all the same (training mirrors images),
so nothing is moved; tests hold real weights to it, and docs/operators.md has the figures.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.operators.grid import pad_to_stride
from pipeline.operators.licences import UNKNOWN, Weights
from pipeline.operators.timm_models import load_timm, timm_weights
from pipeline.operators.vit_features import block_features, fit_to_patches
from pipeline.operators.weights import tensors_sha256
from schemas.errors import ConfigError
from schemas.store import Kind

if TYPE_CHECKING:
    from torch import Tensor

    from schemas.scene import FrameBatch

VERSION = 1
"""Version of what encode computes; part of the fingerprint."""
COARSEST = 16
"""Pixels a cell of the layer that a pyramid is cut at by default, at most."""
TRIAL = (5, 9)
"""Coarsest cells of the image that a network is tried on: a size that no network was made for."""


@dataclass(frozen=True, slots=True)
class Cut:
    """Which of a network's maps is taken, and what its cells are.

    Attributes:
        layer: index into the network's maps.
        cell: image pixels a cell.
        whole: pixels that the sides of an image are multiples of, so that coarser maps fit as well.
        tokens: whether it is a transformer's: their scale differs much from cell to cell, so it is taken out.
    """

    layer: int
    cell: int
    whole: int
    tokens: bool


class TimmFeatures:
    """Features [B, C, h, w] of one layer; a transformer's cells are normalised to zero mean and unit variance.

    Args:
        name: the operator's.
        backbone: a timm model in eval mode, with `pretrained_cfg` that says how images are normalised.
        cut: of it.
        stride: pixels a cell; none takes the layer's own. Images are resized so that a cell becomes one of the
            network's: a smaller stride gives a finer map and costs time with its inverse square.
        digest: of the weights and of how images are normalised, computed where absent.
        weights: where they come from, and their licence.
    """

    kind: Kind = "features"
    label_set = None

    def __init__(
        self,
        name: str,
        backbone: Any,
        cut: Cut,
        stride: int | None = None,
        digest: str = "",
        weights: Weights | None = None,
    ) -> None:
        if stride is not None and (type(stride) is not int or stride < 1):
            raise ConfigError(f"{name}: stride is {stride!r}, expected whole pixels, 1 or more")
        self.name, self._backbone, self._cut = name, backbone, cut
        self.stride = stride or cut.cell
        self._digest = digest or _digest(backbone)
        self._weights = weights or Weights(name, UNKNOWN)

    def encode(self, batch: FrameBatch[Tensor]) -> Tensor:
        """images [B, 3, H, W] -> [B, C, ceil(H / stride), ceil(W / stride)], independent of the batch size."""
        fitted = fit_to_patches(batch.images, self.stride, self._cut.cell)
        h, w = (side // self._cut.cell for side in fitted.shape[-2:])
        return maps_of(self._backbone, pad_to_stride(fitted, self._cut.whole), self._cut)[..., :h, :w].contiguous()

    def decode(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        """Features are the prediction."""
        return features

    def fingerprint(self) -> str:
        """Weights, layer and stride."""
        return f"{self.name}:{VERSION}:{self._digest}:{self._cut.layer}:{self.stride}"

    def weights_info(self) -> tuple[Weights, ...]:
        """Where the weights come from, and their licence."""
        return (self._weights,)


def _digest(backbone: Any) -> str:
    import torch

    normalised = {name: torch.tensor(backbone.pretrained_cfg[name]) for name in ("mean", "std")}
    return tensors_sha256({**backbone.state_dict(), **normalised})


def timm_features(
    weights: str, *, layer: int | None = None, stride: int | None = None, device: str = "cpu"
) -> TimmFeatures:
    """The operator `timm:MODEL`.

    Args:
        weights: MODEL as timm names it (its weights come from the hub), MODEL/PATH with a file of its weights, or a
            folder with config.json and model.safetensors.
        layer: which map: a transformer's block, a pyramid's stage, counted from 0. None takes a transformer's last
            block, and of a pyramid the last stage with cells of `stride`, else of at most 16 pixels.
        stride: pixels a cell, none takes the layer's own.
        device: torch device.

    Raises MissingWeightsError, UnknownNameError, or ConfigError for a model or a layer that has no such map.
    """
    backbone = load_timm(weights, "timm").to(device)
    told = timm_weights(weights, backbone)
    return TimmFeatures("timm", backbone, cut_of("timm", backbone, layer, stride), stride, weights=told)


def cut_of(name: str, backbone: Any, layer: int | None = None, stride: int | None = None) -> Cut:
    """A network's cut, tried out. Raises ConfigError where there is no such layer or it has no map on a grid."""
    cells = _cells(name, backbone)
    chosen = _default_layer(cells, stride) if layer is None else layer
    if type(chosen) is not int or not 0 <= chosen < len(cells):
        sizes = ", ".join(str(cell) for cell in cells) if len(set(cells)) > 1 else f"{cells[0]} each"
        raise ConfigError(
            f"{name}: layer {chosen!r} does not exist, expected 0..{len(cells) - 1}",
            remedy=f"pixels a cell of these layers: {sizes}",
        )
    cut = Cut(chosen, cells[chosen], max(cells), tokens=len(set(cells)) == 1)
    _try(name, backbone, cut)
    return cut


def maps_of(backbone: Any, images: Tensor, cut: Cut) -> Tensor:
    """images [B, 3, H, W] in [0, 1], sides multiples of `cut.whole` -> [B, C, H / cell, W / cell]."""
    config = backbone.pretrained_cfg
    return block_features(backbone, images, [cut.layer], config["mean"], config["std"], cut.tokens)


def _cells(name: str, backbone: Any) -> list[int]:
    """Pixels a cell of every map that the network has."""
    info = getattr(backbone, "feature_info", None)
    rows = getattr(info, "info", info)
    if not rows or not hasattr(backbone, "forward_intermediates"):
        raise ConfigError(f"{name}: {type(backbone).__name__} has no feature maps", remedy="choose another model")
    return [int(row["reduction"]) for row in rows]


def _default_layer(cells: list[int], stride: int | None) -> int:
    limit = stride if stride in cells else max(COARSEST, min(cells))
    return max(layer for layer, cell in enumerate(cells) if cell <= limit)


def _try(name: str, backbone: Any, cut: Cut) -> None:
    """Raise ConfigError where the network refuses an image of an unusual size, or answers off the grid."""
    import torch

    size = (TRIAL[0] * cut.whole, TRIAL[1] * cut.whole)
    expected = (size[0] // cut.cell, size[1] // cut.cell)
    image = torch.full((1, 3, *size), 0.5, device=next(backbone.parameters()).device)
    try:
        found = tuple(maps_of(backbone, image, cut).shape[-2:])
    except (RuntimeError, AssertionError, TypeError, ValueError, IndexError) as error:
        raise ConfigError(
            f"{name}: layer {cut.layer} does not take an image of {size[0]} x {size[1]} px ({error!s:.160})",
            remedy="choose a model that takes images of any size, or another layer",
        ) from error
    if found != expected:
        raise ConfigError(
            f"{name}: layer {cut.layer} makes {found} cells of {size[0]} x {size[1]} px, expected {expected}",
            remedy="choose a model or a layer whose maps cover the image evenly",
        )
