"""Operators that the benchmark lifts and that training never saw: raw RGB, VOC classes, edges, painted style.

Their networks come from packages of the extra `benchmark` or from files that the user brings; each is imported when
it is built, and what is missing is said in one line. SPECs: `pipeline.benchmark.operators:DeepLab` and so on.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.benchmark.hed import PACKAGE, load_hed, load_weights
from pipeline.operators.grid import pad_to_stride, upsample
from schemas.errors import MissingWeightsError
from schemas.label_sets import LabelSet, label_set
from schemas.store import Kind

if TYPE_CHECKING:
    from torch import Tensor

    from schemas.scene import FrameBatch

EXTRA = "pip install 'lift3d-labeling[benchmark]'"
STYLE_GRAPH, STYLE_INPUT, STYLE_OUTPUT = "styletransfer.param.bin", 0, 74
"""The style networks' common graph, and the numbers of its input and output."""
STYLE_MULTIPLE = 4
"""The style networks halve an image twice."""


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


class DeepLab:
    """Pascal VOC classes of a DeepLabV3 in TFLite form (513 x 513 RGB bytes in, class ids out).

    Args:
        path: the .tflite file.
        stride: pixels a cell: 1 gives one class a pixel, more the mean of the one-hot maps over cells.
    """

    name = "deeplab-voc"
    kind: Kind = "classes"
    label_set: LabelSet | None = label_set("voc21")

    def __init__(self, path: str, *, stride: int = 1) -> None:
        _check_file(path)
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError as error:
            raise MissingWeightsError(f"DeepLab needs the package ai-edge-litert: {error}", remedy=EXTRA) from error
        self.stride = stride
        self._name = Path(path).name
        self._network = Interpreter(path, num_threads=1)
        self._network.allocate_tensors()
        self._input, self._output = self._network.get_input_details()[0], self._network.get_output_details()[0]

    def encode(self, batch: FrameBatch[Tensor]) -> Tensor:
        """One-hot maps [B, 21, h, w], averaged over cells."""
        import torch

        return _smaller(torch.stack([self._one_hot(image) for image in batch.images]), self.stride)

    def decode(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        """Shares of the classes at image size."""
        return upsample(features, self.stride, size)

    def fingerprint(self) -> str:
        """The file's name and the stride."""
        return f"deeplab-voc:1:{self._name}:{self.stride}"

    def _one_hot(self, image: Tensor) -> Tensor:
        import cv2
        import torch

        height, width = image.shape[-2:]
        side = tuple(self._input["shape"][1:3][::-1].tolist())
        small = cv2.resize(_as_bytes(image), side, interpolation=cv2.INTER_LINEAR)
        self._network.set_tensor(self._input["index"], small[None])
        self._network.invoke()
        ids = self._network.get_tensor(self._output["index"])[0].astype(np.uint8)
        full = torch.from_numpy(cv2.resize(ids, (width, height), interpolation=cv2.INTER_NEAREST)).long()
        assert self.label_set is not None
        return torch.nn.functional.one_hot(full, len(self.label_set.ids)).permute(2, 0, 1).float()


class Hed:
    """Edge strength [0, 1] of holistically-nested edge detection (VGG16 and five side outputs).

    Args:
        stride: pixels a cell: the network sees the image that much smaller.
    """

    name = "hed-edges"
    kind: Kind = "scalar"
    label_set = None

    def __init__(self, *, stride: int = 1) -> None:
        self.stride = stride
        self._network: Callable[[Tensor], Tensor] = load_hed(load_weights())

    def encode(self, batch: FrameBatch[Tensor]) -> Tensor:
        """Edge strength [B, 1, h, w]."""
        import torch

        with torch.inference_mode():
            return torch.cat([self._network(image) for image in _smaller(batch.images, self.stride).split(1)])

    def decode(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        """Edge strength at image size."""
        return upsample(features, self.stride, size)

    def fingerprint(self) -> str:
        """The package that carries the weights, and the stride."""
        return f"hed-edges:1:{PACKAGE}:{self.stride}"


class Style:
    """The image painted by a fast style-transfer network in ncnn form.

    Args:
        folder: holds `styletransfer.param.bin` and one `<style>.bin` a style.
        style: which one.
        stride: pixels a cell: the network paints the image that much smaller.
    """

    name = "style"
    kind: Kind = "image"
    label_set = None

    def __init__(self, folder: str, *, style: str = "candy", stride: int = 1) -> None:
        self.stride = stride
        graph, weights = Path(folder) / STYLE_GRAPH, Path(folder) / f"{style}.bin"
        for path in (graph, weights):
            _check_file(str(path))
        try:
            import ncnn
        except ImportError as error:
            raise MissingWeightsError(f"style transfer needs the package ncnn: {error}", remedy=EXTRA) from error
        self._style, self._as_mat = style, ncnn.Mat
        self._network: Any = ncnn.Net()
        self._network.opt.use_vulkan_compute = False
        self._network.opt.num_threads = 1
        self._network.load_param_bin(str(graph))
        self._network.load_model(str(weights))

    def encode(self, batch: FrameBatch[Tensor]) -> Tensor:
        """Painted images [B, 3, h, w] in [0, 1]."""
        import torch

        images = _smaller(batch.images, self.stride)
        h, w = images.shape[-2:]
        painted = [torch.from_numpy(self._paint(_as_bytes(image))) for image in pad_to_stride(images, STYLE_MULTIPLE)]
        return (torch.stack(painted)[..., :h, :w] / 255).clamp(0, 1)

    def decode(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        """Colours in [0, 1]."""
        return upsample(features, self.stride, size).clamp(0, 1)

    def fingerprint(self) -> str:
        """The style's name and the stride."""
        return f"style:1:{self._style}:{self.stride}"

    def _paint(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        height, width = image.shape[:2]
        run = self._network.create_extractor()
        run.input(STYLE_INPUT, self._as_mat.from_pixels(image, self._as_mat.PixelType.PIXEL_RGB, width, height))
        return np.array(run.extract(STYLE_OUTPUT)[1], np.float32)


def _smaller(maps: Tensor, stride: int) -> Tensor:
    """[B, C, H, W] -> means over cells [B, C, h, w]."""
    from torch.nn.functional import avg_pool2d

    return maps if stride == 1 else avg_pool2d(pad_to_stride(maps, stride), stride)


def _check_file(path: str) -> None:
    if not Path(path).is_file():
        raise MissingWeightsError(f"there is no file {path}", remedy="name the folder of weights with --weights")


def _as_bytes(image: Tensor) -> NDArray[np.uint8]:
    """[3, H, W] in [0, 1] -> contiguous uint8 [H, W, 3]."""
    return np.ascontiguousarray((image * 255).round().byte().permute(1, 2, 0).cpu().numpy())
