"""`deeplab:PATH`: Pascal VOC classes of a DeepLabV3 in TFLite form (RGB bytes in, class ids out)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pipeline.operators.grid import upsample
from pipeline.operators.pixels import as_bytes, brought_file, file_digest, smaller
from schemas.errors import MissingWeightsError
from schemas.label_sets import LabelSet, label_set
from schemas.store import Kind

if TYPE_CHECKING:
    from torch import Tensor

    from schemas.scene import FrameBatch

VERSION = 1
"""Version of what encode computes; part of the fingerprint."""
REMEDY = "pip install 'lift3d-labeling[deeplab]'"


class DeepLab:
    """Pascal VOC's 21 classes. The whole image is resized to the network's square input and its ids back, nearest.

    Args:
        path: the .tflite file, with an input [1, side, side, 3] of bytes and an output [1, side, side] of ids.
        stride: pixels a cell: 1 gives one class a pixel, more the mean of the one-hot maps over cells.

    Raises MissingWeightsError where the file or the package that runs it is missing.
    """

    name = "deeplab-voc"
    kind: Kind = "classes"
    label_set: LabelSet | None = label_set("voc21")

    def __init__(self, path: str, *, stride: int = 1) -> None:
        file = brought_file(path, "deeplab")
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError as error:
            raise MissingWeightsError(f"deeplab needs the package ai-edge-litert: {error}", remedy=REMEDY) from error
        self.stride = stride
        self._digest = file_digest(file)
        self._network = Interpreter(str(file), num_threads=1)
        self._network.allocate_tensors()
        self._input, self._output = self._network.get_input_details()[0], self._network.get_output_details()[0]

    def encode(self, batch: FrameBatch[Tensor]) -> Tensor:
        """One-hot maps [B, 21, h, w], averaged over cells."""
        import torch

        maps = torch.stack([self._one_hot(image) for image in batch.images])
        return smaller(maps, self.stride).to(batch.images.device)

    def decode(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        """Shares of the classes at image size."""
        return upsample(features, self.stride, size)

    def fingerprint(self) -> str:
        """The file's digest and the stride."""
        return f"deeplab-voc:{VERSION}:{self._digest}:{self.stride}"

    def _one_hot(self, image: Tensor) -> Tensor:
        import cv2
        import torch

        height, width = image.shape[-2:]
        side = tuple(self._input["shape"][1:3][::-1].tolist())
        small = cv2.resize(as_bytes(image), side, interpolation=cv2.INTER_LINEAR)
        self._network.set_tensor(self._input["index"], small[None])
        self._network.invoke()
        ids = self._network.get_tensor(self._output["index"])[0].astype(np.uint8)
        full = torch.from_numpy(cv2.resize(ids, (width, height), interpolation=cv2.INTER_NEAREST)).long()
        assert self.label_set is not None
        return torch.nn.functional.one_hot(full, len(self.label_set.ids)).permute(2, 0, 1).float()
