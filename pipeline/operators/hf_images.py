"""How a transformers model wants to see an image: its preprocessor_config.json, on the exact grid.

What transformers crops is kept: every pixel of a view gets a label. Images are resized to whole pixels and padded on
the right and at the bottom, and results are fetched back with exactly these scales.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipeline.operators.grid import pad_to_stride
from pipeline.operators.letterbox import resized
from pipeline.operators.model_folder import read_config
from pipeline.operators.vit_features import IMAGENET_MEAN, IMAGENET_STD, normalise
from schemas.errors import ConfigError, MissingWeightsError

if TYPE_CHECKING:
    from torch import Tensor

Size = tuple[int, int]
Triple = tuple[float, float, float]
FILES = ("preprocessor_config.json", "processor_config.json")


class Seeing(BaseModel):
    """What a network is shown.

    Attributes:
        factor: from [0, 1] to what it was trained on, before the mean is taken off.
        mean, std: a channel; `bgr`: channels in the order blue, green, red.
        stretched: (height, width) that any image is resized to.
        shortest, longest: pixels of a side, the aspect ratio is kept; None where there is no such rule.
        keeps_ratio: `stretched` is a size to come near to with the aspect ratio kept, as DPT's preprocessor does.
        multiple: pixels that sides are rounded to.
        reduced: labels are numbered from 1, 0 is none (do_reduce_labels).
    """

    model_config = ConfigDict(frozen=True)

    factor: float = 1.0
    mean: Triple = (0.0, 0.0, 0.0)
    std: Triple = (1.0, 1.0, 1.0)
    bgr: bool = False
    stretched: tuple[int, int] | None = None
    shortest: int | None = Field(None, ge=1)
    longest: int | None = Field(None, ge=1)
    keeps_ratio: bool = False
    multiple: int = Field(1, ge=1)
    reduced: bool = False

    def inner(self, size: Size) -> Size:
        """(height, width) that an image of `size` is resized to."""
        if self.stretched:
            scales = [wanted / side for wanted, side in zip(self.stretched, size, strict=True)]
            if self.keeps_ratio:
                scales = [min(scales, key=lambda scale: abs(1 - scale))] * 2
        else:
            scale = self.shortest / min(size) if self.shortest else 1.0
            if self.longest and scale * max(size) > self.longest:
                scale = self.longest / max(size)
            scales = [scale] * 2
        rounded = [max(1, round(scale * n / self.multiple)) for scale, n in zip(scales, size, strict=True)]
        return rounded[0] * self.multiple, rounded[1] * self.multiple

    def values(self, images: Tensor) -> Tensor:
        """images [B, 3, H, W] in [0, 1] -> what the network takes."""
        shown = images.flip(1) if self.bgr else images
        return normalise(shown * self.factor, self.mean, self.std)


def shown(image: Tensor, inner: Size, cell: int, side: int | None) -> Tensor:
    """An image [1, 3, H, W], resized to `inner` and padded to whole cells, or to a square of `side` pixels."""
    from torch.nn.functional import pad

    if inner != tuple(image.shape[-2:]):
        image = resized(image, inner).clamp(0, 1)
    if side is None:
        return pad_to_stride(image, cell)
    return pad(image, (0, side - inner[1], 0, side - inner[0]), mode="replicate")


def read_seeing(folder: Path, size: int | None) -> Seeing:
    """From a model's folder; `size`: shorter side in pixels instead of what is written there.

    Raises MissingWeightsError (no such file, or a damaged one) or ConfigError (a size that is none).
    """
    if size is not None and (type(size) is not int or size < 1):
        raise ConfigError(f"hf: size is {size!r:.40}, expected pixels of the shorter side")
    remedy = "it says how the network wants its images; it is beside config.json where the model comes from"
    try:
        document = _document(folder)
        seeing = Seeing(**_pixels(document), **_sizes(document))
    except (OSError, ValueError, TypeError, KeyError, ValidationError) as error:
        raise MissingWeightsError(
            f"hf: {FILES[0]} of {folder.name} cannot be used: {' '.join(str(error).split())[:200]}", remedy=remedy
        ) from None
    if size is None:
        return seeing
    return seeing.model_copy(update={"stretched": None, "longest": None, "shortest": size})


def _document(folder: Path) -> Mapping[str, Any]:
    if not (folder / FILES[0]).is_file() and (folder / FILES[1]).is_file():
        return dict(read_config(folder / FILES[1])["image_processor"])
    return read_config(folder / FILES[0])


def _pixels(document: Mapping[str, Any]) -> dict[str, Any]:
    factor = 255 * float(document.get("rescale_factor") or 1 / 255) if document.get("do_rescale", True) else 255.0
    pixels = {
        "factor": factor,
        "bgr": bool(document.get("do_flip_channel_order", False)),
        "reduced": bool(document.get("do_reduce_labels", document.get("reduce_labels", False))),
    }
    if not document.get("do_normalize", "image_mean" in document):
        return pixels
    mean, std = document.get("image_mean") or IMAGENET_MEAN, document.get("image_std") or IMAGENET_STD
    return {**pixels, "mean": tuple(mean), "std": tuple(std)}


def _sizes(document: Mapping[str, Any]) -> dict[str, Any]:
    """A size is a whole number, or has a height and a width, or a shortest and perhaps a longest edge."""
    size = document.get("size")
    if not document.get("do_resize", True) or size is None:
        return {}
    if isinstance(size, int):
        longest = document.get("max_size")
        size = {"shortest_edge": size, "longest_edge": longest} if longest else {"height": size, "width": size}
    if "height" in size and "width" in size:
        return {
            "stretched": (int(size["height"]), int(size["width"])),
            "keeps_ratio": bool(document.get("keep_aspect_ratio", False)),
            "multiple": int(document.get("ensure_multiple_of") or 1),
        }
    return {"shortest": size.get("shortest_edge"), "longest": size.get("longest_edge")}
