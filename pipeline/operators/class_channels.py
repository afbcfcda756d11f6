"""What the channels of a network's class scores mean: a built-in label set, or names."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.operators.prompts import numbered
from schemas.errors import ConfigError
from schemas.label_sets import LabelSet
from schemas.label_sets import label_set as built_in


def channel_classes(where: str, channels: int | None, label_set: str | None, names: Sequence[str] | None) -> LabelSet:
    """Channel k is the k-th class: of the built-in label set, or of `names`, which get the ids 1, 2, ...

    Raises ConfigError unless exactly one of the two is given and has as many classes as there are channels (None: any).
    """
    if (label_set is None) == (names is None):
        found = "nothing says" if names is None else "both label_set and names say"
        raise ConfigError(
            f"{where}: {found} what its {channels or ''} classes are",
            remedy="give either label_set or names, in its order",
        )
    classes = built_in(label_set) if label_set is not None else _named(where, names or ())
    if channels is not None and len(classes.ids) != channels:
        given = f"label set {label_set!r}" if label_set is not None else "names"
        raise ConfigError(f"{where}: it has {channels} classes, {given} {len(classes.ids)}", remedy="in its order")
    return classes


def _named(where: str, names: Sequence[str]) -> LabelSet:
    listed = tuple(names)
    if isinstance(names, str) or not listed or not all(isinstance(name, str) and name.strip() for name in listed):
        raise ConfigError(f"{where}: names is {names!r:.80}, expected a list of texts")
    return numbered(listed, "names")
