"""What recovery does with each thing that a killed run, or somebody else, can leave behind."""

import json
import os
import socket
import time
from contextlib import suppress
from pathlib import Path

import pytest

from pipeline.store import Store, read_labels, validate
from pipeline.store.markers import parse_marker
from pipeline.store.recover import Recovered
from schemas.errors import StoreError


def one(uri, pattern):
    (path,) = Path(uri).glob(pattern)
    return path


LABEL = "labels/*/*/*.parquet"
MARKER = "_commits/*/*/*.json"


@pytest.fixture
def labelled(store, world):
    world.label(store, "room", 4, 4)
    return store


def test_a_store_that_was_left_in_order_is_left_alone(labelled, uri):
    before = {path: path.stat().st_mtime_ns for path in Path(uri).rglob("*")}
    assert labelled.recover() == labelled.recover("indoor") == Recovered()
    assert {path: path.stat().st_mtime_ns for path in Path(uri).rglob("*")} == before


def test_a_whole_file_without_a_marker_is_adopted(labelled, uri):
    marker = one(uri, MARKER)
    content = marker.read_bytes()
    marker.unlink()
    assert labelled.done("indoor", "room") == {} and "no commit marker" in validate(uri).problems[0].message
    assert labelled.recover() == Recovered(adopted=1)
    assert marker.read_bytes() == content and validate(uri).ok


@pytest.mark.parametrize("with_marker", [True, False])
def test_a_truncated_file_is_set_aside_and_its_frames_are_to_do_again(labelled, uri, with_marker):
    path = one(uri, LABEL)
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    if not with_marker:
        one(uri, MARKER).unlink()
    assert not validate(uri).ok
    assert labelled.recover() == Recovered(damaged=1)
    assert labelled.done("indoor", "room") == {} and validate(uri).ok
    assert one(uri, "_history/*/*/damaged/*.parquet").read_bytes() == whole[:-100]


def test_a_marker_without_its_file_is_removed(labelled, uri):
    one(uri, LABEL).unlink()
    assert "gone" in validate(uri).problems[0].message
    assert labelled.recover() == Recovered(markers=1)
    assert labelled.done("indoor", "room") == {}


def test_a_broken_marker_is_rebuilt(labelled, uri):
    one(uri, MARKER).write_text('{"frames": ')
    with pytest.raises(StoreError, match=r"damaged.*rebuilding"):
        labelled.done("indoor", "room")
    assert labelled.recover() == Recovered(adopted=1, markers=1)
    assert len(labelled.done("indoor", "room")) == 4 and validate(uri).ok


def test_a_marker_that_does_not_count_its_frames_is_rebuilt(labelled, uri):
    marker = one(uri, MARKER)
    content = marker.read_bytes()
    marker.write_text(json.dumps({**json.loads(content), "frames": {}}))
    assert not validate(uri).ok
    assert labelled.recover() == Recovered(adopted=1, markers=1)
    assert marker.read_bytes() == content


@pytest.mark.parametrize("lie", [{"frames": dict.fromkeys(("0000", "x", "0002", "0003"), "a")}, {"sha256": 64 * "0"}])
def test_a_marker_that_lies_is_found_out_when_its_file_is_taken_apart(labelled, uri, world, lie):
    marker = one(uri, MARKER)
    marker.write_text(json.dumps({**json.loads(marker.read_bytes()), **lie}))
    world.write(labelled, world.chunk("room", world.frames(4), 0, 2, "b", staged=True), world.run(1))
    with pytest.raises(StoreError, match=r"000000-\w+.parquet does not hold what its marker says.*rebuilding"):
        labelled.publish("indoor", "room")
    assert read_labels(uri)["fingerprint"].tolist() == [f"a-000{k}" for k in range(4)]
    assert labelled.recover() == Recovered(adopted=1)
    labelled.publish("indoor", "room")
    assert read_labels(uri)["fingerprint"].tolist() == ["b-0000", "b-0001", "a-0002", "a-0003"]
    assert validate(uri).ok


def test_no_bit_of_a_markers_time_flips_unnoticed(labelled, uri):
    """2026-01-02t03:04 would be the same time, and the marker another file."""
    path = one(uri, MARKER)
    content = path.read_bytes()
    sound = parse_marker(content, path.name)
    start = content.index(sound.created_at.strftime("%Y-").encode())
    for at in range(start, content.index(b'"', start)):
        for bit in range(8):
            flipped = content[:at] + bytes([content[at] ^ (1 << bit)]) + content[at + 1 :]
            with suppress(StoreError):
                assert parse_marker(flipped, path.name) != sound, flipped[start : start + 30]


@pytest.mark.parametrize("frames", [("x", "y", "z", "w"), ("0000", "x", "y", "z")])
def test_a_marker_that_lies_is_found_out_though_its_file_stays_whole(labelled, uri, world, frames):
    marker = one(uri, MARKER)
    marker.write_text(json.dumps({**json.loads(marker.read_bytes()), "frames": dict.fromkeys(frames, "a")}))
    world.write(labelled, world.chunk("room", world.frames(4), 1, 3, "b", staged=True), world.run(1))
    with pytest.raises(StoreError, match="does not hold what its marker says"):
        labelled.publish("indoor", "room")
    assert labelled.recover() == Recovered(adopted=1)
    labelled.publish("indoor", "room")
    assert sorted(read_labels(uri)["fingerprint"]) == ["a-0000", "a-0003", "b-0001", "b-0002"] and validate(uri).ok


