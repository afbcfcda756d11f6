"""Tags remember labels, a rollback shows them again, and nothing in between loses or doubles a frame."""

import json
from pathlib import Path

import pandas as pd
import pytest

from pipeline.care import tags
from pipeline.care.tags import delete_tag, list_tags, make_tag, rollback
from pipeline.care.vacuum import vacuum
from pipeline.store import Store, read_labels, validate
from pipeline.store.files import open_files
from pipeline.store.lease import hold_lease
from schemas.errors import LeaseError, StoreError


def content(uri, **chosen):
    rows = read_labels(uri, **chosen)
    return rows.sort_values(["operator", "scene", "frame"], ignore_index=True)


def test_labels_can_be_read_at_a_tag_after_they_were_replaced(versions, uri, again):
    before = content(uri)
    tag = make_tag(uri, "before")
    assert tag.frames == 12 and tag.bytes == sum(open_files(uri).list("labels").values())
    again(versions)
    assert set(content(uri)["fingerprint"]) != set(before["fingerprint"])
    pd.testing.assert_frame_equal(content(uri, tag="before"), before)
    room = content(uri, tag="before", scene="room", operator="indoor", columns=["frame", "fingerprint"])
    assert room["fingerprint"].tolist() == [f"a-000{i}" for i in range(6)] and set(room["scene"]) == {"room"}
    assert content(uri, tag="before", operator="other").empty


def test_a_rollback_shows_the_tagged_labels_and_can_be_taken_back(versions, uri, again):
    before = content(uri)
    make_tag(uri, "before")
    again(versions)
    versions_now = content(uri)
    make_tag(uri, "after")
    done = rollback(uri, "before")
    assert (done.shelves, done.unchanged, done.frames) == (1, 1, 12)
    pd.testing.assert_frame_equal(content(uri), before)
    pd.testing.assert_frame_equal(content(uri, tag="after"), versions_now)
    assert validate(uri).problems == ()
    rollback(uri, "after")
    pd.testing.assert_frame_equal(content(uri), versions_now)
    assert validate(uri).problems == () and rollback(uri, "after").shelves == 0


def test_scenes_that_came_after_the_tag_leave_with_the_rollback(versions, uri, world, again):
    make_tag(uri, "before")
    world.label(versions, "cellar", 3, 3)
    world.write(versions, world.chunk("room", world.frames(2), 0, 2), spec="dino", kind="features")
    rollback(uri, "before", operator="indoor")
    rows = read_labels(uri, columns=["frame"])
    assert {(row.operator, row.scene) for row in rows.itertuples()} == {
        ("indoor", "room"),
        ("indoor", "attic"),
        ("dino", "room"),
    }
    rollback(uri, "before")
    assert set(read_labels(uri, columns=["frame"])["operator"]) == {"indoor"} and validate(uri).ok


def test_after_a_rollback_the_next_run_resumes_from_what_is_shown(versions, uri, again):
    make_tag(uri, "before")
    again(versions)
    rollback(uri, "before")
    assert versions.done("indoor", "room") == {f"000{i}": f"a-000{i}" for i in range(6)}
    again(versions, "c", 2)
    assert versions.done("indoor", "room")["0002"] == "c-0002" and validate(uri).problems == ()


def test_a_rollback_that_is_killed_anywhere_is_finished_or_undone(tmp_path, world, again, survives):
    step, ended = 0, False
    while not ended:
        uri = str(tmp_path / str(step))
        store = Store(uri)
        store.prepare()
        world.label(store, "room", 6, 2)
        before = content(uri)
        make_tag(uri, "before")
        again(store)
        after = content(uri)
        ended = survives(tags, uri, step, lambda uri=uri: rollback(uri, "before"))
        store.recover()
        shown = content(uri)
        assert shown.equals(before) or shown.equals(after), f"step {step}"
        rollback(uri, "before")
        pd.testing.assert_frame_equal(content(uri), before)
        assert validate(uri).problems == (), f"step {step}"
        step += 1
    assert step > 10


