"""Cross-walks between label sets: which class of one set a class of another becomes, or that it becomes none.

Every built-in set has a table to NYU40 and back (`schemas/data/crosswalks`). Two sets are joined by equal names first,
since the way through NYU40 loses what NYU40 does not tell apart, then through NYU40.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from schemas.label_sets import LabelSet, label_set, label_set_names

HUB = "nyu40"


@dataclass(frozen=True, slots=True)
class Crosswalk:
    """From one label set's ids to another's.

    Attributes:
        source, target: the label sets.
        ids: source id -> target id, for every class that has one.
        unmapped: ids of source classes that become none, ascending.
    """

    source: LabelSet
    target: LabelSet
    ids: Mapping[int, int]
    unmapped: tuple[int, ...]


def crosswalk(source: LabelSet, target: LabelSet) -> Crosswalk:
    """The cross-walk between two label sets: built-in ones, parts of them, or any whose names built-in ones share.

    A class becomes, in this order: the target's class of the same name; the class that the tables lead to through
    NYU40, where the target has it; else none.
    """
    by_name = {_key(name): i for i, name in zip(target.ids, target.names, strict=True)}
    up, down = _to_hub(source), _from_hub(target)
    ids = {}
    for i, name in zip(source.ids, source.names, strict=True):
        found = by_name.get(_key(name))
        if found is None:
            found = down.get(up.get(_key(name), ""))
        if found is not None:
            ids[i] = found
    return Crosswalk(source, target, ids, tuple(i for i in source.ids if i not in ids))


@dataclass(frozen=True, slots=True)
class _Table:
    """A built-in set's way to NYU40 and back, by `_key` of names."""

    up: Mapping[str, str]
    down: Mapping[str, str]


def _to_hub(source: LabelSet) -> Mapping[str, str]:
    """Key of a source class -> key of an NYU40 class."""
    family = _family(source)
    return _table(family).up if family else {}


def _from_hub(target: LabelSet) -> Mapping[str, int]:
    """Key of an NYU40 class -> id of a target class."""
    family = _family(target)
    ids = {_key(name): i for i, name in zip(target.ids, target.names, strict=True)}
    down = _table(family).down if family else {}
    return {hub: ids[key] for hub, key in down.items() if key in ids}


def _family(labels: LabelSet) -> str | None:
    """The built-in set that a set is or is a part of: by its name, else the smallest that has all its names."""
    own = {_key(name) for name in labels.names}
    whole = {name: label_set(name) for name in label_set_names()}
    covers = [name for name, known in whole.items() if own <= {_key(n) for n in known.names}]
    named = [name for name in covers if labels.name.partition("-")[0] == name]
    return min(named or covers, key=lambda name: (len(whole[name].ids), name), default=None)


@cache
def _table(family: str) -> _Table:
    if family == HUB:
        own = {_key(name): _key(name) for name in label_set(HUB).names}
        return _Table(own, own)
    content = tables()[family]
    up = {_key(name): _key(hub) for hub, names in content["nyu40"].items() for name in names}
    down = {_key(hub): _key(names[0]) for hub, names in content["nyu40"].items() if hub not in content["one_way"]}
    return _Table(up, down)


@cache
def tables() -> Mapping[str, Mapping[str, Mapping[str, list[str]]]]:
    """The data: by label set, `nyu40` (NYU40 class -> classes that become it, the first of them is what it becomes
    on the way back), `unmapped` (classes that become none) and `one_way` (NYU40 classes that become none)."""
    folder = files("schemas") / "data" / "crosswalks"
    read = (json.loads(entry.read_text(encoding="utf-8")) for entry in folder.iterdir() if entry.name.endswith(".json"))
    return {content["label_set"]: content for content in read}


def _key(name: str) -> str:
    """Names are compared without case, spaces and punctuation ("night stand" is "Nightstand")."""
    return "".join(letter for letter in name.casefold() if letter.isalnum())
