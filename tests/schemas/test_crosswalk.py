"""Cross-walks: every class goes somewhere or is said to go nowhere, and what is known to be the same is the same."""

from itertools import permutations
from pathlib import Path

import pytest

from schemas.crosswalk import crosswalk, tables
from schemas.label_sets import LabelSet, label_set, label_set_names

ALL = ["ade20k", "coco133", "mpcat40", "nyu40", "replica", "scannet20", "scannet200", "voc21"]
TABLES = [name for name in ALL if name != "nyu40"]


def names_of(source: str, target: str) -> dict[str, str]:
    walk = crosswalk(label_set(source), label_set(target))
    return {walk.source.name_of(a): walk.target.name_of(b) for a, b in walk.ids.items()}


def test_there_is_a_table_for_every_set() -> None:
    assert label_set_names() == ALL
    assert sorted(tables()) == TABLES


@pytest.mark.parametrize("name", TABLES)
def test_every_class_is_mapped_or_said_not_to_be(name: str) -> None:
    table = tables()[name]
    listed = [one for names in table["nyu40"].values() for one in names] + table["unmapped"]
    assert sorted(listed) == sorted(label_set(name).names)
    assert set(table["nyu40"]) <= set(label_set("nyu40").names)
    assert set(table["one_way"]) <= set(table["nyu40"])


@pytest.mark.parametrize(("source", "target"), list(permutations(ALL, 2)))
def test_ids_are_those_of_the_two_sets(source: str, target: str) -> None:
    walk = crosswalk(label_set(source), label_set(target))
    assert set(walk.ids) | set(walk.unmapped) == set(walk.source.ids)
    assert not set(walk.ids) & set(walk.unmapped)
    assert set(walk.ids.values()) <= set(walk.target.ids)
    assert walk.ids, "nothing in common"


@pytest.mark.parametrize("name", ALL)
def test_a_set_is_itself(name: str) -> None:
    assert crosswalk(label_set(name), label_set(name)).ids == {i: i for i in label_set(name).ids}


@pytest.mark.parametrize("name", TABLES)
def test_from_nyu40_and_back_is_where_one_was(name: str) -> None:
    there, back = crosswalk(label_set("nyu40"), label_set(name)), crosswalk(label_set(name), label_set("nyu40"))
    assert {i: back.ids[there.ids[i]] for i in there.ids} == {i: i for i in there.ids}


def test_scannet20_is_nyu40_by_id() -> None:
    ids = label_set("scannet20").ids
    assert crosswalk(label_set("scannet20"), label_set("nyu40")).ids == {i: i for i in ids}
    assert crosswalk(label_set("nyu40"), label_set("scannet20")).ids == {i: i for i in ids}


@pytest.mark.parametrize(
    ("source", "target", "some"),
    [
        (
            "ade20k",
            "nyu40",
            {"windowpane": "window", "swivel chair": "chair", "bookcase": "bookshelf", "rug": "floor mat"},
        ),
        ("coco133", "nyu40", {"couch": "sofa", "tv": "television", "wall-tile": "wall", "person": "person"}),
        ("scannet200", "scannet20", {"office chair": "chair", "couch": "sofa", "tv stand": "cabinet"}),
        ("mpcat40", "nyu40", {"chest_of_drawers": "dresser", "tv_monitor": "television"}),
        ("replica", "nyu40", {"base-cabinet": "cabinet", "tv-screen": "television", "nightstand": "night stand"}),
        ("coco133", "ade20k", {"microwave": "microwave", "couch": "sofa", "car": "car"}),
        ("voc21", "coco133", {"diningtable": "dining table", "sofa": "couch", "cow": "cow"}),
    ],
)
def test_some_that_everybody_would_expect(source: str, target: str, some: dict[str, str]) -> None:
    assert some.items() <= names_of(source, target).items()


def test_out_of_doors_there_is_no_nyu40() -> None:
    walk = crosswalk(label_set("ade20k"), label_set("nyu40"))
    lost = {walk.source.name_of(i) for i in walk.unmapped}
    assert {"sky", "mountain", "car"} <= lost and not {"wall", "chair"} & lost


def test_a_part_of_a_set_walks_as_the_whole_does() -> None:
    whole = label_set("nyu40")
    part = whole.subset((1, 5, 40), "nyu40-indoor")
    walk = crosswalk(part, label_set("coco133"))
    assert walk.ids == {i: j for i, j in crosswalk(whole, label_set("coco133")).ids.items() if i in part.ids}
    assert set(crosswalk(label_set("ade20k"), part).ids.values()) == {1, 5, 40}


def test_a_set_of_ones_own_is_known_by_its_names() -> None:
    grey = ((1, 1, 1), (2, 2, 2), (3, 3, 3))
    own = LabelSet(
        name="prompts", ids=(1, 2, 3), names=("Swivel Chair", "coffee table", "sky"), colors=grey, ignore_id=0
    )
    walk = crosswalk(own, label_set("nyu40"))
    assert (walk.ids, walk.unmapped) == ({1: 5, 2: 7}, (3,))
    strange = LabelSet(name="x", ids=(1, 2, 3), names=("gizmo", "Chair", "b"), colors=grey, ignore_id=0)
    assert crosswalk(strange, label_set("nyu40")).ids == {2: 5}


def test_the_table_of_the_documentation() -> None:
    text = (Path(__file__).parents[2] / "docs" / "label_spaces.md").read_text(encoding="utf-8")
    for name in ALL:
        counts = [str(len(crosswalk(label_set(name), label_set(other)).ids)) for other in ALL]
        assert f"| {name} | {' | '.join(counts)} |" in text
        assert f"| `{name}` | {len(label_set(name).ids)} |" in text
