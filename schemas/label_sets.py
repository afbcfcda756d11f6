"""Label sets: what class ids mean. Names, colours and the id that means "no label", as data in `schemas/data`."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, model_validator

from schemas.errors import UnknownNameError


class LabelSet(BaseModel):
    """A vocabulary of class ids.

    Attributes:
        name: short name ("nyu40").
        ids: class ids, ascending, without the ignore id; at most 65535.
        names: one a class.
        colors: one RGB triple (0..255) a class.
        ignore_id: the id that means "no label"; never one of `ids`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    ids: tuple[int, ...]
    names: tuple[str, ...]
    colors: tuple[tuple[int, int, int], ...]
    ignore_id: int

    @model_validator(mode="after")
    def _check(self) -> LabelSet:
        if not len(self.ids) == len(self.names) == len(self.colors):
            raise ValueError(f"{len(self.ids)} ids, {len(self.names)} names and {len(self.colors)} colours")
        if not self.ids:
            raise ValueError("no classes")
        if list(self.ids) != sorted(set(self.ids)) or self.ignore_id in self.ids:
            raise ValueError("ids must ascend, be unique and leave out the ignore id")
        if not all(0 <= i <= 65535 for i in (*self.ids, self.ignore_id)):
            raise ValueError("ids must be in 0..65535")
        if not all(0 <= level <= 255 for color in self.colors for level in color):
            raise ValueError("colours must be in 0..255")
        return self

    @property
    def dtype(self) -> np.dtype[np.uint8] | np.dtype[np.uint16]:
        """uint8 where every id fits, else uint16: the depth of label PNGs."""
        return np.dtype(np.uint8) if max(*self.ids, self.ignore_id) < 256 else np.dtype(np.uint16)

    def palette(self) -> NDArray[np.uint8]:
        """[max id + 1, 3] RGB lookup table; ids that are not classes are black."""
        table = np.zeros((max(*self.ids, self.ignore_id) + 1, 3), np.uint8)
        table[list(self.ids)] = self.colors
        return table

    def name_of(self, class_id: int) -> str:
        """The class's name, or `id <n>` for an id that is no class."""
        return self.names[self.ids.index(class_id)] if class_id in self.ids else f"id {class_id}"

    def subset(self, ids: tuple[int, ...], name: str) -> LabelSet:
        """The same classes, but only `ids`."""
        keep = [self.ids.index(i) for i in sorted(ids)]
        return LabelSet(
            name=name,
            ids=tuple(self.ids[k] for k in keep),
            names=tuple(self.names[k] for k in keep),
            colors=tuple(self.colors[k] for k in keep),
            ignore_id=self.ignore_id,
        )


@cache
def label_set(name: str) -> LabelSet:
    """A built-in label set by name. Raises `UnknownNameError` that lists the known ones."""
    path = files("schemas") / "data" / "label_sets" / f"{name}.json"
    if name not in label_set_names():
        raise UnknownNameError(f"label set {name!r} is not known", remedy=f"known: {', '.join(label_set_names())}")
    return LabelSet.model_validate(json.loads(path.read_text(encoding="utf-8")))


def label_set_names() -> list[str]:
    """Names of the built-in label sets."""
    folder = files("schemas") / "data" / "label_sets"
    return sorted(entry.name.removesuffix(".json") for entry in folder.iterdir() if entry.name.endswith(".json"))
