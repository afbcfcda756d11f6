"""YAML (and JSON, which is YAML) without aliases: nine lines of them unfold to gigabytes."""

from __future__ import annotations

from typing import Any


def plain_yaml(text: str) -> Any:
    """The text's values. Raises ValueError for aliases and for what is no YAML, RecursionError where it is too deep."""
    import yaml

    try:
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, yaml.SafeLoader)):
            raise ValueError("it has YAML aliases (*name): write the values out")
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error