def test_a_rollback_whose_labels_were_vacuumed_says_so_and_changes_nothing(versions, uri, again):
    make_tag(uri, "before")
    again(versions)
    now = content(uri)
    (old,) = {path for path in open_files(uri).list("_history") if "scene=room/000002" in path}
    Path(uri, old).unlink()
    with pytest.raises(StoreError, match=r"1 label files \(2 frames\) of the tag 'before' are gone, in indoor/room"):
        rollback(uri, "before")
    with pytest.raises(StoreError, match="are gone"):
        read_labels(uri, tag="before")
    assert len(read_labels(uri, tag="before", scene="attic")) == 6
    pd.testing.assert_frame_equal(content(uri), now)
    assert [problem.path for problem in validate(uri).problems] == ["_tags/before.json"]


def test_a_damaged_old_file_stops_a_rollback_before_anything_changes(versions, uri, again):
    make_tag(uri, "before")
    again(versions)
    again(versions, scene="attic")
    now = content(uri)
    old = sorted(Path(uri).glob("_history/operator=indoor/scene=room/*"))[-1]
    old.write_bytes(old.read_bytes()[:-1] + b"?")
    with pytest.raises(StoreError, match="damaged"):
        rollback(uri, "before")
    pd.testing.assert_frame_equal(content(uri), now)
    assert not open_files(uri).list("_staging")


@pytest.mark.parametrize("name", ["", ".x", "a/b", "..", "a b", "x" * 65, "-x"])
def test_odd_names_are_refused(versions, uri, name):
    with pytest.raises(StoreError, match="no name for a tag"):
        make_tag(uri, name)
    assert not open_files(uri).list("_tags")


def test_tags_are_listed_never_replaced_and_deleted_on_request(versions, uri, again):
    make_tag(uri, "one")
    again(versions)
    make_tag(uri, "two")
    assert [tag.name for tag in list_tags(uri)] == ["one", "two"]
    with pytest.raises(StoreError, match="has a tag 'two' already"):
        make_tag(uri, "two")
    delete_tag(uri, "one")
    with pytest.raises(StoreError, match=r"no tag 'one'.*two"):
        delete_tag(uri, "one")
    with pytest.raises(StoreError, match=r"no tag 'one'.*two"):
        read_labels(uri, tag="one")


def test_a_tag_that_was_tampered_with_is_refused(versions, uri):
    make_tag(uri, "one")
    path = Path(uri, "_tags", "one.json")
    document = json.loads(path.read_text())
    document["shelves"][0]["files"].pop()
    path.write_text(json.dumps(document))
    with pytest.raises(StoreError, match="changed or renamed"):
        read_labels(uri, tag="one")
    with pytest.raises(StoreError, match="changed or renamed"):
        vacuum(uri)
    delete_tag(uri, "one")
    assert vacuum(uri).files == ()


def test_a_tag_cannot_lead_out_of_the_store(versions, uri):
    tag = make_tag(uri, "one")
    shelves = [shelf.model_copy(update={"operator": "../../../outside"}) for shelf in tag.shelves]
    evil = tag.model_copy(update={"shelves": tuple(shelves)}).signed()
    Path(uri, "_tags", "one.json").write_text(evil.model_dump_json())
    with pytest.raises(StoreError, match="damaged"):
        rollback(uri, "one")
    assert {path.name for path in Path(uri).parent.iterdir()} == {"store"}


def test_what_changes_labels_waits_for_runs(versions, uri):
    make_tag(uri, "one")
    with hold_lease(open_files(uri), "indoor", "run-at-work"):
        for action in (lambda: make_tag(uri, "two"), lambda: rollback(uri, "one"), lambda: vacuum(uri, apply=True)):
            with pytest.raises(LeaseError, match="run-at-work"):
                action()


def test_tags_and_rollback_on_an_object_store(bucket, world, again):
    store = Store(bucket)
    store.prepare()
    world.label(store, "room", 6, 2)
    before = content(bucket)
    make_tag(bucket, "before")
    again(store)
    pd.testing.assert_frame_equal(content(bucket, tag="before"), before)
    rollback(bucket, "before")
    pd.testing.assert_frame_equal(content(bucket), before)
    assert validate(bucket).problems == ()


def test_nothing_is_tagged_where_there_is_nothing(uri, tmp_path):
    with pytest.raises(StoreError, match="no label store"):
        make_tag(str(tmp_path / "nothing"), "x")
    Store(uri).prepare()
    with pytest.raises(StoreError, match="no labels to tag"):
        make_tag(uri, "x")
