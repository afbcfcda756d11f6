"""The truth table: one thing changes, and exactly what depends on it is labelled again."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest

from lift3d_model.checkpoint import read_tensors, shipped_bytes, write_tensors
from pipeline import digests
from pipeline.explain import explain_plan
from pipeline.plan import choose_sources
from pipeline.readers import load_scene, open_dataset
from pipeline.run import plan_labeling, run_labeling
from pipeline.store import read_labels, validate
from schemas.config import LabelingConfig

Rooms = Callable[..., Path]
Build = Callable[..., LabelingConfig]
Change = Callable[[Path], None]

FRAMES = 10
ALL = {str(i) for i in range(FRAMES)}


def same_size_image(room: Path) -> None:
    """One byte of frame 4's colours is another; size and times are as they were."""
    path = room / "color" / "4.jpg"
    before, data = path.stat(), bytearray(path.read_bytes())
    data[-40] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def depth_map(room: Path) -> None:
    path = str(room / "depth" / "4.png")
    depth = cv2.imread(path, cv2.IMREAD_UNCHANGED)
    depth[3, 5] += 1
    cv2.imwrite(path, depth)


def pose(room: Path) -> None:
    """Too little to choose other source views."""
    matrix = np.loadtxt(room / "pose" / "4.txt")
    matrix[2, 3] += 1e-9
    np.savetxt(room / "pose" / "4.txt", matrix)


def intrinsics(room: Path) -> None:
    matrix = np.loadtxt(room / "intrinsic" / "intrinsic_color.txt")
    matrix[0, 0] += 1e-9
    np.savetxt(room / "intrinsic" / "intrinsic_color.txt", matrix)


def touched(room: Path) -> None:
    for path in room.rglob("*.jpg"):
        path.touch()


def truth(room: Path) -> None:
    for path in (room / "label-filt").glob("*.png"):
        path.unlink()


def nothing(room: Path) -> None:
    """What changes is a setting."""


def own(spec: str) -> dict[str, Any]:
    """The operator of the user's own, as it comes."""
    return {"spec": spec, "kwargs": {}, "batch_size": 4}


def labelled(config: LabelingConfig) -> dict[str, str]:
    """Fingerprint of each frame that the store shows."""
    rows = read_labels(config.store)
    return dict(zip(rows["frame"], rows["fingerprint"], strict=True))


def looking_at(config: LabelingConfig, frame: str) -> set[str]:
    """A frame, and those that have it as a source view or as a source's source view."""
    (ref,) = open_dataset(config.source, config.reader)
    frames = load_scene(ref, config.reader).frames
    sources = choose_sources(frames, config.lift)
    place = [f.id for f in frames].index(frame)
    users = {i for i, views in enumerate(sources) if place in views}
    second = {i for i, views in enumerate(sources) if users & set(views)}
    return {frames[i].id for i in {place} | users | second}


NEIGHBOURS = {"sources": 2}
"""So few source views that not everybody looks at everybody."""

CASES: dict[str, tuple[Change, dict[str, dict[str, Any]], str, str]] = {
    # what happens to the dataset, changed settings, which frames are labelled again, the reason given
    "nothing": (nothing, {}, "none", ""),
    "bytes of an image, same size and times": (same_size_image, {}, "lookers", "image changed"),
    "a depth map": (depth_map, {}, "lookers", "depth map changed"),
    "a depth map that is not used": (depth_map, {"lift": {"method": "rgb", "planes": 8}}, "none", ""),
    "a pose": (pose, {}, "lookers", "camera changed"),
    "intrinsics": (intrinsics, {}, "all", "camera changed"),
    "files touched, bytes as they were": (touched, {}, "none", ""),
    "ground truth": (truth, {}, "none", ""),
    "number of sources": (nothing, {"lift": {"sources": 3}}, "all", "other source views"),
    "self_weight": (nothing, {"lift": {"self_weight": 2.0}}, "all", "settings changed"),
    "method": (nothing, {"lift": {"method": "none"}}, "all", "settings changed"),
    "planes of a sweep that there is not": (nothing, {"lift": {"planes": 16}}, "none", ""),
    "chunk size": (nothing, {"plan": {"chunk": 3}}, "none", ""),
    "batch size": (nothing, {"operator": {"batch_size": 1}}, "none", ""),
    "attempts and time limits": (nothing, {"engine": {"attempts": 5, "frame_timeout_s": 60.0}}, "none", ""),
    "keyword of the operator": (nothing, {"operator": {"kwargs": {"version": 2}}}, "all", "operator changed"),
    "image of a raw prediction": (same_size_image, {"lift": {"method": "none"}}, "itself", "image changed"),
}


