"""`hf:MODEL`: semantic segmentation, depth and dense features by models of the transformers library.

Which of them a model is says its config.json (`hf_networks` has the table). Class maps come as the network's logits, or
as the shares of its masks before any class has won, and not as the classes that have.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pipeline.operators.grid import upsample
from pipeline.operators.hf_classes import Channels, channels
from pipeline.operators.hf_images import Size, shown
from pipeline.operators.hf_loading import load_model, task_tokens, tokens
from pipeline.operators.hf_networks import is_metric
from pipeline.operators.letterbox import fetched
from pipeline.operators.licences import Weights, folder_weights
from pipeline.operators.model_folder import quiet
from pipeline.operators.prompts import Vocabulary, vocabulary, without_background
from pipeline.operators.vit_features import fit_to_patches
from schemas.errors import ConfigError
from schemas.label_sets import LabelSet
from schemas.store import Kind

if TYPE_CHECKING:
    from torch import Tensor

    from schemas.scene import FrameBatch

VERSION = 1
"""Version of what encode and decode compute; part of the fingerprint."""


class HuggingFace:
    """What a model predicts: class probabilities, depth, or features; a heat map or classes of texts for CLIPSeg.

    Args:
        model: a folder with config.json, preprocessor_config.json and safetensors, or `owner/name` on the hub.
        prompts: of models that take texts, which need them: a text gives its heat map, a list (or class name ->
            synonyms, which are averaged) classes; pixels that none of them suits get the ignore id.
        size: pixels of the shorter side that the network sees; none does as the model's preprocessor says.
        stride: pixels a cell. Of class maps 1 by default, 4 takes a sixteenth of the memory; of features the patch by
            default, and the image is resized so that a cell becomes a patch.
        device: torch device.

    `relative` says of a depth model whether it predicts inverse depth up to scale and shift, which no two views share.

    Raises MissingWeightsError or ConfigError.
    """

    name = "hf"

    def __init__(
        self,
        model: str,
        *,
        prompts: str | Sequence[str] | Mapping[str, Sequence[str]] | None = None,
        size: int | None = None,
        stride: int | None = None,
        device: str = "cpu",
    ) -> None:
        self._model = load_model(model, size, device)
        family = self._model.family
        if size is not None and (family.square or family.kind == "features"):
            raise ConfigError(
                f"hf: {family.network} takes no size", remedy="leave size out (of features, stride sets the scale)"
            )
        if (prompts is not None) != (family.texts == "prompts"):
            raise ConfigError(f"hf: {family.network} {'needs' if prompts is None else 'takes no'} prompts")
        self._words = _words(prompts)
        self.kind: Kind = "scalar" if isinstance(prompts, str) else family.kind
        self._channels = self._read_channels()
        self.label_set: LabelSet | None = self._channels.label_set if self._channels else None
        self.stride = stride or (self._model.cell if self.kind == "features" else 1)
        self.relative = family.kind == "scalar" and not is_metric(self._model.network.config)
        self._given = self._texts(device)
        self._name = model

    def encode(self, batch: FrameBatch[Tensor]) -> Tensor:
        """images [B, 3, H, W] -> logits or shares of classes, depth, heat or features [B, C, h, w], image by image."""
        import torch

        one = self._features if self.kind == "features" else self._map
        with quiet(), torch.inference_mode():
            return torch.cat([one(image).float() for image in batch.images.split(1)])

    def decode(self, features: Tensor, size: Size) -> Tensor:
        """Class probabilities [B, K, H, W], zero where no class suits; depth or heat [B, 1, H, W]; or features."""
        if self.kind == "features":
            return features
        maps = upsample(features, self.stride, size)
        if self._words is not None:
            return self._prompted(maps)
        if self._channels is None:
            return maps
        shares = maps / maps.sum(1, keepdim=True).clamp_min(1e-6) if self._model.family.shares else maps.softmax(1)
        order = list(self._channels.order)
        classes = len(self._channels.label_set.ids)
        return without_background(shares if order == sorted(order) else shares[:, order], classes)

    def fingerprint(self) -> str:
        """Weights, config, preprocessing, texts and settings."""
        words = self._words.told() if self._words else None
        ids = {key: tensor.tolist() for key, tensor in self._given.items()}
        told = repr((self._model.digest, words, ids, self.kind, self.stride, self._channels))
        return f"hf:{VERSION}:{hashlib.sha256(told.encode()).hexdigest()}"

    def weights_info(self) -> tuple[Weights, ...]:
        """As the model's card says."""
        return (folder_weights(f"hf:{self._name}", self._model.folder),)

    def _read_channels(self) -> Channels | None:
        if self.kind != "classes":
            return None
        if self._words is not None:
            return Channels(self._words.label_set, tuple(range(len(self._words.sentences))))
        return channels(self._model.network.config.to_dict(), self._model.seeing.reduced)

    def _texts(self, device: str) -> dict[str, Any]:
        if self._model.family.texts == "task":
            return task_tokens(self._model, device)
        if self._words is None:
            return {}
        return dict(tokens(self._model, [text for row in self._words.sentences for text in row], None, device))

    def _map(self, image: Tensor) -> Tensor:
        """[1, 3, H, W] -> [1, C, h, w] of the image's own grid."""
        size = (image.shape[-2], image.shape[-1])
        side = self._model.side
        inner = _within(self._model.seeing.inner(size), side)
        seen = shown(image, inner, self._model.cell, side)
        found = self._model.family.run(self._model.network, self._model.seeing.values(seen), self._given)
        return fetched(*_even(found, (seen.shape[-2], seen.shape[-1])), inner, size, self.stride)

    def _features(self, image: Tensor) -> Tensor:
        seen = self._model.seeing.values(fit_to_patches(image, self.stride, self._model.cell))
        return self._model.family.run(self._model.network, seen, self._given)

    def _prompted(self, logits: Tensor) -> Tensor:
        """Logits of all texts -> heat of the one, or probabilities of classes against those of "nothing of it"."""
        import torch

        assert self._words is not None
        lengths = [len(row) for row in self._words.sentences]
        rows = torch.cat([part.mean(1, keepdim=True) for part in logits.split(lengths, dim=1)], dim=1)
        if self.kind == "scalar":
            return rows.sigmoid()
        return without_background(torch.cat([rows, torch.zeros_like(rows[:, :1])], dim=1).softmax(1), len(lengths))


def _words(prompts: str | Sequence[str] | Mapping[str, Sequence[str]] | None) -> Vocabulary | None:
    if prompts is None:
        return None
    return vocabulary([prompts] if isinstance(prompts, str) else prompts, None, ("{}",))


def _within(inner: Size, side: int | None) -> Size:
    """The size of the content that fits a square, its aspect ratio kept."""
    if side is None or max(inner) <= side:
        return inner
    scale = side / max(inner)
    return max(1, round(inner[0] * scale)), max(1, round(inner[1] * scale))


def _even(maps: Tensor, seen: Size) -> tuple[Tensor, float]:
    """The maps, and the pixels that one of their cells covers, which is made equal along both axes."""
    from torch.nn.functional import interpolate

    height, width = (side / cells for side, cells in zip(seen, maps.shape[-2:], strict=True))
    if height == width:
        return maps, height
    return interpolate(maps, size=seen, mode="bilinear", align_corners=False), 1.0
