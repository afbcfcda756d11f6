"""The whole configuration of a labelling run: one frozen tree, one source of defaults.

Every component receives its own slice only. Unknown keys are errors that name the path and the nearest key.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, field_validator, model_validator

from schemas.errors import ConfigError

LiftMethod = Literal["auto", "rgb", "depth", "none"]
LiftMode = Literal["label", "novel"]
EngineKind = Literal["ray", "local"]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)


class ReaderConfig(_Section):
    """How the dataset is read."""

    name: str = "auto"
    """scannet, sens, nerfstudio, a third-party reader, or auto (recognised by the files that are there)."""
    scenes: str = "*"
    """Glob over scene ids."""
    limit: int | None = Field(None, ge=1)
    """At most this many scenes, after the glob."""
    labels: Literal["nyu40", "raw"] = "nyu40"
    """What ids ground-truth label files hold: NYU40 ids, or raw ScanNet ids (needs `label_tsv`)."""
    label_tsv: str | None = None
    """scannetv2-labels.combined.tsv, where `labels` is raw."""
    follow_links: bool = False
    """Read what symbolic links in a scene's folder lead to, wherever that is; else it must lie in that folder too."""


class OperatorConfig(_Section):
    """Which 2D vision models predict."""

    spec: str | tuple[str, ...] = "indoor"
    """`name`, `name:argument` or `package.module:Class` (`lift3d operators` lists the built-in ones), or a list of
    them: several operators in one pass."""
    kwargs: dict[str, JsonValue] = Field(default_factory=dict)
    """Keyword arguments of the operator; of a list, those of each by its SPEC: `{SPEC: {key: value}}`."""
    batch_size: int = Field(4, ge=1)
    """Images an encode call; results do not depend on it."""
    license: Literal["any", "commercial"] = "any"
    """commercial: refuse operators whose weights' licence does not allow commercial use, or is not known."""
    weights_license: str | None = Field(None, min_length=1)
    """Licence of weights that say nothing of theirs: an SPDX id such as apache-2.0, or own."""

    @model_validator(mode="after")
    def _check(self) -> OperatorConfig:
        if isinstance(self.spec, tuple) and (not self.spec or len(set(self.spec)) < len(self.spec)):
            raise ValueError("spec must name at least one operator, and none twice")
        if isinstance(self.spec, tuple) and not all(
            k in self.specs and isinstance(v, dict) for k, v in self.kwargs.items()
        ):
            raise ValueError("kwargs of a list of operators are given by SPEC, {SPEC: {key: value}}")
        return self

    def alone(self, spec: str) -> OperatorConfig:
        """The section of one of its operators."""
        own = self.kwargs.get(spec, {}) if isinstance(self.spec, tuple) else self.kwargs
        return self.model_copy(update={"spec": spec, "kwargs": own})

    @property
    def specs(self) -> tuple[str, ...]:
        """The SPEC of every operator, in the order given."""
        return (self.spec,) if isinstance(self.spec, str) else self.spec

    @property
    def sole(self) -> str:
        """The SPEC, of a config of one operator (`LabelingConfig.each`)."""
        (spec,) = self.specs
        return spec


class LiftConfig(_Section):
    """How predictions are lifted to view-consistent ones. All of it is part of a label's fingerprint."""

    method: LiftMethod = "auto"
    """Geometry: auto (depth where a frame has it, else RGB), rgb, depth, or none (store the raw 2D prediction)."""
    mode: LiftMode = "label"
    """label: the target image exists and is one of its own sources; novel: it is predicted from the others alone."""
    sources: int = Field(16, ge=1, le=64)
    """Source views a target."""
    self_weight: float = Field(1.0, ge=0.0)
    """Weight of the target's own prediction relative to one fully visible source (label mode)."""
    weights: str = "default"
    """Trained weights: default (the shipped checkpoint), none (the analytic lift), or the address of a checkpoint."""
    near: float | None = Field(None, gt=0)
    """Nearest depth searched from RGB, in scene units; estimated from the cameras and images where absent."""
    far: float | None = Field(None, gt=0)
    """Farthest depth searched from RGB."""
    planes: int = Field(64, ge=8, le=512)
    """Depth planes of the RGB sweep."""
    samples: int = Field(1, ge=1, le=16)
    """Samples a ray where depth is uncertain (RGB geometry)."""

    @field_validator("weights", mode="before")
    @classmethod
    def _weights(cls, value: object) -> object:
        return "default" if value is None else value

    @model_validator(mode="after")
    def _check(self) -> LiftConfig:
        if self.near is not None and self.far is not None and self.near >= self.far:
            raise ValueError(f"near is {self.near:g} and far {self.far:g}, near must be the smaller one")
        return self


class PlanConfig(_Section):
    """How scenes are cut into units of work. Labels do not depend on it."""

    chunk: int = Field(32, ge=1)
    """Target frames a chunk."""
    content: Literal["bytes", "listing"] = "bytes"
    """How a changed image or depth map is noticed: by its bytes, or by size and time of change without reading it."""


