"""Quarantine shows what is not labelled now: one row a frame, and none for a frame that was labelled since."""

from pathlib import Path

import pytest

from pipeline.store import read_quarantine


def frames(uri, **where):
    rows = read_quarantine(uri, **where)
    return sorted(zip(rows["scene"], [f if isinstance(f, str) else None for f in rows["frame"]], strict=True), key=str)


def retired(uri):
    return list(Path(uri, "_history/quarantine").rglob("*.parquet"))


def test_rows_say_what_failed_where_and_why(store, uri, world):
    store.quarantine("indoor", [world.failed("room", "b"), world.failed("attic", None)], world.run(3))
    rows = read_quarantine(uri, scene="room")
    assert (
        rows.drop(columns="created_at").to_dict("records")
        == [
            {
                "operator": "indoor",
                "scene": "room",
                "frame": "b",
                "stage": "decode",
                "reason": "image_unreadable",
                "message": "cannot read b",
                "attempts": 1,
                "traceback_hash": None,
                "run_id": "run-003",
            }
        ]
        or rows["traceback_hash"].isna().all()
    )
    assert frames(uri) == [("attic", None), ("room", "b")] and frames(uri, operator="dino") == []


def test_a_frame_that_fails_again_has_one_row_the_newest(store, uri, world):
    for number in range(3):
        store.quarantine("indoor", [world.failed("room", name) for name in "ab"], world.run(number))
    store.quarantine("indoor", [world.failed("room", "a")], world.run(3))
    rows = read_quarantine(uri).set_index("frame")["run_id"].to_dict()
    assert rows == {"a": "run-003", "b": "run-002"}
    assert len(retired(uri)) == 3


def test_a_frame_that_is_labelled_later_leaves_quarantine(store, uri, world):
    store.quarantine("indoor", [world.failed("room", name) for name in ("0000", "0001", None)], world.run())
    world.write(store, world.chunk("room", world.frames(2), 0, 1), world.run(1))
    store.publish("indoor", "room", {"0000": "a-0000", "0001": "a-0001"})
    assert frames(uri) == [("room", "0001")] and len(retired(uri)) == 1


def test_a_frame_whose_relabelling_failed_stays_in_quarantine(store, uri, world):
    world.label(store, "room", 2, 2, "a")
    store.quarantine("indoor", [world.failed("room", "0000")], world.run(1))
    store.publish("indoor", "room", {"0000": "b-0000"})
    assert frames(uri) == [("room", "0000")]


def test_publishing_staged_frames_clears_them(store, uri, world):
    store.quarantine("indoor", [world.failed("room", "0001")], world.run())
    world.label(store, "room", 2, 2, staged=True)
    store.publish("indoor", "room")
    assert frames(uri) == []


def test_other_scenes_and_operators_are_not_touched(store, uri, world):
    for slug in ("indoor", "dino"):
        store.quarantine(slug, [world.failed(scene, "0000") for scene in ("room", "attic")], world.run())
    world.label(store, "room", 1, 1)
    store.publish("indoor", "room", {"0000": "a-0000"})
    assert frames(uri, operator="indoor") == [("attic", "0000")]
    assert frames(uri, operator="dino") == [("attic", "0000"), ("room", "0000")]


@pytest.mark.parametrize("frame", ["\udcff", "<script>", "a/b", "é"])
def test_odd_frame_names_can_be_quarantined(store, uri, world, frame):
    store.quarantine("indoor", [world.failed("room", frame)], world.run())
    assert len(read_quarantine(uri)) == 1
