"""What an ONNX file does not say of itself: a card beside it, how images go in and what comes out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, PositiveInt, ValidationError, model_validator

from pipeline.plain_yaml import plain_yaml
from schemas.errors import ConfigError, MissingWeightsError
from schemas.store import Kind

SUFFIXES = (".json", ".yaml", ".yml")
Layout = Literal["NCHW", "NHWC"]
Triple = tuple[float, float, float]
KINDS: Mapping[str, Kind] = {
    **dict.fromkeys(("logits", "probabilities", "ids"), "classes"),
    "features": "features",
    "image": "image",
    "scalar": "scalar",
}


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class InputCard(_Section):
    """How an image goes in: (scale * RGB in [0, 1] - mean) / std, in the type that the input has."""

    name: str | None = None
    """Of the input; needed where there are several."""
    layout: Layout = "NCHW"
    channels: Literal["rgb", "bgr"] = "rgb"
    """Their order. `mean` and `std` are in the same order."""
    scale: float = 1.0
    """255 for networks that want bytes."""
    mean: Triple = (0.0, 0.0, 0.0)
    std: Triple = (1.0, 1.0, 1.0)

    @model_validator(mode="after")
    def _check(self) -> InputCard:
        if 0 in (*self.std, self.scale):
            raise ValueError("scale and std must not be 0")
        return self


class SizeCard(_Section):
    """Which image sizes the network takes: multiples of something, or one size."""

    multiple_of: PositiveInt | None = None
    """Images are padded to multiples of this many pixels; none: of the output's stride."""
    height: PositiveInt | None = None
    width: PositiveInt | None = None
    fit: Literal["letterbox", "stretch"] = "letterbox"
    """How an image becomes one of height x width: with its aspect ratio and padding, or without."""

    @model_validator(mode="after")
    def _check(self) -> SizeCard:
        if (self.height is None) != (self.width is None):
            raise ValueError("height and width go together")
        if self.height is not None and self.multiple_of is not None:
            raise ValueError("either multiple_of, or height and width")
        return self


class OutputCard(_Section):
    """What comes out.

    `logits` become probabilities by softmax, `probabilities` are taken as they are, and `ids` are class ids of
    `label_set` once `id_offset` is added, or places in `names`, counted from 0.
    """

    name: str | None = None
    """Of the output; needed where there are several."""
    what: Literal["logits", "probabilities", "ids", "features", "image", "scalar"]
    layout: Layout = "NCHW"
    """Ids and scalars may leave out the axis of channels."""
    stride: PositiveInt = 1
    """Pixels of the network's image a cell."""
    scale: float = 1.0
    """Values are multiplied with this: 0.00392156862745098 for images of bytes."""
    label_set: str | None = None
    names: tuple[str, ...] | None = None
    id_offset: int = 0

    @model_validator(mode="after")
    def _check(self) -> OutputCard:
        if self.kind != "classes" and (self.label_set or self.names):
            raise ValueError(f"label_set and names are for classes, not for {self.what}")
        if self.kind == "classes" and (self.label_set is None) == (self.names is None):
            raise ValueError("give either label_set or names: what the classes are")
        if self.id_offset and (self.what != "ids" or self.names):
            raise ValueError("id_offset is for ids of a label_set")
        return self

    @property
    def kind(self) -> Kind:
        """What the operator predicts."""
        return KINDS[self.what]


class OnnxCard(_Section):
    """The card as a whole; `license` is that of the weights, as SPDX writes it in small letters."""

    input: InputCard = InputCard()
    size: SizeCard = SizeCard()
    output: OutputCard
    license: str = "unknown"

    @model_validator(mode="after")
    def _check(self) -> OnnxCard:
        if self.size.multiple_of and self.size.multiple_of % self.output.stride:
            raise ValueError("size.multiple_of must be a multiple of output.stride")
        return self

    @property
    def multiple(self) -> int:
        """Pixels that the sides of an image are multiples of, where any size goes."""
        return self.size.multiple_of or self.output.stride

    @property
    def fixed(self) -> tuple[int, int] | None:
        """(height, width) where only one size goes."""
        return (self.size.height, self.size.width) if self.size.height and self.size.width else None


def read_card(model: Path) -> OnnxCard:
    """The card of a model file. Raises MissingWeightsError where there is none, ConfigError that names bad fields."""
    found = [path for path in map(model.with_suffix, SUFFIXES) if path.is_file()]
    if len(found) != 1:
        what = ", ".join(path.name for path in found) or "no file"
        raise MissingWeightsError(
            f"onnx: what {model.name} does stands in one file {model.stem}.json or .yaml beside it, found {what}",
            remedy="docs/operators.md has the fields",
        )
    try:
        return OnnxCard.model_validate(_read(found[0]))
    except ValidationError as error:
        problems = "; ".join(_explain(problem) for problem in error.errors())
        raise ConfigError(f"onnx: {found[0]}: {problems}", remedy="docs/operators.md has the fields") from None


def _read(path: Path) -> Any:
    try:
        return plain_yaml(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"onnx: {path} cannot be read: {' '.join(str(error).split()):.160}") from error


def _explain(problem: Any) -> str:
    where = ".".join(map(str, problem["loc"])) or "the card"
    if problem["type"] == "missing":
        return f"{where} is not set"
    if problem["type"] == "extra_forbidden":
        return f"{where} is no field"
    return f"{where}: {problem['msg'].removeprefix('Value error, ')} (found {problem['input']!r:.80})"
