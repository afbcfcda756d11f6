"""Tiny models of the transformers library, saved as users find them. Their weights are random: plumbing only."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from pipeline.operators.model_folder import quiet

SIDE = 64
"""Pixels of the square that every tiny model's preprocessor asks for."""
CLASSES = 6
IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225], "do_normalize": True}
SQUARE = {"do_resize": True, "size": {"height": SIDE, "width": SIDE}, "do_rescale": True, "rescale_factor": 1 / 255}
NAMES = dict(enumerate(("wall", "floor", "chair", "table", "lamp", "void")))


def _named() -> dict[str, Any]:
    return {"id2label": dict(NAMES), "label2id": {name: k for k, name in NAMES.items()}}


def _swin() -> Any:
    from transformers import SwinConfig

    names = ["stage1", "stage2", "stage3", "stage4"]
    return SwinConfig(
        image_size=SIDE, embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2], window_size=4, out_features=names
    )


def _vit(patch: int, **more: Any) -> dict[str, Any]:
    return {
        "hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 16,
        "image_size": SIDE // 16 * 16 if patch == 16 else 56, "patch_size": patch, **more,
    }  # fmt: skip


def segformer() -> Any:
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

    return SegformerForSemanticSegmentation(
        SegformerConfig(depths=[1] * 4, hidden_sizes=[8, 8, 16, 16], decoder_hidden_size=16, **_named())
    )


def upernet() -> Any:
    from transformers import UperNetConfig, UperNetForSemanticSegmentation

    return UperNetForSemanticSegmentation(
        UperNetConfig(
            backbone_config=_swin(), hidden_size=16, auxiliary_channels=8, auxiliary_in_channels=32, **_named()
        )
    )


def beit() -> Any:
    from transformers import BeitConfig, BeitForSemanticSegmentation

    return BeitForSemanticSegmentation(
        BeitConfig(**_vit(16), out_indices=[1, 2, 3, 4], auxiliary_channels=8, **_named())
    )


def data2vec() -> Any:
    from transformers import Data2VecVisionConfig, Data2VecVisionForSemanticSegmentation

    return Data2VecVisionForSemanticSegmentation(
        Data2VecVisionConfig(**_vit(16), out_indices=[1, 2, 3, 4], auxiliary_channels=8, **_named())
    )


def mobilevit() -> Any:
    from transformers import MobileViTConfig, MobileViTForSemanticSegmentation

    return MobileViTForSemanticSegmentation(
        MobileViTConfig(
            hidden_sizes=[8, 8, 8], neck_hidden_sizes=[8] * 7, num_attention_heads=2, aspp_out_channels=8, **_named()
        )
    )


def dpt_segmentation() -> Any:
    from transformers import DPTConfig, DPTForSemanticSegmentation

    return DPTForSemanticSegmentation(DPTConfig(**_dpt(), **_named()))


def _dpt() -> dict[str, Any]:
    return {
        **_vit(16), "backbone_out_indices": [0, 1, 2, 3], "neck_hidden_sizes": [8] * 4,
        "fusion_hidden_size": 8, "is_hybrid": False,
    }  # fmt: skip


def mask2former() -> Any:
    from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation

    return Mask2FormerForUniversalSegmentation(Mask2FormerConfig(backbone_config=_swin(), **_mask2former(), **_named()))


def _mask2former() -> dict[str, Any]:
    return {
        "feature_size": 32, "mask_feature_size": 32, "hidden_dim": 32, "encoder_feedforward_dim": 16,
        "encoder_layers": 1, "decoder_layers": 2, "num_attention_heads": 2, "dim_feedforward": 16, "num_queries": 5,
    }  # fmt: skip


def maskformer() -> Any:
    from transformers import DetrConfig, MaskFormerConfig, MaskFormerForInstanceSegmentation

    decoder = DetrConfig(
        d_model=32, decoder_layers=1, encoder_layers=1, decoder_attention_heads=2, encoder_attention_heads=2,
        decoder_ffn_dim=16, encoder_ffn_dim=16, num_queries=5,
    )  # fmt: skip
    return MaskFormerForInstanceSegmentation(
        MaskFormerConfig(
            fpn_feature_size=32, mask_feature_size=32, backbone_config=_swin(), decoder_config=decoder, **_named()
        )
    )


def oneformer() -> Any:
    from transformers import OneFormerConfig, OneFormerForUniversalSegmentation

    return OneFormerForUniversalSegmentation(
        OneFormerConfig(
            backbone_config=_swin(),
            num_queries=5,
            hidden_dim=32,
            mask_dim=32,
            conv_dim=32,
            encoder_feedforward_dim=16,
            encoder_layers=1,
            decoder_layers=2,
            num_attention_heads=2,
            dim_feedforward=16,
            query_dec_layers=1,
            text_encoder_width=16,
            text_encoder_num_layers=1,
            text_encoder_vocab_size=54,
            task_seq_len=77,
            **_named(),
        )  # fmt: skip
    )


