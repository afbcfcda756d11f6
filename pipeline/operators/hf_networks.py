"""Which models of transformers are supported, and what each of their networks makes of an image.

A family's `run` takes an image as the network wants it, [1, 3, H, W], and returns a map [1, C, h, w] that covers the
image exactly: class logits, class shares, depth, or features.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from schemas.store import Kind

if TYPE_CHECKING:
    from torch import Tensor

Given = Mapping[str, Any]
"""What a network takes besides the image: tokens of texts."""
Run = Callable[[Any, "Tensor", Given], "Tensor"]
Texts = Literal["none", "task", "prompts"]


@dataclass(frozen=True, slots=True)
class Family:
    """A kind of network.

    Attributes:
        network: class of transformers that is loaded.
        kind: what the operator predicts.
        run: see above.
        shares: whether class maps are probabilities already, of masks that may overlap.
        square: whether the network takes a square of one size only.
        cell: pixels that image sides are padded to; a network with patches takes the patch where that is larger.
        texts: what it takes besides the image.
        options: more arguments for loading.
        idle: beginnings of names of tensors that the network has and never uses.
    """

    network: str
    kind: Kind
    run: Run
    shares: bool = False
    square: bool = False
    cell: int = 1
    texts: Texts = "none"
    options: Mapping[str, Any] = field(default_factory=dict)
    idle: tuple[str, ...] = ()


def _logits(network: Any, pixels: Tensor, given: Given) -> Tensor:
    found: Tensor = network(pixel_values=pixels).logits
    return found


def _mask_shares(network: Any, pixels: Tensor, given: Given) -> Tensor:
    """Class probabilities of queries times their mask probabilities, summed over queries, at the masks' resolution."""
    return _queried(network(pixel_values=pixels, **given), None)


def _full_mask_shares(network: Any, pixels: Tensor, given: Given) -> Tensor:
    """The same, of masks that are brought to the image's resolution before they become probabilities."""
    return _queried(network(pixel_values=pixels, **given), (pixels.shape[-2], pixels.shape[-1]))


def _queried(found: Any, size: tuple[int, int] | None) -> Tensor:
    import torch
    from torch.nn.functional import interpolate

    masks = found.masks_queries_logits
    if size is not None:
        masks = interpolate(masks, size=size, mode="bilinear", align_corners=False)
    classes = found.class_queries_logits.softmax(dim=-1)[..., :-1]  # the last one is "no object"
    return torch.einsum("bqc,bqhw->bchw", classes, masks.sigmoid())


def _prompted(network: Any, pixels: Tensor, given: Given) -> Tensor:
    """One logit map a text."""
    texts = len(given["input_ids"])
    found: Tensor = network(pixel_values=pixels.expand(texts, -1, -1, -1), **given).logits
    return found.reshape(1, texts, *found.shape[-2:])


def _depth(network: Any, pixels: Tensor, given: Given) -> Tensor:
    found: Tensor = network(pixel_values=pixels).predicted_depth
    return found[:, None]


def _tokens(network: Any, pixels: Tensor, given: Given) -> Tensor:
    """The last block's patch tokens, without the class token and registers, each normalised as the network does it."""
    patch = int(network.config.patch_size)
    h, w = pixels.shape[-2] // patch, pixels.shape[-1] // patch
    found: Tensor = network(pixel_values=pixels, **given).last_hidden_state[:, -h * w :]
    return found.mT.reshape(1, -1, h, w)


def _any_size_tokens(network: Any, pixels: Tensor, given: Given) -> Tensor:
    return _tokens(network, pixels, {**given, "interpolate_pos_encoding": True})


_UNUSED = ("neck.fusion_stage.layers.0.residual_layer1.",)
"""The first fusion layer of DPT has nothing to add to; some checkpoints leave its weights out."""

FAMILIES: Mapping[str, Family] = {
    "SegformerForSemanticSegmentation": Family("SegformerForSemanticSegmentation", "classes", _logits, cell=32),
    "UperNetForSemanticSegmentation": Family("UperNetForSemanticSegmentation", "classes", _logits, cell=32),
    "MobileViTForSemanticSegmentation": Family("MobileViTForSemanticSegmentation", "classes", _logits, cell=32),
    "MobileViTV2ForSemanticSegmentation": Family("MobileViTV2ForSemanticSegmentation", "classes", _logits, cell=32),
    "MobileNetV2ForSemanticSegmentation": Family("MobileNetV2ForSemanticSegmentation", "classes", _logits, cell=32),
    "DPTForSemanticSegmentation": Family("DPTForSemanticSegmentation", "classes", _logits, idle=_UNUSED),
    "BeitForSemanticSegmentation": Family("BeitForSemanticSegmentation", "classes", _logits, square=True),
    "Data2VecVisionForSemanticSegmentation": Family(
        "Data2VecVisionForSemanticSegmentation", "classes", _logits, square=True
    ),
    "MaskFormerForInstanceSegmentation": Family(
        "MaskFormerForInstanceSegmentation", "classes", _mask_shares, shares=True, cell=32
    ),
    "Mask2FormerForUniversalSegmentation": Family(
        "Mask2FormerForUniversalSegmentation", "classes", _full_mask_shares, shares=True, cell=32
    ),
    "OneFormerForUniversalSegmentation": Family(
        "OneFormerForUniversalSegmentation", "classes", _mask_shares, shares=True, cell=32, texts="task"
    ),
    "EomtForUniversalSegmentation": Family(
        "EomtForUniversalSegmentation", "classes", _full_mask_shares, shares=True, square=True
    ),
    "CLIPSegForImageSegmentation": Family(
        "CLIPSegForImageSegmentation", "classes", _prompted, square=True, texts="prompts"
    ),
    "DepthAnythingForDepthEstimation": Family("DepthAnythingForDepthEstimation", "scalar", _depth, idle=_UNUSED),
    "DPTForDepthEstimation": Family("DPTForDepthEstimation", "scalar", _depth, idle=_UNUSED),
    "ZoeDepthForDepthEstimation": Family("ZoeDepthForDepthEstimation", "scalar", _depth, cell=32, idle=_UNUSED),
    **dict.fromkeys(("Dinov2Model", "Dinov2ForImageClassification"), Family("Dinov2Model", "features", _tokens)),
    **dict.fromkeys(
        ("Dinov2WithRegistersModel", "Dinov2WithRegistersForImageClassification"),
        Family("Dinov2WithRegistersModel", "features", _tokens),
    ),
    "DINOv3ViTModel": Family("DINOv3ViTModel", "features", _tokens),
    **dict.fromkeys(
        ("ViTModel", "ViTForImageClassification"),
        Family("ViTModel", "features", _any_size_tokens, options={"add_pooling_layer": False}),
    ),
}
"""What config.json's `architectures` may name -> its family."""


def is_metric(config: Any) -> bool:
    """Whether a depth network predicts depth in metres; else it is inverse depth up to scale and shift."""
    return config.model_type == "zoedepth" or getattr(config, "depth_estimation_type", None) == "metric"
