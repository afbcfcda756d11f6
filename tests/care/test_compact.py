"""Compaction makes few files of many, changes no row, and leaves resuming as it was."""

import random

import pandas as pd
import pytest

from pipeline.care import compact as compact_module
from pipeline.care.compact import compact
from pipeline.care.tags import make_tag, rollback
from pipeline.store import Store, read_labels, validate
from pipeline.store.files import open_files
from schemas.errors import StoreError


def content(uri, **chosen):
    """Every column, run stamps too."""
    return read_labels(uri, **chosen).sort_values(["operator", "scene", "frame"], ignore_index=True)


def label_files(uri):
    return list(open_files(uri).list("labels"))


def test_many_files_become_one_with_the_same_rows(versions, uri, again):
    again(versions)
    rows, done = content(uri), versions.done_all("indoor")
    result = compact(uri)
    assert (result.shelves, result.files_before, result.files_after, result.frames) == (2, 6, 2, 12)
    assert len(label_files(uri)) == 2
    pd.testing.assert_frame_equal(content(uri), rows)
    assert versions.done_all("indoor") == done
    assert validate(uri).problems == ()
    assert compact(uri).shelves == 0


def test_rows_stay_in_the_datasets_order(store, uri, world):
    for start in random.Random(0).sample(range(0, 12, 2), 6):
        world.write(store, world.chunk("room", world.frames(12), start, start + 2))
    compact(uri)
    assert read_labels(uri, columns=["frame"])["frame"].tolist() == [f"{i:04d}" for i in range(12)]


def test_a_run_after_a_compaction_relabels_what_it_must_and_keeps_the_rest(versions, uri, again):
    compact(uri)
    again(versions, "b", 1, (1, 4))
    done = versions.done("indoor", "room")
    assert done == {f"000{i}": f"{'b' if i in (1, 4) else 'a'}-000{i}" for i in range(6)}
    assert validate(uri).problems == () and len(read_labels(uri)) == 12


def test_a_tag_from_before_still_reads_and_rolls_back(versions, uri):
    rows, files = content(uri), label_files(uri)
    make_tag(uri, "before")
    compact(uri)
    pd.testing.assert_frame_equal(content(uri, tag="before"), rows)
    rollback(uri, "before")
    assert label_files(uri) == files and validate(uri).problems == ()
    pd.testing.assert_frame_equal(content(uri), rows)


def test_files_that_say_different_things_of_their_rows_stay_apart(store, uri, world):
    for i, code in enumerate(("1", "1", "2", "2")):
        chunk = world.chunk("room", world.frames(8), 2 * i, 2 * i + 2)
        metadata = world.metadata("room").model_copy(update={"provenance": {"code": code}})
        records = [
            world.record(chunk.frames[t], mark) for t, mark in zip(chunk.targets, chunk.fingerprints, strict=True)
        ]
        store.write("indoor", chunk, records, metadata, world.run())
    rows = content(uri)
    assert compact(uri).files_after == 2
    pd.testing.assert_frame_equal(content(uri), rows)


def test_merged_files_stay_below_the_size_that_is_asked_for(versions, uri):
    size = max(open_files(uri).list("labels").values())
    assert compact(uri, most_bytes=2 * size + 100).files_after == 4
    assert compact(uri, most_bytes=1).shelves == 0


def test_only_what_is_chosen_is_compacted(versions, uri, world):
    for chunk in world.chunks("room", 4, 2):
        world.write(versions, chunk, spec="depth:x", kind="scalar")
    assert compact(uri, operator="depth:x").files_after == 1
    assert compact(uri, scene="attic").shelves == 1
    assert len(label_files(uri)) == 1 + 1 + 3
    with pytest.raises(StoreError, match="holds nothing of operator 'clip'"):
        compact(uri, operator="clip")


def test_a_compaction_that_is_killed_anywhere_loses_nothing(tmp_path, world, survives):
    step, ended = 0, False
    while not ended:
        uri = str(tmp_path / str(step))
        store = Store(uri)
        store.prepare()
        world.label(store, "room", 6, 2)
        rows, done = content(uri), store.done_all("indoor")
        ended = survives(compact_module, uri, step, lambda uri=uri: compact(uri))
        store.recover()
        assert store.done_all("indoor") == done, f"step {step}"
        pd.testing.assert_frame_equal(content(uri), rows)
        store.publish("indoor", "room", done["room"])
        compact(uri)
        pd.testing.assert_frame_equal(content(uri), rows)
        assert validate(uri).problems == () and len(label_files(uri)) == 1, f"step {step}"
        step += 1
    assert step > 8


def test_an_object_store_is_compacted(bucket, world):
    store = Store(bucket)
    store.prepare()
    world.label(store, "room", 6, 2)
    rows = content(bucket)
    assert compact(bucket).files_after == 1
    pd.testing.assert_frame_equal(content(bucket), rows)
    assert validate(bucket).problems == ()