def test_a_chunk_that_lacks_a_frame_is_no_lie(store, uri, world):
    """Its name is that of all its frames, the marker has those that were labelled."""
    chunk = world.chunk("room", world.frames(3), 0, 3)
    records = [world.record(chunk.frames[k], chunk.fingerprints[k]) for k in (0, 2)]
    store.write("indoor", chunk, records, world.metadata("room"), world.run())
    world.write(store, world.chunk("room", world.frames(3), 0, 1, "b", staged=True), world.run(1))
    store.publish("indoor", "room")
    assert sorted(read_labels(uri)["fingerprint"]) == ["a-0002", "b-0000"] and validate(uri).ok


def test_a_file_that_changed_is_not_taken_apart(labelled, uri, world):
    path = one(uri, LABEL)
    whole = path.read_bytes()
    at = whole.index(b"\x89PNG") + 40
    path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    world.write(labelled, world.chunk("room", world.frames(4), 0, 2, "b", staged=True), world.run(1))
    with pytest.raises(StoreError, match="does not hold what its marker says"):
        labelled.publish("indoor", "room")
    assert labelled.recover() == Recovered(damaged=1)
    labelled.publish("indoor", "room")
    assert read_labels(uri)["fingerprint"].tolist() == ["b-0000", "b-0001"]
    assert sorted(labelled.done("indoor", "room")) == ["0000", "0001"] and validate(uri).ok


def test_a_frame_in_two_files_keeps_the_later_label(labelled, uri, world):
    # A killed run under another chunking left a file that nobody knew of when this one was written.
    world.write(labelled, world.chunk("room", world.frames(6), 2, 6, "b"), world.run(1))
    assert sorted(p.frame for p in validate(uri).problems) == ["0002", "0003"]
    assert labelled.recover() == Recovered(doubled=1)
    rows = read_labels(uri)
    assert rows["fingerprint"].tolist() == ["a-0000", "a-0001", "b-0002", "b-0003", "b-0004", "b-0005"]
    assert validate(uri).ok and labelled.recover() == Recovered()


def test_a_whole_staged_file_without_a_marker_counts_as_done(labelled, uri, world):
    world.write(labelled, world.chunk("room", world.frames(4), 0, 2, "b", staged=True), world.run(1))
    one(uri, "_staging/*/*/*.json").unlink()
    assert labelled.recover() == Recovered(adopted=1)
    assert labelled.done("indoor", "room")["0000"] == "b-0000"


def test_only_the_named_operator_is_touched(labelled, uri, world):
    world.write(labelled, world.chunk("room", world.frames(1), 0, 1), spec="dino")
    for marker in Path(uri).glob(MARKER):
        marker.unlink()
    assert labelled.recover("dino") == Recovered(adopted=1)
    assert labelled.done("indoor", "room") == {} and len(labelled.done("dino", "room")) == 1


def test_temporary_files_go_when_their_process_is_gone(labelled, uri):
    folder = one(uri, LABEL).parent
    host = socket.gethostname()
    gone = folder / f".000-ab.parquet.{2**22 + 1}@{host}.tmp"
    running = folder / f".000-cd.parquet.{os.getpid()}@{host}.tmp"
    elsewhere, old = folder / ".000-ef.parquet.1@other.tmp", folder / ".000-gh.parquet.1@other.tmp"
    for path in (gone, running, elsewhere, old):
        path.write_bytes(b"half")
    os.utime(old, (time.time() - 2 * 86400,) * 2)
    assert labelled.recover() == Recovered(temporaries=2)
    assert not gone.exists() and running.exists() and elsewhere.exists() and not old.exists()
    assert len(read_labels(uri)) == 4 and validate(uri).ok


def test_a_damaged_intent_is_an_error_with_a_remedy(labelled, uri):
    intent = Path(uri, "_publish/operator=indoor/scene=room/switch.json")
    intent.parent.mkdir(parents=True)
    intent.write_text("{")
    assert "interrupted" in validate(uri).problems[0].message
    with pytest.raises(StoreError, match=r"switch.json is damaged.*delete it"):
        labelled.recover()


def test_foreign_files_stay_and_are_reported(labelled, uri):
    stray = one(uri, LABEL).parent / "notes.txt"
    stray.write_text("mine")
    Path(uri, "labels", "backup.parquet").write_bytes(b"mine")
    assert labelled.recover() == Recovered() and stray.exists()
    assert {p.path for p in validate(uri).problems} == {
        "labels/backup.parquet",
        "labels/operator=indoor/scene=room/notes.txt",
    }


def test_prepare_twice_and_from_another_store_object(uri, world):
    Store(uri).prepare()
    world.label(Store(uri))
    Store(uri).prepare()
    assert len(Store(uri).done("indoor", "room")) == 10
