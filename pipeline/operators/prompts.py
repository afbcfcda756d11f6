"""Which classes an open-vocabulary operator looks for, and the sentences that describe each."""

from __future__ import annotations

import colorsys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from schemas.errors import ConfigError
from schemas.label_sets import LabelSet
from schemas.label_sets import label_set as built_in

if TYPE_CHECKING:
    from torch import Tensor

DEFAULT_TEMPLATES = ("a photo of a {}.", "a photo of the {}.", "there is a {} in the room.", "a {} in an indoor scene.")
_HUE_STEP = 0.618034
"""The golden ratio: neighbouring ids get hues that are far apart."""


class Vocabulary(BaseModel):
    """Classes and, for each, the sentences whose embeddings are averaged; then what is none of them, likewise."""

    model_config = ConfigDict(frozen=True)

    label_set: LabelSet
    sentences: tuple[tuple[str, ...], ...]
    background: tuple[tuple[str, ...], ...] = ()

    def told(self) -> str:
        """All of it in one text, for a fingerprint."""
        return self.model_dump_json(exclude=set() if self.background else {"background"})


def vocabulary(
    prompts: Sequence[str] | Mapping[str, Sequence[str]] | None,
    label_set: str | None,
    templates: Sequence[str],
    background: Sequence[str] = (),
) -> Vocabulary:
    """Classes from prompts, a built-in label set, or some classes of one. Raises ConfigError or UnknownNameError.

    Args:
        background: prompts of what is none of the classes.
    """
    words = _synonyms(prompts)
    if not words and label_set is None:
        raise ConfigError("prompts: nothing to look for", remedy="give operator.kwargs.prompts or label_set")
    if not templates or isinstance(templates, str) or not all("{}" in template for template in templates):
        raise ConfigError(f"prompts: templates must be sentences with {{}} for the prompt, found {templates!r}")
    classes = _choose(words, label_set)
    sentences = tuple(_sentences(words.get(name, (name,)), templates) for name in classes.names)
    nothing = tuple(_sentences((word,), templates) for word in _listed(background))
    return Vocabulary(label_set=classes, sentences=sentences, background=nothing)


def _sentences(words: Sequence[str], templates: Sequence[str]) -> tuple[str, ...]:
    return tuple(template.replace("{}", word) for word in words for template in templates)


def _synonyms(prompts: Sequence[str] | Mapping[str, Sequence[str]] | None) -> dict[str, tuple[str, ...]]:
    """Class name -> prompts."""
    rows = dict(prompts) if isinstance(prompts, Mapping) else {name: (name,) for name in _listed(prompts or ())}
    return {name: _listed(row) for name, row in rows.items()}


def _listed(texts: Sequence[str]) -> tuple[str, ...]:
    rows = (texts,) if isinstance(texts, str) else tuple(texts)
    if not all(isinstance(text, str) and text.strip() for text in rows):
        raise ConfigError(f"prompts: prompts must be texts, found {texts!r}")
    return rows


def _choose(words: Mapping[str, Sequence[str]], name: str | None) -> LabelSet:
    if name is None:
        return numbered(tuple(words))
    classes = built_in(name)
    strangers = sorted(set(words) - set(classes.names))
    if strangers:
        raise ConfigError(
            f"prompts: label set {name!r} has no class {strangers[0]!r}", remedy=f"it has: {', '.join(classes.names)}"
        )
    ids = tuple(i for i, label in zip(classes.ids, classes.names, strict=True) if not words or label in words)
    return classes.subset(ids, classes.name if len(ids) == len(classes.ids) else f"{classes.name}-{len(ids)}")


def distinct_colors(count: int) -> tuple[tuple[int, int, int], ...]:
    """RGB triples (0..255), neighbours far apart in hue."""
    hues = [colorsys.hsv_to_rgb(n * _HUE_STEP % 1, 0.65, 0.95) for n in range(count)]
    return tuple((round(255 * r), round(255 * g), round(255 * b)) for r, g, b in hues)


def without_background(scores: Tensor, classes: int) -> Tensor:
    """Scores [B, K + N, H, W] of K classes and of N that are none -> [B, K, H, W], all zero where one of the N wins.

    All zero means "no prediction": such pixels say nothing to other views and get the ignore id.
    """
    kept, none = scores[:, :classes], scores[:, classes:]
    return kept if not none.shape[1] else kept * (kept.amax(1, keepdim=True) >= none.amax(1, keepdim=True))


def numbered(names: tuple[str, ...], name: str = "prompts") -> LabelSet:
    """A label set of classes 1..K with distinct colours; 0 is "no label"."""
    ids = tuple(range(1, len(names) + 1))
    return LabelSet(name=name, ids=ids, names=names, colors=distinct_colors(len(names)), ignore_id=0)
