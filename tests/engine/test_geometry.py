"""Depths that stay in the store: the same labels to the bit, no second sweep, and no harm when they are damaged."""

import multiprocessing
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pipeline.arrays import pack
from pipeline.care.vacuum import vacuum
from pipeline.run import run_labeling
from pipeline.store import read_run, validate
from pipeline.store.geometry import CURRENT, Geometry, unpacked
from schemas.config import LabelingConfig

Rooms = Callable[..., Path]
Build = Callable[..., LabelingConfig]
Labels = Callable[[LabelingConfig], pd.DataFrame]

FRAMES = 4
KEY = "ab" * 32


@pytest.fixture
def settings(config: Build) -> Build:
    """A config of an RGB lift whose sweeps stay in the store."""

    def build(store: str, spec: str | None = None, geometry: str = "store", **lift: Any) -> LabelingConfig:
        operator = {"operator": {"spec": spec, "kwargs": {}}} if spec else {}
        engine = {"kind": "local", "geometry": geometry}
        return config(store, **operator, lift={"method": "rgb", "planes": 16, **lift}, engine=engine)

    return build


def swept(config: LabelingConfig) -> int:
    """Views that a run sweeps."""
    found: int = read_run(config.store, run_labeling(config).run_id)["counts"]["views"].get("swept", 0)
    return found


def kept(config: LabelingConfig) -> list[Path]:
    """Files of sweeps."""
    return sorted(Path(config.store, "geometry").rglob("*.zst"))


def test_an_operator_that_is_added_later_sweeps_nothing(rooms: Rooms, settings: Build, labels: Labels) -> None:
    rooms(a=FRAMES)
    assert swept(settings("kept")) == FRAMES == len(kept(settings("kept")))
    assert swept(settings("kept", "edges")) == 0
    assert swept(settings("kept", "edges", self_weight=3.0)) == 0, "no depth depends on that"
    assert swept(settings("kept", "edges", planes=24)) == FRAMES
    assert not validate(settings("kept").store).problems
    for spec in (None, "edges"):
        run_labeling(settings("plain", spec, "none"))
    run_labeling(settings("kept", "edges"))
    pd.testing.assert_frame_equal(labels(settings("kept")), labels(settings("plain")))
    assert not kept(settings("plain"))


def test_a_changed_image_is_swept_again_with_those_that_look_at_it(rooms: Rooms, settings: Build) -> None:
    image = rooms(a=FRAMES) / "a" / "color" / "1.jpg"
    run_labeling(settings("store"))
    image.write_bytes((image.parent / "2.jpg").read_bytes())
    assert 0 < swept(settings("store")) <= FRAMES
    assert len(kept(settings("store"))) > FRAMES


def _hostile() -> list[bytes]:
    """Files that are damaged, and whole ones that hold something else."""
    size = (48, 64)
    sweep = {
        "planes": np.array([0.1, 0.01, 8.0]),
        "position": np.ones(size, np.float32),
        "clues": np.ones((12, *size), np.float32),
        "spread": np.ones(size, np.float32),
    }
    others = [
        {},
        {"planes": sweep["planes"]},
        {**sweep, "position": np.ones((2, 2), np.float32)},
        {**sweep, "planes": np.array([np.nan, 0.01, 8.0])},
        {**sweep, "spread": np.ones(size, np.float64)},
        {**sweep, "bomb": np.zeros(1 << 24, np.float32)},
    ]
    whole = [sha256(packed).digest() + packed for packed in map(pack, others)]
    return [b"", b"x" * 100, whole[1][:-1], sha256(b"no arrays").digest() + b"no arrays", *whole]


def test_hostile_and_damaged_files_cost_time_and_nothing_else(rooms: Rooms, settings: Build, labels: Labels) -> None:
    contents = _hostile()
    rooms(a=len(contents))
    run_labeling(settings("store"))
    for path, content in zip(kept(settings("store")), contents, strict=True):
        path.write_bytes(content)
    assert swept(settings("store", "edges")) == len(contents)
    assert all(unpacked(path.read_bytes()) is not None for path in kept(settings("store"))), "mended"
    run_labeling(settings("plain", "edges", "none"))
    mine = labels(settings("store")).query("operator == 'edges'").reset_index(drop=True)
    pd.testing.assert_frame_equal(mine, labels(settings("plain")))


def test_validate_names_damaged_files_and_strays(rooms: Rooms, settings: Build) -> None:
    rooms(a=2)
    run_labeling(settings("store"))
    first, second = kept(settings("store"))
    first.write_bytes(first.read_bytes()[:-1])
    (second.parent / "note.txt").write_text("mine")
    details = {
        problem.path.rpartition("/")[2]: problem.message for problem in validate(settings("store").store).problems
    }
    assert details == {first.name: "the file is damaged (sha256)", "note.txt": "not a store's file"}


def test_vacuum_removes_what_is_old_or_of_another_version(rooms: Rooms, settings: Build) -> None:
    rooms(a=2)
    store = settings("store").store
    run_labeling(settings("store"))
    first, second = kept(settings("store"))
    stale = Path(str(first).replace(CURRENT, "geometry/v1/"))
    stale.parent.mkdir(parents=True)
    first.rename(stale)
    found = vacuum(store, 30.0, apply=True)
    assert [(file.path, file.category) for file in found.files] == [(str(stale.relative_to(store)), "geometry")]
    assert kept(settings("store")) == [second]
    assert len(vacuum(store, 0.0, apply=True).files) == 1 and not kept(settings("store"))
    assert swept(settings("store", "edges")) == 2


def _write(uri: str, number: int) -> None:
    for _ in range(50):
        Geometry(uri, "here").put(KEY, {"a": np.full(1000, number)})


def test_two_runs_may_write_the_same_file(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write, args=(str(tmp_path), number)) for number in range(2)]
    for writer in writers:
        writer.start()
    seen = []
    while any(writer.is_alive() for writer in writers):
        if Path(tmp_path, "geometry").exists():
            seen.append(Geometry(str(tmp_path), "here").get(KEY))
    assert all(writer.exitcode == 0 for writer in writers)
    found = Geometry(str(tmp_path), "here").get(KEY)
    assert found is not None and set(found["a"]) in ({0}, {1})
    begun = seen.index(next(one for one in seen if one is not None))
    assert all(one is not None and len(set(one["a"])) == 1 for one in seen[begun:])


def test_object_stores_keep_geometry_too_and_a_place_that_cannot_be_written_ends_nothing(tmp_path: Path) -> None:
    remote = Geometry("memory://geometry-test", "here")
    remote.put(KEY, {"a": np.arange(3)})
    found = Geometry("memory://geometry-test", "here").get(KEY)
    assert found is not None and list(found["a"]) == [0, 1, 2]
    (tmp_path / "file").write_text("in the way")
    blocked = Geometry(str(tmp_path / "file"), "here")
    blocked.put(KEY, {"a": np.arange(3)})
    assert blocked.get(KEY) is None
