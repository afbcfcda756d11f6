"""Whatever is damaged in a store is reported, and a store in order is clean: every file, every way of damaging it."""

import json
import random
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.care.tags import make_tag
from pipeline.store import Store, validate

AREAS = (
    "labels",
    "_commits",
    "_history",
    "_tags",
    "quarantine",
    "runs",
    "_lift3d.json",
    "_attempts",
    "_leases",
    "_digests",
)


@pytest.fixture(scope="module")
def template(tmp_path_factory, world):
    """A store in order with something in every area, and a tag that needs part of its history."""
    store = Store(str(tmp_path_factory.mktemp("anything") / "store"))
    store.prepare()
    for scene in ("room", "attic"):
        world.label(store, scene, 4, 2)
    world.write(store, world.chunk("room", world.frames(2), 0, 2), spec="dino", kind="features")
    world.write(store, world.chunk("room", world.frames(2), 0, 2), spec="my.package:Painter", kind="image")
    world.write(store, world.chunk("room", world.frames(2), 0, 2), spec="depth:x", kind="scalar")
    make_tag(store.uri, "before")
    world.write(store, world.pick("room", 4, range(3), "b", staged=True), world.run(1))
    store.publish("indoor", "room")
    store.quarantine("indoor", [world.failed("room", "x"), world.failed("attic", None)], world.run(1))
    store.quarantine("indoor", [world.failed("room", "x")], world.run(2))
    store.keep_digests("room", {"a.jpg": "1 2"})
    store.write_run("run-000", {"summary": {"run_id": "run-000"}})
    root = Path(store.uri)
    (root / "_leases").mkdir(exist_ok=True)
    (root / "_leases" / "operator=indoor.json").write_text(
        '{"run_id": "r", "host": "h", "pid": 1, "since": 0, "beat": 0}'
    )
    notes = root / "_attempts" / "operator=indoor" / "scene=room"
    notes.mkdir(parents=True)
    (notes / "000000-0123456789ab.json").write_text('{"stage": "lift", "frames": ["x"], "ended": 2}')
    return root


def test_a_store_in_order_is_clean(template):
    assert validate(str(template)).problems == ()
    assert {path.relative_to(template).parts[0] for path in template.rglob("*") if path.is_file()} == set(AREAS)


def _flip(data, chance):
    at = chance.randrange(len(data))
    return data[:at] + bytes([data[at] ^ (1 << chance.randrange(8))]) + data[at + 1 :]


def _cut(data, chance):
    return data[: chance.randrange(len(data))]


def _zero(data, chance):
    at = chance.randrange(len(data))
    return data[:at] + bytes(min(16, len(data) - at)) + data[at + 16 :]


CONTENTS = {
    "flip": _flip,
    "cut": _cut,
    "zero": _zero,
    "more": lambda data, _: data + b"\x01",
    "other": lambda *_: b'{"a": 1',
}
CHECKED_TO_THE_BIT = ("labels", "_commits", "_history", "quarantine", "_tags")


def _places(template, areas):
    return sorted(
        str(path.relative_to(template))
        for area in areas
        for path in [template / area, *(template / area).rglob("*")]
        if path.is_file()
    )


def _check_a_change(template, data, way, seed):
    # Documents without a digest of their own can be read as something else, where a digit changes: not as nonsense.
    areas = AREAS if way in ("cut", "other") else CHECKED_TO_THE_BIT
    place = template / data.draw(st.sampled_from(_places(template, areas)))
    sound = place.read_bytes()
    damaged = CONTENTS[way](sound, random.Random(seed))
    if damaged == sound or _means_the_same(damaged, sound) or (way == "cut" and damaged == sound.rstrip()):
        return
    place.write_bytes(damaged)
    try:
        problems = validate(str(template)).problems
    finally:
        place.write_bytes(sound)
    assert problems and all(problem.message and problem.remedy for problem in problems)
    assert any(place.parent.name in problem.path or place.name in problem.path for problem in problems), problems


ANY_CHANGE = given(data=st.data(), way=st.sampled_from(sorted(CONTENTS)), seed=st.integers(0, 2**20))


@settings(max_examples=40, deadline=None, derandomize=True)
@ANY_CHANGE
def test_a_changed_file_is_reported(template, data, way, seed):
    _check_a_change(template, data, way, seed)


@pytest.mark.slow
@pytest.mark.timeout(900)
@settings(max_examples=1500, deadline=None, database=None)
@ANY_CHANGE
def test_a_changed_file_is_reported_many_times(template, data, way, seed):
    _check_a_change(template, data, way, seed)


def _means_the_same(damaged, sound):
    """Whether JSON differs in spaces alone."""
    try:
        return json.loads(damaged) == json.loads(sound)
    except ValueError:
        return False


@pytest.mark.parametrize("area", ["labels", "_commits", "_lift3d.json"])
def test_a_missing_file_is_reported(template, tmp_path, area):
    for place in _places(template, [area]):
        copy = tmp_path / place.replace("/", "-") / "store"
        shutil.copytree(template, copy)
        (copy / place).unlink()
        assert not validate(str(copy)).ok, place


def test_a_missing_old_file_is_reported_where_a_tag_needs_it(template, tmp_path):
    needed = [place for place in _places(template, ["_history"]) if "quarantine" not in place]
    assert len(needed) == 2
    for number, place in enumerate(needed):
        copy = tmp_path / str(number) / "store"
        shutil.copytree(template, copy)
        (copy / place).unlink()
        assert [problem.path for problem in validate(str(copy)).problems] == ["_tags/before.json"]


@pytest.mark.parametrize(
    "place",
    [
        "notes.txt",
        "labels/readme.md",
        "labels/operator=indoor/x.parquet",
        "labels/operator=indoor/scene=room/deeper/x.parquet",
        "labels/operator=indoor/scene=room/_x.parquet",
        "quarantine/operator=indoor/scene=room/x.csv",
        "runs/deeper/x.json",
        "_commits/x.json",
        "_unknown/x",
        "_history/operator=indoor/scene=room/x.json",
        "_staging/operator=indoor/scene=room/x.txt",
        "_tags/deeper/x.json",
    ],
)
def test_a_stray_file_is_reported_wherever_it_is(template, tmp_path, place):
    copy = tmp_path / "store"
    shutil.copytree(template, copy)
    (copy / place).parent.mkdir(parents=True, exist_ok=True)
    (copy / place).write_bytes(b"x")
    assert place in {problem.path for problem in validate(str(copy)).problems}


def test_staged_leftovers_are_reported_unless_a_run_is_at_work(template, tmp_path, world):
    copy = str(tmp_path / "store")
    shutil.copytree(template, copy)
    store = Store(copy)
    world.write(store, world.pick("attic", 4, [0], "c", staged=True), world.run(3))
    leftovers = validate(copy).problems
    assert {problem.path.partition("/")[0] for problem in leftovers} == {"_staging"} and len(leftovers) == 2
    with store.lease("indoor", "run-003"):
        assert validate(copy).ok


def test_a_frame_with_two_quarantine_rows_is_reported(template, tmp_path, world):
    from pipeline.store.quarantine import write_rows

    copy = str(tmp_path / "store")
    shutil.copytree(template, copy)
    stamp = world.run(5)
    write_rows(Store(copy)._files, "indoor", [world.failed("room", "x")], stamp.run_id, stamp.created_at)
    (problem,) = validate(copy).problems
    assert problem.frame == "x" and "two current rows" in problem.message
