"""The configuration of a training run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from schemas.config import ReaderConfig
from schemas.errors import ConfigError


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)


class FeatureConfig(_Section):
    """One operator whose features are predicted in training."""

    spec: str
    """As `operator.spec` of a labelling run."""
    kwargs: dict[str, JsonValue] = Field(default_factory=dict)
    """Its keyword arguments."""


STAND_INS = {
    "vit9": FeatureConfig(spec="dino", kwargs={"block": 9}),
    "effnet8": FeatureConfig(spec="efficientnet", kwargs={"stride": 8}),
}
"""Two spaces whose weights need no hub. With one, the method's own two: `{"dino": {"spec":
"dino:vit_small_patch14_dinov2.lvd142m"}, "clip": {"spec": "open_clip:ViT-B-16/openai"}}`."""


class DataConfig(_Section):
    """Which scenes are read, and how they are kept."""

    reader: ReaderConfig = ReaderConfig()
    pixels: int = Field(320 * 240, ge=1024)
    """Images are shrunk to at most this many pixels."""
    sources: int = Field(24, ge=2, le=64)
    """Source views kept a view, best first; a step takes some of them."""
    features: dict[str, FeatureConfig] = STAND_INS
    """Operators by a short name."""
    sweep_every: int = Field(2, ge=1)
    """Of the scenes with sensor depth, every n-th is swept too; scenes without always are."""
    dev_scenes: float = Field(0.2, ge=0, lt=1)
    """Share of a dataset's scenes, the last by name, that are held out, where it has at least five."""
    dev_views: float = Field(0.25, ge=0, lt=1)
    """Share of a scene's views, the last ones, that are held out, where the dataset has fewer scenes."""


class FitConfig(_Section):
    """How each part is trained."""

    steps: int = Field(2000, ge=1)
    """Optimizer steps a part."""
    warmup: int = Field(50, ge=1)
    """Steps with a rising learning rate."""
    learning_rate: float = Field(1e-2, gt=0)
    """Highest learning rate."""
    weight_decay: float = Field(0.0, ge=0)
    """Pull of the weights towards 0."""
    clip: float = Field(1.0, gt=0)
    """Largest norm of the gradient."""
    report: int = Field(20, ge=1)
    """Steps between rows of the log."""
    validate_every: int = Field(250, ge=1)
    """Steps between validations."""
    save_s: float = Field(60.0, gt=0)
    """Seconds between checkpoints."""
    seed: int = 0
    """Of all random choices."""


class TrainingConfig(_Section):
    """A training run."""

    source: list[str] = Field(min_length=1)
    """Datasets or scenes: local paths or fsspec URIs."""
    out: str = Field(min_length=1)
    """Local folder of the cache, the state of the run and its result."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where operators and training compute."""
    parts: list[str] = Field(default_factory=list)
    """Parts of the model to train; all where empty."""
    data: DataConfig = DataConfig()
    fit: FitConfig = FitConfig()
    part: dict[str, dict[str, JsonValue]] = Field(default_factory=dict)
    """Settings of `fit` that differ for one part: `part.weighting.steps`."""


def parse_training(values: Mapping[str, Any]) -> TrainingConfig:
    """Validate nested values. Raises `ConfigError` that names each bad path."""
    try:
        config = TrainingConfig.model_validate(values)
        for name in config.part:
            fit_config(config, name)
        return config
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, p['loc']))}: {p['msg']}" for p in error.errors())
        raise ConfigError(f"training config: {problems}", remedy="docs/training.md lists every key") from None


def fit_config(config: TrainingConfig, part: str) -> FitConfig:
    """The `fit` section as it is for one part."""
    return FitConfig.model_validate({**config.fit.model_dump(), **config.part.get(part, {})})
