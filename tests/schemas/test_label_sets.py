"""Label sets: the built-in ones hold what the benchmarks define, and no set can contradict itself."""

import json

import numpy as np
import pytest
from pydantic import ValidationError

from schemas.errors import UnknownNameError
from schemas.label_sets import LabelSet, label_set, label_set_names

TWO = {"name": "two", "ids": (1, 3), "names": ("a", "b"), "colors": ((1, 2, 3), (4, 5, 6)), "ignore_id": 0}
SETS = ["ade20k", "coco133", "mpcat40", "nyu40", "replica", "scannet20", "scannet200", "voc21"]
SCANNET20_IDS = (*range(1, 13), 14, 16, 24, 28, 33, 34, 36, 39)


def test_the_built_in_sets():
    assert label_set_names() == SETS


@pytest.mark.parametrize(
    ("name", "ids", "ignore", "dtype"),
    [
        ("nyu40", tuple(range(1, 41)), 0, np.uint8),
        ("scannet20", SCANNET20_IDS, 0, np.uint8),
        ("voc21", tuple(range(21)), 255, np.uint8),
        ("ade20k", tuple(range(150)), 255, np.uint8),
        ("mpcat40", tuple(range(1, 41)), 0, np.uint8),
        ("replica", tuple(range(1, 102)), 0, np.uint8),
    ],
)
def test_ids_are_those_of_the_benchmark(name, ids, ignore, dtype):
    found = label_set(name)
    assert (found.name, found.ids, found.ignore_id, found.dtype) == (name, ids, ignore, dtype)


def test_scannet200_needs_sixteen_bits():
    found = label_set("scannet200")
    assert (len(found.ids), found.ids[-1], found.dtype) == (200, 1191, np.uint16)
    assert [found.name_of(i) for i in (1, 2, 3, 13, 1191)] == ["wall", "chair", "floor", "pillow", "mattress"]


@pytest.mark.parametrize(
    ("name", "some"),
    [
        ("ade20k", {0: "wall", 3: "floor", 19: "chair", 65: "toilet", 149: "flag"}),
        ("coco133", {1: "person", 62: "chair", 90: "toothbrush", 92: "banner", 184: "tree-merged", 200: "rug-merged"}),
        ("mpcat40", {1: "wall", 3: "chair", 13: "chest_of_drawers", 22: "tv_monitor", 40: "misc"}),
        ("replica", {20: "chair", 31: "ceiling", 40: "floor", 80: "table", 93: "wall", 97: "window"}),
    ],
)
def test_known_ids_have_their_names(name, some):
    assert {i: label_set(name).name_of(i) for i in some} == some


def test_coco_has_eighty_things_and_fifty_three_stuffs():
    ids = label_set("coco133").ids
    assert (sum(i <= 90 for i in ids), sum(i > 90 for i in ids)) == (80, 53)


def test_scannet20_is_a_part_of_nyu40():
    assert label_set("nyu40").subset(SCANNET20_IDS, "scannet20") == label_set("scannet20")


@pytest.mark.parametrize(("name", "class_id", "color"), [("nyu40", 1, (174, 199, 232)), ("voc21", 15, (192, 128, 128))])
def test_colours_are_the_usual_ones(name, class_id, color):
    assert tuple(label_set(name).palette()[class_id]) == color


@pytest.mark.parametrize("name", SETS)
def test_classes_can_be_told_apart(name):
    found = label_set(name)
    assert len(set(found.names)) == len(found.names)
    assert len(set(found.colors)) == len(found.colors)
    assert LabelSet.model_validate(json.loads(found.model_dump_json())) == found


def test_a_palette_is_black_where_there_is_no_class():
    palette = LabelSet(**TWO).palette()
    assert palette.tolist() == [[0, 0, 0], [1, 2, 3], [0, 0, 0], [4, 5, 6]]
    assert LabelSet(**{**TWO, "ignore_id": 300}).palette().shape == (301, 3)


def test_an_id_without_a_class_has_a_name_too():
    assert [LabelSet(**TWO).name_of(i) for i in (3, 2)] == ["b", "id 2"]


@pytest.mark.parametrize(
    "change",
    [
        {"ids": (3, 1)},
        {"ids": (1, 1)},
        {"ids": (0, 1)},
        {"ids": (1,)},
        {"ids": (1, 65536)},
        {"ids": (-1, 1)},
        {"ignore_id": 3},
        {"ignore_id": 65536},
        {"names": ("a",)},
        {"colors": ((1, 2, 3), (4, 5, 256))},
        {"ids": (), "names": (), "colors": ()},
        {"more": 1},
    ],
)
def test_a_set_that_contradicts_itself_is_refused(change):
    with pytest.raises(ValidationError):
        LabelSet(**{**TWO, **change})


@pytest.mark.parametrize("name", ["nyu", "", "../nyu40", "nyu40.json"])
def test_an_unknown_set_lists_the_known_ones(name):
    with pytest.raises(UnknownNameError, match=", ".join(SETS)):
        label_set(name)
