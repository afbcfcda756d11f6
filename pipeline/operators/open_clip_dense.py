"""`open_clip:MODEL/PRETRAINED`: open-vocabulary classes from text prompts, by dense CLIP without training.

After the last block CLIP's patch tokens speak of the whole picture. Changing that one block makes them local again:
MaskCLIP keeps its values only, ClearCLIP lets tokens attend to tokens with similar queries and drops the residual and
the MLP, SCLIP sums query-query and key-key attention and keeps both.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from pipeline.operators.grid import upsample
from pipeline.operators.licences import UNKNOWN, Weights, cached_weights, folder_weights
from pipeline.operators.prompts import DEFAULT_TEMPLATES, Vocabulary, vocabulary, without_background
from pipeline.operators.vit_features import fit_to_patches, normalise
from pipeline.operators.weights import LOAD_ERRORS, summary, tensors_sha256
from schemas.errors import ConfigError, MissingWeightsError
from schemas.store import Kind

if TYPE_CHECKING:
    from torch import Tensor

    from schemas.scene import FrameBatch

Attention = Literal["clearclip", "maskclip", "sclip", "full"]

VERSION = 1
"""Version of what encode and decode compute; part of the fingerprint."""
OFFLINE = (
    "without internet: download the weights elsewhere and name the file, open_clip:ViT-B-16//path/to/weights.pt, "
    "or a folder with open_clip_config.json and weights, open_clip:local-dir:/path"
)


class OpenClip:
    """Class probabilities from text prompts.

    Args:
        weights: MODEL/PRETRAINED as open_clip names them ("ViT-B-16/laion2b_s34b_b88k"); PRETRAINED may be a file, so
            an absolute one gives two slashes ("ViT-B-16//data/weights.pt"). "hf-hub:..." and "local-dir:..." stand
            alone.
        prompts: what to look for: names, or a mapping of class name to its prompts (synonyms are averaged).
        label_set: the built-in label set that the ids come from; `prompts`, if given, picks some of its classes by
            name. Without it, the prompts' classes are numbered from 1.
        templates: sentences with {} for the prompt, averaged.
        background: prompts of what is none of the classes ("background", "other things"): pixels that one of them suits
            best get the ignore id.
        attention: how the last block is changed: clearclip, maskclip, sclip, or full (not at all).
        stride: pixels a cell, none takes the patch; images are resized so that a cell becomes one patch.
        device: torch device.
    """

    name = "open_clip"
    kind: Kind = "classes"

    def __init__(
        self,
        weights: str,
        *,
        prompts: Sequence[str] | Mapping[str, Sequence[str]] | None = None,
        label_set: str | None = None,
        templates: Sequence[str] = DEFAULT_TEMPLATES,
        background: Sequence[str] = (),
        attention: Attention = "clearclip",
        stride: int | None = None,
        device: str = "cpu",
    ) -> None:
        if attention not in get_args(Attention):
            raise ConfigError(f"open_clip: attention {attention!r}, expected one of {', '.join(get_args(Attention))}")
        self._words = vocabulary(prompts, label_set, templates, background)
        self.label_set = self._words.label_set
        self.attention = attention
        model, tokenizer = _load(weights)
        model = model.to(device)
        self._visual: Any = model.visual
        self._patch = int(self._visual.patch_size[0])
        self.stride = stride or self._patch
        self._source = _weights_of(weights)
        self._scale = float(model.logit_scale.exp())
        self._texts = _embed_texts(model, tokenizer, self._words, device)
        self._digest = tensors_sha256(model.state_dict())

    def encode(self, batch: FrameBatch[Tensor]) -> Tensor:
        """images [B, 3, H, W] -> unit-length CLIP embeddings [B, D, h, w], independent of the batch size."""
        import torch
        from torch.nn.functional import normalize

        images = fit_to_patches(batch.images, self.stride, self._patch)
        h, w = (side // self._patch for side in images.shape[-2:])
        maps = []
        with torch.inference_mode():
            for image in normalise(images, self._visual.image_mean, self._visual.image_std).split(1):
                tokens = normalize(dense_tokens(self._visual, image, self.attention)[:, 1:], dim=-1)
                maps.append(tokens.mT.reshape(1, -1, h, w))
        return torch.cat(maps)

    def decode(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        """Lifted embeddings [B, D, h, w] -> class probabilities [B, K, H, W], zero where background is likelier."""
        import torch
        from torch.nn.functional import normalize

        cosine = torch.einsum("kd,bdhw->bkhw", self._texts, normalize(features, dim=1))
        scores = upsample(self._scale * cosine, self.stride, size).softmax(dim=1)
        return without_background(scores, len(self._words.sentences))

    def fingerprint(self) -> str:
        """Weights, words and settings."""
        settings = repr((self._words.told(), self.attention, self.stride))
        return f"open_clip:{VERSION}:{self._digest}:{hashlib.sha256(settings.encode()).hexdigest()}"

    def weights_info(self) -> tuple[Weights, ...]:
        """Where the weights come from, and their licence."""
        return (self._source,)


def dense_tokens(visual: Any, images: Tensor, attention: Attention) -> Tensor:
    """images [B, 3, h patch, w patch], normalised -> [B, 1 + h w, D]: class token, then patches, in CLIP's joint space.

    With attention "full" the class token is what `encode_image` returns.
    """
    patches = visual.conv1(images)
    tokens = patches.flatten(2).mT
    first = visual.class_embedding.to(tokens.dtype).expand(len(tokens), 1, -1)
    positions = _resized_positions(visual.positional_embedding, visual.grid_size, patches.shape[-2:])
    x = visual.ln_pre(_cat(first, tokens) + positions)
    *blocks, last = visual.transformer.resblocks
    for block in blocks:
        x = block(x)
    return visual.ln_post(_last_block(last, x, attention)) @ visual.proj


def _last_block(block: Any, x: Tensor, attention: Attention) -> Tensor:
    from torch.nn.functional import linear

    q, k, v = (
        part.unflatten(-1, (block.attn.num_heads, -1)).transpose(1, 2)  # [B, heads, N, d]
        for part in linear(block.ln_1(x), block.attn.in_proj_weight, block.attn.in_proj_bias).chunk(3, dim=-1)
    )
    mixed = {
        "full": lambda: _affinity(q, k) @ v,
        "maskclip": lambda: v,
        "clearclip": lambda: _affinity(q, q) @ v,
        "sclip": lambda: (_affinity(q, q) + _affinity(k, k)) @ v,
    }[attention]()
    out: Tensor = block.ls_1(block.attn.out_proj(mixed.transpose(1, 2).flatten(2)))
    if attention in ("maskclip", "clearclip"):
        return out
    x = x + out
    residual: Tensor = x + block.ls_2(block.mlp(block.ln_2(x)))
    return residual


def _affinity(a: Tensor, b: Tensor) -> Tensor:
    """softmax of the scaled products of [B, heads, N, d] tokens."""
    return (a @ b.mT * a.shape[-1] ** -0.5).softmax(dim=-1)


def _cat(first: Tensor, rest: Tensor) -> Tensor:
    import torch

    return torch.cat([first, rest], dim=1)


def _resized_positions(positions: Tensor, old: Sequence[int], new: Sequence[int]) -> Tensor:
    """Position embeddings [1 + h w, D] of an `old` grid, bicubic on a `new` one; the class token's stays."""
    from torch.nn.functional import interpolate

    if tuple(old) == tuple(new):
        return positions
    grid = positions[1:].T.reshape(1, -1, *old)
    grid = interpolate(grid.float(), size=tuple(new), mode="bicubic", align_corners=False, antialias=True)
    return _cat(positions[None, :1], grid.flatten(2).mT.to(positions.dtype))[0]


