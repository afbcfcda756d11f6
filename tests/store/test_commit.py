"""Committing, resuming and relabelling on a local disk."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from pipeline.store import RunStamp, Store, read_labels, validate
from schemas.errors import StoreError
from schemas.store import BLOB_COLUMNS, LABEL_SCHEMA

ROOT = Path(__file__).parents[2]


def files_under(uri, folder):
    return sorted(p for p in Path(uri, folder).rglob("*") if p.is_file())


def test_a_committed_chunk_is_one_file_in_target_order_and_is_done(store, uri, world):
    chunk = world.chunk("room", world.frames(6), 1, 5)
    chunk = replace(chunk, targets=(3, 1, 2, 4), fingerprints=("x3", "x1", "x2", "x4"))
    commit = world.write(store, chunk)
    (path,) = files_under(uri, "labels")
    assert str(path).endswith(commit.path) and path.stat().st_size == commit.bytes and commit.rows == 4
    assert read_labels(uri)["frame"].tolist() == ["0003", "0001", "0002", "0004"]
    assert store.done("indoor", "room") == {"0003": "x3", "0001": "x1", "0002": "x2", "0004": "x4"}
    assert store.done("indoor", "attic") == {} and store.done("dino", "room") == {}
    assert validate(uri).ok


def test_done_all_is_done_of_every_scene(store, world):
    for scene in ("a", "b=/c", "x y"):
        world.label(store, scene, count=5)
    everything = store.done_all("indoor")
    assert everything == {scene: store.done("indoor", scene) for scene in ("a", "b=/c", "x y")}


def test_the_marker_describes_its_file(store, uri, world):
    commit = world.write(store, world.chunk("room", world.frames(3), 0, 3))
    (marker,) = files_under(uri, "_commits")
    document = json.loads(marker.read_text())
    assert document["sha256"] == commit.sha256 and document["bytes"] == commit.bytes and document["rows"] == 3
    assert document["frames"] == {"0000": "a-0000", "0001": "a-0001", "0002": "a-0002"}
    assert document["run_id"] == "run-000" and marker.stem == Path(commit.path).stem


def test_the_file_is_plain_parquet_with_blobs_as_they_are(store, uri, world):
    world.write(store, world.chunk("room", world.frames(70), 0, 70))
    (path,) = files_under(uri, "labels")
    file = pq.ParquetFile(path)
    assert file.schema_arrow.equals(LABEL_SCHEMA) and file.num_row_groups == 2
    group = file.metadata.row_group(0)
    columns = {group.column(i).path_in_schema.split(".")[0]: group.column(i) for i in range(group.num_columns)}
    assert {name for name, column in columns.items() if column.compression == "UNCOMPRESSED"} == set(BLOB_COLUMNS)
    assert columns["frame"].statistics.min == "0000" and columns["frame"].has_offset_index
    assert columns["label"].statistics is None


def test_what_depends_on_the_run_is_only_its_stamp(tmp_path, world):
    stores = [Store(str(tmp_path / name)) for name in "abc"]
    chunk = world.chunk("room", world.frames(5), 0, 5)
    for store, run in zip(stores, (world.run(), world.run(), world.run(7)), strict=True):
        store.prepare()
        world.write(store, chunk, run)
    paths = [files_under(store.uri, "labels")[0] for store in stores]
    assert paths[0].name == paths[2].name
    assert paths[0].read_bytes() == paths[1].read_bytes() != paths[2].read_bytes()
    first, _, third = (read_labels(store.uri).drop(columns=["run_id", "created_at"]) for store in stores)
    pd.testing.assert_frame_equal(first, third)


def test_another_process_writes_the_same_bytes(tmp_path, uri, store, world):
    script = (
        f"import sys; sys.path[:0] = [{str(ROOT)!r}, {str(Path(__file__).parent)!r}]\n"
        "from conftest import World\nfrom pipeline.store import Store\n"
        f"store = Store({str(tmp_path / 'other')!r}); store.prepare(); World().label(store, count=5)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
    world.label(store, count=5)
    mine, other = files_under(uri, "labels"), files_under(tmp_path / "other", "labels")
    assert [p.name for p in mine] == [p.name for p in other]
    assert [p.read_bytes() for p in mine] == [p.read_bytes() for p in other]


def test_writing_a_chunk_again_replaces_it(store, uri, world):
    for run in (0, 1):
        world.label(store, count=6, size=3, run=world.run(run))
    rows = read_labels(uri)
    assert len(rows) == 6 and set(rows["run_id"]) == {"run-001"} and validate(uri).ok


def test_frames_that_failed_leave_a_shorter_file_and_can_follow_later(store, uri, world):
    chunk = world.chunk("room", world.frames(4), 0, 4)
    records = [world.record(chunk.frames[t], f"a-{chunk.frames[t].id}") for t in (3, 0, 1)]
    store.write("indoor", chunk, records, world.metadata("room"), world.run())
    assert list(store.done("indoor", "room")) == ["0000", "0001", "0003"]
    world.write(store, world.chunk("room", world.frames(4), 2, 3))
    assert sorted(read_labels(uri)["frame"]) == ["0000", "0001", "0002", "0003"] and validate(uri).ok


def test_a_chunk_without_labels_writes_nothing(store, uri, world):
    commit = store.write("indoor", world.chunk("room", world.frames(2), 0, 2), [], world.metadata("room"), world.run())
    assert commit.rows == 0 and not files_under(uri, "labels") and not files_under(uri, "_commits")


@pytest.mark.parametrize("change", ["fingerprint", "frame", "kind", "twice", "scene", "operator"])
def test_records_that_do_not_fit_the_chunk_are_refused(store, uri, world, change):
    chunk = world.chunk("room", world.frames(4), 0, 2)
    record, metadata = world.record(chunk.frames[0], "a-0000"), world.metadata("room")
    records = [record, record] if change == "twice" else [record]
    if change == "fingerprint":
        records = [replace(record, fingerprint="b")]
    elif change == "frame":
        records = [replace(record, frame=chunk.frames[3])]
    elif change == "kind":
        records = [world.record(chunk.frames[0], "a-0000", "scalar")]
    elif change == "scene":
        metadata = world.metadata("attic")
    elif change == "operator":
        metadata = world.metadata("room", spec="dino")
    with pytest.raises(StoreError) as caught:
        store.write("indoor", chunk, records, metadata, world.run())
    assert caught.value.scene == "room" and caught.value.remedy and not files_under(uri, "labels")


def test_a_record_that_cannot_be_encoded_is_named_with_its_scene(store, world):
    chunk = world.chunk("room", world.frames(1), 0, 1)
    record = world.record(chunk.frames[0], "a-0000")
    with pytest.raises(StoreError, match="scene 'room', frame '0000'"):
        store.write("indoor", chunk, [replace(record, value=record.value[1:])], world.metadata("room"), world.run())


@pytest.mark.parametrize("sizes", [(5, 3, 8), (8, 5, 3), (1, 12, 1)])
def test_relabelling_with_other_chunk_sizes_leaves_one_version_and_keeps_the_old_ones(store, uri, world, sizes):
    for number, (size, version) in enumerate(zip(sizes, "abc", strict=True)):
        world.label(store, "room", 12, size, version, world.run(number), staged=number > 0)
        store.publish("indoor", "room")
        rows = read_labels(uri)
        assert sorted(rows["frame"]) == [frame.id for frame in world.frames(12)]
        assert set(rows["fingerprint"]) == {f"{version}-{frame.id}" for frame in world.frames(12)}
        assert validate(uri).ok and store.done("indoor", "room") == dict(
            zip(rows["frame"], rows["fingerprint"], strict=True)
        )
    old = pd.concat([pq.read_table(path).to_pandas() for path in files_under(uri, "_history")])
    assert sorted(old["fingerprint"]) == sorted(f"{v}-{frame.id}" for v in "ab" for frame in world.frames(12))
    assert not files_under(uri, "_staging") and not files_under(uri, "_publish")


def test_frames_that_are_not_replaced_survive_the_switch_as_they_are(store, uri, world):
    world.label(store, "room", 10, 5)
    before = read_labels(uri).set_index("frame")
    world.write(store, world.chunk("room", world.frames(10), 3, 7, "b", staged=True), world.run(1))
    store.publish("indoor", "room")
    after = read_labels(uri).set_index("frame")
    changed = {"0003", "0004", "0005", "0006"}
    assert set(after.index[after["run_id"] == "run-001"]) == changed
    kept = [frame for frame in before.index if frame not in changed]
    pd.testing.assert_frame_equal(after.loc[kept], before.loc[kept])
    assert validate(uri).ok


def test_a_staged_chunk_is_done_but_not_visible_until_it_is_published(store, uri, world):
    world.label(store, "room", 4, 2)
    world.write(store, world.chunk("room", world.frames(4), 0, 2, "b", staged=True), world.run(1))
    assert store.done("indoor", "room") == {"0000": "b-0000", "0001": "b-0001", "0002": "a-0002", "0003": "a-0003"}
    assert set(read_labels(uri)["run_id"]) == {"run-000"}
    assert {problem.path.partition("/")[0] for problem in validate(uri).problems} == {"_staging"}


def test_labels_staged_by_a_killed_run_with_other_settings_are_dropped(store, uri, world):
    world.label(store, "room", 6, 3, "a")
    world.write(store, world.chunk("room", world.frames(6), 0, 3, "b", staged=True), world.run(1))
    world.write(store, world.chunk("room", world.frames(6), 0, 2, "c", staged=True), world.run(2))
    wanted = {frame.id: f"c-{frame.id}" for frame in world.frames(6)}
    store.publish("indoor", "room", wanted)
    rows = read_labels(uri)
    assert sorted(rows["fingerprint"]) == ["a-0002", "a-0003", "a-0004", "a-0005", "c-0000", "c-0001"]
    assert not files_under(uri, "_staging") and validate(uri).ok


def test_going_back_to_labels_of_the_same_name_keeps_both(store, uri, world):
    world.label(store, "room", 4, 4, "a")
    world.label(store, "room", 4, 4, "a", world.run(1), staged=True)
    store.publish("indoor", "room")
    assert set(read_labels(uri)["run_id"]) == {"run-001"} and validate(uri).ok
    assert len(files_under(uri, "_history")) == 1


def test_publishing_with_nothing_staged_changes_nothing(store, uri, world):
    world.label(store)
    before = [path.stat().st_mtime_ns for path in files_under(uri, "")]
    store.publish("indoor", "room")
    store.publish("indoor", "elsewhere", {})
    assert [path.stat().st_mtime_ns for path in files_under(uri, "")] == before


def test_a_later_version_of_the_store_is_refused_everywhere(store, uri):
    Path(uri, "_lift3d.json").write_text('{"format": "lift3d-labels", "schema_version": 99}')
    for refused in (store.prepare, lambda: read_labels(uri)):
        with pytest.raises(StoreError, match="version 99.*upgrade"):
            refused()
    assert "version 99" in validate(uri).problems[0].message


def test_run_stamps_sort_by_time_and_are_path_safe(world):
    first, second = RunStamp.now(), RunStamp.now()
    assert first.run_id != second.run_id and first.created_at <= second.created_at
    with pytest.raises(StoreError):
        RunStamp("../x", first.created_at)