def eomt() -> Any:
    from transformers import EomtConfig, EomtForUniversalSegmentation

    return EomtForUniversalSegmentation(
        EomtConfig(**_vit(16), num_queries=5, num_blocks=2, num_upscale_blocks=2, **_named())
    )


def clipseg() -> Any:
    from transformers import CLIPSegConfig, CLIPSegForImageSegmentation

    text = {
        "vocab_size": 54, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1,
        "num_attention_heads": 2, "eos_token_id": 53, "bos_token_id": 52, "pad_token_id": 53,
    }  # fmt: skip
    return CLIPSegForImageSegmentation(
        CLIPSegConfig(
            text_config=text,
            vision_config=_vit(16),
            projection_dim=16,
            reduce_dim=16,
            extract_layers=[0, 1, 2],
            decoder_num_attention_heads=2,
            decoder_intermediate_size=16,
        )
    )


def dpt_depth() -> Any:
    from transformers import DPTConfig, DPTForDepthEstimation

    return DPTForDepthEstimation(DPTConfig(**_dpt()))


def depth_anything(kind: str = "relative") -> Any:
    from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation, Dinov2Config

    backbone = Dinov2Config(
        **_vit(14), mlp_ratio=1, out_indices=[1, 2, 3, 4], reshape_hidden_states=False, apply_layernorm=True
    )
    return DepthAnythingForDepthEstimation(
        DepthAnythingConfig(
            backbone_config=backbone,
            reassemble_hidden_size=16,
            neck_hidden_sizes=[8] * 4,
            fusion_hidden_size=8,
            head_hidden_size=8,
            depth_estimation_type=kind,
            max_depth=10 if kind == "metric" else 1,
        )  # fmt: skip
    )


def dinov2() -> Any:
    from transformers import Dinov2Config, Dinov2Model

    return Dinov2Model(Dinov2Config(**_vit(14), mlp_ratio=1))


def dinov3() -> Any:
    from transformers import DINOv3ViTConfig, DINOv3ViTModel

    return DINOv3ViTModel(DINOv3ViTConfig(**_vit(16), num_register_tokens=4))


def vit() -> Any:
    from transformers import ViTConfig, ViTModel

    return ViTModel(ViTConfig(**_vit(16)))


def mobilenet() -> Any:
    from transformers import MobileNetV2Config, MobileNetV2ForSemanticSegmentation

    return MobileNetV2ForSemanticSegmentation(MobileNetV2Config(depth_multiplier=0.25, **_named()))


def mobilevit2() -> Any:
    from transformers import MobileViTV2Config, MobileViTV2ForSemanticSegmentation

    few = {"base_attn_unit_dims": [16] * 3, "n_attn_blocks": [1] * 3, "width_multiplier": 0.25}
    return MobileViTV2ForSemanticSegmentation(MobileViTV2Config(**few, **_named()))


def dinov2_registers() -> Any:
    from transformers import Dinov2WithRegistersConfig, Dinov2WithRegistersModel

    return Dinov2WithRegistersModel(Dinov2WithRegistersConfig(**_vit(14), mlp_ratio=1))


def zoedepth() -> Any:
    from transformers import BeitConfig, ZoeDepthConfig, ZoeDepthForDepthEstimation

    backbone = BeitConfig(**_vit(16), out_indices=[1, 2, 3, 4], reshape_hidden_states=False)
    bins = [{"n_bins": 4, "min_depth": 0.001, "max_depth": 10.0, "name": None}]
    return ZoeDepthForDepthEstimation(
        ZoeDepthConfig(
            backbone_config=backbone,
            backbone_hidden_size=16,
            neck_hidden_sizes=[8] * 4,
            fusion_hidden_size=8,
            bottleneck_features=8,
            num_relative_features=8,
            bin_configurations=bins,
            num_attractors=[2, 1, 1, 1],
            bin_embedding_dim=8,
        )  # fmt: skip
    )


MODELS: dict[str, Callable[[], Any]] = {
    one.__name__: one
    for one in (
        *(segformer, upernet, beit, data2vec, mobilevit, dpt_segmentation, mask2former, maskformer, oneformer, eomt),
        *(clipseg, dpt_depth, depth_anything, dinov2, dinov3, vit),
        *(mobilenet, mobilevit2, dinov2_registers, zoedepth),
    )
}


def save_model(folder: Path, name: str, **preprocessing: Any) -> Path:
    """The tiny model `name` in a folder of its own, with what else a repository holds of it."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = MODELS[name]()
        for parameter in model.parameters():  # heads start at zero or near it: all classes would score alike
            if parameter.dim() > 1:
                torch.nn.init.normal_(parameter, std=2 * parameter[0].numel() ** -0.5)
    with quiet():
        model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps({**SQUARE, **IMAGENET, **preprocessing}))
    if name in ("clipseg", "oneformer"):
        save_tokenizer(folder)
    return folder


def save_tokenizer(folder: Path) -> None:
    """Letters as words: enough to tell texts apart."""
    from transformers import CLIPTokenizer

    letters = "abcdefghijklmnopqrstuvwxyz"
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: n for n, token in enumerate(tokens)}
    CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=77).save_pretrained(folder)
