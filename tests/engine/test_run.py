"""Whole runs with the local engine: what ends up in the store, and what a second run does."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pipeline.progress import Progress
from pipeline.run import plan_labeling, run_labeling
from pipeline.store import read_quarantine, read_run, validate
from schemas.config import LabelingConfig
from schemas.errors import DatasetError, EngineError, MissingWeightsError

Rooms = Callable[..., Path]
Build = Callable[..., LabelingConfig]
Labels = Callable[[LabelingConfig], pd.DataFrame]


def files_below(folder: str) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in Path(folder).rglob("*") if path.is_file())


def test_a_run_labels_every_frame_of_every_scene(rooms: Rooms, config: Build, labels: Labels) -> None:
    rooms(a=6, b=5)
    seen: list[Progress] = []
    summary = run_labeling(config(), on_progress=seen.append)
    assert list(zip(labels(config())["scene"], labels(config())["frame"], strict=True)) == [
        *(("a", str(i)) for i in range(6)),
        *(("b", str(i)) for i in range(5)),
    ]
    assert (summary.scenes, summary.frames_labelled, summary.frames_resumed, summary.exit_code) == (2, 11, 0, 0)
    assert [progress.done for progress in seen] == sorted(progress.done for progress in seen)
    assert (seen[-1].done, seen[-1].total) == (11, 11)
    assert not validate(config().store).problems


def test_the_summary_has_the_keys_of_the_contract(rooms: Rooms, config: Build) -> None:
    rooms(a=4)
    summary = run_labeling(config())
    keys = "run_id scenes frames_labelled frames_resumed frames_quarantined wall_s frames_per_s store"
    assert list(asdict(summary)) == keys.split()
    document = read_run(config().store, summary.run_id)
    assert document["summary"] == asdict(summary)
    assert document["config"]["lift"]["sources"] == 4
    assert {"plan", "write"} <= document["seconds"].keys()
    assert {"lift3d", "python", "torch"} <= document["versions"].keys()


def test_run_ids_are_unique_and_sort_by_time(rooms: Rooms, config: Build) -> None:
    rooms(a=1)
    ids = [run_labeling(config()).run_id for _ in range(3)]
    assert ids == sorted(set(ids))


@pytest.mark.parametrize("chunk", [4, 3])
def test_what_is_labelled_is_not_labelled_again(rooms: Rooms, config: Build, labels: Labels, chunk: int) -> None:
    rooms(a=6)
    run_labeling(config())
    before = labels(config()), files_below(config().store + "/labels")
    again = run_labeling(config(plan={"chunk": chunk}))
    assert (again.frames_labelled, again.frames_resumed, again.exit_code) == (0, 6, 0)
    pd.testing.assert_frame_equal(labels(config()), before[0])
    assert files_below(config().store + "/labels") == before[1]


def test_labels_do_not_depend_on_chunks(rooms: Rooms, config: Build, labels: Labels) -> None:
    rooms(a=7)
    run_labeling(config("one", plan={"chunk": 1}))
    run_labeling(config("all", plan={"chunk": 100}))
    pd.testing.assert_frame_equal(labels(config("one")), labels(config("all")))


def test_other_settings_replace_labels_and_show_each_frame_once(rooms: Rooms, config: Build, labels: Labels) -> None:
    rooms(a=6)
    run_labeling(config())
    first = labels(config())
    summary = run_labeling(config(lift={"method": "none"}))
    second = labels(config())
    assert (summary.frames_labelled, summary.frames_resumed) == (6, 0)
    assert list(second["frame"]) == list(first["frame"])
    assert not set(first["fingerprint"]) & set(second["fingerprint"])
    assert set(second["lift_mode"]) == {"none"}


def test_frames_that_a_reader_sets_aside_are_quarantined_once(rooms: Rooms, config: Build) -> None:
    room = rooms(a=5) / "a"
    np.savetxt(room / "pose" / "2.txt", np.full((4, 4), np.nan))
    first, second = run_labeling(config()), run_labeling(config())
    rows = read_quarantine(config().store)
    assert list(rows[["scene", "frame", "stage", "reason"]].iloc[0]) == ["a", "2", "read", "pose_not_finite"]
    assert len(rows) == 1
    assert rows["run_id"][0] == first.run_id
    assert [run.frames_quarantined for run in (first, second)] == [1, 1]
    assert [run.exit_code for run in (first, second)] == [3, 3]
    assert (second.frames_labelled, second.frames_resumed) == (0, 4)


def test_a_frame_that_is_mended_is_labelled_and_leaves_quarantine(rooms: Rooms, config: Build, labels: Labels) -> None:
    room = rooms(a=5) / "a"
    whole = (room / "color" / "2.jpg").read_bytes()
    (room / "color" / "2.jpg").write_bytes(whole[: len(whole) // 2])
    assert run_labeling(config()).frames_quarantined == 1
    (room / "color" / "2.jpg").write_bytes(whole)
    mended = run_labeling(config())
    assert mended.exit_code == 0
    assert read_quarantine(config().store).empty
    assert sorted(labels(config())["frame"]) == ["0", "1", "2", "3", "4"]


def test_a_scene_that_cannot_be_read_does_not_cost_the_others(rooms: Rooms, config: Build, labels: Labels) -> None:
    dataset = rooms(a=4, b=4)
    (dataset / "b" / "intrinsic" / "intrinsic_color.txt").write_text("nonsense")
    summary = run_labeling(config())
    assert (summary.scenes, summary.frames_labelled, summary.exit_code) == (2, 4, 3)
    assert set(labels(config())["scene"]) == {"a"}
    rows = read_quarantine(config().store)
    assert "b" in set(rows["scene"])


def test_a_dataset_without_a_usable_frame_is_refused(rooms: Rooms, config: Build) -> None:
    room = rooms(a=2) / "a"
    for pose in (room / "pose").iterdir():
        np.savetxt(pose, np.full((4, 4), np.inf))
    with pytest.raises(DatasetError, match=r"no usable frame.*lift3d inspect"):
        run_labeling(config())


def test_a_missing_checkpoint_is_named_before_any_work(rooms: Rooms, config: Build, tmp_path: Path) -> None:
    rooms(a=2)
    with pytest.raises(MissingWeightsError, match="gone.safetensors"):
        run_labeling(config(lift={"weights": str(tmp_path / "gone.safetensors")}))


def test_a_run_that_cannot_be_hosted_leaves_no_trace(rooms: Rooms, config: Build) -> None:
    rooms(a=2)
    with pytest.raises(EngineError, match="no GPU here"):
        run_labeling(config(engine={"device": "cuda"}))
    assert not Path(config().store).exists()


def test_a_dry_run_counts_and_touches_nothing(rooms: Rooms, config: Build) -> None:
    room = rooms(a=6, b=5) / "a"
    np.savetxt(room / "pose" / "2.txt", np.full((4, 4), np.nan))
    plan = asdict(plan_labeling(config()))
    assert not Path(config().store).exists()
    expected: dict[str, Any] = {
        "scenes": 2, "frames": 10, "frames_resumed": 0, "frames_to_do": 10, "frames_set_aside": 1, "chunks": 4,
    }  # fmt: skip
    assert {key: plan[key] for key in expected} == expected
    assert plan["estimated_bytes"] > 0
    run_labeling(config())
    before = files_below(config().store)
    assert plan_labeling(config()).frames_to_do == 0
    assert files_below(config().store) == before
