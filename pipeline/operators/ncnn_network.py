"""Networks in ncnn form (`.param` or `.param.bin` with a `.bin`): loading, and running them from any layer to any."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.operators.pixels import brought_file, file_digest
from schemas.errors import MissingWeightsError

REMEDY = "pip install 'lift3d-labeling[ncnn]'"
Blob = int | str
"""A layer's output: its number in a binary graph, its name in a textual one."""


class NcnnNetwork:
    """A network on one CPU thread, so that a result does not depend on the machine's load.

    Args:
        graph: the `.param` (text) or `.param.bin` (binary) file.
        weights: the `.bin` file.
        what: whose network it is, for messages.

    Raises MissingWeightsError where a file or the package ncnn is missing, or the files are no network.
    """

    def __init__(self, graph: str | Path, weights: str | Path, what: str) -> None:
        graph, weights = brought_file(graph, what), brought_file(weights, what)
        try:
            import ncnn
        except ImportError as error:
            raise MissingWeightsError(f"{what} needs the package ncnn: {error}", remedy=REMEDY) from error
        self.digest = file_digest(graph, weights)
        self._as_mat: Any = ncnn.Mat
        self._network: Any = ncnn.Net()
        self._network.opt.use_vulkan_compute = False
        self._network.opt.num_threads = 1
        load_graph = self._network.load_param_bin if graph.suffix == ".bin" else self._network.load_param
        if load_graph(str(graph)) or self._network.load_model(str(weights)):
            raise MissingWeightsError(f"{what}: ncnn cannot read {graph} with {weights}", remedy="name a matching pair")

    def run(self, inputs: Mapping[Blob, NDArray[Any]], output: Blob) -> NDArray[np.float32]:
        """What a layer says.

        Args:
            inputs: by layer: an image [H, W, 3] of RGB bytes, which the network sees as 0..255, or values [C, h, w].
            output: the layer asked for.

        Returns:
            [C', h', w'] float32.
        """
        extractor = self._network.create_extractor()
        held = {blob: self._mat(values) for blob, values in inputs.items()}
        for blob, mat in held.items():
            extractor.input(blob, mat)
        return np.array(extractor.extract(output)[1], np.float32)

    def _mat(self, values: NDArray[Any]) -> Any:
        if values.dtype == np.uint8:
            height, width = values.shape[:2]
            return self._as_mat.from_pixels(values, self._as_mat.PixelType.PIXEL_RGB, width, height)
        return self._as_mat(np.ascontiguousarray(values, np.float32)).clone()
