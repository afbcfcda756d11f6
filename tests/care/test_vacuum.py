"""A vacuum removes what nothing needs, tells before it does, and never touches what is visible or tagged."""

import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pandas as pd
import pytest

from pipeline.care import vacuum as vacuum_module
from pipeline.care.tags import make_tag
from pipeline.care.vacuum import DAY_S, vacuum
from pipeline.store import Store, read_labels, validate
from pipeline.store.files import open_files
from schemas.errors import StoreError

LATER = 40 * DAY_S


def found(result, category):
    return [file.path for file in result.files if file.category == category]


def clutter(store, world, again):
    """One of everything that a vacuum is for, and a tag that needs some of what was replaced."""
    make_tag(store.uri, "before")
    again(store)
    again(store, "c", 2)
    world.write(store, world.pick("attic", 6, [0], "d", staged=True), world.run(3))
    ended = subprocess.Popen(["true"])
    ended.wait()
    root = Path(store.uri)
    shelf = root / "labels" / "operator=indoor" / "scene=attic"
    (shelf / f".x.parquet.{ended.pid}@{socket.gethostname()}.tmp").write_bytes(b"half")
    (shelf / "000099-0123456789ab.parquet").write_bytes(b"PAR1 and no more")
    marker = next((root / "_commits").rglob("scene=attic/000002*.json"))
    (root / marker.relative_to(root)).rename(marker.with_name("000098-0123456789ab.json"))
    return store


def test_a_dry_run_lists_everything_with_sizes_and_removes_nothing(versions, world, again):
    store = clutter(versions, world, again)
    before = open_files(store.uri).list("")
    result = vacuum(store.uri, now=time.time() + LATER)
    assert open_files(store.uri).list("") == before and not result.applied
    assert [path.rpartition("/")[2].split(".")[1] for path in found(result, "temporary")] == ["x"]
    assert [path.rpartition("/")[2] for path in found(result, "orphan")] == [
        "000098-0123456789ab.json",
        "000099-0123456789ab.parquet",
    ]
    assert {path.rpartition(".")[2] for path in found(result, "staging")} == {"json", "parquet"}
    assert len(found(result, "history")) == 1 and result.kept_for_tags[0] == 2
    assert all(file.bytes == before[file.path] and file.days > 39 for file in result.files)
    assert result.bytes == sum(file.bytes for file in result.files) > 0
    assert f"{result.bytes:,} bytes in 6 files would be removed" in result.table()


def test_what_is_visible_or_tagged_survives_and_the_rest_goes(versions, world, again):
    store = clutter(versions, world, again)
    shown, tagged = read_rows(store.uri), read_rows(store.uri, tag="before")
    listed = vacuum(store.uri, now=time.time() + LATER)
    result = vacuum(store.uri, apply=True, now=time.time() + LATER)
    assert {file.path for file in result.files} == {file.path for file in listed.files} and result.applied
    pd.testing.assert_frame_equal(read_rows(store.uri), shown)
    pd.testing.assert_frame_equal(read_rows(store.uri, tag="before"), tagged)
    assert validate(store.uri).problems == ()
    assert vacuum(store.uri, now=time.time() + LATER).files == ()


def read_rows(uri, **chosen):
    """Labels by plain names; the damaged file of `clutter` stands in the way of a whole scan."""
    for path in Path(uri).rglob("labels/**/000099*.parquet"):
        path.rename(path.with_name("_aside"))
    rows = read_labels(uri, **chosen).sort_values(["scene", "frame"], ignore_index=True)
    for path in Path(uri).rglob("labels/**/_aside"):
        path.rename(path.with_name("000099-0123456789ab.parquet"))
    return rows


def test_young_files_stay(versions, world, again):
    store = clutter(versions, world, again)
    result = vacuum(store.uri, apply=True)
    assert found(result, "staging") == found(result, "history") == [] and len(found(result, "temporary")) == 1
    assert len(open_files(store.uri).list("_history")) == 4 and store.done("indoor", "attic")["0000"] == "d-0000"


def test_age_counts_from_the_day_a_label_was_replaced(versions, uri, again):
    for path in Path(uri).rglob("*.parquet"):
        os.utime(path, (0, 0))
    again(versions)
    assert vacuum(uri, keep_days=1).files == ()
    assert len(vacuum(uri, keep_days=0).files) == 2


def test_what_a_killed_switch_needs_is_no_leftover(versions, world, uri, monkeypatch):
    world.write(versions, world.pick("room", 6, range(3), "b", staged=True), world.run(1))
    monkeypatch.setattr("pipeline.store.switch.finish", lambda *_: None)
    versions.publish("indoor", "room")
    monkeypatch.undo()
    assert found(vacuum(uri, keep_days=0, now=time.time() + LATER), "staging") == []
    vacuum(uri, keep_days=0, apply=True, now=time.time() + LATER)
    assert versions.done("indoor", "room")["0001"] == "b-0001" and validate(uri).problems == ()


class Killed(BaseException):
    """Stands for the process's end."""


def test_a_vacuum_that_is_killed_anywhere_can_be_repeated(tmp_path, versions, world, again, monkeypatch):
    store = clutter(versions, world, again)
    tagged = read_rows(store.uri, tag="before")
    for step in range(5):
        copy = str(tmp_path / f"copy{step}")
        shutil.copytree(store.uri, copy)
        files, left = open_files(copy), [step]

        def delete(path, really=files.delete, left=left):
            left[0] -= 1
            if left[0] < 0:
                raise Killed
            really(path)

        files.delete = delete
        monkeypatch.setattr(vacuum_module, "open_store", lambda _, files=files: files)
        with pytest.raises(Killed):
            vacuum(copy, apply=True, now=time.time() + LATER)
        monkeypatch.undo()
        vacuum(copy, apply=True, now=time.time() + LATER)
        assert validate(copy).problems == () and len(read_labels(copy)) == 12
        pd.testing.assert_frame_equal(read_rows(copy, tag="before"), tagged)


def test_an_object_store_is_vacuumed_by_its_own_clock(bucket, world, again):
    store = Store(bucket)
    store.prepare()
    world.label(store, "room", 6, 2)
    again(store)
    assert vacuum(bucket, keep_days=1).files == ()
    result = vacuum(bucket, keep_days=1, apply=True, now=time.time() + 2 * DAY_S)
    assert len(found(result, "history")) == 2 and not open_files(bucket).list("_history")
    assert validate(bucket).problems == ()


def test_no_store_and_no_sense_are_errors(tmp_path, uri, store):
    with pytest.raises(StoreError, match="no label store"):
        vacuum(str(tmp_path / "nothing"))
    with pytest.raises(StoreError, match="cannot be negative"):
        vacuum(uri, keep_days=-1)