def _load(weights: str) -> tuple[Any, Any]:
    """(model, tokenizer), always with trained weights."""
    try:
        import open_clip
    except ImportError:
        raise MissingWeightsError(
            "open_clip is not installed", remedy="pip install 'lift3d-labeling[open-clip]'"
        ) from None
    name, pretrained = _split(weights)
    try:
        model = open_clip.create_model(name, pretrained=pretrained, require_pretrained=True)
        tokenizer = open_clip.get_tokenizer(name)
    except LOAD_ERRORS as error:
        raise MissingWeightsError(f"open_clip: cannot load {weights}: {summary(error)}", remedy=OFFLINE) from error
    _check_architecture(model.visual, name)
    return model.eval().requires_grad_(False), tokenizer


def _split(weights: str) -> tuple[str, str | None]:
    if weights.startswith(("hf-hub:", "local-dir:")):
        return weights, None
    name, slash, pretrained = weights.partition("/")
    if not name or not pretrained:
        raise ConfigError(
            f"open_clip: {weights!r} names no pretrained weights",
            remedy="expected MODEL/PRETRAINED, for example ViT-B-16/laion2b_s34b_b88k or ViT-B-16//path/file.pt",
        )
    return name, pretrained


def _weights_of(weights: str) -> Weights:
    """Where weights come from; their licence by the card in the folder or in the hub's local cache."""
    from open_clip import get_pretrained_cfg

    source = f"open_clip:{weights}"
    name, pretrained = _split(weights)
    if name.startswith("local-dir:"):
        folder = Path(name.removeprefix("local-dir:"))
        return Weights(f"open_clip:local-dir:{folder.name}", folder_weights(source, folder).licence)
    if pretrained is not None and Path(pretrained).exists():
        return Weights(f"open_clip:{name}/{Path(pretrained).name}", UNKNOWN)
    hub = (get_pretrained_cfg(name, pretrained) or {}).get("hf_hub") if pretrained else name.removeprefix("hf-hub:")
    return cached_weights(source, str(hub or "").strip("/"))


def _check_architecture(visual: Any, name: str) -> None:
    from open_clip.transformer import VisionTransformer
    from torch import nn

    fits = isinstance(visual, VisionTransformer) and visual.attn_pool is None and visual.proj is not None
    attention = visual.transformer.resblocks[-1].attn if fits else None
    if not isinstance(attention, nn.MultiheadAttention) or not attention.batch_first:
        raise ConfigError(
            f"open_clip: {name} has no plain CLIP transformer, which dense CLIP needs",
            remedy="choose a ViT-* model of CLIP (not SigLIP, EVA, CoCa, ConvNeXt or ResNet)",
        )


def _embed_texts(model: Any, tokenizer: Any, words: Vocabulary, device: str) -> Tensor:
    """[K + N, D]: unit-length mean of the sentences of each class and of each background prompt."""
    import torch
    from torch.nn.functional import normalize

    rows = (*words.sentences, *words.background)
    with torch.inference_mode():
        found = [model.encode_text(tokenizer(list(texts)).to(device), normalize=True) for texts in rows]
        return normalize(torch.stack([embedded.mean(0) for embedded in found]), dim=-1)
