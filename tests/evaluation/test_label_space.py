"""Label spaces are matched by name, and what has no counterpart is counted, never compared."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.evaluation.label_space import label_space
from schemas.errors import DatasetError
from schemas.label_sets import LabelSet


def labels(**names: int) -> LabelSet:
    ordered = sorted(names.items(), key=lambda item: item[1])
    return LabelSet(
        name="made",
        ids=tuple(i for _, i in ordered),
        names=tuple(name.replace("_", " ") for name, _ in ordered),
        colors=((0, 0, 0),) * len(names),
        ignore_id=255,
    )


def test_same_ids_map_to_the_same_index() -> None:
    both = labels(wall=1, floor=2, chair=7)
    space = label_space(both, both)
    ids = np.array([[1, 2, 7, 0, 3, 255, 65535]], np.uint16)
    assert space.truth(ids).tolist() == [[0, 1, 2, 3, 3, 3, 3]]
    assert space.prediction(ids).tolist() == [[0, 1, 2, 3, 3, 3, 3]]
    assert space.absent_pixels(ids) == {}


def test_other_numbering_is_matched_by_name() -> None:
    space = label_space(labels(chair=0, Night_Stand=4), labels(wall=1, nightstand=32, chair=5))
    assert space.truth(np.array([1, 5, 32])).tolist() == [2, 0, 1]


def test_classes_that_the_label_set_lacks_are_counted() -> None:
    space = label_space(labels(chair=5), labels(wall=1, chair=5))
    ids = np.array([[1, 1, 5, 0]])
    assert space.truth(ids).tolist() == [[1, 1, 0, 1]]
    assert space.absent_pixels(ids) == {"wall": 2}


def test_label_sets_without_a_common_name_are_refused() -> None:
    with pytest.raises(DatasetError, match="shares no class name"):
        label_space(labels(cat=1), labels(wall=1))
