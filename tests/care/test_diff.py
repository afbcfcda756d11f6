"""A diff counts what a plain comparison of decoded labels counts."""

from collections import Counter

import numpy as np
import pytest

from pipeline.care.compact import compact
from pipeline.care.diff import NOTHING, Side, diff
from pipeline.care.tags import make_tag
from pipeline.store import Store, decode_label_map, read_labels
from schemas.errors import StoreError

NAMES = {0: NOTHING, 1: "wall", 2: "floor", 300: "lamp"}


def by_hand(before, after):
    """(from, to) -> pixels, from two tables of labels of the same frames."""
    moves = Counter()
    for a, b in zip(before.to_dict("records"), after.to_dict("records"), strict=True):
        pairs = zip(decode_label_map(a).ravel().tolist(), decode_label_map(b).ravel().tolist(), strict=True)
        moves.update((NAMES[x], NAMES[y]) for x, y in pairs if x != y)
    return moves


def rows(uri, **chosen):
    return read_labels(uri, **chosen).sort_values(["scene", "frame"], ignore_index=True)


def test_a_tag_and_now(versions, uri, again):
    make_tag(uri, "before")
    before = rows(uri)
    again(versions, "bb")
    found = diff(Side(uri, "before"), Side(uri))
    assert (found.same, found.other, len(found.changed)) == (9, 3, 3)
    assert found.transitions == by_hand(before, rows(uri)) and found.transitions
    assert found.pixels == 3 * 13 * 18 and found.pixels_changed == found.transitions.total()
    assert {change.where.frame for change in found.changed} == {"0000", "0001", "0002"}
    document = found.to_json()
    sizes = [move["pixels"] for move in document["transitions"]]
    assert sizes == sorted(sizes, reverse=True) and document["only_a"] == document["only_b"] == []
    assert "9 frames with the same fingerprint" in found.table() and f"{sizes[0]} px" in found.table()


def test_nothing_differs_from_itself_or_from_its_compaction(versions, uri):
    make_tag(uri, "before")
    compact(uri)
    for every in (False, True):
        found = diff(Side(uri, "before"), Side(uri), every=every)
        assert (found.same, found.other, found.changed, found.pixels_changed) == (12, 0, [], 0)
    assert found.pixels == 12 * 13 * 18


def test_frames_only_in_one_of_two_stores(tmp_path, world):
    for name, count in (("a", 4), ("b", 6)):
        store = Store(str(tmp_path / name))
        store.prepare()
        world.label(store, "room", count, 2)
    world.label(store, "attic", 2, 2)
    found = diff(Side(str(tmp_path / "a")), Side(store.uri))
    assert [(key.scene, key.frame) for key in found.only_b] == [
        ("attic", "0000"),
        ("attic", "0001"),
        ("room", "0004"),
        ("room", "0005"),
    ]
    assert found.only_a == [] and found.same == 4
    back = diff(Side(store.uri), Side(str(tmp_path / "a")))
    assert back.only_a == found.only_b and back.only_b == []


def test_two_operators_of_a_store_and_kinds_that_cannot_be_compared(store, uri, world):
    world.label(store, "room", 4, 4)
    world.write(store, world.chunk("room", world.frames(4), 0, 4, "second"), spec="other:x")
    world.write(store, world.chunk("room", world.frames(4), 0, 4), spec="dino", kind="features")
    found = diff(Side(uri, operator="indoor"), Side(uri, operator="other:x"))
    expected = by_hand(rows(uri, operator="indoor"), rows(uri, operator="other:x"))
    assert found.other == 4 and found.transitions == expected
    unlike = diff(Side(uri, operator="indoor"), Side(uri, operator="dino"), every=True)
    assert len(unlike.unlike) == 4 and unlike.pixels == 0
    with pytest.raises(StoreError, match="by clip holds no labels"):
        diff(Side(uri, operator="clip"), Side(uri))


def test_features_that_differ_are_counted_by_frame(tmp_path, world):
    for name, version in (("a", "a"), ("b", "bb")):
        store = Store(str(tmp_path / name))
        store.prepare()
        world.write(store, world.chunk("room", world.frames(3), 0, 3, version), spec="dino", kind="features")
    found = diff(Side(str(tmp_path / "a")), Side(str(tmp_path / "b")))
    assert [change.pixels for change in found.changed] == [None] * 3 and found.transitions == Counter()
    assert np.array([change.of for change in found.changed]).tolist() == [13 * 18] * 3
    assert "px  in frame dino room 0000" in found.table()
