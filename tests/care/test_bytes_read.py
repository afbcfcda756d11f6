"""A query of one scene of a hundred reads a hundredth: bytes are counted where the file system hands them out."""

import json
import os

import fsspec
import pandas as pd
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from pipeline.store import Store, read_labels

SCENES, FRAMES = 100, 6
MOST = 0.03
WANTED = "scene0042_00"


class CountingFileSystem(MemoryFileSystem):
    """Files in memory; adds up every byte that is read of them."""

    protocol = "counting"
    store = {}
    pseudo_dirs = [""]
    read_bytes = 0
    cachable = False

    @classmethod
    def _strip_protocol(cls, path):
        return MemoryFileSystem._strip_protocol(path.replace("counting://", "memory://"))

    def _open(self, path, mode="rb", **options):
        file = super()._open(path, mode, **options)
        if mode != "rb":
            return file
        return _CountingFile(file.getvalue())

    def cat_file(self, path, start=None, end=None, **options):
        data = super().cat_file(path, start, end, **options)
        CountingFileSystem.read_bytes += len(data)
        return data


class _CountingFile:
    """A file that is open for reading."""

    def __init__(self, data):
        import io

        self._file, self.size, self.mode, self.closed = io.BytesIO(data), len(data), "rb", False

    def read(self, size=-1):
        data = self._file.read(size)
        CountingFileSystem.read_bytes += len(data)
        return data

    def readinto(self, buffer):
        count = self._file.readinto(buffer)
        CountingFileSystem.read_bytes += count
        return count

    def close(self):
        self.closed = True

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def __getattr__(self, name):
        return getattr(self._file, name)


@pytest.fixture(scope="module")
def big(roomy_world):
    """Address of a store of 100 scenes on that file system, and its size in bytes."""
    fsspec.register_implementation("counting", CountingFileSystem, clobber=True)
    uri = "counting://store"
    store = Store(uri)
    store.prepare()
    for number in range(SCENES):
        roomy_world.label(store, f"scene{number:04d}_00", FRAMES, FRAMES)
    yield uri, sum(len(file.getvalue()) for file in CountingFileSystem.store.values())
    CountingFileSystem.store.clear()


def share(size, query):
    """Share of the store's bytes that a query reads, and its rows."""
    CountingFileSystem.read_bytes = 0
    rows = query()
    found = CountingFileSystem.read_bytes / size
    if "LIFT3D_SHOW" in os.environ:
        print(json.dumps({"share": round(found, 5)}))
    return found, rows


def test_the_whole_is_counted_as_the_whole(big):
    uri, size = big
    found, rows = share(size, lambda: read_labels(uri))
    assert len(rows) == SCENES * FRAMES and found > 0.5


def test_one_scene_with_ours(big):
    uri, size = big
    found, rows = share(size, lambda: read_labels(uri, scene=WANTED))
    assert len(rows) == FRAMES and all(rows["label"].map(len)) and 0.005 < found <= MOST


def test_one_scene_with_plain_pandas(big):
    uri, size = big
    found, rows = share(size, lambda: pd.read_parquet(f"{uri}/labels", filters=[("scene", "==", WANTED)]))
    assert len(rows) == FRAMES and all(rows["label"].map(len)) and 0.005 < found <= MOST


def test_one_scene_with_duckdb(big):
    duckdb = pytest.importorskip("duckdb")
    uri, size = big
    with duckdb.connect() as connection:
        connection.register_filesystem(CountingFileSystem())
        query = (
            f"select * exclude (created_at) from read_parquet('{uri}/labels/**/*.parquet', hive_partitioning = true, "
            f"hive_types_autocast = false) where scene = '{WANTED}'"
        )
        found, rows = share(size, lambda: connection.sql(query).fetchall())
    assert len(rows) == FRAMES and 0.005 < found <= MOST
