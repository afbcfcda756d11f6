"""`torchvision:NAME[/WEIGHTS]`: class scores of torchvision's segmentation models, features of its classifiers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from pipeline.operators.class_channels import channel_classes
from pipeline.operators.grid import upsample
from pipeline.operators.torchvision_models import classes_of, load_network, load_tensors, published, split
from pipeline.operators.vit_features import IMAGENET_MEAN, IMAGENET_STD, fit_to_patches, normalise
from pipeline.operators.weights import tensors_sha256
from schemas.errors import ConfigError
from schemas.label_sets import LabelSet, label_set
from schemas.store import Kind

if TYPE_CHECKING:
    from torch import Tensor

    from schemas.scene import FrameBatch

VERSION = 1
"""Version of what encode and decode compute; part of the fingerprint."""
TRIAL = (96, 160)
"""Height and width of the image that a network is tried on."""


class Segmentation:
    """Class probabilities of a segmentation model (FCN, DeepLabV3, LR-ASPP).

    Scores are taken before they are enlarged, as the network was trained to have them enlarged: bilinearly.

    Args:
        network: in eval mode.
        classes: what its channels are.
        stride: pixels a cell, none takes the network's own 8 or 16; images are resized so that a cell becomes these.
        digest: of the weights.
    """

    name = "torchvision"
    kind: Kind = "classes"

    def __init__(self, network: Any, classes: LabelSet, stride: int | None, digest: str) -> None:
        self._network, self._digest = network, digest
        self._cell = _cell_of(self._scores, network, "scores")
        self.stride = stride or self._cell
        self.label_set: LabelSet | None = classes

    def encode(self, batch: FrameBatch[Tensor]) -> Tensor:
        """Class scores [B, K, ceil(H / stride), ceil(W / stride)], independent of the batch size."""
        import torch

        images = normalise(fit_to_patches(batch.images, self.stride, self._cell), IMAGENET_MEAN, IMAGENET_STD)
        with torch.inference_mode():
            return torch.cat([self._scores(image) for image in images.split(1)])

    def decode(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        """Scores [B, K, h, w] -> probabilities [B, K, H, W]."""
        return upsample(features, self.stride, size).softmax(dim=1)

    def fingerprint(self) -> str:
        """Weights, classes and stride."""
        assert self.label_set is not None
        return f"torchvision:{VERSION}:{self._digest}:{self.stride}:{self.label_set.name}:{self.label_set.names}"

    def _scores(self, image: Tensor) -> Tensor:
        maps = self._network.backbone(image)
        scores: Tensor = self._network.classifier(maps.get("out", maps))
        return scores


class NodeFeatures:
    """Features [B, C, h, w] at one node of a classifier, each cell normalised to zero mean and unit variance.

    Args:
        network: of torchvision, in eval mode.
        node: by torchvision's name: `layer3`, `features.12`, ... (`get_graph_node_names` lists them).
        stride: pixels a cell, none takes the node's own.
        digest: of the weights.
    """

    name = "torchvision"
    kind: Kind = "features"
    label_set: LabelSet | None = None

    def __init__(self, network: Any, node: str, stride: int | None, digest: str) -> None:
        self._network = _up_to(network, node)
        self._cell = _cell_of(self._map, network, f"node {node!r}")
        self.stride = stride or self._cell
        self._told = f"{digest}:{node}"

    def encode(self, batch: FrameBatch[Tensor]) -> Tensor:
        """images [B, 3, H, W] -> [B, C, ceil(H / stride), ceil(W / stride)], independent of the batch size."""
        import torch
        from torch.nn.functional import layer_norm

        images = normalise(fit_to_patches(batch.images, self.stride, self._cell), IMAGENET_MEAN, IMAGENET_STD)
        with torch.inference_mode():
            cells = torch.cat([self._map(image) for image in images.split(1)]).permute(0, 2, 3, 1)
            return layer_norm(cells, cells.shape[-1:]).permute(0, 3, 1, 2)

    def decode(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        """Features are the prediction."""
        return features

    def fingerprint(self) -> str:
        """Weights, node and stride."""
        return f"torchvision:{VERSION}:{self._told}:{self.stride}"

    def _map(self, image: Tensor) -> Tensor:
        found: Tensor = self._network(image)["map"]
        return found


def torchvision_operator(
    spec: str,
    *,
    node: str | None = None,
    stride: int | None = None,
    label_set: str | None = None,
    names: Sequence[str] | None = None,
    device: str = "cpu",
) -> Segmentation | NodeFeatures:
    """The operator `torchvision:NAME[/WEIGHTS]`.

    Args:
        spec: NAME as torchvision has it, and WEIGHTS by its own name ("COCO_WITH_VOC_LABELS_V1", default DEFAULT) or a
            file, safetensors or a state dict ("deeplabv3_resnet50//data/weights.pth").
        node: of a classifier: where features are taken. Segmentation models need none.
        stride: pixels a cell: none takes the network's own.
        label_set, names: what the classes of a file are that torchvision does not publish, in its order.
        device: torch device.

    Raises MissingWeightsError, UnknownNameError or ConfigError.
    """
    if stride is not None and (type(stride) is not int or stride < 1):
        raise ConfigError(f"torchvision: stride is {stride!r}, expected whole pixels, 1 or more")
    name, weights = split(spec)
    segments = _segments(name)
    if segments is (node is not None):
        raise ConfigError(
            f"torchvision:{name} is {'a segmentation model' if segments else 'a classifier'}",
            remedy="leave out node" if segments else "name the node that features are taken at: operator.kwargs.node",
        )
    tensors, categories = load_tensors(name, weights)
    network, digest = load_network(name, weights, tensors).to(device), tensors_sha256(tensors)
    if node is not None:
        return NodeFeatures(network, node, stride, digest)
    classes = _classes(name, classes_of(name, tensors), categories, label_set, names)
    return Segmentation(network, classes, stride, digest)


def _segments(name: str) -> bool:
    """Whether it is a segmentation model. Raises UnknownNameError, or ConfigError where it is no classifier either."""
    published(name)
    from torchvision import models

    if name in models.list_models(module=models.segmentation):
        return True
    if name not in models.list_models(module=models):
        raise ConfigError(
            f"torchvision:{name} predicts neither classes of pixels nor of images", remedy="choose another model"
        )
    return False


def _classes(
    name: str, count: int, categories: tuple[str, ...] | None, built_in: str | None, names: Sequence[str] | None
) -> LabelSet:
    if categories is not None and built_in is None and names is None:
        voc = label_set("voc21")
        return voc if categories[1:] == voc.names[1:] else channel_classes("torchvision", count, None, categories)
    return channel_classes(f"torchvision:{name}", count, built_in, names)


def _up_to(network: Any, node: str) -> Any:
    from torchvision.models.feature_extraction import create_feature_extractor, get_graph_node_names

    try:
        return create_feature_extractor(network, {node: "map"})
    except ValueError as error:
        modules = {name.split(".")[0]: name for name in get_graph_node_names(network)[1]}
        raise ConfigError(
            f"torchvision: no node {node!r} ({error!s:.120})", remedy=f"for example {', '.join(modules.values())}"
        ) from error


def _cell_of(run: Callable[[Tensor], Tensor], network: Any, what: str) -> int:
    """Pixels a cell of what `run` makes of an image. Raises ConfigError where that is no map on a grid."""
    import torch

    height, width = TRIAL
    image = torch.full((1, 3, height, width), 0.5, device=next(network.parameters()).device)
    try:
        with torch.inference_mode():
            shape = tuple(run(image).shape)
    except (RuntimeError, AssertionError, ValueError, AttributeError) as error:
        raise ConfigError(
            f"torchvision: {what}: an image of {height} x {width} px is not taken ({error!s:.120})",
            remedy="choose a convolutional network, and a node with a map",
        ) from error
    cell = height // shape[2] if len(shape) == 4 and shape[2] else 0
    if not cell or height % cell or width % cell or shape[2:] != (height // cell, width // cell):
        raise ConfigError(
            f"torchvision: {what}: {list(shape)} for an image of {height} x {width} px",
            remedy="choose a node with a map [1, C, h, w] that covers the image evenly",
        )
    return cell
