"""Storage that says no: a clear `StoreError` in time, and never half a file under its final name."""

import errno
import os
import resource
import socket
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from pipeline.store import Store, read_labels, validate
from pipeline.store import store as store_module
from pipeline.store.files import open_files
from schemas.errors import ConfigError, StoreError

HERE = Path(__file__).parent


def test_an_unwritable_place_is_refused_with_a_remedy(tmp_path):
    (tmp_path / "file").write_text("in the way")
    for uri in (str(tmp_path / "file"), str(tmp_path / "file" / "store"), "/proc/lift3d/store"):
        with pytest.raises(StoreError, match="cannot (write|read)") as caught:
            Store(uri).prepare()
        assert caught.value.exit_code == 1 and caught.value.remedy


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody who may not write")
def test_a_folder_of_somebody_else_is_refused(tmp_path):
    script = (
        f"import sys, os; sys.path[:0] = [{str(HERE.parents[1])!r}]\n"
        "from pipeline.store import Store\nfrom schemas.errors import StoreError\nos.setuid(65534)\n"
        f"try:\n    Store({str(tmp_path / 'store')!r}).prepare()\nexcept StoreError as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd="/")
    assert "Permission denied" in done.stdout and "may write to" in done.stdout


def test_an_unknown_protocol_is_a_usage_error():
    with pytest.raises(ConfigError, match="nowhere"):
        Store("nowhere://bucket/store")


def test_a_full_disk_leaves_no_half_file(uri, tmp_path):
    script = (
        f"import sys; sys.path[:0] = [{str(HERE.parents[1])!r}, {str(HERE)!r}]\n"
        "import resource, conftest\nfrom pipeline.store import Store\nfrom schemas.errors import StoreError\n"
        f"store, world = Store({uri!r}), conftest.World()\nstore.prepare()\nworld.label(store, count=4)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))\n"
        "try:\n    world.label(store, 'attic', count=4)\nexcept StoreError as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd="/")
    assert "cannot write" in done.stdout and "free some space" in done.stdout
    names = [path.name for path in Path(uri).rglob("*") if path.is_file() and "scene=attic" in str(path)]
    assert names == [] and validate(uri).ok and set(read_labels(uri)["scene"]) == {"room"}
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 9000


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EACCES])
def test_a_failing_disk_leaves_no_half_file(store, uri, world, monkeypatch, code):
    world.label(store, count=2)

    def failing(descriptor):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", failing)
    with pytest.raises(StoreError, match=os.strerror(code)):
        world.label(store, "attic")
    monkeypatch.undo()
    assert validate(uri).ok and not list(Path(uri).rglob("*.tmp")) and len(read_labels(uri)) == 2


def test_reading_a_folder_as_a_file_is_a_store_error(store, uri):
    with pytest.raises(StoreError, match="cannot read"):
        open_files(uri).get("")


def test_an_object_store_does_what_a_disk_does(bucket, uri, world):
    for place in (bucket, uri):
        store = Store(place)
        store.prepare()
        world.label(store, "a=b/<c>", 7, 3)
        world.label(store, "room", 7, 3)
        world.write(store, world.chunk("room", world.frames(7), 2, 5, "b", staged=True), world.run(1))
        store.recover()
        store.publish("indoor", "room")
        store.quarantine("indoor", [world.failed("room", "x")], world.run(1))
        store.write_run("r", {"frames": 7})
    remote, local = open_files(bucket), open_files(uri)
    assert remote.list("") == local.list("")
    assert remote.get_many(list(remote.list("labels"))) == local.get_many(list(local.list("labels")))
    assert Store(bucket).done_all("indoor") == Store(uri).done_all("indoor")
    pd.testing.assert_frame_equal(read_labels(bucket), read_labels(uri))
    report = validate(bucket)
    assert report.ok and report.frames == 14 and report.quarantined == 1


def test_pandas_reads_an_object_store(bucket, world):
    store = Store(bucket)
    store.prepare()
    world.label(store, count=3)
    assert len(pd.read_parquet(f"{bucket}/labels")) == 3


def test_orphans_on_an_object_store_are_recovered(bucket, world):
    store = Store(bucket)
    store.prepare()
    world.label(store, count=6, size=3)
    files = open_files(bucket)
    markers = list(files.list("_commits"))
    files.delete(markers[0])
    labels = list(files.list("labels"))
    files.put(labels[1], files.get(labels[1])[:-9])
    found = store.recover()
    assert (found.adopted, found.damaged) == (1, 1) and len(store.done("indoor", "room")) == 3
    assert validate(bucket).ok


def test_a_missing_bucket_is_refused(bucket):
    with pytest.raises(StoreError, match="cannot write"):
        Store("s3://no-such-bucket-here/store").prepare()


def test_missing_credentials_are_refused_in_time(bucket, monkeypatch):
    import s3fs

    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    s3fs.S3FileSystem.clear_instance_cache()
    begin = time.monotonic()
    with pytest.raises(StoreError, match=r"cannot (read|write) .*redentials.*AWS_ACCESS_KEY_ID"):
        Store(bucket).prepare()
    assert time.monotonic() - begin < 10


def test_a_server_that_never_answers_is_given_up_in_time(bucket, monkeypatch):
    import s3fs

    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setattr(store_module, "PROBE_LIMIT_S", 0.5)
        s3fs.S3FileSystem.clear_instance_cache()
        with pytest.raises(StoreError, match="no answer in time"):
            Store(bucket).prepare()