@pytest.mark.parametrize(("change", "settings", "again", "reason"), CASES.values(), ids=CASES.keys())
def test_one_thing_changes(
    rooms: Rooms,
    config: Build,
    fragile: str,
    change: Change,
    settings: dict[str, dict[str, Any]],
    again: str,
    reason: str,
) -> None:
    room = rooms(a=FRAMES) / "a"
    operator = own(fragile)
    first = config(operator=operator, lift=NEIGHBOURS)
    if change is not nothing:  # the settings hold before and after
        first = config(**merged(operator, settings))
    second = config(**merged(operator, settings))
    run_labeling(first)
    before = labelled(first)
    change(room)
    expected = {"none": set(), "all": ALL, "itself": {"4"}, "lookers": looking_at(second, "4")}[again]
    assert again != "lookers" or expected < ALL
    (why,) = explain_plan(second)
    assert {frame for frames in why.reasons.values() for frame in frames} == expected
    if again in ("lookers", "itself"):
        assert why.reasons.get(reason) == ["4"]
    elif expected:
        assert list(why.reasons) == [reason]
    run = run_labeling(second)
    assert (run.frames_labelled, run.frames_resumed) == (len(expected), FRAMES - len(expected))
    after = labelled(second)
    assert {frame for frame in ALL if after[frame] != before[frame]} == expected
    assert not validate(second.store).problems


def merged(operator: dict[str, Any], settings: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Settings of a run, a case's own over the common ones."""
    common: dict[str, dict[str, Any]] = {"operator": operator, "lift": NEIGHBOURS}
    return {name: {**common.get(name, {}), **settings.get(name, {})} for name in {*common, *settings}}


def test_another_checkpoint(rooms: Rooms, config: Build, fragile: str, tmp_path: Path) -> None:
    rooms(a=3)
    tensors, settings = read_tensors(shipped_bytes() or b"")
    other = tmp_path / "other.safetensors"
    other.write_bytes(write_tensors(tensors, {**settings, "note": "the same, in other words"}))
    run_labeling(config(operator=own(fragile)))
    (why,) = explain_plan(config(operator=own(fragile), lift={"weights": str(other)}))
    assert why.reasons == {"lift checkpoint changed": ["0", "1", "2"]}


def test_a_dataset_that_moved_is_the_same_dataset(rooms: Rooms, config: Build, fragile: str, tmp_path: Path) -> None:
    dataset = rooms(a=FRAMES)
    run_labeling(config(operator=own(fragile)))
    shutil.copytree(dataset, tmp_path / "elsewhere")
    moved = config(operator=own(fragile)).model_copy(update={"source": str(tmp_path / "elsewhere")})
    assert plan_labeling(moved).frames_to_do == 0


def test_frames_that_are_added_or_removed_matter_to_whoever_looks_at_them(
    rooms: Rooms, config: Build, fragile: str, tmp_path: Path
) -> None:
    """A frame at the end of the walk, far from the first ones."""
    room = rooms(a=FRAMES) / "a"
    away = tmp_path / "away"
    settings = config(operator=own(fragile), lift=NEIGHBOURS)
    whole = fingerprints_of(settings)
    shutil.move(room / "color" / "9.jpg", away)
    without = fingerprints_of(settings)
    run_labeling(settings)
    assert set(labelled(settings)) == ALL - {"9"}
    shutil.move(away, room / "color" / "9.jpg")
    (why,) = explain_plan(settings)
    expected = {frame for frame in ALL if whole[frame] != without.get(frame)}
    assert {frame for frames in why.reasons.values() for frame in frames} == expected
    assert why.reasons["in quarantine (image_missing)"] == ["9"]
    assert {"9"} < expected < ALL
    assert run_labeling(settings).frames_labelled == len(expected)
    shutil.move(room / "color" / "9.jpg", away)
    removed = run_labeling(settings)
    assert (removed.frames_labelled, removed.frames_resumed) == (len(expected) - 1, FRAMES - len(expected))


def fingerprints_of(config: LabelingConfig) -> dict[str, str]:
    """What a run would leave in the store."""
    from pipeline.store import Store
    from pipeline.survey import survey

    (plan,) = survey(config, Store(config.store)).plans
    return plan.fingerprints


def test_a_rerun_reads_nothing_that_it_has_read(
    rooms: Rooms, config: Build, fragile: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digests, "RACY_NS", 0)
    room = rooms(a=5) / "a"
    settings = config(operator=own(fragile))
    run_labeling(settings)
    read: list[str] = []
    original = digests.read_bytes
    monkeypatch.setattr(digests, "read_bytes", lambda asset: (read.append(asset.uri), original(asset))[1])
    assert plan_labeling(settings).frames_resumed == 5 and not read
    (room / "color" / "3.jpg").touch()
    assert plan_labeling(settings).frames_resumed == 5
    assert read == [str(room / "color" / "3.jpg")]
    table = Path(settings.store, "_digests", "scene=a.json")
    table.write_text("[1]")
    assert plan_labeling(settings).frames_resumed == 5 and len(read) == 11


def test_by_listing_nothing_is_read_and_times_count(rooms: Rooms, config: Build, fragile: str) -> None:
    room = rooms(a=FRAMES) / "a"
    settings = config(operator=own(fragile), lift=NEIGHBOURS, plan={"content": "listing"})
    run_labeling(settings)
    assert plan_labeling(settings).frames_to_do == 0
    path = room / "color" / "4.jpg"
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 10**9))
    (why,) = explain_plan(settings)
    assert why.reasons["image changed"] == ["4"]
    assert {f for frames in why.reasons.values() for f in frames} == looking_at(settings, "4")
    assert not Path(settings.store, "_digests").exists()


