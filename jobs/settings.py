"""From command-line options to one validated config: defaults < config file < --set < options."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from schemas.config import LabelingConfig, ReaderConfig

REMEDY = "`lift3d schema config` prints every key with its meaning"
RAY_JOB_VARIABLE = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Set by Ray in the entrypoint of a submitted job (that is the variable's whole name)."""


def labeling_config(
    file: Path | None,
    settings: list[str] | None,
    options: Mapping[str, Any],
    default_reader: str | None = None,
) -> LabelingConfig:
    """The config of a run.

    Args:
        file: YAML or JSON file of nested values.
        settings: `path.to.key=value` texts.
        options: dotted path -> value; None means that the option was not given.
        default_reader: reader where nothing else names one.

    Raises:
        ConfigError: unreadable file, unknown key, bad value, or a relative path inside a Ray job.
    """
    from schemas.config import override, parse_config
    from schemas.errors import ConfigError

    values = override(_read(file) if file else {}, settings or [])
    for path, value in options.items():
        if value is not None:
            _put(values, path, value)
    if default_reader:
        _put(values, "reader.name", default_reader, only_if_absent=True)
    for name in ("source", "store"):
        if name not in values:
            raise ConfigError(f"no {name} was given", remedy="usage: lift3d label SOURCE --store URI")
        values[name] = located(str(values[name]), name)
    return parse_config(values)


def in_label_set(config: LabelingConfig, label_set: str | None, unmapped: str) -> LabelingConfig:
    """The config with its operator's classes as those of a built-in label set, where one is named.

    Raises `UnknownNameError` for a label set that is not known.
    """
    if label_set is None:
        return config
    from pipeline.operators.spec import relabelled
    from schemas.label_sets import label_set as built_in

    name, each = built_in(label_set).name, map(config.operator.alone, config.operator.specs)
    specs = tuple(relabelled(own.sole, own.kwargs, name, unmapped) for own in each)
    operator = config.operator.model_copy(update={"spec": specs[0] if len(specs) == 1 else specs, "kwargs": {}})
    return config.model_copy(update={"operator": operator})


def training_values(file: Path | None, settings: list[str] | None, options: Mapping[str, Any]) -> dict[str, Any]:
    """Values of a training run's config, as `labeling_config` puts them together. Raises `ConfigError`."""
    from schemas.config import override

    values = override(_read(file) if file else {}, settings or [])
    for path, value in options.items():
        if value is not None:
            _put(values, path, value)
    return values


def reader_config(settings: list[str] | None, name: str | None, **options: Any) -> ReaderConfig:
    """The `reader` section alone, for commands that only read a dataset."""
    options = {f"reader.{key}": value for key, value in {**options, "name": name}.items()}
    return labeling_config(None, settings, {"source": ".", "store": ".", **options}).reader


def located(uri: str, what: str) -> str:
    """`uri` as every process of a run can use it: local paths made absolute.

    Raises:
        ConfigError: a relative path inside a submitted Ray job, whose working directory is a temporary copy.
    """
    if "://" in uri or "::" in uri:
        return uri
    path = os.path.expanduser(uri)
    if not os.path.isabs(path) and RAY_JOB_VARIABLE in os.environ:
        from schemas.errors import ConfigError

        raise ConfigError(
            f"{what} {uri!r} is a relative path in a submitted Ray job, which runs in a temporary copy of the working "
            "directory that Ray deletes",
            remedy="give an absolute path that every node sees, or a URI such as s3://bucket/folder",
        )
    return os.path.abspath(path)


def _read(file: Path) -> dict[str, Any]:
    """YAML is a superset of JSON, so one parser reads both."""
    from pipeline.plain_yaml import plain_yaml
    from schemas.errors import ConfigError

    try:
        values = plain_yaml(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"config file {str(file)!r} cannot be read: {error.strerror}", remedy="check the path and access to it"
        ) from None
    except (ValueError, RecursionError) as error:  # the last: brackets in brackets in brackets
        raise ConfigError(f"config file {str(file)!r} is neither plain YAML nor JSON: {error}", remedy=REMEDY) from None
    if not isinstance(values, dict):
        raise ConfigError(
            f"config file {str(file)!r} holds a {type(values).__name__}, expected sections with keys", remedy=REMEDY
        )
    return values


def _put(values: dict[str, Any], path: str, value: Any, *, only_if_absent: bool = False) -> None:
    """Set a dotted path; a section that is no mapping is left for validation to report."""
    section, _, key = path.rpartition(".")
    node = values.setdefault(section, {}) if section else values
    if isinstance(node, dict) and not (only_if_absent and key in node):
        node[key] = value
