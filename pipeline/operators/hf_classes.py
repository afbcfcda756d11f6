"""What the classes of a transformers model mean: its `id2label` as a label set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.operators.prompts import distinct_colors
from schemas.errors import ConfigError
from schemas.label_sets import LabelSet, label_set, label_set_names

VOID = frozenset(("unlabeled", "unlabelled", "void", "ignore", "ignored", "n/a", "no label", "unknown", "none"))
"""Names of channels that are no class: pixels where one of them wins get the ignore id."""
ALIKE = 0.75
"""Share of names that have to stand at the same place in a built-in label set: spellings differ between checkpoints."""
FEWEST = 10
"""Classes that a model has at least before its names can tell that its label set is a built-in one."""


@dataclass(frozen=True, slots=True)
class Channels:
    """What a model's class channels mean.

    Attributes:
        label_set: its classes.
        order: the model's channels of these classes, in the label set's order, then those that are no class.
    """

    label_set: LabelSet
    order: tuple[int, ...]


def channels(config: Mapping[str, Any], reduced: bool) -> Channels:
    """The classes of a model by its config's `id2label`.

    A built-in label set where the names are those of one, in its order. Else the model's ids as they are, 0..K - 1, or,
    with `reduced` (the preprocessor's do_reduce_labels: annotations where 0 is no class and k is channel k - 1), 1..K
    with 0 as the ignore id. Channels that are called void, unlabeled and so on are no classes; one that is called
    background is.

    Raises ConfigError.
    """
    names = _names(config)
    known = _built_in(names)
    if known is not None:
        return Channels(known, tuple(range(len(names))))
    classes = [k for k, name in enumerate(names) if _plain(name) not in VOID]
    if not classes:
        raise ConfigError(f"hf: id2label names no class, found {names!r:.200}")
    shift, ignore = (1, 0) if reduced else (0, 255 if len(names) <= 255 else 65535)
    made = LabelSet(
        name="id2label",
        ids=tuple(k + shift for k in classes),
        names=tuple(names[k] for k in classes),
        colors=distinct_colors(len(classes)),
        ignore_id=ignore,
    )
    return Channels(made, (*classes, *(k for k in range(len(names)) if k not in classes)))


def _names(config: Mapping[str, Any]) -> list[str]:
    """Channel -> name. Raises ConfigError unless channels are numbered 0..K - 1."""
    given = config.get("id2label")
    try:
        table = {int(key): str(value).strip() for key, value in dict(given or {}).items()}
    except (TypeError, ValueError):
        table = {}
    if not table or sorted(table) != list(range(len(table))):
        raise ConfigError(
            f"hf: config.json's id2label is {given!r:.120}, expected a name for each channel 0..K - 1",
            remedy='write the class names into it: {"0": "wall", "1": "floor", ...}',
        )
    return [table[k] for k in range(len(table))]


def _built_in(names: Sequence[str]) -> LabelSet | None:
    for known in map(label_set, label_set_names() if len(names) >= FEWEST else []):
        if len(known.names) != len(names):
            continue
        alike = sum(_plain(ours) == _plain(theirs) for ours, theirs in zip(known.names, names, strict=True))
        if alike >= ALIKE * len(names):
            return known
    return None


def _plain(name: str) -> str:
    """The first of several synonyms, in one spelling."""
    return " ".join(name.split(",")[0].lower().replace("_", " ").split())