def test_markers_of_older_versions_resume_and_say_that_they_know_no_reason(
    rooms: Rooms, config: Build, fragile: str
) -> None:
    rooms(a=3)
    settings = config(operator=own(fragile))
    run_labeling(settings)
    for path in Path(settings.store, "_commits").rglob("*.json"):
        marker = json.loads(path.read_text())
        del marker["parts"]
        path.write_text(json.dumps(marker))
    assert run_labeling(settings).frames_resumed == 3
    (why,) = explain_plan(config(operator=own(fragile), lift={"self_weight": 3.0}))
    assert why.reasons == {"changed, the store does not say what": ["0", "1", "2"]}


def test_frames_in_quarantine_are_explained(rooms: Rooms, config: Build, fragile: str) -> None:
    room = rooms(a=4) / "a"
    settings = config(operator=own(fragile), lift={"method": "none"})
    data = (room / "color" / "2.jpg").read_bytes()
    (room / "color" / "2.jpg").write_bytes(data[:200])
    run_labeling(settings)
    (why,) = explain_plan(settings)
    assert why.reasons == {"in quarantine (image_unreadable)": ["2"]}
    assert str(why).startswith(
        "a: 1 to label in 1 chunks, 3 as they should be\n    1 in quarantine (image_unreadable): 2"
    )


COMBINATIONS = [
    # engine, workers, chunk, batch: labels are the same bytes
    ("local", 1, 3, 1),
    ("local", 1, 5, 2),
    ("local", 1, 100, 4),
    *(
        pytest.param(
            engine, workers, chunk, batch, marks=[pytest.mark.slow, pytest.mark.ray] if engine == "ray" else []
        )
        for engine, workers, chunk, batch in [
            ("ray", 1, 1, 4),
            ("ray", 1, 3, 1),
            ("ray", 1, 4, 2),
            ("ray", 1, 100, 3),
            ("ray", 2, 1, 1),
            ("ray", 2, 2, 4),
            ("ray", 2, 3, 2),
            ("ray", 2, 5, 4),
            ("ray", 2, 100, 1),
        ]
    ),
]


@pytest.mark.filterwarnings("ignore::DeprecationWarning:ray")
@pytest.mark.parametrize(("engine", "workers", "chunk", "batch"), COMBINATIONS)
def test_labels_are_the_same_bytes_however_they_are_made(
    request: pytest.FixtureRequest,
    rooms: Rooms,
    config: Build,
    fragile: str,
    engine: str,
    workers: int,
    chunk: int,
    batch: int,
) -> None:
    """Engines, workers, chunks and batches, also in the order that comes of resuming a run that did half."""
    if engine == "ray":
        request.getfixturevalue("cluster")
    rooms(a=7, b=5)

    def settings(store: str, engine: str, workers: int, chunk: int, batch: int, **reader: Any) -> LabelingConfig:
        running = {"kind": engine, "workers": workers}
        operator = {**own(fragile), "batch_size": batch}
        return config(store, operator=operator, plan={"chunk": chunk}, engine=running, reader=reader)

    reference = settings("reference", "local", 1, 4, 4)
    run_labeling(reference)
    there = settings("other", engine, workers, chunk, batch)
    run_labeling(settings("other", "local", 1, 2, 1, scenes="b"))
    run_labeling(there)
    pd.testing.assert_frame_equal(rows(there), rows(reference))


def rows(config: LabelingConfig) -> pd.DataFrame:
    """All that a store shows, but for who made it when."""
    table = read_labels(config.store).drop(columns=["run_id", "created_at"])
    return table.sort_values(["scene", "frame"], ignore_index=True)