class EngineConfig(_Section):
    """Where the work runs. Labels do not depend on it."""

    kind: EngineKind = "ray"
    """ray: actors on this machine or a cluster; local: the same stages in this process."""
    workers: int | None = Field(None, ge=1)
    """Actors; as many as the cluster can host where absent."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where operators and lifting compute."""
    cpus_per_worker: float = Field(0.75, gt=0)
    """CPUs an actor reserves; below 1, so that Ray's own tasks find room on a small machine."""
    gpus_per_worker: float = Field(0.0, ge=0)
    """GPUs (or a fraction of one) an actor reserves."""
    attempts: int = Field(2, ge=1)
    """Tries of a frame that fails, hangs or ends its worker before it is quarantined."""
    frame_timeout_s: float = Field(300.0, gt=0)
    """Seconds that reading a frame or one call of the operator may take, and lifting for each view that it looks at."""
    scratch: str = "auto"
    """Where a run keeps what it worked out of views that other chunks look at too, on each machine: auto (the
    system's temporary folder), none (work it out again), or an absolute path. Removed when the run ends."""
    geometry: Literal["none", "store"] = "none"
    """Whether depths that were swept from RGB stay in the store (`geometry/`), so that an operator that is added later
    needs no new sweep: store, or none."""
    no_progress_s: float = Field(900.0, gt=0)
    """Seconds without a finished chunk after which the run stops with a report of who waits for what."""
    events: str | None = None
    """File of this machine that gets the run's events as JSON lines, or `-` for stdout; docs/monitoring.md has them."""


class LabelingConfig(_Section):
    """A labelling run."""

    source: str = Field(min_length=1)
    """Dataset or scene: local path or fsspec URI."""
    store: str = Field(min_length=1)
    """Label store: local path or fsspec URI."""
    reader: ReaderConfig = ReaderConfig()
    operator: OperatorConfig = OperatorConfig()
    lift: LiftConfig = LiftConfig()
    plan: PlanConfig = PlanConfig()
    engine: EngineConfig = EngineConfig()

    def each(self) -> tuple[LabelingConfig, ...]:
        """The config once for each of its operators."""
        of_one = map(self.operator.alone, self.operator.specs)
        return tuple(self.model_copy(update={"operator": operator}) for operator in of_one)


def parse_config(values: Mapping[str, Any]) -> LabelingConfig:
    """Validate nested values into a config; raise `ConfigError` that names each bad path and the nearest key."""
    try:
        json.dumps(values, ensure_ascii=False, default=str).encode()
    except (ValueError, RecursionError, TypeError) as error:
        problem = type(error).__name__ if isinstance(error, RecursionError) else str(error)
        raise ConfigError(
            f"config: not plain text and numbers ({problem})", remedy="write names in UTF-8, and no references"
        ) from None
    try:
        return LabelingConfig.model_validate(values)
    except ValidationError as error:
        problems = "; ".join(_explain(problem) for problem in error.errors())
        raise ConfigError(
            f"config: {problems}", remedy="`lift3d schema config` prints every key with its meaning"
        ) from None


def override(values: dict[str, Any], settings: Iterable[str]) -> dict[str, Any]:
    """Apply `path.to.key=value` settings (values are JSON where they parse as JSON, else strings)."""
    for setting in settings:
        path, sign, text = setting.partition("=")
        if not sign or not path:
            raise ConfigError(
                f"--set {setting!r:.200} is not of the form key=value", remedy="for example --set lift.sources=12"
            )
        *parents, leaf = path.split(".")
        node = values
        for parent in parents:
            node = node.setdefault(parent, {})
            if not isinstance(node, dict):
                raise ConfigError(
                    f"--set {setting!r:.200}: {parent!r} is a value, not a section",
                    remedy="`lift3d schema config` prints every key with its meaning",
                )
        node[leaf] = _parse_value(text)
    return values


def known_paths() -> list[str]:
    """Dotted paths of all leaves."""
    return sorted(_leaves(LabelingConfig, ""))


def _leaves(section: type[BaseModel], prefix: str) -> Iterable[str]:
    for name, field in section.model_fields.items():
        annotation = field.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            yield from _leaves(annotation, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def _explain(problem: Any) -> str:
    path = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "missing":
        return f"{path} is not set"
    if problem["type"] != "extra_forbidden":
        message = problem["msg"].removeprefix("Value error, ")
        return f"{path or 'top level'}: {message} (found {problem['input']!r:.80})"
    nearest = difflib.get_close_matches(path, known_paths(), n=1, cutoff=0.0)
    return f"unknown key {path!r:.80}, did you mean {nearest[0]!r}?"


def _parse_value(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):  # no JSON, an integer of 5,000 digits, 10,000 brackets
        return text


LIFT_METHODS: tuple[str, ...] = get_args(LiftMethod)
