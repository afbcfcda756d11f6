"""From ids to class indices: predictions by their own label set, ground truth by the names the two sets share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from schemas.errors import DatasetError
from schemas.label_sets import LabelSet

Ids = NDArray[np.unsignedinteger]


@dataclass(frozen=True, slots=True, eq=False)
class LabelSpace:
    """The label set that an evaluation happens in, and the ground truth's way into it.

    Attributes:
        labels: the prediction's label set; class index k is `labels.ids[k]`, index K is "no class".
        absent: ground-truth id -> name of the classes that `labels` lacks: their pixels are not scored.
    """

    labels: LabelSet
    absent: dict[int, str]
    _from_prediction: Ids
    _from_truth: Ids

    def prediction(self, ids: Ids) -> Ids:
        """[H, W] predicted ids -> class indices; the ignore id and unknown ids become K."""
        return _look_up(self._from_prediction, ids)

    def truth(self, ids: Ids) -> Ids:
        """[H, W] ground-truth ids -> class indices; K where not scored."""
        return _look_up(self._from_truth, ids)

    def absent_pixels(self, ids: Ids) -> dict[str, int]:
        """Pixels of [H, W] ground-truth ids by class that the prediction's label set lacks."""
        found, pixels = np.unique(ids, return_counts=True)
        return {self.absent[i]: int(n) for i, n in zip(found.tolist(), pixels, strict=True) if i in self.absent}


def label_space(prediction: LabelSet, truth: LabelSet) -> LabelSpace:
    """Match classes by name. Raises `DatasetError` where the two sets share none, so nothing could be scored."""
    index = {_key(name): k for k, name in enumerate(prediction.names)}
    matched = {i: index[_key(name)] for i, name in zip(truth.ids, truth.names, strict=True) if _key(name) in index}
    if not matched:
        raise DatasetError(
            f"label set {prediction.name!r} of the predictions shares no class name with {truth.name!r} of the ground "
            f"truth, so they cannot be compared",
            remedy="label with an operator whose classes have the ground truth's names, such as a prompt set of them",
        )
    absent = {i: name for i, name in zip(truth.ids, truth.names, strict=True) if i not in matched}
    own = {i: k for k, i in enumerate(prediction.ids)}
    return LabelSpace(prediction, absent, _table(own, len(prediction.ids)), _table(matched, len(prediction.ids)))


def _key(name: str) -> str:
    """Names are compared without case, spaces and punctuation ("night stand" is "Nightstand")."""
    return "".join(letter for letter in name.casefold() if letter.isalnum())


def _table(index_of: dict[int, int], classes: int) -> Ids:
    table = np.full(max(index_of) + 2, classes, np.uint16)
    table[list(index_of)] = list(index_of.values())
    return table


def _look_up(table: Ids, ids: Ids) -> Ids:
    """Ids past the table share its last entry, which is always K."""
    return np.asarray(table[np.minimum(ids, len(table) - 1)])
