"""Every query of docs/queries.md is run, and its result compared with what is in the store."""

import re
from pathlib import Path

import numpy as np
import pytest

from pipeline.care.tags import make_tag
from pipeline.store import Store

TEXT = (Path(__file__).parents[2] / "docs" / "queries.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(python|sql)\n(.*?)```", TEXT, flags=re.DOTALL)
SCENES, FRAMES, PIXELS = ("scene0000_00", "scene0001_00", "0042"), 5, 13 * 18
OPTIONAL = ("polars", "duckdb", "datasets")


@pytest.fixture(scope="module")
def folder(tmp_path_factory, world):
    """A folder with the store of the page: two operators, quarantine, and a tag from before two frames changed."""
    folder = tmp_path_factory.mktemp("queries")
    store = Store(str(folder / "out" / "labels"))
    store.prepare()
    for scene in SCENES:
        world.label(store, scene, FRAMES, 2)
    world.write(store, world.chunk(SCENES[0], world.frames(2), 0, 2), spec="dino", kind="features")
    make_tag(store.uri, "first")
    world.write(store, world.pick(SCENES[1], FRAMES, [0, 1], "b", staged=True), world.run(1))
    store.publish("indoor", SCENES[1])
    store.quarantine("indoor", [world.failed(SCENES[0], "x"), world.failed(SCENES[1], None)], world.run())
    return folder


def run(block, folder, monkeypatch):
    """Values that a block leaves behind."""
    language, code = block
    needs = (
        ["duckdb"] if language == "sql" else [name for name in OPTIONAL if re.search(rf"(import|from) {name}", code)]
    )
    for name in needs:
        pytest.importorskip(name)
    monkeypatch.chdir(folder)
    if language == "sql":
        import duckdb

        return {"rows": duckdb.sql(code).fetchall()}
    found = {}
    exec(compile(code, "docs/queries.md", "exec"), found)
    return found


def having(text):
    """The one block of the page with this text in it."""
    (block,) = (block for block in BLOCKS if text in block[1])
    return block


@pytest.fixture
def query(folder, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(folder / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return lambda text: run(having(text), folder, monkeypatch)


def test_every_block_is_run_by_a_test_below():
    source = Path(__file__).read_text(encoding="utf-8")
    texts = re.findall(r'query\("(.+?)"\)', source)
    assert sorted(map(BLOCKS.index, map(having, texts))) == list(range(len(BLOCKS)))


def test_worst_frames(query):
    found = query("worst =")
    assert len(found["worst"]) == 17 and len(found["rows"]) == 17


def test_pixels_by_class(query):
    pixels = query("pixels = rows.explode")["pixels"]
    assert pixels.sum() == len(SCENES) * FRAMES * PIXELS and {"wall", "floor", "lamp"} < set(pixels.index)


def test_frames_of_a_class(query):
    floors = query("floors =")["floors"]
    assert len(floors) == len(SCENES) * FRAMES and (floors["class_px"] >= 0.1 * PIXELS).all()


def test_arrays_of_a_scene(query, world):
    found = query("from PIL")
    record = world.record(world.frame("0003"), "a-0003", seed=len("a-0003"))
    assert len(found["labels"]) == FRAMES and (found["labels"]["0003"] == record.value).all()
    assert found["trust"]["0003"].shape == (7, 9) and 0 <= found["trust"]["0003"].min() <= 1


def test_at_a_tag(query):
    found = query("fingerprint_before")
    assert found["moved"]["frame"].tolist() == ["0000", "0001"] and found["label"].shape == (13, 18)


def test_quarantine(query):
    assert query("reasons =")["reasons"].sum() == 2


def test_polars(query):
    found = query("import polars")
    assert found["pixels"]["class_px"].sum() == len(SCENES) * FRAMES * PIXELS
    assert len(found["doubtful"]) == 17 and len(found["one"]) == FRAMES
    assert set(found["doubtful"]["scene"]) == set(SCENES)


def test_duckdb_pixels(query):
    rows = query("sum(px)")["rows"]
    assert sum(row[2] for row in rows) == len(SCENES) * FRAMES * PIXELS and {row[0] for row in rows} == set(SCENES)


def test_duckdb_scenes(query):
    rows = query("any_value")["rows"]
    assert {row[0]: row[1] for row in rows} == {SCENES[0]: 7, SCENES[1]: 5, SCENES[2]: 5}


def test_duckdb_from_python(query):
    assert sorted(row[0] for row in query("import duckdb")["rows"]) == [f"000{i}" for i in range(FRAMES)]


def test_datasets(query):
    found = query("load_dataset")
    assert len(found["labels"]) == len(SCENES) * FRAMES and set(found["sizes"].values()) == {(18, 13)}
    assert np.asarray(found["labels"][0]["label"]).max() <= 300
